"""One answer drawn on its image, in the image's own pixels.

The predicted box is solid and yellow, the outer one dashed and white, the inner one thin and blue:
on paper without colours they still differ.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from loc_keras.report.style import BLUE, PREDICTION

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
