"""What the head of an encoded image says, in the graph and before a pixel is decoded."""

from typing import NamedTuple

import tensorflow as tf

from loc_keras.data.decode import is_jpeg
from loc_keras.data.image_limits import MAX_PIXELS
from loc_keras.serving.gif_first_frame import first_frame
from loc_keras.serving.raw_bytes import big_endian, has_bytes, head_of, little_endian

JPEG, PNG, GIF, BMP, UNKNOWN = range(5)
"""Kinds of files, in the order in which a decoder is chosen."""

MAX_SIDE = 65_535
"""Longest side in px, that of JPEG; a longer one would be a strip that no photograph is, and takes
much memory to be resized."""

EMPTY = "is empty"
NOT_IMAGE = "is not a JPEG, PNG, GIF or BMP image"
BROKEN = "is damaged or cut short"
NOT_THIS_BMP = "is a BMP image of a kind that is not read; 8, 24 or 32 bits without compression are"

_HEAD = 64
_CORE_HEADER = 40


class Examined(NamedTuple):
    """What is known of a file without decoding it.

    Attributes:
        content: string scalar, what is to be decoded.
        kind: int32 scalar, one of the kinds above.
        reason: string scalar, why it will not be decoded; empty where nothing speaks against it.
    """

    content: tf.Tensor
    kind: tf.Tensor
    reason: tf.Tensor


def examine(content: tf.Tensor) -> Examined:
    """Looks at the head of an encoded image; string scalar.

    Raises:
        tensorflow.errors.InvalidArgumentError: When run, if a JPEG file's head is broken.
    """
    raw = head_of(content, _HEAD)
    is_kind = [
        is_jpeg(content),
        has_bytes(raw, 0, b"\x89PNG\r\n\x1a\n") & has_bytes(raw, 12, b"IHDR"),
        has_bytes(raw, 0, b"GIF87a") | has_bytes(raw, 0, b"GIF89a"),
        has_bytes(raw, 0, b"BM"),
        True,
    ]
    kind = tf.argmax(tf.stack(is_kind), output_type=tf.int32)
    content, size = tf.switch_case(
        kind,
        {
            JPEG: lambda: (content, tf.cast(tf.image.extract_jpeg_shape(content)[:2], tf.int64)),
            PNG: lambda: (content, tf.stack([big_endian(raw, 20, 4), big_endian(raw, 16, 4)])),
            GIF: lambda: tuple(first_frame(content)),
            BMP: lambda: (content, _bmp_size(raw)),
            UNKNOWN: lambda: (content, tf.ones([2], tf.int64)),
        },
    )
    size = tf.ensure_shape(size, [2])
    return Examined(content, kind, _reason(content, kind, size, _is_read_bmp(raw)))


def is_served_kind(content: bytes) -> bool:
    """Whether a file is one that a served model reads, as far as its head says."""
    found = examine(tf.constant(content))
    return bool(found.reason == b"")


def _reason(content: tf.Tensor, kind: tf.Tensor, size: tf.Tensor, read_bmp: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(size)
    # Each side first: the product of two 32-bit numbers may not fit into 64 bits.
    too_large = (tf.reduce_max(size) > MAX_SIDE) | (height * width > MAX_PIXELS)
    # The text of the first rule that holds; a file of zero bytes is of an unknown kind.
    rules = [
        (too_large, _too_large(width, height)),
        ((kind == UNKNOWN) & (tf.strings.length(content) == 0), EMPTY),
        (kind == UNKNOWN, NOT_IMAGE),
        ((kind == BMP) & ~read_bmp, NOT_THIS_BMP),
        (tf.reduce_min(size) < 1, BROKEN),
        (tf.strings.length(content) == 0, BROKEN),
    ]
    reason = tf.constant("")
    for holds, text in reversed(rules):
        reason = tf.where(holds, text, reason)
    return reason


def _too_large(width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    return tf.strings.join(
        [
            "declares ",
            tf.strings.as_string(width),
            " x ",
            tf.strings.as_string(height),
            f" px; at most {MAX_SIDE:,} on a side and {MAX_PIXELS >> 20} million are read",
        ]
    )


def _bmp_size(raw: tf.Tensor) -> tf.Tensor:
    """Height and width; a negative height means rows from the top."""
    sides = tf.stack([little_endian(raw, 22, 4), little_endian(raw, 18, 4)])
    return tf.abs(tf.where(sides >= 2**31, sides - 2**32, sides))


def _is_read_bmp(raw: tf.Tensor) -> tf.Tensor:
    """Whether TensorFlow reads this BMP right: a header of the usual kind, whole bytes, plain."""
    bits, packing = little_endian(raw, 28, 2), little_endian(raw, 30, 4)
    masks = b"\0\0\xff\0" + b"\0\xff\0\0" + b"\xff\0\0\0"
    plain = (packing == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    masked = (packing == 3) & (bits == 32) & has_bytes(raw, 54, masks)
    return (little_endian(raw, 14, 4) >= _CORE_HEADER) & (plain | masked)
