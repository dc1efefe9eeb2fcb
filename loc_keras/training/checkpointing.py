"""Checkpoints of a training: when they are taken, what they hold, and how a run resumes."""

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from safetensors.numpy import load, save

from loc_keras.training import checkpoint_files
from loc_keras.training.batch_norm import AveragedStatistics
from loc_keras.training.callbacks import Logs, Place, Position
from loc_keras.training.distribution import ALONE, Distribution
from loc_keras.training.model import with_training_targets
from loc_keras.training.run_folder import Interruption

FORMAT = 1  # Version of what `state.json` means.

MODEL, OPTIMIZER, METRICS = "model", "optimizer", "metrics"
"""Groups of variables: weights, statistics, seeds; slots, averages, scales, the step; sums."""


@runtime_checkable
class Stateful(Protocol):
    """A callback whose values decide how a run goes on."""

    def state(self) -> dict[str, Any]:
        """Its values, which JSON can hold."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes such values back."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A copy of everything, taken between two steps."""

    name: str
    arrays: Mapping[str, np.ndarray]
    state: Mapping[str, Any]
    models: Sequence[Path]


class CheckpointWriter:
    """Writes snapshots in a thread of its own, one at a time, and keeps the last few."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def submit(self, snapshot: Snapshot) -> None:
        """Begins to write, once the one before is done; takes the models at once."""
        self.wait()
        # Weights that are no numbers are not worth going back to: the guard will say more.
        if are_finite(snapshot.arrays):
            aside = checkpoint_files.begin_checkpoint(self.folder, snapshot.name, snapshot.models)
            self._running = self._pool.submit(self._write, snapshot, aside)

    def check(self) -> None:
        """Raises the error of a write that has failed, without waiting for one under way."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> None:
        """Waits for the write under way; raises CheckpointError if it failed."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def _write(self, snapshot: Snapshot, aside: Path) -> None:
        checkpoint_files.end_checkpoint(aside, snapshot.name, snapshot.arrays, snapshot.state)
        checkpoint_files.prune(self.folder, self.keep)


class NoWriter(CheckpointWriter):
    """Stands for the writer in workers other than the chief, which writes for all."""

    def submit(self, snapshot: Snapshot) -> None:
        """Writes nothing."""


def checkpoint_writer(devices: Distribution, folder: Path, keep: int) -> CheckpointWriter:
    """The writer of the chief, or one that writes nothing."""
    return (CheckpointWriter if devices.is_chief else NoWriter)(folder, keep)


class TrainingCheckpoint(keras.callbacks.Callback):
    """Takes checkpoints: at the start, every `every` steps, at each epoch's end, when interrupted.

    It comes last in the list, so that at an epoch's end all others have done what they do. The
    values of `others`, the saved `models` and `facts` are part of a checkpoint. Every worker has
    this callback, since reading takes all of them.
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
        super().__init__()
        self.writer = writer
        self.position = position
        self.others = others
        self.models = models
        self.every = every
        self.facts = facts
        self.interruption = interruption
        self.devices = devices
        self._resumed: tuple[Mapping[str, Any], list[keras.callbacks.Callback]] | None = None
        self._before_validation: Snapshot | None = None

    def resume_with(
        self, state: Mapping[str, Any], callbacks: Iterable[keras.callbacks.Callback]
    ) -> None:
        """Takes what `fit` puts back as it begins: the generators, and values of some callbacks.

        Keras's callbacks reset themselves then, so that they cannot be set before.
        """
        self._resumed = state, list(callbacks)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Puts values back, or takes the checkpoint of the start: it also proves the disk."""
        if self._resumed is not None:
            state, callbacks = self._resumed
            restore_callbacks(callbacks, state["callbacks"])
            restore_random(state["random"])
        elif self.position.place == Place():
            self.writer.submit(self._snapshot(Place()))
            self.writer.wait()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Takes a checkpoint when it is time, and leaves when asked to."""
        if self.position.passing_over:
            return
        self.writer.check()
        place = self.position.place
        last = place.step == self.position.steps_per_epoch
        if self.interruption.due is not None:
            self._leave(self._snapshot(place))
        if last:
            # Stopping during a long validation must not lose steps. Several workers do not stop
            # in its middle.
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
        name = checkpoint_files.checkpoint_name(step, epoch_end=place.step == 0 and step > 0)
        with self.devices.scope():
            arrays = collect_arrays(self.model)
        return Snapshot(name, arrays, state, self.models())

    def _leave(self, snapshot: Snapshot) -> None:
        self.writer.submit(snapshot)
        self.writer.wait()
        # Only after the chief has written: the others would miss a process that ended.
        self.devices.meet()
        epoch, step = snapshot.state["epoch"], snapshot.state["step"]
        of = f"{step} of {self.position.steps_per_epoch}"
        self.interruption.leave(
            f"stopped after {epoch} epochs and {of} steps of the next, all of it saved"
        )


def place_of(saved: checkpoint_files.Checkpoint) -> Place:
    """Where a checkpoint was taken."""
    return Place(saved.state["epoch"], saved.state["step"])


def rate_of(saved: checkpoint_files.Checkpoint | None) -> float:
    """Factor on the learning rate with which the run goes on."""
    return 1.0 if saved is None else float(saved.state["rate"])


def is_done(saved: checkpoint_files.Checkpoint, epochs: int) -> bool:
    """Whether nothing is left to train."""
    return bool(saved.state["done"]) or place_of(saved).epoch >= epochs


def restore_models(saved: checkpoint_files.Checkpoint, targets: Iterable[Path]) -> None:
    """Puts back the saved models as they were; a model that did not exist then is removed."""
    models = {path.name: path for path in checkpoint_files.models_in(saved)}
    for target in targets:
        if target.name in models:
            checkpoint_files.put_back(models[target.name], target)
        else:
            target.unlink(missing_ok=True)


def restore_variables(
    model: keras.Model,
    saved: checkpoint_files.Checkpoint,
    phase: int,
    devices: Distribution = ALONE,
) -> Callable[[], None]:
    """Puts all variables back but the measures, which `fit` resets as it begins.

    A checkpoint of the phase before, at its end, gives its weights alone. The function that is
    given back restores the measures of the half-done epoch.
    """
    half_done = saved.state["step"] > 0
    same_phase = saved.state["phase"] == phase
    with devices.scope():
        restore_arrays(model, saved.arrays, (MODEL, OPTIMIZER) if same_phase else (MODEL,))

    def restore_metrics() -> None:
        with devices.scope():
            restore_arrays(model, saved.arrays, (METRICS,))

    return restore_metrics if half_done else lambda: None


def checkpoint_to_resume(
    devices: Distribution, folder: Path, say: Callable[[str], None]
) -> checkpoint_files.Checkpoint | None:
    """The newest whole checkpoint of the chief's folder, for all workers, even without access."""
    newest = checkpoint_files.newest_checkpoint(folder, say) if devices.is_chief else None
    return checkpoint_of_chief(devices, newest)


def checkpoint_of_chief(
    devices: Distribution, saved: checkpoint_files.Checkpoint | None
) -> checkpoint_files.Checkpoint | None:
    """Sends the chief's checkpoint to all workers; what the others give is ignored."""
    if devices.cluster is None:
        return saved
    content = devices.from_chief(b"" if saved is None else _packed(saved))
    return _unpacked(content) if content else None


def _packed(saved: checkpoint_files.Checkpoint) -> bytes:
    """Length of the plain values, the plain values, the arrays."""
    plain = json.dumps({"path": str(saved.path), "state": saved.state}).encode()
    return len(plain).to_bytes(8, "big") + plain + save(dict(saved.arrays))


def _unpacked(content: bytes) -> checkpoint_files.Checkpoint:
    end = 8 + int.from_bytes(content[:8], "big")
    plain: Mapping[str, Any] = json.loads(content[8:end])
    return checkpoint_files.Checkpoint(Path(plain["path"]), load(content[end:]), plain["state"])


def variables_of(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """Every variable of a compiled model, by group, in an order that its construction fixes."""
    return {
        MODEL: model.variables,
        OPTIMIZER: model.optimizer.variables,
        METRICS: [variable for metric in model.metrics for variable in metric.variables],
    }


def build_optimizer(model: keras.Model) -> None:
    """Makes the optimizer's variables, which Keras would make at the first step."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def build_metrics(model: keras.Model) -> None:
    """Makes variables of losses and measures, for which Keras would trace a second first step."""
    outputs = {name: ops.zeros((1, *one.shape[1:])) for name, one in model.output.items()}
    truth = {"softmax": ops.zeros((1,), "int32"), "bbox": ops.zeros((1, 4))}
    targets = with_training_targets(truth, list(outputs))
    model.compute_loss(y=targets, y_pred=outputs, training=True)
    model.compute_metrics(None, targets, outputs, None)
    model.reset_metrics()


def collect_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Values of all variables as they are now, by names such as `model/0003/stem/kernel`.

    Arrays may be read-only; they stay as they are while training goes on.
    """
    return {
        f"{group}/{index:04d}/{variable.path}": _value_of(variable)
        for group, variables in variables_of(model).items()
        for index, variable in enumerate(variables)
    }


def _value_of(variable: keras.Variable) -> np.ndarray:
    """The value of a variable, without a copy where one device holds it.

    Its buffer is shared then, and TensorFlow copies a shared buffer before it writes to it.
    """
    value = variable.value
    if isinstance(value, tf.distribute.DistributedValues):
        return np.asarray(keras.ops.convert_to_numpy(variable))
    return np.asarray(tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype))


def restore_arrays(
    model: keras.Model, arrays: Mapping[str, np.ndarray], groups: Iterable[str]
) -> None:
    """Puts copies back into the variables of some groups, in their order.

    Paths are not compared: Keras numbers unnamed layers through a whole process.

    Raises:
        CheckpointError: If number, shape or type of the variables differ.
    """
    for group in groups:
        variables = variables_of(model)[group]
        names = sorted(name for name in arrays if name.startswith(f"{group}/"))
        if len(names) != len(variables):
            raise checkpoint_files.CheckpointError(
                f"the checkpoint holds {len(names)} {group} variables, but there are "
                f"{len(variables)}; it was made by another version of the program."
            )
        for name, variable in zip(names, variables, strict=True):
            array = arrays[name]
            if array.shape != tuple(variable.shape) or str(array.dtype) != variable.dtype:
                raise checkpoint_files.CheckpointError(
                    f"the checkpoint's {name} is {array.dtype} {array.shape}, but {variable.path} "
                    f"is {variable.dtype} {tuple(variable.shape)}; it was made by another version "
                    "of the program."
                )
            variable.assign(array)


def are_finite(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether all weights and all of the optimizer's variables are numbers."""
    return all(
        bool(np.isfinite(array).all())
        for name, array in arrays.items()
        if not name.startswith(METRICS) and np.issubdtype(array.dtype, np.floating)
    )


def random_state() -> dict[str, Any]:
    """State of the generators of Python, NumPy and TensorFlow; layers' seeds are variables."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    generator = tf.random.get_global_generator()
    inner = numpy_state["state"]
    return {
        "python": [version, list(words), gauss],
        "numpy": {**numpy_state, "state": {"key": inner["key"].tolist(), "pos": int(inner["pos"])}},
        "tensorflow": {"state": generator.state.numpy().tolist(), "alg": int(generator.algorithm)},
    }


def restore_random(state: Mapping[str, Any]) -> None:
    """The inverse of `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    inner = state["numpy"]["state"]
    key = np.asarray(inner["key"], np.uint32)
    np.random.set_state({**state["numpy"], "state": {**inner, "key": key}})
    saved, names = state["tensorflow"], {1: "philox", 2: "threefry"}
    words = np.asarray(saved["state"], np.int64)
    tf.random.set_global_generator(tf.random.Generator.from_state(words, names[saved["alg"]]))


def callback_states(callbacks: Iterable[keras.callbacks.Callback]) -> dict[str, Any]:
    """Values of all callbacks that have some, by the name of their class."""
    stateful = [callback for callback in callbacks if isinstance(callback, Stateful)]
    return {type(callback).__name__: callback.state() for callback in stateful}


def restore_callbacks(
    callbacks: Iterable[keras.callbacks.Callback], states: Mapping[str, Any]
) -> None:
    """Restores the values of callbacks; those without saved values begin anew."""
    for callback in callbacks:
        name = type(callback).__name__
        if isinstance(callback, Stateful) and name in states:
            callback.restore(states[name])
