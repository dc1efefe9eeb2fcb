"""From annotations as written to records that can be trained on, with a reason for each loss."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    Box,
    Fault,
    ImageRef,
    Split,
    Units,
    class_index,
    class_indices,
    known_classes,
)
from loc_keras.data.decode import turn_boxes, turn_boxes_back
from loc_keras.data.image_header import Header, HeaderError, read_headers
from loc_keras.data.records import UPRIGHT, Records
from loc_keras.data.resize import EMPTY_BOX

TOLERANCE = 1e-3
"""How far a side may lie outside 0..1 (rounding in the file) before the box is refused."""

TOLERANCE_PX = 1.0
"""Likewise in px, for boxes in px: off by one is common and harmless."""

_SIDES = ("x1", "y1", "x2", "y2")
_FIRST_SWAPPED = 5  # EXIF orientations from here on exchange width and height.
_WHOLE_PICTURE = (0, 0, 0, 0)


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
    annotations: Annotations,
    source: SourceConfig,
    objects: "Sequence[CheckedObject] | None" = None,
) -> DatasetRecords:
    """Gathers the objects that can be used, without decoding an image.

    `boxes_on` of the source is as `box_view` settled it (None counts as `"stored"`); its
    `class_names` are the classes by index, the background included, or None for those of the data.
    Without `objects` the boxes are judged here.

    Returns:
        Records by split, in the order of the annotation files. Objects whose label the training
        split lacks are faults, unless the classes are given.
    """
    if objects is None:
        refs = list(dict.fromkeys(one.image for _, one in annotations.all_objects()))
        headers = dict(zip(refs, read_headers(refs), strict=True))
        objects = checked_objects(annotations, headers, source)
    names = known_classes(
        source.class_names or annotations.class_names,
        (one.label for one in annotations.objects.get("train", [])),
        source.background,
    )
    index_of = class_indices(names)
    of_the_set = [fault for fault in annotations.faults if not fault.file]  # Nothing is left out.
    faults = [fault for fault in annotations.faults if fault.file]
    splits: dict[Split, Records] = {}
    for split in annotations.objects:
        distinct = _without_repeats([item for item in objects if item.split == split], faults)
        usable: dict[ImageRef, list[Usable]] = defaultdict(list)
        for item in distinct:
            verdict = _usable(item, source, index_of, len(names))
            if isinstance(verdict, Fault):
                faults.append(verdict)
            else:
                usable[item.annotated.image].append(verdict)
        counts = Counter(item.annotated.image for item in distinct)
        counts.update({image: annotations.unread.get(image, 0) for image in counts})
        kept: list[Usable] = []
        for image, candidates in usable.items():
            chosen, left_out = apply_policy(candidates, counts[image], source)
            kept += chosen
            faults += left_out
        if kept:
            splits[split] = _records(kept, names)
    order = {file: place for place, file in enumerate(dict.fromkeys(f.file for f in faults))}
    faults.sort(key=lambda fault: (order[fault.file], fault.row))
    first = splits["train"].take(np.arange(1)) if "train" in splits else None
    background = None if source.background is None else names.index(source.background)
    notes = _notes([*faults, *of_the_set], splits, source)
    return DatasetRecords(splits, names, first, faults, notes, background)


class CheckedObject(NamedTuple):
    """An object, its picture, and whether its box can be used.

    Attributes:
        header: Of its image, or why it has none.
        size: (width, height) in px of the picture that the box was drawn on; (0, 0) where unknown.
        written: (x1, y1, x2, y2) as annotated, the last pixel within, in `units`.
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
    usable: Box | None
    fault: "BoxFault | None"

    @property
    def box(self) -> Box | None:
        """The box in fractions, perhaps inverted, not finite or outside.

        None where it is unknown, or the image shows no object.
        """
        if self.annotated.empty:
            return None
        if self.units == "fraction":
            return self.written
        width, height = self.size
        if not width or not height:
            return None
        x1, y1, x2, y2 = self.written
        return x1 / width, y1 / height, x2 / width, y2 / height


def checked_objects(
    annotations: Annotations,
    headers: Mapping[ImageRef, Header | HeaderError],
    source: SourceConfig,
) -> list[CheckedObject]:
    """Puts every object beside its picture, by its header, and judges its box."""
    inclusive, boxes_on = is_inclusive(annotations, source), source.boxes_on or "stored"
    judged = partial(
        checked_object, units=annotations.units, inclusive=inclusive, boxes_on=boxes_on
    )
    return [judged(split, one, headers[one.image]) for split, one in annotations.all_objects()]


def is_inclusive(annotations: Annotations, source: SourceConfig) -> bool:
    """Whether x2 and y2 name the last pixel of a box."""
    if source.inclusive_pixels is None:
        return annotations.units == "pixel" and not annotations.exact
    return source.inclusive_pixels


def checked_object(
    split: Split,
    annotated: Annotated,
    header: Header | HeaderError,
    *,
    units: Units,
    inclusive: bool = False,
    boxes_on: str = "stored",
) -> CheckedObject:
    """Puts one object beside its picture, `boxes_on` as in `picture_size`, and judges its box.

    Its box is in `units`; `inclusive` says that x2 and y2 name the last pixel of it.
    """
    size = picture_size(header, boxes_on) if isinstance(header, Header) else (0, 0)
    x1, y1, x2, y2 = annotated.box
    written = (x1, y1, x2 + 1, y2 + 1) if inclusive else annotated.box
    usable: Box | None = None
    fault: BoxFault | None = None
    # Without the size of the picture, px can only be judged where they are not finite.
    unknown = units == "pixel" and not size[0] and all(map(math.isfinite, written))
    if not annotated.empty and not unknown:
        try:
            usable = usable_box(written, size if units == "pixel" else None)
        except BoxFault as error:
            fault = error
    return CheckedObject(split, annotated, header, size, written, units, usable, fault)


def picture_size(header: Header, boxes_on: str) -> tuple[int, int]:
    """(width, height) in px of the picture that boxes were drawn on.

    `"upright"` is the picture as the EXIF orientation turns it, `"stored"` as it lies in the file.
    """
    size = (header.width, header.height)
    return size[::-1] if boxes_on == "upright" and header.orientation >= _FIRST_SWAPPED else size


class BoxFault(Exception):
    """Why a box cannot be used.

    Attributes:
        kind: `"not_finite"`, `"inverted"`, `"zero_area"` or `"outside_image"`.
    """

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def usable_box(box: Box, size: tuple[int, int] | None) -> Box:
    """Checks a box and gives it in fractions.

    Args:
        box: (x1, y1, x2, y2), fractions of the image side, or px if `size` is given.
        size: Width and height of the image in px for boxes in px, else None.

    Returns:
        (x1, y1, x2, y2), fractions in [0, 1]; what passes an edge by no more than the
        tolerance is set to the edge.

    Raises:
        BoxFault: If the box is not finite, inverted, without area or outside the image.
    """
    for name, value in zip(_SIDES, box, strict=True):
        if not math.isfinite(value):
            raise BoxFault(f"column {name}: {value} is not a finite number", "not_finite")
    x1, y1, x2, y2 = box
    for low_name, low, high_name, high in (("x1", x1, "x2", x2), ("y1", y1, "y2", y2)):
        if high <= low:
            kind = "inverted" if high < low else "zero_area"
            raise BoxFault(
                f"column {high_name}: {high:g} is not greater than {low_name} {low:g}", kind
            )
    sides = (1, 1, 1, 1) if size is None else (*size, *size)
    fractions = [value / side for value, side in zip(box, sides, strict=True)]
    for name, given, value, side in zip(_SIDES, box, fractions, sides, strict=True):
        slack = TOLERANCE if size is None else max(TOLERANCE, TOLERANCE_PX / side)
        if not -slack <= value <= 1 + slack:
            hint = (
                "; are the boxes in pixels or percent (data.source.box_units)?"
                if size is None and max(box) > 2
                else ""
            )
            raise BoxFault(f"column {name}: {given:g} is outside 0..{side}{hint}", "outside_image")
    left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in fractions)
    if right <= left or bottom <= top:
        raise BoxFault("box lies outside the image", "outside_image")
    # Records are float32: what is thinner than its step would have no area there.
    if np.float32(right) <= np.float32(left) or np.float32(bottom) <= np.float32(top):
        raise BoxFault("box is too thin to have an area", "zero_area")
    return left, top, right, bottom


class Usable(NamedTuple):
    """An object that passed all rules.

    Attributes:
        box: (x1, y1, x2, y2) in fractions of the turned picture.
        size: Width and height of the turned picture in px.
        orientation: EXIF orientation to undo.
        window: (left, top, right, bottom) in px to cut out of the turned picture, all zero for all
            of it.
    """

    source: Annotated
    label: int
    box: Box
    size: tuple[int, int]
    orientation: int
    window: tuple[int, int, int, int] = _WHOLE_PICTURE


def _without_repeats(objects: Sequence[CheckedObject], faults: list[Fault]) -> list[CheckedObject]:
    """Drops objects that are written twice in all that matters."""
    firsts: dict[tuple[ImageRef, str, Box], CheckedObject] = {}
    for item in objects:
        one = item.annotated
        first = firsts.setdefault((one.image, one.label, one.box), item)
        if first is not item:
            reason = f"repeats row {first.annotated.row} of {first.annotated.file}"
            faults.append(Fault(one.file, one.row, reason, "duplicate_row"))
    return list(firsts.values())


def _usable(
    item: CheckedObject, source: SourceConfig, index_of: dict[str, int], classes: int
) -> Usable | Fault:
    """The object on the picture that is trained on, or why it cannot be used."""
    one, header, box = item.annotated, item.header, item.usable
    label = class_index(one.label, index_of)
    if label is None:
        reason = f"column label: {one.label!r} is not one of the {classes} classes"
        return Fault(one.file, one.row, reason, "label")
    if isinstance(header, HeaderError):
        return Fault(one.file, one.row, f"image {one.image.path} {header}", header.kind)
    if item.fault is not None:
        return Fault(one.file, one.row, str(item.fault), item.fault.kind)
    trained_on = "stored" if source.exif == "ignore" else "upright"
    boxes_on = source.boxes_on or "stored"
    if box is None:
        box = EMPTY_BOX
    elif boxes_on != trained_on and header.orientation != UPRIGHT:
        turn = turn_boxes if trained_on == "upright" else turn_boxes_back
        x1, y1, x2, y2 = turn(np.array([box]), np.array([header.orientation]))[0].tolist()
        box = x1, y1, x2, y2
    orientation = UPRIGHT if trained_on == "stored" else header.orientation
    return Usable(one, label, box, picture_size(header, trained_on), orientation)


def apply_policy(
    objects: Sequence[Usable], count: int, source: SourceConfig
) -> tuple[list[Usable], list[Fault]]:
    """Applies the multi-object policy, `source.several`, to the usable objects of one image.

    `"skip"` leaves out images with several objects, `"largest"` and `"first"` keep one, `"crop"`
    cuts one picture out for each, with at most `crop_margin` sides of the box as context on each
    side. The count includes objects that cannot be used.

    Returns:
        What becomes records, and a fault of kind `"several"` for each object left out.
    """
    policy = source.several
    if count == 1:
        return list(objects), []
    if policy == "crop":
        boxes = np.array([one.box for one in objects])
        margin = source.crop_margin
        return [_cropped(one, place, boxes, margin) for place, one in enumerate(objects)], []
    kept: list[Usable] = []
    if policy == "first":
        kept = list(objects[:1])
    elif policy == "largest":
        kept = [max(objects, key=lambda one: box_area(one.box))]
    why = f"is one of {count} objects in {objects[0].source.name}; data.source.several is {policy}"
    return kept, [
        Fault(one.source.file, one.source.row, why, "several") for one in objects if one not in kept
    ]


def _cropped(one: Usable, index: int, boxes: np.ndarray, margin: float) -> Usable:
    """Cuts a window around one object that no object beside it reaches into.

    The context on each side is drawn by a rule from the object's place in the list, so that
    objects do not all stand in the middle and the same data give the same windows.
    """
    sides = _free_space(one.box, np.delete(boxes, index, axis=0), margin)
    shares = [_golden_share(4 * index + side + len(one.source.name)) for side in range(4)]
    left, top, right, bottom = (side * share for side, share in zip(sides, shares, strict=True))
    width, height = one.size
    x1, y1, x2, y2 = one.box
    window = (
        _floor_px((x1 - left) * width),
        _floor_px((y1 - top) * height),
        min(width, _ceil_px((x2 + right) * width)),
        min(height, _ceil_px((y2 + bottom) * height)),
    )
    span = (window[2] - window[0], window[3] - window[1])
    box = (
        max(0.0, (x1 * width - window[0]) / span[0]),
        max(0.0, (y1 * height - window[1]) / span[1]),
        min(1.0, (x2 * width - window[0]) / span[0]),
        min(1.0, (y2 * height - window[1]) / span[1]),
    )
    return one._replace(box=box, size=span, window=window)


def _free_space(box: Box, others: np.ndarray, margin: float) -> list[float]:
    """Free space left, above, right and below, at most `margin` sides of the box.

    Each other box (of N, as float64 (N, 4)) that does not overlap this one limits the side on
    which it stands farthest.
    """
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


def _golden_share(index: int) -> float:
    """Fractions in [0, 1) that fill it evenly: multiples of the golden ratio."""
    return (index * 0.6180339887498949) % 1.0


def _floor_px(value: float) -> int:
    # Rounded first: 30.000000001 is 30 with an error of the division, not a part of pixel 31.
    return max(0, math.floor(round(value, 6)))


def _ceil_px(value: float) -> int:
    return math.ceil(round(value, 6))


def box_area(box: Box) -> float:
    """Area of a box in fractions of the picture's."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _records(kept: Sequence[Usable], names: list[str]) -> Records:
    sources = [one.source for one in kept]
    return Records(
        paths=_text([one.image.path for one in sources]),
        offsets=np.array([one.image.offset for one in sources], np.int64),
        lengths=np.array([one.image.length for one in sources], np.int64),
        orientations=np.array([one.orientation for one in kept], np.uint8),
        windows=np.array([one.window for one in kept], np.int32),
        sizes=np.array([one.size[::-1] for one in kept], np.int32),
        labels=np.array([one.label for one in kept], np.int32),
        boxes=np.array([one.box for one in kept], np.float32),
        names=_text([one.name for one in sources]),
        files=_text([one.file for one in sources]),
        rows=np.array([one.row for one in sources], np.int64),
        groups=_text([one.group for one in sources]),
        class_names=names,
    )


def _text(values: Sequence[str]) -> np.ndarray:
    # As objects: a fixed-width array would cost the longest name's width for every row.
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _notes(
    faults: Sequence[Fault], splits: dict[Split, Records], source: SourceConfig
) -> list[str]:
    counts = Counter(fault.kind for fault in faults)
    notes = []
    if counts["several"]:
        notes.append(
            f"{counts['several']} objects in images with several were left out "
            f"(data.source.several: {source.several})."
        )
    cropped = sum(int(part.windows.any(axis=1).sum()) for part in splits.values())
    if cropped:
        notes.append(f"{cropped} pictures are cut out of images with several objects.")
    if counts["no_object"]:
        notes.append(
            f"{counts['no_object']} images without an object were left out; data.source.background "
            "names a class for them."
        )
    if source.background is not None:
        empty = sum(int(part.empty.sum()) for part in splits.values())
        notes.append(f"Images without an object, of the class {source.background!r}: {empty}.")
    if counts["crowd"]:
        notes.append(f"{counts['crowd']} crowds (iscrowd) were left out.")
    if counts["unicode_form"]:
        notes.append(
            f"{counts['unicode_form']} class names in another Unicode form count as the composed "
            "one (NFC)."
        )
    if counts["duplicate_row"]:
        notes.append(f"{counts['duplicate_row']} objects that are written twice count once.")
    return notes
