"""Outer and inner boxes and label sets from models that were each trained without a fold.

Cross-conformal prediction in the form of CV+ (Vovk 2015; Barber, Candès, Ramdas and Tibshirani
2021, section 3.2), for sets too small to hold images back. Each of the n training images has a
score from the model that was trained without it (`conformal` says which). Of a new image every
label or box y is scored by each of these models. It is believed unless too many training images
scored lower: fewer than coverage (n + 1) of the scores R_i lie below the score of y under the model
of the same fold.

If all images are exchangeable, the truth is believed with a probability of at least
2 coverage - 1, less a term below sqrt(2 / n) (theorem 4 there), and of about `coverage` wherever a
model changes little with a fold. Models of any quality, trained for any length, keep that.

Boxes: y is believed where at least n - k + 1 of n outer boxes hold it, k the rank of split
conformal prediction; each is the box of an image's fold, moved by the image's score. So every side
is an order statistic of the n sides, and likewise for inner boxes; the inner box is cut to the
outer one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from loc_keras.boxes import Tensor
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.trust.conformal import (
    Scaling,
    checked_boxes,
    conformal_rank,
    inner_boxes,
    inner_scores,
    is_empty,
    is_most_probable,
    label_scores,
    outer_boxes,
    outer_scores,
    scales_of,
    threshold_above,
    true_scores,
)

FOLD_OUTPUTS = {"softmax": "softmax_folds", "bbox": "bbox_folds", "spread": "spread_folds"}
"""Outputs of a localizer, and what they are called when each fold's model gives one."""


@dataclass(frozen=True)
class CrossScores:
    """Scores of the training images by the models that were trained without them.

    Attributes:
        coverage: Asked share, in (0, 1).
        scaling: Of the margins of boxes.
        penalty: Of label sets, as is `k_reg`; see `LabelSets`.
        folds: Fold of each image, from 0.
        labels: Score of each image's true class.
        box_folds: Fold of each image that shows an object.
        outer: Score of each of these for the outer box.
        inner: Likewise for the inner box.
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
    """Scores out-of-fold answers: of all training images, each by the model without it.

    `folds` int (N,) says which that was; `outputs` are as by `observe`, the rest as `CrossScores`.

    Raises:
        TrustError: The images are too few for the coverage, or the arrays do not fit together.
    """
    objects = outcomes.take(outcomes.shown)
    for images in (len(outcomes), len(objects)):
        conformal_rank(images, coverage)  # Refuses too few.
    true, pred = checked_boxes(objects.outputs["bbox_true"], objects.outputs["bbox"])
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

    Args:
        outputs: `softmax_folds` (N, M, K) and `bbox_folds` (N, M, 4) of M models, with the scaling
            `spread` also `spread_folds` (N, M, 4); `softmax` (N, K), whose top label is always in.
        cross: What was fitted.
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
