"""From what a visitor sent to an answer with its picture, or to one sentence."""

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from loc_keras.demo_page.limits import MEGABYTE
from loc_keras.errors import ImageError
from loc_keras.localizer import Localization, Localizer
from loc_keras.report.embedded import encoded

NOTHING_SENT = "Drop an image here, or take one with the camera."
GONE = "This image is no longer held; send it again."
FAULT = "This image could not be answered by a fault of ours; the terminal has its details."

_SHOWN_SIDE = 1600
"""Px of the longer side of the picture that is sent back."""


@dataclass(frozen=True)
class Answered:
    """An answer as it is shown.

    Attributes:
        found: The answer of the model.
        picture: RGB, with the boxes drawn, at most `_SHOWN_SIDE` px a side.
    """

    found: Localization
    picture: Image.Image


def answer(localizer: Localizer, file: Path | None, file_bytes: int, top_k: int) -> Answered | str:
    """Answers about an uploaded file.

    Args:
        localizer: The model.
        file: What was sent; None where nothing was.
        file_bytes: Largest file that is read.
        top_k: How many classes are told.

    Returns:
        The answer, or a sentence that says why there is none. Nothing that was sent raises.
    """
    if file is None:
        return NOTHING_SENT
    try:
        size = file.stat().st_size
        if size > file_bytes:
            return f"{file.name} {too_many_bytes(size, file_bytes)}."
        return answer_content(localizer, file.read_bytes(), top_k)
    except FileNotFoundError:
        return GONE
    except ImageError as error:
        return f"{file.name} {error.reason}."
    except Exception:  # A visitor is told one sentence, whatever it is.
        logging.getLogger(__name__).exception("no answer about %s", file.name)
        return FAULT


def answer_content(localizer: Localizer, content: bytes, top_k: int) -> Answered:
    """Answers about the bytes of a file.

    Raises:
        ImageError: If they cannot be read.
    """
    # As bytes it is read once, and gives what the file gives.
    found = localizer.predict(content, top_k=top_k)
    picture = localizer.annotate(content, found)
    picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.LANCZOS)
    return Answered(found, picture)


def warm(localizer: Localizer, top_k: int) -> None:
    """Answers once about a grey picture, so that all that is compiled at a first call is there."""
    height, width = localizer.form.size
    grey = Image.fromarray(np.full((2 * height, 2 * width, 3), 128, np.uint8))
    encoded(answer_content(localizer, _png(grey), top_k).picture)


def too_many_bytes(size: int, most: int) -> str:
    """What is told of a file that is too large, as the end of a sentence that starts with it."""
    return f"has {size / MEGABYTE:,.1f} MB; at most {most / MEGABYTE:g} MB are taken"


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
