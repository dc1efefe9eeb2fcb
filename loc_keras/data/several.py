"""Images with several objects: which of them, or which part of the picture, makes a record."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from loc_keras.data.annotations import Annotated, Fault
from loc_keras.data.box_rules import Box

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
