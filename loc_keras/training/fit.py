"""Fitting: compile, callbacks and the loop, from plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from loc_keras.data.localization_data import HeldOutShare, TrainStream
from loc_keras.errors import TrainingError
from loc_keras.training.batch_statistics import AveragedStatistics, synchronize
from loc_keras.training.callbacks import (
    Checkpoints,
    EpochFigures,
    FiniteLossGuard,
    HistoryFile,
    WithinEpochValidation,
    write_rows,
)
from loc_keras.training.distribution import ALONE, Distribution
from loc_keras.training.measure import answer_function, collect_answers, figures
from loc_keras.training.model import (
    TrainingModel,
    compile_localizer,
    training_model,
)
from loc_keras.training.optimizer import learning_rate_schedule, make_optimizer
from loc_keras.training.phases import (
    FineTune,
    Phase,
    rate_factors,
    set_trainable,
    training_phases,
)
from loc_keras.training.progress import SILENT, progress_style
from loc_keras.training.targets import with_targets
from loc_keras.training.tensorboard import step_scalars


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
        schedule: "cosine" or "constant".
        warmup_epochs: epochs of linear rise.
        gradient_clip_norm: largest norm of the gradient, or None.
        ema: momentum of the weights' moving average, or None.
        jit_compile: whether XLA compiles the step.
        monitor: figure that chooses the best checkpoint.
        early_stopping_patience: epochs without a better monitor before stopping, or None.
        validate_every_steps: steps between validations within an epoch, or None.
        fine_tune: how a body that starts from trained weights is trained on.
        background: index of the class of images without an object, or None where all show one.
        sync_batch_norm: whether batches are normalised by the statistics of all devices.
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
    jit_compile: bool = False
    monitor: str = "val_score"
    early_stopping_patience: int | None = None
    validate_every_steps: int | None = None
    fine_tune: FineTune = field(default_factory=FineTune)
    background: int | None = None
    sync_batch_norm: bool = False


@dataclass(frozen=True)
class FitResult:
    """What fitting left behind: where the models lie and how the run went."""

    best_path: Path
    last_path: Path
    best_epoch: int
    history: list[dict[str, Any]]


def compiled_training_model(
    localizer: keras.Model, plan: FitPlan, losses: Mapping[str, Any], phase: Phase | None = None
) -> TrainingModel:
    """Wraps and compiles a localizer for a phase of a plan.

    Args:
        localizer: the model; which of its layers are trainable is set here.
        plan: how to train.
        losses: as in `compile_localizer`.
        phase: the part of the plan; None for a plan with one phase.
    """
    phase = phase or Phase(0, plan.epochs, body_learns=True)
    tune = plan.fine_tune
    set_trainable(localizer, body_learns=phase.body_learns, batch_norm=tune.batch_norm)
    synchronize(localizer, plan.sync_batch_norm)
    rate = learning_rate_schedule(
        peak=plan.learning_rate,
        # The heads' own phase ends at full speed: what they learn in it is but a start.
        schedule=plan.schedule if phase.body_learns else "constant",
        warmup_steps=round(min(plan.warmup_epochs, phase.epochs) * plan.steps_per_epoch),
        total_steps=phase.epochs * plan.steps_per_epoch,
    )
    optimizer = make_optimizer(
        plan.optimizer,
        learning_rate=rate,
        weight_decay=plan.weight_decay,
        clip_norm=plan.gradient_clip_norm,
        ema=plan.ema,
        rate_factors=rate_factors(
            localizer, body_rate=tune.body_rate, layer_decay=tune.layer_decay
        ),
    )
    model = training_model(localizer)
    compile_localizer(model, optimizer=optimizer, jit_compile=plan.jit_compile, **losses)
    return model


def fit_localizer(
    localizer: keras.Model,
    *,
    train: TrainStream,
    val: tf.data.Dataset,
    plan: FitPlan,
    losses: Mapping[str, Any],
    folder: Path,
    extra_callbacks: Sequence[keras.callbacks.Callback] = (),
    devices: Distribution = ALONE,
    val_share: HeldOutShare | None = None,
) -> FitResult:
    """Trains a localizer and leaves its checkpoints, history and logs in the run folder.

    Args:
        localizer: the model, made within the scope of the devices; its weights are changed in
            place.
        train: gives endless batches of (images, targets) from a global step on.
        val: finite batches of the same.
        plan: how long and how.
        losses: arguments of `compile_localizer` that choose and weigh the losses.
        folder: the run folder; gets best.keras, last.keras, history.csv and tensorboard/.
        extra_callbacks: come after ours, so that they see all figures in the logs.
        devices: what trains; the figures in the logs are those of all devices together.
        val_share: gives a share of the same images as `val`; needed for several devices.

    Raises:
        TrainingError: if a step's loss is not finite, or the monitor never was.
    """
    checkpoints = Checkpoints(localizer, folder, plan.monitor, plan.val_images)
    history = HistoryFile(folder / "history.csv")
    callbacks = [
        *_shared_statistics(localizer, devices),
        EpochFigures(plan.batch_size),
        FiniteLossGuard(checkpoints.newest),
        *(_within_epoch(localizer, val, plan, checkpoints, folder) if devices.is_chief else ()),
        checkpoints,
        history,
        *(_board(folder) if devices.is_chief else ()),
        *extra_callbacks,
    ]
    asked = partial(with_targets, background=plan.background is not None)
    for phase in training_phases(plan.epochs, plan.fine_tune.freeze_epochs):
        with devices.scope():
            model = compiled_training_model(localizer, plan, losses, phase)
        prepare = partial(asked, names=list(model.output))
        model.fit(
            devices.train_batches(train, phase.first * plan.steps_per_epoch, prepare),
            validation_data=devices.held_out_batches(val, val_share, prepare),
            validation_steps=devices.held_out_steps(val),
            initial_epoch=phase.first,
            epochs=phase.end,
            steps_per_epoch=plan.steps_per_epoch,
            callbacks=[*_averaging(plan), *callbacks, *_early_stopping(plan, phase)],
            shuffle=False,
            verbose=progress_style() if devices.is_chief else SILENT,
        )
    if checkpoints.best_epoch is None:
        raise TrainingError(
            f"{plan.monitor} was a number in no epoch, so there is no best model; "
            f"{folder / 'history.csv'} shows what happened. Lower train.learning_rate."
        )
    return FitResult(
        best_path=checkpoints.best_path,
        last_path=checkpoints.last_path,
        best_epoch=checkpoints.best_epoch,
        history=history.rows,
    )


def _within_epoch(
    localizer: keras.Model,
    val: tf.data.Dataset,
    plan: FitPlan,
    checkpoints: Checkpoints,
    folder: Path,
) -> list[keras.callbacks.Callback]:
    """Validation between the ends of epochs: rows in history_steps.csv, scalars, checkpoints.

    It measures the weights as they stand and no losses: with a moving average or with `val_loss`
    as the monitor, the best model is chosen at the ends of epochs alone.
    """
    if plan.validate_every_steps is None:
        return []
    rows: list[dict[str, Any]] = []
    write_scalars = step_scalars(folder / "tensorboard")

    def report(step: int, epoch: int, found: Mapping[str, float]) -> None:
        rows.append({"step": step, "epoch": epoch + 1, **found})
        write_rows(folder / "history_steps.csv", rows)
        write_scalars(step, found)
        if plan.ema is None:
            checkpoints.offer(found, epoch)

    answer = answer_function(localizer)

    def measure() -> Mapping[str, float]:
        return figures(collect_answers(answer, val), plan.background)

    return [WithinEpochValidation(plan.validate_every_steps, measure, report)]


def _board(folder: Path) -> list[keras.callbacks.Callback]:
    return [keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False)]


def _shared_statistics(
    localizer: keras.Model, devices: Distribution
) -> list[keras.callbacks.Callback]:
    """First of all, so that validation and saving see what all devices have in common."""
    if devices.strategy is None:
        return []
    return [AveragedStatistics(localizer, devices.strategy)]


def _averaging(plan: FitPlan) -> list[keras.callbacks.Callback]:
    """First in the list, so that all others see the averaged weights at an epoch's end."""
    if plan.ema is None:
        return []
    return [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]


def _early_stopping(plan: FitPlan, phase: Phase) -> list[keras.callbacks.Callback]:
    """Stops when all learns; while the body rests, the heads have nothing to lose by waiting."""
    if plan.early_stopping_patience is None or not phase.body_learns:
        return []
    mode = "min" if plan.monitor.endswith("loss") else "max"
    return [
        keras.callbacks.EarlyStopping(
            plan.monitor, patience=plan.early_stopping_patience, mode=mode, verbose=1
        )
    ]
