"""Outer and inner boxes: the one holds the true box, the other lies in it, with a promise each.

All four sides of the predicted box are moved by one margin, times a scale of each side. The margin
is the conformal quantile of the largest of four scores, how far each side of the true box lies
beyond (outer) or within (inner) the predicted one, in units of the side's scale: split conformal on
the maximum (de Grancey et al. 2022, section 3; Andéol et al. 2023, section 3), which promises all
four sides at once and needs no correction for four tests. The two promises hold one by one.

Scalings:

- `additive`: scale 1, the same margin in fractions of the picture for every box;
- `size`: the predicted width for the left and right side, the height for the others;
- `spread`: what the model itself says of the side's standard deviation.

A margin may be negative: a model whose boxes are too large has an outer box within its box. Boxes
are fractions of the picture, clipped to it; predicted ones must not be inverted. The true box lies
in the outer one exactly where its score is at most the margin, up to a millionth of the picture,
which is added outward so that rounding in float32 never breaks a promise.

An inner box of which nothing is left is all zero (`is_empty`); it lies in every box and keeps its
promise. That is counted: the inner score of an image is at most the margin at which its inner box
vanishes. Else the many images whose box is too wrong to share anything with the truth would ask for
a margin that empties the others' boxes as well.

The margin of the inner box is at least minus that of the outer one, so that it lies within it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from keras import ops

from loc_keras.boxes import Tensor
from loc_keras.errors import TrustError
from loc_keras.trust.checks import box_answers
from loc_keras.trust.conformal_quantile import conformal_quantile, least_images

Scaling = Literal["additive", "size", "spread"]
SCALINGS: tuple[Scaling, ...] = ("additive", "size", "spread")

# Below these a scale says more about rounding than about the box: a hundredth of the picture for
# its size, a thousandth for a standard deviation.
_LEAST_SIZE, _LEAST_SPREAD = 0.01, 0.001

# Up to seven roundings of numbers up to 2 in float32 come together: 7 * 2**-24 * 2.
_ROUNDING = 1e-6

_SHOWN_CLASSES = 5


@dataclass(frozen=True)
class BoxMargins:
    """Fitted margins.

    Attributes:
        scaling: What they are multiplied with.
        coverage: Promised share of images, for each of the two boxes, in (0, 1).
        outer: Margins of the outer box: one, or one for each predicted class.
        inner: Likewise of the inner box.
    """

    scaling: Scaling
    coverage: float
    outer: tuple[float, ...]
    inner: tuple[float, ...]


def fit_boxes(
    boxes: npt.ArrayLike,
    boxes_pred: npt.ArrayLike,
    *,
    coverage: float,
    scaling: Scaling = "additive",
    spread: npt.ArrayLike | None = None,
    classes_pred: npt.ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
) -> BoxMargins:
    """Fits the margins on images with an object that the model was not trained on.

    Given classes, each gets its own margins, and the promise holds among the images answered as
    that class (Mondrian; Vovk et al. 2005, section 4.5). The classes are the predicted ones, since
    a new image has no other.

    Args:
        boxes: True boxes, float (N, 4), in fractions.
        boxes_pred: Predicted boxes, float (N, 4).
        coverage: Promised share, in (0, 1).
        scaling: One of SCALINGS.
        spread: Standard deviation of each predicted side, float (N, 4); for `spread` only.
        classes_pred: Predicted classes, int (N,); None for one margin for all.
        class_names: Of all K classes; needed with `classes_pred`.

    Raises:
        TrustError: The images, or those of a class, are too few for the coverage; or the arrays
            do not fit together.
    """
    true, pred = box_answers(boxes, boxes_pred)
    scales = ops.convert_to_numpy(scales_of(pred, scaling, spread))
    scores = outer_scores(true, pred, scales), inner_scores(true, pred, scales)
    if classes_pred is None:
        groups = [np.ones(len(true), bool)]
    else:
        groups = _groups(np.asarray(classes_pred), len(true), class_names or (), coverage)
    outer, inner = (
        tuple(conformal_quantile(score[group], coverage) for group in groups) for score in scores
    )
    inner = tuple(max(own, -other) for own, other in zip(inner, outer, strict=True))
    return BoxMargins(scaling, float(coverage), outer, inner)


def scales_of(boxes_pred: Tensor, scaling: Scaling, spread: Tensor | None = None) -> Tensor:
    """Scale of each side, above 0.

    Args:
        boxes_pred: (..., 4), in fractions.
        scaling: One of SCALINGS.
        spread: (..., 4), standard deviations in fractions; for `spread` only.

    Returns:
        float32 (..., 4), in the order of the box's sides.

    Raises:
        TrustError: There is no such scaling, or no spread for it.
    """
    boxes_pred = ops.cast(boxes_pred, "float32")
    if scaling == "additive":
        return ops.ones_like(boxes_pred)
    if scaling == "size":
        sizes = boxes_pred[..., 2:] - boxes_pred[..., :2]
        return ops.maximum(ops.concatenate([sizes, sizes], axis=-1), _LEAST_SIZE)
    if scaling != "spread":
        raise TrustError(
            f"There is no scaling {scaling!r} of box margins; choose one of {', '.join(SCALINGS)}."
        )
    if spread is None:
        raise TrustError(
            "Box margins scaled by 'spread' need the standard deviation of each side, which this "
            "model does not give; choose 'additive' or 'size'."
        )
    return ops.maximum(ops.cast(spread, "float32"), _LEAST_SPREAD)


def outer_scores(
    boxes: npt.NDArray[np.floating],
    boxes_pred: npt.NDArray[np.floating],
    scales: npt.NDArray[np.floating],
) -> npt.NDArray[np.float64]:
    """Smallest margin with which the outer box holds the true box: (..., 4) each -> (...)."""
    return _excess(boxes, boxes_pred, scales).max(axis=-1)


def inner_scores(
    boxes: npt.NDArray[np.floating],
    boxes_pred: npt.NDArray[np.floating],
    scales: npt.NDArray[np.floating],
) -> npt.NDArray[np.float64]:
    """Smallest margin with which the inner box lies in the true box, or is empty.

    Args:
        boxes: True boxes, (..., 4).
        boxes_pred: Predicted boxes, (..., 4).
        scales: (..., 4), see `scales_of`.

    Returns:
        float64 (...).
    """
    inside = (-_excess(boxes, boxes_pred, scales)).max(axis=-1)
    sizes = np.asarray(boxes_pred[..., 2:], np.float64) - boxes_pred[..., :2]
    vanished = (sizes / (scales[..., :2] + scales[..., 2:])).min(axis=-1)
    return np.minimum(inside, vanished)


def margins_of(values: Sequence[float], classes_pred: Tensor | None = None) -> Tensor:
    """Margin of each image.

    Args:
        values: `outer` or `inner` of BoxMargins.
        classes_pred: Predicted classes, int (N,); not used where there is one margin for all.

    Returns:
        float32, () or (N,).
    """
    table = ops.convert_to_tensor(list(values), dtype="float32")
    if len(values) == 1:
        return table[0]
    return ops.take(table, classes_pred, axis=0)


def outer_boxes(boxes_pred: Tensor, scales: Tensor, margins: Tensor | float) -> Tensor:
    """Boxes that hold the true box as promised.

    A negative margin that would turn a box inside out stops where its sides meet.

    Args:
        boxes_pred: (..., 4), in fractions, not inverted.
        scales: (..., 4), see `scales_of`.
        margins: () or (...).

    Returns:
        float32 (..., 4), within the picture. A higher margin never gives a smaller box.
    """
    low, high, scale_low, scale_high, margin = _parts(boxes_pred, scales, margins)
    margin = ops.maximum(margin, -(high - low) / (scale_low + scale_high))
    low = low - margin * scale_low - _ROUNDING
    high = high + margin * scale_high + _ROUNDING
    return ops.clip(ops.concatenate([low, high], axis=-1), 0.0, 1.0)


def inner_boxes(boxes_pred: Tensor, scales: Tensor, margins: Tensor | float) -> Tensor:
    """Boxes that lie in the true box as promised.

    Args:
        boxes_pred: (..., 4), in fractions, not inverted.
        scales: (..., 4), see `scales_of`.
        margins: () or (...).

    Returns:
        float32 (..., 4), within the picture; all zero where empty. A higher margin never gives a
        larger box.
    """
    low, high, scale_low, scale_high, margin = _parts(boxes_pred, scales, margins)
    low = low + margin * scale_low + _ROUNDING
    high = high - margin * scale_high - _ROUNDING
    boxes = ops.clip(ops.concatenate([low, high], axis=-1), 0.0, 1.0)
    empty = ops.expand_dims(is_empty(boxes), axis=-1)
    return ops.where(empty, ops.zeros_like(boxes), boxes)


def is_empty(boxes: Tensor) -> Tensor:
    """Whether a box has no area, as an inner box has where nothing is left: (..., 4) -> (...)."""
    return ops.any(boxes[..., 2:] <= boxes[..., :2], axis=-1)


def _parts(
    boxes_pred: Tensor, scales: Tensor, margins: Tensor | float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Both corners (..., 2), their scales (..., 2) and the margins (..., 1) or (1,), float32."""
    boxes_pred, scales = ops.cast(boxes_pred, "float32"), ops.cast(scales, "float32")
    margin = ops.expand_dims(ops.cast(margins, "float32"), axis=-1)
    return boxes_pred[..., :2], boxes_pred[..., 2:], scales[..., :2], scales[..., 2:], margin


def _excess(
    boxes: npt.NDArray[np.floating],
    boxes_pred: npt.NDArray[np.floating],
    scales: npt.NDArray[np.floating],
) -> npt.NDArray[np.float64]:
    """How far each side of the true box lies beyond the predicted one, in scales: (..., 4)."""
    outward = np.array([-1.0, -1.0, 1.0, 1.0])
    return outward * (np.asarray(boxes, np.float64) - boxes_pred) / scales


def _groups(
    classes_pred: npt.NDArray[np.integer], images: int, class_names: Sequence[str], coverage: float
) -> list[npt.NDArray[np.bool_]]:
    """Which images were answered as each class, bool (N,) for each; all of them enough."""
    groups = [classes_pred == index for index in range(len(class_names))]
    if classes_pred.shape != (images,) or sum(map(np.count_nonzero, groups)) != images:
        raise TrustError(
            f"A margin for each of {len(class_names)} classes needs the predicted class of each of "
            f"the {images} images, in 0..{len(class_names) - 1}, but the classes given have the "
            f"shape {classes_pred.shape} or lie outside."
        )
    needed = least_images(coverage)
    counts = [(name, int(group.sum())) for name, group in zip(class_names, groups, strict=True)]
    few = [f"{name!r} ({count})" for name, count in counts if count < needed]
    if few:
        more = f" and {len(few) - _SHOWN_CLASSES} more" if len(few) > _SHOWN_CLASSES else ""
        raise TrustError(
            f"A coverage of {float(coverage):g} in each class needs {needed} calibration images "
            f"answered as that class, but too few are so answered for "
            f"{', '.join(few[:_SHOWN_CLASSES])}{more}; add images, ask for less, or take one "
            f"margin for all classes."
        )
    return groups
