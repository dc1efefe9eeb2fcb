"""The curves of `benchmarks.transfer`: localization against the number of photographs."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from loc_keras.report.saving import new_figure, save_figure
from loc_keras.report.style import BLUE, FAINT, FONT, INK, LABEL_SIZE, TITLE_SIZE, VERMILLION

FIGURES = {"gt_known_loc": "GT-known localization", "top1_loc": "Top-1 localization"}
LOOK = {"random": (VERMILLION, "--", "o"), "pretrained": (BLUE, "-", "s")}


def save_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws a column a data set and a row a figure; bars span the seeds."""
    sets = list(dict.fromkeys(row["set"] for row in rows))
    figure = new_figure(3.4 * len(sets), 2.9 * len(FIGURES), 110)
    axes = figure.subplots(len(FIGURES), len(sets), sharey=True, squeeze=False)
    for line, (key, title) in enumerate(FIGURES.items()):
        for column, name in enumerate(sets):
            mine = [row for row in rows if row["set"] == name]
            _draw(axes[line][column], mine, key)
            if line == 0:
                axes[line][column].set_title(name, fontsize=TITLE_SIZE, fontfamily=FONT)
            if column == 0:
                axes[line][column].set_ylabel(f"{title}, %", fontsize=LABEL_SIZE)
            if line == len(FIGURES) - 1:
                axes[line][column].set_xlabel("training photographs", fontsize=LABEL_SIZE)
    axes[0][0].legend(frameon=False, fontsize=LABEL_SIZE, loc="lower right")
    figure.tight_layout()
    save_figure(figure, path)


def _draw(axis: Axes, rows: list[dict[str, Any]], key: str) -> None:
    counts = sorted({row["train"] for row in rows})
    for arm, (colour, dashes, marker) in LOOK.items():
        values = [
            [100 * row[key] for row in rows if row["train"] == count and row["arm"] == arm]
            for count in counts
        ]
        points = [(count, found) for count, found in zip(counts, values, strict=True) if found]
        if not points:
            continue
        x = [count for count, _ in points]
        means = [sum(found) / len(found) for _, found in points]
        spans = [
            [mean - min(found) for mean, (_, found) in zip(means, points, strict=True)],
            [max(found) - mean for mean, (_, found) in zip(means, points, strict=True)],
        ]
        axis.errorbar(
            x,
            means,
            yerr=spans,
            label=f"{arm} weights",
            color=colour,
            linestyle=dashes,
            marker=marker,
            markersize=4,
            capsize=3,
        )
    axis.set_xscale("log")
    axis.set_xticks(counts, [str(count) for count in counts], color=INK)
    axis.minorticks_off()
    axis.set_ylim(0, 102)
    axis.grid(color=FAINT)
