"""What happens beside the step: guarding, saving, logging. Each class does one thing.

Their order in the list matters: `EpochFigures` adds figures to the logs that later ones use.
"""

import csv
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from loc_keras.atomic_file import written_aside
from loc_keras.errors import TrainingError
from loc_keras.training.batch_statistics import unsynchronized
from loc_keras.training.phases import all_trainable

Logs = dict[str, Any] | None


class EpochFigures(keras.callbacks.Callback):
    """Adds `learning_rate`, `images_per_second` and `val_score` to the logs of each epoch.

    `images_per_second` counts the time of steps alone, from the second of each epoch on, so that
    neither tracing nor validation blurs it. `val_score` is the class accuracy times the mean
    IoU of the validation images: one figure that only a model good at both has high.
    """

    def __init__(self, batch_size: int) -> None:
        """Takes the number of images in each step."""
        super().__init__()
        self.batch_size = batch_size
        self._steps = 0
        self._seconds = 0.0
        self._step_began = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Starts to count anew."""
        self._steps = 0
        self._seconds = 0.0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Notes when the step began."""
        self._step_began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Adds the time of the step; the first of an epoch may hold the tracing."""
        if self._steps > 0:
            self._seconds += time.perf_counter() - self._step_began
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds the figures."""
        if logs is None:
            return
        logs["learning_rate"] = float(
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )
        if self._seconds > 0:
            logs["images_per_second"] = (self._steps - 1) * self.batch_size / self._seconds
        score = joint_score(logs)
        if score is not None:
            logs["val_score"] = score


def joint_score(logs: Mapping[str, Any]) -> float | None:
    """Validation accuracy times mean IoU, in [0, 1]; None where either is missing."""
    if "val_softmax_accuracy" not in logs or "val_bbox_iou" not in logs:
        return None
    return float(logs["val_softmax_accuracy"]) * float(logs["val_bbox_iou"])


class FiniteLossGuard(keras.callbacks.Callback):
    """Stops the run at the first step whose loss is not finite.

    Args:
        last_good: gives the path of the newest checkpoint, or None before the first.
    """

    def __init__(self, last_good: Callable[[], Path | None]) -> None:
        """Takes the function that knows the checkpoints."""
        super().__init__()
        self.last_good = last_good
        self._epoch = 0
        self._steps_before = 0
        self._steps = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Notes the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Looks at the running loss, which stays not finite once a step's loss was.

        Raises:
            TrainingError: naming the step, the outputs concerned and the last good checkpoint.
        """
        self._steps += 1
        if logs is None or math.isfinite(float(logs.get("loss", 0.0))):
            return
        bad = [
            name
            for name, value in logs.items()
            if name.endswith("_loss") and not math.isfinite(float(value))
        ]
        saved = self.last_good()
        raise TrainingError(
            f"the loss is not finite at step {self._steps} (epoch {self._epoch + 1}, step "
            f"{batch + 1} of the epoch; {', '.join(bad) or 'sum of the losses'}); "
            + (f"the last good checkpoint is {saved}" if saved else "no checkpoint was saved yet")
            + "; lower train.learning_rate or set train.gradient_clip_norm, and check the data."
        )


class Checkpoints(keras.callbacks.Callback):
    """Saves the localizer: `last.keras` after each epoch, `best.keras` at the best one.

    Each file is written aside and renamed, so that a killed run leaves whole files only.

    The best epoch is the newest whose monitor is within one standard error of the highest so far
    (the rule of Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3). With
    few validation images an accuracy jumps by luck; the plain maximum would then keep an epoch from
    before the learning rate came down.

    Args:
        localizer: the model to save; it shares its weights with the one that is trained.
        folder: the run folder.
        monitor: name in the logs; smaller is better for losses, larger for all else.
        val_images: number of validation images, for the standard error.
    """

    def __init__(self, localizer: keras.Model, folder: Path, monitor: str, val_images: int) -> None:
        """Stores what and where to save."""
        super().__init__()
        self.localizer = localizer
        self.folder = folder
        self.monitor = monitor
        self.val_images = val_images
        self._peak: float | None = None
        self._slack = 0.0
        self.best_epoch: int | None = None

    @property
    def last_path(self) -> Path:
        """Where the newest model lies."""
        return self.folder / "last.keras"

    @property
    def best_path(self) -> Path:
        """Where the best model lies."""
        return self.folder / "best.keras"

    def newest(self) -> Path | None:
        """The newest checkpoint that exists."""
        return self.last_path if self.last_path.exists() else None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Saves what this epoch earned; weights that give no finite loss are not worth a file."""
        if not np.isfinite((logs or {}).get("val_loss", 0.0)):
            return
        save_model(self.localizer, self.last_path)
        self.offer(logs or {}, epoch)

    def offer(self, logs: Mapping[str, Any], epoch: int) -> bool:
        """Saves the model as the best one if the logs say so, and tells whether it did."""
        value = logs.get(self.monitor)
        if value is None or not np.isfinite(value):
            return False
        height = -float(value) if self.monitor.endswith("loss") else float(value)
        if self._peak is None or height > self._peak:
            self._peak = height
            self._slack = standard_error(self.monitor, logs, self.val_images)
        if height < self._peak - self._slack:
            return False
        self.best_epoch = epoch
        save_model(self.localizer, self.best_path)
        return True


def standard_error(monitor: str, logs: Mapping[str, Any], images: int) -> float:
    """Standard error of a monitor that is, or is led by, the share of images that are right.

    The share is taken as (right + 1) / (images + 2) (Laplace), so that it is not 0 where all are
    right. Other monitors (losses, mean IoU) have no such jumps and get 0.
    """
    names = {"val_score": "val_softmax_accuracy", "val_softmax_accuracy": "val_softmax_accuracy"}
    share_of = {**names, "val_top1_loc": "val_top1_loc"}.get(monitor)
    if share_of is None or share_of not in logs or images < 1:
        return 0.0
    share = (float(logs[share_of]) * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / images)


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a localizer as a `.keras` file, whole or absent; no layer is frozen or synchronized."""
    with written_aside(path) as aside, all_trainable(model), unsynchronized(model):
        model.save(aside)


class HistoryFile(keras.callbacks.Callback):
    """Writes `history.csv`: one row an epoch, complete at each epoch's end.

    The file is written anew and renamed each time, since columns may appear later (a validation
    figure is absent from an epoch without validation).
    """

    def __init__(self, path: Path) -> None:
        """Takes the path of the file."""
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds a row."""
        row: dict[str, Any] = {"epoch": epoch + 1}
        self.rows.append(row | {name: float(value) for name, value in (logs or {}).items()})
        write_rows(self.path, self.rows)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows as CSV with the union of their columns in order of appearance, atomically."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with written_aside(path) as aside, aside.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


class WithinEpochValidation(keras.callbacks.Callback):
    """Measures every `every` steps within an epoch and hands the figures on.

    Args:
        every: steps between two measurements.
        measure: gives the validation figures of the model as it stands.
        report: takes the global step, the epoch and the figures with the prefix `val_`.
    """

    def __init__(
        self,
        every: int,
        measure: Callable[[], Mapping[str, float]],
        report: Callable[[int, int, dict[str, float]], None],
    ) -> None:
        """Stores what to call; see the class."""
        super().__init__()
        self.every = every
        self.measure = measure
        self.report = report
        self._epoch = 0
        self._step = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Measures when it is time."""
        self._step += 1
        if self._step % self.every:
            return
        logs_now = {f"val_{name}": float(value) for name, value in self.measure().items()}
        score = joint_score(logs_now)
        if score is not None:
            logs_now["val_score"] = score
        self.report(self._step, self._epoch, logs_now)
