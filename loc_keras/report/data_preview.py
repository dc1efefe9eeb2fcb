"""Augmented training samples with their boxes, on one page."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from loc_keras.report.captions import class_name
from loc_keras.report.drawing import DPI, TRUTH_DASHES, draw_box, draw_image
from loc_keras.report.saving import new_figure, save_figure
from loc_keras.report.style import FONT, INK, SMALL_SIZE, TITLE_SIZE, TRUTH
from loc_keras.report.text import clean, shorten, wrap_words

# Lengths in inches.
CELL = 240 / DPI
GAP = 24 / DPI
MARGIN = 36 / DPI
CAPTION = 32 / DPI
TITLE = 34 / DPI
MOST_COLUMNS = 8
_POINTS = 72.0
_LINE = 2.0  # Points: pictures are smaller here than in galleries.


def save_preview(
    path: str | os.PathLike[str],
    batches: Iterable[tuple[Any, Any]],
    count: int,
    class_names: Sequence[str],
    *,
    title: str = "",
) -> Path:
    """Writes the first samples of a training stream as a grid of pictures with boxes.

    Args:
        path: PNG file to write.
        batches: `(images, {"softmax": labels, "bbox": boxes})`, images uint8 (B, H, W, C), labels
            (B,) or shares of the classes (B, K), boxes (B, 4) fractions; taken until there are
            enough. An empty box, of an image without an object, is not drawn.
        count: Samples, at least 1.
        class_names: Name of each class.
        title: First line of the page.

    Returns:
        The path written.
    """
    images: list[npt.NDArray[np.generic]] = []
    words: list[str] = []
    boxes: list[npt.NDArray[np.floating]] = []
    for batch, targets in batches:
        room = count - len(images)
        images += list(np.asarray(batch)[:room])
        words += [_words(label, class_names) for label in np.asarray(targets["softmax"])[:room]]
        boxes += list(np.asarray(targets["bbox"])[:room])
        if len(images) >= count:
            break
    return save_figure(draw_preview(images, words, boxes, title), path)


def _words(label: npt.NDArray[np.generic], class_names: Sequence[str]) -> str:
    """The class of a sample, or its two classes with their shares where it is mixed."""
    if np.ndim(label) == 0:
        return class_name(int(label), class_names)
    shares = np.asarray(label, np.float64)
    order = [int(index) for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    if len(order) == 1:
        return class_name(order[0], class_names)
    return ", ".join(f"{shares[one]:.0%} {class_name(one, class_names)}" for one in order)


def draw_preview(
    images: Sequence[npt.ArrayLike],
    captions: Sequence[str],
    boxes: Sequence[npt.ArrayLike],
    title: str,
) -> Figure:
    """Draws pictures of one size with a box and a line of words each.

    Args:
        images: At least one, (H, W), (H, W, 1) or (H, W, 3), values 0..255.
        captions: A line for each.
        boxes: (4,) fractions for each; an empty one is not drawn.
        title: First line, wrapped where it is long.
    """
    columns = min(MOST_COLUMNS, max(1, math.ceil(math.sqrt(len(images) * 1.5))))
    rows = math.ceil(len(images) / columns)
    high, wide = np.shape(images[0])[:2]
    cell_width, cell_height = CELL * min(1, wide / high), CELL * min(1, high / wide)
    width = 2 * MARGIN + columns * (cell_width + GAP) - GAP
    lines = wrap_words(clean(title), (width - 2 * MARGIN) * _POINTS, TITLE_SIZE, "bold")
    head = MARGIN + TITLE * len(lines) + GAP / 2
    height = head + rows * (cell_height + CAPTION + GAP) - GAP + MARGIN
    figure = new_figure(width, height, DPI)
    style: dict[str, Any] = {"family": FONT, "color": INK, "parse_math": False, "va": "top"}
    for number, line in enumerate(lines):
        y = 1 - (MARGIN + number * TITLE) / height
        figure.text(MARGIN / width, y, line, size=TITLE_SIZE, weight="bold", **style)
    for number, (image, words, box) in enumerate(zip(images, captions, boxes, strict=True)):
        row, column = divmod(number, columns)
        left = MARGIN + column * (cell_width + GAP)
        top = head + row * (cell_height + CAPTION + GAP)
        bottom = 1 - (top + cell_height) / height
        axes = figure.add_axes((left / width, bottom, cell_width / width, cell_height / height))
        draw_image(axes, image)
        if np.any(box):
            draw_box(axes, box, colour=TRUTH, line_width=_LINE, dashes=TRUTH_DASHES)
        line = shorten(clean(words), cell_width * _POINTS, SMALL_SIZE)
        y = bottom - 8 / DPI / height
        middle = (left + cell_width / 2) / width
        figure.text(middle, y, line, size=SMALL_SIZE, ha="center", **style)
    return figure
