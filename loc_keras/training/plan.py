"""How long and how to train, and what it left behind, as plain values."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loc_keras.training.phases import FineTune
from loc_keras.training.size_stages import SizeStage


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
