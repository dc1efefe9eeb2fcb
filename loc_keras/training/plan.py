"""The plan of a training: its settings, its phases of fine-tuning, its stages of image size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from loc_keras.config.train import FineTuneConfig, LossConfig, SizeStageConfig, TrainConfig
from loc_keras.data.dataset import LocalizationData
from loc_keras.errors import TrainingError
from loc_keras.models.assembly import SMALLEST_SIDE
from loc_keras.models.body import body_groups, body_layers

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
        """The plan of a training on some data; see `refuse_wrong_sizes`."""
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
    """Chooses which of the body's layers learn; a model must be compiled anew after it.

    A batch normalisation that does not learn also takes its stored statistics instead of those of
    the batch, and leaves them as they are: Keras's rule for `trainable = False`.
    """
    for layer in body_layers(localizer):
        frozen = batch_norm == "frozen" and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = body_learns and not frozen


def rate_factors(localizer: keras.Model, fine_tune: FineTuneConfig) -> dict[str, float]:
    """Factors on the learning rate of the body's variables, by variable path.

    The last stage has `body_rate`, each stage before it `layer_decay` times that of the next
    (Howard and Ruder 2018, "Universal Language Model Fine-tuning", section 3.2, discriminative
    fine-tuning). Factors of 1 are left out.
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
    """Size (height, width) in pixels of the images in a step, from 0; None for full size.

    Stages count from the beginning of the training; what they leave is of full size. The ratio of
    the image's sides is kept but for rounding.
    """
    end = 0.0
    for stage in stages:
        end += stage.share
        if step < round(end * total_steps):
            height, width = (round(side * stage.side / max(image_size)) for side in image_size)
            return height, width
    return None
