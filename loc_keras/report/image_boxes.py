"""Boxes on images: one table of their lines, drawn on Matplotlib's axes and on Pillow's pixels.

Also small pictures of records with their box, and pictures as data URIs for pages.
"""

import base64
import io
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image, ImageDraw, ImageFont

from loc_keras.atomic_file import written_aside
from loc_keras.data.annotations import ImageRef
from loc_keras.data.box_view import VIEWS, View
from loc_keras.data.decode import upright
from loc_keras.data.files import read_bytes
from loc_keras.data.image_header import read_header
from loc_keras.data.resolve import Records
from loc_keras.report.style import BLUE, PAPER, PREDICTION, TRUTH, WRONG, figure_to_array

DPI = 144.0
DARK = "#101010"


@dataclass(frozen=True)
class BoxStyle:
    """How a kind of box is drawn, and what a legend calls it.

    The width is in points on Matplotlib's axes, dashes are lengths of dash and gap in line widths,
    None for a solid line; `halo` is the colour of the wider line below, `fill` the opacity of the
    inside, 0..1.
    """

    words: str
    colour: str
    width: float
    dashes: tuple[float, float] | None = None
    halo: str = DARK
    fill: float = 0.0

    @property
    def line(self) -> Literal["solid"] | tuple[float, tuple[float, float]]:
        """Matplotlib's style of the line."""
        return "solid" if self.dashes is None else (0.0, self.dashes)


# The prediction is drawn over the truth and narrower, so that boxes that agree show as a line in
# both colours. At DPI both are an even number of pixels: centred on a pixel edge, they stay crisp.
TRUE_BOX = BoxStyle("true box", TRUTH, 3.0)
PREDICTED_BOX = BoxStyle("predicted box", PREDICTION, 2.0, (2.5, 1.75))
# Without the truth beside it, the prediction is solid and the bounds of trust stand around it.
ANSWERED_BOX = BoxStyle("answered box", PREDICTION, 2.2)
OUTER_BOX = BoxStyle("outer box: holds the true box", PAPER, 1.4, (5.0, 3.0))
INNER_BOX = BoxStyle("inner box: lies in the true box", BLUE, 1.2, halo=PAPER, fill=0.4)
HALO = 1.0  # Points by which the halo is wider than the line.


def to_rgb(image: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """An image (H, W), (H, W, 1) or (H, W, 3) of any numeric type as it is drawn, uint8 (H, W, 3).

    Values are rounded and clipped to 0..255; ValueError for another shape.
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
    """Shows an image, as in `to_rgb`, on axes whose coordinates are fractions of its sides.

    Pixel column i of W covers i/W to (i + 1)/W, so a box drawn with its fractions has its
    edges on pixel edges, not on pixel centres. Ticks and frame are taken off.
    """
    pixels = to_rgb(image)
    height, width = pixels.shape[:2]
    axes.imshow(pixels, extent=(0.0, 1.0, 1.0, 0.0), aspect=height / width, interpolation="auto")
    axes.set_axis_off()


def draw_box(axes: Axes, box: npt.ArrayLike, style: BoxStyle) -> None:
    """Draws a box, fractions `(x1, y1, x2, y2)`, with the line centred on its edge.

    The axes are prepared by `draw_image`. A box with a coordinate that is not finite is not drawn.
    """
    x1, y1, x2, y2 = (float(value) for value in np.asarray(box, dtype=np.float64).reshape(4))
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return
    look: dict[str, Any] = {"clip_on": False}
    corner, width, height = (x1, y1), x2 - x1, y2 - y1
    if style.fill:
        inside: dict[str, Any] = {"facecolor": style.colour, "alpha": style.fill, "linewidth": 0}
        axes.add_patch(Rectangle(corner, width, height, **look, **inside))
    look |= {"fill": False, "edgecolor": style.colour, "snap": False, "joinstyle": "miter"}
    look |= {"linewidth": style.width, "linestyle": style.line, "capstyle": "butt"}
    halo = withStroke(linewidth=style.width + HALO, foreground=style.halo)
    axes.add_patch(Rectangle(corner, width, height, path_effects=[halo], **look))


def draw_frame(axes: Axes) -> None:
    """Frames the whole image, 3 points wide and just outside its edge, to mark it as a failure."""
    # The line is centred on the image's edge and lies below the image, which hides its inner
    # half: no pixel of the image is covered.
    look: dict[str, Any] = {"joinstyle": "miter", "clip_on": False, "zorder": -1.0}
    axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=WRONG, linewidth=6, **look))


def outline(
    draw: ImageDraw.ImageDraw,
    corners: Sequence[int],
    style: BoxStyle,
    width: int,
    margin: int,
    *,
    inside: bool = False,
) -> None:
    """Draws a box with edges (x1, y1, x2, y2) in whole px on pixels: its line over a halo.

    Width and fill of the style are not used. `margin` is the width in px of the halo on both sides
    of the line. The line is centred on the edges or, if `inside`, lies within them.
    """
    before = 0 if inside else width // 2  # Px of the line left of or above its edge.
    after = 0 if inside else width - before  # Those beyond a right or lower edge.
    dash = None if style.dashes is None else [round(part * width) for part in style.dashes]
    for colour, more, pieces in ((style.halo, margin, None), (style.colour, 0, dash)):
        x1, y1 = corners[0] - before - more, corners[1] - before - more
        x2, y2 = corners[2] + after + more, corners[3] + after + more
        thick = width + 2 * more
        for y in (y1, y2 - thick):
            for start, end in _pieces(x1, x2, pieces):
                draw.rectangle((start, y, end - 1, y + thick - 1), fill=colour)
        for x in (x1, x2 - thick):
            for start, end in _pieces(y1, y2, pieces):
                draw.rectangle((x, start, x + thick - 1, end - 1), fill=colour)


def _pieces(first: int, end: int, dash: Sequence[int] | None) -> Iterator[tuple[int, int]]:
    if dash is None:
        yield first, end
        return
    for start in range(first, end, sum(dash)):
        yield start, min(start + dash[0], end)


LEAST_SIDE = 240
"""Px of the shorter side; smaller images are enlarged by a whole factor, so that text fits."""

_SIDE_PER_WIDTH = 220
_SIDE_PER_TEXT = 22
_LEAST_TEXT, _MOST_TEXT = 11, 96
_SAMPLE = "MMM"  # As wide as the line beside a meaning in a legend.
_STRIP = "#404040"  # Both the dark and the light halo show on it.


def draw_answer(
    picture: Image.Image,
    caption: str,
    box: Sequence[float] | None,
    outer: Sequence[float] | None = None,
    inner: Sequence[float] | None = None,
    *,
    legend: Sequence[BoxStyle] = (),
) -> Image.Image:
    """Draws boxes and a caption on a copy, and below it what each of several boxes is.

    Boxes are (x1, y1, x2, y2) in px of the picture, which is RGB, or None where there is none; the
    outer one holds the object, the inner one lies within it. The copy is of the picture's size or a
    whole multiple of it; with an outer or inner box it is higher by the legend.
    """
    factor = max(1, -(-LEAST_SIDE // min(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    drawn = picture.resize(size, Image.Resampling.NEAREST) if factor > 1 else picture.copy()
    draw = ImageDraw.Draw(drawn)
    width = max(2, round(min(size) / _SIDE_PER_WIDTH))
    placed = ((inner, INNER_BOX), (box, ANSWERED_BOX), (outer, OUTER_BOX))
    shown = [(corners, style) for corners, style in placed if corners is not None]
    for corners, style in shown:
        thick = width + (style is ANSWERED_BOX)
        edges = [round(factor * side) for side in corners]
        outline(draw, edges, style, thick, max(1, thick // 3))
    top_left = (0.0, 0.0) if box is None else (factor * box[0], factor * box[1])
    _draw_caption(draw, size, caption, top_left, width)
    if outer is None and inner is None and not legend:
        return drawn
    return _with_legend(drawn, [*(style for _, style in reversed(shown)), *legend], width)


def _with_legend(picture: Image.Image, styles: Sequence[BoxStyle], width: int) -> Image.Image:
    """The picture above a strip with a line and its meaning for each style, in rows."""
    draw = ImageDraw.Draw(picture)
    longest = max((style.words for style in styles), key=len)
    font, (_, top, _, bottom) = _fitting(draw, picture.size, f"{longest}{_SAMPLE}")
    sample, pad = round(draw.textlength(_SAMPLE, font=font)), 2 * width
    line = round(bottom - top) + 3 * pad
    places: list[tuple[int, int]] = []
    x, y = pad, 0
    for style in styles:
        needed = sample + pad + round(draw.textlength(style.words, font=font)) + 2 * pad
        if x > pad and x + needed > picture.width:
            x, y = pad, y + line
        places.append((x, y))
        x += needed
    whole = Image.new("RGB", (picture.width, picture.height + y + line + pad), _STRIP)
    whole.paste(picture)
    draw = ImageDraw.Draw(whole)
    for (x, y), style in zip(places, styles, strict=True):
        middle = picture.height + y + (line + pad) // 2
        dash = None if style.dashes is None else [round(part * width) for part in style.dashes]
        around = (x - 1, middle - width // 2 - 1, x + sample, middle - width // 2 + width)
        draw.rectangle(around, fill=style.halo)
        for start, end in _pieces(x, x + sample, dash):
            low = middle - width // 2
            draw.rectangle((start, low, end - 1, low + width - 1), fill=style.colour)
        draw.text((x + sample + pad, middle), style.words, fill=PAPER, font=font, anchor="lm")
    return whole


def _draw_caption(
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
    draw.rectangle((x, y, x + across - 1, y + down - 1), fill=DARK)
    draw.text((x + pad - left, y + pad - top), text, fill=PAPER, font=font)


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


_QUALITY = 88
_LOWER = (70, 50, 30)


class Picture(NamedTuple):
    """A picture as a data URI, and its (width, height) in px."""

    uri: str
    size: tuple[int, int]


def encoded(picture: Image.Image, most_bytes: int | None = None) -> Picture:
    """A picture as a data URI: JPEG, since photographs take ten times the room as PNG.

    The quality is lowered where it would take more than `most_bytes`; None keeps it.
    """
    for quality in (_QUALITY, *_LOWER):
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "JPEG", quality=quality, subsampling=0)
        if most_bytes is None or buffer.tell() <= most_bytes:
            break
    return Picture(_uri("jpeg", buffer.getvalue()), picture.size)


def figure_uri(figure: Figure) -> Picture:
    """A figure as a PNG data URI."""
    pixels: npt.NDArray[np.uint8] = figure_to_array(figure)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Picture(_uri("png", buffer.getvalue()), (pixels.shape[1], pixels.shape[0]))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


Pixels = npt.NDArray[np.uint8]
FractionBox = tuple[float, float, float, float]

SIDE = 200  # Longer side in px of a picture with its box.
RECORD_SIDE = 320  # Longer side in px of a picture of a record, at most.

MOST_PADDING = 0.5
"""Of the image's side, by which a picture is widened to show a box that reaches outside."""

_LINE = 3
_CELL, _CAPTION = 240, 26  # Of `save_box_views`, in px.
_OUTSIDE = (235, 235, 235)


def small_pictures(
    records: Records, rows: Iterable[int], side: int = RECORD_SIDE
) -> dict[int, Pixels]:
    """Pictures of some rows as their boxes refer to them, uint8 (H, W, 3), at most `side` px long.

    Small ones stay as they are, and those that cannot be decoded are left out.
    """
    made = {}
    for row in rows:
        image = ImageRef(
            str(records.paths[row]), int(records.offsets[row]), int(records.lengths[row])
        )
        window = tuple(int(edge) for edge in records.windows[row])
        picture = small_picture(image, side, int(records.orientations[row]), window)
        if picture is not None:
            made[row] = np.asarray(picture)
    return made


def thumb_of(
    image: ImageRef, box: FractionBox | None, *, colour: str = TRUTH, boxes_on: str = "stored"
) -> Picture | None:
    """Draws one image with its box; None where it cannot be decoded.

    Small ones are enlarged by a whole factor. The box is (x1, y1, x2, y2) in fractions, perhaps
    inverted or outside. With `boxes_on` `"upright"` the picture is turned by its EXIF orientation.
    """
    small = small_picture(image, SIDE, None if boxes_on == "upright" else 1)
    if small is None:
        return None
    factor = SIDE // max(small.size)
    size = (small.width * factor, small.height * factor)
    return encoded(with_box(small.resize(size, Image.Resampling.NEAREST), box, colour))


def small_picture(
    image: ImageRef, side: int, orientation: int | None, window: tuple[int, ...] = (0, 0, 0, 0)
) -> Image.Image | None:
    """An image as RGB, turned and cut, at most `side` px long; None where it cannot be decoded.

    Without an EXIF orientation, 1..8, it is read from the image. The window is (left, top, right,
    bottom) in px; all zero for the whole picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, about odd files: the check reports them.
            turns = read_header(image).orientation if orientation is None else orientation
            with Image.open(io.BytesIO(read_bytes(*image))) as opened:
                if not any(window):  # A window is in px of the whole picture.
                    opened.draft("RGB", (2 * side, 2 * side))
                whole = upright(opened, turns, window)
    except Exception:  # PIL's decoders raise nearly anything on hostile bytes.
        return None
    if whole.mode.startswith(("I", "F")):
        whole = _stretched(whole)
    picture = whole.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def _stretched(image: Image.Image) -> Image.Image:
    """A picture of more than 8 bits by its own range, so that something can be seen."""
    values = np.nan_to_num(np.asarray(image, np.float64))
    low, high = float(values.min()), float(values.max())
    return Image.fromarray(((values - low) * (255 / ((high - low) or 1))).astype(np.uint8))


def save_box_views(
    path: Path, samples: Sequence[tuple[ImageRef, Mapping[View, FractionBox]]]
) -> None:
    """Writes pictures, upright, in a row each, with their box as each `boxes_on` would have it.

    Boxes are in fractions of the upright picture; the file is PNG. OSError if it cannot be written.
    """
    rows: list[list[Image.Image]] = []
    for image, boxes in samples:
        picture = small_picture(image, SIDE, None)
        if picture is None:
            continue
        factor = max(1, SIDE // max(picture.size))
        picture = picture.resize((picture.width * factor, picture.height * factor))
        rows.append([])
        for view, box in boxes.items():
            cell = Image.new("RGB", (_CELL, _CELL), "white")
            drawn = with_box(picture.copy(), box, WRONG)
            drawn.thumbnail((_CELL, _CELL - _CAPTION))
            cell.paste(drawn, ((_CELL - drawn.width) // 2, _CAPTION))
            ImageDraw.Draw(cell).text((8, 4), f"boxes_on: {view}", fill="black", font_size=14)
            rows[-1].append(cell)
    sheet = Image.new("RGB", (_CELL * len(VIEWS), _CELL * max(1, len(rows))), "white")
    for down, row in enumerate(rows):
        for across, cell in enumerate(row):
            sheet.paste(cell, (across * _CELL, down * _CELL))
    with written_aside(path) as aside:
        sheet.save(aside, "PNG")


def with_box(picture: Image.Image, box: FractionBox | None, colour: str = TRUTH) -> Image.Image:
    """Draws a box on an RGB picture itself; where it reaches outside, on a wider copy."""
    if box is None or not all(map(math.isfinite, box)):
        return picture
    width, height = picture.size
    left, right = sorted((box[0], box[2]))
    top, bottom = sorted((box[1], box[3]))
    # Half a line more, so that a box on the edge shows whole.
    reach = [max(0.0, -left), max(0.0, -top), max(0.0, right - 1), max(0.0, bottom - 1)]
    sides = (width, height, width, height)
    pads = [
        min(round(r * s), round(MOST_PADDING * s)) + _LINE + 1 if r > 0 else 0
        for r, s in zip(reach, sides, strict=True)
    ]
    if any(pads):
        size = (width + pads[0] + pads[2], height + pads[1] + pads[3])
        wider = Image.new("RGB", size, _OUTSIDE)
        wider.paste(picture, (pads[0], pads[1]))
        picture = wider
    limit = 4 * max(sides)  # Corners far away need no exact place.
    edges = (left * width, top * height, right * width, bottom * height)
    x1, y1, x2, y2 = (
        int(np.clip(round(edge), -limit, limit)) + pad
        for edge, pad in zip(edges, 2 * pads[:2], strict=True)
    )
    # A flat box is widened.
    x1, x2 = (x1 - _LINE, max(x1 + 1, x2) + _LINE) if x2 - x1 <= 2 * _LINE else (x1, x2)
    y1, y2 = (y1 - _LINE, max(y1 + 1, y2) + _LINE) if y2 - y1 <= 2 * _LINE else (y1, y2)
    style = replace(TRUE_BOX, colour=colour)
    outline(ImageDraw.Draw(picture), (x1, y1, x2, y2), style, _LINE, 1, inside=True)
    return picture
