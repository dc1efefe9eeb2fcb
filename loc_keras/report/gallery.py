"""Grids of images with boxes and captions: galleries of a split, answers with their trust."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from loc_keras.errors import counted
from loc_keras.evaluation.outcomes import paired_iou
from loc_keras.report import image_boxes, style
from loc_keras.report.evaluation_content import format_iou, spread_by_iou

Arrays = Mapping[str, npt.ArrayLike]  # Labels or probabilities as `softmax`, boxes as `bbox`.

WRONG_MARK = "✗"
LOCALIZED_IOU = 0.5  # the threshold of Top-1 localization (Russakovsky et al. 2015)


def is_localized(label_true: int, label_pred: int, iou: float) -> bool:
    """Whether class and box are both right: same label and IoU of at least .5."""
    return label_true == label_pred and iou >= LOCALIZED_IOU


def caption_parts(
    name_true: str, name_pred: str, probability: float, iou: float | None
) -> list[str]:
    """Says in short parts what a prediction got right; a cross marks each failure.

    Such as `["true 7", "said 7", "98 %", "IoU .97"]`; with a wrong class the second part starts
    with a cross, with an IoU below .5, or NaN, the last does. Without an object, where the IoU is
    None, there is no last part.
    """
    mark = "" if name_true == name_pred else f"{WRONG_MARK} "
    parts = [f"true {name_true}", f"{mark}said {name_pred}", f"{100 * probability:.0f} %"]
    if iou is not None:
        mark = "" if iou >= LOCALIZED_IOU else f"{WRONG_MARK} "
        parts.append(f"{mark}IoU {format_iou(iou)}")
    return parts


def class_name(label: int, class_names: Sequence[str] | None) -> str:
    """Names a label: its entry in `class_names`, or the number itself where there is none."""
    if class_names is not None and 0 <= label < len(class_names):
        return str(class_names[label])
    return str(label)


def spread_title(ious: npt.ArrayLike, count: int, images: str) -> str:
    """Says how `spread_by_iou` chose, so that nobody takes a gallery for a best-of.

    `images` is what was chosen from, for example `"test images"`.
    """
    values = np.asarray(ious, dtype=np.float64)
    shown = min(count, len(values))
    if shown == len(values):
        return f"All {shown:,} {images}, ordered by IoU, mean {format_iou(values.mean())}"
    low, high = format_iou(float(values.min())), format_iou(float(values.max()))
    return (
        f"{shown} of {len(values):,} {images} at even ranks of IoU: "
        f"worst {low}, best {high}, mean of all {format_iou(float(values.mean()))}"
    )


MOST_EMPTY = 0.5  # Largest share of a gallery for images without an object, which show little.


class Choice(NamedTuple):
    """Images that a gallery shows, int64 (M,) places in the split, and how they were chosen.

    Those with an object come first, worst box first, then those without, surest false alarm first.
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
    """Chooses at most `count` images at even ranks, so that failures show as often as they happen.

    IoUs (N,) of images without an object do not count. Where the background is a class,
    `background` is its probability, (N,), and `empty` says which images, (N,), show no object.
    """
    overlaps = np.asarray(ious, np.float64)
    is_empty = np.zeros(len(overlaps), bool) if empty is None else np.asarray(empty, bool)
    without, objects = np.flatnonzero(is_empty), np.flatnonzero(~is_empty)
    places: list[npt.NDArray[np.int64]] = []
    titles: list[str] = []
    few = 0  # How many without an object are shown.
    if len(without) and not len(objects):
        few = min(len(without), count)
    elif len(without):
        share = max(1, round(count * len(without) / len(overlaps)))
        few = min(len(without), share, int(count * MOST_EMPTY))
    if len(objects):
        places.append(objects[spread_by_iou(overlaps[objects], count - few)])
        images = f"{split} images with an object" if len(without) else f"{split} images"
        titles.append(spread_title(overlaps[objects], count - few, images))
    if few and background is not None:
        chances = np.asarray(background, np.float64)[without]
        places.append(without[spread_by_iou(chances, few)])
        titles.append(
            f"{few} of {len(without):,} without one at even ranks of the background's "
            f"probability: lowest {format_iou(float(chances.min()))}"
        )
    if one_class:
        titles.append("one class: only the box counts")
    return Choice(np.concatenate(places), "; ".join(titles))


# Lengths in inches. At DPI each is a whole number of pixels, and a cell is 300 of them: a
# 100-pixel image is enlarged by exactly 3.
CELL = 300 / image_boxes.DPI
GAP = 36 / image_boxes.DPI
MARGIN = 36 / image_boxes.DPI
CAPTION_GAP = 12 / image_boxes.DPI
CAPTION_LINE = 24 / image_boxes.DPI
TITLE_LINE = 34 / image_boxes.DPI
LEGEND_LINE = 36 / image_boxes.DPI
LEGEND_SAMPLE = 61 / image_boxes.DPI  # four whole dashes and the gaps between them
LEGEND_SPACE = 44 / image_boxes.DPI
SAMPLE_GAP = 12 / image_boxes.DPI
HEAD_GAP = 16 / image_boxes.DPI
POINTS = 72.0  # in an inch

FAILURE = image_boxes.BoxStyle(f"{WRONG_MARK} wrong class or IoU below .5", style.WRONG, 2.4)
"""Legend of the frame around a failure."""


@dataclass(frozen=True, eq=False)
class Example:
    """One cell: an image, values 0..255 as in `to_rgb`, with a caption of parts.

    Boxes are (4,) fractions `(x1, y1, x2, y2)` with the style of each, in the order drawn. A frame
    marks a failure.
    """

    image: npt.ArrayLike
    boxes: Sequence[tuple[image_boxes.BoxStyle, npt.ArrayLike]]
    parts: Sequence[str]
    failed: bool = False


def draw_grid(
    examples: Sequence[Example], columns: int, title: str, legend: Sequence[image_boxes.BoxStyle]
) -> Figure:
    """Draws a page of examples, at least one, row by row, as large as they need.

    The title, which may be empty, is a bold first line, wrapped where it is long. The legend
    explains styles, beside the frame of failures where there are any.
    """
    entries = [*legend, *([FAILURE] if any(example.failed for example in examples) else [])]
    widths = [style.text_width(entry.words, style.LABEL_SIZE) / POINTS for entry in entries]
    widest = LEGEND_SAMPLE + SAMPLE_GAP + max(widths, default=0.0)
    # Few columns may be narrower than a line of the legend.
    room = max(columns * (CELL + GAP) - GAP, widest if entries else 0.0)
    width = 2 * MARGIN + room
    title_lines = style.wrap_words(title, room * POINTS, style.TITLE_SIZE, "bold")
    captions = [
        style.fill_lines(example.parts, CELL * POINTS, style.SMALL_SIZE) for example in examples
    ]
    beside = int((room + LEGEND_SPACE) // (widest + LEGEND_SPACE))  # Of the legend.
    tallest = max(_size_in_cell(example.image)[1] for example in examples)
    cell_height = tallest + CAPTION_GAP + CAPTION_LINE * max(len(lines) for lines in captions)
    legend_top = MARGIN + TITLE_LINE * len(title_lines)
    cells_top = legend_top + LEGEND_LINE * math.ceil(len(entries) / beside) + HEAD_GAP
    rows = math.ceil(len(examples) / columns)
    height = cells_top + rows * (cell_height + GAP) - GAP + MARGIN

    figure, page = style.new_page(width, height, image_boxes.DPI)
    for number, line in enumerate(title_lines):
        style.write(
            page, MARGIN, MARGIN + TITLE_LINE * number, line, size=style.TITLE_SIZE, weight="bold"
        )
    if entries:
        lengths = {
            "handlelength": LEGEND_SAMPLE, "handletextpad": SAMPLE_GAP,
            "columnspacing": LEGEND_SPACE, "labelspacing": LEGEND_LINE - style.LABEL_SIZE / POINTS,
        }  # fmt: skip
        legend_top += (LEGEND_LINE - style.LABEL_SIZE / POINTS) / 2
        style.add_legend(
            page, handles=[_legend_handle(entry) for entry in entries], ncols=beside,
            loc="upper left", bbox_to_anchor=(MARGIN, legend_top), bbox_transform=page.transData,
            borderpad=0, borderaxespad=0, prop={"family": style.FONT, "size": style.LABEL_SIZE},
            **{name: length * POINTS / style.LABEL_SIZE for name, length in lengths.items()},
        )  # fmt: skip
    for number, (example, lines) in enumerate(zip(examples, captions, strict=True)):
        row, column = divmod(number, columns)
        left = MARGIN + column * (CELL + GAP)
        top = cells_top + row * (cell_height + GAP)
        _draw_picture(figure, example, left, top + tallest)
        colour = style.WRONG_INK if example.failed else style.INK
        for place, line in enumerate(lines):
            y = top + tallest + CAPTION_GAP + CAPTION_LINE * place
            style.write(
                page, left + CELL / 2, y, line, size=style.SMALL_SIZE, ha="center", color=colour
            )
    return figure


def _size_in_cell(image: npt.ArrayLike) -> tuple[float, float]:
    """Width and height in inches: the image keeps its shape and fills the cell one way."""
    rows, columns = np.shape(image)[:2]
    return CELL * min(1.0, columns / rows), CELL * min(1.0, rows / columns)


def _draw_picture(figure: Figure, example: Example, left: float, bottom: float) -> None:
    """Draws a picture that stands on its caption, `bottom` below the page's upper edge."""
    width, height = _size_in_cell(example.image)
    page_width, page_height = figure.get_size_inches()
    x = (left + (CELL - width) / 2) / page_width
    y = 1.0 - bottom / page_height
    axes = figure.add_axes((x, y, width / page_width, height / page_height))
    image_boxes.draw_image(axes, example.image)
    for look, box in example.boxes:
        image_boxes.draw_box(axes, box, look)
    if example.failed:
        image_boxes.draw_frame(axes)


def _legend_handle(entry: image_boxes.BoxStyle) -> Artist:
    look: dict[str, Any] = {"linewidth": entry.width, "label": entry.words}
    if entry is FAILURE:
        return Rectangle((0, 0), 1, 1, fill=False, edgecolor=entry.colour, **look)
    look |= {"color": entry.colour, "linestyle": entry.line}
    look |= {"solid_capstyle": "butt", "dash_capstyle": "butt"}
    halo = withStroke(linewidth=entry.width + image_boxes.HALO, foreground=entry.halo)
    return Line2D([], [], path_effects=[halo], **look)


def draw_gallery(
    images: Sequence[npt.ArrayLike] | npt.NDArray[np.generic],
    truth: Arrays,
    answers: Arrays,
    class_names: Sequence[str] | None = None,
    *,
    columns: int = 4,
    title: str = "",
    background: int | None = None,
) -> Figure:
    """Draws a grid of examples in the order given.

    Args:
        images: N images, each (H, W), (H, W, 1) or (H, W, 3), values 0..255; sizes may differ.
        truth: `softmax` labels (N,) and `bbox` (N, 4) fractions `(x1, y1, x2, y2)`.
        answers: `softmax` probabilities (N, K), of which the largest is the answer, and `bbox`.
        class_names: K names; None names classes by number.
        columns: Cells in a row, at least 1.
        title: First line; say here how the examples were chosen (see `spread_title`).
        background: Label of images without an object, whose true box is not drawn, and a predicted
            one only where another class is predicted; None where all show one.

    Raises:
        ValueError: No images, lengths that differ, or `columns` below 1.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1; it is {columns}.")
    labels = np.asarray(truth["softmax"]).reshape(-1)
    true = np.asarray(truth["bbox"], dtype=np.float64).reshape(-1, 4)
    scores = np.asarray(answers["softmax"], dtype=np.float64)
    pred = np.asarray(answers["bbox"], dtype=np.float64).reshape(-1, 4)
    lengths = [len(images), len(labels), len(true), len(scores), len(pred)]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise ValueError(
            "images, true labels, true boxes, probabilities and predicted boxes must have one "
            f"common length of at least 1; they have {', '.join(map(str, lengths))}."
        )
    overlaps = paired_iou(true, pred).tolist()
    examples = []
    for place, image in enumerate(images):
        label, predicted = int(labels[place]), int(scores[place].argmax())
        name, name_predicted = class_name(label, class_names), class_name(predicted, class_names)
        probability, overlap = float(scores[place, predicted]), overlaps[place]
        boxes = [(image_boxes.TRUE_BOX, true[place]), (image_boxes.PREDICTED_BOX, pred[place])]
        if label == background:
            right = predicted == label
            boxes = [] if right else boxes[1:]
            parts = caption_parts(name, name_predicted, probability, None)
        else:
            right = is_localized(label, predicted, overlap)
            only = scores.shape[1] == 1  # One class is always right.
            parts = caption_parts(name, name_predicted, probability, overlap)
            parts = [name, parts[-1]] if only else parts
        examples.append(Example(image, boxes, parts, failed=not right))
    return draw_grid(
        examples,
        min(columns, len(examples)),
        title,
        (image_boxes.TRUE_BOX, image_boxes.PREDICTED_BOX),
    )


def trusted_example(
    picture: npt.NDArray[np.uint8],
    *,
    label: str,
    probability: float,
    p_iou50: float,
    box: npt.NDArray[np.floating],
    outer: npt.NDArray[np.floating],
    inner: npt.NDArray[np.floating],
    labels: Sequence[str],
) -> Example:
    """One answer about a picture, uint8 (H, W, 1 or 3), and what trust says of it.

    The probability is calibrated. Boxes are (x1, y1, x2, y2) in fractions of the picture; an inner
    one that is all zero is empty. `labels` are the names of the label set.
    """
    parts = [
        f"{label} {100 * probability:.0f} %",
        f"box right: {100 * p_iou50:.0f} %",
        counted(len(labels), "label"),
    ]
    boxes = [
        (image_boxes.INNER_BOX, inner),
        (image_boxes.ANSWERED_BOX, box),
        (image_boxes.OUTER_BOX, outer),
    ]
    if not inner.any():
        boxes, parts = boxes[1:], [*parts, "inner box empty"]
    return Example(picture, boxes, parts)


def draw_trusted(examples: Sequence[Example], coverage: float) -> Figure:
    """Draws answers side by side, at most four in a row, below the sentence of `meaning`."""
    legend = (image_boxes.OUTER_BOX, image_boxes.ANSWERED_BOX, image_boxes.INNER_BOX)
    return draw_grid(examples, min(len(examples), 4), meaning(coverage), legend)


def meaning(coverage: float) -> str:
    """The sentence that says what the boxes mean."""
    percent = f"{100 * coverage:g} %"
    return (
        f"For {percent} of pictures like those that trust was fitted on the whole object lies "
        f"inside the outer box; for {percent} the inner box lies wholly on the object's box."
    )
