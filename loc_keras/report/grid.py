"""Lay examples out as a page: title, legend, and cells of one image and its caption each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from loc_keras.report.captions import WRONG_MARK
from loc_keras.report.drawing import (
    DPI,
    HALO,
    HALO_COLOUR,
    PREDICTION_DASHES,
    PREDICTION_WIDTH,
    TRUTH_DASHES,
    TRUTH_WIDTH,
    Dashes,
    draw_boxes,
    draw_frame,
    draw_image,
)
from loc_keras.report.saving import new_figure
from loc_keras.report.style import (
    FONT,
    INK,
    LABEL_SIZE,
    PREDICTION,
    SMALL_SIZE,
    TITLE_SIZE,
    TRUTH,
    WRONG,
    WRONG_INK,
)
from loc_keras.report.text import fill_lines, text_width, wrap_words

# Lengths in inches. At DPI each is a whole number of pixels, and a cell is 300 of them: a
# 100-pixel image is enlarged by exactly 3.
CELL = 300 / DPI
GAP = 36 / DPI
MARGIN = 36 / DPI
CAPTION_GAP = 12 / DPI
CAPTION_LINE = 24 / DPI
TITLE_LINE = 34 / DPI
LEGEND_LINE = 36 / DPI
LEGEND_SAMPLE = 61 / DPI  # four whole dashes and the gaps between them
FRAME_SAMPLE = 22 / DPI
LEGEND_SPACE = 44 / DPI
SAMPLE_GAP = 12 / DPI
HEAD_GAP = 16 / DPI
POINTS = 72.0  # in an inch


@dataclass(frozen=True)
class Example:
    """One cell.

    Attributes:
        image: uint8 (H, W, 3).
        box_true: (4,) fractions `(x1, y1, x2, y2)`, or None where there is no object.
        box_pred: (4,) fractions `(x1, y1, x2, y2)`, or None where the model sees no object.
        parts: The caption's parts, see `captions.caption_parts`.
        localized: Whether class and box are both right.
    """

    image: npt.NDArray[np.uint8]
    box_true: npt.NDArray[np.float64] | None
    box_pred: npt.NDArray[np.float64] | None
    parts: Sequence[str]
    localized: bool


@dataclass(frozen=True)
class LegendEntry:
    """A sample and its words; `framed` shows a failure's frame instead of a line."""

    words: str
    colour: str
    line_width: float
    dashes: Dashes = "solid"
    framed: bool = False


BOX_ENTRIES = (
    LegendEntry("true box", TRUTH, TRUTH_WIDTH, TRUTH_DASHES),
    LegendEntry("predicted box", PREDICTION, PREDICTION_WIDTH, PREDICTION_DASHES),
)
FAILURE_ENTRY = LegendEntry(f"{WRONG_MARK} wrong class or IoU below .5", WRONG, 2.4, framed=True)


def draw_grid(examples: Sequence[Example], columns: int, title: str) -> Figure:
    """Draw a page of examples, row by row.

    Args:
        examples: At least one.
        columns: Cells in a row, at least 1.
        title: Bold first line, wrapped where it is long; may be empty.

    Returns:
        A figure of its own whose size follows from what it holds.
    """
    width = 2 * MARGIN + columns * (CELL + GAP) - GAP
    room = width - 2 * MARGIN
    title_lines = wrap_words(title, room * POINTS, TITLE_SIZE, "bold")
    captions = [fill_lines(example.parts, CELL * POINTS, SMALL_SIZE) for example in examples]
    all_localized = all(example.localized for example in examples)
    legend = _legend_rows(BOX_ENTRIES if all_localized else (*BOX_ENTRIES, FAILURE_ENTRY), room)
    cell_height = CELL + CAPTION_GAP + CAPTION_LINE * max(len(lines) for lines in captions)
    legend_top = MARGIN + TITLE_LINE * len(title_lines)
    cells_top = legend_top + LEGEND_LINE * len(legend) + HEAD_GAP
    rows = math.ceil(len(examples) / columns)
    height = cells_top + rows * (cell_height + GAP) - GAP + MARGIN

    figure = new_figure(width, height, DPI)
    page = _page(figure, width, height)
    for number, line in enumerate(title_lines):
        _write(page, MARGIN, MARGIN + TITLE_LINE * number, line, size=TITLE_SIZE, weight="bold")
    for number, entries in enumerate(legend):
        _draw_legend_row(page, entries, legend_top + LEGEND_LINE * (number + 0.5))
    for number, (example, lines) in enumerate(zip(examples, captions, strict=True)):
        row, column = divmod(number, columns)
        left = MARGIN + column * (CELL + GAP)
        top = cells_top + row * (cell_height + GAP)
        _draw_picture(figure, page, example, left, top)
        _draw_caption(page, lines, left, top + CELL + CAPTION_GAP, example.localized)
    return figure


def _page(figure: Figure, width: float, height: float) -> Axes:
    """Axes over the whole figure, in inches from its top left corner."""
    page = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    page.set_xlim(0.0, width)
    page.set_ylim(height, 0.0)
    page.set_axis_off()
    return page


def _write(page: Axes, x: float, y: float, words: str, **style: Any) -> None:
    common: dict[str, Any] = {"color": INK, "va": "top", "family": FONT, "parse_math": False}
    page.text(x, y, words, **(common | style))


def _draw_picture(figure: Figure, page: Axes, example: Example, left: float, top: float) -> None:
    rows, columns = example.image.shape[:2]
    # The image keeps its shape, fills the cell one way, and stands on its caption.
    width = CELL * min(1.0, columns / rows)
    height = CELL * min(1.0, rows / columns)
    page_width, page_height = figure.get_size_inches()
    x = (left + (CELL - width) / 2) / page_width
    y = 1.0 - (top + CELL) / page_height
    axes = figure.add_axes((x, y, width / page_width, height / page_height))
    draw_image(axes, example.image)
    draw_boxes(axes, example.box_true, example.box_pred)
    if not example.localized:
        draw_frame(axes)


def _draw_caption(
    page: Axes, lines: Sequence[str], left: float, top: float, localized: bool
) -> None:
    style = {"color": INK} if localized else {"color": WRONG_INK}
    for number, line in enumerate(lines):
        y = top + CAPTION_LINE * number
        _write(page, left + CELL / 2, y, line, size=SMALL_SIZE, ha="center", **style)


def _sample_width(entry: LegendEntry) -> float:
    return FRAME_SAMPLE if entry.framed else LEGEND_SAMPLE


def _entry_width(entry: LegendEntry) -> float:
    return _sample_width(entry) + SAMPLE_GAP + text_width(entry.words, LABEL_SIZE) / POINTS


def _legend_rows(entries: Sequence[LegendEntry], room: float) -> list[list[LegendEntry]]:
    rows: list[list[LegendEntry]] = []
    used = math.inf
    for entry in entries:
        width = _entry_width(entry)
        if used + LEGEND_SPACE + width > room:
            rows.append([])
            used = -LEGEND_SPACE
        rows[-1].append(entry)
        used += LEGEND_SPACE + width
    return rows


def _draw_legend_row(page: Axes, entries: Sequence[LegendEntry], middle: float) -> None:
    left = MARGIN
    for entry in entries:
        if entry.framed:
            _draw_frame_sample(page, entry, left, middle)
        else:
            _draw_line_sample(page, entry, left, middle)
        x = left + _sample_width(entry) + SAMPLE_GAP
        _write(page, x, middle, entry.words, size=LABEL_SIZE, va="center_baseline")
        left += _entry_width(entry) + LEGEND_SPACE


def _draw_line_sample(page: Axes, entry: LegendEntry, left: float, middle: float) -> None:
    halo = withStroke(linewidth=entry.line_width + HALO, foreground=HALO_COLOUR)
    page.add_line(
        Line2D(
            [left, left + LEGEND_SAMPLE],
            [middle, middle],
            color=entry.colour,
            linewidth=entry.line_width,
            linestyle=entry.dashes,
            solid_capstyle="butt",
            dash_capstyle="butt",
            path_effects=[halo],
        )
    )


def _draw_frame_sample(page: Axes, entry: LegendEntry, left: float, middle: float) -> None:
    page.add_patch(
        Rectangle(
            (left, middle - FRAME_SAMPLE / 2),
            FRAME_SAMPLE,
            FRAME_SAMPLE,
            fill=False,
            edgecolor=entry.colour,
            linewidth=entry.line_width,
            joinstyle="miter",
        )
    )
