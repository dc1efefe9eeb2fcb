"""Conformal prediction: outer and inner boxes and label sets with a promised coverage.

Scores say how badly an answer misses the truth. If the n calibration images and a new image are
exchangeable, the new score is at most the k-th smallest of the n, k = ceil((n + 1) coverage), with
a probability of at least `coverage` and, without ties, exactly k / (n + 1): over new calibration
sets and new images together (Vovk et al. 2005; Lei et al. 2018, theorem 2.2). A coverage is read as
the fraction that its decimals mean, so that .99 of 100 is 99, although the float nearest to .99 is
not a hundredth: (99 + 1) * .99 in floats may be just above 99.

**Boxes.** The outer box holds the true box, the inner one lies in it; each is promised by itself.
All four sides of the predicted box are moved by one margin, times a scale of each side. The margin
is the conformal quantile of the largest of four scores, how far each side of the true box lies
beyond (outer) or within (inner) the predicted one, in units of the side's scale (de Grancey et al.
2022, section 3; Andéol et al. 2023, section 3). The scale is 1 (`additive`), the predicted width or
height (`size`), or the standard deviation of the side that the model gives (`spread`). A margin may
be negative; that of the inner box is at least minus that of the outer one, so that it lies within
it. A millionth of the picture is added outward so that rounding in float32 breaks no promise.

An inner box of which nothing is left is all zero (`is_empty`) and keeps its promise. That counts:
the inner score of an image is at most the margin at which its inner box vanishes, or boxes that are
too wrong to share anything with the truth would ask for a margin that empties the others as well.

**Label sets.** A label's score is the probability of all classes that are more likely than it (APS:
Romano, Sesia and Candès 2020, section 2, equation 5 with U = 0), plus `penalty` for each rank
beyond `k_reg` (RAPS: Angelopoulos et al. 2021, section 2). The set is every label whose score is at
most the conformal quantile of the true classes' scores. With U = 0 the same image gets the same set
each time, which holds the most probable label (U = 1: docs/experiments.md). The default penalty,
.01 from the second rank on, is as mild as can be while telling equal scores apart: the last labels
of a confident model all have an APS score of 1 within float32.

**Folds.** Sets too small to hold images back take cross-conformal prediction in the form of CV+
(Vovk 2015; Barber, Candès, Ramdas and Tibshirani 2021, section 3.2). Each of the n training images
has a score from the model that was trained without it. Of a new image every label or box y is
scored by each of these models, and believed unless fewer than coverage (n + 1) of the scores R_i
lie below the score of y under the model of the same fold. If all images are exchangeable, the truth
is believed with a probability of at least 2 coverage - 1, less a term below sqrt(2 / n) (theorem 4
there), and of about `coverage` wherever a model changes little with a fold; models of any quality,
trained for any length, keep that. A box y is believed where at least n - k + 1 of n outer boxes
hold it, k the rank of split conformal prediction; each is the box of an image's fold, moved by the
image's score. So every side is an order statistic of the n sides, and likewise for inner boxes; the
inner box is cut to the outer one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from loc_keras.boxes import Tensor
from loc_keras.errors import TrustError
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.trust.confidence import finite, most_probable

Scaling = Literal["additive", "size", "spread"]
SCALINGS: tuple[Scaling, ...] = ("additive", "size", "spread")
PENALTY, K_REG = 0.01, 1
"""Of label sets by RAPS; see the module."""

# Far finer than any coverage that someone means, and coarse enough to read 1 - .9 as a tenth.
_LARGEST_DENOMINATOR = 10**9

# Below these a scale says more about rounding than about the box: a hundredth of the picture for
# its size, a thousandth for a standard deviation.
_LEAST_SIZE, _LEAST_SPREAD = 0.01, 0.001

# Up to seven roundings of numbers up to 2 in float32 come together: 7 * 2**-24 * 2.
_ROUNDING = 1e-6
# Sums of float32 differ by so much from one machine to another; counted in the user's favour.
_ROUNDING_OF_SUMS = 2e-6

_SHOWN_CLASSES = 5

Floats = npt.NDArray[np.floating]


def conformal_quantile(scores: npt.ArrayLike, coverage: float) -> float:
    """The ceil((n + 1) coverage)-th smallest of scores float (n,); coverage in (0, 1).

    TrustError where the images are too few for the coverage, a score is not finite, or the coverage
    is out of range.
    """
    values = finite(scores, "calibration scores").ravel()
    rank = conformal_rank(values.size, coverage)
    return float(np.partition(values, rank - 1)[rank - 1])


def conformal_rank(images: int, coverage: float) -> int:
    """Which of n sorted calibration scores is the quantile: ceil((n + 1) coverage), in 1..n.

    TrustError where it would be n + 1, so that no score promises this much.
    """
    rank = math.ceil((images + 1) * _exact(coverage))
    if rank <= images:
        return rank
    lower = f" or ask for {highest_coverage(images):g} or less" if images else ""
    raise TrustError(
        f"A coverage of {float(coverage):g} needs {least_images(coverage)} calibration images or "
        f"more, but there are {images}; add images{lower}."
    )


def least_images(coverage: float) -> int:
    """Fewest calibration images that can promise the coverage: 1 / (1 - coverage) - 1, or above."""
    share = _exact(coverage)
    return math.ceil(share / (1 - share))


def highest_coverage(images: int) -> float:
    """Highest coverage that so many images can promise: n / (n + 1), cut after four decimals.

    From 9,999 images on it stays at .9999.
    """
    return min(10_000 * images // (images + 1), 9_999) / 10_000


@dataclass(frozen=True)
class BoxMargins:
    """Fitted margins: one, or one for each predicted class, times a scale of each side.

    The promise of `coverage` is for each of the two boxes.
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

    Boxes and the spread of their sides, which that scaling needs, are float (N, 4) in fractions,
    predicted classes int (N,), with the names of all K classes.

    Raises:
        TrustError: The images, or those of a class, are too few for the coverage.
    """
    true, pred = finite(boxes, "coordinates"), finite(boxes_pred, "coordinates")
    scales = ops.convert_to_numpy(scales_of(pred, scaling, spread))
    scores = outer_scores(true, pred, scales), inner_scores(true, pred, scales)
    if classes_pred is None:
        groups = [np.ones(len(true), bool)]
    else:
        groups = _groups(np.asarray(classes_pred), class_names or (), coverage)
    outer, inner = (
        tuple(conformal_quantile(score[group], coverage) for group in groups) for score in scores
    )
    inner = tuple(max(own, -other) for own, other in zip(inner, outer, strict=True))
    return BoxMargins(scaling, float(coverage), outer, inner)


def scales_of(boxes_pred: Tensor, scaling: Scaling, spread: Tensor | None = None) -> Tensor:
    """Scale of each side, above 0, float32 (..., 4); TrustError if it needs a missing spread."""
    boxes_pred = ops.cast(boxes_pred, "float32")
    if scaling == "additive":
        return ops.ones_like(boxes_pred)
    if scaling == "size":
        sizes = boxes_pred[..., 2:] - boxes_pred[..., :2]
        return ops.maximum(ops.concatenate([sizes, sizes], axis=-1), _LEAST_SIZE)
    if spread is None:
        raise TrustError(
            "Box margins scaled by 'spread' need the standard deviation of each side, which this "
            "model does not give; choose 'additive' or 'size'."
        )
    return ops.maximum(ops.cast(spread, "float32"), _LEAST_SPREAD)


def outer_scores(boxes: Floats, boxes_pred: Floats, scales: Floats) -> npt.NDArray[np.float64]:
    """Smallest margin with which the outer box holds the true box: (..., 4) each -> (...)."""
    return _excess(boxes, boxes_pred, scales).max(axis=-1)


def inner_scores(boxes: Floats, boxes_pred: Floats, scales: Floats) -> npt.NDArray[np.float64]:
    """Smallest margin with which the inner box lies in the true box, or is empty."""
    inside = (-_excess(boxes, boxes_pred, scales)).max(axis=-1)
    sizes = np.asarray(boxes_pred[..., 2:], np.float64) - boxes_pred[..., :2]
    vanished = (sizes / (scales[..., :2] + scales[..., 2:])).min(axis=-1)
    return np.minimum(inside, vanished)


def margins_of(values: Sequence[float], classes_pred: Tensor | None = None) -> Tensor:
    """Margin of each image, float32 (N,), by its predicted class; () where there is one for all."""
    table = ops.convert_to_tensor(list(values), dtype="float32")
    return table[0] if len(values) == 1 else ops.take(table, classes_pred, axis=0)


def outer_boxes(boxes_pred: Tensor, scales: Tensor, margins: Tensor | float) -> Tensor:
    """Boxes that hold the true box as promised, float32 (..., 4), within the picture.

    Boxes in fractions and scales are (..., 4), margins () or (...). A higher margin never gives a
    smaller box; a negative one that would turn a box inside out stops where its sides meet.
    """
    low, high, scale_low, scale_high, margin = _parts(boxes_pred, scales, margins)
    margin = ops.maximum(margin, -(high - low) / (scale_low + scale_high))
    low = low - margin * scale_low - _ROUNDING
    high = high + margin * scale_high + _ROUNDING
    return ops.clip(ops.concatenate([low, high], axis=-1), 0.0, 1.0)


def inner_boxes(boxes_pred: Tensor, scales: Tensor, margins: Tensor | float) -> Tensor:
    """Boxes that lie in the true box as promised, all zero where empty; else as `outer_boxes`."""
    low, high, scale_low, scale_high, margin = _parts(boxes_pred, scales, margins)
    low = low + margin * scale_low + _ROUNDING
    high = high - margin * scale_high - _ROUNDING
    boxes = ops.clip(ops.concatenate([low, high], axis=-1), 0.0, 1.0)
    empty = ops.expand_dims(is_empty(boxes), axis=-1)
    return ops.where(empty, ops.zeros_like(boxes), boxes)


def is_empty(boxes: Tensor) -> Tensor:
    """Whether a box has no area, as an inner box has where nothing is left: (..., 4) -> (...)."""
    return ops.any(boxes[..., 2:] <= boxes[..., :2], axis=-1)


def within(inner: Floats, outer: Floats) -> Any:
    """Whether one box lies in the other: (..., 4) each to bool (...)."""
    low, high = inner[..., :2] >= outer[..., :2], inner[..., 2:] <= outer[..., 2:]
    return low.all(axis=-1) & high.all(axis=-1)


def areas(boxes: Floats) -> npt.NDArray[np.float64]:
    """What boxes cover, (..., 4) to float64 (...); 0 for one that is inverted."""
    sides = boxes[..., 2:].astype(np.float64) - boxes[..., :2]
    return np.asarray(sides.clip(0).prod(axis=-1))


@dataclass(frozen=True)
class LabelSets:
    """Fitted label sets; a penalty of 0 is APS, ranks up to `k_reg` have none.

    The threshold is the largest score of a label in the set; coverage is the promised share.
    """

    coverage: float
    threshold: float
    penalty: float = PENALTY
    k_reg: int = K_REG


def fit_label_sets(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    coverage: float,
    penalty: float = PENALTY,
    k_reg: int = K_REG,
) -> LabelSets:
    """Fits the threshold on images the model was not trained on: float (N, K) and true int (N,).

    `penalty` and `k_reg` are chosen before looking at these images: else the promise is off.
    """
    quantile = conformal_quantile(true_scores(probabilities, labels, penalty, k_reg), coverage)
    return LabelSets(coverage, float(threshold_above(quantile)), penalty, k_reg)


def threshold_above(quantile: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The threshold that no rounding of a score at the quantile passes, same shape."""
    values = np.asarray(quantile, np.float64)
    return values + _ROUNDING_OF_SUMS * np.maximum(1.0, values)


def label_sets(probabilities: Tensor, fitted: LabelSets) -> Tensor:
    """Which labels each set holds, bool (N, K), the most probable one always among them.

    A higher coverage, fitted on the same images, gives the same labels or more.
    """
    probabilities = ops.cast(probabilities, "float32")
    scores = label_scores(probabilities, fitted.penalty, fitted.k_reg)
    return ops.logical_or(scores <= fitted.threshold, is_most_probable(probabilities))


def is_most_probable(probabilities: Tensor) -> Tensor:
    """Whether each label is the one of `most_probable`, (N, K) to bool (N, K)."""
    index = ops.arange(probabilities.shape[-1], dtype="int32")
    return ops.equal(index, ops.expand_dims(most_probable(probabilities), axis=-1))


def label_scores(probabilities: Tensor, penalty: float = PENALTY, k_reg: int = K_REG) -> Tensor:
    """Score of every label, float32 (N, K), of probabilities (N, K); see the module.

    Of classes with equal probability the one with the smaller index comes first, as for argmax.
    """
    probabilities = ops.cast(probabilities, "float32")
    order = ops.argsort(-probabilities, axis=-1)
    mass = ops.cumsum(ops.take_along_axis(probabilities, order, axis=-1), axis=-1)
    ranks = ops.arange(1, probabilities.shape[-1] + 1, dtype="float32")
    ahead = ops.concatenate([ops.zeros_like(mass[:, :1]), mass[:, :-1]], axis=-1)
    scores = ahead + penalty * ops.maximum(ranks - k_reg, 0.0)
    return ops.take_along_axis(scores, ops.argsort(order, axis=-1), axis=-1)


def true_scores(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    penalty: float = PENALTY,
    k_reg: int = K_REG,
) -> npt.NDArray[np.float64]:
    """Scores of the true classes, (N,), in the arithmetic that applies them later."""
    p = finite(probabilities, "probabilities")
    scores = ops.convert_to_numpy(label_scores(p, penalty, k_reg))
    return np.take_along_axis(scores, np.asarray(labels)[:, None], axis=1)[:, 0].astype(np.float64)


FOLD_OUTPUTS = {"softmax": "softmax_folds", "bbox": "bbox_folds", "spread": "spread_folds"}
"""Outputs of a localizer, and what they are called when each fold's model gives one."""


@dataclass(frozen=True)
class CrossScores:
    """Scores of the training images by the models that were trained without them.

    `penalty` and `k_reg` are as in `LabelSets`. Of each image `folds` has the fold, from 0, and
    `labels` the score of its true class; of each that shows an object `box_folds`, `outer` and
    `inner`.
    """

    coverage: float
    scaling: Scaling
    penalty: float
    k_reg: int
    folds: tuple[int, ...]
    labels: tuple[float, ...]
    box_folds: tuple[int, ...]
    outer: tuple[float, ...]
    inner: tuple[float, ...]


def fit_cross(
    outcomes: Outcomes,
    folds: npt.NDArray[np.integer],
    *,
    coverage: float,
    scaling: Scaling,
    penalty: float,
    k_reg: int,
) -> CrossScores:
    """Scores out-of-fold answers of all training images; `folds` int (N,) says by which model.

    Raises:
        TrustError: The images are too few for the coverage.
    """
    objects = outcomes.take(outcomes.shown)
    for images in (len(outcomes), len(objects)):
        conformal_rank(images, coverage)  # Refuses too few.
    true, pred = (finite(objects.outputs[name], "coordinates") for name in ("bbox_true", "bbox"))
    scales = ops.convert_to_numpy(scales_of(pred, scaling, objects.outputs.get("spread")))
    labels = true_scores(outcomes.probabilities, outcomes.labels, penalty, k_reg)
    return CrossScores(
        float(coverage),
        scaling,
        penalty,
        k_reg,
        tuple(folds.tolist()),
        tuple(threshold_above(labels).tolist()),
        tuple(folds[outcomes.shown].tolist()),
        tuple(outer_scores(true, pred, scales).tolist()),
        tuple(inner_scores(true, pred, scales).tolist()),
    )


def cross_stated(outputs: Mapping[str, Tensor], cross: CrossScores) -> dict[str, Tensor]:
    """`box_outer`, `box_inner` and `label_set` of `stated`, by all models of the folds.

    Outputs are `softmax_folds` (N, M, K) and `bbox_folds` (N, M, 4) of M models, with the scaling
    `spread` also `spread_folds` (N, M, 4); and `softmax` (N, K), whose top label is always in.
    """
    pred = ops.cast(outputs["bbox_folds"], "float32")
    scales = scales_of(pred, cross.scaling, outputs.get("spread_folds"))
    index = ops.convert_to_tensor(list(cross.box_folds), dtype="int32")
    pred, scales = ops.take(pred, index, axis=1), ops.take(scales, index, axis=1)
    images = len(cross.outer)
    believed = images - conformal_rank(images, cross.coverage)  # From 0: the n - k + 1-th.
    sides = outer_boxes(pred, scales, ops.convert_to_tensor(list(cross.outer), dtype="float32"))
    low, high = ops.sort(sides[..., :2], axis=1), ops.sort(sides[..., 2:], axis=1)
    outer = ops.concatenate([low[:, believed], high[:, images - 1 - believed]], axis=-1)
    sides = inner_boxes(pred, scales, ops.convert_to_tensor(list(cross.inner), dtype="float32"))
    empty = ops.expand_dims(is_empty(sides), axis=-1)  # Lies in every box: beyond both ends.
    low = ops.sort(ops.where(empty, 1.0, sides[..., :2]), axis=1)[:, images - 1 - believed]
    high = ops.sort(ops.where(empty, 0.0, sides[..., 2:]), axis=1)[:, believed]
    low, high = ops.maximum(low, outer[:, :2]), ops.minimum(high, outer[:, 2:])
    inner = ops.concatenate([low, high], axis=-1)
    inner = ops.where(ops.expand_dims(is_empty(inner), -1), ops.zeros_like(inner), inner)
    return {"box_outer": outer, "box_inner": inner, "label_set": _label_sets(outputs, cross)}


def fold_ensemble(models: Sequence[keras.Model]) -> keras.Model:
    """One model of several (`observer` of each fold's localizer), for `cross_stated`."""
    image = keras.Input(models[0].input_shape[1:], name="image")
    answers = []
    for number, model in enumerate(models):
        model.name = f"fold_{number}"
        answers.append(model(image))
    stacked = {}
    for name, new in FOLD_OUTPUTS.items():
        if name in answers[0]:
            # Half precision would round what is promised.
            row = layers.Reshape((1, answers[0][name].shape[-1]), dtype="float32")
            stacked[new] = layers.Concatenate(axis=1, name=new, dtype="float32")(
                [row(one[name]) for one in answers]
            )
    return keras.Model(image, stacked, name="folds")


def _exact(coverage: float) -> Fraction:
    # str() of a float is the shortest decimal text that gives it back: the one someone wrote.
    written = str(coverage) if math.isfinite(coverage) else "0"
    share = Fraction(written).limit_denominator(_LARGEST_DENOMINATOR)
    if not 0 < share < 1:
        raise TrustError(
            f"A coverage is a share between 0 and 1, such as 0.9, but {coverage} is none or too "
            "near to one of them; ask for one between 0.000001 and 0.999999."
        )
    return share


def _parts(
    boxes_pred: Tensor, scales: Tensor, margins: Tensor | float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Both corners (..., 2), their scales (..., 2) and the margins (..., 1) or (1,), float32."""
    boxes_pred, scales = ops.cast(boxes_pred, "float32"), ops.cast(scales, "float32")
    margin = ops.expand_dims(ops.cast(margins, "float32"), axis=-1)
    return boxes_pred[..., :2], boxes_pred[..., 2:], scales[..., :2], scales[..., 2:], margin


def _excess(boxes: Floats, boxes_pred: Floats, scales: Floats) -> npt.NDArray[np.float64]:
    """How far each side of the true box lies beyond the predicted one, in scales: (..., 4)."""
    outward = np.array([-1.0, -1.0, 1.0, 1.0])
    return outward * (np.asarray(boxes, np.float64) - boxes_pred) / scales


def _groups(
    classes_pred: npt.NDArray[np.integer], class_names: Sequence[str], coverage: float
) -> list[npt.NDArray[np.bool_]]:
    """Which images were answered as each class, bool (N,) for each; all of them enough."""
    groups = [classes_pred == index for index in range(len(class_names))]
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


def _label_sets(outputs: Mapping[str, Tensor], cross: CrossScores) -> Tensor:
    shares = outputs["softmax_folds"]
    models, classes = shares.shape[1:]
    flat = label_scores(ops.reshape(shares, (-1, classes)), cross.penalty, cross.k_reg)
    scores = ops.reshape(flat, (-1, models, classes))
    rank = conformal_rank(len(cross.labels), cross.coverage)
    higher = ops.zeros_like(scores[:, 0], dtype="int32")
    for fold in range(models):
        own = [score for score, at in zip(cross.labels, cross.folds, strict=True) if at == fold]
        below = scores[:, fold, :, None] > ops.convert_to_tensor(own, dtype="float32")
        higher = higher + ops.sum(ops.cast(below, "int32"), axis=-1)
    return ops.logical_or(higher < rank, is_most_probable(outputs["softmax"]))
