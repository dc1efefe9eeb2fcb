"""Arrays that hold an image: what is taken, and what is told of the rest."""

import numpy as np
import numpy.typing as npt

from loc_keras.errors import ImageError

_CHANNELS = (1, 3, 4)
_MOST = 255


def array_pixels(image: npt.NDArray, name: str) -> npt.NDArray[np.uint8]:
    """An array as pixels of 8 bits.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB. Any integer or float type with values
            0..255; of uint16 the upper 8 bits are kept, as of files with 16 bits.
        name: What it is called in an error.

    Returns:
        uint8 (H, W, C); floats are rounded.

    Raises:
        ImageError: If it is none of these.
    """
    pixels = image[..., np.newaxis] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[-1] not in _CHANNELS or 0 in pixels.shape:
        raise ImageError(
            name,
            f"has the shape {image.shape}; give (height, width), (height, width, 1), "
            "(height, width, 3) or (height, width, 4)",
        )
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    if pixels.dtype.kind not in "iuf":
        raise ImageError(name, f"is of type {pixels.dtype}; give numbers 0..255, best as uint8")
    least, most = float(pixels.min()), float(pixels.max())
    if not (least >= 0 and most <= _MOST):  # Also where one is no number.
        raise ImageError(name, f"has values from {least:g} to {most:g}; give 0..255")
    if pixels.dtype.kind == "f" and 0 < most <= 1:
        raise ImageError(
            name, f"has floats up to {most:g}; pixels are 0..255 here, so multiply by 255"
        )
    return np.rint(pixels).astype(np.uint8)
