"""Records that can be trained on, made from annotations as written, with a reason for each loss."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import (
    SPLITS,
    Annotated,
    Annotations,
    Box,
    Columns,
    Fault,
    ImageRef,
    Objects,
    Split,
    Units,
    class_index,
    class_indices,
    known_classes,
)
from loc_keras.data.decode import turn_boxes, turn_boxes_back
from loc_keras.data.image_header import Header, HeaderError
from loc_keras.data.resize import EMPTY_BOX

TOLERANCE = 1e-3
"""How far a side may lie outside 0..1 (rounding in the file) before the box is refused."""

TOLERANCE_PX = 1.0  # Likewise in px, for boxes in px: off by one is common and harmless.
_AT_ONCE = 2**14  # Boxes that are judged while they lie in the processor's cache.
_SIDES = ("x1", "y1", "x2", "y2")
_FIRST_SWAPPED = 5  # EXIF orientations from here on exchange width and height.

UPRIGHT = 1  # EXIF orientation of a picture that is stored as it is looked at.

THUMBNAIL_SIDE = 32
"""Height and width in px of the grey thumbnails by which `duplicates` knows pictures."""


@dataclass(frozen=True, eq=False)
class Records:
    """Objects of one split, checked and in fractions.

    The picture of a record is made in this order: decode the bytes, turn them as `orientations`
    says, cut `windows` out. Boxes are fractions of that picture.

    Attributes:
        paths: str (N,), files that hold the encoded images.
        offsets: int64 (N,), first byte of the image in its file.
        lengths: int64 (N,), its bytes, -1 for the whole file.
        orientations: uint8 (N,), EXIF orientation 1..8 to undo; 1 leaves the picture as decoded.
        windows: int32 (N, 4), (left, top, right, bottom) in px of the turned picture to cut out;
            all zero for the whole picture.
        sizes: int32 (N, 2), height and width of the resulting picture in px.
        labels: int32 (N,), class indices.
        boxes: float32 (N, 4), (x1, y1, x2, y2) in fractions of the resulting picture.
        names: str (N,), images as the annotations name them.
        files: str (N,), annotation files.
        rows: int64 (N,), line, object or record number in the annotation file, from 1.
        groups: str (N,), images with the same non-empty group must stay in one split.
        class_names: Name of each class, by index.
    """

    paths: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    orientations: np.ndarray
    windows: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    names: np.ndarray
    files: np.ndarray
    rows: np.ndarray
    groups: np.ndarray
    class_names: list[str]

    def __len__(self) -> int:
        """Number of records."""
        return len(self.labels)

    @property
    def empty(self) -> np.ndarray:
        """Whether each shows no object, bool (N,): its box is `resize.EMPTY_BOX`."""
        return np.logical_not(self.boxes.any(axis=1))

    def is_empty(self, index: int) -> bool:
        """Whether one record shows no object."""
        return not self.boxes[index].any()

    def ref(self, index: int) -> ImageRef:
        """Where the image of one record lies."""
        place = int(self.offsets[index]), int(self.lengths[index])
        return ImageRef(str(self.paths[index]), *place)

    def take(self, index: np.ndarray) -> "Records":
        """The records of these indices, in this order."""
        columns = {name: getattr(self, name)[index] for name in COLUMNS}
        return replace(self, **columns)

    def fault(self, index: int, reason: str, kind: str) -> Fault:
        """A fault of one record, by its annotation."""
        return Fault(str(self.files[index]), int(self.rows[index]), reason, kind)


COLUMNS = tuple(column.name for column in fields(Records) if column.name != "class_names")
"""Attributes of `Records` that have a row a record."""


def image_refs(records: Records) -> list[ImageRef]:
    """Where the image of each record lies."""
    columns = (records.paths.tolist(), records.offsets.tolist(), records.lengths.tolist())
    return list(map(ImageRef, *columns))


@dataclass(frozen=True, eq=False)
class Cut:
    """How splits were cut off the training records, which were `whole` before.

    Attributes:
        rows: Rows of these, int64, of each split that was cut off, and of what is left to train.
        apart: Whether near duplicates were kept together.
    """

    whole: Records
    rows: Mapping[Split, npt.NDArray[np.int64]]
    parts: Mapping[Split, Records]
    apart: bool


@dataclass(frozen=True, eq=False)
class DatasetRecords:
    """The records of each split of a data set that has any, and what was left out (`faults`).

    Attributes:
        first: The first training record of the files, before any split; it decides what the config
            leaves open, such as the size of the pictures. None where there is none.
        notes: Sentences about choices the user should know of.
        background: Index of the class of images without an object, or None where these are left
            out.
        cut: How splits were cut off the training records; None where none were.
    """

    splits: dict[Split, Records]
    class_names: list[str]
    first: Records | None = None
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    background: int | None = None
    cut: Cut | None = None

    @property
    def errors(self) -> list[Fault]:
        """Faults that are mistakes in the data, not choices of a policy."""
        return [fault for fault in self.faults if fault.severity == "error"]


def resolve(
    annotations: Annotations, source: SourceConfig, objects: "CheckedObjects"
) -> DatasetRecords:
    """Gathers the objects that can be used, without decoding an image.

    `boxes_on` of the source is as `box_view` settled it (None counts as `"stored"`); its
    `class_names` are the classes by index, the background included, or None for those of the data.

    Returns:
        Records by split, in the order of the annotation files. Objects whose label the training
        split lacks are faults, unless the classes are given.
    """
    train = annotations.objects.get("train")
    names = known_classes(
        source.class_names or annotations.class_names,
        train.labels if train else (),
        source.background,
    )
    of_the_set = [fault for fault in annotations.faults if not fault.file]  # Nothing is left out.
    faults = [fault for fault in annotations.faults if fault.file]
    splits: dict[Split, Records] = {}
    for split in annotations.objects:
        own = objects.take(objects.split == SPLITS.index(split))
        part = own.take(_without_repeats(own.objects, faults))
        sound, classes = _sound(part, names, faults)
        images, image = part.objects.images, part.objects.image
        counts = np.bincount(image, minlength=len(images))
        counts += np.array([annotations.unread.get(one, 0) for one in images], np.int64)
        if sound.any():
            several = counts[image][sound]
            found = _records(part.take(sound), classes[sound], several, names, source, faults)
            if len(found):
                splits[split] = found
    order = {file: place for place, file in enumerate(dict.fromkeys(f.file for f in faults))}
    faults.sort(key=lambda fault: (order[fault.file], fault.row))
    first = splits["train"].take(np.arange(1)) if "train" in splits else None
    background = None if source.background is None else names.index(source.background)
    notes = _notes([*faults, *of_the_set], splits, source)
    return DatasetRecords(splits, names, first, faults, notes, background)


class BoxFault(NamedTuple):
    """Why a box cannot be used.

    Attributes:
        kind: `"not_finite"`, `"inverted"`, `"zero_area"` or `"outside_image"`.
    """

    reason: str
    kind: str


class CheckedObject(NamedTuple):
    """An object, its picture, and whether its box can be used.

    Attributes:
        header: Of its image, or why it has none.
        size: (width, height) in px of the picture that the box was drawn on; (0, 0) where unknown.
        written: (x1, y1, x2, y2) as annotated, the last pixel within, in `units`.
        box: In fractions, perhaps inverted, not finite or outside; None where it is unknown, or the
            image shows no object.
        usable: The box in fractions of the picture, within it; None where it cannot be used or
            judged, and for an image without an object.
        fault: Why the box cannot be used; None where it can or cannot be judged.
    """

    split: Split
    annotated: Annotated
    header: Header | HeaderError
    size: tuple[int, int]
    written: Box
    units: Units
    box: Box | None
    usable: Box | None
    fault: BoxFault | None


@dataclass(frozen=True, eq=False)
class CheckedObjects(Columns[CheckedObject]):
    """N objects beside their pictures, by columns; an item is a `CheckedObject`.

    Attributes:
        split: int8 (N,), places in `SPLITS`.
        headers: Of the images, as `objects.images` numbers them.
        size: int64 (N, 2), as in `CheckedObject`.
        written: float64 (N, 4), likewise.
        usable: float64 (N, 4), likewise; not a number where there is none.
        faults: Why boxes cannot be used, by index.
    """

    objects: Objects
    split: npt.NDArray[np.int8]
    headers: list[Header | HeaderError]
    size: npt.NDArray[np.int64]
    written: npt.NDArray[np.float64]
    units: Units
    usable: npt.NDArray[np.float64]
    faults: dict[int, BoxFault]

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[CheckedObject]:
        known = ~self.objects.empty & ((self.units == "fraction") | (self.size > 0).all(axis=1))
        columns = (self.split, self.objects.image, self.size, self.written, self.boxes, known)
        lists = (one.tolist() for one in (*columns, self.usable, self.fits))
        for place, (one, split, image, size, written, box, has_box, usable, fits) in enumerate(
            zip(self.objects, *lists, strict=True)
        ):
            header, fault = self.headers[image], self.faults.get(place)
            boxes = (tuple(box) if has_box else None, tuple(usable) if fits else None)
            where = (tuple(size), tuple(written), self.units)
            yield CheckedObject(SPLITS[split], one, header, *where, *boxes, fault)

    def take(self, index: npt.NDArray[Any]) -> "CheckedObjects":
        """As `Columns.take`."""
        objects, number_of = self.objects.take(index), self.objects.images
        headers = [self.headers[number_of[image]] for image in objects.images]
        places = np.flatnonzero(index) if index.dtype == bool else index
        among = np.flatnonzero(np.isin(places, list(self.faults))).tolist()
        faults = {new: self.faults[int(places[new])] for new in among}
        split, size, written = self.split[index], self.size[index], self.written[index]
        usable = self.usable[index]
        return CheckedObjects(objects, split, headers, size, written, self.units, usable, faults)

    @property
    def fits(self) -> npt.NDArray[np.bool_]:
        """Whether the box can be used, bool (N,)."""
        return ~np.isnan(self.usable[:, 0])

    @cached_property
    def boxes(self) -> npt.NDArray[np.float64]:
        """float64 (N, 4), as `CheckedObject.box`; not a number where there is none."""
        sides = np.tile(self.size, 2).astype(float) if self.units == "pixel" else np.ones((1, 4))
        known = (sides > 0) & ~self.objects.empty[:, None]
        return self.written / np.where(known, sides, np.nan)


def checked_objects(
    annotations: Annotations, headers: Mapping[ImageRef, Header | HeaderError], source: SourceConfig
) -> CheckedObjects:
    """Puts every object beside its picture, by its header, and judges its box."""
    objects, boxes_on = annotations.joined, source.boxes_on or "stored"
    own = [headers[image] for image in objects.images]
    size = _picture_sizes(own, boxes_on)[0][objects.image]
    inclusive = source.inclusive_pixels  # Whether x2 and y2 name the last pixel of a box.
    if inclusive is None:
        inclusive = annotations.units == "pixel" and not annotations.exact
    written = objects.boxes + np.array([0, 0, 1, 1]) if inclusive else objects.boxes
    in_px = size if annotations.units == "pixel" else None
    usable, faults = usable_boxes(written, in_px, objects.empty)
    return CheckedObjects(
        objects, annotations.split, own, size, written, annotations.units, usable, faults
    )


def picture_size(header: Header, boxes_on: str) -> tuple[int, int]:
    """(width, height) in px of the picture that boxes were drawn on.

    `"upright"` is the picture as the EXIF orientation turns it, `"stored"` as it lies in the file.
    """
    size = (header.width, header.height)
    return size[::-1] if boxes_on == "upright" and header.orientation >= _FIRST_SWAPPED else size


def _picture_sizes(
    headers: Sequence[Header | HeaderError], boxes_on: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """`picture_size` of images, int64 (N, 2), 0 where it is not known; and their orientations."""
    known = (one[:3] if isinstance(one, Header) else (0, 0, UPRIGHT) for one in headers)
    facts = np.fromiter(chain.from_iterable(known), np.int64, 3 * len(headers)).reshape(-1, 3)
    size, turns = facts[:, :2], facts[:, 2]
    swapped = (turns >= _FIRST_SWAPPED) & (boxes_on == "upright")
    return np.where(swapped[:, None], size[:, ::-1], size), turns.astype(np.uint8)


def usable_boxes(
    boxes: npt.NDArray[np.float64],
    size: npt.NDArray[np.int64] | None,
    empty: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.float64], dict[int, BoxFault]]:
    """Checks boxes and gives them in fractions.

    Args:
        boxes: (x1, y1, x2, y2), fractions of the image side or px, float64 (N, 4).
        size: Width and height of the image in px for boxes in px, int64 (N, 2), else None. Where
            it is 0, being unknown, px can only be judged where they are not finite.
        empty: Which are no boxes and not judged, bool (N,).

    Returns:
        (x1, y1, x2, y2), fractions in [0, 1], float64 (N, 4); what passes an edge by no more than
        the tolerance is set to the edge. Not a number where a box cannot be used or judged. And
        what is wrong with a box, by index: it is not finite, inverted, without area or outside.
    """
    usable, wrong = np.empty_like(boxes), np.zeros(len(boxes), bool)
    for start in range(0, len(boxes), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        usable[part], wrong[part] = _judged(boxes[part], None if size is None else size[part])
    if empty is not None and empty.any():
        usable[empty], wrong[empty] = np.nan, False
    return usable, {
        index: _box_fault(boxes[index].tolist(), None if size is None else size[index].tolist())
        for index in np.flatnonzero(wrong).tolist()
    }


def _judged(
    boxes: npt.NDArray[np.float64], size: npt.NDArray[np.int64] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """As `usable_boxes`, of as many boxes as a cache holds; and which are wrong."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        slack: Any = TOLERANCE
        fractions = boxes
        if size is not None:
            sides = np.tile(size, 2)
            fractions = boxes / sides
            slack = np.maximum(TOLERANCE, TOLERANCE_PX / sides)
        usable = fractions.clip(0, 1)
        # Records are float32: what is thinner than its step would have no area there.
        good = usable[:, 2:].astype(np.float32) > usable[:, :2].astype(np.float32)
        good &= boxes[:, 2:] > boxes[:, :2]
        sides_good = (fractions >= -slack) & (fractions <= 1 + slack)
        good &= sides_good[:, :2] & sides_good[:, 2:]
    found = good[:, 0] & good[:, 1]
    wrong = ~found
    if size is not None:
        found &= size[:, 0] > 0
        wrong &= (size[:, 0] > 0) | ~np.isfinite(boxes).all(axis=1)
    usable[~found] = np.nan
    return usable, wrong


def _box_fault(box: Sequence[float], size: Sequence[int] | None) -> BoxFault:
    """The first rule that a box breaks."""
    sides = (1, 1, 1, 1) if size is None else (*size, *size)
    for name, value in zip(_SIDES, box, strict=True):
        if not math.isfinite(value):
            return BoxFault(f"column {name}: {value} is not a finite number", "not_finite")
    x1, y1, x2, y2 = box
    for low_name, low, high_name, high in (("x1", x1, "x2", x2), ("y1", y1, "y2", y2)):
        if high <= low:
            kind = "inverted" if high < low else "zero_area"
            return BoxFault(
                f"column {high_name}: {high:g} is not greater than {low_name} {low:g}", kind
            )
    for name, value, side in zip(_SIDES, box, sides, strict=True):
        slack = TOLERANCE if size is None else max(TOLERANCE, TOLERANCE_PX / side)
        if not -slack <= value / side <= 1 + slack:
            hint = "; are the boxes in pixels or percent (data.source.box_units)?"
            hint = hint if size is None and max(box) > 2 else ""
            return BoxFault(f"column {name}: {value:g} is outside 0..{side}{hint}", "outside_image")
    left, top, right, bottom = (value / side for value, side in zip(box, sides, strict=True))
    if min(right, 1) <= max(left, 0) or min(bottom, 1) <= max(top, 0):
        return BoxFault("box lies outside the image", "outside_image")
    return BoxFault("box is too thin to have an area", "zero_area")


def _without_repeats(objects: Objects, faults: list[Fault]) -> npt.NDArray[np.int64]:
    """The indices of objects but for those that are written again in all that matters."""
    firsts = objects.firsts()
    again = np.flatnonzero(firsts != np.arange(len(firsts)))
    for one, first in zip(objects.take(again), objects.take(firsts[again]), strict=True):
        reason = f"repeats row {first.row} of {first.file}"
        faults.append(Fault(one.file, one.row, reason, "duplicate_row"))
    return np.delete(np.arange(len(firsts)), again)


def _sound(
    part: CheckedObjects, names: Sequence[str], faults: list[Fault]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Which objects can be used, and the classes of all; what is wrong goes to the faults."""
    index_of = class_indices(names)
    known = [class_index(label, index_of) for label in part.objects.labels]
    classes = np.array([-1 if one is None else one for one in known], np.int32)[part.objects.label]
    unread = np.array([isinstance(one, HeaderError) for one in part.headers], bool)
    wrong = (classes < 0) | unread[part.objects.image]
    wrong[list(part.faults)] = True
    for _, one, header, *_, fault in part.take(wrong):
        if class_index(one.label, index_of) is None:
            reason = f"column label: {one.label!r} is not one of the {len(names)} classes"
            faults.append(Fault(one.file, one.row, reason, "label"))
        elif isinstance(header, HeaderError):
            reason = f"image {one.image.path} {header}"
            faults.append(Fault(one.file, one.row, reason, header.kind))
        elif fault is not None:
            faults.append(Fault(one.file, one.row, *fault))
    return ~wrong, classes


def _records(
    part: CheckedObjects,
    classes: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int64],
    names: list[str],
    source: SourceConfig,
    faults: list[Fault],
) -> Records:
    """Records of usable objects, image by image; `counts` are all objects of the image of each."""
    order = np.argsort(part.objects.image, kind="stable")
    part, counts, classes = part.take(order), counts[order], classes[order]
    objects, image = part.objects, part.objects.image
    trained_on = "stored" if source.exif == "ignore" else "upright"
    sizes, turns = _picture_sizes(part.headers, trained_on)
    sizes, turns = sizes[image], turns[image]
    boxes = np.nan_to_num(part.usable)
    boxes[objects.empty] = EMPTY_BOX
    turned = (turns != UPRIGHT) & ~objects.empty
    if (source.boxes_on or "stored") != trained_on and turned.any():
        turn = turn_boxes if trained_on == "upright" else turn_boxes_back
        boxes[turned] = turn(boxes[turned], turns[turned])
    kept, windows = _chosen_by_policy(objects, boxes, sizes, counts, source)
    left, why = np.flatnonzero(~kept), f"; data.source.several is {source.several}"
    firsts = objects.take(objects.first[image[left]])
    for one, first, count in zip(objects.take(left), firsts, counts[left].tolist(), strict=True):
        reason = f"is one of {count} objects in {first.name}{why}"
        faults.append(Fault(one.file, one.row, reason, "several"))
    sources = objects.take(kept)
    boxes, sizes = _in_windows(boxes[kept], sizes[kept], windows[kept])
    subjects, of_subjects = sources.subjects, sources.of_subjects
    return Records(
        paths=of_subjects([one.image.path for one in subjects], object),
        offsets=of_subjects([one.image.offset for one in subjects], np.int64),
        lengths=of_subjects([one.image.length for one in subjects], np.int64),
        orientations=turns[kept] if trained_on == "upright" else np.full_like(turns[kept], UPRIGHT),
        windows=windows[kept],
        sizes=sizes[:, ::-1].astype(np.int32),
        labels=classes[kept],
        boxes=boxes.astype(np.float32),
        names=of_subjects([one.name for one in subjects], object),
        files=of_subjects([one.file for one in subjects], object),
        rows=sources.rows,
        groups=of_subjects([one.group for one in subjects], object),
        class_names=names,
    )


def _chosen_by_policy(
    objects: Objects,
    boxes: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    source: SourceConfig,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Which objects the policy `source.several` keeps, and the windows that it cuts out."""
    image, policy = objects.image, source.several
    kept = counts == 1
    windows = np.zeros((len(boxes), 4), np.int32)
    if policy == "first":
        kept[objects.first] = True
    elif policy == "largest":
        kept[np.lexsort((-box_areas(boxes), image))[objects.first]] = True
    elif policy == "crop":
        kept[:] = True
        salts = objects.of_subjects([len(one.name) for one in objects.subjects], np.int64)
        ends = [*objects.first.tolist(), len(image)]
        for index in np.flatnonzero(counts > 1).tolist():
            start, stop = ends[image[index]], ends[image[index] + 1]
            place, salt = index - start, int(salts[index])
            own, size = boxes[start:stop], sizes[index].tolist()
            windows[index] = _window(own, place, salt, size, source.crop_margin)
    return kept, windows


def _window(
    boxes: npt.NDArray[np.float64], index: int, salt: int, size: Sequence[int], margin: float
) -> tuple[int, int, int, int]:
    """A window around one object that no object beside it reaches into."""
    # The context on each side goes by the object's place in the list, so that objects do not all
    # stand in the middle and the same data give the same windows.
    x1, y1, x2, y2 = boxes[index].tolist()
    sides = _free_space((x1, y1, x2, y2), np.delete(boxes, index, axis=0), margin)
    # Multiples of the golden ratio fill 0..1 evenly.
    shares = [(4 * index + side + salt) * 0.6180339887498949 % 1.0 for side in range(4)]
    left, top, right, bottom = (side * share for side, share in zip(sides, shares, strict=True))
    width, height = size
    ends = ((x1 - left) * width, (y1 - top) * height, (x2 + right) * width, (y2 + bottom) * height)
    # 30.000000001 is 30 with an error of the division, not a part of pixel 31.
    low_x, low_y, high_x, high_y = (round(end, 6) for end in ends)
    low = max(0, math.floor(low_x)), max(0, math.floor(low_y))
    return *low, min(width, math.ceil(high_x)), min(height, math.ceil(high_y))


def _in_windows(
    boxes: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], windows: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Boxes in fractions of what is cut out, and its width and height in px."""
    cut = windows.any(axis=1)
    if not cut.any():
        return boxes, sizes
    spans = windows[cut, 2:] - windows[cut, :2]
    moved = boxes[cut] * np.tile(sizes[cut], 2) - np.tile(windows[cut, :2], 2)
    boxes, sizes = boxes.copy(), sizes.copy()
    boxes[cut], sizes[cut] = (moved / np.tile(spans, 2)).clip(0, 1), spans
    return boxes, sizes


def _free_space(box: Box, others: np.ndarray, margin: float) -> list[float]:
    """Free space left, above, right and below, at most `margin` sides of the box."""
    # Each other box that does not overlap this one limits the side on which it stands farthest.
    x1, y1, x2, y2 = box
    space = np.minimum(
        [x1, y1, 1 - x2, 1 - y2], margin * np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
    )
    gaps = np.stack([x1 - others[:, 2], y1 - others[:, 3], others[:, 0] - x2, others[:, 1] - y2])
    farthest = gaps.argmax(axis=0)
    for side in range(4):
        limits = gaps[side][(farthest == side) & (gaps[side] >= 0)]
        space[side] = min(space[side], limits.min(initial=np.inf))
    return space.tolist()


def box_areas(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Areas of boxes (N, 4) in fractions of the picture's, (N,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _notes(
    faults: Sequence[Fault], splits: dict[Split, Records], source: SourceConfig
) -> list[str]:
    counts = Counter(fault.kind for fault in faults)
    counts["cropped"] = sum(int(part.windows.any(axis=1).sum()) for part in splits.values())
    policy = f"(data.source.several: {source.several})"
    said = {
        "several": f"objects in images with several were left out {policy}.",
        "cropped": "pictures are cut out of images with several objects.",
        "no_object": "images without an object were left out; data.source.background names a class "
        "for them.",
        "crowd": "crowds (iscrowd) were left out.",
        "unicode_form": "class names in another Unicode form count as the composed one (NFC).",
        "duplicate_row": "objects that are written twice count once.",
    }
    notes = [f"{counts[kind]} {words}" for kind, words in said.items() if counts[kind]]
    if source.background is not None:
        empty = sum(int(part.empty.sum()) for part in splits.values())
        notes.append(f"Images without an object, of the class {source.background!r}: {empty}.")
    return notes


class Measures(NamedTuple):
    """Figures of some records.

    Attributes:
        side: Median of the pictures' sides in px (the root of their area).
        spread: 90th percentile of width by height divided by the 10th.
        small_side: 10th percentile of the boxes' shorter side, in fractions of the picture.
    """

    side: float
    spread: float
    small_side: float


def measure(records: Records) -> Measures:
    """Measures pictures and boxes of at least one record."""
    heights, widths = records.sizes.T.astype(float)
    x1, y1, x2, y2 = records.boxes.T.astype(float)
    narrow, wide = np.percentile(widths / heights, [10, 90])
    return Measures(
        float(np.median(np.sqrt(heights * widths))),
        float(wide / narrow),
        float(np.percentile(np.minimum(x2 - x1, y2 - y1), 10)),
    )


def count_multi_object(annotations: Annotations) -> tuple[int, int]:
    """Images with several objects, and images with any; an object that is written twice is one."""
    objects = annotations.joined
    counts = objects.distinct()
    counts += np.array([annotations.unread.get(image, 0) for image in objects.images], np.int64)
    return int((counts > 1).sum()), len(counts)


def even_sample(records: Records, limit: int | None) -> Records:
    """At most `limit` records, evenly spaced, since files are often sorted by class."""
    if limit is None or len(records) <= limit:
        return records
    return records.take(np.arange(limit) * len(records) // limit)
