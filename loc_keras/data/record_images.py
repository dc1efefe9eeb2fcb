"""The picture of a record: its bytes decoded, turned upright, cut, and resized.

One function makes it, in whichever way the pixels are kept (`pixel_store`) or shown.
"""

import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from loc_keras.data import decode, files
from loc_keras.data.annotations import WHOLE_FILE, Fault
from loc_keras.data.image_bytes import JPEG_START, starts
from loc_keras.data.image_header import Header, HeaderError, read_header, undecodable
from loc_keras.data.resize import ImageFormat, letterbox_placement, resize_boxes, resize_images
from loc_keras.data.resolve import THUMBNAIL_SIDE as SIDE
from loc_keras.data.resolve import UPRIGHT, Records

Row = Mapping[str, tf.Tensor]
"""An element of `record_rows`; without a key the image is a whole file, upright, uncut."""

CONTENT, ORIENTATION = "content", "orientation"
_PATH = "path"
_JPEG_PATH, _JPEG_CONTENT = "jpeg_path", "jpeg_content"
"""Likewise of what is JPEG: the graph then holds nothing else, and is built in half the time."""

FINGERPRINT = 8
MARK = FINGERPRINT + SIDE * SIDE
"""Bytes of the fingerprint of an image, and of its mark: that, then its thumbnail by rows."""

_OFFSET, _LENGTH, _WINDOW = "offset", "length", "window"
_ROW_SPECS = {
    **dict.fromkeys((_PATH, _JPEG_PATH, CONTENT, _JPEG_CONTENT), tf.TensorSpec([], tf.string)),
    _OFFSET: tf.TensorSpec([], tf.int64),
    _LENGTH: tf.TensorSpec([], tf.int64),
    ORIENTATION: tf.TensorSpec([], tf.int32),
    _WINDOW: tf.TensorSpec([4], tf.int32),
}

_TRANSPOSED = range(5, 9)
_KEPT = {False: 2, True: 1}
"""Pixels that stay for each one of the target, along each side.

With two, photographs differ by 0.1 to 0.5 of 255 on average from those decoded in full, by no more
than 10 in any pixel. With one the mean is about 1, since two kernels in a row soften the picture.
"""


@functools.cache
def loader(form: ImageFormat, keys: frozenset[str]) -> Callable[[Row], tuple[tf.Tensor, tf.Tensor]]:
    """`load_picture` for rows of these keys as a function that is traced once in a process."""
    return traced(partial(load_picture, form=form), keys)


def traced(load: Callable[[Row], Any], keys: frozenset[str]) -> Callable[[Row], Any]:
    """Makes a graph of a function of a row, so that maps that call it need not trace it anew."""
    spec = {name: _ROW_SPECS[name] for name in sorted(keys)}
    return tf.function(load, input_signature=[spec], autograph=False)


def load_picture(
    row: Row, form: ImageFormat, *, portable: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Makes the picture of a record, uint8 (H, W, channels); `portable` as in `decode_bytes`.

    It also gives int32 (2,), height and width before resizing. When run, tensorflow.errors.OpError
    if the file cannot be read or decoded, the window leads out of the picture, or the picture has
    another size while `form.rule` is None.
    """
    if form.rule is None:
        picture = _cut(_turned(_decoded(row, form.channels), row), row)
        return _sized(picture, form), tf.constant(form.size)
    picture, size, ratio = decode_picture(row, form, portable=portable)
    return resize_images(picture, form.size, form.rule, size=size, ratio=ratio), size


class Decoded(NamedTuple):
    """A picture as it came from the decoder, upright and cut: uint8 (H, W, C).

    The size is int32 (2,), height and width of the original, the ratio an int32 scalar, its pixels
    along one side of a given one.
    """

    picture: tf.Tensor
    size: tf.Tensor
    ratio: tf.Tensor


def decode_picture(row: Row, form: ImageFormat, *, portable: bool = False) -> Decoded:
    """The picture of a record before it is resized: decoded, turned upright, and cut.

    The form has a rule; `portable` is as in `decode_bytes`.
    """
    content = _content(row)
    transposed = decode.is_transposed(row[ORIENTATION]) if ORIENTATION in row else False
    declared, ratio = jpeg_ratio(content, form, transposed)
    ratio = tf.where(_is_windowed(row), 1, ratio)  # Windows are in pixels of the whole picture.
    whole = _decoded({**row, CONTENT: content}, form.channels, ratio, portable=portable)
    picture = _cut(_turned(whole, row), row)
    return Decoded(picture, tf.where(ratio > 1, declared, tf.shape(picture)[:2]), ratio)


def _decoded(
    row: Row, channels: int, ratio: tf.Tensor | int = 1, *, portable: bool = False
) -> tf.Tensor:
    if _is_jpeg(row):  # Other files are refused.
        return decode.decode_jpeg(_content(row), channels, ratio)
    return decode.decode_bytes(_content(row), channels, ratio, portable=portable)


def _is_jpeg(row: Row) -> bool:
    return _JPEG_PATH in row or _JPEG_CONTENT in row


def jpeg_ratio(
    content: tf.Tensor, form: ImageFormat, transposed: tf.Tensor | bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Size of an encoded picture, string scalar, and by how much smaller to decode it.

    It is int32 (2,), height and width as looked at, swapped if `transposed`, zeros unless it is
    JPEG; the other an int32 scalar of `decode.RATIOS`, 1 unless it is JPEG.
    """
    size = tf.cond(
        starts(content, JPEG_START),
        lambda: tf.image.extract_jpeg_shape(content)[:2],
        lambda: tf.zeros([2], tf.int32),
    )
    size = tf.ensure_shape(size, [2])
    size = tf.where(transposed, tf.reverse(size, [0]), size)
    wanted = tf.constant(form.size)
    if form.rule == "letterbox":
        wanted, _ = letterbox_placement(tf.maximum(size, 1), form.size)
    most = tf.reduce_min(size // (wanted * _KEPT[form.fast]))
    # Each ratio that fits doubles the one before.
    steps = tf.cast(most >= tf.constant(decode.RATIOS[1:]), tf.int32)
    return size, tf.bitwise.left_shift(1, tf.reduce_sum(steps))


def record_rows(records: Records) -> dict[str, np.ndarray]:
    """What making the pictures takes, by columns of N rows.

    A column in which no record asks for anything is left out, so that no time is spent on it.
    """
    paths = records.paths.astype(str)
    if (records.lengths != WHOLE_FILE).any() or records.offsets.any():
        rows = {_PATH: paths, _OFFSET: records.offsets, _LENGTH: records.lengths}
    else:
        rows = {_JPEG_PATH if all(map(_starts_as_jpeg, paths.tolist())) else _PATH: paths}
    if (records.orientations != UPRIGHT).any():
        rows[ORIENTATION] = records.orientations.astype(np.int32)
    if records.windows.any():
        rows[_WINDOW] = records.windows
    return rows


def _starts_as_jpeg(path: str) -> bool:
    try:
        return not files.is_remote(path) and files.read_bytes(path, 0, 3) == JPEG_START
    except OSError:
        return False


def record_boxes(records: Records, form: ImageFormat) -> np.ndarray:
    """Boxes float32 (N, 4) in fractions of the resized pictures, from the known sizes."""
    if form.rule is None or not len(records):
        return np.asarray(records.boxes, np.float32)
    with tf.device("CPU:0"):
        moved = resize_boxes(
            tf.constant(records.boxes, tf.float32),
            tf.constant(records.sizes, tf.int32),
            form.size,
            form.rule,
        )
    return np.asarray(moved)


def image_fault(records: Records, index: int, form: ImageFormat) -> Fault:
    """The fault of a record whose picture `load_picture` could not make.

    Its kind is that of `HeaderError`, or `"size"` where the format takes no other size, or
    `"damaged"` where the header is good.
    """
    path = str(records.paths[index])
    try:
        header = read_header(records.ref(index))
    except HeaderError as error:
        return records.fault(index, f"image {path} {error.reason}", error.kind)
    size = _size(records, index, header)
    if form.rule is None and size != form.size:
        return records.fault(
            index,
            f"image {path} is {size[1]} x {size[0]} px and the first one is {form.size[1]} x "
            f"{form.size[0]}; set data.image_size to bring all to one size",
            "size",
        )
    return records.fault(index, f"image {path} {undecodable(header)}", "damaged")


def _size(records: Records, index: int, header: Header) -> tuple[int, int]:
    """Height and width of the picture of a record, before it is resized."""
    left, top, right, bottom = (int(value) for value in records.windows[index])
    if right:
        return bottom - top, right - left
    if records.orientations[index] in _TRANSPOSED:
        return header.width, header.height
    return header.height, header.width


def _turned(picture: tf.Tensor, row: Row) -> tf.Tensor:
    return decode.turn_image(picture, row[ORIENTATION]) if ORIENTATION in row else picture


def _is_windowed(row: Row) -> tf.Tensor | bool:
    return tf.reduce_any(row[_WINDOW] != 0) if _WINDOW in row else False


def load_known(row: Row, form: ImageFormat) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """As `load_picture`, and the FarmHash fingerprint of the bytes, uint8 (FINGERPRINT,)."""
    content = _content(row)
    kept = {key: row[key] for key in (ORIENTATION, _WINDOW) if key in row}
    key = _JPEG_CONTENT if _is_jpeg(row) else CONTENT
    load = loader(form, frozenset({key, *kept}))
    return *load({key: content, **kept}), tf.fingerprint(content[tf.newaxis])[0]


@functools.cache
def many_loader(
    form: ImageFormat, keys: frozenset[str]
) -> Callable[[Row], tuple[tf.Tensor, tf.Tensor]]:
    """A function of N rows of these keys that is traced once in a process.

    It gives pictures uint8 (N, height, width, channels) and marks uint8 (N, MARK), and fails as
    `load_picture` where one of them cannot be made.
    """
    known = tf.TensorSpec([2], tf.int32), tf.TensorSpec([FINGERPRINT], tf.uint8)

    def load(rows: Row) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.device("CPU:0"):
            pictures, sizes, told = tf.map_fn(
                partial(load_known, form=form),
                rows,
                parallel_iterations=1,  # Several threads call it; whole photographs are large.
                fn_output_signature=(tf.TensorSpec(form.shape, tf.uint8), *known),
            )
            return pictures, tf.concat([told, thumbnails(pictures, sizes, form)], axis=1)

    spec = {
        name: tf.TensorSpec([None, *_ROW_SPECS[name].shape], _ROW_SPECS[name].dtype)
        for name in sorted(keys)
    }
    return tf.function(load, input_signature=[spec], autograph=False)


def thumbnails(pictures: tf.Tensor, sizes: tf.Tensor, form: ImageFormat) -> tf.Tensor:
    """As `duplicates.thumbnail`, of pictures in the common format, without their padding.

    Pictures are uint8 (N, height, width, channels), their sizes before resizing int32 (N, 2), and
    the thumbnails uint8 (N, SIDE * SIDE).
    """
    covered, offset = tf.constant([form.size]), tf.constant([[0, 0]])
    if form.rule == "letterbox":
        covered, offset = letterbox_placement(sizes, form.size)
    down, across = (_means(form.size[axis], offset[:, axis], covered[:, axis]) for axis in (0, 1))
    lines = tf.reshape(
        tf.cast(pictures, tf.float32), [-1, form.size[0], form.size[1] * form.channels]
    )
    # The weights of Pillow's mode "L" (ITU-R 601-2).
    shares = [1.0] if form.channels == 1 else [0.299, 0.587, 0.114]
    grey = tf.reshape(across[..., tf.newaxis] * shares, [-1, SIDE, lines.shape[2]])
    means = tf.matmul(down @ lines, grey, transpose_b=True)
    means = tf.clip_by_value(tf.round(means), 0, 255)
    return tf.reshape(tf.cast(means, tf.uint8), [-1, SIDE * SIDE])


def _means(side: int, offset: tf.Tensor, covered: tf.Tensor) -> tf.Tensor:
    """What each of `side` pixels counts for each mean of those covered, (N, SIDE, side)."""
    offset, covered = (tf.cast(of, tf.float32)[:, tf.newaxis] for of in (offset, covered))
    edges = (offset + covered * tf.linspace(0.0, 1.0, SIDE + 1))[..., tf.newaxis]
    pixels = tf.range(side, dtype=tf.float32)
    overlap = tf.minimum(edges[:, 1:], pixels + 1) - tf.maximum(edges[:, :-1], pixels)
    return tf.maximum(overlap, 0) * SIDE / covered[..., tf.newaxis]


def _content(row: Row) -> tf.Tensor:
    for key in (CONTENT, _JPEG_CONTENT):
        if key in row:
            return row[key]
    if _LENGTH not in row:
        return tf.io.read_file(row[_JPEG_PATH if _is_jpeg(row) else _PATH])
    whole = tf.equal(row[_LENGTH], WHOLE_FILE) & tf.equal(row[_OFFSET], 0)
    content = tf.cond(
        whole,
        lambda: tf.io.read_file(row[_PATH]),
        lambda: tf.numpy_function(
            _read_range, [row[_PATH], row[_OFFSET], row[_LENGTH]], tf.string, stateful=False
        ),
    )
    return tf.ensure_shape(content, [])


def _read_range(path: bytes, offset: int, length: int) -> bytes:
    try:
        return files.read_bytes(path.decode(), int(offset), int(length))
    except OSError:  # Decoding nothing fails with less noise than an error from here.
        return b""


def _cut(picture: tf.Tensor, row: Row) -> tf.Tensor:
    if _WINDOW not in row:
        return picture
    left, top, right, bottom = tf.unstack(tf.cast(row[_WINDOW], tf.int32))
    size = tf.stack([bottom - top, right - left, tf.shape(picture)[-1]])
    cut = tf.cond(
        _is_windowed(row),
        lambda: tf.slice(picture, tf.stack([top, left, 0]), size),
        lambda: picture,
    )
    return tf.ensure_shape(cut, [None, None, picture.shape[-1]])


def _sized(picture: tf.Tensor, form: ImageFormat) -> tf.Tensor:
    expected = tf.debugging.assert_equal(
        tf.shape(picture)[:2], tf.constant(form.size), "the picture has another size"
    )
    with tf.control_dependencies([expected]):
        return tf.ensure_shape(tf.identity(picture), form.shape)
