"""What a constant box scores: the floor that a localizer must leave to have learned position."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from keras import ops

from loc_keras.boxes import iou
from loc_keras.data.annotations import ImageRef, Split
from loc_keras.data.box_rules import BoxFault
from loc_keras.data.check.boxes import usable_of
from loc_keras.data.check.objects import CheckedObject

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
