"""One picture of several runs: their figures with intervals, and how far each is from the first."""

import math
import os
import textwrap
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.errors import counted
from loc_keras.evaluation.figures import FIGURES, MISSING
from loc_keras.evaluation.outcomes import Estimate
from loc_keras.evaluation.paired import COMPARED, Comparison, Difference
from loc_keras.report import style

MINUS = "−"  # As wide as a plus sign, unlike the hyphen.


def images_words(comparison: Comparison) -> str:
    """Such as `1,000 images, 900 of them with an object`."""
    images = counted(comparison.images, "image")
    if comparison.object_images == comparison.images:
        return images
    return f"{images}, {comparison.object_images:,} of them with an object"


def in_units(figure: str, value: float) -> float:
    """The number as it is shown: percent, or px of the corner error."""
    return value if FIGURES[figure].unit == "px" else 100 * value


def _name(figure: str, *, short: bool = False) -> str:
    """The figure's name with what `in_units` makes of its unit."""
    known = FIGURES[figure]
    return f"{known.short_name if short else known.name}{' × 100' if known.unit == 'iou' else ''}"


def value_words(figure: str, estimate: Estimate) -> str:
    """Such as `71.23`; a dash for NaN."""
    return _number(in_units(figure, estimate.value))


def interval_words(figure: str, one: Estimate | Difference) -> str:
    """Such as `70.11 to 72.35`, with signs for a difference; a dash for NaN."""
    if math.isnan(one.low):
        return MISSING
    signed = isinstance(one, Difference)
    low, high = (_number(in_units(figure, end), signed=signed) for end in (one.low, one.high))
    return f"{low} to {high}"


def difference_words(figure: str, difference: Difference) -> str:
    """Such as `+1.12` or `−0.40`; a dash for NaN."""
    return _number(in_units(figure, difference.value), signed=True)


def p_words(p_value: float) -> str:
    """Such as `.012` or `< .001`; a dash for NaN."""
    if math.isnan(p_value):
        return MISSING
    if p_value < 0.001:
        return "< .001"
    return "1" if p_value >= 0.9995 else f"{p_value:.3f}".removeprefix("0")


def is_clear(difference: Difference) -> bool:
    """Whether the interval of the difference lies on one side of 0."""
    return difference.low > 0 or difference.high < 0


def _number(value: float, *, signed: bool = False) -> str:
    if math.isnan(value):
        return MISSING
    text = f"{value:+.2f}" if signed and value else f"{abs(value):.2f}"
    return text.replace("-", MINUS)


def comparison_table(comparison: Comparison) -> Table:
    """A row for each figure of each run, by its number; clear differences are bold."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)  # For a terminal of 80 columns.
    table.add_column("figure", no_wrap=True)
    for heading in ("run", "value", "interval", "minus run 1", "interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in COMPARED:
        for number, (run, figures) in enumerate(comparison.figures.items(), start=1):
            cells = [str(number), value_words(name, figures[name])]
            cells.append(interval_words(name, figures[name]))
            weight = ""
            if run in comparison.differences:
                difference = comparison.differences[run][name]
                weight = "bold" if is_clear(difference) else ""
                cells.append(difference_words(name, difference))
                cells += [interval_words(name, difference), p_words(difference.p_value)]
            table.add_row(
                Text(_name(name, short=True) if number == 1 else ""),
                *(Text(cell, style=weight) for cell in cells),
            )
        table.add_section()
    return table


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints which runs are compared, the comparison as a table, and what its numbers are."""
    for number, run in enumerate(comparison.figures, start=1):
        role = " (the one that others are compared with)" if number == 1 else ""
        console.print(Text(f"run {number}: {run}{role}"), soft_wrap=True)
    console.print(comparison_table(comparison))
    sentences = (
        f"{images_words(comparison)}, the same for every run; {100 * comparison.level:g} % "
        f"intervals of the paired bootstrap, {comparison.resamples:,} resamples; figures in "
        "percent, the corner error in px of the original pictures; bold: the interval of the "
        "difference excludes 0.",
        "note: p is not corrected for the number of comparisons, and what another seed of "
        "training would change is not in it.",
    )
    for sentence in sentences:
        console.print(sentence, highlight=False, soft_wrap=True, markup=False)


# Lengths in inches; DPI in pixels per inch.
WIDTH = 11.6
MARGIN = 0.25
ROW = 0.2
GAP = 0.16  # between two figures
AXIS = 0.66  # for the titles, ticks and labels of a row of plots
LINE = 0.19  # of text
DPI = 144.0
NOTE_LETTERS = 170  # On a line: counted, since measuring each beginning of a long text takes long.

COLOURS = (style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE, style.INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MERGED = "acc50"  # The same figure as GT-known localization where an image has one box.
_NOTES = {
    "gt_known_loc": "\n(box accuracy, IoU ≥ .5)",
    "corner_error_px": " in px\n(lower is better)",
}
PAD = 0.05  # Room beyond the widest interval, as a part of the span.


def save_comparison(path: str | os.PathLike[str], comparison: Comparison) -> Path:
    """Draws a comparison and writes it as PNG, whole or not at all; missing folders are made."""
    return style.save_figure(draw_comparison(comparison), path)


def draw_comparison(comparison: Comparison) -> Figure:
    """Draws the runs' figures on the left and their differences to the first run on the right.

    A row is a run. A difference is a full mark where its interval excludes 0, an open one where it
    does not. Shares and mean IoU have one axis in percent, the corner error its own in px.
    """
    runs = list(comparison.figures)
    blocks = [
        [name for name in COMPARED if (FIGURES[name].unit == "px") is px and name != MERGED]
        for px in (False, True)
    ]
    heights = [len(names) * (len(runs) * ROW + GAP) for names in blocks]
    notes = textwrap.wrap(
        f"{images_words(comparison)}, the same for every run. Bars: {100 * comparison.level:g} % "
        f"intervals of the paired bootstrap over images, {comparison.resamples:,} resamples. Full "
        "mark: the interval of the difference excludes 0. p: two-sided, not corrected for the "
        "number of comparisons. What another seed of training would change is not in it.",
        NOTE_LETTERS,
    )
    head = MARGIN + LINE * (len(notes) + len(runs) + 3.5)
    height = head + sum(heights) + 2 * AXIS
    figure = style.new_figure(WIDTH, height, DPI)
    lines = [(f"{len(runs)} runs compared", {"size": style.TITLE_SIZE, "weight": "bold"}), ("", {})]
    lines += [(note, {"size": style.SMALL_SIZE, "color": style.MUTED}) for note in notes]
    lines.append(("", {}))
    for index, run in enumerate(runs):
        role = "" if index else " (the one that others are compared with)"
        room = (WIDTH - 2 * MARGIN) * 72 - style.text_width(role, style.LABEL_SIZE) - 24
        words = f"{index + 1}  {style.shorten_middle(run, room, style.LABEL_SIZE)}{role}"
        lines.append((words, {"size": style.LABEL_SIZE, "color": _colour(index)}))
    for place, (words, look) in enumerate(lines):
        if words:
            style.write(figure, MARGIN / WIDTH, 1 - (MARGIN + LINE * place) / height, words, **look)
    figure.set_layout_engine(
        "constrained", rect=(0, 0, 1, 1 - head / height), w_pad=0.8 * MARGIN, h_pad=0.04
    )
    grid = figure.subplots(2, 2, height_ratios=heights)
    for axes, names in zip(grid, blocks, strict=True):
        _draw_block(axes[0], axes[1], comparison, names)
    level = f"{100 * comparison.level:g} % interval"
    for axes, words in zip(grid[0], (f"Figure and {level}", "Difference to run 1"), strict=True):
        axes.set_title(words, loc="left", size=style.LABEL_SIZE, pad=7, **style.WORDS)
    _write(grid[0, 1], 1.03, -0.7 * ROW, f"difference, {level}, p", color=style.MUTED)
    return figure


def _draw_block(left: Axes, right: Axes, comparison: Comparison, names: Sequence[str]) -> None:
    runs = list(comparison.figures)
    tall = len(runs) * ROW + GAP
    middles = [tall * (place + 0.5) for place in range(len(names))]
    rows = [middle + (index - (len(runs) - 1) / 2) * ROW for middle in middles
            for index in range(len(runs))]  # fmt: skip
    ends: tuple[list[float], list[float]] = ([], [])
    for axes in (left, right):
        axes.set_ylim(tall * len(names), 0.0)  # Rows run downward.
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        style.dress(axes, "x")
        for middle in middles[1:]:
            axes.axhline(middle - tall / 2, color=style.FAINT, linewidth=0.7, zorder=0)
    left.set_yticks(middles, [_name(name) + _NOTES.get(name, "") for name in names], **style.WORDS)
    left.tick_params(axis="y", length=0, pad=24, labelsize=style.LABEL_SIZE)
    for y, (name, (index, run)) in zip(rows, product(names, enumerate(runs)), strict=True):
        _write(left, -0.045, y, str(index + 1), color=_colour(index), ha="right")
        estimate = comparison.figures[run][name]
        ends[0].extend(_draw_row(left, y, name, estimate, index, full=True))
        _write(left, 1.03, y, value_words(name, estimate))
        if index:
            difference = comparison.differences[run][name]
            clear = is_clear(difference)
            ends[1].extend(_draw_row(right, y, name, difference, index, full=clear))
            words = difference_words(name, difference)
            if not math.isnan(difference.low):
                interval = interval_words(name, difference)
                words = f"{words}  [{interval}]  p {p_words(difference.p_value)}"
            _write(right, 1.03, y, words, weight="bold" if clear else "normal")
    right.axvline(0, color=style.MUTED, linewidth=1.0, zorder=1)
    _limit(left, ends[0])
    _limit(right, [*ends[1], 0.0])
    lower = FIGURES[names[0]].lower_is_better
    unit, points = ("px", "px") if lower else ("%", "percentage points")
    side = "left" if lower else "right"
    for axes, words in ((left, unit), (right, f"{points}, {side} is better")):
        axes.set_xlabel(words, size=style.SMALL_SIZE, family=style.FONT, color=style.MUTED)


def _draw_row(
    axes: Axes, y: float, name: str, one: Estimate | Difference, index: int, *, full: bool
) -> list[float]:
    value, low, high = (in_units(name, end) for end in (one.value, one.low, one.high))
    if math.isnan(value):
        return []
    colour, marker = _colour(index), MARKERS[index % len(MARKERS)]
    if not math.isnan(low):
        axes.plot([low, high], [y, y], color=colour, linewidth=1.6, zorder=2)
    fill = colour if full else style.PAPER
    axes.plot([value], [y], marker, color=colour, markersize=5.0, markerfacecolor=fill, zorder=3)
    return [end for end in (value, low, high) if not math.isnan(end)]


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _limit(axes: Axes, ends: Sequence[float]) -> None:
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    pad = PAD * (high - low) or 1.0
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))


def _write(axes: Axes, x: float, y: float, text: str, **look: Any) -> None:
    """Writes beside a plot: x in parts of its width, y in inches from its upper edge."""
    place = {
        "transform": axes.get_yaxis_transform(),
        "va": "center_baseline",
        "size": style.SMALL_SIZE,
    }
    style.write(axes, x, y, text, **(place | look))
