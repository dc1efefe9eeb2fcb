"""What the head of an encoded image says, read in the graph before a pixel is decoded.

Kind and size (`examine`), the orientation of EXIF data, and the first frame of a GIF file.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from loc_keras.data.decode import is_jpeg
from loc_keras.data.image_header import MAX_PIXELS

JPEG, PNG, GIF, BMP, UNKNOWN = range(5)
"""Kinds of files, in the order in which a decoder is chosen."""

MAX_SIDE = 65_535
"""Longest side in px, that of JPEG; a longer one would be a strip that no photograph is, and takes
much memory to be resized."""

EMPTY = "is empty"
NOT_IMAGE = "is not a JPEG, PNG, GIF or BMP image"
BROKEN = "is damaged or cut short"
NOT_THIS_BMP = "is a BMP image of a kind that is not read; 8, 24 or 32 bits without compression are"

_PAD = b"\0" * 64
_HEAD = 64
_CORE_HEADER = 40  # The BMP header of Windows 3, the oldest that is read.
_NONE = -1
"""A place that does not exist."""

# GIF89a. The numbers bound the walk: a hostile file must not hold a server up.
_SCREEN, _DESCRIPTOR = 13, 10
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, b"\x3b"
_MOST_EXTENSIONS, _MOST_RUNS, _RUN = 1024, 10_000, 4096

# EXIF, as a segment of JPEG or a chunk of PNG: a TIFF directory of 12 bytes an entry.
_ORIENTATION, _SHORT, _LONG, _ENTRY = 0x0112, 3, 4, 12
_MOST_SEGMENTS = 64
_EXIF_HEAD = 2**18
"""Bytes in which the orientation is looked for; a segment of a JPEG file has at most 2**16."""

Step = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""From bytes and the place of a segment to that of the next, -1 at the end, and that of the TIFF
data in this one, -1 where it holds none."""


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
    return bool(examine(tf.constant(content)).reason == b"")


def jpeg_orientation(content: tf.Tensor) -> tf.Tensor:
    """Reads the orientation that a JPEG file names (CIPA DC-008, tag 0x0112).

    Args:
        content: string scalar, a JPEG file; anything else is harmless.

    Returns:
        int32 scalar, 1..8; 1 where none is named, it is out of range or the data are broken.
    """
    raw = head_of(content, _EXIF_HEAD)
    return _orientation_or_1(raw, _tiff_place(_jpeg_segment, raw, 2))


def png_orientation(content: tf.Tensor) -> tf.Tensor:
    """Likewise of a PNG file, from the chunk `eXIf` before its pixels."""
    raw = head_of(content, _EXIF_HEAD)
    return _orientation_or_1(raw, _tiff_place(_png_chunk, raw, 8))


class GifFrame(NamedTuple):
    """The first frame of a GIF file.

    Attributes:
        content: string scalar, a GIF file with this frame alone and no transparency; empty where
            the file breaks off before its end.
        size: int64 (2,), height and width in px that decoding takes.
    """

    content: tf.Tensor
    size: tf.Tensor


def first_frame(content: tf.Tensor) -> GifFrame:
    """Cuts the first frame out of a GIF file; string scalar."""
    raw = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int32)
    length = tf.shape(raw)[0]
    raw = tf.concat([raw, tf.zeros([_SCREEN], tf.int32)], axis=0)
    screen = _SCREEN + _table_size(byte_at(raw, 10))
    start = _first_image(raw, screen, length)
    data = start + _DESCRIPTOR + _table_size(byte_at(raw, start + 9)) + 1
    end = _end_of_blocks(raw, data, length)
    whole = (start > 0) & (end > 0)
    cut = tf.cond(
        whole,
        lambda: tf.strings.join(
            [
                tf.strings.substr(content, 0, screen),
                tf.strings.substr(content, start, end - start),
                _TRAILER,
            ]
        ),
        lambda: tf.constant(b""),
    )
    canvas = [little_endian(raw, 8, 2), little_endian(raw, 6, 2)]
    frame = [little_endian(raw, start + 7, 2), little_endian(raw, start + 5, 2)]
    return GifFrame(cut, tf.maximum(tf.stack(canvas), tf.stack(frame)))


def head_of(content: tf.Tensor, count: int) -> tf.Tensor:
    """The first bytes of a string scalar as int32 (M,), M at least 64 and at most `count` + 64."""
    part = tf.cond(
        tf.strings.length(content) > count,
        lambda: tf.strings.substr(content, 0, count),
        lambda: content,
    )
    return tf.cast(tf.io.decode_raw(tf.strings.join([part, _PAD]), tf.uint8), tf.int32)


def bytes_at(raw: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """Bytes of int32 (M,) from a place on, 0 where they lie outside; int32 (count,)."""
    places = at + tf.range(count)
    last = tf.shape(raw)[0] - 1
    inside = (places >= 0) & (places <= last)
    return tf.where(inside, tf.gather(raw, tf.clip_by_value(places, 0, last)), 0)


def byte_at(raw: tf.Tensor, at: tf.Tensor | int) -> tf.Tensor:
    """One such byte; int32 scalar."""
    return bytes_at(raw, at, 1)[0]


def big_endian(raw: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """An unsigned number of 1 to 4 bytes, the highest first; int64 scalar."""
    weights = tf.constant([256**place for place in reversed(range(count))], tf.int64)
    return tf.reduce_sum(tf.cast(bytes_at(raw, at, count), tf.int64) * weights)


def little_endian(raw: tf.Tensor, at: tf.Tensor | int, count: int) -> tf.Tensor:
    """An unsigned number of 1 to 4 bytes, the lowest first; int64 scalar."""
    weights = tf.constant([256**place for place in range(count)], tf.int64)
    return tf.reduce_sum(tf.cast(bytes_at(raw, at, count), tf.int64) * weights)


def has_bytes(raw: tf.Tensor, at: tf.Tensor | int, expected: bytes) -> tf.Tensor:
    """Whether these very bytes stand at a place; bool scalar."""
    return tf.reduce_all(bytes_at(raw, at, len(expected)) == tf.constant(list(expected)))


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


def _table_size(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of the colour table that a byte of flags announces."""
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)


def _first_image(raw: tf.Tensor, at: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Place of the first image descriptor behind the extensions; -1 where there is none."""
    at = tf.while_loop(
        lambda at: (at > 0) & (at < length) & (byte_at(raw, at) == _EXTENSION),
        lambda at: [_end_of_blocks(raw, at + 2, length)],
        [at],
        parallel_iterations=1,
        maximum_iterations=_MOST_EXTENSIONS,
    )[0]
    return tf.where((at > 0) & (at < length) & (byte_at(raw, at) == _IMAGE), at, -1)


def _end_of_blocks(raw: tf.Tensor, at: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Place behind a chain of data blocks; -1 where the file ends before the chain."""

    def step(at: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Encoders give all blocks but the last one size, so runs of a size are stepped over.
        size = byte_at(raw, at)
        stop = tf.minimum(length, at + _RUN * (size + 1))
        alike = tf.cast(raw[at : stop : size + 1] == size, tf.int32)
        run = tf.where(size > 0, tf.reduce_sum(tf.math.cumprod(alike)), 1)
        return at + run * (size + 1), (size == 0) | (at >= length)

    start = tf.where((at >= 0) & (at < length), at, -1)
    end, done = tf.while_loop(
        lambda at, done: ~done,
        step,
        [start, start < 0],
        parallel_iterations=1,
        maximum_iterations=_MOST_RUNS,
    )
    return tf.where(done & (start >= 0) & (end <= length), end, -1)


def _jpeg_segment(raw: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    marker = byte_at(raw, at + 1)
    size = tf.cast(big_endian(raw, at + 2, 2), tf.int32)
    is_exif = (marker == 0xE1) & has_bytes(raw, at + 4, b"Exif\0\0")
    # Pixels start at DA; D9 and what is below C0 have no length, and do not stand before EXIF.
    is_segment = (byte_at(raw, at) == 0xFF) & (marker >= 0xC0) & (size >= 2)
    ends = ~is_segment | (marker == 0xDA) | (marker == 0xD9)
    return tf.where(ends, _NONE, at + 2 + size), tf.where(is_exif, at + 10, _NONE)


def _png_chunk(raw: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    size = tf.cast(tf.minimum(big_endian(raw, at, 4), _EXIF_HEAD), tf.int32)
    ends = has_bytes(raw, at + 4, b"IDAT") | (at >= tf.shape(raw)[0])
    is_exif = has_bytes(raw, at + 4, b"eXIf")
    return tf.where(ends, _NONE, at + 12 + size), tf.where(is_exif, at + 8, _NONE)


def _tiff_place(step: Step, raw: tf.Tensor, start: int) -> tf.Tensor:
    """Place of the TIFF data of the first segment that holds any; -1 without one."""
    _, found = tf.while_loop(
        lambda at, found: (at >= 0) & (found < 0),
        lambda at, found: step(raw, at),
        [tf.constant(start), tf.constant(_NONE)],
        parallel_iterations=1,
        maximum_iterations=_MOST_SEGMENTS,
    )
    return found


def _orientation_or_1(raw: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    return tf.cond(start > 0, lambda: _orientation_at(raw, start), lambda: tf.constant(1))


def _orientation_at(raw: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    is_big = has_bytes(raw, start, b"MM")
    known = is_big | has_bytes(raw, start, b"II")

    def number(at: tf.Tensor, count: int) -> tf.Tensor:
        return tf.where(is_big, big_endian(raw, at, count), little_endian(raw, at, count))

    # An offset of 2**31 or more would turn negative as int32.
    first = start + tf.cast(tf.minimum(number(start + 4, 4), _EXIF_HEAD), tf.int32)
    count = tf.cast(number(first, 2), tf.int32)
    count = tf.minimum(count, tf.maximum((tf.shape(raw)[0] - first - 2) // _ENTRY, 0))
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
