"""Callbacks of a training: measuring, saving, stopping. `fit.py` lists them in their order."""

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from loc_keras.atomic_file import written_aside
from loc_keras.config.train import SizeStageConfig
from loc_keras.errors import TrainingError
from loc_keras.models.body import body_layers
from loc_keras.training.batch_norm import batch_norms
from loc_keras.training.distribution import Distribution
from loc_keras.training.model import TrainingModel, size_at
from loc_keras.training.run_folder import (
    BEST_FILE,
    LAST_FILE,
    NOT_FINITE_FILE,
    Interruption,
    write_json,
)

Logs = dict[str, Any] | None


@dataclass(frozen=True)
class Place:
    """A place between two steps: finished epochs, with their validation, and steps of the next."""

    epoch: int = 0
    step: int = 0


class Position(keras.callbacks.Callback):
    """Knows the place of the run; other callbacks ask it, so it comes first in their list.

    Keras's `fit` begins every epoch at its first batch. To go on in the middle of an epoch, its
    first batches are passed over: their step is replaced by one that computes nothing and takes
    nothing from the data, whose stream begins behind them. So batch numbers, the progress bar and
    the counters of other callbacks go on by themselves. `restore_metrics` puts the running measures
    of that epoch back, after Keras has reset them.
    """

    def __init__(
        self,
        steps_per_epoch: int,
        start: Place | None = None,
        restore_metrics: Callable[[], None] = lambda: None,
    ) -> None:
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


class ProgressiveSize(keras.callbacks.Callback):
    """Changes the size of the training images where a stage ends; comes after the position."""

    model: TrainingModel

    def __init__(
        self, stages: Sequence[SizeStageConfig], total_steps: int, position: Position
    ) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self.total_steps = total_steps
        self.position = position

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Makes the step anew where the next batch is to have another size."""
        if self.position.passing_over:
            return
        height, width = self.model.input.shape[1:3]
        step = self.position.global_step
        size = size_at(step, self.stages, self.total_steps, (height, width))
        if size != self.model.train_size:
            self.model.train_size = size
            # The optimizer, the metrics and all variables stay; only the graph is another.
            self.model.make_train_function(force=True)
            self.position.replace_step(self.model.train_function)


class SharedInterruption(keras.callbacks.Callback):
    """Lets all workers stop behind the same step, once one of them was asked to stop.

    A worker that stopped alone would leave the others waiting in the next step.
    """

    def __init__(self, devices: Distribution, interruption: Interruption) -> None:
        super().__init__()
        self.devices = devices
        self.interruption = interruption

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Asks the others."""
        asked = self.interruption.asked is not None
        self.interruption.agree(self.devices.on_any(asked))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Likewise, after a validation."""
        self.on_train_batch_end(0)


class EpochFigures(keras.callbacks.Callback):
    """Adds `learning_rate`, `images_per_second` and `val_score` to the logs of each epoch.

    `images_per_second` counts the time of steps alone, from the second of each epoch on, so that
    neither tracing nor validation blurs it. `val_score` is the class accuracy times the mean
    IoU of the validation images: one figure that only a model good at both has high.
    """

    def __init__(self, batch_size: int, position: Position) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.position = position
        self._steps = 0
        self._seconds = 0.0
        self._step_began = 0.0

    @property
    def images_per_second(self) -> float | None:
        """Of this epoch so far; None before its second step."""
        return (self._steps - 1) * self.batch_size / self._seconds if self._seconds > 0 else None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Starts to count anew."""
        self._steps = 0
        self._seconds = 0.0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Notes when the step began."""
        self._step_began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Adds the time of the step; the first of an epoch may hold the tracing."""
        if self.position.passing_over:
            return
        if self._steps > 0:
            self._seconds += time.perf_counter() - self._step_began
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds the figures."""
        if logs is None:
            return
        rate = self.model.optimizer.learning_rate
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(rate))
        if self.images_per_second is not None:
            logs["images_per_second"] = self.images_per_second
        logs.update(joint_score(logs))


def joint_score(logs: Mapping[str, Any]) -> dict[str, float]:
    """`val_score`, validation accuracy times mean IoU, in [0, 1]; none where either is missing."""
    if "val_softmax_accuracy" not in logs or "val_bbox_iou" not in logs:
        return {}
    return {"val_score": float(logs["val_softmax_accuracy"]) * float(logs["val_bbox_iou"])}


class Checkpoints(keras.callbacks.Callback):
    """Saves the localizer: `last.keras` after each epoch, `best.keras` at the best one.

    Each file is written aside and renamed, so that a killed run leaves whole files only.

    The best epoch is the newest whose monitor is within one standard error of the highest so far
    (the rule of Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3). With
    few validation images an accuracy jumps by luck; the plain maximum would then keep an epoch from
    before the learning rate came down. Of a monitor that is a loss, smaller is better. Without
    validation images it is the newest.
    """

    def __init__(self, localizer: keras.Model, folder: Path, monitor: str, val_images: int) -> None:
        super().__init__()
        self.localizer = localizer
        self.best_path, self.last_path = folder / BEST_FILE, folder / LAST_FILE
        self.monitor = monitor
        self.val_images = val_images
        self._peak: float | None = None
        self._slack = 0.0
        self.best_epoch: int | None = None

    def models(self) -> list[Path]:
        """The models that were saved so far."""
        best = [self.best_path] if self.best_epoch is not None else []
        return best + ([self.last_path] if self.last_path.exists() else [])

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Saves what this epoch earned; weights that give no finite loss are not worth a file."""
        if not np.isfinite((logs or {}).get("val_loss", 0.0)):
            return
        save_model(self.localizer, self.last_path)
        self.offer(logs or {}, epoch)

    def offer(self, logs: Mapping[str, Any], epoch: int) -> bool:
        """Saves the model as the best if its monitor is good enough; returns whether it did."""
        value = logs.get(self.monitor) if self.val_images else float(epoch)
        if value is None or not np.isfinite(value):
            return False
        is_loss = self.monitor.endswith("loss") and self.val_images
        height = -float(value) if is_loss else float(value)
        if self._peak is None or height > self._peak:
            self._peak = height
            self._slack = standard_error(self.monitor, logs, self.val_images)
        if height < self._peak - self._slack:
            return False
        self.best_epoch = epoch
        save_model(self.localizer, self.best_path)
        return True

    def state(self) -> dict[str, Any]:
        """The highest value, its slack and the best epoch."""
        return {"peak": self._peak, "slack": self._slack, "best_epoch": self.best_epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores them; the files come from the checkpoint."""
        self._peak, self._slack = state["peak"], state["slack"]
        self.best_epoch = state["best_epoch"]


def standard_error(monitor: str, logs: Mapping[str, Any], images: int) -> float:
    """Standard error of a monitor that is, or is led by, the share of images that are right.

    The share is taken as (right + 1) / (images + 2) (Laplace), so that it is not 0 where all are
    right. Other monitors (losses, mean IoU) have no such jumps and get 0.
    """
    share_of = {
        "val_score": "val_softmax_accuracy",
        "val_softmax_accuracy": "val_softmax_accuracy",
        "val_top1_loc": "val_top1_loc",
    }.get(monitor)
    if share_of is None or share_of not in logs or images < 1:
        return 0.0
    share = (float(logs[share_of]) * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / images)


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a localizer, whole or absent, with no layer frozen or synchronized.

    Raises:
        TrainingError: If the disk is full or cannot be written.
    """
    try:
        with written_aside(path) as aside, _without_marks(model):
            model.save(aside)
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be written ({error.strerror or error}); free some space on the disk: "
            "the run goes on from its last checkpoint."
        ) from error


@contextmanager
def _without_marks(localizer: keras.Model) -> Iterator[None]:
    """Shows all layers as trainable and no batch normalisation as synchronized for a while.

    A saved file carries these marks: a frozen layer would silently stay frozen in later trainings,
    and Keras opens a synchronized one with TensorFlow as the backend alone.
    """
    plain = [(layer, "trainable", True) for layer in body_layers(localizer)]
    plain += [(layer, "synchronized", False) for layer in batch_norms(localizer)]
    marks = [(layer, name, getattr(layer, name)) for layer, name, _ in plain]
    for layer, name, value in plain:
        setattr(layer, name, value)
    try:
        yield
    finally:
        for layer, name, value in marks:
            setattr(layer, name, value)


class PatientStopping(keras.callbacks.EarlyStopping):
    """Keras's early stopping, whose patience survives an interruption."""

    def __init__(self, monitor: str, patience: int, say: Callable[[str], None]) -> None:
        """Stops after `patience` epochs without a better monitor, which tells its direction."""
        super().__init__(
            monitor, patience=patience, mode="min" if monitor.endswith("loss") else "max"
        )
        self.say = say

    def on_train_end(self, logs: Logs = None) -> None:
        """Says that it stopped the training."""
        if self.stopped_epoch > 0:
            self.say(
                f"stopped after epoch {self.stopped_epoch + 1}: {self.monitor} was no better for "
                f"{self.patience} epochs."
            )

    def state(self) -> dict[str, Any]:
        """The best value, and the epochs since."""
        best = None if self.best is None else float(self.best)
        return {"best": best, "wait": self.wait, "best_epoch": getattr(self, "best_epoch", 0)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores them, after Keras has reset them at the beginning of `fit`."""
        self.best, self.wait = state["best"], state["wait"]
        self.best_epoch = state["best_epoch"]


class AveragedWeights(keras.callbacks.SwapEMAWeights):
    """Keras's swap of weights and averages at an epoch's end; a checkpoint keeps where they are.

    Keras swaps by adding and subtracting, so that swapping there and back rounds. A resumed run has
    to swap exactly as often as an uninterrupted one.
    """

    def __init__(self) -> None:
        """Swaps at the ends of epochs, so that what is saved is the average."""
        super().__init__(swap_on_epoch=True)

    def state(self) -> dict[str, Any]:
        """Whether the averages stand in the model."""
        return {"swapped": self._ema_weights_in_model}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores that."""
        self._ema_weights_in_model = state["swapped"]


class RowsFile(keras.callbacks.Callback):
    """Collects rows in a CSV file that is whole after each of them, and survives an interruption.

    The file is written anew and renamed each time, since columns may appear later: a validation
    figure is absent from an epoch without validation.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row; columns of the file are the union of all rows' in order of appearance."""
        self.rows.append(row)
        columns = list(dict.fromkeys(name for earlier in self.rows for name in earlier))
        with written_aside(self.path) as aside, aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def state(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": list(self.rows)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores rows; the file follows with the next row."""
        self.rows = list(state["rows"])


class HistoryFile(RowsFile):
    """Writes `history.csv`: a row an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds a row."""
        row: dict[str, Any] = {"epoch": epoch + 1}
        self.add(row | {name: float(value) for name, value in (logs or {}).items()})


class WithinEpochValidation(RowsFile):
    """Measures every `every` steps within an epoch and writes `history_steps.csv`.

    `report` takes the global step, the epoch and the figures with the prefix `val_`.
    """

    def __init__(
        self,
        every: int,
        position: Position,
        measure: Callable[[], Mapping[str, float]],
        report: Callable[[int, int, dict[str, float]], None],
        path: Path,
    ) -> None:
        super().__init__(path)
        self.every = every
        self.position = position
        self.measure = measure
        self.report = report

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Measures when it is time."""
        step, epoch = self.position.global_step, self.position.place.epoch
        if self.position.passing_over or step % self.every:
            return
        measured = {f"val_{name}": float(value) for name, value in self.measure().items()}
        measured |= joint_score(measured)
        self.add({"step": step, "epoch": epoch + 1, **measured})
        self.report(step, epoch, measured)


Sources = Callable[[int], Sequence[str]]
"""Names of the images in the batch of a global step, counted from 0."""

SLOWER = 0.5
"""Factor on the learning rate after going back."""

_SHOWN = 5


class NotFiniteError(TrainingError):
    """The loss, or the weights, stopped being numbers.

    Args:
        where: Such as "step 4 (epoch 2, step 1 of the epoch)".
        what: Outputs concerned.
        batch: Global step, from 0, whose batch was the last one learned from.
    """

    def __init__(self, where: str, what: str, batch: int) -> None:
        self.where = where
        self.what = what
        self.batch = batch
        self.at = f"{where[:-1]}; {what})"
        super().__init__(
            f"the loss is not finite at {self.at}; lower train.learning_rate or set "
            "train.gradient_clip_norm, and check the data."
        )


class FiniteLossGuard(keras.callbacks.Callback):
    """Raises at the first step whose loss is not finite, or where the weights are not at an end."""

    def __init__(self, position: Position) -> None:
        super().__init__()
        self.position = position

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Raises NotFiniteError at a running loss that is not finite: it stays so once it was."""
        if logs is None or math.isfinite(float(logs.get("loss", 0.0))):
            return
        bad = [
            name
            for name, value in logs.items()
            if name.endswith("_loss") and not math.isfinite(float(value))
        ]
        raise self._error(", ".join(bad) or "sum of the losses")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Raises NotFiniteError where validation gave no number for some weight is none."""
        if math.isfinite(float((logs or {}).get("val_loss", 0.0))):
            return
        bad = [
            variable.path
            for variable in self.model.weights
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all()
        ]
        if bad:
            raise self._error(f"weights {', '.join(bad[:_SHOWN])}")

    def _error(self, what: str) -> NotFiniteError:
        place, step = self.position.place, self.position.global_step
        where = f"step {step} (epoch {place.epoch + 1}, step {place.step} of the epoch)"
        return NotFiniteError(where, what, step - 1)


def diagnosis(
    fault: NotFiniteError, last_good: Path | None, folder: Path, sources: Sources | None
) -> TrainingError:
    """The error that ends a run at its second failure; writes `not_finite.json` into its folder."""
    files = list(sources(fault.batch)) if sources else []
    write_json(
        folder / NOT_FINITE_FILE,
        {"step": fault.batch + 1, "where": fault.where, "what": fault.what, "files": files},
    )
    shown = ", ".join(files[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")
    return TrainingError(
        f"the loss is again not finite at {fault.at}, with the learning rate halved after the "
        "first time; "
        + (f"the batch has {shown} ({NOT_FINITE_FILE} lists all); " if files else "")
        + f"the last good checkpoint is {last_good}; lower train.learning_rate or set "
        "train.gradient_clip_norm, and check these images and their boxes."
    )
