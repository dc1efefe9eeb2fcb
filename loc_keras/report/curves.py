"""Curves of a run: losses, accuracies and speed over the epochs, on one page."""

import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from loc_keras.errors import DataError
from loc_keras.report.history import Column, History, read_history
from loc_keras.report.panel import Curve, Line, Panel, Role, draw_key, draw_panel
from loc_keras.report.saving import new_figure, save_figure
from loc_keras.report.style import (
    BLUE,
    FONT,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    SMALL_SIZE,
    TITLE_SIZE,
    VERMILLION,
)
from loc_keras.report.text import shorten

# Lengths in inches; DPI in pixels per inch.
PANEL_WIDTH = 2.45
PANEL_HEIGHT = 1.75
LEFT = 0.62
RIGHT = 1.32
ABOVE = 0.36
BELOW = 0.46
MARGIN = 0.24
TITLE = 0.34
KEY = 0.3
COLUMNS = 3
DPI = 144.0

PANELS = (
    Panel("Total loss", "loss", (Line("loss", ""),)),
    Panel("Class loss", "loss", (Line("softmax_loss", ""),)),
    Panel(
        "Box loss",
        "loss",
        (Line("bbox_loss", "box"), Line("bbox_distribution_loss", "sides")),
    ),
    Panel("Class accuracy", "percent", (Line("softmax_accuracy", ""),)),
    Panel("Mean IoU", "fraction", (Line("bbox_iou", ""),)),
    Panel(
        "Box accuracy by IoU threshold",
        "percent",
        (Line("bbox_acc50", "≥ .5"), Line("bbox_acc75", "≥ .75"), Line("bbox_acc90", "≥ .9")),
    ),
    Panel(
        "Class and box together",
        "percent",
        (
            Line("top1_loc", "Top-1"),
            Line("top5_loc", "Top-5"),
            Line("gt_known_loc", "GT-known"),
            Line("max_box_acc_v2", "BoxAccV2"),
        ),
    ),
    Panel("Learning rate", "rate", (Line("learning_rate", ""),)),
    Panel("Speed, images/s", "count", (Line("images_per_second", ""),)),
)
CLASS_COLUMNS = ("softmax_loss", "softmax_accuracy")
"""Columns of the class alone, which say nothing where there is one class."""

LINE_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE)


def save_curves(
    history: str | os.PathLike[str] | History,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    hidden: Collection[str] = (),
) -> Path:
    """Draw the curves of a run on one page and write them as PNG, whole or not at all.

    Args:
        history: CSV file or mapping, see `read_history`; the columns are Keras's own names,
            those of validation with the prefix `val_`. Unknown columns are passed over.
        path: File to write.
        title: First line of the page, for example the name of the run.
        hidden: Columns that are not drawn.

    Returns:
        The path written.

    Raises:
        DataError: The history cannot be read, or holds none of the known columns.
    """
    columns = read_history(history)
    drawn = {name: one for name, one in columns.items() if name.removeprefix("val_") not in hidden}
    panels = [(panel, curves) for panel in PANELS if (curves := panel_curves(panel, drawn))]
    if not panels:
        source = "The history" if isinstance(history, Mapping) else str(history)
        raise DataError(
            f"{source}: no known quantity to draw; expected columns such as loss, val_loss or "
            f"val_bbox_iou, found {', '.join(columns)}."
        )
    return save_figure(draw_curves(panels, title), path)


def panel_curves(panel: Panel, columns: dict[str, Column]) -> list[Curve]:
    """Pick the curves of a panel that have at least one finite value.

    Args:
        panel: What may be shown.
        columns: The history, with `epoch`.

    Returns:
        The training curve, then the validation curve of each line of the panel.
    """
    curves = []
    for line, colour in zip(panel.lines, LINE_COLOURS, strict=False):
        training: Role = "setting" if panel.unit in ("rate", "count") else "training"
        roles: dict[str, Role] = {line.column: training, f"val_{line.column}": "validation"}
        for column, role in roles.items():
            if column not in columns:
                continue
            finite = np.isfinite(columns[column]) & np.isfinite(columns["epoch"])
            if finite.any():
                epochs, values = columns["epoch"][finite], columns[column][finite]
                curves.append(Curve(epochs, values, colour, role, line.words))
    return curves


def draw_curves(panels: Sequence[tuple[Panel, Sequence[Curve]]], title: str) -> Figure:
    """Draw panels in rows of three on a new figure.

    Args:
        panels: Each panel with its curves, none empty.
        title: First line of the page.

    Returns:
        A figure of its own.
    """
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    cell_width, cell_height = LEFT + PANEL_WIDTH + RIGHT, ABOVE + PANEL_HEIGHT + BELOW
    head = MARGIN + (TITLE if title else 0.0) + KEY
    width, height = columns * cell_width, head + rows * cell_height
    figure = new_figure(width, height, DPI)
    words = shorten(title, (width - LEFT - MARGIN) * 72, TITLE_SIZE, "bold")
    style: dict[str, Any] = {"size": TITLE_SIZE, "weight": "bold", "family": FONT, "color": INK}
    top = 1.0 - MARGIN / height
    figure.text(LEFT / width, top, words, va="top", parse_math=False, **style)
    roles = {curve.role for _, curves in panels for curve in curves}
    draw_key(figure, roles, left=LEFT / width, top=1.0 - (head - KEY) / height)
    for number, (panel, curves) in enumerate(panels):
        row, column = divmod(number, columns)
        left = column * cell_width + LEFT
        bottom = height - head - (row + 1) * cell_height + BELOW
        box = (left / width, bottom / height, PANEL_WIDTH / width, PANEL_HEIGHT / height)
        axes = figure.add_axes(box)
        draw_panel(axes, panel, curves)
        if number + columns >= len(panels):
            axes.set_xlabel("epoch", size=SMALL_SIZE, family=FONT, color=MUTED)
    return figure
