"""The curves of `benchmarks.time_to_quality`: what each way has reached after how many seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loc_keras.report.saving import new_figure, save_figure
from loc_keras.report.style import FAINT, FONT, INK, LABEL_SIZE, TITLE_SIZE

SEEN_FROM = {"accuracy": (0.9, 1.0), "iou": (0.85, 1.0)}
TITLES = {"accuracy": "class accuracy", "iou": "mean IoU"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
DASHES = ("-", "--", ":")


def draw(
    found: Mapping[str, Sequence[Any]], levels: Mapping[str, tuple[float, float]], path: Path
) -> None:
    """Draws accuracy and IoU over time, a line a way; levels are dotted lines."""
    figure = new_figure(9.5, 4.2, 110)
    axes = figure.subplots(1, 2)
    for axis, (name, span) in zip(axes, SEEN_FROM.items(), strict=True):
        for number, (way, points) in enumerate(found.items()):
            axis.plot(
                [point.seconds for point in points],
                [getattr(point, name) for point in points],
                label=way,
                color=COLOURS[number % len(COLOURS)],
                linestyle=DASHES[number // len(COLOURS)],
                linewidth=2.2 if number == 0 else 1.2,
            )
        for level in levels.values():
            axis.axhline(level[name == "iou"], color=INK, linestyle=":", linewidth=0.8)
        axis.set_ylim(*span)
        axis.set_xlim(left=0)
        axis.set_xlabel("seconds since the command began", fontsize=LABEL_SIZE)
        axis.set_title(TITLES[name], fontsize=TITLE_SIZE, fontfamily=FONT)
        axis.grid(color=FAINT, linewidth=0.5)
    axes[1].legend(frameon=False, fontsize=LABEL_SIZE, loc="lower right")
    figure.tight_layout()
    save_figure(figure, path)
