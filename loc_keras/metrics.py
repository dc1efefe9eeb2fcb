"""Streaming metrics of localization: thin Keras shells over pure functions of one batch.

Every metric is a weighted mean over images with a float32 state: any batches give what one pass
gives. A weight of 0 leaves its image out, no weights are weights of 1, and 0 is their empty mean.

Metrics of the `bbox` output alone take boxes. The joint metrics take the dicts that the model
takes and gives: targets `{"softmax": (N,) integer labels, "bbox": (N, 4)}` and predictions
`{"softmax": (N, K) probabilities, "bbox": (N, 4)}`. Labels (N, K) are shares of the classes, of
which the largest is the true class.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from loc_keras import boxes
from loc_keras.boxes import Tensor
from loc_keras.errors import ConfigError, DataError
from loc_keras.losses import class_index

_PACKAGE = "loc_keras"
_CLASS, _BBOX = "softmax", "bbox"


def hits_iou(boxes_true: Tensor, boxes_pred: Tensor, threshold: float) -> Tensor:
    """Whether the IoU of paired boxes is at least `threshold`: (..., 4) -> bool (...)."""
    return boxes.iou(boxes_true, boxes_pred) >= threshold


@keras.saving.register_keras_serializable(package=_PACKAGE)
def hits_top_k(labels: Tensor, probabilities: Tensor, k: int) -> Tensor:
    """Whether the true class is among the k most probable ones, at least 1: bool (N,).

    Of classes with equal probability the one with the smaller index comes first, as for argmax, so
    a constant prediction is right for k classes only. A true class that is NaN, or a label outside
    0..K - 1, is never a hit. Labels are (N,) or (N, 1), any numeric dtype, or shares of the classes
    (N, K); probabilities (N, K), or any scores that rise with them.

    Raises:
        DataError: The shapes do not match.
    """
    probabilities = ops.convert_to_tensor(probabilities)
    labels = ops.expand_dims(class_index(labels, probabilities), axis=-1)
    num_classes = probabilities.shape[-1]
    index = ops.arange(num_classes, dtype="int32")
    is_label = ops.equal(index, labels)
    own = ops.where(is_label, probabilities, ops.zeros_like(probabilities))
    own = ops.sum(own, axis=-1, keepdims=True)
    # Counted this way round, a comparison with NaN never helps the true class.
    behind = (probabilities < own) | ((probabilities == own) & (index >= labels))
    ahead = ops.sum(ops.cast(ops.logical_not(behind), "int32"), axis=-1)
    return ops.logical_and(ahead < min(k, num_classes), ops.any(is_label, axis=-1))


class WeightedMean(keras.metrics.Metric, ABC):
    """Mean of one number per image under sample weights; the base of every metric here."""

    arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments beside the name that a subclass keeps as attributes, for saving."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.total = self.add_variable((), "zeros", dtype="float32", name="total")
        self.weight = self.add_variable((), "zeros", dtype="float32", name="weight")

    @abstractmethod
    def score(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return a number in [0, 1] for each image, (N,)."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Tensor | None = None) -> None:
        """Add a batch with weights (N,) or None."""
        self.accumulate(self.score(y_true, y_pred), sample_weight)

    def accumulate(self, values: Tensor, sample_weight: Tensor | None) -> None:
        """Add one batch: a value per image, and as many weights, one weight, or None."""
        values = ops.reshape(ops.cast(values, "float32"), (-1,))
        if sample_weight is None:
            weights = ops.ones_like(values)
        else:
            weights = ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
            weights = ops.broadcast_to(weights, ops.shape(values))
        # 0 x NaN is NaN; an image without weight must not count, whatever its prediction is.
        weighted = ops.where(weights == 0, ops.zeros_like(values), values * weights)
        self.total.assign_add(ops.sum(weighted))
        self.weight.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        """Return the mean so far, a float32 scalar; 0 before the first weight."""
        return ops.divide_no_nan(self.total, self.weight)

    def get_config(self) -> dict[str, Any]:
        """Return every argument, for saving."""
        own = {argument: getattr(self, argument) for argument in self.arguments}
        return {"name": self.name} | own


@keras.saving.register_keras_serializable(package=_PACKAGE)
class MeanIoU(WeightedMean):
    """Mean intersection over union of paired boxes, in [0, 1]."""

    def __init__(self, name: str = "iou") -> None:
        super().__init__(name=name)

    def score(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the IoU of boxes (N, 4)."""
        return boxes.iou(y_true, y_pred)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class IoUAccuracy(WeightedMean):
    """Share of boxes with an IoU of at least `threshold`, in (0, 1], else ConfigError.

    The name is by default `acc` and the threshold in percent, such as `acc50`.
    """

    arguments = ("threshold",)

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        self.threshold = _iou_threshold(threshold)
        super().__init__(name=name or f"acc{100 * self.threshold:g}")

    def score(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return whether boxes (N, 4) hit."""
        return hits_iou(y_true, y_pred, self.threshold)


class LocalizationMetric(WeightedMean):
    """Base of the joint metrics: a subclass scores each image from its class and its box."""

    def update_state(
        self,
        y_true: Mapping[str, Tensor],
        y_pred: Mapping[str, Tensor],
        sample_weight: Tensor | Mapping[str, Tensor] | None = None,
    ) -> None:
        """Add a batch; of weights for each output those of `bbox` count, DataError without."""
        if isinstance(sample_weight, Mapping):
            if _BBOX not in sample_weight:
                raise DataError(
                    f"The sample weights of {self.name} need the key {_BBOX!r}, but have only "
                    f"{sorted(sample_weight)}; add it, or give one array for all outputs."
                )
            sample_weight = sample_weight[_BBOX]
        super().update_state(y_true, y_pred, sample_weight)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class TopKLocalization(LocalizationMetric):
    """Share of images with the true class among the k most probable and a box that hits.

    Top-1 and Top-5 localization of Russakovsky et al. (2015), as an accuracy; an image has one box
    here, shared by its classes. Ties are broken as `hits_top_k` says. A hit has an IoU of at least
    the threshold, in (0, 1]; k is at least 1, else ConfigError. The name is by default `top1_loc`
    for k = 1.
    """

    arguments = ("k", "threshold")

    def __init__(self, k: int = 1, threshold: float = 0.5, name: str | None = None) -> None:
        if k < 1:
            raise ConfigError(f"k must be 1 or more, the number of classes that count, but is {k}.")
        self.k = int(k)
        self.threshold = _iou_threshold(threshold)
        super().__init__(name=name or f"top{k}_loc")

    def score(self, y_true: Mapping[str, Tensor], y_pred: Mapping[str, Tensor]) -> Tensor:
        """Return whether class and box are right, bool (N,)."""
        box_hits = hits_iou(y_true[_BBOX], y_pred[_BBOX], self.threshold)
        class_hits = hits_top_k(y_true[_CLASS], y_pred[_CLASS], self.k)
        # Flat, so that a leading shape of (N, 1) cannot broadcast against (N,).
        return ops.logical_and(ops.reshape(box_hits, (-1,)), class_hits)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class GTKnownLocalization(LocalizationMetric):
    """Share of images whose box hits when the true class is given: the box alone counts.

    A hit has an IoU of at least the threshold, in (0, 1], else ConfigError.
    """

    arguments = ("threshold",)

    def __init__(self, threshold: float = 0.5, name: str = "gt_known_loc") -> None:
        self.threshold = _iou_threshold(threshold)
        super().__init__(name=name)

    def score(self, y_true: Mapping[str, Tensor], y_pred: Mapping[str, Tensor]) -> Tensor:
        """Return whether the box is right, bool (N,)."""
        return hits_iou(y_true[_BBOX], y_pred[_BBOX], self.threshold)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class MaxBoxAccV2(LocalizationMetric):
    """Mean over IoU thresholds, each in (0, 1], of the share of boxes that hit (Choe et al. 2020).

    The paper also takes the best threshold of a score map; a model that gives one box has none.
    ConfigError where there is no threshold, or one is out of range.
    """

    arguments = ("thresholds",)

    def __init__(
        self, thresholds: Sequence[float] = (0.3, 0.5, 0.7), name: str = "max_box_acc_v2"
    ) -> None:
        if len(thresholds) == 0:
            raise ConfigError(f"{name} needs at least one IoU threshold, but thresholds is empty.")
        self.thresholds = tuple(_iou_threshold(threshold) for threshold in thresholds)
        super().__init__(name=name)

    def score(self, y_true: Mapping[str, Tensor], y_pred: Mapping[str, Tensor]) -> Tensor:
        """Return the share of thresholds that each box reaches, (N,)."""
        overlap = ops.expand_dims(boxes.iou(y_true[_BBOX], y_pred[_BBOX]), axis=-1)
        thresholds = ops.convert_to_tensor(self.thresholds, dtype=overlap.dtype)
        return ops.mean(ops.cast(overlap >= thresholds, "float32"), axis=-1)


def class_metrics() -> list[keras.metrics.Metric]:
    """Return new metrics of the `softmax` output: accuracy, of labels as `hits_top_k` takes."""
    return [keras.metrics.MeanMetricWrapper(hits_top_k, name="accuracy", dtype="float32", k=1)]


def bbox_metrics() -> list[keras.metrics.Metric]:
    """Return new metrics of the `bbox` output: iou, acc50, acc75 and acc90."""
    return [MeanIoU(), IoUAccuracy(0.5), IoUAccuracy(0.75), IoUAccuracy(0.9)]


def joint_metrics(num_classes: int) -> list[LocalizationMetric]:
    """Return new joint metrics: top1_loc, top5_loc, gt_known_loc and max_box_acc_v2.

    With fewer than 5 classes, top5_loc counts all of them and so equals gt_known_loc.
    """
    return [
        TopKLocalization(1),
        TopKLocalization(min(5, num_classes), name="top5_loc"),
        GTKnownLocalization(),
        MaxBoxAccV2(),
    ]


def _iou_threshold(threshold: float) -> float:
    if not 0 < threshold <= 1:
        raise ConfigError(f"An IoU threshold must be above 0 and at most 1, but is {threshold}.")
    return float(threshold)
