"""Resizing and moving in one resampling, for pictures that are decoded anew for every batch.

Resizing them first would resample them twice. Those that are not much larger than the target are
handed over as they are, so that `warp_sources` reads the target's pixels straight from them:
quicker, and sharper.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import tensorflow as tf

from loc_keras.data.geometry import (
    COLOUR_FILLS,
    between,
    coverage,
    frame_places,
    neighbours,
    read_between,
    target_to_source,
    within,
)
from loc_keras.data.record_images import Decoded, Row, decode_picture, traced
from loc_keras.data.resize import ImageFormat, letterbox_placement, resize_images

LARGEST_STEP = 1.5
"""Most pixels of the picture, along each side, for one of the target.

Bilinear reading looks at 2 x 2 pixels and averages no more, so that larger steps skip some of them.
Larger pictures are resized to the target with the averaging of `resize` first.
"""


class Sources(NamedTuple):
    """A batch of pictures that are not resized yet; for one picture without the axis B.

    Attributes:
        pixels: uint8 (B, P, C), pictures row by row, then zeros; P is `most_pixels`.
        size: int32 (B, 2), height and width of the pictures in pixels.
        first: float32 (B, 2), pixel row and column of the target where the picture begins.
        count: float32 (B, 2), rows and columns of the target that it fills.
        step: float32 (B, 2), pixels of the picture for one of the target along y and x.
    """

    pixels: tf.Tensor
    size: tf.Tensor
    first: tf.Tensor
    count: tf.Tensor
    step: tf.Tensor


class Kind(NamedTuple):
    """What is known of a warp before it runs.

    Attributes:
        size: Height and width of the target.
        fill: What lies outside of the target's frame; a value of `augment.fill`.
        barred: Whether pictures may not fill the target, as under `"letterbox"`.
        tilted: Whether maps may be other than affine.
    """

    size: tuple[int, int]
    fill: str
    barred: bool
    tilted: bool


def load_source(row: Row, form: ImageFormat) -> Sources:
    """The picture of one row of `record_images.record_rows`, not resized where small enough.

    JPEG pictures are decoded as small as the target allows (`image_ratio`), whatever `form.fast`;
    faults are those of `record_images.load_picture`.
    """
    decoded = decode_picture(row, replace(form, fast=True))
    covered = tf.cast(decoded.size, tf.float32) / tf.cast(decoded.ratio, tf.float32)
    count, first = _placement(decoded.size, form)
    step = covered / count
    fits = tf.reduce_all(step <= LARGEST_STEP)
    pixels = tf.cond(
        fits, lambda: _flat(decoded.picture, form), lambda: _flat(_resized(decoded, form), form)
    )
    target = tf.constant(form.size)
    return Sources(
        tf.ensure_shape(pixels, [most_pixels(form), form.channels]),
        tf.where(fits, tf.shape(decoded.picture)[:2], target),
        tf.where(fits, first, 0.0),
        tf.where(fits, count, tf.cast(target, tf.float32)),
        tf.where(fits, step, 1.0),
    )


@functools.cache
def source_loader(form: ImageFormat, keys: frozenset[str]) -> Callable[[Row], Sources]:
    """`load_source` for rows of these keys as a function that is traced once in a process."""
    return traced(partial(load_source, form=form), keys)


def source_spec(form: ImageFormat) -> Sources:
    """Shapes and dtypes of one picture that `load_source` gives."""
    pair = tf.TensorSpec([2], tf.float32)
    pixels = tf.TensorSpec([most_pixels(form), form.channels], tf.uint8)
    return Sources(pixels, tf.TensorSpec([2], tf.int32), pair, pair, pair)


def most_pixels(form: ImageFormat) -> int:
    """Pixels that the largest picture has which is not resized."""
    height, width = (math.ceil(side * LARGEST_STEP) for side in form.size)
    return height * width


def warp_sources(sources: Sources, maps: tf.Tensor, kind: Kind) -> tf.Tensor:
    """Resizes pictures and moves them about the target's centre in one go, bilinear.

    Maps are float64 (B, 3, 3), invertible, see `geometry`; gives uint8 (B, height, width, C).
    """
    sampling = tf.cast(target_to_source(maps, *kind.size), tf.float32)
    return _resample(sources, sampling, kind)


def _placement(size: tf.Tensor, form: ImageFormat) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width that the picture fills of the target, and its offset; float32 (2,) each."""
    if form.rule == "letterbox":
        count, first = letterbox_placement(size, form.size)
        return tf.cast(count, tf.float32), tf.cast(first, tf.float32)
    return tf.constant(form.size, tf.float32), tf.zeros([2])


def _resized(decoded: Decoded, form: ImageFormat) -> tf.Tensor:
    assert form.rule is not None
    return resize_images(
        decoded.picture, form.size, form.rule, size=decoded.size, ratio=decoded.ratio
    )


def _flat(picture: tf.Tensor, form: ImageFormat) -> tf.Tensor:
    """Pictures as rows of pixels behind each other, of one length: (P, C)."""
    # Bytes in a row are copied in one go, which padding along two axes is not.
    values = tf.reshape(picture, [-1])
    missing = most_pixels(form) * form.channels - tf.size(values)
    padded = tf.concat([values, tf.zeros([missing], tf.uint8)], axis=0)
    return tf.reshape(padded, [most_pixels(form), form.channels])


# Compiled for the reason that `geometry` gives.
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
    # As in `geometry`: the values lie in 0..255.
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
