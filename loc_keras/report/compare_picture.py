"""One picture of several runs: their figures with intervals, and how far each is from the first."""

import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from loc_keras.evaluation.paired import COMPARED, LOWER_IS_BETTER, Comparison, Difference
from loc_keras.evaluation.results import Estimate
from loc_keras.report.compare_words import (
    FIGURE_NAMES,
    difference_words,
    images_words,
    in_units,
    interval_words,
    is_clear,
    p_words,
    value_words,
)
from loc_keras.report.saving import new_figure, save_figure
from loc_keras.report.style import (
    BLUE,
    FAINT,
    FONT,
    GREEN,
    INK,
    LABEL_SIZE,
    MUTED,
    PAPER,
    PURPLE,
    SMALL_SIZE,
    TITLE_SIZE,
    VERMILLION,
)
from loc_keras.report.text import shorten_middle, text_width

# Lengths in inches; DPI in pixels per inch.
WIDTH = 11.6
MARGIN = 0.25
NAMES = 1.75  # for the names of the figures
NUMBER = 0.22  # for the number of a run
PANEL = 2.75  # of one plot
VALUES = 0.62  # for the values beside the left plot
ROW = 0.2
GAP = 0.16  # between two figures
AXIS = 0.5  # for ticks and their label
LINE = 0.19  # of text
TITLE = 0.34
HEAD = 0.3  # for the titles of the plots
DPI = 144.0
NOTE_LETTERS = 170  # On a line: counted, since measuring each beginning of a long text takes long.

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MERGED = "acc50"  # The same figure as GT-known localization where an image has one box.
SHOWN_NAMES = {
    **FIGURE_NAMES,
    "gt_known_loc": "GT-known localization\n(box accuracy, IoU ≥ .5)",
    "corner_error_px": "corner error in px\n(lower is better)",
}
PAD = 0.05  # Room beyond the widest interval, as a part of the span.


def save_comparison(path: str | os.PathLike[str], comparison: Comparison) -> Path:
    """Draws a comparison and writes it as PNG, whole or not at all.

    Args:
        path: File to write; missing folders are made.
        comparison: Of two runs or more.

    Returns:
        The path written.
    """
    return save_figure(draw_comparison(comparison), path)


def draw_comparison(comparison: Comparison) -> Figure:
    """Draws the runs' figures on the left and their differences to the first run on the right.

    A row is a run. A difference is a full mark where its interval excludes 0, an open one where it
    does not. Shares and mean IoU have one axis in percent, the corner error its own in px.

    Args:
        comparison: Of two runs or more.

    Returns:
        A figure of its own.
    """
    runs = list(comparison.figures)
    shares = [name for name in COMPARED if name not in LOWER_IS_BETTER and name != MERGED]
    pixels = [name for name in COMPARED if name in LOWER_IS_BETTER]
    heights = [len(names) * (len(runs) * ROW + GAP) for names in (shares, pixels)]
    notes = textwrap.wrap(_note(comparison), NOTE_LETTERS)
    top = MARGIN + TITLE + LINE * (len(notes) + len(runs)) + 2 * GAP + HEAD
    height = top + sum(heights) + 2 * AXIS + MARGIN
    figure = new_figure(WIDTH, height, DPI)
    _draw_head(figure, comparison, notes)
    edge = top
    for names, tall in zip((shares, pixels), heights, strict=True):
        left = MARGIN + NAMES + NUMBER
        right = left + PANEL + VALUES
        bottom = height - edge - tall
        boxes = [
            (at / WIDTH, bottom / height, PANEL / WIDTH, tall / height) for at in (left, right)
        ]
        axes = [figure.add_axes(box) for box in boxes]
        _draw_block(axes[0], axes[1], comparison, names, first=names is shares)
        edge += tall + AXIS
    return figure


def _note(comparison: Comparison) -> str:
    """What the marks and numbers mean, in one paragraph."""
    return (
        f"{images_words(comparison)}, the same for every run. Bars: "
        f"{100 * comparison.level:g} % intervals of the paired bootstrap over images, "
        f"{comparison.resamples:,} resamples. Full mark: the interval of the difference excludes "
        "0. p: two-sided, not corrected for the number of comparisons. What another seed of "
        "training would change is not in it."
    )


def _draw_head(figure: Figure, comparison: Comparison, notes: Sequence[str]) -> None:
    height = figure.get_figheight()
    runs = list(comparison.figures)
    edge = height - MARGIN
    style: dict[str, Any] = {"family": FONT, "va": "top", "parse_math": False}
    figure.text(
        MARGIN / WIDTH,
        edge / height,
        f"{len(runs)} runs compared",
        size=TITLE_SIZE,
        weight="bold",
        color=INK,
        **style,
    )
    edge -= TITLE
    for line in notes:
        figure.text(MARGIN / WIDTH, edge / height, line, size=SMALL_SIZE, color=MUTED, **style)
        edge -= LINE
    edge -= GAP
    for index, run in enumerate(runs):
        role = " (the one that others are compared with)" if index == 0 else ""
        room = (WIDTH - 2 * MARGIN) * 72 - text_width(role, LABEL_SIZE) - 24
        words = f"{index + 1}  {shorten_middle(run, room, LABEL_SIZE)}{role}"
        colour = _colour(index)
        figure.text(MARGIN / WIDTH, edge / height, words, size=LABEL_SIZE, color=colour, **style)
        edge -= LINE


def _draw_block(
    left: Axes, right: Axes, comparison: Comparison, names: Sequence[str], *, first: bool
) -> None:
    """Draws the rows of some figures of one unit."""
    runs = list(comparison.figures)
    total = len(names) * (len(runs) * ROW + GAP)
    ends: tuple[list[float], list[float]] = ([], [])
    for axes in (left, right):
        _dress(axes, total)
    for place, name in enumerate(names):
        start = place * (len(runs) * ROW + GAP) + GAP / 2
        _write_name(left, SHOWN_NAMES[name], start + len(runs) * ROW / 2)
        if place:
            for axes in (left, right):
                axes.axhline(start - GAP / 2, color=FAINT, linewidth=0.7, zorder=0)
        for index, run in enumerate(runs):
            y = start + (index + 0.5) * ROW
            _write(left, -0.045, y, str(index + 1), _colour(index), "right")
            estimate = comparison.figures[run][name]
            ends[0].extend(_draw_row(left, y, name, estimate, index, full=True))
            _write(left, 1.03, y, value_words(name, estimate), INK)
            if index:
                difference = comparison.differences[run][name]
                clear = is_clear(difference)
                ends[1].extend(_draw_row(right, y, name, difference, index, full=clear))
                _write(right, 1.03, y, _difference_line(name, difference), INK, bold=clear)
    right.axvline(0, color=MUTED, linewidth=1.0, zorder=1)
    _limit(left, ends[0])
    _limit(right, [*ends[1], 0.0])
    unit = "px" if names[0] in LOWER_IS_BETTER else "%"
    side = "left" if names[0] in LOWER_IS_BETTER else "right"
    points = "px" if unit == "px" else "percentage points"
    for axes, words in ((left, unit), (right, f"{points}, {side} is better")):
        axes.set_xlabel(words, size=SMALL_SIZE, family=FONT, color=MUTED)
    if first:
        level = f"{100 * comparison.level:g} % interval"
        titles = (f"Figure and {level}", "Difference to run 1")
        for axes, words in zip((left, right), titles, strict=True):
            axes.set_title(words, loc="left", size=LABEL_SIZE, family=FONT, color=INK, pad=7)
        _write(right, 1.03, -HEAD / 2, f"difference, {level}, p", MUTED)


def _draw_row(
    axes: Axes, y: float, name: str, one: Estimate | Difference, index: int, *, full: bool
) -> list[float]:
    """Draws a mark and its interval; gives the ends drawn."""
    value, low, high = (in_units(name, end) for end in (one.value, one.low, one.high))
    if math.isnan(value):
        return []
    colour = _colour(index)
    if not math.isnan(low):
        axes.plot([low, high], [y, y], color=colour, linewidth=1.6, zorder=2)
    axes.plot(
        [value],
        [y],
        marker=MARKERS[index % len(MARKERS)],
        color=colour,
        markersize=5.0,
        markerfacecolor=colour if full else PAPER,
        zorder=3,
    )
    return [end for end in (value, low, high) if not math.isnan(end)]


def _difference_line(name: str, difference: Difference) -> str:
    words = difference_words(name, difference)
    if math.isnan(difference.low):
        return words
    return f"{words}  [{interval_words(name, difference)}]  p {p_words(difference.p_value)}"


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _dress(axes: Axes, total: float) -> None:
    axes.set_ylim(total, 0.0)  # Rows run downward.
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(
        labelsize=SMALL_SIZE, labelfontfamily=FONT, colors=MUTED, labelcolor=INK, length=3
    )


def _limit(axes: Axes, ends: Sequence[float]) -> None:
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    pad = PAD * (high - low) or 1.0
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))


def _write(
    axes: Axes, x: float, y: float, words: str, colour: str, side: str = "left", bold: bool = False
) -> None:
    """Writes beside a plot: x in parts of its width, y in inches from its upper edge."""
    axes.text(
        x,
        y,
        words,
        transform=axes.get_yaxis_transform(),
        size=SMALL_SIZE,
        family=FONT,
        color=colour,
        ha=side,
        va="center_baseline",
        weight="bold" if bold else "normal",
        parse_math=False,
    )


def _write_name(axes: Axes, name: str, y: float) -> None:
    axes.text(
        -(NAMES + NUMBER) / PANEL,
        y,
        name,
        transform=axes.get_yaxis_transform(),
        size=LABEL_SIZE,
        family=FONT,
        color=INK,
        va="center",
    )
