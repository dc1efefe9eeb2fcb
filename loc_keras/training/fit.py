"""Fitting: callbacks and the loop, from plain values; it goes on from the newest checkpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from loc_keras.data.dataset import HeldOutShare, TrainStream
from loc_keras.errors import TrainingError
from loc_keras.training.callbacks import (
    SLOWER,
    AveragedWeights,
    Checkpoints,
    EpochFigures,
    FiniteLossGuard,
    HistoryFile,
    NotFiniteError,
    PatientStopping,
    Place,
    Position,
    ProgressiveSize,
    Sources,
    WithinEpochValidation,
    diagnosis,
    going_back,
)
from loc_keras.training.checkpoint_files import Checkpoint
from loc_keras.training.checkpointing import (
    CheckpointWriter,
    TrainingCheckpoint,
    build_optimizer,
    callback_values,
    is_done,
    place_of,
    rate_of,
    restore_callbacks,
    restore_models,
    restore_variables,
)
from loc_keras.training.distribution import ALONE, Distribution
from loc_keras.training.measure import (
    SILENT,
    answer_function,
    collect_answers,
    figures,
    progress_style,
)
from loc_keras.training.model import compiled_training_model, with_targets
from loc_keras.training.plan import FitPlan, FitResult, Phase, training_phases
from loc_keras.training.run_folder import Interruption, checkpoints_folder
from loc_keras.training.several_devices import (
    checkpoint_to_go_on,
    checkpoint_writer,
    device_callbacks,
)
from loc_keras.training.tensorboard import step_scalars


@dataclass(frozen=True, eq=False)
class Task:
    """What `fit_localizer` was given."""

    localizer: keras.Model
    train: TrainStream
    val: tf.data.Dataset
    plan: FitPlan
    losses: Mapping[str, Any]
    folder: Path
    extra_callbacks: Sequence[keras.callbacks.Callback]
    interruption: Interruption
    say: Callable[[str], None]
    devices: Distribution
    val_share: HeldOutShare | None


def fit_localizer(
    localizer: keras.Model,
    *,
    train: TrainStream,
    val: tf.data.Dataset,
    plan: FitPlan,
    losses: Mapping[str, Any],
    folder: Path,
    extra_callbacks: Sequence[keras.callbacks.Callback] = (),
    sources: Sources | None = None,
    say: Callable[[str], None] = print,
    how_to_resume: str = "the run goes on when it is started again on the same folder.",
    devices: Distribution = ALONE,
    val_share: HeldOutShare | None = None,
) -> FitResult:
    """Trains a localizer and leaves its models, checkpoints, history and logs in the run folder.

    Where the folder holds a checkpoint, training goes on from the newest one that is whole, and
    comes to what it would have come to without the interruption. Several workers all call it; the
    chief's folder alone is read and written.

    Args:
        localizer: the model, made within the scope of the devices; its weights are changed in
            place.
        train: gives endless batches of (images, targets) from a global step on.
        val: finite batches of the same.
        plan: how long and how.
        losses: arguments of `compile_localizer` that choose and weigh the losses.
        folder: the run folder; gets best.keras, last.keras, history.csv, tensorboard/ and
            checkpoints/, which `run_state.close_run` removes when the run is finished.
        extra_callbacks: come after ours, so that they see all figures in the logs.
        sources: names the images in the batch of a step, for the diagnosis of a failure.
        say: takes sentences for the user.
        how_to_resume: told to the user who interrupts.
        devices: what trains; the figures in the logs are those of all devices together.
        val_share: gives a share of the same images as `val`; needed for several devices.

    Raises:
        TrainingError: if the loss is not finite for the second time, the monitor never was, or a
            checkpoint cannot be written.
        Interrupted: after Ctrl-C or SIGTERM, with a checkpoint of the last step.
    """
    task = Task(
        localizer,
        train,
        val,
        plan,
        losses,
        folder,
        extra_callbacks,
        Interruption(how_to_resume, together=devices.cluster is not None),
        say,
        devices,
        val_share,
    )
    where = checkpoints_folder(folder)
    writer = checkpoint_writer(devices, where, plan.keep_checkpoints)
    factor: float | None = None
    with task.interruption.waiting():
        while True:
            saved = checkpoint_to_go_on(devices, where, say)
            rate = factor if factor is not None else rate_of(saved)
            try:
                models, history = _fit_on(task, saved, writer, rate)
                break
            except NotFiniteError as fault:
                writer.wait()
                saved = checkpoint_to_go_on(devices, where, say)
                if saved is None or rate != 1:
                    last = saved.path if saved else None
                    raise diagnosis(fault, last, folder, sources) from fault
                say(going_back(fault, saved.path))
                factor = SLOWER
            finally:
                writer.wait()
    if models.best_epoch is None:
        raise TrainingError(
            f"{plan.monitor} was a number in no epoch, so there is no best model; "
            f"{folder / 'history.csv'} shows what happened. Lower train.learning_rate."
        )
    return FitResult(
        best_path=models.best_path,
        last_path=models.last_path,
        best_epoch=models.best_epoch,
        history=history.rows,
    )


def _fit_on(
    task: Task, saved: Checkpoint | None, writer: CheckpointWriter, rate: float
) -> tuple[Checkpoints, HistoryFile]:
    """Trains from a checkpoint, or from nothing, to the end."""
    plan, folder = task.plan, task.folder
    place = Place() if saved is None else place_of(saved)
    position = Position(plan.steps_per_epoch, place)
    models = Checkpoints(task.localizer, folder, plan.monitor, plan.val_images)
    history = HistoryFile(folder / "history.csv")
    if saved is not None:
        task.say(
            f"going on from {saved.path.name}: {place.epoch} epochs and {place.step} of "
            f"{plan.steps_per_epoch} steps of the next are done."
        )
        if task.devices.is_chief:
            restore_models(saved, (models.best_path, models.last_path))
        if is_done(saved, plan.epochs):
            restore_callbacks((models, history), saved.state["callbacks"])
            return models, history
    chief = task.devices.is_chief
    callbacks = [
        EpochFigures(plan.batch_size, position),
        FiniteLossGuard(position),
        *(_within_epoch(task, position, models) if chief else ()),
        models,
        history,
        *(_board(folder, plan.profile_steps) if chief else ()),
        *task.extra_callbacks,
    ]
    for phase in training_phases(plan.epochs, plan.fine_tune.freeze_epochs):
        if place.epoch >= phase.end:
            continue
        own = [
            *device_callbacks(task.localizer, task.devices, task.interruption),
            position,
            *_smaller_images(plan, position),
            *_averaging(plan),
            *callbacks,
            *_early_stopping(plan, phase),
        ]
        last = TrainingCheckpoint(
            writer,
            position,
            own,
            models.models,
            every=plan.checkpoint_every_steps,
            facts={"rate": rate, "phase": phase.first},
            interruption=task.interruption,
            devices=task.devices,
        )
        _fit_phase(task, phase, position, saved, rate, [*own, last], last)
        saved, place = None, Place(phase.end, 0)
    return models, history


def _fit_phase(
    task: Task,
    phase: Phase,
    position: Position,
    saved: Checkpoint | None,
    rate: float,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpoint: TrainingCheckpoint,
) -> None:
    """Trains a phase from its beginning, or from a checkpoint that is in it or ends before it."""
    plan = replace(task.plan, learning_rate=task.plan.learning_rate * rate)
    with task.devices.scope():
        model = compiled_training_model(task.localizer, plan, task.losses, phase)
        build_optimizer(model)
    place = Place(phase.first) if saved is None else place_of(saved)
    targets = partial(
        with_targets, names=list(model.output), background=plan.background is not None
    )
    first_step = place.epoch * plan.steps_per_epoch + place.step
    stream = task.devices.train_batches(task.train, first_step, targets)
    if saved is not None:
        position.restore_metrics = restore_variables(
            model, saved, phase.first, stream, task.devices
        )
        checkpoint.resume_with(callback_values(saved, phase.first), saved.state["random"])
    model.fit(
        stream,
        validation_data=task.devices.held_out_batches(task.val, task.val_share, targets),
        validation_steps=task.devices.held_out_steps(task.val),
        initial_epoch=place.epoch,
        epochs=phase.end,
        steps_per_epoch=plan.steps_per_epoch,
        callbacks=list(callbacks),
        shuffle=False,
        verbose=progress_style() if task.devices.is_chief else SILENT,
    )


def _within_epoch(
    task: Task, position: Position, models: Checkpoints
) -> list[keras.callbacks.Callback]:
    """Validation between the ends of epochs: rows in history_steps.csv, scalars, models.

    It measures the weights as they stand and no losses: with a moving average or with `val_loss`
    as the monitor, the best model is chosen at the ends of epochs alone.
    """
    plan = task.plan
    if plan.validate_every_steps is None:
        return []
    write_scalars = step_scalars(task.folder / "tensorboard")
    answer = answer_function(task.localizer)

    def report(step: int, epoch: int, found: Mapping[str, float]) -> None:
        write_scalars(step, found)
        if plan.ema is None:
            models.offer(found, epoch)

    def measure() -> Mapping[str, float]:
        return figures(collect_answers(answer, task.val), plan.background)

    path = task.folder / "history_steps.csv"
    return [WithinEpochValidation(plan.validate_every_steps, position, measure, report, path)]


def _board(folder: Path, profile_steps: tuple[int, int] | None) -> list[keras.callbacks.Callback]:
    log = str(folder / "tensorboard")
    profile = profile_steps or 0  # 0 switches the profiler off.
    return [keras.callbacks.TensorBoard(log, write_graph=False, profile_batch=profile)]


def _smaller_images(plan: FitPlan, position: Position) -> list[keras.callbacks.Callback]:
    total = plan.epochs * plan.steps_per_epoch
    return [ProgressiveSize(plan.size_stages, total, position)] if plan.size_stages else []


def _averaging(plan: FitPlan) -> list[keras.callbacks.Callback]:
    """Early in the list, so that all others see the averaged weights at an epoch's end."""
    return [] if plan.ema is None else [AveragedWeights()]


def _early_stopping(plan: FitPlan, phase: Phase) -> list[keras.callbacks.Callback]:
    """Stops when all learns; while the body rests, the heads have nothing to lose by waiting."""
    if plan.early_stopping_patience is None or not phase.body_learns:
        return []
    mode = "min" if plan.monitor.endswith("loss") else "max"
    return [
        PatientStopping(plan.monitor, patience=plan.early_stopping_patience, mode=mode, verbose=1)
    ]
