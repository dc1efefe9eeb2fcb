"""The model that is compiled: a localizer with what only training needs around it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from loc_keras.losses import BoxLoss, ClassLoss, DistributionFocalLoss
from loc_keras.metrics import bbox_metrics, class_metrics, joint_metrics
from loc_keras.models.box_heads import SIDES_LAYER
from loc_keras.training.loss_balance import LogVariances, balanced

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

SIDES_OUTPUT = "bbox_distribution"
"""Name of the extra output, seen in training only, whose logits the focal loss needs."""


class TrainingModel(keras.Model):
    """A functional model that also tracks measures which need both outputs at once.

    Keras hands each compiled metric one output; the localization measures join the class of one
    with the box of the other. What users get is the inner localizer, a plain functional model.
    """

    joint: Sequence[keras.metrics.Metric] = ()
    variances: LogVariances | None = None
    train_size: tuple[int, int] | None = None
    """(height, width) in pixels to which images are resized in training alone; None: as they are.

    After a change the training step must be made anew (`make_train_function(force=True)`).
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Any:
        """Runs the network; in training on images of `train_size`."""
        if training and self.train_size is not None:
            inputs = resized(inputs, self.train_size)
        return super().call(inputs, training=training, mask=mask)

    def compute_metrics(
        self, x: Tensor, y: Mapping[str, Tensor], y_pred: Mapping[str, Tensor], sample_weight: Any
    ) -> dict[str, Any]:
        """Updates the measures of each output and the joint ones, and gives all results."""
        super().compute_metrics(x, y, y_pred, sample_weight)
        for metric in self.joint:
            metric.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N, h, w, C) of any dtype as float32 (N, height, width, C).

    Bilinear with the kernel widened where the image shrinks, so that no pixel is passed over.
    Boxes in fractions of the image stay as they are.
    """
    return ops.image.resize(ops.cast(images, "float32"), size, antialias=True)


def training_model(localizer: keras.Model) -> TrainingModel:
    """Wraps a localizer, sharing its layers and weights.

    A localizer with the distribution head gets the third output `bbox_distribution`.
    """
    outputs = dict(localizer.output)
    if has_distribution(localizer):
        outputs[SIDES_OUTPUT] = localizer.get_layer(SIDES_LAYER).output
    return TrainingModel(localizer.input, outputs, name=f"{localizer.name}_training")


def compile_localizer(
    model: TrainingModel,
    *,
    optimizer: keras.optimizers.Optimizer,
    bbox: str = "diou",
    bbox_weight: float = 1.0,
    softmax_weight: float = 1.0,
    distribution_weight: float = 1.0,
    smooth_l1_weight: float = 0.0,
    label_smoothing: float = 0.0,
    balance: str = "fixed",
    jit_compile: bool = False,
) -> None:
    """Compiles with one loss per output and every measure of a localizer.

    Args:
        model: from `training_model`.
        optimizer: a fresh Keras optimizer.
        bbox: similarity of boxes whose complement is the box loss, e.g. "diou".
        bbox_weight: weight of the box loss in the sum.
        softmax_weight: weight of the class loss in the sum.
        distribution_weight: weight of the distribution focal loss; no effect on other heads.
        smooth_l1_weight: weight of a smooth L1 term inside the box loss.
        label_smoothing: share of the class target that is spread over all classes.
        balance: "fixed", or "uncertainty" for terms that also learn how much they count, see
            `loss_balance`; the losses that are told then hold that weight.
        jit_compile: whether XLA compiles the step.
    """
    losses: dict[str, keras.losses.Loss] = {
        "softmax": ClassLoss(label_smoothing=label_smoothing),
        "bbox": BoxLoss(bbox, smooth_l1_weight=smooth_l1_weight),
    }
    weights = {"softmax": softmax_weight, "bbox": bbox_weight}
    metrics: dict[str, list[keras.metrics.Metric]] = {
        "softmax": class_metrics(),
        "bbox": bbox_metrics(),
    }
    if SIDES_OUTPUT in model.output:
        losses[SIDES_OUTPUT] = DistributionFocalLoss()
        weights[SIDES_OUTPUT] = distribution_weight
        metrics[SIDES_OUTPUT] = []
    if balance == "uncertainty":
        model.variances = LogVariances(tuple(losses), name="loss_balance")
        losses = balanced(losses, model.variances)
    num_classes = model.output["softmax"].shape[-1]
    model.joint = joint_metrics(num_classes)
    model.compile(
        optimizer=optimizer,
        loss=losses,
        loss_weights=weights,
        # Weighted, so that an image of weight 0 counts in no measure either.
        weighted_metrics=metrics,
        jit_compile=jit_compile,
    )


def with_training_targets(targets: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Gives every output in `names` its target: the extra output learns from the box as well."""
    source = {SIDES_OUTPUT: "bbox"}
    return {name: targets[source.get(name, name)] for name in names}


def has_distribution(localizer: keras.Model) -> bool:
    """Tells whether the localizer has the distribution head."""
    return any(layer.name == SIDES_LAYER for layer in localizer.layers)
