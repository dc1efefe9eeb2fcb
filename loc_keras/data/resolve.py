"""From annotations as written to records that can be trained on, with a reason for each loss."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    Fault,
    ImageRef,
    Split,
    class_index,
    class_indices,
    infer_class_names,
)
from loc_keras.data.decode import turn_boxes, turn_boxes_back
from loc_keras.data.faults import kind_of
from loc_keras.data.image_header import Header, HeaderError, read_headers
from loc_keras.data.records import UPRIGHT, Records
from loc_keras.data.resize import EMPTY_BOX

Box = tuple[float, float, float, float]

TOLERANCE = 1e-3
"""How far a side may lie outside 0..1 (rounding in the file) before the box is refused."""

TOLERANCE_PX = 1.0
"""Likewise in px, for boxes in px: off by one is common and harmless."""

_SIDES = ("x1", "y1", "x2", "y2")


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
            hint = "; are the boxes in pixels?" if size is None and max(box) > 2 else ""
            raise BoxFault(f"column {name}: {given:g} is outside 0..{side}{hint}", "outside_image")
    left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in fractions)
    if right <= left or bottom <= top:
        raise BoxFault("box lies outside the image", "outside_image")
    # Records are float32: what is thinner than its step would have no area there.
    if np.float32(right) <= np.float32(left) or np.float32(bottom) <= np.float32(top):
        raise BoxFault("box is too thin to have an area", "zero_area")
    return left, top, right, bottom


SeveralPolicy = Literal["skip", "largest", "first", "crop"]
Window = tuple[int, int, int, int]

WHOLE_PICTURE: Window = (0, 0, 0, 0)


class Usable(NamedTuple):
    """An object that passed all rules.

    Attributes:
        source: The object as written.
        label: Class index.
        box: (x1, y1, x2, y2) in fractions of the turned picture.
        size: Width and height of the turned picture in px.
        orientation: EXIF orientation to undo.
        window: (left, top, right, bottom) in px to cut out of the turned picture, all zero for
            all of it.
    """

    source: Annotated
    label: int
    box: Box
    size: tuple[int, int]
    orientation: int
    window: Window = WHOLE_PICTURE


def choose(
    objects: Sequence[Usable], count: int, policy: SeveralPolicy, margin: float
) -> tuple[list[Usable], list[Fault]]:
    """Applies the policy to the objects of one image.

    Args:
        objects: The usable ones, in the order of the file, at least one.
        count: How many the image has, with those that cannot be used.
        policy: `"skip"` leaves out images with several objects, `"largest"` and `"first"` keep
            one, `"crop"` cuts one picture out for each.
        margin: For `"crop"`, the most context on each side, in sides of the box.

    Returns:
        What becomes records, and a fault of kind `"several"` for each object left out.
    """
    if count == 1:
        return list(objects), []
    if policy == "crop":
        boxes = np.array([one.box for one in objects])
        return [_cropped(one, place, boxes, margin) for place, one in enumerate(objects)], []
    if policy == "skip":
        kept: list[Usable] = []
    elif policy == "first":
        kept = list(objects[:1])
    else:
        kept = [max(objects, key=lambda one: _area(one.box))]
    why = f"is one of {count} objects in {objects[0].source.name}; data.source.several is {policy}"
    return kept, [
        Fault(one.source.file, one.source.row, why, "several") for one in objects if one not in kept
    ]


def _cropped(one: Usable, index: int, boxes: np.ndarray, margin: float) -> Usable:
    """Cuts a window around one object that no object beside it reaches into.

    The context on each side is drawn by a rule from the object's place in the list, so that
    objects do not all stand in the middle and the same data give the same windows.
    """
    sides = _room_beside(one.box, np.delete(boxes, index, axis=0), margin)
    shares = [_golden_share(4 * index + side + len(one.source.name)) for side in range(4)]
    left, top, right, bottom = (room * share for room, share in zip(sides, shares, strict=True))
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


def _room_beside(box: Box, others: np.ndarray, margin: float) -> list[float]:
    """Free space left, above, right and below, at most `margin` sides of the box.

    Each other box (of N, as float64 (N, 4)) that does not overlap this one limits the side on
    which it stands farthest.
    """
    x1, y1, x2, y2 = box
    room = np.minimum(
        [x1, y1, 1 - x2, 1 - y2], margin * np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
    )
    gaps = np.stack([x1 - others[:, 2], y1 - others[:, 3], others[:, 0] - x2, others[:, 1] - y2])
    farthest = gaps.argmax(axis=0)
    for side in range(4):
        limits = gaps[side][(farthest == side) & (gaps[side] >= 0)]
        room[side] = min(room[side], limits.min(initial=np.inf))
    return [float(space) for space in room]


def _golden_share(index: int) -> float:
    """Fractions in [0, 1) that fill it evenly: multiples of the golden ratio."""
    return (index * 0.6180339887498949) % 1.0


def _floor_px(value: float) -> int:
    # Rounded first: 30.000000001 is 30 with an error of the division, not a part of pixel 31.
    return max(0, math.floor(round(value, 6)))


def _ceil_px(value: float) -> int:
    return math.ceil(round(value, 6))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


_FIRST_SWAPPED = 5  # EXIF orientations from here on exchange width and height.


@dataclass(frozen=True, eq=False)
class DatasetRecords:
    """The records of a data set and what was left out of it.

    Attributes:
        splits: Records of each split that has any.
        class_names: Name of each class, by index.
        first: The first training record of the files, before any split; it decides what the
            config leaves open, such as the size of the pictures. None where there is none.
        faults: What was left out.
        notes: Sentences about choices the user should know of.
        background: Index of the class of images without an object, or None where these are left
            out.
    """

    splits: dict[Split, Records]
    class_names: list[str]
    first: Records | None = None
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    background: int | None = None

    @property
    def errors(self) -> list[Fault]:
        """Faults that are mistakes in the data, not choices of a policy."""
        return [fault for fault in self.faults if kind_of(fault.kind).severity == "error"]


@dataclass(frozen=True)
class ResolveRules:
    """How annotations are understood.

    Attributes:
        several: Policy for images with several objects.
        crop_margin: For `several="crop"`, the most context on each side in sides of the box.
        inclusive_pixels: Whether the last pixel belongs to the box; None as the format says.
        exif: `"apply"` turns pictures upright, `"ignore"` takes them as stored.
        boxes_on: `"stored"` or `"upright"`: the picture on which boxes were drawn.
        class_names: Names of the classes by index, or None for those of the data.
        background: Class of images without an object, one of `class_names` where they are given;
            None where such images are no records.
    """

    several: SeveralPolicy = "skip"
    crop_margin: float = 1.0
    inclusive_pixels: bool | None = None
    exif: str = "apply"
    boxes_on: str = "stored"
    class_names: Sequence[str] | None = None
    background: str | None = None


def resolve(
    annotations: Annotations,
    rules: ResolveRules,
    headers: Mapping[ImageRef, Header | HeaderError] | None = None,
) -> DatasetRecords:
    """Checks every object and gathers the usable ones.

    Only the headers of the images are read.

    Args:
        annotations: The data set as written.
        rules: How to understand it.
        headers: Of every image, where they have been read already.

    Returns:
        Records by split, in the order of the annotation files. Objects whose label the training
        split lacks are faults, unless the classes are given.
    """
    names = _class_names(annotations, rules)
    index_of = class_indices(names)
    headers = _headers(annotations) if headers is None else headers
    inclusive = rules.inclusive_pixels
    if inclusive is None:
        inclusive = annotations.units == "pixel" and not annotations.exact
    faults = list(annotations.faults)
    splits: dict[Split, Records] = {}
    for split, objects in annotations.objects.items():
        distinct = _without_repeats(objects, faults)
        usable = []
        for one in distinct:
            try:
                usable.append(
                    _usable(one, headers[one.image], annotations.units, inclusive, rules, index_of)
                )
            except _UnusableError as error:
                faults.append(Fault(one.file, one.row, str(error), error.kind))
        kept = _apply_policy(distinct, usable, annotations.unread, rules, faults)
        if kept:
            splits[split] = _records(kept, names)
    order = {file: place for place, file in enumerate(dict.fromkeys(f.file for f in faults))}
    faults.sort(key=lambda fault: (order[fault.file], fault.row))
    first = splits["train"].take(np.arange(1)) if "train" in splits else None
    background = None if rules.background is None else names.index(rules.background)
    return DatasetRecords(splits, names, first, faults, _notes(faults, splits, rules), background)


class _UnusableError(Exception):
    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _class_names(annotations: Annotations, rules: ResolveRules) -> list[str]:
    given = rules.class_names or annotations.class_names
    if given:
        return list(given)
    train = annotations.objects.get("train", [])
    return infer_class_names({one.label for one in train}, rules.background)


def _headers(annotations: Annotations) -> dict[ImageRef, Header | HeaderError]:
    refs = list(dict.fromkeys(one.image for _, one in annotations.all_objects()))
    return dict(zip(refs, read_headers(refs), strict=True))


def _without_repeats(objects: Sequence[Annotated], faults: list[Fault]) -> list[Annotated]:
    """Drops objects that are written twice in all that matters."""
    seen: dict[tuple[ImageRef, str, Box], Annotated] = {}
    for one in objects:
        first = seen.setdefault((one.image, one.label, one.box), one)
        if first is not one:
            reason = f"repeats row {first.row} of {first.file}"
            faults.append(Fault(one.file, one.row, reason, "duplicate_row"))
    return list(seen.values())


def _usable(
    one: Annotated,
    header: Header | HeaderError,
    units: str,
    inclusive: bool,
    rules: ResolveRules,
    index_of: dict[str, int],
) -> Usable:
    label = class_index(one.label, index_of)
    if label is None:
        count = len(set(index_of.values()))
        raise _UnusableError(
            f"column label: {one.label!r} is not one of the {count} classes", "label"
        )
    if isinstance(header, HeaderError):
        raise _UnusableError(f"image {one.image.path} {header}", header.kind)
    stored = (header.width, header.height)
    upright = stored[::-1] if header.orientation >= _FIRST_SWAPPED else stored
    if one.empty:
        if rules.exif == "ignore":
            return Usable(one, label, EMPTY_BOX, stored, UPRIGHT)
        return Usable(one, label, EMPTY_BOX, upright, header.orientation)
    drawn_on = upright if rules.boxes_on == "upright" else stored
    x1, y1, x2, y2 = one.box
    written = (x1, y1, x2 + 1, y2 + 1) if inclusive else one.box
    try:
        box = usable_box(written, drawn_on if units == "pixel" else None)
    except BoxFault as fault:
        raise _UnusableError(str(fault), fault.kind) from None
    if rules.exif == "ignore":
        if rules.boxes_on == "upright":
            box = _moved(turn_boxes_back, box, header.orientation)
        return Usable(one, label, box, stored, UPRIGHT)
    if rules.boxes_on == "stored":
        box = _moved(turn_boxes, box, header.orientation)
    return Usable(one, label, box, upright, header.orientation)


def _moved(move: Callable[[np.ndarray, np.ndarray], np.ndarray], box: Box, orientation: int) -> Box:
    if orientation == UPRIGHT:
        return box
    x1, y1, x2, y2 = move(np.array([box]), np.array([orientation]))[0].tolist()
    return x1, y1, x2, y2


def _apply_policy(
    objects: Sequence[Annotated],
    usable: Sequence[Usable],
    unread: Mapping[ImageRef, int],
    rules: ResolveRules,
    faults: list[Fault],
) -> list[Usable]:
    counts = Counter(one.image for one in objects)
    counts.update({image: unread[image] for image in counts if image in unread})
    by_image: dict[ImageRef, list[Usable]] = defaultdict(list)
    for candidate in usable:
        by_image[candidate.source.image].append(candidate)
    kept: list[Usable] = []
    for image, candidates in by_image.items():
        chosen, left_out = choose(candidates, counts[image], rules.several, rules.crop_margin)
        kept += chosen
        faults += left_out
    return kept


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


def _notes(faults: Sequence[Fault], splits: dict[Split, Records], rules: ResolveRules) -> list[str]:
    counts = Counter(fault.kind for fault in faults)
    notes = []
    if counts["several"]:
        notes.append(
            f"{counts['several']} objects in images with several were left out "
            f"(data.source.several: {rules.several})."
        )
    cropped = sum(int(part.windows.any(axis=1).sum()) for part in splits.values())
    if cropped:
        notes.append(f"{cropped} pictures are cut out of images with several objects.")
    if counts["no_object"]:
        notes.append(
            f"{counts['no_object']} images without an object were left out; data.source.background "
            "names a class for them."
        )
    if rules.background is not None:
        empty = sum(int(part.empty.sum()) for part in splits.values())
        notes.append(f"Images without an object, of the class {rules.background!r}: {empty}.")
    if counts["crowd"]:
        notes.append(f"{counts['crowd']} crowds (iscrowd) were left out.")
    if counts["duplicate_row"]:
        notes.append(f"{counts['duplicate_row']} objects that are written twice count once.")
    return notes
