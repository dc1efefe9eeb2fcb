"""Small pictures of images with a box, for pages and grids."""

import base64
import io
import math
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from loc_keras.data.annotations import ImageRef
from loc_keras.data.decode import upright
from loc_keras.data.files import read_bytes
from loc_keras.data.image_header import read_header
from loc_keras.data.records import Records
from loc_keras.report.style import TRUTH, figure_to_array

_QUALITY = 88
_LOWER = (70, 50, 30)


class Picture(NamedTuple):
    """An encoded picture.

    Attributes:
        uri: The encoded picture as a data URI.
        size: (width, height) in px.
    """

    uri: str
    size: tuple[int, int]


def encoded(picture: Image.Image) -> Picture:
    """A picture as a data URI: JPEG, since photographs take ten times the room as PNG."""
    return Picture(_uri("jpeg", _jpeg(picture, _QUALITY)), picture.size)


def small_jpeg(picture: Image.Image, most_bytes: int) -> Picture:
    """As `encoded`, with the quality lowered where a picture would take more than some bytes."""
    content = _jpeg(picture, _QUALITY)
    for quality in _LOWER:
        if len(content) > most_bytes:
            content = _jpeg(picture, quality)
    return Picture(_uri("jpeg", content), picture.size)


def figure_uri(figure: Figure) -> Picture:
    """A figure as a PNG data URI."""
    pixels: npt.NDArray[np.uint8] = figure_to_array(figure)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Picture(_uri("png", buffer.getvalue()), (pixels.shape[1], pixels.shape[0]))


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


SIDE = 200
"""Longer side of a picture in px."""

MOST_PADDING = 0.5
"""Of the image's side, by which a picture is widened to show a box that reaches outside."""

_LINE = 3
_HALO = "#101010"
_OUTSIDE = (235, 235, 235)

FractionBox = tuple[float, float, float, float]


def thumb_of(
    image: ImageRef, box: FractionBox | None, *, colour: str = TRUTH, boxes_on: str = "stored"
) -> Picture | None:
    """Draws one image with its box; None where it cannot be decoded.

    Args:
        image: The image.
        box: (x1, y1, x2, y2) in fractions, perhaps inverted or outside; None draws none.
        colour: Of the box.
        boxes_on: `"upright"` turns the picture by its EXIF orientation, `"stored"` does not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, about odd files: findings tell of them.
            header = read_header(image)
            content = io.BytesIO(read_bytes(image.path, image.offset, image.length))
            with Image.open(content) as opened:
                opened.draft("RGB", (2 * SIDE, 2 * SIDE))
                opened.load()
                small = _small(opened.copy())
    except Exception:  # PIL's decoders raise nearly anything on hostile bytes.
        return None
    if boxes_on == "upright":
        small = upright(small, header.orientation, (0, 0, 0, 0))
    return encoded(with_box(small, box, colour))


def with_box(picture: Image.Image, box: FractionBox | None, colour: str = TRUTH) -> Image.Image:
    """Draws a box on an RGB picture; where it reaches outside, the picture is widened."""
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
    corners = [
        int(np.clip(round(left * width), -limit, limit)) + pads[0],
        int(np.clip(round(top * height), -limit, limit)) + pads[1],
        int(np.clip(round(right * width), -limit, limit)) + pads[0] - 1,
        int(np.clip(round(bottom * height), -limit, limit)) + pads[1] - 1,
    ]
    _outline(ImageDraw.Draw(picture), corners, colour)
    return picture


def _small(image: Image.Image) -> Image.Image:
    """RGB, at most `SIDE` px; small pictures are enlarged by a whole factor."""
    if image.mode.startswith(("I", "F")):
        image = stretched(image)
    rgb = image.convert("RGB")
    longer = max(rgb.size)
    if longer > SIDE:
        size = (max(1, round(rgb.width * SIDE / longer)), max(1, round(rgb.height * SIDE / longer)))
        return rgb.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    factor = SIDE // longer
    return rgb.resize((rgb.width * factor, rgb.height * factor), Image.Resampling.NEAREST)


def stretched(image: Image.Image) -> Image.Image:
    """A picture of more than 8 bits by its own range, so that something is seen."""
    values = np.nan_to_num(np.asarray(image, np.float64))
    low, high = float(values.min()), float(values.max())
    return Image.fromarray(((values - low) * (255 / ((high - low) or 1))).astype(np.uint8))


def _outline(draw: ImageDraw.ImageDraw, corners: list[int], colour: str) -> None:
    """A line with a dark halo within the box's edges; a flat one is widened."""
    x1, y1, x2, y2 = corners
    if x2 - x1 < 2 * _LINE:
        x1, x2 = x1 - _LINE, max(x1, x2) + _LINE
    if y2 - y1 < 2 * _LINE:
        y1, y2 = y1 - _LINE, max(y1, y2) + _LINE
    for inset, paint in ((-1, _HALO), *((step, colour) for step in range(_LINE)), (_LINE, _HALO)):
        if x1 + inset <= x2 - inset and y1 + inset <= y2 - inset:
            draw.rectangle((x1 + inset, y1 + inset, x2 - inset, y2 - inset), outline=paint)


SMALL_PICTURES_SIDE = 320
"""Longer side of a picture in px, at most."""

Pixels = npt.NDArray[np.uint8]


def small_pictures(
    records: Records, rows: Iterable[int], side: int = SMALL_PICTURES_SIDE
) -> dict[int, Pixels]:
    """Pictures of some records, as their boxes refer to them.

    Args:
        records: Of a split.
        rows: Which.
        side: Longer side in px, at most; small pictures stay as they are.

    Returns:
        By row, uint8 (H, W, 3); those that cannot be decoded are left out.
    """
    made = {row: _small_picture(records, row, side) for row in rows}
    return {row: picture for row, picture in made.items() if picture is not None}


def _small_picture(records: Records, row: int, side: int) -> Pixels | None:
    ref = ImageRef(str(records.paths[row]), int(records.offsets[row]), int(records.lengths[row]))
    window = tuple(int(edge) for edge in records.windows[row])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's, about odd files: the check tells of them.
            with Image.open(io.BytesIO(read_bytes(*ref))) as opened:
                if not any(window):  # A window is in px of the whole picture.
                    opened.draft("RGB", (2 * side, 2 * side))
                whole = upright(opened, int(records.orientations[row]), window)
    except Exception:  # PIL's decoders raise nearly anything on hostile bytes.
        return None
    picture = (stretched(whole) if whole.mode.startswith(("I", "F")) else whole).convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture)
