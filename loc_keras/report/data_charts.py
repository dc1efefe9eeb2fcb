"""Charts of a data set (classes, shapes and places of boxes) and previews of its samples."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from loc_keras.errors import clean
from loc_keras.report.gallery import Example, class_name, draw_grid
from loc_keras.report.image_boxes import TRUE_BOX
from loc_keras.report.style import (
    BLUE,
    FAINT,
    FONT,
    GREEN,
    INK,
    MUTED,
    SEQUENCE,
    SMALL_SIZE,
    VERMILLION,
    WORDS,
    add_legend,
    add_words,
    dress,
    new_figure,
    save_figure,
)

MOST_CLASSES = 40
"""Classes of a chart; of more the largest and smallest are shown."""

GRID = 100
"""Cells along a side of a map."""

SPLIT_COLOURS = {"train": BLUE, "val": VERMILLION, "test": GREEN}

Boxes = npt.NDArray[np.float32]

_CHART_DPI = 144.0
_BINS = 30
_LONGEST_NAME = 26

_BAR = 0.2  # Height of a class in inches.

_MOST_COLUMNS = 8  # Of a preview.


def class_chart(counts: Mapping[str, Sequence[int]], names: Sequence[str]) -> Figure:
    """Objects of each class by split, as bars stacked by split, the most frequent above.

    Of more than 40 classes those between the largest and smallest are left out.
    """
    totals = np.sum([list(count) for count in counts.values()], axis=0)
    order = np.argsort(-totals, kind="stable")
    if len(order) > MOST_CLASSES:
        half = MOST_CLASSES // 2
        order = np.concatenate([order[:half], order[-half:]])
    labels = [clean(names[index], _LONGEST_NAME).replace("$", r"\$") for index in order]
    figure = new_figure(6.4, 0.72 + _BAR * len(order), _CHART_DPI)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    start = np.zeros(len(order))
    for split, count in counts.items():
        values = np.asarray(count)[order]
        colour = SPLIT_COLOURS.get(split, MUTED)
        bars = axes.barh(range(len(order)), values, 0.72, start, color=colour,
                         label=f"{split}, n = {sum(count):,}")  # fmt: skip
        start = start + values
    axes.bar_label(bars, [f"{total:,.0f}" for total in start], padding=3, size=SMALL_SIZE, **WORDS)
    axes.set_yticks(range(len(order)), labels)
    axes.set_ylim(len(order) - 0.4, -0.6)
    dress(axes, "x")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    _add_key(figure, axes)
    return figure


def shape_charts(boxes: Mapping[str, Boxes], aspects: Mapping[str, npt.ArrayLike]) -> Figure:
    """Histograms of the boxes' width, height, area and aspect ratio, as shares of each split.

    Boxes are (N, 4), (x1, y1, x2, y2) in fractions; `aspects` are their width over height in px.
    """
    sides = {split: corners[:, 2:] - corners[:, :2] for split, corners in boxes.items()}
    quantities: list[tuple[str, dict[str, npt.NDArray[np.floating]]]] = [
        ("width / image width", {split: side[:, 0] for split, side in sides.items()}),
        ("height / image height", {split: side[:, 1] for split, side in sides.items()}),
        ("area / image area", {split: side.prod(axis=1) for split, side in sides.items()}),
        ("width / height", {split: np.asarray(ratios) for split, ratios in aspects.items()}),
    ]
    figure = new_figure(8.6, 2.5, _CHART_DPI)
    figure.set_layout_engine("constrained", wspace=0.04)
    row = figure.subplots(1, len(quantities))
    for axes, (title, values) in zip(row, quantities, strict=True):
        _histogram(axes, values, logarithmic=axes is row[-1])
        add_words(axes, title)
    _add_key(figure, row[0])
    return figure


def place_charts(boxes: Boxes) -> Figure:
    """Where boxes are: the density of their centres, and how often each point is covered.

    Boxes are as in `coverage`.
    """
    figure = new_figure(8.6, 3.9, _CHART_DPI)
    figure.set_layout_engine("constrained", wspace=0.06)
    left, right = figure.subplots(1, 2)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    bins = int(np.clip(np.sqrt(len(boxes)) * 1.5, 10, 40))
    density, _, _ = np.histogram2d(centres[:, 1], centres[:, 0], bins=bins, range=((0, 1), (0, 1)))
    _map(figure, left, density, f"centres of {len(boxes):,} boxes", "{:.0f}", 0.5)
    covered = f"share of {len(boxes):,} boxes that cover a point"
    _map(figure, right, coverage(boxes), covered, "{:.0%}", 1.0)
    return figure


def coverage(boxes: Boxes, grid: int = GRID) -> npt.NDArray[np.float64]:
    """Share of boxes that cover each cell of a grid, float64 (grid, grid) in [0, 1].

    Boxes are (N, 4), (x1, y1, x2, y2) in fractions, within the image, N at least 1. One covers the
    cells whose middle it contains.
    """
    # A cell (i + .5) / grid lies within [x1, x2) for i from ceil(x1 grid - .5) on.
    corners = np.clip(np.ceil(boxes * grid - 0.5), 0, grid).astype(np.int64)
    x1, y1, x2, y2 = corners.T
    steps = np.zeros((grid + 1, grid + 1))
    for rows, columns, sign in ((y1, x1, 1), (y2, x1, -1), (y1, x2, -1), (y2, x2, 1)):
        np.add.at(steps, (rows, columns), sign)
    return steps.cumsum(0).cumsum(1)[:grid, :grid] / len(boxes)


def save_preview(
    path: str | os.PathLike[str],
    batches: Iterable[tuple[Any, Any]],
    count: int,
    class_names: Sequence[str],
    *,
    title: str = "",
) -> Path:
    """Writes the first samples of a training stream as a PNG grid of pictures with boxes.

    Batches are `(images, {"softmax": labels, "bbox": boxes})`, images uint8 (B, H, W, C), labels
    (B,) or shares of the classes (B, K), boxes (B, 4) fractions; taken until there are `count`, at
    least 1. An empty box, of an image without an object, is not drawn. It gives the path.
    """
    examples: list[Example] = []
    for images, targets in batches:
        parts = map(np.asarray, (images, targets["softmax"], targets["bbox"]))
        for image, label, box in zip(*parts, strict=True):
            drawn = [(TRUE_BOX, box)] if np.any(box) else []
            examples.append(Example(image, drawn, [clean(_caption(label, class_names))]))
        if len(examples) >= count:
            break
    del examples[count:]
    columns = min(_MOST_COLUMNS, max(1, math.ceil(math.sqrt(len(examples) * 1.5))))
    return save_figure(draw_grid(examples, columns, clean(title), []), path)


def _histogram(
    axes: Axes, values: Mapping[str, npt.NDArray[np.floating]], *, logarithmic: bool
) -> None:
    if logarithmic:
        pooled = np.concatenate(list(values.values()))
        # Without the few slivers whose ratio would squeeze all others into the middle.
        reach = float(np.clip(np.quantile(np.maximum(pooled, 1 / pooled), 0.995), 1.5, 20))
        edges = np.geomspace(1 / reach, reach, _BINS + 1)
        axes.set_xscale("log")
    else:
        edges = np.linspace(0, 1, _BINS + 1)
    for split, column in values.items():
        if not len(column):
            continue
        share = np.histogram(column, edges)[0] / len(column)
        colour = SPLIT_COLOURS.get(split, MUTED)
        filled = split == "train"
        axes.stairs(
            share, edges, fill=filled, color=colour, alpha=0.45 if filled else 1.0,
            label=f"{split}, n = {len(column):,}", linewidth=1.4,
        )  # fmt: skip
    axes.set_xlim(edges[0], edges[-1])
    if logarithmic:
        some = (0.1, 0.3, 1, 3, 10) if reach > 5 else (0.25, 0.5, 1, 2, 4)
        ticks = [tick for tick in some if edges[0] <= tick <= edges[-1]]
        axes.set_xticks(ticks, [f"{tick:g}".removeprefix("0") for tick in ticks])
        axes.minorticks_off()
    else:
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    dress(axes, "y")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def _map(
    figure: Figure,
    axes: Axes,
    values: npt.NDArray[np.float64],
    title: str,
    form: str,
    power: float,
) -> None:
    # A power of a half shows places where few are beside the one where most are.
    norm = PowerNorm(power, 0.0, float(values.max()) or 1.0)
    picture = axes.imshow(
        values, extent=(0, 1, 1, 0), cmap=SEQUENCE, norm=norm, interpolation="nearest"
    )
    add_words(axes, title)
    dress(axes, None)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    for side in axes.spines.values():
        side.set(visible=True, color=FAINT)
    bar = figure.colorbar(picture, ax=axes, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=power != 1))
    bar.ax.yaxis.set_major_formatter(lambda value, _: form.format(value).replace("%", " %"))
    bar.ax.tick_params(labelsize=SMALL_SIZE, labelfontfamily=FONT, colors=MUTED, labelcolor=INK)


def _add_key(figure: Figure, axes: Axes) -> None:
    """Above all plots, what is drawn in the first."""
    handles, _ = axes.get_legend_handles_labels()
    add_legend(
        figure, handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.4
    )


def _caption(label: npt.NDArray[np.generic], class_names: Sequence[str]) -> str:
    """The class of a sample, or its two classes with their shares where it is mixed."""
    if np.ndim(label) == 0:
        return class_name(int(label), class_names)
    shares = np.asarray(label, np.float64)
    order = [int(index) for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    if len(order) == 1:
        return class_name(order[0], class_names)
    return ", ".join(f"{shares[index]:.0%} {class_name(index, class_names)}" for index in order)
