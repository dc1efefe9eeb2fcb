"""A training that ends in time: what it costs, timed before it, and its length, corrected once."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from loc_keras.data.dataset import TrainStream
from loc_keras.training.callbacks import Logs, save_model
from loc_keras.training.checkpointing import (
    build_metrics,
    build_optimizer,
    random_state,
    restore_random,
)
from loc_keras.training.model import (
    FitPlan,
    Phase,
    TrainingModel,
    compiled_training_model,
    optimizer_of,
    set_trainable,
    training_phases,
    with_targets,
)

WARM, TIMED = 4, 20
"""Steps that are not counted, the first of which traces, and those that are, at most."""

TIMED_SECONDS = 6.0
"""Timing ends after so long."""

MODELS = 2
"""Saved at the end of each epoch."""

_COURSE = ("initial_learning_rate", "warmup_steps", "decay_steps")
CosineDecay = keras.optimizers.schedules.CosineDecay


After = Callable[[int, float], float]
"""Gives the seconds from the end of a training to that of the command, by the training's epochs and
the seconds of one."""


@dataclass(frozen=True)
class Costs:
    """Seconds of the parts of a training, as they were on this machine.

    Attributes:
        tracing: Of the first step.
        step: Of each other one, with its batch.
        validation: Of a pass over the images that are measured by.
        checkpoint: Of saving what an epoch saves.
        validates: Whether each epoch ends with such a pass.
    """

    tracing: float
    step: float
    validation: float
    checkpoint: float
    validates: bool = True

    def epoch(self, steps: int) -> float:
        """Seconds of an epoch of so many steps."""
        return steps * self.step + self.validates * self.validation + self.checkpoint


class Rehearsal:
    """Takes some steps of a training, one validation and one checkpoint, and undoes them.

    What is compiled and traced for them serves the training itself, whose learning rate and moving
    average may get another course (`adjust`). One device trains. The localizer's weights, and all
    generators, are afterwards what they were; without validation `val` are other images that are
    measured.
    """

    def __init__(
        self, localizer: keras.Model, plan: FitPlan, train: TrainStream, val: tf.data.Dataset
    ) -> None:
        self.localizer = localizer
        self.plan = plan
        self.phase = training_phases(plan.train.epochs, plan.train.fine_tune.freeze_epochs)[-1]
        random = random_state()
        model = compiled_training_model(localizer, plan, self.phase)
        build_optimizer(model)
        build_metrics(model)
        self.model = model
        self._is_lent = False
        self.is_adjustable = _make_adjustable(model.optimizer)
        variables = [*model.variables, *model.optimizer.variables]
        before = [(one, keras.ops.convert_to_numpy(one).copy()) for one in variables]
        self.costs = self._timed(model, train, val)
        for variable, value in before:
            variable.assign(value)
        restore_random(random)

    def _timed(self, model: TrainingModel, train: TrainStream, val: tf.data.Dataset) -> Costs:
        background = self.plan.background is not None
        names = list(model.output)
        clock = StepClock()
        stream = with_targets(train(0), names, background=background)
        model.fit(
            stream,
            steps_per_epoch=min(WARM + TIMED, max(WARM + 1, self.plan.steps_per_epoch)),
            callbacks=[clock],
            shuffle=False,
            verbose=0,
        )
        held_out = with_targets(val, names, background=background)
        validation = _seconds(lambda: model.evaluate(held_out, verbose=0))
        if validation < TIMED_SECONDS:  # The first has traced; a long one is not done again.
            validation = _seconds(lambda: model.evaluate(held_out, verbose=0))
        with tempfile.TemporaryDirectory(prefix="loc_keras-") as folder:
            saved = _seconds(lambda: save_model(self.localizer, Path(folder) / "timed.keras"))
        return Costs(
            tracing=clock.seconds[0],
            step=float(np.mean(clock.seconds[WARM:])),
            validation=validation,
            checkpoint=MODELS * saved,
            validates=self.plan.val_images > 0,
        )

    def adjust(self, plan: FitPlan) -> None:
        """Gives the training the course of another plan, at any moment."""
        self.plan = plan
        self.phase = training_phases(plan.train.epochs, plan.train.fine_tune.freeze_epochs)[-1]
        if not self.is_adjustable:
            return
        own = _inner(self.model.optimizer)
        new = _inner(optimizer_of(self.localizer, plan, self.phase))
        for name in _COURSE:
            getattr(own._learning_rate, name).assign(getattr(new._learning_rate, name))
        if own.use_ema:
            own.ema_momentum.assign(new.ema_momentum)

    def compiled(self, plan: FitPlan, phase: Phase, *, rate: float = 1.0) -> TrainingModel:
        """As `compiled_training_model` for the newest plan, of which nothing is traced again."""
        if phase.first != self.phase.first:
            return compiled_training_model(self.localizer, plan, phase, rate=rate)
        if self._is_lent or not self.is_adjustable or rate != 1.0:
            self.is_adjustable = False  # What trains from here on is another model.
            return compiled_training_model(self.localizer, self.plan, self.phase, rate=rate)
        self._is_lent = True
        set_trainable(self.localizer, phase.body_learns, plan.train.fine_tune.batch_norm)
        return self.model


class Budget(keras.callbacks.Callback):
    """Ends a training after `fewest` to `most` epochs so that the command takes `seconds` in all.

    After the first epochs, while the rate still rises, so that it was that of the new length as
    well, the number of epochs is corrected once, by the time that they took. `spent` gives what the
    command has taken, `after` what it takes after the training.

    Attributes:
        epochs: Number of epochs, as it is known.
        correct_after: After how many it is corrected; 0: never.
        changed: Is told the corrected number.
        epoch_seconds: Mean of those that are over; 0 before.
    """

    def __init__(
        self, seconds: float, spent: Callable[[], float], after: After, fewest: int, most: int
    ) -> None:
        super().__init__()
        self.seconds = seconds
        self.spent = spent
        self.after = after
        self.fewest = fewest
        self.most = most
        self.epochs = most
        self.correct_after = 0
        self.changed: Callable[[int], None] = lambda epochs: None
        self.epoch_seconds = 0.0
        self._began: list[float] = []

    def epochs_in_time(self, epoch_seconds: float, done: int = 0) -> int:
        """The largest number of epochs that end in time, `done` of them over."""
        left = self.seconds - self.spent()

        def ends_in_time(epochs: int) -> bool:
            return (epochs - done) * epoch_seconds + self.after(epochs, epoch_seconds) <= left

        least = max(self.fewest, done)
        return max(filter(ends_in_time, range(least, self.most + 1)), default=least)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Notes the time."""
        self._began.append(time.monotonic())

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Corrects the number of epochs, and ends the training after the last."""
        # From the second epoch on, where there is one: the first has costs of its own.
        first = self._began[1 if len(self._began) > 1 else 0]
        self.epoch_seconds = (time.monotonic() - first) / max(1, len(self._began) - 1)
        if epoch + 1 == self.correct_after:
            self.correct_after = 0
            self.epochs = self.epochs_in_time(self.epoch_seconds, epoch + 1)
            self.changed(self.epochs)
        if epoch + 1 >= self.epochs:
            self.model.stop_training = True


class StepClock(keras.callbacks.Callback):
    """Notes how long each step takes with its batch, up to its loss, which the device has to give.

    The training ends after `TIMED_SECONDS` of steps that count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._began = 0.0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Starts the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Adds a step."""
        float((logs or {})["loss"])
        now = time.monotonic()
        self.seconds.append(now - self._began)
        self._began = now
        if sum(self.seconds[WARM:]) > TIMED_SECONDS:
            self.model.stop_training = True


def _make_adjustable(optimizer: keras.optimizers.Optimizer) -> bool:
    """Turns what a plan's length decides into variables; False where a schedule has no such."""
    own = _inner(optimizer)
    schedule = own._learning_rate
    if not isinstance(schedule, CosineDecay) or schedule.warmup_target is None:
        return False
    for name in _COURSE:
        setattr(schedule, name, tf.Variable(float(getattr(schedule, name)), trainable=False))
    if own.use_ema:
        own.ema_momentum = tf.Variable(own.ema_momentum, trainable=False)
    return True


def _inner(optimizer: keras.optimizers.Optimizer) -> Any:
    """The optimizer that has the schedule, within one that scales losses for float16."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
