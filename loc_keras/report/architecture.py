"""A block diagram of a functional model, from its input to its named outputs."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Outline

from loc_keras.report.block_face import ROOM, block_lines, block_tints
from loc_keras.report.layered_layout import Edge, Layout, layered_layout
from loc_keras.report.model_graph import Block, join_blocks, output_layers, read_operations
from loc_keras.report.saving import new_figure, save_figure
from loc_keras.report.style import (
    FONT,
    INK,
    LABEL_SIZE,
    MUTED,
    SMALL_SIZE,
    TITLE_SIZE,
)
from loc_keras.report.text import wrap_words

POINTS = 72.0  # in an inch
# Lengths in inches; DPI in pixels per inch.
BLOCK_WIDTH = ROOM / POINTS + 0.28
PADDING = 0.16
ROUNDING = 0.07
SIDE_GAP = 0.3
ROW_GAP = 0.36
LANE = 0.4
MARGIN = 0.25
TITLE_LINE = 0.25
TITLE_GAP = 0.1
LINE = 0.175
ARROW = 0.08
PORT = 0.4  # between two arrows that enter one block
DPI = 144.0


@dataclass(frozen=True)
class Row:
    """Upper and lower edge of a row of blocks, in inches from the first row's upper edge."""

    top: float
    bottom: float


def save_architecture(
    model: keras.Model, path: str | os.PathLike[str], *, title: str | None = None
) -> Path:
    """Draw the blocks of a model and write them as PNG, whole or not at all.

    Layers are joined by the beginning of their names (see `model_graph.block_name`). What
    only one output needs has that output's colour.

    Args:
        model: A functional model.
        path: File to write.
        title: First line; None takes the model's name.

    Returns:
        The path written.

    Raises:
        ModelError: The model is not functional.
    """
    blocks, edges = join_blocks(read_operations(model), output_layers(model))
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    fixed = sum(math.prod(weight.shape) for weight in model.non_trainable_weights)
    subtitle = f"{trained:,} trainable parameters, {fixed:,} fixed"
    figure = draw_architecture(blocks, edges, title=title or model.name, subtitle=subtitle)
    return save_figure(figure, path)


def draw_architecture(
    blocks: Sequence[Block], edges: Sequence[Edge], *, title: str, subtitle: str
) -> Figure:
    """Draw blocks and their edges from top to bottom on a new figure.

    Args:
        blocks: In topological order.
        edges: Pairs (source, target) of block names.
        title: Bold first line.
        subtitle: Plain second line.

    Returns:
        A figure of its own whose size follows from the graph.
    """
    names = [block.name for block in blocks]
    layout = layered_layout(names, edges, node_width=BLOCK_WIDTH + SIDE_GAP, lane_width=LANE)
    faces = {block.name: block_lines(block) for block in blocks}
    rows = _rows(layout, faces)
    places = [*layout.x.values(), *(x for lane in layout.lanes.values() for x in lane)]
    right = max(max(layout.x.values()) + (BLOCK_WIDTH + SIDE_GAP) / 2, max(places) + LANE / 2)
    width = right + 2 * MARGIN - SIDE_GAP
    page = _page(width, rows[-1].bottom, title, subtitle)
    for edge in edges:
        _draw_arrow(page, layout, rows, edge, _port(layout, edges, edge))
    tints = block_tints(blocks, edges)
    for name, lines in faces.items():
        _draw_block(page, lines, layout.x[name], rows[layout.rank[name]], tints[name])
    return page.figure  # type: ignore[return-value]


def _rows(layout: Layout, faces: Mapping[str, Sequence[str]]) -> list[Row]:
    """Rows as high as the longest text in them."""
    rows: list[Row] = []
    for number in range(max(layout.rank.values()) + 1):
        most = max(len(lines) for name, lines in faces.items() if layout.rank[name] == number)
        top = rows[-1].bottom + ROW_GAP if rows else 0.0
        rows.append(Row(top, top + PADDING + LINE * most))
    return rows


def _page(width: float, depth: float, title: str, subtitle: str) -> Axes:
    """Axes in inches, y down from the first row, x from the layout's left edge; with titles."""
    room = (width - 2 * MARGIN) * POINTS
    head: list[tuple[str, float, str]] = [
        *((line, TITLE_SIZE, "bold") for line in wrap_words(title, room, TITLE_SIZE, "bold")),
        *((line, LABEL_SIZE, "normal") for line in wrap_words(subtitle, room, LABEL_SIZE)),
    ]
    above = MARGIN + TITLE_LINE * len(head) + TITLE_GAP
    figure = new_figure(width, above + depth + MARGIN, DPI)
    page = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    page.set_axis_off()
    left = SIDE_GAP / 2 - MARGIN
    page.set_xlim(left, left + width)
    page.set_ylim(depth + MARGIN, -above)
    for number, (line, size, weight) in enumerate(head):
        y = MARGIN - above + TITLE_LINE * number
        _write(page, left + MARGIN, y, line, size, weight)
    return page


def _port(layout: Layout, edges: Sequence[Edge], edge: Edge) -> float:
    """Where an arrow enters its block: arrows into one block come in beside each other."""
    entering = [other for other in edges if other[1] == edge[1]]
    entering.sort(key=lambda other: ([layout.x[other[0]], *layout.lanes[other]])[-1])
    return (entering.index(edge) - (len(entering) - 1) / 2) * PORT


def _draw_arrow(page: Axes, layout: Layout, rows: Sequence[Row], edge: Edge, port: float) -> None:
    source, target = edge
    start, end = layout.rank[source], layout.rank[target]
    stops = [layout.x[source], *layout.lanes[edge], layout.x[target] + port]
    points, codes = [(stops[0], rows[start].bottom)], [Outline.MOVETO]
    for row, (here, there) in enumerate(pairwise(stops), start=start + 1):
        low = rows[row].top - (ARROW if row == end else 0.0)
        middle = (rows[row - 1].bottom + low) / 2
        points += [(here, middle), (there, middle), (there, low)]
        codes += [Outline.CURVE4] * 3
        # A last straight piece carries the head; between, the lane passes the row's blocks.
        points.append((there, rows[row].top if row == end else rows[row].bottom))
        codes.append(Outline.LINETO)
    page.add_patch(
        FancyArrowPatch(
            path=Outline(points, codes),
            arrowstyle="-|>,head_length=5,head_width=2.6",
            mutation_scale=1.0,
            color=MUTED,
            linewidth=1.3,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )
    )


def _draw_block(page: Axes, lines: Sequence[str], middle: float, row: Row, tint: str) -> None:
    page.add_patch(
        FancyBboxPatch(
            (middle - BLOCK_WIDTH / 2, row.top),
            BLOCK_WIDTH,
            row.bottom - row.top,
            boxstyle=f"round,pad=0,rounding_size={ROUNDING}",
            facecolor=tint,
            edgecolor=MUTED,
            linewidth=1.0,
            zorder=2,
        )
    )
    style = {"ha": "center", "va": "center_baseline"}
    first = (row.top + row.bottom - LINE * (len(lines) - 1)) / 2
    _write(page, middle, first, lines[0], LABEL_SIZE, "bold", **style)
    for number, line in enumerate(lines[1:], start=1):
        _write(page, middle, first + LINE * number, line, SMALL_SIZE, "normal", **style)


def _write(
    page: Axes, x: float, y: float, words: str, size: float, weight: str = "normal", **style: Any
) -> None:
    common: dict[str, Any] = {"color": INK, "va": "top", "family": FONT, "parse_math": False}
    page.text(x, y, words, size=size, weight=weight, zorder=3, **(common | style))
