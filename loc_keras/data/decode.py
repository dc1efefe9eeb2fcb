"""From encoded bytes to pixels, inside the graph.

JPEG, PNG and the plain kinds of WebP are decoded by TensorFlow. The rest goes through Pillow:
TensorFlow reads a palette BMP as gray, decodes every frame of a GIF to use the first, knows neither
PPM nor TIFF, and its WebP decoder writes past its buffer on some animations (2.21).
"""

from functools import partial

import numpy as np
import tensorflow as tf

from loc_keras.data.image_limits import MAX_PIXELS
from loc_keras.data.image_pillow import decode_with_pillow

RATIOS = (1, 2, 4, 8)
"""By how much a JPEG picture can be decoded smaller."""

_GRAY, _COLOUR = 1, 3
_CMYK = 4
_LUMINANCE = (19595, 38470, 7471)
"""ITU-R BT.601 weights of red, green and blue in 1/65536, rounded as Pillow has them."""


def decode_bytes(content: tf.Tensor, channels: int, ratio: tf.Tensor | int = 1) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP, GIF, WebP, PPM, PGM or TIFF image, told by its first bytes.

    Gray is repeated for three channels; colour becomes its luminance (ITU-R BT.601) for one, and
    CMYK is taken to RGB first. Transparency is dropped, so that hidden pixels show as stored. Of
    16 bits the upper 8 are kept, of an animation the first frame. Orientation is not applied,
    except for TIFF.

    Args:
        content: string scalar.
        channels: 1 or 3.
        ratio: 1, 2, 4 or 8: JPEG pictures come out smaller by it, rounded up; others do not.

    Returns:
        uint8 (H, W, channels).

    Raises:
        tensorflow.errors.InvalidArgumentError: When run, if the content breaks off, is no image,
            or declares more than `MAX_PIXELS`; never half an image.
    """
    image = tf.cond(
        is_jpeg(content),
        lambda: decode_jpeg(content, channels, ratio),
        lambda: tf.cond(
            _starts(content, b"\x89PNG\r\n\x1a\n"),
            lambda: with_channels(decode_png(content), channels),
            lambda: tf.cond(
                _is_plain_webp(content),
                lambda: with_channels(tf.io.decode_webp(content)[0], channels),
                lambda: _decode_other(content, channels),
            ),
        ),
    )
    return tf.ensure_shape(image, [None, None, channels])


def is_jpeg(content: tf.Tensor) -> tf.Tensor:
    """Whether bytes start as a JPEG file does: bool scalar."""
    return _starts(content, b"\xff\xd8\xff")


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
    branches = [partial(decode, ratio=ratio) for ratio in RATIOS]
    # The usual ratio first: every branch that is looked at takes time.
    return tf.cond(
        ratio == 1,
        branches[0],
        lambda: tf.switch_case(tf.cast(ratio, tf.int32) // 4, branches[1:]),
    )


def decode_png(content: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG file to uint8 (H, W, 1..4), with the size limit of `decode_bytes`."""
    width, height = tf.unstack(_numbers(content, 16, 2))
    with tf.control_dependencies([_assert_size(height, width)]):
        return tf.io.decode_png(content)


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
    return _starts(content, b"RIFF") & ((kind == b"WEBPVP8 ") | (kind == b"WEBPVP8L"))


def _starts(content: tf.Tensor, signature: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(content, 0, len(signature)), signature)


def _numbers(content: tf.Tensor, at: int, count: int) -> tf.Tensor:
    """Reads 32-bit big-endian numbers."""
    part = tf.strings.substr(content, at, 4 * count)
    return tf.ensure_shape(tf.io.decode_raw(part, tf.int32, little_endian=False), [count])


def _assert_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.assert_less_equal(
        pixels, tf.constant(MAX_PIXELS, tf.int64), "the declared size is too large"
    )
