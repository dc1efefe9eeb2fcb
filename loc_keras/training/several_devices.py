"""The parts of a fit that are otherwise where several devices or workers train."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import load, save

from loc_keras.training.batch_norm import AveragedStatistics
from loc_keras.training.checkpoint_files import Checkpoint, newest_checkpoint
from loc_keras.training.checkpointing import CheckpointWriter, Snapshot
from loc_keras.training.distribution import Distribution
from loc_keras.training.run_folder import Interruption

_WORD = 4
"""Bytes of an int32, the smallest number that workers can add up."""


def on_any_worker(devices: Distribution, flag: bool) -> bool:
    """Whether a flag is set on one worker at least."""
    if devices.cluster is None:
        return flag
    return bool(_sum(devices, np.array([flag], np.int32))[0])


def from_chief(devices: Distribution, content: bytes) -> bytes:
    """What the chief gave, for all.

    Args:
        devices: All that train.
        content: On the chief what to tell; elsewhere it is passed over.
    """
    if devices.cluster is None:
        return content
    own = content if devices.is_chief else b""
    (length,) = _sum(devices, np.array([len(own)], np.int64))
    if length == 0:  # TensorFlow's exchange of no number ends the process.
        return b""
    # Sums of one chief's words and everyone else's zeros.
    padded = own.ljust(-(-int(length) // _WORD) * _WORD, b"\0")
    words = _sum(devices, np.frombuffer(padded, np.int32))
    return words.tobytes()[: int(length)]


def checkpoint_of_chief(devices: Distribution, saved: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint that the chief goes on from, for all, so that it alone needs the run folder.

    Args:
        devices: All that train.
        saved: On the chief what it found; elsewhere it is passed over.
    """
    if devices.cluster is None:
        return saved
    told = from_chief(devices, b"" if saved is None else _packed(saved))
    return _unpacked(told) if told else None


def _sum(devices: Distribution, values: np.ndarray) -> np.ndarray:
    """Adds the values of all workers, each counted once however many devices it has."""
    return np.asarray(_adder(devices)(tf.constant(values)))


@cache
def _adder(devices: Distribution) -> Callable[[tf.Tensor], tf.Tensor]:
    """Traced once for each shape: outside of a graph the strategy is slow, and says so."""
    strategy = devices.strategy
    assert strategy is not None
    of_worker = max(1, devices.replicas // devices.workers)

    def part(values: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        first = tf.equal(tf.convert_to_tensor(replica) % of_worker, 0)
        return tf.where(first, values, tf.zeros_like(values))

    def add(values: tf.Tensor) -> tf.Tensor:
        parts = strategy.run(part, args=(values,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)

    return tf.function(add)


def _packed(saved: Checkpoint) -> bytes:
    """Length of the plain values, the plain values, the arrays."""
    plain = json.dumps({"path": str(saved.path), "state": saved.state}).encode()
    return len(plain).to_bytes(8, "big") + plain + save(dict(saved.arrays))


def _unpacked(content: bytes) -> Checkpoint:
    end = 8 + int.from_bytes(content[:8], "big")
    plain: Mapping[str, Any] = json.loads(content[8:end])
    return Checkpoint(Path(plain["path"]), load(content[end:]), plain["state"])


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
