"""Findings about boxes: those that cannot be used, and those that only look odd."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from keras import ops

from loc_keras.boxes import iou
from loc_keras.data.annotations import Annotated, Annotations, ImageRef, Split
from loc_keras.data.check.images import ImageFacts
from loc_keras.data.faults import Finding, FractionBox
from loc_keras.data.resolve import BoxFault, usable_box


class CheckedObject(NamedTuple):
    """An object and what is known of its picture.

    Attributes:
        split: The split that it stands in.
        one: The object as annotated.
        size: (width, height) in px of the picture that the box was drawn on; (0, 0) where
            unknown.
        written: (x1, y1, x2, y2) as annotated, the last pixel within.
        units: `"fraction"` or `"pixel"`, of `written`.
    """

    split: Split
    one: Annotated
    size: tuple[int, int]
    written: FractionBox
    units: str

    @property
    def box(self) -> FractionBox | None:
        """The box in fractions, perhaps inverted, not finite or outside.

        None where it is unknown, or the image shows no object.
        """
        if self.one.empty:
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
    images: Mapping[ImageRef, ImageFacts],
    *,
    inclusive_pixels: bool | None,
    boxes_on: str,
) -> list[CheckedObject]:
    """Puts every object beside its picture.

    Args:
        annotations: As read.
        images: What is known of each image.
        inclusive_pixels: Whether the last pixel belongs to a box; None as the format says.
        boxes_on: As in `ImageFacts.picture_size`.
    """
    if inclusive_pixels is None:
        inclusive_pixels = annotations.units == "pixel" and not annotations.exact
    found = []
    for split, one in annotations.all_objects():
        facts = images.get(one.image)
        size = facts.picture_size(boxes_on=boxes_on) if facts else (0, 0)
        x1, y1, x2, y2 = one.box
        written = (x1, y1, x2 + 1, y2 + 1) if inclusive_pixels else one.box
        found.append(CheckedObject(split, one, size, written, annotations.units))
    return found


ROUNDING = 1e-6
"""Overhang in fractions of the side that is floating-point noise and not reported."""

TINY_PX = 4.0
"""Sides in px below which a box is more likely a slip than an object."""

TINY_AREA = 1e-3
FULL_AREA = 0.98
"""Shares of the image's area."""

_MINORITY = 0.5


def box_findings(objects: Sequence[CheckedObject]) -> list[Finding]:
    """What is wrong with boxes.

    Args:
        objects: All objects; boxes in px on images of unknown size are passed over, unless their
            numbers are not finite, and so are images without an object.
    """
    found = []
    full: list[Finding] = []
    usable = 0
    for thing in map(_as_declared, objects):
        if thing.box is None and all(map(math.isfinite, thing.one.box)):
            continue
        try:
            box = usable_of(thing)
        except BoxFault as fault:
            found.append(_finding(thing, fault.kind, str(fault)))
            continue
        usable += 1
        over = _overhang(thing.box or box)
        if over > ROUNDING:
            found.append(_finding(thing, "box_overhang", f"it does so by {_length(over, thing)}"))
        area = (box[2] - box[0]) * (box[3] - box[1])
        if area > FULL_AREA:
            full.append(_finding(thing, "box_full_frame", f"it covers {area:.1%} of the image"))
        elif words := _tiny(box, area, thing.size):
            found.append(_finding(thing, "box_tiny", words))
    # Where most boxes are full, that is what the data set is like.
    return found + (full if len(full) < _MINORITY * usable else [])


def usable_of(thing: CheckedObject) -> FractionBox:
    """The box in fractions of the picture, within it.

    Raises:
        BoxFault: If it cannot be used.
    """
    if thing.units == "fraction":
        return usable_box(thing.written, None)
    # A size that is not known matters to none but finite boxes, which are not asked for.
    width, height = thing.size
    return usable_box(thing.written, (max(width, 1), max(height, 1)))


def _as_declared(thing: CheckedObject) -> CheckedObject:
    """On the picture of the annotated size: that it is another one is a finding of its own."""
    declared = thing.one.size
    if thing.units == "pixel" and declared and all(declared) and all(thing.size):
        return thing._replace(size=declared)
    return thing


def _overhang(box: FractionBox) -> float:
    """How far a box reaches over an edge, at most, in fractions of the side; 0 for not at all."""
    x1, y1, x2, y2 = box
    return max(0.0, -x1, -y1, x2 - 1.0, y2 - 1.0)


def _tiny(box: FractionBox, area: float, size: tuple[int, int]) -> str:
    """Why a box is suspiciously small; `""` where it is not."""
    width, height = (box[2] - box[0]) * size[0], (box[3] - box[1]) * size[1]
    if size[0] and min(width, height) < TINY_PX:
        return f"it is {width:.3g} x {height:.3g} px"
    return f"it covers {area:.2%} of the image" if area < TINY_AREA else ""


def _length(over: float, thing: CheckedObject) -> str:
    return f"{over * max(thing.size):.2g} px" if thing.size[0] else f"{over:.2g} of the side"


def _finding(thing: CheckedObject, kind: str, words: str) -> Finding:
    one = thing.one
    return Finding(kind, one.file, one.row, f"box of {one.name}: {words}", one.image, thing.box)


HALF = 0.5

_QUANTILES = np.linspace(0.3, 0.7, 5)
_SAMPLE = 1000


class Floor(NamedTuple):
    """Scores of one constant box.

    Attributes:
        box: (x1, y1, x2, y2) in fractions.
        mean_iou: By split, in [0, 1].
        share: Share of boxes with an IoU above .5, by split, in [0, 1].
    """

    box: tuple[float, ...]
    mean_iou: dict[Split, float]
    share: dict[Split, float]


def single_boxes(
    objects: Sequence[CheckedObject], policy: str
) -> dict[Split, npt.NDArray[np.float32]]:
    """The boxes that training would see, one an image, by split.

    Args:
        objects: All objects.
        policy: For images with several: `"skip"` and `"crop"` leave them out, the others take the
            first or the largest.

    Returns:
        float32 (N, 4) in fractions for each split with any.
    """
    by_image: dict[tuple[Split, ImageRef], list[tuple[float, ...] | None]] = {}
    for thing in objects:
        by_image.setdefault((thing.split, thing.one.image), []).append(_usable(thing))
    found: dict[Split, list[tuple[float, ...]]] = {}
    for (split, _), all_boxes in by_image.items():
        boxes = [box for box in all_boxes if box is not None]
        if not boxes or (len(all_boxes) > 1 and policy in ("skip", "crop")):
            continue
        box = max(boxes, key=_area) if policy == "largest" else boxes[0]
        found.setdefault(split, []).append(box)
    return {split: np.array(boxes, np.float32) for split, boxes in found.items()}


def median_floor(boxes: Mapping[Split, npt.NDArray[np.float32]]) -> Floor | None:
    """Scores of the median box of the training split; None where it has none."""
    train = boxes.get("train")
    return None if train is None else _scored(np.median(train, axis=0), boxes)


def best_floor(boxes: Mapping[Split, npt.NDArray[np.float32]]) -> Floor | None:
    """Scores of the best of 625 constant boxes; None where the training split has none.

    Their sides are five quantiles each (.3 to .7) of the training boxes' sides; the best has the
    highest mean IoU on at most 1,000 of those, evenly spaced.
    """
    train = boxes.get("train")
    if train is None:
        return None
    sample = train[np.linspace(0, len(train) - 1, min(len(train), _SAMPLE)).astype(int)]
    sides = np.quantile(train, _QUANTILES, axis=0)
    candidates = np.stack(np.meshgrid(*sides.T, indexing="ij"), axis=-1).reshape(-1, 4)
    pairs = (len(candidates), len(sample), 4)
    against = np.broadcast_to(sample, pairs).reshape(-1, 4)
    scores = _ious(np.broadcast_to(candidates[:, None], pairs).reshape(-1, 4), against)
    means = scores.reshape(pairs[:2]).mean(axis=1)
    return _scored(candidates[int(np.argmax(means))], boxes)


def _scored(box: npt.NDArray[np.floating], boxes: Mapping[Split, npt.NDArray[np.float32]]) -> Floor:
    scores = {split: _ious(box, one) for split, one in boxes.items()}
    return Floor(
        tuple(float(side) for side in box),
        {split: float(score.mean()) for split, score in scores.items()},
        {split: float((score > HALF).mean()) for split, score in scores.items()},
    )


def _ious(box: npt.NDArray[np.floating], boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    same = np.broadcast_to(box, boxes.shape).astype(np.float32)
    return np.asarray(ops.convert_to_numpy(iou(boxes, same)), np.float64)


def _usable(thing: CheckedObject) -> tuple[float, ...] | None:
    if thing.box is None:
        return None
    try:
        return usable_of(thing)
    except BoxFault:
        return None


def _area(box: tuple[float, ...]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
