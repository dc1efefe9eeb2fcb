"""Small pictures of images, and pictures as data URIs for pages."""

import base64
import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from loc_keras.atomic_file import written_aside
from loc_keras.data.annotations import ImageRef
from loc_keras.data.box_view import VIEWS, View
from loc_keras.data.decode import upright
from loc_keras.data.files import read_bytes
from loc_keras.data.image_header import read_header
from loc_keras.data.records import Records
from loc_keras.report.image_boxes import TRUE_BOX, outline
from loc_keras.report.style import TRUTH, WRONG, figure_to_array

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
