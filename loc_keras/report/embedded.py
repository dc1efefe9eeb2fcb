"""Pictures that stand inside a page, as data URIs."""

import base64
import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

from loc_keras.report.saving import figure_to_array

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
