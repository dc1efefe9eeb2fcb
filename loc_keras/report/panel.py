"""One panel of curves: limits that show the end of a run, and labels beside the lines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from loc_keras.report.history import Column
from loc_keras.report.spacing import spread_apart
from loc_keras.report.style import FAINT, FONT, INK, LABEL_SIZE, MUTED, SMALL_SIZE

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


@dataclass(frozen=True)
class Line:
    """One logged quantity: its column and the words of its direct label."""

    column: str
    words: str


@dataclass(frozen=True)
class Panel:
    """One set of axes; lines without data are left out, and a panel without lines too."""

    title: str
    unit: Unit
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Curve:
    """The finite points of one column.

    Attributes:
        epochs: float64 (n,), n >= 1, epochs counted from 1.
        values: float64 (n,).
        colour: Line colour.
        role: Validation is solid with full markers, training dashed with open ones; a
            setting (learning rate, speed) belongs to neither and is a plain line.
        words: Name in the direct label; empty in a panel of one quantity.
    """

    epochs: Column
    values: Column
    colour: str
    role: Role
    words: str


def draw_panel(axes: Axes, panel: Panel, curves: Sequence[Curve]) -> None:
    """Draw curves with their last values written beside them.

    Args:
        axes: Empty axes with free room on their right.
        panel: Title and unit.
        curves: At least one.
    """
    for curve in curves:
        _draw_curve(axes, curve)
    axes.set_title(panel.title, loc="left", size=LABEL_SIZE, family=FONT, color=INK, pad=7)
    _dress(axes)
    _limit_epochs(axes, curves)
    _limit_values(axes, panel.unit, curves)
    _label_ends(axes, panel.unit, curves)


def draw_key(figure: Figure, roles: Iterable[Role], *, left: float, top: float) -> None:
    """Explain solid and dashed lines once for the whole page.

    Args:
        figure: The page.
        roles: The roles that are drawn; settings need no explanation.
        left: Left edge of the key as a fraction of the page's width.
        top: Upper edge as a fraction of the page's height.
    """
    shown = set(roles)
    order = [role for role in ("validation", "training") if role in shown]
    handles = [Line2D([], [], color=INK, markersize=4.5, **STYLES[role]) for role in order]
    figure.legend(
        handles,
        order,
        loc="upper left",
        bbox_to_anchor=(left, top),
        ncols=2,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=2.8,
        prop=FontProperties(family=FONT, size=LABEL_SIZE),
        labelcolor=INK,
    )


def value_limits(unit: Unit, curves: Sequence[Curve]) -> tuple[float, float]:
    """Choose a linear value axis that shows where the run went.

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
    """Write a value for a direct label: `98.72 %`, `.967`, `1.2e-4`, `1,234` or `0.0123`."""
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


def _dress(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(
        labelsize=SMALL_SIZE, labelfontfamily=FONT, colors=MUTED, labelcolor=INK, length=3
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
    validated = {curve.words for curve in curves if curve.role == "validation"}
    names = {"validation": "val ", "training": "train ", "setting": ""}
    # Where a panel has several quantities, only the one that counts is labelled.
    several = len({curve.words for curve in curves}) > 1
    labelled = [
        curve
        for curve in curves
        if curve.role == "validation" or not several or curve.words not in validated
    ]
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [to_axes.transform((curve.epochs[-1], curve.values[-1]))[1] for curve in labelled]
    heights = spread_apart([float(end) for end in ends], LABEL_GAP, 0.0, 1.0)
    for curve, height in zip(labelled, heights, strict=True):
        name = f"{curve.words}: " if several else names[curve.role]
        axes.text(
            1.03,
            height,
            f"{name}{format_value(float(curve.values[-1]), unit)}",
            transform=axes.transAxes,
            size=SMALL_SIZE,
            family=FONT,
            color=curve.colour,
            va="center_baseline",
            weight="bold" if curve.role == "validation" else "normal",
        )
