"""What a training shows: a live line on a terminal, and anywhere one row an epoch."""

import math
import time
from collections.abc import Mapping
from typing import Any

import keras
from rich.console import Console
from rich.live import Live
from rich.text import Text

from loc_keras.evaluation.figures import MISSING, format_value
from loc_keras.training.budget import After, Budget
from loc_keras.training.callbacks import Checkpoints, EpochFigures, Logs, Position

REFRESH_SECONDS = 0.1
"""The live line is drawn at most so often."""

BEST = "best"
"""Marks an epoch whose model is kept as the best so far."""

_MEASURES = ("softmax_accuracy", "bbox_iou")


class LiveLine:
    """A last line that is rewritten in place while the context lasts; only on a terminal.

    The cursor stays visible, so that a process that is ended at once leaves the terminal as it was.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console
        self._live: Live | None = None
        self._drawn = -math.inf

    def __enter__(self) -> "LiveLine":
        if self.console is not None and self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
            self.console.show_cursor(True)
        return self

    def __exit__(self, *error: object) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def show(self, text: str) -> None:
        """Shows a text, cut to the terminal's width, unless one was shown just now."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn >= REFRESH_SECONDS:
            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
            self._drawn = now

    def print(self, text: Text) -> None:
        """Prints a line above, whole."""
        if self.console is not None:
            self.console.print(text, highlight=False, soft_wrap=True)


class TrainingProgress(keras.callbacks.Callback):
    """Shows step, speed, loss and time left while an epoch lasts, and a row at its end.

    Comes after the callbacks that add figures (`speed`) and choose the best epoch (`models`).
    Epochs are those of the whole training, which a budget may correct. The name stands before the
    live line, for one of several trainings, whose rows are not printed.
    """

    def __init__(
        self,
        line: LiveLine,
        position: Position,
        speed: EpochFigures,
        models: Checkpoints,
        epochs: int,
        *,
        name: str = "",
        after: After = lambda epochs, epoch_seconds: 0.0,
        budget: Budget | None = None,
    ) -> None:
        super().__init__()
        self.line = line
        self.position = position
        self.speed = speed
        self.models = models
        self._epochs = epochs
        self.budget = budget
        self.name = name
        self.after = after
        self._has_header = False
        self._began: tuple[int, float] | None = None  # The first step ended then: it holds tracing.

    @property
    def epochs(self) -> int:
        """Of the whole training."""
        return self._epochs if self.budget is None else self.budget.epochs

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Draws the live line."""
        if self.position.passing_over:
            return
        if self._began is None:
            self._began = self.position.global_step, time.monotonic()
        speed = self.speed.images_per_second
        parts = [
            self.name,
            f"epoch {self.position.place.epoch + 1}/{self.epochs}",
            f"step {batch + 1}/{self.position.steps_per_epoch}",
            "" if speed is None else f"{speed:,.0f} images/s",
            f"loss {_loss(float((logs or {}).get('loss', math.nan)))}",
            f"{clock_time(self.seconds_left())} left",
        ]
        self.line.show("  ".join(filter(None, parts)))

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Says that it is validating."""
        epoch = f"epoch {self.position.place.epoch + 1}/{self.epochs}"
        left = f"{clock_time(self.seconds_left())} left"
        self.line.show("  ".join(filter(None, [self.name, epoch, "validating", left])))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Prints the row, after a header before the first."""
        if self.name:
            return
        has_classes = self.model.output["softmax"].shape[-1] > 1
        if not self._has_header:
            for text in header(self.epochs, has_classes=has_classes):
                self.line.print(Text(text, style="dim"))
            self._has_header = True
        is_best = self.models.best_epoch == epoch and self.models.val_images > 0
        row = epoch_row(
            epoch + 1, self.epochs, logs or {}, is_best, self.seconds_left(), has_classes
        )
        shown = Text(row)
        shown.highlight_words([BEST], "bold green")
        self.line.print(shown)

    def seconds_left(self) -> float | None:
        """Time until the command is done, by the pace so far with its pauses; None at the start."""
        if self._began is None:
            return None
        first, began = self._began
        done = self.position.global_step - first
        if not done:
            return None
        total = self.epochs * self.position.steps_per_epoch
        left = total - self.position.global_step
        pace = (time.monotonic() - began) / done
        return left * pace + self.after(self.epochs, pace * self.position.steps_per_epoch)


def header(epochs: int, *, has_classes: bool = True) -> tuple[str, str]:
    """The two lines above the rows of a training of so many epochs."""
    names = [f"{'loss':>9}", f"{'accuracy':>9}" if has_classes else "", f"{'mean IoU':>10}"]
    side = "".join(names)
    first = " " * _width(epochs)
    above = f"{first}{'training':>{len(side)}}{'validation':>{len(side)}}"
    return above, f"{'epoch':>{len(first)}}{side}{side}{'left':>15}"


def epoch_row(
    epoch: int,
    epochs: int,
    logs: Mapping[str, Any],
    is_best: bool,
    left: float | None,
    has_classes: bool = True,
) -> str:
    """The figures of an epoch, from 1, for training and validation, as a line without an end."""
    cells = [f"{f'{epoch}/{epochs}':>{_width(epochs)}}"]
    for prefix in ("", "val_"):
        accuracy, iou = (
            format_value(name, float(logs.get(prefix + name, math.nan))) for name in _MEASURES
        )
        cells.append(f"{_loss(float(logs.get(f'{prefix}loss', math.nan))):>9}")
        cells.append(f"{accuracy:>9}" if has_classes else "")
        cells.append(f"{iou:>10}")
    cells.append(f"{BEST if is_best else '':>6}{clock_time(left):>9}")
    return "".join(cells)


def clock_time(seconds: float | None) -> str:
    """A duration as `4:05` or `1:04:05`; a dash where it is not known."""
    if seconds is None:
        return MISSING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 100:
        return f"{hours:,} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _width(epochs: int) -> int:
    return max(len("epoch"), len(f"{epochs}/{epochs}"))


def _loss(value: float) -> str:
    if not math.isfinite(value):
        return MISSING
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.2g}"
