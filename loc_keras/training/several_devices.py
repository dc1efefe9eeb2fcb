"""The parts of a fit that are otherwise where several devices or workers train."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from loc_keras.training.batch_statistics import AveragedStatistics
from loc_keras.training.checkpoint_files import Checkpoint, newest_checkpoint
from loc_keras.training.checkpointing import CheckpointWriter, Snapshot
from loc_keras.training.distribution import Distribution
from loc_keras.training.interruption import Interruption
from loc_keras.training.worker_talk import checkpoint_of_chief, on_any_worker

Logs = dict[str, Any] | None


class SharedInterruption(keras.callbacks.Callback):
    """Tells all workers at the end of a step, and of an epoch, that one was asked to stop.

    They stop behind the same step then: each waits for the others in the next one.

    Args:
        devices: All that train.
        interruption: Of this worker.
    """

    def __init__(self, devices: Distribution, interruption: Interruption) -> None:
        """Stores whom to ask; see the class."""
        super().__init__()
        self.devices = devices
        self.interruption = interruption

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Asks the others."""
        self._ask()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Likewise, after a validation."""
        self._ask()

    def _ask(self) -> None:
        asked = self.interruption.asked is not None
        self.interruption.agree(on_any_worker(self.devices, asked))


class NothingWritten(CheckpointWriter):
    """Stands for the writer in workers other than the chief, which writes for all."""

    def submit(self, snapshot: Snapshot) -> None:
        """Lets it go."""


def checkpoint_writer(devices: Distribution, folder: Path, keep: int) -> CheckpointWriter:
    """The writer of the chief, or one that writes nothing."""
    return (CheckpointWriter if devices.is_chief else NothingWritten)(folder, keep)


def checkpoint_to_go_on(
    devices: Distribution, folder: Path, say: Callable[[str], None]
) -> Checkpoint | None:
    """The newest whole checkpoint in the chief's folder, for all workers."""
    found = newest_checkpoint(folder, say) if devices.is_chief else None
    return checkpoint_of_chief(devices, found)


def device_callbacks(
    localizer: keras.Model, devices: Distribution, interruption: Interruption
) -> Sequence[keras.callbacks.Callback]:
    """First of all, so that the others see what all devices have in common."""
    found: list[keras.callbacks.Callback] = []
    if devices.cluster is not None:
        found.append(SharedInterruption(devices, interruption))
    if devices.strategy is not None:
        found.append(AveragedStatistics(localizer, devices.strategy))
    return found
