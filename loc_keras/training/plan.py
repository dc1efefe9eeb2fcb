"""How long and how to train, and what it left behind, as plain values."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras

from loc_keras.errors import TrainingError
from loc_keras.models.assembly import SMALLEST_SIDE
from loc_keras.models.body import body_groups, body_layers

SMALL_BATCH = 16
"""Below this many images batch statistics get noisy and batch normalisation loses accuracy (Wu and
He 2018, "Group Normalization", figure 1)."""


@dataclass(frozen=True)
class FineTune:
    """How a body that knows something already is trained on.

    Attributes:
        freeze_epochs: epochs in which only the heads learn.
        body_rate: learning rate of the body's last stage as a share of the heads'.
        layer_decay: factor on the rate from each stage of the body to the one before it.
        batch_norm: "frozen" keeps the body's batch normalisation as it came, "train" adapts it.
    """

    freeze_epochs: int = 0
    body_rate: float = 1.0
    layer_decay: float = 1.0
    batch_norm: Literal["train", "frozen"] = "train"


@dataclass(frozen=True)
class Phase:
    """Epochs with one set of trainable layers.

    Attributes:
        first: first epoch, from 0.
        end: epoch after the last one.
        body_learns: whether the body is trained, too.
    """

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


def set_trainable(localizer: keras.Model, *, body_learns: bool, batch_norm: str) -> None:
    """Chooses which of the body's layers learn; a model must be compiled anew after it.

    A batch normalisation that does not learn also takes its stored statistics instead of those of
    the batch, and leaves them as they are: Keras's rule for `trainable = False`.
    """
    for layer in body_layers(localizer):
        frozen = batch_norm == "frozen" and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = body_learns and not frozen


@contextmanager
def all_trainable(localizer: keras.Model) -> Iterator[None]:
    """Shows every layer of the body as trainable for a while, such as to save the model.

    What is saved carries the mark, and a layer that rested here would silently rest in whatever the
    next user trains.
    """
    marks = [(layer, layer.trainable) for layer in body_layers(localizer)]
    for layer, _ in marks:
        layer.trainable = True
    try:
        yield
    finally:
        for layer, mark in marks:
            layer.trainable = mark


def rate_factors(
    localizer: keras.Model, *, body_rate: float, layer_decay: float
) -> dict[str, float]:
    """Factors on the learning rate of the body's variables, by variable path.

    The last stage has `body_rate`, each stage before it `layer_decay` times that of the next
    (Howard and Ruder 2018, "Universal Language Model Fine-tuning", section 3.2, discriminative
    fine-tuning). Factors of 1 are left out.
    """
    factors: dict[str, float] = {}
    for depth, group in enumerate(reversed(body_groups(localizer))):
        factor = body_rate * layer_decay**depth
        for layer in group:
            factors |= {variable.path: factor for variable in layer.trainable_variables}
    return {path: factor for path, factor in factors.items() if factor != 1.0}


def small_batch_warning(batch_size: int, fine_tune: FineTune) -> str | None:
    """One sentence where a small batch would spoil the statistics that came with the weights."""
    if batch_size >= SMALL_BATCH or fine_tune.batch_norm == "frozen":
        return None
    return (
        f"train.batch_size {batch_size} gives noisy batch statistics, which overwrite those that "
        f"came with the weights; set train.fine_tune.batch_norm to frozen, or batch_size to "
        f"{SMALL_BATCH} or more."
    )


@dataclass(frozen=True)
class SizeStage:
    """A part of the training on images of one size.

    Attributes:
        share: Part of all steps, > 0..1.
        side: Longer side of the images in pixels.
    """

    share: float
    side: int


def refuse_wrong_sizes(stages: Sequence[SizeStage], image_shape: tuple[int, ...]) -> None:
    """Refuses stages that do not fit images of (height, width, ...) pixels.

    Raises:
        TrainingError: If a stage does not make the images smaller, or makes them too small.
    """
    height, width = image_shape[:2]
    for number, stage in enumerate(stages):
        least = -(-SMALLEST_SIDE * max(height, width) // min(height, width))
        if not least <= stage.side < max(height, width):
            raise TrainingError(
                f"train.progressive_size[{number}].side is {stage.side} px, and the images have "
                f"{height} x {width} px: give {least} to {max(height, width) - 1}."
            )


def size_at(
    step: int, stages: Sequence[SizeStage], total_steps: int, image_size: tuple[int, int]
) -> tuple[int, int] | None:
    """Size of the images in a step.

    Args:
        step: Steps that were taken before, from 0.
        stages: From the beginning of the training on; what they leave is of full size.
        total_steps: Steps of the whole training.
        image_size: (height, width) in pixels of the images at full size.

    Returns:
        (height, width) in pixels, with the ratio of the image's sides but for rounding, or None
        for full size.
    """
    end = 0.0
    for stage in stages:
        end += stage.share
        if step < round(end * total_steps):
            height, width = (round(side * stage.side / max(image_size)) for side in image_size)
            return height, width
    return None


@dataclass(frozen=True)
class FitPlan:
    """How long and how to train.

    Attributes:
        epochs: number of epochs.
        steps_per_epoch: steps in each.
        batch_size: images a step, for the count of images per second.
        val_images: number of validation images, for the standard error of their figures.
        learning_rate: highest learning rate.
        optimizer: "adamw" or "adam".
        weight_decay: its strength.
        schedule: "cosine", "constant" or "one_cycle".
        warmup_epochs: epochs of linear rise.
        gradient_clip_norm: largest norm of the gradient, or None.
        ema: momentum of the weights' moving average, or None.
        accumulate: batches whose gradients are averaged into one update.
        jit_compile: whether XLA compiles the step.
        monitor: figure that chooses the best checkpoint.
        early_stopping_patience: epochs without a better monitor before stopping, or None.
        validate_every_steps: steps between validations within an epoch, or None.
        profile_steps: first and last step, from 1, that the profiler records, or None.
        size_stages: first parts of the training on smaller images.
        fine_tune: how a body that starts from trained weights is trained on.
        background: index of the class of images without an object, or None where all show one.
        sync_batch_norm: whether batches are normalised by the statistics of all devices.
        checkpoint_every_steps: steps between checkpoints; None for those at the ends of epochs.
        keep_checkpoints: how many are kept.
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    val_images: int
    learning_rate: float
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    gradient_clip_norm: float | None = None
    ema: float | None = None
    accumulate: int = 1
    jit_compile: bool = False
    monitor: str = "val_score"
    early_stopping_patience: int | None = None
    validate_every_steps: int | None = None
    profile_steps: tuple[int, int] | None = None
    size_stages: tuple[SizeStage, ...] = ()
    fine_tune: FineTune = field(default_factory=FineTune)
    background: int | None = None
    sync_batch_norm: bool = False
    checkpoint_every_steps: int | None = None
    keep_checkpoints: int = 2


@dataclass(frozen=True)
class FitResult:
    """What fitting left behind: where the models lie and how the run went."""

    best_path: Path
    last_path: Path
    best_epoch: int
    history: list[dict[str, Any]]
