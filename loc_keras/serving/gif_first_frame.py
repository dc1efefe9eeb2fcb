"""The first frame of a GIF file as a file of its own, in the graph.

TensorFlow's decoder unpacks every frame, each of the size that the frame itself declares: a file of
a few hundred kilobytes can ask for gigabytes. So the file is walked block by block (GIF89a
specification, 1990), nothing is unpacked, and only the first frame is kept.
"""

from typing import NamedTuple

import tensorflow as tf

from loc_keras.serving.raw_bytes import byte_at, little_endian

_SCREEN = 13
_EXTENSION, _IMAGE = 0x21, 0x2C
_DESCRIPTOR = 10
_TRAILER = b"\x3b"
_MOST_EXTENSIONS = 1024
_RUN = 4096
_MOST_RUNS = 10_000
"""Bounds of the walk: a hostile file must not hold a server up."""


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
