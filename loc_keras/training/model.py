"""The model that is compiled: a localizer, with its losses, measures and targets of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from loc_keras.config.train import LossConfig
from loc_keras.data.resize import are_empty
from loc_keras.losses import BoxLoss, ClassLoss, DistributionFocalLoss
from loc_keras.metrics import bbox_metrics, class_metrics, joint_metrics
from loc_keras.models.heads import SIDES_LAYER
from loc_keras.training.batch_norm import fuse_batch_norms, synchronize
from loc_keras.training.optimizer import learning_rate_schedule, make_optimizer
from loc_keras.training.plan import FitPlan, Phase, rate_factors, set_trainable

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

CLASS_OUTPUT = "softmax"
SIDES_OUTPUT = "bbox_distribution"
"""Name of the extra output, present in training only, whose logits the focal loss needs."""


class LogVariances(keras.layers.Layer):
    """Holds the logarithm of the noise's variance in each term: one trained number a loss."""

    def __init__(self, terms: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.of = {
            term: self.add_weight(shape=(), initializer="zeros", name=f"{term}_log_variance")
            for term in terms
        }


class UncertainLoss(keras.losses.Loss):
    """A loss L >= 0 divided by the variance of its noise, with the price of claiming much noise.

    It is exp(-s) L + s / 2 with s = log(variance), as Kendall, Gal and Cipolla 2018 have it
    ("Multi-Task Learning Using Uncertainty to Weigh Losses", equation 10) but for their factor 1/2
    on regressions, which only shifts s. Where s follows, the term weighs 1 / (2 L): all terms pull
    alike, however large they are. At the start, with s = 0, it is the loss itself. A loss that
    reaches 0 would drive s to minus infinity; `FLOOR` is as low as it counts.
    """

    FLOOR = -5.0
    """Weights grow to e^5, about 150, at most."""

    def __init__(self, loss: keras.losses.Loss, log_variance: Any) -> None:
        super().__init__(name=loss.name, reduction=loss.reduction, dtype=loss.dtype)
        self.loss = loss
        self.log_variance = log_variance

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Tensor:
        """The loss of a batch, reduced as the inner loss is."""
        loss = self.loss(y_true, y_pred, sample_weight)
        log_variance = keras.ops.maximum(self.log_variance, self.FLOOR)
        return keras.ops.exp(-log_variance) * loss + log_variance / 2


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
    if any(layer.name == SIDES_LAYER for layer in localizer.layers):
        outputs[SIDES_OUTPUT] = localizer.get_layer(SIDES_LAYER).output
    return TrainingModel(localizer.input, outputs, name=f"{localizer.name}_training")


def compiled_training_model(
    localizer: keras.Model, plan: FitPlan, phase: Phase | None = None, *, rate: float = 1.0
) -> TrainingModel:
    """Wraps and compiles a localizer for a phase of a plan; None: it has but one.

    Which of the localizer's layers learn is set here. `rate` is a factor on the learning rate.
    """
    train = plan.train
    phase = phase or Phase(0, train.epochs, body_learns=True)
    set_trainable(localizer, phase.body_learns, train.fine_tune.batch_norm)
    synchronize(localizer, train.sync_batch_norm)
    fuse_batch_norms(localizer)
    schedule = learning_rate_schedule(
        peak=train.learning_rate * rate,
        # The heads' own phase ends at full speed: what they learn in it is but a start.
        schedule=train.schedule if phase.body_learns else "constant",
        warmup_steps=round(min(train.warmup_epochs, phase.epochs) * plan.steps_per_epoch),
        total_steps=phase.epochs * plan.steps_per_epoch,
    )
    optimizer = make_optimizer(
        train, schedule=schedule, rate_factors=rate_factors(localizer, train.fine_tune)
    )
    model = training_model(localizer)
    # `auto` is off: XLA slows the step down on a CPU (`docs/experiments.md`).
    compile_localizer(model, optimizer, plan.loss, jit_compile=train.xla == "on")
    return model


def compile_localizer(
    model: TrainingModel,
    optimizer: keras.optimizers.Optimizer,
    loss: LossConfig,
    *,
    jit_compile: bool = False,
) -> None:
    """Compiles with one loss per output and every measure of a localizer."""
    losses: dict[str, keras.losses.Loss] = {
        "softmax": ClassLoss(label_smoothing=loss.label_smoothing),
        "bbox": BoxLoss(loss.bbox, smooth_l1_weight=loss.smooth_l1_weight),
    }
    weights = {"softmax": loss.softmax_weight, "bbox": loss.bbox_weight}
    metrics = {"softmax": class_metrics(), "bbox": bbox_metrics()}
    if SIDES_OUTPUT in model.output:
        losses[SIDES_OUTPUT] = DistributionFocalLoss()
        weights[SIDES_OUTPUT] = loss.distribution_weight
        metrics[SIDES_OUTPUT] = []
    if loss.balance == "uncertainty":
        model.variances = LogVariances(tuple(losses), name="loss_balance")
        variances = model.variances.of
        losses = {name: UncertainLoss(term, variances[name]) for name, term in losses.items()}
    model.joint = joint_metrics(model.output["softmax"].shape[-1])
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


def with_targets(
    dataset: tf.data.Dataset, names: Sequence[str], *, background: bool
) -> tf.data.Dataset:
    """Gives every output in `names` its target, and its weights where some images show no object.

    Batches are (images, targets), perhaps with the weight of each image for a third. With a
    `background`, a class of images without an object, they get `box_weights`, times these.
    """

    def ask(
        images: tf.Tensor, targets: Mapping[str, tf.Tensor], weights: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, ...]:
        asked = with_training_targets(targets, names)
        if background:
            shown = box_weights(targets["bbox"], names)
            if weights is not None:
                shown = {name: value * weights for name, value in shown.items()}
            return images, asked, shown
        if weights is not None:
            return images, asked, dict.fromkeys(names, weights)
        return images, asked

    return dataset.map(ask)


def box_weights(boxes: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
    """Weight (B,) of each image in each output: 0 for the box where that is empty, else 1.

    Keras divides the weighted sum of a batch by its number of images, not by its weights. So an
    image with an object counts as much as it does among as many images that all show one, and the
    box loss of a batch without any object is 0. Boxes are float32 (B, 4).
    """
    shown = 1.0 - tf.cast(are_empty(boxes), tf.float32)
    return {name: tf.ones_like(shown) if name == CLASS_OUTPUT else shown for name in names}


def as_batch(
    images: tf.Tensor, targets: Mapping[str, tf.Tensor], names: Sequence[str], *, background: bool
) -> tf.data.Dataset:
    """One batch as a data set of that batch alone, as `with_targets`."""
    batch = tf.data.Dataset.from_tensors((images, dict(targets)))
    return with_targets(batch, names, background=background).cache()
