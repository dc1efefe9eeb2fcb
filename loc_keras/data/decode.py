"""From encoded bytes to upright pixels, and boxes turned along.

JPEG, PNG, GIF, BMP and the plain kinds of WebP are decoded by TensorFlow, the first four by the
same operations in training, predicting and exported models. The rest goes through Pillow:
TensorFlow knows neither PPM nor TIFF, and its WebP decoder writes past its buffer on some
animations (2.21).
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from loc_keras._environ import tf
from loc_keras.data.image_bytes import (
    JPEG_START,
    MAX_PIXELS,
    MAX_SIDE,
    PNG_START,
    UPRIGHT_TURNS,
    bmp_size,
    first_frame,
    head_of,
    is_gif,
    little_endian,
    plain_bmp,
    starts,
)
from loc_keras.data.image_header import formats_of

RATIOS = (1, 2, 4, 8)  # By how much a JPEG picture can be decoded smaller.
HIGHEST = 255  # Highest value of a pixel of 8 bits.
UNIT_RANGE = 2.0
"""A picture of floats with no value as high is taken for one of 0..1, perhaps sharpened."""

_GRAY, _COLOUR = 1, 3
_PALETTE = 256
_CMYK = 4
_LUMINANCE = (19595, 38470, 7471)
"""ITU-R BT.601 weights of red, green and blue in 1/65536, rounded as Pillow has them."""
_MODES = {1: "L", 3: "RGB"}
_TRANSPOSED = (5, 6, 7, 8)
_MIRRORED_X = (2, 3, 6, 7)  # Left to right, after the transposition.
_MIRRORED_Y = (3, 4, 7, 8)
_INVERSE = np.array([0, 1, 2, 3, 4, 5, 8, 7, 6])  # Of each orientation, the one that undoes it.


def decode_bytes(
    content: tf.Tensor, channels: int, ratio: tf.Tensor | int = 1, *, portable: bool = False
) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP, GIF, WebP, PPM, PGM or TIFF image, known by its first bytes.

    Gray is repeated for three channels; colour becomes its luminance (ITU-R BT.601) for one, and
    CMYK is taken to RGB first. Transparency is dropped, so that hidden pixels show as stored. Of
    16 bits the upper 8 are kept, of an animation the first frame, black around it where it does
    not fill its picture. Orientation is not applied, except for TIFF.

    Args:
        content: string scalar.
        channels: 1 or 3.
        ratio: 1, 2, 4 or 8: JPEG pictures come out smaller by it, rounded up; others do not.
        portable: Whether the graph must run without this process; JPEG, PNG, GIF and the usual
            kinds of BMP are all that is decoded then.

    Returns:
        uint8 (H, W, channels).

    Raises:
        tensorflow.errors.InvalidArgumentError: When run, if the content breaks off, is no image,
            or declares more than `MAX_PIXELS` or `MAX_SIDE`; never half an image.
    """
    image = tf.cond(
        starts(content, JPEG_START),
        lambda: decode_jpeg(content, channels, ratio),
        lambda: _without_jpeg(channels, portable)(content),
    )
    return tf.ensure_shape(image, [None, None, channels])


def _apart(*signature: tf.TensorSpec) -> Callable[[Callable[..., tf.Tensor]], Any]:
    """Makes a graph that is traced once and stays one operation where it is called."""
    # All operations of a branch that is not taken take their time, if they are part of a graph.
    return partial(
        tf.function,
        input_signature=signature,
        autograph=False,
        experimental_attributes={"_noinline": True},
    )


@functools.cache
def _without_jpeg(channels: int, portable: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """`decode_bytes` of all files but JPEG."""

    def other(content: tf.Tensor) -> tf.Tensor:
        bmp = plain_bmp(content)
        decode = lambda: with_channels(_decode_bmp(bmp), channels)  # noqa: E731
        if portable:
            return decode()
        return tf.cond(bmp != b"", decode, lambda: _decode_without_graph(content, channels))

    def decode(content: tf.Tensor) -> tf.Tensor:
        return tf.cond(
            starts(content, PNG_START),
            lambda: with_channels(_decode_png(content), channels),
            lambda: tf.cond(
                is_gif(content),
                lambda: with_channels(_decode_gif(content), channels),
                lambda: other(content),
            ),
        )

    return _apart(tf.TensorSpec([], tf.string))(decode)


def luminance(image: tf.Tensor) -> tf.Tensor:
    """uint8 (..., 3) to uint8 (..., 1), bit for bit as Pillow's conversion from RGB to L."""
    red, green, blue = tf.unstack(tf.cast(image, tf.int32), num=_COLOUR, axis=-1)
    weighted = red * _LUMINANCE[0] + green * _LUMINANCE[1] + blue * _LUMINANCE[2]
    gray = tf.bitwise.right_shift(weighted + 0x8000, 16)
    return tf.cast(gray, tf.uint8)[..., tf.newaxis]


def decode_jpeg(content: tf.Tensor, channels: int, ratio: tf.Tensor | int) -> tf.Tensor:
    """`decode_bytes` of a JPEG file."""
    shape = tf.image.extract_jpeg_shape(content)
    with tf.control_dependencies([_assert_size(shape[0], shape[1])]):
        content = tf.identity(content)
    if channels == _COLOUR:
        return _decode_jpeg_at(content, _COLOUR, ratio)
    # The decoder gives luminance directly, though not of CMYK.
    return tf.cond(
        shape[2] == _CMYK,
        lambda: luminance(_decode_jpeg_at(content, _COLOUR, ratio)),
        lambda: _decode_jpeg_at(content, _GRAY, ratio),
    )


def _decode_jpeg_at(content: tf.Tensor, channels: int, ratio: tf.Tensor | int) -> tf.Tensor:
    """`tf.io.decode_jpeg` with a ratio that may be a tensor."""
    # The accurate transform has Pillow's and OpenCV's pixels, and takes no longer.
    decode = partial(tf.io.decode_jpeg, content, channels=channels, dct_method="INTEGER_ACCURATE")
    if isinstance(ratio, int):
        return decode(ratio=ratio)
    return tf.cond(
        ratio == 1, lambda: decode(ratio=1), lambda: _smaller_jpeg(channels)(content, ratio)
    )


@functools.cache
def _smaller_jpeg(channels: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    def decode(content: tf.Tensor, ratio: tf.Tensor) -> tf.Tensor:
        branches = [partial(_decode_jpeg_at, content, channels, one) for one in RATIOS[1:]]
        return tf.switch_case(ratio // 4, branches)

    return _apart(tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32))(decode)


def _decode_png(content: tf.Tensor) -> tf.Tensor:
    sides = tf.io.decode_raw(tf.strings.substr(content, 16, 8), tf.int32, little_endian=False)
    width, height = tf.unstack(tf.ensure_shape(sides, [2]))
    with tf.control_dependencies([_assert_size(height, width)]):
        return tf.io.decode_png(content)


def _decode_gif(content: tf.Tensor) -> tf.Tensor:
    """The first frame in its place in the picture: uint8 (H, W, 3)."""
    frame = first_frame(content)
    with tf.control_dependencies([_assert_size(frame.size[0], frame.size[1])]):
        picture = tf.io.decode_gif(frame.content)[0]
    rest = frame.size - frame.corner - tf.shape(picture, tf.int64)[:2]
    margins = tf.concat([tf.stack([frame.corner, rest], axis=1), [[0, 0]]], axis=0)
    return tf.ensure_shape(tf.pad(picture, margins), [None, None, _COLOUR])


def _decode_bmp(content: tf.Tensor) -> tf.Tensor:
    """A BMP picture, with the colours of its palette where it has one: uint8 (H, W, 3 or 4)."""
    raw = head_of(content, 2048)
    height, width = tf.unstack(bmp_size(raw))
    with tf.control_dependencies([_assert_size(height, width)]):
        picture = tf.io.decode_bmp(content)
    start = tf.cast(little_endian(raw, 14, 4), tf.int32) + 14
    entries = tf.concat([raw, tf.zeros([4 * _PALETTE], tf.int32)], axis=0)
    start = tf.clip_by_value(start, 0, tf.shape(raw)[0])
    colours = tf.reshape(entries[start : start + 4 * _PALETTE], [_PALETTE, 4])[:, 2::-1]
    return tf.cond(
        tf.shape(picture)[-1] == 1,
        lambda: tf.gather(tf.cast(colours, tf.uint8), tf.cast(picture[..., 0], tf.int32)),
        lambda: picture,
    )


def _decode_without_graph(content: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.cond(
        _is_plain_webp(content),
        lambda: with_channels(tf.io.decode_webp(content)[0], channels),
        lambda: _decode_other(content, channels),
    )


def _decode_other(content: tf.Tensor, channels: int) -> tf.Tensor:
    def decode(content: bytes) -> np.ndarray:
        try:
            return decode_with_pillow(content, channels)
        except Exception:  # Its traceback would be printed by TensorFlow.
            return np.zeros((0, 0, channels), np.uint8)

    image = tf.numpy_function(decode, [content], tf.uint8, stateful=False)
    image = tf.ensure_shape(image, [None, None, channels])
    found = tf.debugging.assert_positive(
        tf.size(image), "the content is damaged, cut short or of an unknown format"
    )
    with tf.control_dependencies([found]):
        return tf.identity(image)


def with_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Drops transparency from uint8 (H, W, 1..4) and brings the rest to `channels`."""
    found = tf.shape(image)[-1]
    if channels == _GRAY:
        return tf.cond(
            found < _COLOUR, lambda: image[..., :_GRAY], lambda: luminance(image[..., :_COLOUR])
        )
    return tf.cond(
        found < _COLOUR,
        lambda: tf.repeat(image[..., :_GRAY], _COLOUR, axis=-1),
        lambda: image[..., :_COLOUR],
    )


def _is_plain_webp(content: tf.Tensor) -> tf.Tensor:
    """Whether it is a WebP file without extensions; those hold animations among others."""
    # `substr` fails where a file is shorter than the place asked for.
    head = tf.strings.join([tf.strings.substr(content, 0, 16), b" " * 16])
    kind = tf.strings.substr(head, 8, 8)
    return starts(content, b"RIFF") & ((kind == b"WEBPVP8 ") | (kind == b"WEBPVP8L"))


def _assert_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    small = (tf.maximum(height, width) <= MAX_SIDE) & (height * width <= MAX_PIXELS)
    return tf.debugging.Assert(small, ["the declared size is too large", height, width])


def decode_with_pillow(content: bytes, channels: int) -> np.ndarray:
    """Decodes the first picture of a file, by the rules of `decode_bytes`: uint8 (H, W, channels).

    Raises:
        ValueError: If the pixels have no fixed range, or are more than `MAX_PIXELS`.
        OSError: If the content is no image or breaks off; Pillow's parsers raise others, too.
    """
    with Image.open(io.BytesIO(content), formats=formats_of(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} px are too many")
        return pillow_pixels(image, channels)


def pillow_pixels(image: Image.Image, channels: int) -> np.ndarray:
    """Pixels of an image in any mode, by the rules of `decode_bytes`: uint8 (H, W, channels).

    ValueError if the pixels have no fixed range.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # The upper byte is kept, where Pillow's own conversion would cut off at 255.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range")
    pixels = np.asarray(image.convert(_MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def turn_image(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a stored picture (H, W, C) of any type upright, by its EXIF orientation 1..8, a scalar.

    The orientations 5 to 8 give (W, H, C).
    """
    orientation = tf.cast(orientation, tf.int32)

    def turn() -> tf.Tensor:
        turned = tf.cond(
            _is_in(orientation, _TRANSPOSED), lambda: tf.transpose(image, [1, 0, 2]), lambda: image
        )
        mirrored = [_is_in(orientation, _MIRRORED_Y), _is_in(orientation, _MIRRORED_X)]
        return tf.raw_ops.ReverseV2(
            tensor=turned, axis=tf.reshape(tf.where(tf.stack(mirrored)), [-1])
        )

    turned = tf.cond(orientation == 1, lambda: image, turn)
    return tf.ensure_shape(turned, [None, None, image.shape[-1]])


def is_transposed(orientation: tf.Tensor) -> tf.Tensor:
    """Whether turning swaps height and width; bool scalar."""
    return _is_in(tf.cast(orientation, tf.int32), _TRANSPOSED)


def turn_boxes(boxes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """Moves boxes as `turn_image` moves the pixels, from fractions of the one picture to the other.

    Boxes are float (..., 4), (x1, y1, x2, y2), and keep shape and type; orientations int (...),
    1..8.
    """
    swapped, in_x, in_y = (
        np.isin(orientations, turns)[..., None] for turns in (_TRANSPOSED, _MIRRORED_X, _MIRRORED_Y)
    )
    boxes = np.where(swapped, boxes[..., [1, 0, 3, 2]], boxes)
    flip = np.concatenate([in_x, in_y, in_x, in_y], axis=-1)
    return np.where(flip, 1 - boxes[..., [2, 3, 0, 1]], boxes)


def turn_boxes_back(boxes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """The inverse of `turn_boxes`: from the turned picture to the stored one."""
    return turn_boxes(boxes, _INVERSE[orientations])


def upright(image: Image.Image, orientation: int, window: tuple[int, ...]) -> Image.Image:
    """Undoes an EXIF orientation, then cuts a window (left, top, right, bottom) in px out.

    A window of zeros is the whole picture. The image's own EXIF block is not looked at.
    """
    image.load()
    turned = (
        image.transpose(UPRIGHT_TURNS[orientation])
        if orientation in UPRIGHT_TURNS
        else image.copy()
    )
    return turned.crop(_checked(turned, window)) if any(window) else turned


def _checked(image: Image.Image, window: tuple[int, ...]) -> tuple[int, int, int, int]:
    left, top, right, bottom = window
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise ValueError(f"the window {window} is not inside {image.width} x {image.height} px")
    return left, top, right, bottom


def _is_in(value: tf.Tensor, choices: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(value == tf.constant(choices, tf.int32))
