"""Maps of the plane, batched, and the resampling that applies them.

A map is a float64 3 x 3 matrix for column vectors (x, y, 1), in pixels from the picture's centre
(x right, y down); an affine one has the last row (0, 0, 1), and `warp_affine` takes its 2 x 2 part
alone. Maps are float64 to the end: exponentials and constant factors round differently in the
vectorised and the scalar part of a loop and after graph optimisation, and in float32 that last bit
would make pixels depend on the batch size and on the execution mode.

Bilinear resampling reads 2 x 2 source pixels, so a map that shrinks a picture below half its size
skips some of them. The smallest factor of `scale` is 1 / 1.9 and that of `aspect` 1 / 1.22, which
steps over 2.3 px at most and aliases little; a lower limit on the size is cheaper than a low-pass
filter on every image.

Pictures that are decoded anew for every batch are resized and moved in one resampling. Those that
are not much larger than the target are handed over as they are (`Sources`), so that `warp_sources`
reads the target's pixels straight from them: quicker, and sharper.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import tensorflow as tf

from loc_keras.data.record_images import Decoded, Row, decode_picture, traced
from loc_keras.data.resize import ImageFormat, letterbox_placement, resize_images

Neighbours = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
"""Indices of the pixels before and after a place, and the part of the way between them."""

COLOUR_FILLS = ("black", "mean")
"""Fills of one colour, into which the picture's edge fades over a pixel."""


def warp(images: tf.Tensor, maps: tf.Tensor, *, fill: str) -> tf.Tensor:
    """Resamples uint8 pictures under maps about their centre, bilinear, to the same size.

    The identity and maps that move pixels by whole numbers return the very same pixel values. Maps
    are float64 (B, 3, 3), invertible; outside lies `fill`, a value of `augment.fill`.
    """
    sampling = tf.cast(target_to_source(maps, images.shape[1], images.shape[2]), tf.float32)
    return _resample(images, sampling, fill)


def warp_affine(
    images: tf.Tensor,
    linear: tf.Tensor,
    source_centre: tf.Tensor,
    target_centre: tf.Tensor,
    output_size: tuple[int, int],
) -> tf.Tensor:
    """Resamples uint8 images under maps: bilinear, zero outside, rounded to whole pixel values.

    A map that moves pixels by whole numbers returns the very same pixel values. Maps are float64
    (B, 2, 2), invertible, centres float64, broadcastable to (B, 2), sizes height and width.
    """
    inverse = _inverse(linear)
    # Pixel i has its centre at i + 0.5, the resampling counts from the first centre.
    offset = apply_linear(inverse, 0.5 - target_centre) + source_centre - 0.5
    rows = tf.concat([inverse, offset[..., tf.newaxis]], axis=-1)
    rows = tf.cast(tf.reshape(rows, [-1, 6]), tf.float32)
    rows = tf.concat([rows, tf.zeros([tf.shape(rows)[0], 2])], axis=-1)
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=rows,
        output_shape=tf.constant(output_size, tf.int32),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    # The values lie in 0..255, so the cast of a value half a step up rounds to the nearest.
    return tf.cast(warped + 0.5, tf.uint8)


def from_affine(linear: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Maps float64 (..., 3, 3) that multiply by (..., 2, 2) and add (..., 2)."""
    top = tf.concat([linear, shift[..., tf.newaxis]], axis=-1)
    row = tf.constant([[0.0, 0.0, 1.0]], tf.float64)
    shape = tf.concat([tf.shape(top)[:-2], [1, 3]], axis=0)
    return tf.concat([top, tf.broadcast_to(row, shape)], axis=-2)


def linear_map(
    rotation: tf.Tensor, scale_x: tf.Tensor, scale_y: tf.Tensor, shear: tf.Tensor
) -> tf.Tensor:
    """The matrix rotation @ shear @ scale, float64 (B, 2, 2), for column vectors (x, y).

    All are float64 (B,): rotation in radians, positive from the x axis towards the y axis
    (clockwise on screen); scales > 0, or negative to mirror; shear the horizontal shift per unit of
    y.
    """
    cos, sin = tf.cos(rotation), tf.sin(rotation)
    return matrix(
        [
            [cos * scale_x, (cos * shear - sin) * scale_y],
            [sin * scale_x, (sin * shear + cos) * scale_y],
        ]
    )


def tilt(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Maps that divide the point (u, v) by 1 + x u + y v; float64 (...) to (..., 3, 3)."""
    one, zero = tf.ones_like(x), tf.zeros_like(x)
    return matrix([[one, zero, zero], [zero, one, zero], [x, y, one]])


def matrix(rows: list[list[tf.Tensor]]) -> tf.Tensor:
    """Stacks entries (...) of the same shape to matrices (..., rows, columns)."""
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def map_points(points: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Moves points float64 (..., P, 2) by maps (..., 3, 3)."""
    x, y = points[..., 0:1], points[..., 1:2]
    columns = maps[..., tf.newaxis, :, :]
    moved = columns[..., 0] * x + columns[..., 1] * y + columns[..., 2]
    return moved[..., :2] / moved[..., 2:]


def apply_linear(linear: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """Matrices float64 (..., 2, 2) times vectors float64 (..., 2), broadcast."""
    x, y = vectors[..., 0:1], vectors[..., 1:2]
    return linear[..., 0] * x + linear[..., 1] * y


def invert(maps: tf.Tensor) -> tf.Tensor:
    """Inverse of float64 (..., 3, 3) in closed form, scaled so that its last entry is 1."""
    rows = tf.unstack(maps, axis=-2)
    # The columns of the inverse are the cross products of the rows, over the determinant.
    crosses = [tf.linalg.cross(rows[1], rows[2]), tf.linalg.cross(rows[2], rows[0])]
    adjugate = tf.stack([*crosses, tf.linalg.cross(rows[0], rows[1])], axis=-1)
    return adjugate / adjugate[..., 2:, 2:]


def target_to_source(maps: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The maps from target to source, float64 (B, 3, 3), on indices of pixels."""
    x, y = (width - 1) / 2, (height - 1) / 2
    back = tf.constant([[1, 0, -x], [0, 1, -y], [0, 0, 1]], tf.float64)
    forth = tf.constant([[1, 0, x], [0, 1, y], [0, 0, 1]], tf.float64)
    sampling = forth @ invert(maps) @ back
    return sampling / sampling[..., 2:, 2:]


def frame_places(
    sampling: tf.Tensor, height: int, width: int, *, tilted: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each target pixel lies under maps float32 (B, 3, 3): x and y, (B, height, width).

    Where no map is `tilted`, all are affine, and a fifth of the time of resampling is saved by
    not dividing.
    """
    target_x = tf.range(width, dtype=tf.float32)[tf.newaxis, tf.newaxis, :]
    target_y = tf.range(height, dtype=tf.float32)[tf.newaxis, :, tf.newaxis]
    x, y, scale = (
        _entry(sampling, row, 0) * target_x
        + _entry(sampling, row, 1) * target_y
        + _entry(sampling, row, 2)
        for row in range(3)
    )
    return (x / scale, y / scale) if tilted else (x, y)


def within(place: tf.Tensor, side: int, fill: str) -> tf.Tensor:
    """Moves places beyond the outermost pixels' centres back to where `fill` reads."""
    if fill == "reflect":
        # Mirrored about the picture's edge, half a pixel beyond the outermost centre.
        turned = tf.math.floormod(place + 0.5, 2.0 * side)
        place = tf.minimum(turned, 2.0 * side - turned) - 0.5
    return tf.clip_by_value(place, 0.0, side - 1.0)


def neighbours(place: tf.Tensor, side: int | tf.Tensor) -> Neighbours:
    """The pixels before and after a place float32 (B, H, W) in 0..side - 1 along one axis."""
    before = tf.floor(place)
    index = tf.cast(before, tf.int32)
    return index, tf.minimum(index + 1, side - 1), place - before


def read_between(
    flat: tf.Tensor, first: tf.Tensor, width: int | tf.Tensor, rows: Neighbours, columns: Neighbours
) -> tf.Tensor:
    """Bilinear values float32 (B, H, W, C) between four pixels each.

    `flat` is uint8 (pixels, C), pictures one after the other, row by row; `first` int32 (B, 1, 1),
    where each begins; the width, of its rows in pixels, an int, or int32 that broadcasts. Rows and
    columns are what `neighbours` gives along y and x.
    """

    def read(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(flat, first + row * width + column), tf.float32)

    (top, bottom, part_y), (left, right, part_x) = rows, columns
    upper = between(read(top, left), read(top, right), part_x)
    lower = between(read(bottom, left), read(bottom, right), part_x)
    return between(upper, lower, part_y)


def coverage(place: tf.Tensor, side: int | tf.Tensor) -> tf.Tensor:
    """1 on the picture, falling to 0 over one pixel beyond its outermost centres."""
    return tf.clip_by_value(tf.minimum(place + 1.0, side - place), 0.0, 1.0)


def between(start: tf.Tensor | float, end: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Linear interpolation of (B, H, W, C) by parts (B, H, W)."""
    return start + (end - start) * part[..., tf.newaxis]


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

    JPEG pictures are decoded as small as the target allows (`jpeg_ratio`), whatever `form.fast`;
    faults are those of `record_images.load_picture`.
    """
    decoded = decode_picture(row, replace(form, fast=True))
    covered = tf.cast(decoded.size, tf.float32) / tf.cast(decoded.ratio, tf.float32)
    count, first = tf.constant(form.size, tf.float32), tf.zeros([2])
    if form.rule == "letterbox":
        placement = letterbox_placement(decoded.size, form.size)
        count, first = (tf.cast(one, tf.float32) for one in placement)
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

    Maps are float64 (B, 3, 3), invertible, see the module; gives uint8 (B, height, width, C).
    """
    sampling = tf.cast(target_to_source(maps, *kind.size), tf.float32)
    return _resample_sources(sources, sampling, kind)


# One loop over the target instead of a dozen intermediate pictures: compiled, this takes a quarter
# of the time of `ImageProjectiveTransformV3`, which finds its place anew for every channel.
@tf.function(autograph=False, jit_compile=True, reduce_retracing=False)
def _resample(images: tf.Tensor, sampling: tf.Tensor, fill: str) -> tf.Tensor:
    """Reads each target pixel from the source: uint8 (B, H, W, C), float32 (B, 3, 3) to uint8."""
    height, width, channels = images.shape[1:]
    x, y = frame_places(sampling, height, width)
    columns = neighbours(within(x, width, fill), width)
    rows = neighbours(within(y, height, fill), height)
    first = tf.reshape(tf.range(tf.shape(images)[0]) * (height * width), [-1, 1, 1])
    values = read_between(tf.reshape(images, [-1, channels]), first, width, rows, columns)
    if fill in COLOUR_FILLS:
        colour: tf.Tensor | float = 0.0
        if fill == "mean":
            colour = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2], keepdims=True)
        values = between(colour, values, coverage(x, width) * coverage(y, height))
    # The values lie in 0..255, so the cast of a value half a step up rounds to the nearest.
    return tf.cast(values + 0.5, tf.uint8)


def _entry(sampling: tf.Tensor, row: int, column: int) -> tf.Tensor:
    return sampling[:, row, column][:, tf.newaxis, tf.newaxis]


def _inverse(linear: tf.Tensor) -> tf.Tensor:
    """Closed form inverse of float64 (B, 2, 2)."""
    a, b = linear[:, 0, 0], linear[:, 0, 1]
    c, d = linear[:, 1, 0], linear[:, 1, 1]
    determinant = a * d - b * c
    return matrix([[d, -b], [-c, a]]) / determinant[:, tf.newaxis, tf.newaxis]


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
def _resample_sources(sources: Sources, sampling: tf.Tensor, kind: Kind) -> tf.Tensor:
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
        colour = _mean_source_colour(sources, size) if fill == "mean" else 0.0
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


def _mean_source_colour(sources: Sources, size: tuple[int, int]) -> tf.Tensor:
    """Mean colour of each target, with its black bars; float32 (B, 1, 1, C)."""
    total = tf.reduce_sum(tf.cast(sources.pixels, tf.float32), axis=1)
    pixels = tf.cast(tf.reduce_prod(sources.size, axis=1), tf.float32)
    filled = tf.reduce_prod(sources.count, axis=1) / (size[0] * size[1])
    return (total * (filled / pixels)[:, tf.newaxis])[:, tf.newaxis, tf.newaxis]
