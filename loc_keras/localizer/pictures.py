"""From a file, bytes, an array or a Pillow image to the pixels that the model is given.

Nothing here needs TensorFlow. Arrays and Pillow's images are only brought to the model's channels
and size.
"""

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from loc_keras.data import decode, files
from loc_keras.data.annotations import ImageRef
from loc_keras.data.image_bytes import UPRIGHT_TURNS
from loc_keras.data.image_header import (
    Header,
    HeaderError,
    open_content,
    orientation_of,
    read_header,
    undecodable,
    without_image_warnings,
)
from loc_keras.data.resize import ImageFormat, placement
from loc_keras.errors import ImageError, LocKerasError, first_line
from loc_keras.localizer.results import Box

ImageLike = str | os.PathLike[str] | bytes | bytearray | memoryview | npt.NDArray | Image.Image
"""One image: a file, the bytes of one, pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with values
0..255, or an image of Pillow."""

_BYTES = (bytes, bytearray, memoryview)
_WHOLE = (0, 0, 0, 0)
_COLOUR = 3
_MODES = {1: "L", 3: "RGB"}
_TRANSPOSED = range(5, 9)
_KEPT = 2
"""Pixels that a smaller decoded JPEG file keeps for each one of the target, as in training."""
_CHANNELS = (1, 3, 4)
_LARGE = 2**24


class Pixels(NamedTuple):
    """An image as the model is given it, uint8 (height, width, channels), of the model's size.

    `size` is height and width of the upright original in px.
    """

    pixels: npt.NDArray[np.uint8]
    size: tuple[int, int]


class PictureReader:
    """Makes the pixels that a model takes of any image, by Pillow.

    JPEG files are decoded by the same library with the same settings as in training, at the same
    smaller size where they are large. Where sums fall on a half, a pixel may be rounded otherwise
    than in training, by 1 of 255. `opening.GraphReader` gives the very bits.

    Attributes:
        form: Size, channels and resize rule of the model's images.
    """

    def __init__(self, form: ImageFormat) -> None:
        self.form = form

    def read(
        self, image: ImageLike, name: str | None = None, max_bytes: int = files.MOST_BYTES
    ) -> Pixels:
        """Reads one image, in any thread; ImageError, by its name or description, if unreadable."""
        name = name or described(image)
        if isinstance(image, Image.Image):
            pixels = _of_pillow(image, name, self.form.channels)
        elif isinstance(image, np.ndarray):
            pixels = array_pixels(image, name)
        else:
            return self.of_bytes(content_of(image, name, max_bytes), name)
        size = pixels.shape[0], pixels.shape[1]
        return Pixels(pixels if pixels.shape == self.form.shape else self.resized(pixels), size)

    def of_bytes(self, content: bytes, name: str) -> Pixels:
        """Of an encoded image; ImageError, by the name, if it cannot be decoded."""
        picture, size, ratio = _decoded(content, name, self.form.channels, self.form)
        return Pixels(_resized(picture, size, self.form, ratio), size)

    def resized(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Pixels uint8 (H, W, 1, 3 or 4) in the model's size and channels."""
        picture = _picture(pixels).convert(_MODES[self.form.channels])
        return _resized(picture, (picture.height, picture.width), self.form)


def _decoded(
    content: bytes, name: str, channels: int, form: ImageFormat | None = None
) -> tuple[Image.Image, tuple[int, int], int]:
    """An encoded image upright, its height and width, and by how much smaller it was decoded.

    Smaller than it is only for a form, if that allows it.
    """
    header, image = opened_content(content, name)
    height, width = size = header.height, header.width
    if header.orientation in _TRANSPOSED:
        size = width, height
    is_jpeg, ratio = header.format == "JPEG", 1
    try:
        if is_jpeg:
            ratio = 1 if form is None else _jpeg_ratio(size, form)
            smaller = (width // ratio, height // ratio) if ratio > 1 else None
            image.draft(_MODES[channels], smaller)
        with_ink = is_jpeg and image.mode == "CMYK"
        stored = _without_ink(image) if with_ink else image
        picture = _picture(decode.pillow_pixels(stored, channels))
    except Exception as error:  # Pillow's parsers let many kinds of exception through.
        raise ImageError(name, undecodable(header)) from error
    if header.orientation in UPRIGHT_TURNS:
        picture = picture.transpose(UPRIGHT_TURNS[header.orientation])
    # TIFF's decoder turns by itself.
    return picture, size if ratio > 1 else (picture.height, picture.width), ratio


def _picture(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """Of uint8 (H, W, 1, 3 or 4)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _jpeg_ratio(size: tuple[int, int], form: ImageFormat) -> int:
    """As `record_images.jpeg_ratio`, of a picture of height and width in px."""
    wanted = placement(size, form.size)[0] if form.rule == "letterbox" else form.size
    most = min(own // (side * _KEPT) for own, side in zip(size, wanted, strict=True))
    return max(ratio for ratio in decode.RATIOS if ratio <= max(most, 1))


def _without_ink(image: Image.Image) -> Image.Image:
    """A CMYK JPEG file in RGB, rounded as TensorFlow's decoder does it, not as Pillow."""
    light = 255 - np.asarray(image).astype(np.uint16)
    return Image.fromarray((light[..., :3] * light[..., 3:] // 255).astype(np.uint8))


def _resized(
    picture: Image.Image, size: tuple[int, int], form: ImageFormat, ratio: int = 1
) -> npt.NDArray[np.uint8]:
    """As `resize.resize_images`: uint8 (height, width, channels) of the model's form."""
    if size == tuple(form.size):
        return np.asarray(picture).reshape(form.shape)
    height, width = form.size
    top = left = 0
    if form.rule == "letterbox":
        (height, width), (top, left) = placement(size, form.size)
    covered = 0, 0, size[1] / ratio, size[0] / ratio
    pixels = np.zeros(form.shape, np.uint8)
    for channel, part in enumerate(picture.split()):
        # In bytes Pillow would round between its two passes.
        wide = part.convert("F").resize((width, height), Image.Resampling.BILINEAR, covered)
        rounded = np.clip(np.asarray(wide), 0, decode.HIGHEST) + np.float32(0.5)
        pixels[top : top + height, left : left + width, channel] = rounded
    return pixels


def upright_picture(image: ImageLike) -> Image.Image:
    """The whole image, RGB, upright, to be drawn on; ImageError if it cannot be read."""
    name = described(image)
    if isinstance(image, np.ndarray):
        return _picture(array_pixels(image, name)).convert(_MODES[_COLOUR])
    if isinstance(image, Image.Image):
        return _picture(_of_pillow(image, name, _COLOUR))
    return _decoded(content_of(image, name), name, _COLOUR)[0]


def drawn_answer(
    image: ImageLike, label: str, score: float, *boxes: Box | None, legend: Any = ()
) -> Image.Image:
    """The upright image with an answer, its box and those of trust, if any, in px.

    `legend` has styles of what the image shows already.

    ImageError where the image cannot be read, LocKerasError without Matplotlib, whose font it has.
    """
    try:
        from loc_keras.report.image_boxes import draw_answer  # Loads fonts.
    except ModuleNotFoundError as error:
        raise LocKerasError(
            f"drawing needs {error.name}, not installed here: python -m pip install {error.name}."
        ) from error
    with quiet_pillow():
        picture = upright_picture(image)
    return draw_answer(picture, f"{label} {100 * score:.0f} %", *boxes, legend=legend)


def opened_content(content: bytes, name: str) -> tuple[Header, Image.Image]:
    """`open_content`, with ImageError in the place of HeaderError."""
    try:
        return open_content(content)
    except HeaderError as error:
        raise ImageError(name, error.reason) from error


def array_pixels(image: npt.NDArray, name: str) -> npt.NDArray[np.uint8]:
    """An array as pixels of 8 bits, uint8 (H, W, C); floats are rounded.

    It is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB, of any integer or float type with values
    0..255; uint16 has values 0..65535, of which the upper 8 bits are kept, as of files with 16
    bits. ImageError for others, and for what is surely meant otherwise: uint16 up to 255, floats
    below 2.
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
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:  # In either order of bytes.
        if pixels.max() <= decode.HIGHEST:
            raise ImageError(
                name,
                f"is of type uint16, whose pixels are 0..65535 here, with values up to "
                f"{pixels.max()}; give 0..255 as uint8: image.astype(np.uint8)",
            )
        return (pixels >> 8).astype(np.uint8)
    if pixels.dtype.kind not in "iuf":
        raise ImageError(name, f"is of type {pixels.dtype}; give numbers 0..255, best as uint8")
    least, most = float(pixels.min()), float(pixels.max())
    if not (least >= 0 and most <= decode.HIGHEST):  # Also where one is no number.
        raise ImageError(name, f"has values from {least:g} to {most:g}; give 0..255")
    if pixels.dtype.kind == "f" and 0 < most < decode.UNIT_RANGE:
        raise ImageError(
            name, f"has floats up to {most:g}; pixels are 0..255 here, so multiply by 255"
        )
    return np.rint(pixels).astype(np.uint8)


def described(image: object) -> str:
    """What an image is called in a sentence."""
    if isinstance(image, str | os.PathLike):
        return f"image {os.fspath(image)!s}"
    if isinstance(image, _BYTES):
        return "the image given as bytes"
    if isinstance(image, Image.Image):
        file = getattr(image, "filename", "")
        return f"image {file}" if file else "the Pillow image"
    return "the array" if isinstance(image, np.ndarray) else "the image"


def content_of(image: object, name: str, max_bytes: int = files.MOST_BYTES) -> bytes:
    """The bytes of a file, or those given; ImageError if it cannot be read, or is no image."""
    if isinstance(image, _BYTES):
        return bytes(image)
    if not isinstance(image, str | os.PathLike):
        raise ImageError(
            name,
            f"is of type {type(image).__name__}; give a path, the bytes of a file, a NumPy array "
            "or a Pillow image",
        )
    path = os.fspath(image)
    try:
        if not files.is_remote(path) and files.file_size(path) > _LARGE:
            read_header(ImageRef(path))  # What is no image is not read to its end.
        return files.read_bytes(path, most=max_bytes)
    except HeaderError as error:
        raise ImageError(name, error.reason) from error
    except FileNotFoundError as error:
        raise ImageError(name, "does not exist") from error
    except IsADirectoryError as error:
        raise ImageError(name, "is a folder") from error
    except (OSError, ValueError) as error:
        raise ImageError(name, f"cannot be read ({first_line(error)})") from error


def quiet_pillow() -> AbstractContextManager[None]:
    """Silences Pillow's warnings about odd files in the main thread, whose filters these are."""
    is_main = threading.current_thread() is threading.main_thread()
    return without_image_warnings() if is_main else nullcontext()


def _of_pillow(image: Image.Image, name: str, channels: int) -> npt.NDArray[np.uint8]:
    try:
        image.load()
        turned = decode.upright(image, orientation_of(image), _WHOLE)
        if turned.mode.startswith("I;16"):
            return array_pixels(np.asarray(turned), name)
        return decode.pillow_pixels(turned, channels)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(name, f"cannot be decoded ({error})") from error
