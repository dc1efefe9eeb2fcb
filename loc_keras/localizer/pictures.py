"""From a file, bytes, an array or a Pillow image to the pixels that the model is given.

A file and its bytes become the very bits that training and evaluation feed, by the same function.
Arrays and Pillow's images are only brought to the model's channels and size.
"""

import functools
import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from loc_keras.data import decode, files
from loc_keras.data.annotations import ImageRef
from loc_keras.data.image_bytes import IN_GRAPH, file_orientation
from loc_keras.data.image_header import Header, HeaderError, header_of, orientation_of, read_header
from loc_keras.data.record_images import CONTENT, ORIENTATION, loader, undecodable
from loc_keras.data.resize import ImageFormat, resize_images
from loc_keras.errors import ImageError, first_line
from loc_keras.localizer.results import Localization

ImageLike = str | os.PathLike[str] | bytes | bytearray | memoryview | npt.NDArray | Image.Image
"""One image: a file, the bytes of one, pixels (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with values
0..255, or an image of Pillow."""

_BYTES = (bytes, bytearray, memoryview)
_WHOLE = (0, 0, 0, 0)
_COLOUR = 3
_CHANNELS = (1, 3, 4)
_LARGE = 2**24


class Pixels(NamedTuple):
    """An image as the model is given it, uint8 (height, width, channels), of the model's size.

    `size` is height and width of the upright original in px.
    """

    pixels: npt.NDArray[np.uint8]
    size: tuple[int, int]


class PictureReader:
    """Makes the pixels that a model takes of any image."""

    def __init__(self, form: ImageFormat) -> None:
        self._form = form
        self._load = loader(form, frozenset({CONTENT, ORIENTATION}))
        self._resize = _array_resizer(form)

    def read(
        self, image: ImageLike, name: str | None = None, max_bytes: int = files.MOST_BYTES
    ) -> Pixels:
        """Reads one image, in any thread; ImageError, by its name or description, if unreadable."""
        name = name or described(image)
        if isinstance(image, Image.Image):
            return self._of_array(_of_pillow(image, name, self._form.channels))
        if isinstance(image, np.ndarray):
            return self._of_array(array_pixels(image, name))
        return self._of_bytes(content_of(image, name, max_bytes), name)

    def _of_bytes(self, content: bytes, name: str) -> Pixels:
        def load(content: tf.Tensor, orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self._load({CONTENT: content, ORIENTATION: orientation})

        pixels, size = _decoded(content, name, load)
        height, width = size.numpy().tolist()
        return Pixels(pixels.numpy(), (height, width))

    def _of_array(self, pixels: npt.NDArray[np.uint8]) -> Pixels:
        size = pixels.shape[0], pixels.shape[1]
        if pixels.shape != self._form.shape:
            pixels = self._resize(tf.constant(pixels)).numpy()
        return Pixels(pixels, size)


def upright_picture(image: ImageLike) -> Image.Image:
    """The whole image, RGB, upright, to be drawn on; ImageError if it cannot be read."""
    name = described(image)
    if isinstance(image, Image.Image):
        pixels = _of_pillow(image, name, _COLOUR)
    elif isinstance(image, np.ndarray):
        pixels = array_pixels(image, name)
    else:
        pixels = _decoded(content_of(image, name), name, _whole_loader()).numpy()
    return Image.fromarray(decode.with_channels(tf.constant(pixels), _COLOUR).numpy())


def drawn_answer(image: ImageLike, answer: Localization) -> Image.Image:
    """The upright image with the boxes of an answer, above a legend where there are several."""
    from loc_keras.report.image_boxes import draw_answer  # Loads fonts.

    with quiet_pillow():
        picture = upright_picture(image)
    score = f"{answer.label} {100 * answer.score:.0f} %"
    return draw_answer(picture, score, answer.box, answer.box_outer, answer.box_inner)


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


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences Pillow's warnings about odd files in the main thread, whose filters these are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _of_pillow(image: Image.Image, name: str, channels: int) -> npt.NDArray[np.uint8]:
    try:
        image.load()
        turned = decode.upright(image, orientation_of(image), _WHOLE)
        if turned.mode.startswith("I;16"):
            return array_pixels(np.asarray(turned), name)
        return decode.pillow_pixels(turned, channels)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(name, f"cannot be decoded ({error})") from error


def _decoded(content: bytes, name: str, load: Callable[[tf.Tensor, tf.Tensor], Any]) -> Any:
    orientation = 1 if content.startswith(IN_GRAPH) else _header(content, name).orientation
    orientation = file_orientation(io.BytesIO(content)) or orientation
    try:
        return load(tf.constant(content), tf.constant(orientation))
    except tf.errors.OpError as error:
        raise ImageError(name, undecodable(_header(content, name))) from error


def _header(content: bytes, name: str) -> Header:
    try:
        return header_of(content)
    except HeaderError as error:
        raise ImageError(name, error.reason) from error


@functools.cache
def _whole_loader() -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Decodes and turns, without resizing; in a graph, as decoding asks for."""
    specs = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)]

    @tf.function(input_signature=specs, autograph=False)
    def load(content: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
        return decode.turn_image(decode.decode_bytes(content, _COLOUR), orientation)

    return load


def _array_resizer(form: ImageFormat) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.uint8)], autograph=False)
    def resize(pixels: tf.Tensor) -> tf.Tensor:
        pixels = tf.ensure_shape(
            decode.with_channels(pixels, form.channels), [None, None, form.channels]
        )
        return resize_images(pixels, form.size, form.rule or "stretch")

    return resize
