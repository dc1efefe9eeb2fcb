"""The figures of a run as CSV: a row an epoch, and a row for each validation within an epoch."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from loc_keras.atomic_file import written_aside
from loc_keras.training.callbacks import joint_score
from loc_keras.training.position import Position

Logs = dict[str, Any] | None


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

    def state(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": list(self.rows)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes rows back; the file follows at the next epoch's end."""
        self.rows = list(state["rows"])


class WithinEpochValidation(keras.callbacks.Callback):
    """Measures every `every` steps within an epoch and writes `history_steps.csv`.

    Args:
        every: Steps between two measurements.
        position: Knows the step.
        measure: Gives the validation figures of the model as it stands.
        report: Takes the global step, the epoch and the figures with the prefix `val_`.
        path: The file.
    """

    def __init__(
        self,
        every: int,
        position: Position,
        measure: Callable[[], Mapping[str, float]],
        report: Callable[[int, int, dict[str, float]], None],
        path: Path,
    ) -> None:
        """Stores what to call; see the class."""
        super().__init__()
        self.every = every
        self.position = position
        self.measure = measure
        self.report = report
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Measures when it is time."""
        step, epoch = self.position.global_step, self.position.place.epoch
        if self.position.passing_over or step % self.every:
            return
        found = {f"val_{name}": float(value) for name, value in self.measure().items()}
        score = joint_score(found)
        if score is not None:
            found["val_score"] = score
        self.rows.append({"step": step, "epoch": epoch + 1, **found})
        write_rows(self.path, self.rows)
        self.report(step, epoch, found)

    def state(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": list(self.rows)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes rows back."""
        self.rows = list(state["rows"])


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows as CSV with the union of their columns in order of appearance, atomically."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with written_aside(path) as aside, aside.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
