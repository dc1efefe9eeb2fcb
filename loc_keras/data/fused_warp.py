"""One resampling for the resize rule and a map: from pictures as decoded to the moved target.

What is read, is what the plain way would read of the resized picture: its frame, its fill and its
black bars are the same, but each value comes from the decoded pixels.
"""

from typing import NamedTuple

import tensorflow as tf

from loc_keras.data.fused_sources import Sources
from loc_keras.data.projective import (
    COLOUR_FILLS,
    between,
    coverage,
    frame_places,
    neighbours,
    read_between,
    target_to_source,
    within,
)


class Kind(NamedTuple):
    """What is known of a warp before it runs.

    Attributes:
        size: Height and width of the target.
        fill: What lies outside of the target's frame; one of `augment_options.FILLS`.
        barred: Whether pictures may not fill the target, as under `"letterbox"`.
        tilted: Whether maps may be other than affine.
    """

    size: tuple[int, int]
    fill: str
    barred: bool
    tilted: bool


def warp_sources(sources: Sources, maps: tf.Tensor, kind: Kind) -> tf.Tensor:
    """Resizes pictures and moves them about the target's centre in one go, bilinear.

    Args:
        sources: Pictures not resized yet.
        maps: float64 (B, 3, 3), invertible; see `projective`.
        kind: The target, and what lies outside.

    Returns:
        uint8 (B, height, width, C).
    """
    sampling = tf.cast(target_to_source(maps, *kind.size), tf.float32)
    return _resample(sources, sampling, kind)


# Compiled for the reason that `projective` gives.
@tf.function(autograph=False, jit_compile=True, reduce_retracing=False)
def _resample(sources: Sources, sampling: tf.Tensor, kind: Kind) -> tf.Tensor:
    size, fill, barred, tilted = kind
    length, channels = sources.pixels.shape[1:]
    x, y = frame_places(sampling, *size, tilted=tilted)
    framed = coverage(x, size[1]) * coverage(y, size[0]) if fill in COLOUR_FILLS else None
    y, x = within(y, size[0], fill), within(x, size[1], fill)
    first_y, first_x = _axes(sources.first)
    bars = None
    if barred:
        count_y, count_x = _axes(sources.count)
        bars = coverage(x - first_x, count_x) * coverage(y - first_y, count_y)
    step_y, step_x = _axes(sources.step)
    height, width = _axes(sources.size)
    rows = neighbours(_in_picture(y, first_y, step_y, height), height)
    columns = neighbours(_in_picture(x, first_x, step_x, width), width)
    start = tf.reshape(tf.range(tf.shape(sources.pixels)[0]) * length, [-1, 1, 1])
    flat = tf.reshape(sources.pixels, [-1, channels])
    values = read_between(flat, start, width, rows, columns)
    if bars is not None:
        values = values * bars[..., tf.newaxis]
    if framed is not None:
        colour = _mean_colour(sources, size) if fill == "mean" else 0.0
        values = between(colour, values, framed)
    # As in `projective`: the values lie in 0..255.
    return tf.cast(values + 0.5, tf.uint8)


def _axes(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Parts (B, 2) along y and x to two of (B, 1, 1)."""
    y, x = tf.unstack(values[:, tf.newaxis, tf.newaxis], axis=-1)
    return y, x


def _in_picture(place: tf.Tensor, first: tf.Tensor, step: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """Indices of the target's pixels as places among those of the picture."""
    # Indices stand for the pixels' centres, half a pixel from their edges.
    inside = (place + 0.5 - first) * step - 0.5
    return tf.clip_by_value(inside, 0.0, tf.cast(side, tf.float32) - 1.0)


def _mean_colour(sources: Sources, size: tuple[int, int]) -> tf.Tensor:
    """Mean colour of each target, with its black bars; float32 (B, 1, 1, C)."""
    total = tf.reduce_sum(tf.cast(sources.pixels, tf.float32), axis=1)
    pixels = tf.cast(tf.reduce_prod(sources.size, axis=1), tf.float32)
    filled = tf.reduce_prod(sources.count, axis=1) / (size[0] * size[1])
    return (total * (filled / pixels)[:, tf.newaxis])[:, tf.newaxis, tf.newaxis]
