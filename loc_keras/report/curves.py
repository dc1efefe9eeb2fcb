"""Curves of a run: losses, accuracies and speed over the epochs, on one page."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from loc_keras.errors import DataError
from loc_keras.evaluation.figures import BY_RUN_KEY
from loc_keras.report import style

if TYPE_CHECKING:
    from loc_keras.training.trials import RateSweep

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
    "validation": {"linestyle": "-", "linewidth": 1.8},
    "training": {
        "linestyle": (0, (3, 1.6)),
        "linewidth": 1.3,
        "markerfacecolor": "white",
        "alpha": 0.8,
    },
    "setting": {"linestyle": "-", "linewidth": 1.5},
}
WORDS_OF_ROLES: dict[Role, str] = {"validation": "val ", "training": "train ", "setting": ""}
COLUMNS = 3
CELL = (4.39, 2.57)  # Width and height in inches of a panel with its labels.
DPI = 144.0
ABOVE_FIRST = 1.6
"""The chart ends at this many times the first loss: what diverges would flatten all else."""


@dataclass(frozen=True)
class Panel:
    """One set of axes; lines without data are left out, and a panel without lines too.

    `labels` are the direct labels of its columns; empty in a panel of one quantity.
    """

    title: str
    unit: Unit
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Curve:
    """The finite points of one column, epochs counted from 1, float64 (n,), n >= 1.

    Validation is solid with full markers, training dashed with open ones; a setting (learning rate,
    speed) belongs to neither and is a plain line. The label is as in `Panel`.
    """

    epochs: Column
    values: Column
    colour: str
    role: Role
    label: str


def _figure(run_key: str) -> Panel:
    figure = BY_RUN_KEY[run_key]
    unit: Unit = "percent" if figure.unit == "%" else "fraction"
    return Panel(figure.name[0].upper() + figure.name[1:], unit, {run_key: ""})


def _labels(*run_keys: str) -> dict[str, str]:
    """Short names of figures, without what the titles of their panels say."""
    short = {key: BY_RUN_KEY[key].short_name for key in run_keys}
    return {key: name.removeprefix("IoU ").removesuffix(" loc.") for key, name in short.items()}


BOXES_BY_THRESHOLD = ("bbox_acc50", "bbox_acc75", "bbox_acc90")
CLASS_AND_BOX = ("top1_loc", "top5_loc", "gt_known_loc", "max_box_acc_v2")
PANELS = (
    Panel("Total loss", "loss", {"loss": ""}),
    Panel("Class loss", "loss", {"softmax_loss": ""}),
    Panel("Box loss", "loss", {"bbox_loss": "box", "bbox_distribution_loss": "sides"}),
    _figure("softmax_accuracy"),
    _figure("bbox_iou"),
    Panel("Box accuracy by IoU threshold", "percent", _labels(*BOXES_BY_THRESHOLD)),
    Panel("Class and box together", "percent", _labels(*CLASS_AND_BOX)),
    Panel("Learning rate", "rate", {"learning_rate": ""}),
    Panel("Speed, images/s", "count", {"images_per_second": ""}),
)
CLASS_COLUMNS = {"softmax_loss", "softmax_accuracy"}
"""Columns of the class alone, which say nothing where there is one class."""

LINE_COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE)


def save_curves(
    history: str | os.PathLike[str] | History,
    path: str | os.PathLike[str],
    *,
    title: str = "",
    classes: int | None = None,
) -> Path:
    """Draws the curves of a run on one page and writes them as PNG, whole or not at all.

    The history is as for `read_history`, with Keras's own names, those of validation with the
    prefix `val_`; unknown columns are passed over. Figures that say nothing of so few classes are
    not drawn.

    Raises:
        DataError: The history cannot be read, or holds none of the known columns.
    """
    columns = read_history(history)
    drawn = columns
    if classes is not None:
        empty = {key for key, figure in BY_RUN_KEY.items() if figure.least_classes > classes}
        if classes == 1:
            title = f"{title} (one class: only the box is learned)"
            empty |= CLASS_COLUMNS
        drawn = {
            name: column
            for name, column in columns.items()
            if name.removeprefix("val_") not in empty
        }
    panels = [(panel, curves) for panel in PANELS if (curves := panel_curves(panel, drawn))]
    if not panels:
        source = "The history" if isinstance(history, Mapping) else str(history)
        raise DataError(
            f"{source}: no known quantity to draw; expected columns such as loss, val_loss or "
            f"val_bbox_iou, found {', '.join(columns)}."
        )
    return style.save_figure(_draw_curves(panels, title), path)


def panel_curves(panel: Panel, columns: dict[str, Column]) -> list[Curve]:
    """Training, then validation curve of each column of a panel that has a finite value."""
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


def _draw_curves(panels: Sequence[tuple[Panel, Sequence[Curve]]], title: str) -> Figure:
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = columns * CELL[0]
    figure = style.new_figure(width, rows * CELL[1] + style.TITLE_SIZE / 24, DPI)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    words = style.shorten(title, (width - 0.5) * 72, style.TITLE_SIZE, "bold").replace("$", r"\$")
    figure.suptitle(
        words, x=0.25 / width, ha="left", size=style.TITLE_SIZE, weight="bold", **style.WORDS
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (panel, curves) in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel, curves)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes in grid.flat[max(0, len(panels) - columns) : len(panels)]:
        axes.set_xlabel("epoch", size=style.SMALL_SIZE, family=style.FONT, color=style.MUTED)
    return figure


def _draw_panel(axes: Axes, panel: Panel, curves: Sequence[Curve]) -> None:
    labelled: list[tuple[float, Line2D, Role]] = []
    several = len({curve.label for curve in curves}) > 1
    validated = {curve.label for curve in curves if curve.role == "validation"}
    for curve in curves:
        count = len(curve.epochs)
        (line,) = axes.plot(
            curve.epochs,
            curve.values,
            color=curve.colour,
            marker="o" if count <= MANY_POINTS else "",
            markersize=5.5 if count == 1 else 3.6,
            zorder=2.0 if curve.role == "training" else 3.0,
            **STYLES[curve.role],
        )
        # Where a panel has several quantities, only the one that counts is labelled.
        if curve.role == "validation" or not several or curve.label not in validated:
            name = f"{curve.label}: " if several else WORDS_OF_ROLES[curve.role]
            value = float(curve.values[-1])
            line.set_label(name + format_value(value, panel.unit))
            labelled.append((value, line, curve.role))
    style.add_words(axes, panel.title)
    style.dress(axes, "y")
    epochs = np.concatenate([curve.epochs for curve in curves])
    pad = min(0.04 * float(np.ptp(epochs)), 0.5) or 0.5
    axes.set_xlim(epochs.min() - pad, epochs.max() + pad)
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    _limit_values(axes, panel.unit, curves)
    labelled.sort(key=lambda one: -one[0])
    handles = [line for _, line, _ in labelled]
    frame = {"frameon": True, "framealpha": 0.85, "edgecolor": "none"}  # Where lines cross it.
    legend = style.add_legend(axes, handles=handles, handlelength=1.9, loc="best", **frame)
    for text, (_, line, role) in zip(legend.get_texts(), labelled, strict=True):
        text.set(color=line.get_color(), weight="bold" if role == "validation" else "normal")


def value_limits(unit: Unit, curves: Sequence[Curve]) -> tuple[float, float]:
    """Lower and upper limit, different, of a linear value axis that shows where the run went.

    The values of the first fifth of a run of five epochs or more may leave the panel if that
    makes the rest at least three times larger; speed starts at 0.
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


def _limit_values(axes: Axes, unit: Unit, curves: Sequence[Curve]) -> None:
    values = np.concatenate([curve.values for curve in curves])
    low, high = float(values.min()), float(values.max())
    axes.set_ylim(*value_limits(unit, curves))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    if unit == "percent":
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    elif unit in ("rate", "count"):
        axes.yaxis.set_major_formatter(lambda value, _: format_value(value, unit))
    elif unit == "loss" and low > 0.0 and high / low >= LOG_RATIO:
        axes.set_yscale("log")
        axes.set_ylim(low / (high / low) ** PAD, high * (high / low) ** PAD)
        decades = np.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()


def save_rate_picture(path: Path, sweep: "RateSweep", batch_size: int) -> Path:
    """Draws the loss of each step and its running mean over the rate; marks the suggested rate."""
    rates, suggested = sweep.rates, sweep.suggested
    figure = style.new_figure(6.4, 3.6, DPI)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.plot(
        rates, sweep.losses, ".", color=style.MUTED, alpha=0.5, markersize=3, label="each batch"
    )
    axes.plot(rates, sweep.smooth, color=style.BLUE, linewidth=1.8, label="running mean")
    axes.axvline(suggested, color=style.VERMILLION, linewidth=1.2)
    low, high = min(sweep.smooth), sweep.smooth[0]
    room = max(abs(high - low), 1e-6)
    axes.set_ylim(low - 0.15 * room, high + (ABOVE_FIRST - 1) * room)
    axes.set_xscale("log")
    font = {**style.WORDS, "color": style.VERMILLION, "size": style.LABEL_SIZE, "ha": "center"}
    place = axes.get_xaxis_transform()
    axes.text(suggested, 1.02, f"suggested: {suggested:g}", transform=place, **font)
    style.add_words(
        axes, "", f"learning rate ({len(rates):,} steps of {batch_size:,} images)", "loss"
    )
    style.add_legend(axes, loc="lower left")
    style.dress(axes, "y")
    return style.save_figure(figure, path)


def read_history(source: str | os.PathLike[str] | History) -> dict[str, Column]:
    """Reads a history from a CSV file, a row an epoch, or from a mapping such as `History.history`.

    Columns of a mapping may be shorter than the longest one; their rows are the last ones. It gives
    float64 (rows,) per column; a cell that is empty or no number is NaN. `epoch` is always there
    and counts from 1: it is made where it is missing, and moved up where it starts at 0, as Keras
    counts.

    Raises:
        DataError: The file is missing, has no header, or no row.
    """
    if isinstance(source, Mapping):
        columns = {name: np.asarray(values, dtype=np.float64) for name, values in source.items()}
    else:
        columns = _from_csv(Path(source))
    rows = max((len(values) for values in columns.values()), default=0)
    columns = {
        name: np.concatenate([np.full(rows - len(values), np.nan), values])
        for name, values in columns.items()
    }
    epoch = columns.get("epoch", np.arange(1.0, rows + 1.0))
    if len(epoch) and np.nanmin(epoch) == 0:
        epoch = epoch + 1.0
    return {**columns, "epoch": epoch}


def _from_csv(path: Path) -> dict[str, Column]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            names, *rows = list(csv.reader(file)) or [[]]
    except OSError as error:
        raise DataError(
            f"{path}: the training history cannot be read ({error.strerror}); "
            "give the history.csv of a run folder."
        ) from error
    if not names or not any(rows):
        raise DataError(
            f"{path}: the training history holds no epoch; it needs a header row and at least "
            "one row, which the first finished epoch writes."
        )
    # A row that was cut off has fewer cells; an empty one is none.
    columns = zip_longest(*(row[: len(names)] for row in rows if row), fillvalue="")
    return dict(zip(names, (np.array([*map(_number, column)]) for column in columns), strict=False))


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
