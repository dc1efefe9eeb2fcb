"""Draw an image with its true and its predicted box."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image, ImageDraw, ImageFont

from loc_keras.report.style import (
    BLUE,
    FONT,
    INK,
    LABEL_SIZE,
    PREDICTION,
    SMALL_SIZE,
    TITLE_SIZE,
    TRUTH,
    WRONG,
    figure_to_array,
    new_figure,
)

Dashes = Literal["solid"] | tuple[float, Sequence[float]]

# Widths in points. The prediction is drawn over the truth and narrower, so that boxes that
# agree show as a line in both colours and neither hides the other.
# At DPI every one is an even number of pixels: centred on a pixel edge, it stays crisp.
TRUTH_WIDTH = 3.0
PREDICTION_WIDTH = 2.0
HALO = 1.0
TRUTH_DASHES: Dashes = "solid"
PREDICTION_DASHES: Dashes = (0.0, (2.5, 1.75))
HALO_COLOUR = "#101010"
DPI = 144.0


def to_rgb(image: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Bring an image to the form that is drawn.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3), any numeric dtype, values 0..255.

    Returns:
        uint8 (H, W, 3); values are rounded and clipped to 0..255.

    Raises:
        ValueError: The shape is none of these.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(
            f"image must be (H, W), (H, W, 1) or (H, W, 3); it has shape {np.shape(image)}."
        )
    if pixels.dtype != np.uint8:
        pixels = np.clip(np.round(np.nan_to_num(pixels.astype(np.float64))), 0, 255)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint8)


def draw_image(axes: Axes, image: npt.ArrayLike) -> None:
    """Show an image on axes whose coordinates are fractions of its sides.

    Pixel column i of W covers i/W to (i + 1)/W, so a box drawn with its fractions has its
    edges on pixel edges, not on pixel centres.

    Args:
        axes: Axes to draw on; ticks and frame are taken off.
        image: As in `to_rgb`.
    """
    pixels = to_rgb(image)
    height, width = pixels.shape[:2]
    axes.imshow(pixels, extent=(0.0, 1.0, 1.0, 0.0), aspect=height / width, interpolation="auto")
    axes.set_axis_off()


def draw_box(
    axes: Axes, box: npt.ArrayLike, *, colour: str, line_width: float, dashes: Dashes
) -> None:
    """Draw one box outline with a dark halo that separates it from a light image.

    Args:
        axes: Axes prepared by `draw_image`.
        box: (4,) `(x1, y1, x2, y2)` as fractions of the image's sides. A box with a
            coordinate that is not finite is not drawn.
        colour: Line colour.
        line_width: Width in points; the line is centred on the box's edge.
        dashes: A matplotlib line style.
    """
    x1, y1, x2, y2 = (float(value) for value in np.asarray(box, dtype=np.float64).reshape(4))
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)):
        return
    axes.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=colour,
            linewidth=line_width,
            linestyle=dashes,
            joinstyle="miter",
            capstyle="butt",
            clip_on=False,
            snap=False,
            path_effects=[withStroke(linewidth=line_width + HALO, foreground=HALO_COLOUR)],
        )
    )


def draw_boxes(axes: Axes, box_true: npt.ArrayLike | None, box_pred: npt.ArrayLike | None) -> None:
    """Draw the true box solid and the predicted box dashed over it.

    Args:
        axes: Axes prepared by `draw_image`.
        box_true: (4,) fractions `(x1, y1, x2, y2)`, or None.
        box_pred: (4,) fractions `(x1, y1, x2, y2)`, or None.
    """
    if box_true is not None:
        draw_box(axes, box_true, colour=TRUTH, line_width=TRUTH_WIDTH, dashes=TRUTH_DASHES)
    if box_pred is not None:
        draw_box(
            axes,
            box_pred,
            colour=PREDICTION,
            line_width=PREDICTION_WIDTH,
            dashes=PREDICTION_DASHES,
        )


def draw_frame(axes: Axes, colour: str = WRONG, line_width: float = 3.0) -> None:
    """Frame the whole image, just outside its edge, to mark it as a failure.

    Args:
        axes: Axes prepared by `draw_image`.
        colour: Frame colour.
        line_width: Visible width in points.
    """
    # The line is centred on the image's edge and lies below the image, which hides its inner
    # half: no pixel of the image is covered.
    axes.add_patch(
        Rectangle(
            (0.0, 0.0),
            1.0,
            1.0,
            fill=False,
            edgecolor=colour,
            linewidth=2 * line_width,
            joinstyle="miter",
            clip_on=False,
            zorder=-1.0,
        )
    )


def render_example(
    image: npt.ArrayLike,
    box_true: npt.ArrayLike | None = None,
    box_pred: npt.ArrayLike | None = None,
    *,
    shorter_side: int = 300,
) -> npt.NDArray[np.uint8]:
    """Draw boxes on one image, enlarged by a whole factor where it is small.

    Args:
        image: As in `to_rgb`.
        box_true: (4,) fractions `(x1, y1, x2, y2)`, drawn solid; None draws none.
        box_pred: (4,) fractions `(x1, y1, x2, y2)`, drawn dashed; None draws none.
        shorter_side: The picture's shorter side has at least this many pixels.

    Returns:
        uint8 (k H, k W, 3), where k is the smallest whole number that makes the shorter side
        long enough.
    """
    pixels = to_rgb(image)
    height, width = pixels.shape[:2]
    factor = max(1, math.ceil(shorter_side / min(height, width)))
    figure = new_figure(width * factor / DPI, height * factor / DPI, DPI)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    draw_image(axes, pixels)
    draw_boxes(axes, box_true, box_pred)
    return figure_to_array(figure)


LEAST_SIDE = 240
"""Px of the shorter side; smaller images are enlarged by a whole factor, so that text fits."""

_DARK = "#101010"
_WHITE = "#FFFFFF"
_SIDE_PER_WIDTH = 220
_SIDE_PER_TEXT = 22
_LEAST_TEXT, _MOST_TEXT = 11, 96
_DASH, _GAP = 5, 3  # In widths of the line.

Box = Sequence[float]


def draw_answer(
    picture: Image.Image,
    caption: str,
    box: Box | None,
    outer: Box | None = None,
    inner: Box | None = None,
) -> Image.Image:
    """Draws boxes and a caption.

    Args:
        picture: RGB; it stays as it is.
        caption: One line: label and score.
        box: (x1, y1, x2, y2) in px of the picture, like the others; None where there is none.
        outer: Box that holds the object.
        inner: Box within it.

    Returns:
        RGB, of the picture's size or a whole multiple of it.
    """
    factor = max(1, -(-LEAST_SIDE // min(picture.size)))
    if factor > 1:
        size = (picture.width * factor, picture.height * factor)
        drawn = picture.resize(size, Image.Resampling.NEAREST)
    else:
        drawn = picture.copy()
    draw = ImageDraw.Draw(drawn)
    width = max(2, round(min(drawn.size) / _SIDE_PER_WIDTH))
    lines = (
        (inner, BLUE, _WHITE, width, False),
        (box, PREDICTION, _DARK, width + 1, False),
        (outer, _WHITE, _DARK, width, True),
    )
    for corners, colour, halo, thick, dashed in lines:
        if corners is not None:
            _outline(draw, [factor * side for side in corners], colour, halo, thick, dashed)
    top_left = (0.0, 0.0) if box is None else (factor * box[0], factor * box[1])
    _caption(draw, drawn.size, caption, top_left, width)
    return drawn


def _outline(
    draw: ImageDraw.ImageDraw,
    corners: Sequence[float],
    colour: str,
    halo: str,
    width: int,
    dashed: bool,
) -> None:
    """A rectangle whose line is centred on the box's edge, over a wider one."""
    margin = max(1, width // 3)
    x1, y1, x2, y2 = (round(side) for side in corners)
    for tone, thick, pieces in ((halo, width + 2 * margin, False), (colour, width, dashed)):
        for strip in _strips(x1, y1, x2, y2, thick, width if pieces else None):
            draw.rectangle(strip, fill=tone)


def _strips(
    x1: int, y1: int, x2: int, y2: int, thick: int, dash: int | None
) -> Iterator[tuple[int, int, int, int]]:
    """Filled rectangles (Pillow's corners count in) that make the four sides, cut into dashes."""
    before = thick // 2
    after = thick - before - 1
    for y in (y1, y2):
        for start, end in _pieces(x1 - before, x2 + after, dash):
            yield start, y - before, end, y + after
    for x in (x1, x2):
        for start, end in _pieces(y1 - before, y2 + after, dash):
            yield x - before, start, x + after, end


def _pieces(first: int, last: int, dash: int | None) -> Iterator[tuple[int, int]]:
    if dash is None:
        yield first, last
        return
    for start in range(first, last + 1, (_DASH + _GAP) * dash):
        yield start, min(start + _DASH * dash - 1, last)


def _caption(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    text: str,
    top_left: tuple[float, float],
    width: int,
) -> None:
    """White on dark, above the box where there is room, else within it; never cut off."""
    font, (left, top, right, bottom) = _fitting(draw, size, text)
    pad = 2 * width
    across, down = right - left + 2 * pad, bottom - top + 2 * pad
    x = min(max(0, round(top_left[0])), max(0, size[0] - round(across)))
    above = round(top_left[1]) - round(down) - 2 * width
    y = above if above >= 0 else min(max(0, round(top_left[1]) + 2 * width), size[1] - round(down))
    draw.rectangle((x, y, x + across - 1, y + down - 1), fill=_DARK)
    draw.text((x + pad - left, y + pad - top), text, fill=_WHITE, font=font)


def _fitting(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], text: str
) -> tuple[ImageFont.FreeTypeFont, tuple[float, float, float, float]]:
    """The font in the size that the picture asks for, smaller where the text would not fit."""
    points = min(max(_LEAST_TEXT, min(size) // _SIDE_PER_TEXT), _MOST_TEXT)
    while True:
        font = _font(points)
        edges = draw.textbbox((0, 0), text, font=font)
        if edges[2] - edges[0] <= 0.95 * size[0] or points <= _LEAST_TEXT:
            return font, edges
        points = max(_LEAST_TEXT, points - max(1, points // 10))


@lru_cache(maxsize=32)
def _font(points: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which ships inside matplotlib."""
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(file), points)


_WIDTH = 3.1
"""Of one picture, in inches."""

_HALO = "#101010"
_DASHED = (0, (5, 3))


@dataclass(frozen=True, eq=False)
class TrustedAnswer:
    """One answer and what is said of it.

    Attributes:
        picture: uint8 (H, W, 1 or 3).
        label: Name of the predicted class.
        probability: Of it, calibrated.
        p_iou50: Probability that the box has an IoU of at least .5.
        box: (x1, y1, x2, y2) in fractions of the picture, like the others.
        outer: Box that holds the object.
        inner: Box within it; all zero where it is empty.
        labels: Names of the label set.
    """

    picture: npt.NDArray[np.uint8]
    label: str
    probability: float
    p_iou50: float
    box: npt.NDArray[np.floating]
    outer: npt.NDArray[np.floating]
    inner: npt.NDArray[np.floating]
    labels: Sequence[str]


def meaning(coverage: float) -> str:
    """The sentence that says what the boxes mean."""
    percent = f"{100 * coverage:g} %"
    return (
        f"For {percent} of pictures like those of calibration the whole object lies inside the "
        f"outer box; for {percent} the inner box lies wholly on the object's box."
    )


def draw_trusted(answers: Sequence[TrustedAnswer], coverage: float) -> Figure:
    """Draws answers side by side, at most four in a row, above the sentence of `meaning`."""
    columns = min(len(answers), 4)
    rows = -(-len(answers) // columns)
    heights = max(answer.picture.shape[0] / answer.picture.shape[1] for answer in answers)
    size = (_WIDTH * columns, rows * (_WIDTH * heights + 0.6) + 0.75)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, answer in zip(grid.flat, answers, strict=False):
        _draw(axes, answer)
    figure.suptitle(
        _wrapped(meaning(coverage), 34 * columns) + "\n",
        fontsize=LABEL_SIZE,
        color=INK,
        fontfamily=FONT,
    )
    figure.legend(
        handles=[
            Rectangle((0, 0), 1, 1, fill=False, edgecolor=INK, linestyle=_DASHED, linewidth=1.4),
            Rectangle((0, 0), 1, 1, fill=False, edgecolor="#B8A800", linewidth=2.4),
            Rectangle((0, 0), 1, 1, facecolor=BLUE, alpha=0.45, edgecolor=BLUE),
        ],
        labels=["outer box", "answered box", "inner box"],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        prop={"family": FONT, "size": SMALL_SIZE},
    )
    return figure


def _draw(axes: Axes, answer: TrustedAnswer) -> None:
    height, width = answer.picture.shape[:2]
    picture = answer.picture
    axes.imshow(
        picture if picture.shape[-1] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=255
    )
    scale = np.array([width, height, width, height])
    if answer.inner.any():
        _box(axes, answer.inner * scale, facecolor=BLUE, alpha=0.4)
        _box(axes, answer.inner * scale, fill=False, edgecolor=BLUE, linewidth=1.2)
    for edge, line in ((_HALO, 4.2), (PREDICTION, 2.2)):
        _box(axes, answer.box * scale, fill=False, edgecolor=edge, linewidth=line)
    for edge, line in ((_HALO, 3.0), ("white", 1.4)):
        _box(
            axes,
            answer.outer * scale,
            fill=False,
            edgecolor=edge,
            linewidth=line,
            linestyle=_DASHED,
        )
    axes.set_title(
        f"{answer.label} {100 * answer.probability:.0f} %",
        fontsize=TITLE_SIZE,
        fontfamily=FONT,
        color=INK,
        loc="left",
        pad=16,
    )
    others = len(answer.labels)
    said = f"box right: {100 * answer.p_iou50:.0f} %; {others} label{'s' if others != 1 else ''}"
    said += "" if answer.inner.any() else "; inner box empty"
    axes.text(
        0, 1.015, said, transform=axes.transAxes, fontsize=SMALL_SIZE, fontfamily=FONT, color=INK
    )


def _box(axes: Axes, box_px: npt.NDArray[np.floating], **style: object) -> None:
    x1, y1, x2, y2 = np.asarray(box_px, float) - 0.5  # Pixel i covers i - 1/2 to i + 1/2.
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **style))  # type: ignore[arg-type]


def _wrapped(text: str, width: int) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
