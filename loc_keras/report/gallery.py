"""A grid of images with true and predicted boxes and what the model said of each."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import ops
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from loc_keras.boxes import iou
from loc_keras.report.architecture import save_architecture
from loc_keras.report.curves import CLASS_COLUMNS, save_curves
from loc_keras.report.image_boxes import (
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
    to_rgb,
)
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
    figure_to_array,
    fill_lines,
    new_figure,
    save_figure,
    text_width,
    wrap_words,
)
from loc_keras.training.run_folder import HISTORY_FILE, PLOTS

WRONG_MARK = "✗"
LOCALIZED_IOU = 0.5  # the threshold of Top-1 localization (Russakovsky et al. 2015)


def format_iou(iou: float) -> str:
    """Write an IoU with two decimals and no leading zero: `.97`, `1.00`, `–` for NaN."""
    if not math.isfinite(iou):
        return "–"
    return f"{iou:.2f}".removeprefix("0")


def is_localized(label_true: int, label_pred: int, iou: float) -> bool:
    """Whether class and box are both right: same label and IoU of at least .5."""
    return label_true == label_pred and iou >= LOCALIZED_IOU


def caption_parts(name_true: str, name_pred: str, probability: float, iou: float) -> list[str]:
    """Say in short parts what a prediction got right; a cross marks each failure.

    Args:
        name_true: Name of the true class.
        name_pred: Name of the predicted class.
        probability: Probability given to the predicted class, in [0, 1].
        iou: Intersection over union of the two boxes, in [0, 1]; NaN is allowed.

    Returns:
        `["true 7", "said 7", "98 %", "IoU .97"]`; with a wrong class the second part starts
        with a cross, with an IoU below .5 (or NaN) the last does.
    """
    said = f"said {name_pred}"
    box = f"IoU {format_iou(iou)}"
    if name_true != name_pred:
        said = f"{WRONG_MARK} {said}"
    if not iou >= LOCALIZED_IOU:
        box = f"{WRONG_MARK} {box}"
    return [f"true {name_true}", said, f"{100 * probability:.0f} %", box]


def caption_without_object(name_true: str, name_pred: str, probability: float) -> list[str]:
    """As `caption_parts` for an image without an object, which has no box to agree with."""
    said = f"said {name_pred}"
    if name_true != name_pred:
        said = f"{WRONG_MARK} {said}"
    return [f"true {name_true}", said, f"{100 * probability:.0f} %"]


def caption_of_one_class(name: str, iou: float) -> list[str]:
    """As `caption_parts` where there is one class, which is always right."""
    return [name, caption_parts(name, name, 1.0, iou)[-1]]


def caption(name_true: str, name_pred: str, probability: float, iou: float) -> str:
    """The caption on one line: `true 7 · said 7 · 98 % · IoU .97`; see `caption_parts`."""
    return " · ".join(caption_parts(name_true, name_pred, probability, iou))


def class_name(label: int, class_names: Sequence[str] | None) -> str:
    """Name a label: its entry in `class_names`, or the number itself where there is none."""
    if class_names is not None and 0 <= label < len(class_names):
        return str(class_names[label])
    return str(label)


def spread_by_iou(ious: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    """Choose examples at even ranks of IoU, the worst and the best included.

    With `count=5` these are the worst, the lower quartile, the median, the upper quartile
    and the best. A choice by rank shows failures as often as they happen, and always the
    worst one.

    Args:
        ious: (N,) IoU of each example; NaN counts as worse than every number.
        count: How many to choose, at least 1; at most N are returned. One alone is the median.

    Returns:
        int64 (min(count, N),) distinct indices into `ious`, worst first.

    Raises:
        ValueError: `count` is below 1 or `ious` is not one-dimensional.
    """
    values = np.asarray(ious, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"ious must have one dimension; it has shape {values.shape}.")
    if count < 1:
        raise ValueError(f"count must be at least 1; it is {count}.")
    order = np.argsort(np.where(np.isnan(values), -np.inf, values), kind="stable")
    if count == 1:
        ranks = np.array([(len(order) - 1) // 2] if len(order) else [], dtype=np.int64)
    else:
        ranks = np.round(np.linspace(0, len(order) - 1, min(count, len(order)))).astype(np.int64)
    return order[ranks].astype(np.int64)


def spread_title(ious: npt.ArrayLike, count: int, split: str, images: str = "") -> str:
    """Say how `spread_by_iou` chose, so that nobody takes a gallery for a best-of.

    Args:
        ious: (N,) IoU of every example that could have been chosen.
        count: How many are shown.
        split: Name of the split, for example `"test"`.
        images: What was chosen from in words; `""` for the images of the split.

    Returns:
        For example `12 of 10,000 test images at even ranks of IoU: worst .41, best .99,
        mean of all .97`.
    """
    values = np.asarray(ious, dtype=np.float64)
    images = images or f"{split} images"
    shown = min(count, len(values))
    if shown == len(values):
        return f"All {shown:,} {images}, ordered by IoU, mean {format_iou(values.mean())}"
    low, high = format_iou(float(values.min())), format_iou(float(values.max()))
    return (
        f"{shown} of {len(values):,} {images} at even ranks of IoU: "
        f"worst {low}, best {high}, mean of all {format_iou(float(values.mean()))}"
    )


MOST_EMPTY = 0.5
"""Largest share of a gallery for images without an object, of which little is to be seen."""

ONE_CLASS = "one class: only the box counts"


class Choice(NamedTuple):
    """What a gallery shows.

    Attributes:
        indices: int64 (M,), places in the split: images with an object, worst box first, then
            those without one, surest false alarm first.
        title: How they were chosen.
    """

    indices: npt.NDArray[np.int64]
    title: str


def choose_examples(
    ious: npt.ArrayLike,
    split: str,
    count: int,
    *,
    background: npt.ArrayLike | None = None,
    empty: npt.ArrayLike | None = None,
    one_class: bool = False,
) -> Choice:
    """Chooses images at even ranks, so that failures show as often as they happen.

    Args:
        ious: (N,) IoU of each image's boxes; those of images without an object do not count.
        split: Name of the split.
        count: How many to show, at most.
        background: (N,) probability of the background where that is a class, else None.
        empty: (N,) whether each image shows no object, where there is a background.
        one_class: Whether the data have a single class.
    """
    overlaps = np.asarray(ious, np.float64)
    nothing = np.zeros(len(overlaps), bool) if empty is None else np.asarray(empty, bool)
    hollow, shown = np.flatnonzero(nothing), np.flatnonzero(~nothing)
    places: list[npt.NDArray[np.int64]] = []
    words: list[str] = []
    few = 0
    if len(hollow):
        share = count if not len(shown) else max(1, round(count * len(hollow) / len(overlaps)))
        few = min(len(hollow), share if not len(shown) else min(share, int(count * MOST_EMPTY)))
    if len(shown):
        places.append(shown[spread_by_iou(overlaps[shown], count - few)])
        kind = f"{split} images with an object" if len(hollow) else f"{split} images"
        words.append(spread_title(overlaps[shown], count - few, split, kind))
    if few and background is not None:
        chances = np.asarray(background, np.float64)[hollow]
        places.append(hollow[spread_by_iou(chances, few)])
        words.append(
            f"{few} of {len(hollow):,} without one at even ranks of the background's probability: "
            f"lowest {format_iou(float(chances.min()))}"
        )
    if one_class:
        words.append(ONE_CLASS)
    return Choice(np.concatenate(places), "; ".join(words))


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


Images = Sequence[npt.ArrayLike] | npt.NDArray[np.generic]


def pair_ious(boxes_true: npt.ArrayLike, boxes_pred: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """IoU of aligned pairs as a NumPy array, for `spread_by_iou` and captions.

    Args:
        boxes_true: (N, 4) fractions `(x1, y1, x2, y2)`.
        boxes_pred: (N, 4) likewise.

    Returns:
        float64 (N,) in [0, 1].
    """
    true = np.asarray(boxes_true, dtype=np.float32).reshape(-1, 4)
    pred = np.asarray(boxes_pred, dtype=np.float32).reshape(-1, 4)
    return np.asarray(ops.convert_to_numpy(iou(true, pred)), dtype=np.float64)


def draw_gallery(
    images: Images,
    labels_true: npt.ArrayLike,
    boxes_true: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    boxes_pred: npt.ArrayLike,
    class_names: Sequence[str] | None = None,
    *,
    columns: int = 4,
    title: str = "",
    background: int | None = None,
) -> Figure:
    """Draw a grid of examples in the order given.

    Args:
        images: N images, each (H, W), (H, W, 1) or (H, W, 3), values 0..255; sizes may differ.
        labels_true: (N,) integer labels.
        boxes_true: (N, 4) fractions `(x1, y1, x2, y2)`.
        probabilities: (N, K) class probabilities; the largest is what the model said.
        boxes_pred: (N, 4) fractions `(x1, y1, x2, y2)`.
        class_names: K names; None names classes by number.
        columns: Cells in a row, at least 1.
        title: First line; say here how the examples were chosen (see `spread_title`).
        background: Label of images without an object, whose true box is not drawn, and a predicted
            one only where the model said another class; None where all show one.

    Returns:
        A figure of its own; `saving.figure_to_array` turns it into pixels.

    Raises:
        ValueError: No images, lengths that differ, or `columns` below 1.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1; it is {columns}.")
    labels = np.asarray(labels_true).reshape(-1)
    true = np.asarray(boxes_true, dtype=np.float64).reshape(-1, 4)
    pred = np.asarray(boxes_pred, dtype=np.float64).reshape(-1, 4)
    scores = np.asarray(probabilities, dtype=np.float64)
    _check_lengths(len(images), len(labels), len(true), len(scores), len(pred))
    overlaps = pair_ious(true, pred)
    examples = [
        _example(images[i], int(labels[i]), true[i], scores[i], pred[i], overlaps[i], class_names)
        if labels[i] != background
        else _empty_example(images[i], int(labels[i]), scores[i], pred[i], class_names)
        for i in range(len(images))
    ]
    return draw_grid(examples, min(columns, len(examples)), title)


def save_gallery(
    path: str | os.PathLike[str],
    images: Images,
    labels_true: npt.ArrayLike,
    boxes_true: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    boxes_pred: npt.ArrayLike,
    class_names: Sequence[str] | None = None,
    *,
    columns: int = 4,
    title: str = "",
    background: int | None = None,
) -> Path:
    """Write the grid of `draw_gallery` as PNG, whole or not at all.

    Args:
        path: File to write.
        images: This and all other arguments, and the errors, are those of `draw_gallery`.
        labels_true: (N,) integer labels.
        boxes_true: (N, 4) fractions `(x1, y1, x2, y2)`.
        probabilities: (N, K) class probabilities.
        boxes_pred: (N, 4) fractions `(x1, y1, x2, y2)`.
        class_names: K names or None.
        columns: Cells in a row.
        title: First line.
        background: Label of images without an object, or None.

    Returns:
        The path written.
    """
    figure = draw_gallery(
        images,
        labels_true,
        boxes_true,
        probabilities,
        boxes_pred,
        class_names,
        columns=columns,
        title=title,
        background=background,
    )
    return save_figure(figure, path)


def _check_lengths(*lengths: int) -> None:
    if len(set(lengths)) != 1 or not lengths[0]:
        raise ValueError(
            "images, labels_true, boxes_true, probabilities and boxes_pred must have one "
            f"common length of at least 1; they have {', '.join(map(str, lengths))}."
        )


def _example(
    image: npt.ArrayLike,
    label: int,
    box_true: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    box_pred: npt.NDArray[np.float64],
    overlap: float,
    class_names: Sequence[str] | None,
) -> Example:
    said = int(scores.argmax())
    name = class_name(label, class_names)
    if len(scores) == 1:
        parts = caption_of_one_class(name, float(overlap))
    else:
        name_said = class_name(said, class_names)
        parts = caption_parts(name, name_said, float(scores[said]), float(overlap))
    localized = is_localized(label, said, float(overlap))
    return Example(to_rgb(image), box_true, box_pred, parts, localized)


def _empty_example(
    image: npt.ArrayLike,
    label: int,
    scores: npt.NDArray[np.float64],
    box_pred: npt.NDArray[np.float64],
    class_names: Sequence[str] | None,
) -> Example:
    """An image without an object: right where the model says so, and then without any box."""
    said = int(scores.argmax())
    name, name_said = class_name(label, class_names), class_name(said, class_names)
    parts = caption_without_object(name, name_said, float(scores[said]))
    return Example(to_rgb(image), None, None if said == label else box_pred, parts, said == label)


GALLERY_IMAGES = 16


def save_run_curves(folder: Path, name: str, class_count: int) -> None:
    """Draws `history.csv` of a run folder to `plots/curves.png`.

    With one class there is no curve of its loss and accuracy, which are the same whatever is
    learned.
    """
    title = f"{name} (one class: only the box is learned)" if class_count == 1 else name
    hidden = CLASS_COLUMNS if class_count == 1 else ()
    path = folder / PLOTS / "curves.png"
    save_curves(folder / HISTORY_FILE, path, title=title, hidden=hidden)


def save_run_architecture(model: keras.Model, folder: Path) -> None:
    """Draws the model to `plots/architecture.png`."""
    save_architecture(model, folder / PLOTS / "architecture.png")


def save_split_gallery(
    folder: Path,
    split: str,
    images: np.ndarray,
    truth: Mapping[str, np.ndarray],
    said: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    title: str,
    background: int | None = None,
) -> Path:
    """Draws images of a split to `plots/<split>_gallery.png`.

    Args:
        folder: the run folder.
        split: name of the split.
        images: (M, H, W, C), those that `gallery_choice.choose_examples` chose.
        truth: `softmax` labels (M,) and `bbox` boxes (M, 4) of the same images.
        said: `softmax` probabilities (M, K) and `bbox` boxes (M, 4) of the same images.
        class_names: name of each class.
        title: how the images were chosen.
        background: label of images without an object, or None.
    """
    return save_gallery(
        folder / PLOTS / f"{split}_gallery.png",
        images,
        truth["softmax"],
        truth["bbox"],
        said["softmax"],
        said["bbox"],
        class_names,
        title=title,
        background=background,
    )


def panel_picture(
    images: np.ndarray,
    truth: Mapping[str, np.ndarray],
    said: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    background: int | None = None,
) -> np.ndarray:
    """Draws validation images with both boxes as one uint8 picture (h, w, 3)."""
    figure = draw_gallery(
        images,
        truth["softmax"],
        truth["bbox"],
        said["softmax"],
        said["bbox"],
        class_names,
        title=f"The same {len(images)} validation images each epoch",
        background=background,
    )
    return figure_to_array(figure)
