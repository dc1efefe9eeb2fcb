"""The run of a training, from its newest checkpoint to its end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from loc_keras.data.dataset import HeldOutShare, TrainStream
from loc_keras.errors import TrainingError
from loc_keras.evaluation.figures import run_figures
from loc_keras.models.body import NORMALIZATION
from loc_keras.training import callbacks, checkpointing, run_folder
from loc_keras.training.batch_norm import AveragedStatistics
from loc_keras.training.budget import After, Budget, Rehearsal
from loc_keras.training.checkpoint_files import Checkpoint
from loc_keras.training.distribution import ALONE, Distribution
from loc_keras.training.model import (
    FitPlan,
    FitResult,
    Phase,
    TrainingModel,
    answer_function,
    collect_outcomes,
    compiled_training_model,
    set_trainable,
    training_phases,
    with_targets,
)
from loc_keras.training.progress import LiveLine, TrainingProgress
from loc_keras.training.tensorboard import Profiler, Scalars


def fit_localizer(
    localizer: keras.Model,
    *,
    train: TrainStream,
    val: tf.data.Dataset | None,
    plan: FitPlan,
    folder: Path,
    extra_callbacks: Sequence[keras.callbacks.Callback] = (),
    sources: callbacks.Sources | None = None,
    say: Callable[[str], None] = print,
    how_to_resume: str = "the run goes on when it is started again on the same folder.",
    devices: Distribution = ALONE,
    val_share: HeldOutShare | None = None,
    compiled: "SharedLocalizer | Rehearsal | None" = None,
    budget: Budget | None = None,
    console: Console | None = None,
    name: str = "",
    after: After = lambda epochs, epoch_seconds: 0.0,
) -> FitResult:
    """Trains a localizer and leaves its models, checkpoints, history and logs in the run folder.

    Where the folder holds a checkpoint, training goes on from the newest one that is whole, and
    comes to what it would have come to without the interruption. Several workers all call it; the
    chief's folder alone is read and written.

    Args:
        localizer: made within the scope of the devices; its weights are changed in place.
        train: gives endless batches of (images, targets) from a global step on.
        val: finite batches of the same; None: the newest epoch is the best one.
        plan: how long and how.
        folder: gets best.keras, last.keras, history.csv, tensorboard/ and checkpoints/, which
            `run_folder.close_run` removes when the run is finished.
        extra_callbacks: come after ours, so that they see all figures in the logs.
        sources: names the images in the batch of a step, for the diagnosis of a failure.
        say: takes sentences for the user.
        how_to_resume: what the user reads after an interruption.
        devices: what trains; the figures in the logs are those of all devices together.
        val_share: gives a share of the same images as `val`; needed for several devices.
        compiled: keeps what is compiled of the localizer, which is its own, for further trainings.
        budget: ends the training in time.
        console: shows how the training goes, in the chief alone; None: nothing does.
        name: see `TrainingProgress`.
        after: likewise.

    Raises:
        TrainingError: if the loss is not finite for the second time, the monitor never was, or a
            checkpoint cannot be written.
        Interrupted: after Ctrl-C or SIGTERM, with a checkpoint of the last step.
    """
    interruption = run_folder.Interruption(how_to_resume, together=devices.cluster is not None)
    compile_phase = compiled.compiled if compiled else partial(compiled_training_model, localizer)
    line = LiveLine(console if devices.is_chief else None)
    shown = partial(
        TrainingProgress, line, epochs=plan.train.epochs, name=name, after=after, budget=budget
    )
    fit = _Fit(
        localizer, train, val, plan, folder, extra_callbacks, say, devices, val_share, interruption,
        compile_phase, shown, budget,
    )  # fmt: skip
    checkpoints = folder / run_folder.CHECKPOINTS
    writer = checkpointing.checkpoint_writer(devices, checkpoints, plan.train.keep_checkpoints)
    slower: float | None = None
    with interruption.waiting(), line:
        while True:
            saved = checkpointing.checkpoint_to_resume(devices, checkpoints, say)
            rate = slower or checkpointing.rate_of(saved)
            try:
                models, history = fit.to_the_end(saved, writer, rate)
                break
            except callbacks.NotFiniteError as fault:
                writer.wait()
                saved = checkpointing.checkpoint_to_resume(devices, checkpoints, say)
                if saved is None or rate != 1:
                    last = saved.path if saved else None
                    raise callbacks.diagnosis(fault, last, folder, sources) from fault
                say(
                    f"the loss is not finite at {fault.at}: going back to {saved.path}, with the "
                    f"learning rate times {callbacks.SLOWER:g} from there on. This is done once."
                )
                slower = callbacks.SLOWER
            finally:
                writer.wait()
    if models.best_epoch is None:
        raise TrainingError(
            f"{plan.train.monitor} was a number in no epoch, so there is no best model; "
            f"{history.path} shows what happened. Lower train.learning_rate."
        )
    return FitResult(
        best_path=models.best_path,
        last_path=models.last_path,
        best_epoch=models.best_epoch,
        history=history.rows,
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    localizer: keras.Model
    train: TrainStream
    val: tf.data.Dataset | None
    plan: FitPlan
    folder: Path
    extra_callbacks: Sequence[keras.callbacks.Callback]
    say: Callable[[str], None]
    devices: Distribution
    val_share: HeldOutShare | None
    interruption: run_folder.Interruption
    compile_phase: Callable[..., TrainingModel]
    shown: Callable[..., TrainingProgress]
    budget: Budget | None

    def to_the_end(
        self, saved: Checkpoint | None, writer: checkpointing.CheckpointWriter, rate: float
    ) -> tuple[callbacks.Checkpoints, callbacks.HistoryFile]:
        """Trains all phases that are left, from a checkpoint or from nothing."""
        plan, train = self.plan, self.plan.train
        place = callbacks.Place() if saved is None else checkpointing.place_of(saved)
        position = callbacks.Position(plan.steps_per_epoch, place)
        models = callbacks.Checkpoints(self.localizer, self.folder, train.monitor, plan.val_images)
        history = callbacks.HistoryFile(self.folder / run_folder.HISTORY_FILE)
        if saved is not None:
            self.say(
                f"going on from {saved.path.name}: {place.epoch} epochs and {place.step} of "
                f"{plan.steps_per_epoch} steps of the next are done."
            )
            if self.devices.is_chief:
                checkpointing.restore_models(saved, (models.best_path, models.last_path))
            if checkpointing.is_done(saved, train.epochs):
                checkpointing.restore_callbacks((models, history), saved.state["callbacks"])
                return models, history
        lasting = self._lasting_callbacks(position, models, history)
        for phase in training_phases(train.epochs, train.fine_tune.freeze_epochs):
            if place.epoch >= phase.end:
                continue
            acting = self._phase_callbacks(phase, position, lasting)
            checkpoint = checkpointing.TrainingCheckpoint(
                writer,
                position,
                acting,
                models.models,
                every=train.checkpoint_every_steps,
                facts={"rate": rate, "phase": phase.first},
                interruption=self.interruption,
                devices=self.devices,
            )
            if saved is not None:
                same_phase = saved.state["phase"] == phase.first
                checkpoint.resume_with(saved.state, acting if same_phase else lasting)
            self._fit_phase(phase, place, saved, rate, position, [*acting, checkpoint])
            saved, place = None, callbacks.Place(phase.end, 0)
        return models, history

    def _lasting_callbacks(
        self,
        position: callbacks.Position,
        models: callbacks.Checkpoints,
        history: callbacks.HistoryFile,
    ) -> list[keras.callbacks.Callback]:
        """Those whose values go on from phase to phase, in the order in which they act."""
        train, is_chief = self.plan.train, self.devices.is_chief
        every = train.validate_every_steps if self.val is not None else None
        board = self.folder / run_folder.TENSORBOARD
        scalars = Scalars(board, position) if is_chief else None
        figures = callbacks.EpochFigures(train.batch_size, position)
        return _without_none(
            figures,
            callbacks.FiniteLossGuard(position),
            self._within_epoch(every, position, models, scalars) if every and scalars else None,
            models,
            history,
            self.budget,
            self.shown(position, figures, models),
            scalars,
            Profiler(board, train.profile_steps) if train.profile_steps and is_chief else None,
            *self.extra_callbacks,
        )

    def _phase_callbacks(
        self,
        phase: Phase,
        position: callbacks.Position,
        lasting: Sequence[keras.callbacks.Callback],
    ) -> list[keras.callbacks.Callback]:
        """All of a phase, in the order in which they act; those not in `lasting` begin anew."""
        plan, train, devices = self.plan, self.plan.train, self.devices
        sizes, patience = train.progressive_size, train.early_stopping_patience
        patience = None if self.val is None else patience
        return _without_none(
            # These two come first: the others see what all devices have in common.
            callbacks.SharedInterruption(devices, self.interruption) if devices.cluster else None,
            AveragedStatistics(self.localizer, devices.strategy) if devices.strategy else None,
            position,
            callbacks.ProgressiveSize(sizes, plan.total_steps, position) if sizes else None,
            # Early, so that all others see the averaged weights at an epoch's end.
            callbacks.AveragedWeights() if train.ema is not None else None,
            *lasting,
            # While the body rests, the heads have nothing to lose by waiting.
            callbacks.PatientStopping(train.monitor, patience, self.say)
            if patience and phase.body_learns
            else None,
        )

    def _fit_phase(
        self,
        phase: Phase,
        place: callbacks.Place,
        saved: Checkpoint | None,
        rate: float,
        position: callbacks.Position,
        acting: list[keras.callbacks.Callback],
    ) -> None:
        """Trains from a place in the phase, or at the end of the one before it, to its end."""
        plan, devices = self.plan, self.devices
        with devices.scope():
            model = self.compile_phase(plan, phase, rate=rate)
            checkpointing.build_optimizer(model)
        if devices.strategy is None:  # For several devices `fit` does it.
            checkpointing.build_metrics(model)
        targets = partial(
            with_targets, names=list(model.output), background=plan.background is not None
        )
        first_step = place.epoch * plan.steps_per_epoch + place.step
        stream = devices.train_batches(self.train, first_step, targets)
        if saved is not None:
            position.restore_metrics = checkpointing.restore_variables(
                model, saved, phase.first, devices
            )
        validation: dict[str, Any] = {}
        if self.val is not None:
            measured = devices.held_out_batches(self.val, self.val_share, targets)
            steps = devices.held_out_steps(self.val)
            validation = {"validation_data": measured, "validation_steps": steps}
        model.fit(
            stream,
            **validation,
            initial_epoch=place.epoch,
            epochs=self.budget.most if self.budget and phase.body_learns else phase.end,
            steps_per_epoch=plan.steps_per_epoch,
            callbacks=acting,
            shuffle=False,
            verbose=0,
        )

    def _within_epoch(
        self,
        every: int,
        position: callbacks.Position,
        models: callbacks.Checkpoints,
        scalars: Scalars,
    ) -> callbacks.WithinEpochValidation:
        """Validation between the ends of epochs: rows in a file, scalars, models.

        It measures the weights as they stand and no losses: with a moving average or with
        `val_loss` the best model is chosen at the ends of epochs alone.
        """
        answer, val = answer_function(self.localizer), self.val
        assert val is not None

        def report(step: int, epoch: int, measured: Mapping[str, float]) -> None:
            scalars.write(step, measured)
            if self.plan.train.ema is None:
                models.offer(measured, epoch)

        def measure() -> Mapping[str, float]:
            return run_figures(collect_outcomes(answer, val, background=self.plan.background))

        return callbacks.WithinEpochValidation(
            every, position, measure, report, self.folder / run_folder.HISTORY_STEPS_FILE
        )


class SharedLocalizer:
    """A localizer that trains and answers with the values of others of its form, one by one.

    To build a model is cheap, to compile and trace its steps is not: this is done once.
    """

    def __init__(self, localizer: keras.Model) -> None:
        self.localizer = localizer
        self._kept: dict[Any, tuple[TrainingModel, list[tuple[keras.Variable, np.ndarray]]]] = {}
        # Constants of each model, which a traced step reads anew where they are variables.
        layer = localizer.get_layer(NORMALIZATION)
        self._moments = tf.Variable(layer.mean), tf.Variable(layer.variance)
        layer.mean, layer.variance = self._moments

    def become(self, other: keras.Model) -> None:
        """Takes all values of another localizer: weights, statistics, seeds and pixels' moments."""
        for mine, theirs in zip(self.localizer.variables, other.variables, strict=True):
            mine.assign(theirs)
        mine, theirs = (one.get_layer(NORMALIZATION) for one in (self.localizer, other))
        mine.input_mean, mine.input_variance = theirs.input_mean, theirs.input_variance
        for moment, value in zip(self._moments, (theirs.mean, theirs.variance), strict=True):
            moment.assign(value)

    def compiled(self, plan: FitPlan, phase: Phase, *, rate: float = 1.0) -> TrainingModel:
        """As `compiled_training_model`; of the same phase again, the same model as it was new."""
        key = plan, phase, rate
        if key in self._kept:
            model, beginning = self._kept[key]
            set_trainable(self.localizer, phase.body_learns, plan.train.fine_tune.batch_norm)
            for variable, value in beginning:
                variable.assign(value)
            return model
        model = compiled_training_model(self.localizer, plan, phase, rate=rate)
        checkpointing.build_optimizer(model)
        own = [*model.optimizer.variables, *(model.variances.variables if model.variances else [])]
        beginning = [(one, keras.ops.convert_to_numpy(one).copy()) for one in own]
        self._kept[key] = model, beginning
        return model


def _without_none(*every: keras.callbacks.Callback | None) -> list[keras.callbacks.Callback]:
    return [callback for callback in every if callback is not None]
