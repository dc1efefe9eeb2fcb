"""What the head of an encoded image says, read in the graph before a pixel is decoded.

Kind and size (`examine`), the first frame of a GIF file, the exact length of a BMP file, and the
EXIF orientation, which is read in Python as well. Its rule (CIPA DC-008; TIFF 6.0, tag 274): the
first EXIF block before the pixels counts, as a segment of JPEG or a chunk of PNG, and in it the
last entry of the tag that is one whole number. Whatever is broken names no orientation, which is 1.
Fill bytes and foreign bytes between the segments of JPEG are passed over, as its decoders do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, wraps
from typing import IO, Any, NamedTuple

from PIL import Image

from loc_keras._environ import tf

MAX_PIXELS = 2**26
"""Most pixels of a picture that is decoded, 67 million: a 64-megapixel camera's 9248 x 6944 passes
and takes 200 MB in colour; a file that declares more is taken for a decompression bomb."""

MAX_SIDE = 65_535
"""Longest side in px, that of JPEG; a longer one would be a strip that no photograph is, and takes
much memory to be resized."""

LIMITS = f"at most {MAX_PIXELS >> 20} million are read, and {MAX_SIDE:,} on a side"
"""Both, as the end of a sentence."""


# Their loops take a second to trace, as every map over files would do.
def _traced_once(function: Callable[[tf.Tensor], Any]) -> Callable[[tf.Tensor], Any]:
    @cache
    def graph() -> Any:
        content = tf.TensorSpec([], tf.string)
        return tf.function(function, input_signature=[content], autograph=False)

    @wraps(function)
    def call(content: tf.Tensor) -> Any:
        return graph()(content)

    return call


JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
IN_GRAPH = (JPEG_START, PNG_START, b"GIF87a", b"GIF89a", b"BM")
"""How files start that are decoded without Pillow; a BMP file only of the usual kinds."""

EMPTY = "is empty"
NOT_IMAGE = "is not a JPEG, PNG, GIF or BMP image"
BROKEN = "is damaged or cut short"
NOT_THIS_BMP = "is a BMP image of a kind that is not read; 8, 24 or 32 bits without compression are"

_JPEG, _PNG, _GIF, _BMP, _UNKNOWN = range(5)
_PAD = b"\0" * 64
_HEAD = 64
_CORE_HEADER = 40  # The BMP header of Windows 3, the oldest that is read.

# GIF89a. The numbers bound the walk: a hostile file must not hold a server up.
_SCREEN, _DESCRIPTOR = 13, 10
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, b"\x3b"
_MOST_EXTENSIONS, _MOST_RUNS, _RUN = 1024, 10_000, 4096


def examine(content: tf.Tensor) -> tf.Tensor:
    """Why `decode.decode_bytes` with `portable` would not decode a file, "" if nothing is wrong.

    Both are string scalars; only the head is looked at. When run, InvalidArgumentError if that of a
    JPEG file is broken.
    """
    raw = head_of(content, _HEAD)
    is_kind = [
        starts(content, JPEG_START),
        has_bytes(raw, 0, PNG_START) & has_bytes(raw, 12, b"IHDR"),
        is_gif(content),
        starts(content, b"BM"),
        True,
    ]
    kind = tf.argmax(tf.stack(is_kind), output_type=tf.int32)
    size = tf.switch_case(
        kind,
        {
            _JPEG: lambda: tf.cast(tf.image.extract_jpeg_shape(content)[:2], tf.int64),
            _PNG: lambda: tf.stack([big_endian(raw, 20, 4), big_endian(raw, 16, 4)]),
            _GIF: lambda: _size_of_gif(content),
            _BMP: lambda: bmp_size(raw),
            _UNKNOWN: lambda: tf.ones([2], tf.int64),
        },
    )
    return _reason(content, kind, tf.ensure_shape(size, [2]))


def is_served_kind(content: bytes) -> bool:
    """Whether a file is one that a served model reads, as far as its head says."""
    return bool(examine(tf.constant(content)) == b"")


def starts(content: tf.Tensor, signature: bytes) -> tf.Tensor:
    """Whether a string scalar starts with these bytes; bool scalar."""
    return tf.equal(tf.strings.substr(content, 0, len(signature)), signature)


def is_gif(content: tf.Tensor) -> tf.Tensor:
    """Whether a string scalar is a GIF file by its first bytes; bool scalar."""
    return starts(content, b"GIF87a") | starts(content, b"GIF89a")


class GifFrame(NamedTuple):
    """The first frame of a GIF file.

    Attributes:
        content: string scalar, a GIF file with this frame alone, as large as it and without
            transparency; empty where the file breaks off before its end.
        corner: int64 (2,), top and left of the frame in the picture in px.
        size: int64 (2,), height and width of the picture in px: that of the file's screen, and more
            where the frame passes its edge.
    """

    content: tf.Tensor
    corner: tf.Tensor
    size: tf.Tensor


@_traced_once
def first_frame(content: tf.Tensor) -> GifFrame:
    """Cuts the first frame out of a GIF file; string scalar."""
    raw = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int32)
    length = tf.shape(raw)[0]
    raw = tf.concat([raw, tf.zeros([_SCREEN], tf.int32)], axis=0)
    screen = _SCREEN + _table_size(byte_at(raw, 10))
    start = _first_image(raw, screen, length)
    data = start + _DESCRIPTOR + _table_size(byte_at(raw, start + 9)) + 1
    end = _end_of_blocks(raw, data, length)
    cut = tf.cond(
        (start > 0) & (end > 0),
        # TensorFlow makes the picture as large as the frame, wherever that stands in it.
        lambda: tf.strings.join(
            [
                tf.strings.substr(content, 0, 6),
                tf.strings.substr(content, start + 5, 4),
                tf.strings.substr(content, 10, screen - 10),
                bytes([_IMAGE, 0, 0, 0, 0]),
                tf.strings.substr(content, start + 5, end - start - 5),
                _TRAILER,
            ]
        ),
        lambda: tf.constant(b""),
    )
    canvas, corner, frame = (
        tf.stack([little_endian(raw, at + 2, 2), little_endian(raw, at, 2)])
        for at in (6, start + 1, start + 5)
    )
    return GifFrame(cut, corner, tf.maximum(canvas, corner + frame))


@_traced_once
def plain_bmp(content: tf.Tensor) -> tf.Tensor:
    """A BMP file without what stands behind its pixels, which TensorFlow's decoder refuses.

    Both are string scalars; it is empty where this is no BMP file of a kind that TensorFlow reads
    right: a header of the usual kind, whole bytes, uncompressed.
    """
    raw = head_of(content, _HEAD)
    height, width = tf.unstack(bmp_size(raw))
    # Bounded on the way: the product of two numbers of the file may not fit into 64 bits.
    row = tf.minimum((little_endian(raw, 28, 2) * width + 31) // 32 * 4, 2**31)
    end = tf.minimum(little_endian(raw, 10, 4) + row * height, 2**31 - 1)
    whole = tf.strings.substr(content, 0, tf.cast(end, tf.int32))
    return tf.where(starts(content, b"BM") & _is_read_bmp(raw), whole, b"")


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


def bmp_size(raw: tf.Tensor) -> tf.Tensor:
    """Height and width of a BMP picture by its first bytes, int32 (M,): int64 (2,)."""
    # A negative height means rows from the top.
    sides = tf.stack([little_endian(raw, 22, 4), little_endian(raw, 18, 4)])
    return tf.abs(tf.where(sides >= 2**31, sides - 2**32, sides))


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

_MOST_BYTES = 2**16  # Of an EXIF block, as much as a segment of JPEG holds.

_WINDOW = 64  # Bytes in which the next marker is looked for.
_LITTLE, _BIG = b"II*\0", b"MM\0*"
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_EXIF_SEGMENT, _EXIF_CHUNK = b"Exif\0\0", b"eXIf"
_NONE = -1  # A place that does not exist.
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


def orientation_in(content: tf.Tensor) -> tf.Tensor:
    """`file_orientation` of a string scalar in the graph: int32 scalar, 1 for other files."""
    return tf.cond(
        starts(content, JPEG_START),
        lambda: _jpeg_orientation(content),
        lambda: tf.cond(
            starts(content, PNG_START), lambda: _png_orientation(content), lambda: tf.constant(1)
        ),
    )


def _size_of_gif(content: tf.Tensor) -> tf.Tensor:
    """Height and width; 0 where the file breaks off before the first frame's end."""
    frame = first_frame(content)
    return tf.where(frame.content == b"", tf.zeros([2], tf.int64), frame.size)


def _reason(content: tf.Tensor, kind: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(size)
    # Each side first: the product of two 32-bit numbers may not fit into 64 bits.
    too_large = (tf.reduce_max(size) > MAX_SIDE) | (height * width > MAX_PIXELS)
    # The text of the first rule that holds; a file of zero bytes is of an unknown kind.
    rules = [
        (too_large, _too_large(width, height)),
        (content == b"", EMPTY),
        (kind == _UNKNOWN, NOT_IMAGE),
        ((kind == _BMP) & (plain_bmp(content) == b""), NOT_THIS_BMP),
        (tf.reduce_min(size) < 1, BROKEN),
    ]
    reason = tf.constant("")
    for holds, text in reversed(rules):
        reason = tf.where(holds, text, reason)
    return reason


def _too_large(width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    sides = tf.strings.join([tf.as_string(width), tf.as_string(height)], " x ")
    return tf.strings.join(["declares ", sides, f" px; {LIMITS}"])


def _is_read_bmp(raw: tf.Tensor) -> tf.Tensor:
    bits, packing = little_endian(raw, 28, 2), little_endian(raw, 30, 4)
    masks = b"\0\0\xff\0" + b"\0\xff\0\0" + b"\xff\0\0\0"
    plain = (packing == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    masked = (packing == 3) & (bits == 32) & has_bytes(raw, 54, masks)
    return (little_endian(raw, 14, 4) >= _CORE_HEADER) & (plain | masked)


def _table_size(flags: tf.Tensor) -> tf.Tensor:
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
    """The first EXIF block of a file, string scalar, as int32 (M,), empty without one."""
    # Of the place of a segment `step` gives that of the next, start and size of its EXIF block.
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
