"""Decoding with Pillow what TensorFlow cannot decode, or not safely."""

import io

import numpy as np
from PIL import Image

from loc_keras.data.image_header import FORMATS
from loc_keras.data.image_limits import MAX_PIXELS

_MODES = {1: "L", 3: "RGB"}


def decode_with_pillow(content: bytes, channels: int) -> np.ndarray:
    """Decodes the first picture of a file.

    Args:
        content: Encoded bytes of one of `image_header.FORMATS`.
        channels: 1 or 3.

    Returns:
        uint8 (H, W, channels) by the rules of `decode.decode_bytes`.

    Raises:
        ValueError: If the pixels have no fixed range, or are more than `MAX_PIXELS`.
        OSError: If the content is no image or breaks off; Pillow's parsers raise others, too.
    """
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} px are too many")
        return pillow_pixels(image, channels)


def pillow_pixels(image: Image.Image, channels: int) -> np.ndarray:
    """The pixels of an opened image by the rules of `decode.decode_bytes`.

    Args:
        image: In any mode.
        channels: 1 or 3.

    Returns:
        uint8 (H, W, channels).

    Raises:
        ValueError: If the pixels have no fixed range.
    """
    pixels = np.asarray(_eight_bit(image).convert(_MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Keeps the upper byte of 16 bits, where Pillow's own conversion would cut off at 255."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range")
    return image
