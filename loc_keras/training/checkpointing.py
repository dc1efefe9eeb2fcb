"""When checkpoints are taken, and how they are written while the training goes on."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from loc_keras.training.batch_statistics import AveragedStatistics
from loc_keras.training.checkpoint_files import (
    begin_checkpoint,
    checkpoint_name,
    end_checkpoint,
    prune,
)
from loc_keras.training.distribution import ALONE, Distribution
from loc_keras.training.interruption import Interruption
from loc_keras.training.position import Place, Position
from loc_keras.training.training_state import (
    are_finite,
    callback_states,
    collect_arrays,
    random_state,
    restore_callbacks,
    restore_random,
)

Logs = dict[str, Any] | None
FORMAT = 1
"""Version of what `state.json` means."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A copy of everything, taken between two steps."""

    name: str
    arrays: Mapping[str, np.ndarray]
    state: Mapping[str, Any]
    models: Sequence[Path]


class CheckpointWriter:
    """Writes snapshots in a thread of its own, one at a time.

    Args:
        folder: Holds the checkpoints.
        keep: How many are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        """Starts nothing yet."""
        self.folder = folder
        self.keep = keep
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def submit(self, snapshot: Snapshot) -> None:
        """Begins to write, after the snapshot before is down.

        The models are taken at once: the next step may bring a better one.
        """
        self.wait()
        # Weights that are no numbers are not worth going back to: the guard will say more.
        if are_finite(snapshot.arrays):
            aside = begin_checkpoint(self.folder, snapshot.name, snapshot.models)
            self._running = self._pool.submit(self._write, snapshot, aside)

    def look(self) -> None:
        """Raises what went wrong with a write that has ended."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> None:
        """Waits for the write under way.

        Raises:
            CheckpointError: If it failed.
        """
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def _write(self, snapshot: Snapshot, aside: Path) -> None:
        end_checkpoint(aside, snapshot.name, snapshot.arrays, snapshot.state)
        prune(self.folder, self.keep)


class TrainingCheckpoint(keras.callbacks.Callback):
    """Takes checkpoints: at the start, every `every` steps, at each epoch's end, when interrupted.

    It comes last in the list, so that at an epoch's end all others have done what they do.

    Args:
        writer: Writes them.
        position: Knows the step.
        others: Callbacks whose values are part of a checkpoint.
        models: Gives the saved models that belong to it.
        every: Steps between checkpoints; None for those at the ends of epochs alone.
        facts: What else goes into the state.
        interruption: Tells whether to stop.
        devices: What trains; every worker has this callback, since reading takes all of them.
    """

    def __init__(
        self,
        writer: CheckpointWriter,
        position: Position,
        others: Sequence[keras.callbacks.Callback],
        models: Callable[[], Sequence[Path]],
        *,
        every: int | None,
        facts: Mapping[str, Any],
        interruption: Interruption,
        devices: Distribution = ALONE,
    ) -> None:
        """Stores what to save; see the class."""
        super().__init__()
        self.writer = writer
        self.position = position
        self.others = others
        self.models = models
        self.every = every
        self.facts = facts
        self.interruption = interruption
        self.devices = devices
        self._values: Mapping[str, Any] | None = None
        self._random: Mapping[str, Any] | None = None
        self._before_validation: Snapshot | None = None

    def resume_with(self, values: Mapping[str, Any], random: Mapping[str, Any]) -> None:
        """Takes values of the callbacks and of generators, to be put back as `fit` begins.

        Keras's callbacks reset themselves then, so that they cannot be set before.
        """
        self._values, self._random = values, random

    def on_train_begin(self, logs: Logs = None) -> None:
        """Puts values back, or takes the checkpoint of the start: it also proves the disk."""
        if self._values is not None and self._random is not None:
            restore_callbacks(self.others, self._values)
            restore_random(self._random)
        elif self.position.place == Place():
            self.writer.submit(self._snapshot(Place()))
            self.writer.wait()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Takes a checkpoint when it is time, and leaves when asked to."""
        if self.position.passing_over:
            return
        self.writer.look()
        place = self.position.place
        last = place.step == self.position.steps_per_epoch
        if self.interruption.due is not None:
            self._leave(self._snapshot(place))
        if last:
            # Validation may last: who stops the run during it must not lose steps. Several workers
            # do not leave it in its middle.
            if not self.interruption.together:
                self._before_validation = self._snapshot(place)
        elif self.every is not None and self.position.global_step % self.every == 0:
            self.writer.submit(self._snapshot(place))

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Leaves in the middle of a validation, which will be done again."""
        if self.interruption.due is not None and self._before_validation is not None:
            self._leave(self._before_validation)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Takes the checkpoint of the epoch."""
        self._before_validation = None
        snapshot = self._snapshot(Place(epoch + 1, 0), done=self.model.stop_training)
        if self.interruption.due is not None:
            self._leave(snapshot)
        self.writer.submit(snapshot)

    def _snapshot(self, place: Place, *, done: bool = False) -> Snapshot:
        step = place.epoch * self.position.steps_per_epoch + place.step
        for other in self.others:
            # What is read is the same on all devices then, and so is what they go on with.
            if isinstance(other, AveragedStatistics):
                other.average()
        state = {
            "format": FORMAT,
            "epoch": place.epoch,
            "step": place.step,
            "done": done,
            **self.facts,
            "callbacks": callback_states(self.others),
            "random": random_state(),
        }
        name = checkpoint_name(step, epoch_end=place.step == 0 and step > 0)
        with self.devices.scope():
            arrays = collect_arrays(self.model)
        return Snapshot(name, arrays, state, self.models())

    def _leave(self, snapshot: Snapshot) -> None:
        self.writer.submit(snapshot)
        self.writer.wait()
        # Whoever ends first is missed by the others: only after the chief has written.
        self.devices.meet()
        epoch, step = snapshot.state["epoch"], snapshot.state["step"]
        of = f"{step} of {self.position.steps_per_epoch}"
        self.interruption.leave(
            f"stopped after {epoch} epochs and {of} steps of the next, all of it saved"
        )
