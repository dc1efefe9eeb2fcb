"""What a training compiles: plan, phases and sizes, the model with losses; how it is measured."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

from loc_keras.boxes import Tensor
from loc_keras.config.train import FineTuneConfig, LossConfig, SizeStageConfig, TrainConfig
from loc_keras.data.dataset import LocalizationData
from loc_keras.data.resize import are_empty
from loc_keras.errors import TrainingError
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.losses import BoxLoss, ClassLoss, DistributionFocalLoss
from loc_keras.metrics import bbox_metrics, class_metrics, joint_metrics
from loc_keras.models.assembly import SMALLEST_SIDE
from loc_keras.models.body import body_groups, body_layers
from loc_keras.models.heads import SIDES_LAYER
from loc_keras.training.batch_norm import fuse_batch_norms, synchronize
from loc_keras.training.optimizer import learning_rate_schedule, make_optimizer

if TYPE_CHECKING:
    from loc_keras.data.dataset import SplitPictures

SMALL_BATCH = 16
"""Below this many images batch statistics get noisy and batch normalisation loses accuracy (Wu and
He 2018, "Group Normalization", figure 1)."""


@dataclass(frozen=True)
class FitPlan:
    """How long and how to train: sections of the config, and what the data decide.

    `val_images` counts for the standard error of figures; `background` is the index of the class of
    images without an object, or None where all show one.
    """

    train: TrainConfig
    loss: LossConfig
    steps_per_epoch: int
    val_images: int
    background: int | None = None

    @classmethod
    def for_data(cls, train: TrainConfig, loss: LossConfig, data: LocalizationData) -> "FitPlan":
        """The plan of a training on some data; TrainingError as of `refuse_wrong_sizes`."""
        refuse_wrong_sizes(train.progressive_size, data.image_shape)
        steps = train.steps_per_epoch or data.steps_per_epoch
        return cls(train, loss, steps, data.sizes["val"], data.background)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.train.epochs * self.steps_per_epoch

    def with_train(self, **settings: Any) -> "FitPlan":
        """A plan with other settings of the section `train`, which are not validated."""
        return replace(self, train=self.train.model_copy(update=settings))


@dataclass(frozen=True)
class FitResult:
    """What fitting left behind: where the models lie and how the run went."""

    best_path: Path
    last_path: Path
    best_epoch: int
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Phase:
    """Epochs from the first, from 0, to before the end, and whether the body learns, too."""

    first: int
    end: int
    body_learns: bool

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.end - self.first


def training_phases(epochs: int, freeze_epochs: int) -> list[Phase]:
    """Splits a training into the epochs with a resting body and those in which all learns."""
    rest = min(freeze_epochs, epochs)
    phases = [Phase(0, rest, body_learns=False), Phase(rest, epochs, body_learns=True)]
    return [phase for phase in phases if phase.epochs]


def set_trainable(localizer: keras.Model, body_learns: bool, batch_norm: str) -> None:
    """Chooses which of the body's layers learn, before a model is compiled.

    A frozen batch normalisation keeps its stored statistics and takes them in place of the batch's.
    """
    for layer in body_layers(localizer):
        frozen = batch_norm == "frozen" and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = body_learns and not frozen


def rate_factors(localizer: keras.Model, fine_tune: FineTuneConfig) -> dict[str, float]:
    """Factors on the learning rate of the body's variables, by path; those of 1 are left out.

    The last stage has `body_rate`, each before it `layer_decay` times that of the next (Howard and
    Ruder 2018, "Universal Language Model Fine-tuning", section 3.2, discriminative fine-tuning).
    """
    factors: dict[str, float] = {}
    for depth, group in enumerate(reversed(body_groups(localizer))):
        factor = fine_tune.body_rate * fine_tune.layer_decay**depth
        for layer in group:
            factors |= {variable.path: factor for variable in layer.trainable_variables}
    return {path: factor for path, factor in factors.items() if factor != 1.0}


def small_batch_warning(train: TrainConfig) -> str | None:
    """One sentence where a small batch would spoil the statistics that came with the weights."""
    if train.batch_size >= SMALL_BATCH or train.fine_tune.batch_norm == "frozen":
        return None
    return (
        f"train.batch_size {train.batch_size} gives noisy batch statistics, which overwrite those "
        f"that came with the weights; set train.fine_tune.batch_norm to frozen, or batch_size to "
        f"{SMALL_BATCH} or more."
    )


def refuse_wrong_sizes(stages: Sequence[SizeStageConfig], image_shape: tuple[int, ...]) -> None:
    """Raises TrainingError for stages that do not make images smaller, or make them too small."""
    height, width = image_shape[:2]
    for number, stage in enumerate(stages):
        least = -(-SMALLEST_SIDE * max(height, width) // min(height, width))
        if not least <= stage.side < max(height, width):
            raise TrainingError(
                f"train.progressive_size[{number}].side is {stage.side} px, and the images have "
                f"{height} x {width} px: give {least} to {max(height, width) - 1}."
            )


def size_at(
    step: int, stages: Sequence[SizeStageConfig], total_steps: int, image_size: tuple[int, int]
) -> tuple[int, int] | None:
    """Size (height, width) in px of the images in a step, from 0; None for full size.

    Sides keep their ratio but for rounding; after the stages images are of full size.
    """
    end = 0.0
    for stage in stages:
        end += stage.share
        if step < round(end * total_steps):
            height, width = (round(side * stage.side / max(image_size)) for side in image_size)
            return height, width
    return None


CLASS_OUTPUT = "softmax"
SIDES_OUTPUT = "bbox_distribution"  # In training alone: the logits for the focal loss.


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
    alike. At the start, with s = 0, it is the loss itself. A loss that reaches 0 would drive s to
    minus infinity; `FLOOR` is as low as it counts.
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
    """(height, width) in px of images in training; None: as they are. A change needs a new step."""

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Any:
        """Runs the network; in training on images of `train_size`."""
        if training and self.train_size is not None:
            inputs = resized(inputs, self.train_size)
        return super().call(inputs, training=training, mask=mask)

    def compute_metrics(
        self, x: Tensor, y: Mapping[str, Tensor], y_pred: Mapping[str, Tensor], sample_weight: Any
    ) -> dict[str, Any]:
        """Updates all measures and gives their results."""
        super().compute_metrics(x, y, y_pred, sample_weight)
        for metric in self.joint:
            metric.update_state(y, y_pred, sample_weight)
        return self.get_metrics_result()


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (N, h, w, C) as float32 (N, height, width, C), averaged over the covered pixels."""
    return ops.image.resize(ops.cast(images, "float32"), size, antialias=True)


def training_model(localizer: keras.Model) -> TrainingModel:
    """Wraps a localizer, sharing its layers; one with the distribution head gets `SIDES_OUTPUT`."""
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
    optimizer = optimizer_of(localizer, plan, phase, rate=rate)
    model = training_model(localizer)
    # `auto` is off: XLA slows the step down on a CPU (`docs/experiments.md`).
    compile_localizer(model, optimizer, plan.loss, jit_compile=train.xla == "on")
    return model


def optimizer_of(
    localizer: keras.Model, plan: FitPlan, phase: Phase, *, rate: float = 1.0
) -> keras.optimizers.Optimizer:
    """The optimizer of a phase of a plan; `rate` is a factor on the learning rate."""
    train = plan.train
    schedule = learning_rate_schedule(
        peak=train.learning_rate * rate,
        # The heads' own phase ends at full speed: what they learn in it is but a start.
        schedule=train.schedule if phase.body_learns else "constant",
        warmup_steps=round(min(train.warmup_epochs, phase.epochs) * plan.steps_per_epoch),
        total_steps=phase.epochs * plan.steps_per_epoch,
    )
    return make_optimizer(
        train, schedule=schedule, rate_factors=rate_factors(localizer, train.fine_tune)
    )


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

    Batches are (images, targets), perhaps with a weight of each image, which `box_weights` are
    times.
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

    Keras divides the weighted sum of a batch by its number of images: so one with an object counts
    the same whatever stands beside it, and the box loss of a batch without any object is 0.
    """
    shown = 1.0 - tf.cast(are_empty(boxes), tf.float32)
    return {name: tf.ones_like(shown) if name == CLASS_OUTPUT else shown for name in names}


def as_batch(
    images: tf.Tensor, targets: Mapping[str, tf.Tensor], names: Sequence[str], *, background: bool
) -> tf.data.Dataset:
    """A data set of one batch, as by `with_targets`."""
    batch = tf.data.Dataset.from_tensors((images, dict(targets)))
    return with_targets(batch, names, background=background).cache()


Answer = Callable[[tf.Tensor], Mapping[str, Any]]
"""Gives the outputs of a localizer for images, at least `softmax` and `bbox`."""


def answer_function(localizer: keras.Model) -> Answer:
    """A compiled call of the localizer in inference mode, traced once for batches of any size."""
    images = tf.TensorSpec((None, *localizer.input_shape[1:]), tf.float32)
    return tf.function(lambda x: localizer(x, training=False), input_signature=[images])


def collect_outcomes(
    answer: Answer,
    dataset: Iterable[tuple[tf.Tensor, Mapping[str, tf.Tensor]]],
    pictures: "SplitPictures | None" = None,
    background: int | None = None,
) -> Outcomes:
    """Asks for every image of a finite data set of at least one batch (images, targets).

    Raw pixels float32 (B, H, W, C) go to `answer`; all outputs that it gives are kept. See
    `outcomes_from` for the rest.
    """
    parts: list[dict[str, np.ndarray]] = []
    for images, targets in dataset:
        outputs = answer(tf.cast(images, tf.float32))
        columns = {**outputs, "labels": targets["softmax"], "bbox_true": targets["bbox"]}
        parts.append({key: keras.ops.convert_to_numpy(value) for key, value in columns.items()})
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return outcomes_from(whole.pop("labels"), whole, pictures, background)


def outcomes_from(
    labels: npt.NDArray[np.integer],
    outputs: Mapping[str, npt.NDArray[Any]],
    pictures: "SplitPictures | None" = None,
    background: int | None = None,
) -> Outcomes:
    """Outcomes of what a model gave, its boxes brought back to the original pictures.

    Outputs hold `softmax` (N, K), `bbox` and `bbox_true` (N, 4); `pictures` are the same images in
    the same order. Without them a px is a side of the model's image, which makes a difference for
    corner errors, and under letterbox for IoUs. `background` is as in `Outcomes`.
    """
    boxes, boxes_pred = outputs["bbox_true"], outputs["bbox"]
    if pictures is None:
        sizes = np.ones((len(labels), 2), np.int32)
        boxes_px, boxes_pred_px = boxes.astype(np.float64), boxes_pred.astype(np.float64)
    else:
        sizes, boxes_pred_px = pictures.sizes, pictures.to_px(boxes_pred)
        if pictures.boxes is None:
            boxes_px = pictures.to_px(boxes)
        else:
            # From the annotations: through a letterbox and back a digit would be lost.
            boxes_px = pictures.boxes.astype(np.float64) * np.tile(sizes[:, ::-1], 2)
    if background is not None:
        boxes_px = np.where((labels != background)[:, None], boxes_px, 0.0)
    return Outcomes(
        labels=labels.astype(np.int32),
        probabilities=outputs["softmax"],
        boxes_px=boxes_px,
        boxes_pred_px=boxes_pred_px,
        sizes=sizes,
        background=background,
        outputs=outputs,
    )
