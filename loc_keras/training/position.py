"""Where in a training a run stands, and how it starts an epoch in its middle."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

Logs = dict[str, Any] | None


@dataclass(frozen=True)
class Place:
    """A place between two steps.

    Attributes:
        epoch: Epochs that are finished, with their validation and all callbacks.
        step: Steps taken in the epoch after them, 0..steps_per_epoch.
    """

    epoch: int = 0
    step: int = 0


class Position(keras.callbacks.Callback):
    """Knows the place of the run; other callbacks ask it, so it comes first in their list.

    Keras's `fit` begins every epoch at its first batch. To go on in the middle of an epoch, its
    first batches are passed over: their step is replaced by one that computes nothing and takes
    nothing from the data, whose stream begins behind them. So batch numbers, the progress bar and
    the counters of other callbacks go on by themselves.

    Args:
        steps_per_epoch: Steps of every epoch.
        start: Where the run goes on.
        restore_metrics: Puts the running measures of a half-done epoch back, after Keras has reset
            them at its beginning.
    """

    def __init__(
        self,
        steps_per_epoch: int,
        start: Place | None = None,
        restore_metrics: Callable[[], None] = lambda: None,
    ) -> None:
        """Stores the start; see the class."""
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.start = start or Place()
        self.restore_metrics = restore_metrics
        self.place = self.start
        self.passing_over = False
        self._step_function: Callable[[Any], Mapping[str, Any]] | None = None

    @property
    def global_step(self) -> int:
        """Steps taken since the training began, over all epochs and phases."""
        return self.place.epoch * self.steps_per_epoch + self.place.step

    def on_train_begin(self, logs: Logs = None) -> None:
        """Keeps the real step."""
        self._step_function = self.model.train_function

    def replace_step(self, step_function: Callable[[Any], Mapping[str, Any]]) -> None:
        """Takes another step from here on; not while batches are passed over."""
        self._step_function = step_function
        self.model.train_function = step_function

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Notes the epoch, and prepares to pass over what is done of it."""
        done = self.start.step if epoch == self.start.epoch else 0
        self.place = Place(epoch, done)
        self.passing_over = done > 0
        if self.passing_over:
            self.restore_metrics()
            measured = self.model.get_metrics_result()
            self.model.train_function = lambda iterator: measured

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Puts the real step back at the first batch that is not done."""
        if self.passing_over and batch >= self.place.step:
            self.passing_over = False
            self.model.train_function = self._step_function

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Counts a step that was taken."""
        if not self.passing_over:
            self.place = Place(self.place.epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Puts the real step back where the whole epoch was passed over."""
        self.passing_over = False
        self.model.train_function = self._step_function
