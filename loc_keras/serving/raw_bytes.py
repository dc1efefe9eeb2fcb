"""Numbers out of encoded files, in the graph; beyond the end of a file all bytes are zero."""

import tensorflow as tf

_PAD = b"\0" * 64


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
