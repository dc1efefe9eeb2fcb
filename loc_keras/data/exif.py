"""The EXIF orientation of an encoded picture: one rule, in Python and in the graph.

The rule (CIPA DC-008; TIFF 6.0, tag 274): the first EXIF block before the pixels counts, as a
segment of JPEG or a chunk of PNG, and in it the last entry of the tag that is one whole number.
Whatever is broken names no orientation, which is 1. Fill bytes and foreign bytes between the
segments of JPEG are passed over, as its decoders do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO

from PIL import Image

from loc_keras._environ import tf
from loc_keras.data.image_bytes import (
    JPEG_START,
    PNG_START,
    big_endian,
    bytes_at,
    has_bytes,
    starts,
)

UPRIGHT_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How pixels stored with an EXIF orientation come upright (TIFF 6.0, tag 274)."""

_ORIENTATION, _ENTRY = 0x0112, 12
_WIDTHS = {3: 2, 4: 4, 6: 1, 8: 2, 9: 4}
"""Bytes of a whole number by its type: SHORT, LONG, SBYTE, SSHORT, SLONG."""

_MOST_STEPS = 256
"""Segments or chunks that are looked at; a hostile file must not hold a server up."""

_MOST_BYTES = 2**16
"""Of an EXIF block, as much as a segment of JPEG holds."""

_WINDOW = 64  # Bytes in which the next marker is looked for.
_LITTLE, _BIG = b"II*\0", b"MM\0*"
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_EXIF_SEGMENT, _EXIF_CHUNK = b"Exif\0\0", b"eXIf"
_NONE = -1
"""A place that does not exist."""

_SOS, _EOI, _APP1, _FIRST_LONG = 0xDA, 0xD9, 0xE1, 0xC0
_BARE = (0x01, *range(0xD0, 0xD8))  # TEM and RST0..7, markers without a segment.

Read = Callable[[int, int], bytes]
"""Bytes from a place on, as many as asked for, with zeros behind the end of the file."""


def file_orientation(file: IO[bytes]) -> int | None:
    """The orientation that a JPEG or PNG file names: 1..8, 1 without one; None for other kinds.

    The file can be sought; its position changes.
    """

    def read(at: int, count: int) -> bytes:
        file.seek(at)
        return file.read(count).ljust(count, b"\0")

    head = read(0, len(PNG_START))
    if head.startswith(JPEG_START):
        return tiff_orientation(_block_of_jpeg(read))
    return tiff_orientation(_block_of_png(read)) if head == PNG_START else None


def tiff_orientation(block: bytes) -> int:
    """The orientation in an EXIF block, a TIFF file; 1 where it names none."""
    if not block.startswith((_LITTLE, _BIG)):
        return 1
    block = block[:_MOST_BYTES] + bytes(_ENTRY)
    is_big = block.startswith(_BIG)

    def number(at: int, count: int) -> int:
        return int.from_bytes(block[at : at + count], "big" if is_big else "little")

    first = number(4, 4)
    value = 1
    for entry in range(number(first, 2)):
        at = first + 2 + _ENTRY * entry
        if at + _ENTRY > len(block):
            break
        kind = number(at + 2, 2)
        if number(at, 2) == _ORIENTATION and number(at + 4, 4) == 1 and kind in _WIDTHS:
            value = number(at + 8, _WIDTHS[kind])
    return value if 1 <= value <= 8 else 1


def _block_of_jpeg(read: Read) -> bytes:
    at = 2
    for _ in range(_MOST_STEPS):
        found = _MARKER.search(read(at, _WINDOW))
        if found is None:
            at += _WINDOW - 1
            continue
        marker = found[1][0]
        at += found.end()
        if marker in _BARE:
            continue
        size = int.from_bytes(read(at, 2), "big")
        if marker in (_SOS, _EOI) or marker < _FIRST_LONG or size < 2:
            break
        if marker == _APP1 and read(at + 2, 6) == _EXIF_SEGMENT:
            return read(at + 8, max(size - 8, 0))
        at += size
    return b""


def _block_of_png(read: Read) -> bytes:
    at = len(PNG_START)
    for _ in range(_MOST_STEPS):
        size, name = int.from_bytes(read(at, 4), "big"), read(at + 4, 4)
        if name == _EXIF_CHUNK:
            return read(at + 8, min(size, _MOST_BYTES))
        if name == b"IDAT":
            break
        at += 12 + size
    return b""


def orientation_in(content: tf.Tensor) -> tf.Tensor:
    """`file_orientation` of a string scalar in the graph: int32 scalar, 1 for other files."""
    return tf.cond(
        starts(content, JPEG_START),
        lambda: _jpeg_orientation(content),
        lambda: tf.cond(
            starts(content, PNG_START), lambda: _png_orientation(content), lambda: tf.constant(1)
        ),
    )


def _jpeg_orientation(content: tf.Tensor) -> tf.Tensor:

    def step(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        raw = _window(content, at, _WINDOW)
        pairs = (raw[:-1] == 255) & (raw[1:] != 0) & (raw[1:] != 255)
        found, first = tf.reduce_any(pairs), tf.argmax(pairs)
        marker = raw[first + 1]
        behind = at + first + 2
        head = _window(content, behind, 8)
        size = big_endian(head, 0, 2)
        bare = tf.reduce_any(marker == tf.constant(_BARE))
        ends = (marker == _SOS) | (marker == _EOI) | (marker < _FIRST_LONG) | (size < 2)
        following = tf.where(bare, behind, tf.where(ends, _no_place(), behind + size))
        is_exif = found & ~bare & ~ends & (marker == _APP1) & has_bytes(head, 2, _EXIF_SEGMENT)
        start = tf.where(is_exif, behind + 8, _NONE)
        return tf.where(found, following, at + _WINDOW - 1), start, tf.maximum(size - 8, 0)

    return _orientation_of(_block(content, 2, step))


def _png_orientation(content: tf.Tensor) -> tf.Tensor:
    def step(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        head = _window(content, at, 8)
        size = big_endian(head, 0, 4)
        start = tf.where(has_bytes(head, 4, _EXIF_CHUNK), at + 8, _NONE)
        following = tf.where(has_bytes(head, 4, b"IDAT"), _no_place(), at + 12 + size)
        return following, start, tf.minimum(size, _MOST_BYTES)

    return _orientation_of(_block(content, len(PNG_START), step))


def _no_place() -> tf.Tensor:
    return tf.constant(_NONE, tf.int64)


def _window(content: tf.Tensor, at: tf.Tensor, count: tf.Tensor | int) -> tf.Tensor:
    """Bytes of a string scalar from a place on, with zeros behind its end: int32 (count,)."""
    at = tf.minimum(at, tf.cast(tf.strings.length(content), tf.int64))
    part = tf.io.decode_raw(tf.strings.substr(content, at, tf.cast(count, tf.int64)), tf.uint8)
    return tf.cast(tf.pad(part, [[0, tf.cast(count, tf.int32) - tf.size(part)]]), tf.int32)


def _block(
    content: tf.Tensor,
    start: int,
    step: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]],
) -> tf.Tensor:
    """The first EXIF block of a file, string scalar, as int32 (M,), empty without one.

    From the place of a segment, at first `start`, `step` gives that of the next, -1 at the end, and
    start and size of the EXIF block in it, -1 for none.
    """
    length = tf.cast(tf.strings.length(content), tf.int64)
    _, found, size = tf.while_loop(
        lambda at, found, size: (at >= 0) & (at < length) & (found < 0),
        lambda at, found, size: step(at),
        [tf.constant(start, tf.int64), _no_place(), tf.constant(0, tf.int64)],
        parallel_iterations=1,
        maximum_iterations=_MOST_STEPS,
    )
    return _window(content, tf.maximum(found, 0), tf.where(found < 0, tf.zeros_like(size), size))


def _orientation_of(block: tf.Tensor) -> tf.Tensor:
    """`tiff_orientation` in the graph, of int32 (M,)."""
    block = tf.concat([block[:_MOST_BYTES], tf.zeros([_ENTRY], tf.int32)], axis=0)
    is_big = has_bytes(block, 0, _BIG)
    known = is_big | has_bytes(block, 0, _LITTLE)

    def number(fields: tf.Tensor) -> tf.Tensor:
        weights = [256**place for place in range(fields.shape[-1])]
        order = tf.where(is_big, tf.constant(weights[::-1], tf.int64), weights)
        return tf.reduce_sum(tf.cast(fields, tf.int64) * order, axis=-1)

    total = tf.size(block)
    first = tf.cast(tf.minimum(number(bytes_at(block, 4, 4)), tf.cast(total, tf.int64)), tf.int32)
    count = tf.cast(number(bytes_at(block, first, 2)), tf.int32)
    count = tf.clip_by_value((total - first - 2) // _ENTRY, 0, count)
    entries = tf.reshape(block[first + 2 : first + 2 + count * _ENTRY], [-1, _ENTRY])
    widths = tf.constant([_WIDTHS.get(kind, 0) for kind in range(max(_WIDTHS) + 2)])
    width = tf.gather(widths, tf.minimum(number(entries[:, 2:4]), max(_WIDTHS) + 1))
    named = (number(entries[:, :2]) == _ORIENTATION) & (number(entries[:, 4:8]) == 1) & (width > 0)
    values = number(entries[:, 8:12])
    for bytes_wide in (1, 2):
        values = tf.where(width == bytes_wide, number(entries[:, 8 : 8 + bytes_wide]), values)
    value = tf.concat([tf.ones([1], tf.int64), tf.boolean_mask(values, named)], axis=0)[-1]
    return tf.cast(tf.where(known & (value >= 1) & (value <= 8), value, 1), tf.int32)
