"""The losses of the two heads: thin Keras shells over pure functions without reduction.

Every loss is computed in float32, whatever the dtype policy and the dtypes of its inputs, takes
sample weights and each Keras reduction, and is saved with all its arguments.
"""

import difflib
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from loc_keras import boxes
from loc_keras.boxes import Tensor
from loc_keras.errors import ConfigError, DataError

_PACKAGE = "loc_keras"
_DTYPE = "float32"
_MIN_BINS = 2


def smooth_l1(boxes_true: Tensor, boxes_pred: Tensor, *, delta: float) -> Tensor:
    """Return the smooth L1 distance of paired boxes, summed over the 4 edges: (..., 4) -> (...).

    An error e costs e^2 / (2 delta) up to `delta` and |e| - delta / 2 beyond (Girshick 2015, eq. 3,
    where delta is 1): its slope never exceeds 1. Delta is above 0, in the unit of the boxes.

    Raises:
        DataError: The shapes do not match.
    """
    true, pred = boxes.paired(boxes_true, boxes_pred)
    error = ops.absolute(pred - true)
    small = ops.minimum(error, delta)
    # Below delta the second term is 0; beyond, the first is delta / 2.
    return ops.sum(ops.square(small) / (2 * delta) + (error - small), axis=-1)


def class_index(labels: Tensor, probabilities: Tensor) -> Tensor:
    """Return labels as int32 in the leading shape of the probabilities (..., K).

    Labels are (...) or (..., 1) class numbers of any numeric dtype, or (..., K) with a share for
    each class, of which the largest counts (the first of equal ones). DataError for other shapes.
    """
    labels = ops.convert_to_tensor(labels)
    if is_shared(labels, probabilities):
        return ops.cast(ops.argmax(labels, axis=-1), "int32")
    shape, expected = tuple(labels.shape), tuple(probabilities.shape)[:-1]
    if len(shape) == len(expected) + 1 and shape[-1] == 1:
        labels, shape = ops.squeeze(labels, -1), shape[:-1]
    if not boxes.shapes_agree(shape, expected):
        raise DataError(
            f"Labels must be class numbers in the shape {expected}, that of the probabilities "
            f"without their last axis, or shares of the classes in the full shape "
            f"{tuple(probabilities.shape)}, but have the shape {shape}."
        )
    return ops.cast(labels, "int32")


def is_shared(labels: Tensor, probabilities: Tensor) -> bool:
    """Tell labels (..., K), a share for each class, from class numbers (...) or (..., 1).

    With a single class both look alike and are taken as numbers.
    """
    shape, expected = tuple(labels.shape), tuple(probabilities.shape)
    return expected[-1] != 1 and len(shape) == len(expected) and shape[-1] == expected[-1]


@keras.saving.register_keras_serializable(package=_PACKAGE)
def class_cross_entropy(
    labels: Tensor, probabilities: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the cross entropy of labels against probabilities, with smoothed labels.

    Of each target's probability mass, `label_smoothing`, 0..1, is spread evenly over all K classes,
    the labelled one included (Szegedy et al. 2016, section 7).

    Where Keras still knows the logits behind the probabilities (a softmax of the same graph, on
    TensorFlow) it computes from them, so a confidently wrong prediction keeps its gradient;
    elsewhere probabilities are clipped to [1e-7, 1 - 1e-7].

    Args:
        labels: (...) or (..., 1) class numbers of any numeric dtype, or (..., K) with a share for
            each class, which sum to 1. A number outside 0..K - 1 has no class of its own and costs
            only the smoothed part. With a single class there is nothing to learn: the loss is 0.
        probabilities: (..., K), floating point; the result is (...).
        label_smoothing: See above.

    Raises:
        DataError: The shapes do not match.
    """
    probabilities = ops.convert_to_tensor(probabilities)
    labels = ops.convert_to_tensor(labels)
    num_classes = probabilities.shape[-1]
    if num_classes == 1:
        # Not a constant, so that every weight keeps a gradient, and NaN stays NaN.
        return 0 * ops.squeeze(probabilities, -1)
    if is_shared(labels, probabilities):
        shares = ops.cast(labels, probabilities.dtype)
    else:
        index = class_index(labels, probabilities)
        shares = ops.one_hot(index, num_classes, dtype=probabilities.dtype)
    target = shares * (1 - label_smoothing) + label_smoothing / num_classes
    return ops.categorical_crossentropy(target, probabilities)


@keras.saving.register_keras_serializable(package=_PACKAGE)
def distribution_focal(boxes_true: Tensor, logits: Tensor) -> Tensor:
    """Return the distribution focal loss of boxes, averaged over the 4 edges.

    Each edge is predicted as a distribution over bins, where bin k of n stands for the fraction k /
    (n - 1). The loss is the cross entropy against the two bins beside the true edge, each weighted
    by its nearness (Li et al. 2020, Generalized Focal Loss, eq. 6). The distribution of least loss
    has just these two weights, and so the true edge as its mean.

    Boxes are (..., 4), fractions of the image side, clipped to [0, 1]; logits (..., 4, n) of at
    least 2 bins, before a softmax; the result (...) has their dtype.

    Raises:
        DataError: The shapes do not match, or there are fewer than 2 bins.
    """
    boxes_true, logits = ops.convert_to_tensor(boxes_true), ops.convert_to_tensor(logits)
    edges_shape, logits_shape = tuple(boxes_true.shape), tuple(logits.shape)
    bins = logits_shape[-1]
    if not boxes.shapes_agree(edges_shape, logits_shape[:-1]) or bins is None or bins < _MIN_BINS:
        raise DataError(
            f"The distribution focal loss needs boxes (..., 4) and logits (..., 4, bins) with at "
            f"least 2 bins, but got {edges_shape} and {logits_shape}; reshape one to match."
        )
    position = ops.clip(ops.cast(boxes_true, logits.dtype), 0.0, 1.0) * (bins - 1)
    # A triangle of half-width 1 around the position is the linear weight of both neighbours; it
    # needs no index, so nothing can run past the last bin.
    steps = ops.absolute(ops.expand_dims(position, -1) - ops.arange(bins, dtype=logits.dtype))
    weights = ops.maximum(1 - steps, 0.0)
    per_edge = -ops.sum(weights * ops.log_softmax(logits, axis=-1), axis=-1)
    return ops.mean(per_edge, axis=-1)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class BoxLoss(keras.losses.Loss):
    """1 - similarity of the true and the predicted box, plus an optional smooth L1 term.

    Shapes: y_true and y_pred (..., 4), fractions of the image side in [0, 1].

    Args:
        similarity: A name in `loc_keras.boxes.SIMILARITIES`.
        smooth_l1_weight: Factor of the smooth L1 term (see `smooth_l1`); 0 leaves it out.
        smooth_l1_delta: Error at which that term turns from a parabola into a line, in fractions.
        reduction: Any Keras reduction.
        name: As Keras has it.

    Raises:
        ConfigError: The similarity is unknown, the weight is negative or the delta not positive.
    """

    def __init__(
        self,
        similarity: str = "diou",
        smooth_l1_weight: float = 0.0,
        smooth_l1_delta: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "box_loss",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=_DTYPE)
        _similarity(similarity)
        _require(smooth_l1_weight >= 0, "smooth_l1_weight", "0 or more", smooth_l1_weight)
        _require(smooth_l1_delta > 0, "smooth_l1_delta", "above 0", smooth_l1_delta)
        self.similarity = similarity
        self.smooth_l1_weight = float(smooth_l1_weight)
        self.smooth_l1_delta = float(smooth_l1_delta)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of each box, (..., 4) -> (...)."""
        loss = 1 - _similarity(self.similarity)(y_true, y_pred)
        if self.smooth_l1_weight:
            distance = smooth_l1(y_true, y_pred, delta=self.smooth_l1_delta)
            loss = loss + self.smooth_l1_weight * distance
        return loss

    def get_config(self) -> dict[str, Any]:
        """Return every argument, for saving."""
        return {
            **super().get_config(),
            "similarity": self.similarity,
            "smooth_l1_weight": self.smooth_l1_weight,
            "smooth_l1_delta": self.smooth_l1_delta,
        }


@keras.saving.register_keras_serializable(package=_PACKAGE)
class ClassLoss(keras.losses.Loss):
    """Cross entropy of labels against softmax probabilities; see `class_cross_entropy`.

    Shapes: y_true (N,) or (N, 1) class numbers or (N, K) shares of the classes, y_pred (N, K)
    probabilities. ConfigError where the label smoothing is outside [0, 1].
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "class_loss",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=_DTYPE)
        _require(0 <= label_smoothing <= 1, "label_smoothing", "between 0 and 1", label_smoothing)
        self.label_smoothing = float(label_smoothing)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of each image, (N,)."""
        return class_cross_entropy(y_true, y_pred, label_smoothing=self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        """Return every argument, for saving."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class DistributionFocalLoss(keras.losses.Loss):
    """Cross entropy of each box edge against the two bins beside it; see `distribution_focal`.

    Shapes: y_true (..., 4) fractions of the image side, y_pred (..., 4, bins) logits.
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str = "distribution_focal_loss"
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=_DTYPE)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of each box, (...)."""
        return distribution_focal(y_true, y_pred)


def _similarity(name: str) -> Callable[..., Tensor]:
    if name in boxes.SIMILARITIES:
        return boxes.SIMILARITIES[name]
    near = difflib.get_close_matches(str(name).lower(), boxes.SIMILARITIES, n=1, cutoff=0.0)
    raise ConfigError(
        f"There is no box similarity {name!r}; did you mean {near[0]!r}? "
        f"The names are {', '.join(boxes.SIMILARITIES)}."
    )


def _require(holds: bool, argument: str, rule: str, value: float) -> None:
    if not holds:
        raise ConfigError(f"{argument} must be {rule}, but is {value}.")
