"""The signals by which a good box is told from a bad one, from a model's own outputs."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from loc_keras.boxes import area, iou
from loc_keras.trust.most_probable import most_probable

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

_LEAST = 1e-6

PRIOR = {"class_log_odds": 0.5, "spread": -0.5, "widest_spread": -0.5}
"""What is known of the signals' weights before any image is seen, for `fit_box_confidence`.

Of a handful of sums tried, this one ranks good boxes before bad ones on five data sets nearly as
well as weights fitted to each (docs/experiments.md); it counts where calibration images show too
few bad boxes to fit anything.
"""


def box_signals(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Numbers of each answer that go with the quality of its box.

    All are logarithms or log odds, so that a linear model can use them.

    Args:
        outputs: As `observer.observed_outputs` gives them.

    Returns:
        Each float32 (N,): `class_log_odds` (of the top class; not with a single class), `log_area`
        of the box; of a distribution head `spread` (log of the sides' mean standard deviation in
        box sides), `widest_spread` (of the least certain side), `mean_iou` and `chance50` (log
        odds, see `SideStatistics`); of a mirrored look `mirrored_iou` (log odds) and
        `mirrored_class` (log of the probability that the top class has there).
    """
    boxes = ops.convert_to_tensor(outputs["bbox"])
    found = {"log_area": ops.log(ops.maximum(area(boxes), _LEAST))}
    if outputs["softmax"].shape[-1] > 1:
        found["class_log_odds"] = class_log_odds(outputs["softmax"])
    if "spread" in outputs:
        relative = ops.convert_to_tensor(outputs["spread"]) / box_sides(boxes)
        found["spread"] = ops.log(ops.maximum(ops.mean(relative, axis=-1), _LEAST))
        found["widest_spread"] = ops.log(ops.maximum(ops.max(relative, axis=-1), _LEAST))
        found["mean_iou"] = _log_odds(outputs["mean_iou"])
        found["chance50"] = _log_odds(outputs["chance50"])
    if "bbox_mirrored" in outputs:
        found["mirrored_iou"] = _log_odds(iou(outputs["bbox"], outputs["bbox_mirrored"]))
        top = most_probable(outputs["softmax"])
        there = ops.take_along_axis(
            ops.convert_to_tensor(outputs["softmax_mirrored"]), top[:, None], axis=-1
        )[:, 0]
        found["mirrored_class"] = ops.log(ops.maximum(there, _LEAST))
    return found


def class_log_odds(probabilities: Tensor) -> Tensor:
    """Log odds of the most probable class, (N, K) to (N,); within about +-16.

    The other classes are summed, since 1 - p has no digits left where p is near 1.
    """
    values = ops.convert_to_tensor(probabilities)
    index = ops.arange(values.shape[-1], dtype="int32")
    top = ops.expand_dims(most_probable(values), -1)
    rest = ops.sum(ops.where(ops.equal(index, top), ops.zeros_like(values), values), axis=-1)
    return ops.log(ops.maximum(ops.max(values, axis=-1), 1e-7)) - ops.log(ops.maximum(rest, 1e-7))


def box_sides(boxes: Tensor) -> Tensor:
    """Width and height of a box as the scale of its four sides, (N, 4): w, h, w, h; at least 1e-3.

    Args:
        boxes: (N, 4), fractions.
    """
    size = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    return ops.concatenate([size, size], axis=-1)


def _log_odds(share: Tensor) -> Tensor:
    inside = ops.clip(ops.convert_to_tensor(share), 1e-4, 1 - 1e-4)
    return ops.log(inside) - ops.log(1 - inside)
