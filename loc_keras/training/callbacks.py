"""What happens beside the step: measuring, saving, stopping. Each class does one thing.

Their order in the list matters: `EpochFigures` adds figures to the logs that later ones use.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from loc_keras.atomic_file import written_aside
from loc_keras.errors import TrainingError
from loc_keras.training.batch_statistics import unsynchronized
from loc_keras.training.phases import all_trainable
from loc_keras.training.position import Position

Logs = dict[str, Any] | None


class EpochFigures(keras.callbacks.Callback):
    """Adds `learning_rate`, `images_per_second` and `val_score` to the logs of each epoch.

    `images_per_second` counts the time of steps alone, from the second of each epoch on, so that
    neither tracing nor validation blurs it. `val_score` is the class accuracy times the mean
    IoU of the validation images: one figure that only a model good at both has high.
    """

    def __init__(self, batch_size: int, position: Position) -> None:
        """Takes the number of images in each step, and what knows which steps were taken."""
        super().__init__()
        self.batch_size = batch_size
        self.position = position
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
        if self.position.passing_over:
            return
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

    def state(self) -> dict[str, Any]:
        """How high the best one stands."""
        return {"peak": self._peak, "slack": self._slack, "best_epoch": self.best_epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes that back; the files come from the checkpoint."""
        self._peak, self._slack = state["peak"], state["slack"]
        self.best_epoch = state["best_epoch"]


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
    """Saves a localizer as a `.keras` file, whole or absent; no layer is frozen or synchronized.

    Raises:
        TrainingError: If the disk is full or cannot be written.
    """
    try:
        with written_aside(path) as aside, all_trainable(model), unsynchronized(model):
            model.save(aside)
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be written ({error.strerror or error}); make room or mend the disk: "
            "the run goes on from its last checkpoint."
        ) from error


class PatientStopping(keras.callbacks.EarlyStopping):
    """Keras's early stopping, whose patience survives an interruption."""

    def state(self) -> dict[str, Any]:
        """The best value, and how long it has been waited for a better one."""
        best = None if self.best is None else float(self.best)
        return {"best": best, "wait": self.wait, "best_epoch": getattr(self, "best_epoch", 0)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes them back, after Keras has reset them at the beginning of `fit`."""
        self.best, self.wait = state["best"], state["wait"]
        self.best_epoch = state["best_epoch"]


class AveragedWeights(keras.callbacks.SwapEMAWeights):
    """Keras's swap of weights and averages at an epoch's end, which remembers where they are.

    Keras swaps by adding and subtracting, so that swapping there and back rounds. A run that goes
    on has to swap where the other one did, and not once more or less.
    """

    def __init__(self) -> None:
        """Swaps at the ends of epochs, so that what is saved is the average."""
        super().__init__(swap_on_epoch=True)

    def state(self) -> dict[str, Any]:
        """Whether the averages stand in the model."""
        return {"swapped": self._ema_weights_in_model}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes that back."""
        self._ema_weights_in_model = state["swapped"]
