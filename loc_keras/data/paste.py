"""Pasting small pictures on a canvas at whole-pixel places, batched and exact."""

import tensorflow as tf


def keep_window(
    tiles: tf.Tensor, left: tf.Tensor, top: tf.Tensor, width: tf.Tensor, height: tf.Tensor
) -> tf.Tensor:
    """Blacks out every pixel outside one window per tile.

    Args:
        tiles: uint8 (B, S, S).
        left: int32 (B,), first column kept, in pixels; `top` likewise for rows.
        top: int32 (B,).
        width: int32 (B,), number of columns kept; `height` likewise for rows.
        height: int32 (B,).

    Returns:
        uint8 (B, S, S).
    """
    side = tf.range(tf.shape(tiles)[1])
    columns = _between(side, left, width)
    rows = _between(side, top, height)
    mask = rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :]
    return tf.where(mask, tiles, tf.zeros_like(tiles))


def paste(tiles: tf.Tensor, left: tf.Tensor, top: tf.Tensor, canvas: int) -> tf.Tensor:
    """Puts each tile on its own black canvas; what hangs over the edge is cut off.

    Args:
        tiles: uint8 (B, S, S).
        left: int32 (B,), canvas column of the tile's first column, in pixels, of any sign.
        top: int32 (B,), likewise for rows.
        canvas: Side of the canvas in pixels.

    Returns:
        uint8 (B, canvas, canvas).
    """
    # Two gathers, columns first: the second then copies whole rows, so the cost is that of
    # the small tile and not of the canvas.
    padded = tf.pad(tiles, [[0, 0], [0, 1], [0, 1]])
    side = tf.shape(tiles)[1]
    columns = _source_index(left, side, canvas)
    rows = _source_index(top, side, canvas)
    wide = tf.gather(padded, columns, axis=2, batch_dims=1)
    return tf.gather(wide, rows, axis=1, batch_dims=1)


def _source_index(start: tf.Tensor, side: tf.Tensor, canvas: int) -> tf.Tensor:
    """Tile index shown by each canvas index; `side` is the index of the zero padding."""
    index = tf.range(canvas)[tf.newaxis, :] - start[:, tf.newaxis]
    return tf.where((index >= 0) & (index < side), index, side)


def _between(index: tf.Tensor, start: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Whether, as bool (B, S), start <= index < start + count."""
    start, count = start[:, tf.newaxis], count[:, tf.newaxis]
    return (index >= start) & (index < start + count)
