"""EXIF orientation of JPEG and PNG files, in the graph: TensorFlow's decoders pass it over."""

from collections.abc import Callable

import tensorflow as tf

from loc_keras.serving.raw_bytes import big_endian, byte_at, has_bytes, head_of, little_endian

_LOOKED_AT = 2**18
"""Bytes in which the orientation is looked for; a segment of a JPEG file has at most 2**16."""

_MOST_SEGMENTS = 64
_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4
_ENTRY = 12
_NONE = -1


def jpeg_orientation(content: tf.Tensor) -> tf.Tensor:
    """Reads the orientation that a JPEG file names (CIPA DC-008, tag 0x0112).

    Args:
        content: string scalar, a JPEG file; anything else is harmless.

    Returns:
        int32 scalar, 1..8; 1 where none is named, it is out of range or the data are broken.
    """
    raw = head_of(content, _LOOKED_AT)
    return _orientation_from(raw, _walked(_jpeg_segment, raw, 2))


def png_orientation(content: tf.Tensor) -> tf.Tensor:
    """Likewise of a PNG file, from the chunk `eXIf` before its pixels."""
    raw = head_of(content, _LOOKED_AT)
    return _orientation_from(raw, _walked(_png_chunk, raw, 8))


Step = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""From bytes and the place of a segment to that of the next, -1 at the end, and that of the TIFF
data in this one, -1 where it holds none."""


def _jpeg_segment(raw: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    marker = byte_at(raw, at + 1)
    size = tf.cast(big_endian(raw, at + 2, 2), tf.int32)
    is_exif = (marker == 0xE1) & has_bytes(raw, at + 4, b"Exif\0\0")
    # Pixels start at DA; D9 and what is below C0 have no length, and do not stand before EXIF.
    is_segment = (byte_at(raw, at) == 0xFF) & (marker >= 0xC0) & (size >= 2)
    ends = ~is_segment | (marker == 0xDA) | (marker == 0xD9)
    return tf.where(ends, _NONE, at + 2 + size), tf.where(is_exif, at + 10, _NONE)


def _png_chunk(raw: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    size = tf.cast(tf.minimum(big_endian(raw, at, 4), _LOOKED_AT), tf.int32)
    ends = has_bytes(raw, at + 4, b"IDAT") | (at >= tf.shape(raw)[0])
    is_exif = has_bytes(raw, at + 4, b"eXIf")
    return tf.where(ends, _NONE, at + 12 + size), tf.where(is_exif, at + 8, _NONE)


def _walked(step: Step, raw: tf.Tensor, start: int) -> tf.Tensor:
    """Place of the TIFF data of the first segment that holds any; -1 without one."""
    _, found = tf.while_loop(
        lambda at, found: (at >= 0) & (found < 0),
        lambda at, found: step(raw, at),
        [tf.constant(start), tf.constant(_NONE)],
        parallel_iterations=1,
        maximum_iterations=_MOST_SEGMENTS,
    )
    return found


def _orientation_from(raw: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    return tf.cond(start > 0, lambda: _orientation_at(raw, start), lambda: tf.constant(1))


def _orientation_at(raw: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    is_big = has_bytes(raw, start, b"MM")
    known = is_big | has_bytes(raw, start, b"II")

    def number(at: tf.Tensor, count: int) -> tf.Tensor:
        return tf.where(is_big, big_endian(raw, at, count), little_endian(raw, at, count))

    # An offset of 2**31 or more would turn negative as int32.
    first = start + tf.cast(tf.minimum(number(start + 4, 4), _LOOKED_AT), tf.int32)
    count = tf.cast(number(first, 2), tf.int32)
    room = tf.maximum((tf.shape(raw)[0] - first - 2) // _ENTRY, 0)
    count = tf.minimum(count, room)
    body = tf.where(count > 0, first + 2, 0)
    entries = tf.reshape(raw[body : body + count * _ENTRY], [-1, _ENTRY])
    high, low = tf.where(is_big, 0, 1), tf.where(is_big, 1, 0)
    tags = tf.gather(entries, high, axis=1) * 256 + tf.gather(entries, low, axis=1)
    rows = tf.where(tags == _ORIENTATION)[:, 0]
    entry = tf.cond(
        tf.size(rows) > 0,
        # The last one counts, as in a dictionary that is filled in order.
        lambda: body + tf.cast(rows[-1], tf.int32) * _ENTRY,
        lambda: tf.constant(_NONE),
    )
    kind = number(entry + 2, 2)
    value = tf.where(
        kind == _SHORT,
        number(entry + 8, 2),
        tf.where(kind == _LONG, number(entry + 8, 4), 1),
    )
    good = known & (entry >= 0) & (number(entry + 4, 4) == 1) & (value >= 1) & (value <= 8)
    return tf.cast(tf.where(good, value, 1), tf.int32)
