"""Curves of a run: losses, accuracies and speed over the epochs, on one page."""

import csv
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from loc_keras.errors import DataError
from loc_keras.evaluation.figures import BY_RUN_KEY
from loc_keras.report.style import (
    BLUE,
    FONT,
    GREEN,
    INK,
    LABEL_SIZE,
    MUTED,
    PURPLE,
    SMALL_SIZE,
    TITLE_SIZE,
    VERMILLION,
    WORDS,
    dress,
    new_figure,
    new_page,
    save_figure,
    shorten,
    spread_apart,
    write,
)

Column = npt.NDArray[np.float64]
History = Mapping[str, Sequence[float] | Column]
Unit = Literal["loss", "percent", "fraction", "rate", "count"]
Role = Literal["validation", "training", "setting"]

MANY_POINTS = 30  # beyond this, markers on every point hide the line
LOG_RATIO = 10.0  # a loss that falls by more than this is drawn on a logarithmic axis
PAD = 0.06  # room above and below the curves, as a part of their span
# The axis is never zoomed further than this, so that noise does not look like news.
SMALLEST_SPAN = {"percent": 0.02, "fraction": 0.02}
BEGINNING = 0.2  # the part of a run whose values may leave the panel ...
ZOOM_EPOCHS = 5  # ... of a run of at least this many epochs ...
ZOOM = 3.0  # ... if without them the rest is shown this many times larger
STYLES: dict[Role, dict[str, Any]] = {
    "validation": {"linestyle": "-", "linewidth": 1.8, "marker": "o"},
    "training": {
        "linestyle": (0, (3, 1.6)),
        "linewidth": 1.3,
        "marker": "o",
        "markerfacecolor": "white",
        "alpha": 0.8,
    },
    "setting": {"linestyle": "-", "linewidth": 1.5, "marker": "o"},
}
LABEL_GAP = 0.095  # between two labels, as a part of the panel's height

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
ABOVE_FIRST = 1.6
"""The chart ends at this many times the first loss: what diverges would flatten all else."""


@dataclass(frozen=True)
class Panel:
    """One set of axes; lines without data are left out, and a panel without lines too.

    Attributes:
        title: What is drawn.
        unit: Of its values.
        labels: The direct label of each column; empty in a panel of one quantity.
    """

    title: str
    unit: Unit
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Curve:
    """The finite points of one column.

    Attributes:
        epochs: float64 (n,), n >= 1, epochs counted from 1.
        values: float64 (n,).
        colour: Line colour.
        role: Validation is solid with full markers, training dashed with open ones; a
            setting (learning rate, speed) belongs to neither and is a plain line.
        label: Name in the direct label; empty in a panel of one quantity.
    """

    epochs: Column
    values: Column
    colour: str
    role: Role
    label: str


def _figure(run_key: str) -> Panel:
    """The panel of one figure of `BY_RUN_KEY`."""
    figure = BY_RUN_KEY[run_key]
    unit: Unit = "percent" if figure.unit == "%" else "fraction"
    return Panel(figure.name[0].upper() + figure.name[1:], unit, {run_key: ""})


def _labels(*run_keys: str) -> dict[str, str]:
    """Short names of figures, without what the titles of their panels say."""
    short = {key: BY_RUN_KEY[key].short_name for key in run_keys}
    return {key: name.removeprefix("IoU ").removesuffix(" loc.") for key, name in short.items()}


PANELS = (
    Panel("Total loss", "loss", {"loss": ""}),
    Panel("Class loss", "loss", {"softmax_loss": ""}),
    Panel("Box loss", "loss", {"bbox_loss": "box", "bbox_distribution_loss": "sides"}),
    _figure("softmax_accuracy"),
    _figure("bbox_iou"),
    Panel(
        "Box accuracy by IoU threshold",
        "percent",
        _labels("bbox_acc50", "bbox_acc75", "bbox_acc90"),
    ),
    Panel(
        "Class and box together",
        "percent",
        _labels("top1_loc", "top5_loc", "gt_known_loc", "max_box_acc_v2"),
    ),
    Panel("Learning rate", "rate", {"learning_rate": ""}),
    Panel("Speed, images/s", "count", {"images_per_second": ""}),
)
CLASS_COLUMNS = ("softmax_loss", "softmax_accuracy")
"""Columns of the class alone, which say nothing where there is one class."""

LINE_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE)


def save_curves(
    history: str | os.PathLike[str] | History,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    one_class: bool = False,
) -> Path:
    """Draws the curves of a run on one page and write them as PNG, whole or not at all.

    Args:
        history: CSV file or mapping, see `read_history`; the columns are Keras's own names,
            those of validation with the prefix `val_`. Unknown columns are passed over.
        path: File to write.
        title: First line of the page, for example the name of the run.
        one_class: Whether there is one class, whose loss and accuracy are the same whatever is
            learned and are not drawn.

    Returns:
        The path written.

    Raises:
        DataError: The history cannot be read, or holds none of the known columns.
    """
    columns = read_history(history)
    drawn = columns
    if one_class:
        title = f"{title} (one class: only the box is learned)"
        drawn = {
            name: column
            for name, column in columns.items()
            if name.removeprefix("val_") not in CLASS_COLUMNS
        }
    panels = [(panel, curves) for panel in PANELS if (curves := panel_curves(panel, drawn))]
    if not panels:
        source = "The history" if isinstance(history, Mapping) else str(history)
        raise DataError(
            f"{source}: no known quantity to draw; expected columns such as loss, val_loss or "
            f"val_bbox_iou, found {', '.join(columns)}."
        )
    return save_figure(draw_curves(panels, title), path)


def panel_curves(panel: Panel, columns: dict[str, Column]) -> list[Curve]:
    """Picks the curves of a panel that have at least one finite value.

    Args:
        panel: What may be shown.
        columns: The history, with `epoch`.

    Returns:
        The training curve, then the validation curve of each column of the panel.
    """
    curves = []
    for (name, label), colour in zip(panel.labels.items(), LINE_COLOURS, strict=False):
        training: Role = "setting" if panel.unit in ("rate", "count") else "training"
        roles: dict[str, Role] = {name: training, f"val_{name}": "validation"}
        for column, role in roles.items():
            if column not in columns:
                continue
            finite = np.isfinite(columns[column]) & np.isfinite(columns["epoch"])
            if finite.any():
                epochs, values = columns["epoch"][finite], columns[column][finite]
                curves.append(Curve(epochs, values, colour, role, label))
    return curves


def draw_curves(panels: Sequence[tuple[Panel, Sequence[Curve]]], title: str) -> Figure:
    """Draws panels in rows of three on a new figure.

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
    figure, page = new_page(width, height, DPI)
    words = shorten(title, (width - LEFT - MARGIN) * 72, TITLE_SIZE, "bold")
    write(page, LEFT, MARGIN, words, size=TITLE_SIZE, weight="bold")
    roles = {curve.role for _, curves in panels for curve in curves}
    _draw_legend(page, roles, head - KEY)
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


def draw_panel(axes: Axes, panel: Panel, curves: Sequence[Curve]) -> None:
    """Draws curves with their last values written beside them.

    Args:
        axes: Empty axes with free room on their right.
        panel: Title and unit.
        curves: At least one.
    """
    for curve in curves:
        _draw_curve(axes, curve)
    axes.set_title(panel.title, loc="left", size=LABEL_SIZE, family=FONT, color=INK, pad=7)
    dress(axes, "y")
    _limit_epochs(axes, curves)
    _limit_values(axes, panel.unit, curves)
    _label_ends(axes, panel.unit, curves)


def _draw_legend(page: Axes, roles: Collection[Role], top: float) -> None:
    """Explains solid and dashed lines once for the whole page; settings need no explanation."""
    both: tuple[Role, ...] = ("validation", "training")
    shown = [role for role in both if role in roles]
    page.legend(
        [Line2D([], [], color=INK, markersize=4.5, **STYLES[role]) for role in shown],
        list[str](shown),
        loc="upper left",
        bbox_to_anchor=(LEFT, top),
        bbox_transform=page.transData,
        ncols=2,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=2.8,
        prop=FontProperties(family=FONT, size=LABEL_SIZE),
        labelcolor=INK,
    )


def value_limits(unit: Unit, curves: Sequence[Curve]) -> tuple[float, float]:
    """Chooses a linear value axis that shows where the run went.

    The values of the first fifth of a run of five epochs or more may leave the panel if that
    makes the rest at least three times larger; speed starts at 0.

    Args:
        unit: Unit of the panel.
        curves: At least one.

    Returns:
        Lower and upper limit, different.
    """
    values = np.concatenate([curve.values for curve in curves])
    low, high = float(values.min()), float(values.max())
    if unit in ("percent", "fraction"):
        start = min(curve.epochs[0] for curve in curves)
        end = max(curve.epochs[-1] for curve in curves)
        epochs = np.concatenate([curve.epochs for curve in curves])
        late = values[epochs >= start + BEGINNING * (end - start)]
        enough = len(np.unique(epochs)) >= ZOOM_EPOCHS
        if enough and high - low > ZOOM * max(high - float(late.min()), SMALLEST_SPAN[unit]):
            low = float(late.min())
    if unit in ("count", "rate"):
        low = min(low, 0.0)
    span = max(high - low, SMALLEST_SPAN.get(unit, 0.1 * abs(high))) or 1.0
    middle_low, middle_high = (low + high - span) / 2, (low + high + span) / 2
    if unit in ("count", "rate"):
        return low, high + PAD * span
    if unit in SMALLEST_SPAN and middle_high > 1.0:
        middle_low, middle_high = middle_low - (middle_high - 1.0), 1.0
    return middle_low - PAD * span, middle_high + PAD * span


def format_value(value: float, unit: Unit) -> str:
    """Writes a value for a direct label: `98.72 %`, `.967`, `1.2e-4`, `1,234` or `0.0123`."""
    if unit == "percent":
        return f"{100 * value:.2f} %"
    if unit == "fraction":
        return f"{value:.3f}".removeprefix("0")
    if unit == "rate":
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if value else "0"
    return f"{value:,.0f}" if unit == "count" else f"{value:.3g}"


def _draw_curve(axes: Axes, curve: Curve) -> None:
    count = len(curve.epochs)
    size = 5.5 if count == 1 else 3.6
    axes.plot(
        curve.epochs,
        curve.values,
        color=curve.colour,
        markersize=size if count <= MANY_POINTS else 0.0,
        zorder=2.0 if curve.role == "training" else 3.0,
        **STYLES[curve.role],
    )


def _limit_epochs(axes: Axes, curves: Sequence[Curve]) -> None:
    first = min(curve.epochs[0] for curve in curves)
    last = max(curve.epochs[-1] for curve in curves)
    pad = 0.04 * (last - first) or 0.5
    axes.set_xlim(first - pad, last + pad)
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True).tick_values(first, last)
    whole = sorted({round(tick) for tick in ticks if first <= round(tick) <= last})
    axes.set_xticks(whole, labels=[str(epoch) for epoch in whole])


def _limit_values(axes: Axes, unit: Unit, curves: Sequence[Curve]) -> None:
    values = np.concatenate([curve.values for curve in curves])
    low, high = float(values.min()), float(values.max())
    if unit == "loss" and low > 0.0 and high / low >= LOG_RATIO:
        axes.set_yscale("log")
        axes.set_ylim(low / (high / low) ** PAD, high * (high / low) ** PAD)
        decades = np.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return
    axes.set_ylim(*value_limits(unit, curves))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    if unit == "percent":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    elif unit == "rate":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_value(value, unit)))
    elif unit == "count":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _label_ends(axes: Axes, unit: Unit, curves: Sequence[Curve]) -> None:
    validated = {curve.label for curve in curves if curve.role == "validation"}
    names = {"validation": "val ", "training": "train ", "setting": ""}
    # Where a panel has several quantities, only the one that counts is labelled.
    several = len({curve.label for curve in curves}) > 1
    labelled = [
        curve
        for curve in curves
        if curve.role == "validation" or not several or curve.label not in validated
    ]
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [to_axes.transform((curve.epochs[-1], curve.values[-1]))[1] for curve in labelled]
    heights = spread_apart([float(end) for end in ends], LABEL_GAP, 0.0, 1.0)
    for curve, height in zip(labelled, heights, strict=True):
        name = f"{curve.label}: " if several else names[curve.role]
        write(
            axes,
            1.03,
            height,
            f"{name}{format_value(float(curve.values[-1]), unit)}",
            transform=axes.transAxes,
            size=SMALL_SIZE,
            color=curve.colour,
            va="center_baseline",
            weight="bold" if curve.role == "validation" else "normal",
        )


def save_rate_picture(
    path: Path,
    *,
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float],
    suggested: float,
    batch_size: int,
) -> Path:
    """Draws the loss of each step and its running mean over the rate, and the suggested rate.

    Args:
        path: The PNG file.
        rates: Learning rate of each step.
        losses: Loss of each step.
        smooth: Running mean of the losses.
        suggested: Rate that is marked.
        batch_size: Images of a step.
    """
    figure = new_figure(6.4, 3.6, DPI)
    axes = figure.add_axes((0.1, 0.15, 0.87, 0.74))
    axes.plot(rates, losses, ".", color=MUTED, alpha=0.5, markersize=3, label="each batch")
    axes.plot(rates, smooth, color=BLUE, linewidth=1.8, label="running mean")
    axes.axvline(suggested, color=VERMILLION, linewidth=1.2)
    low, high = float(np.min(smooth)), float(smooth[0])
    room = max(abs(high - low), 1e-6)
    axes.set_ylim(low - 0.15 * room, high + (ABOVE_FIRST - 1) * room)
    axes.set_xscale("log")
    axes.text(
        suggested,
        1.02,
        f"suggested: {suggested:g}",
        transform=axes.get_xaxis_transform(),
        ha="center",
        size=LABEL_SIZE,
        **{**WORDS, "color": VERMILLION},
    )
    axes.set_xlabel(
        f"learning rate ({len(rates):,} steps of {batch_size:,} images)", size=LABEL_SIZE, **WORDS
    )
    axes.set_ylabel("loss", size=LABEL_SIZE, **WORDS)
    axes.legend(frameon=False, fontsize=SMALL_SIZE, loc="lower left")
    dress(axes, "y")
    return save_figure(figure, path)


def read_history(source: str | os.PathLike[str] | History) -> dict[str, Column]:
    """Reads a history from a CSV file or from a mapping such as `History.history`.

    Args:
        source: A CSV file with a header row, one row per epoch (or per validation), or a
            mapping from column name to one value per row. Columns of a mapping may be
            shorter than the longest one; their rows are the last ones.

    Returns:
        float64 (rows,) per column; a cell that is empty or no number is NaN. The column
        `epoch` is always there and counts from 1: it is made where it is missing, and moved
        up where it starts at 0, as Keras counts.

    Raises:
        DataError: The file is missing, has no header, or no row.
    """
    columns = _from_mapping(source) if isinstance(source, Mapping) else _from_csv(Path(source))
    rows = max((len(values) for values in columns.values()), default=0)
    epoch = columns.get("epoch", np.arange(1.0, rows + 1.0))
    if len(epoch) and np.nanmin(epoch) == 0:
        epoch = epoch + 1.0
    return {**columns, "epoch": epoch}


def _from_mapping(source: History) -> dict[str, Column]:
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in source.items()}
    rows = max((len(values) for values in columns.values()), default=0)
    return {
        name: np.concatenate([np.full(rows - len(values), np.nan), values])
        for name, values in columns.items()
    }


def _from_csv(path: Path) -> dict[str, Column]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or [])
            rows = list(reader)
    except OSError as error:
        raise DataError(
            f"{path}: the training history cannot be read ({error.strerror}); "
            "give the history.csv of a run folder."
        ) from error
    if not names or not rows:
        raise DataError(
            f"{path}: the training history holds no epoch; it needs a header row and at least "
            "one row, which the first finished epoch writes."
        )
    return {name: np.array([_number(row[name]) for row in rows]) for name in names}


def _number(cell: str | None) -> float:
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return math.nan
