"""When the numbers fail: it is seen at once, the run goes back once, then says what it read."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from loc_keras.errors import TrainingError
from loc_keras.training.position import Position
from loc_keras.training.run_folder import write_json

Logs = dict[str, Any] | None
Sources = Callable[[int], Sequence[str]]
"""Names of the images in the batch of a global step, counted from 0."""

NOT_FINITE_FILE = "not_finite.json"
SLOWER = 0.5
"""Factor on the learning rate after going back."""

_SHOWN = 5


class NotFiniteError(TrainingError):
    """The loss, or the weights, stopped being numbers.

    Args:
        where: Step and epoch, in words.
        what: Outputs concerned, in words.
        batch: Global step, from 0, whose batch was the last one learned from.
    """

    def __init__(self, where: str, what: str, batch: int) -> None:
        """Puts the sentence together."""
        super().__init__(
            f"the loss is not finite at {where[:-1]}; {what}); lower train.learning_rate or set "
            "train.gradient_clip_norm, and check the data."
        )
        self.where = where
        self.what = what
        self.batch = batch


class FiniteLossGuard(keras.callbacks.Callback):
    """Raises at the first step whose loss is not finite, or where the weights are not at an end.

    Args:
        position: Knows the step.
    """

    def __init__(self, position: Position) -> None:
        """Stores the position."""
        super().__init__()
        self.position = position

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Looks at the running loss, which stays not finite once a step's loss was.

        Raises:
            NotFiniteError: naming the step and the outputs concerned.
        """
        if logs is None or math.isfinite(float(logs.get("loss", 0.0))):
            return
        bad = [
            name
            for name, value in logs.items()
            if name.endswith("_loss") and not math.isfinite(float(value))
        ]
        raise self._error(", ".join(bad) or "sum of the losses")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Looks at the weights where validation gave no number: the last step may be at fault.

        Raises:
            NotFiniteError: if some weight is not finite.
        """
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
    """The sentence with which a run stops, with the files of the batch in the run folder.

    Args:
        fault: What was seen.
        last_good: The newest checkpoint.
        folder: The run folder; gets `not_finite.json`.
        sources: Tells what was in a batch; None where that is not known.
    """
    files = list(sources(fault.batch)) if sources else []
    write_json(
        folder / NOT_FINITE_FILE,
        {"step": fault.batch + 1, "where": fault.where, "what": fault.what, "files": files},
    )
    shown = ", ".join(files[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")
    return TrainingError(
        f"the loss is again not finite at {fault.where[:-1]}; {fault.what}), with the learning "
        "rate halved after the first time; "
        + (f"the batch has {shown} ({NOT_FINITE_FILE} lists all); " if files else "")
        + f"the last good checkpoint is {last_good}; lower train.learning_rate or set "
        "train.gradient_clip_norm, and check these images and their boxes."
    )


def going_back(fault: NotFiniteError, last_good: Path) -> str:
    """The sentence that tells of the one time that a run goes back."""
    return (
        f"the loss is not finite at {fault.where[:-1]}; {fault.what}): going back to "
        f"{last_good}, with the learning rate times {SLOWER:g} from there on. This is done once."
    )
