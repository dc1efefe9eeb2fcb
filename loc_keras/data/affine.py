"""Affine maps of the plane, batched, and the one resampling that applies them.

A map sends a source point p to `linear @ (p - source_centre) + target_centre`, in continuous
pixel coordinates (x right, y down; pixel i covers i..i+1).

Maps are float64 to the end. Exponentials, sines and constant factors round differently in the
vectorised and the scalar part of a loop and after graph optimisation; in float32 that last bit
would make pixels depend on the batch size and on the execution mode.
"""

import tensorflow as tf


def linear_map(
    rotation: tf.Tensor, scale_x: tf.Tensor, scale_y: tf.Tensor, shear: tf.Tensor
) -> tf.Tensor:
    """The matrix rotation @ shear @ scale.

    Args:
        rotation: float64 (B,), radians, positive turns the x axis towards the y axis
            (clockwise on screen, as y points down).
        scale_x: float64 (B,), > 0 or negative to mirror.
        scale_y: float64 (B,), as `scale_x`.
        shear: float64 (B,), horizontal shift per unit of y (the tangent of the angle).

    Returns:
        float64 (B, 2, 2), to be multiplied by column vectors (x, y).
    """
    cos, sin = tf.cos(rotation), tf.sin(rotation)
    row_x = tf.stack([cos * scale_x, (cos * shear - sin) * scale_y], axis=-1)
    row_y = tf.stack([sin * scale_x, (sin * shear + cos) * scale_y], axis=-1)
    return tf.stack([row_x, row_y], axis=-2)


def map_points(
    points: tf.Tensor, linear: tf.Tensor, source_centre: tf.Tensor, target_centre: tf.Tensor
) -> tf.Tensor:
    """Moves points.

    Args:
        points: float64 (B, P, 2), (x, y).
        linear: float64 (B, 2, 2).
        source_centre: float64, broadcastable to (B, 2).
        target_centre: float64, broadcastable to (B, 2).

    Returns:
        float64 (B, P, 2).
    """
    moved = apply_linear(linear[:, tf.newaxis], points - tf.expand_dims(source_centre, -2))
    return moved + tf.expand_dims(target_centre, -2)


def apply_linear(linear: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """Matrices float64 (..., 2, 2) times vectors float64 (..., 2), broadcast."""
    x, y = vectors[..., 0:1], vectors[..., 1:2]
    return linear[..., 0] * x + linear[..., 1] * y


def warp(
    images: tf.Tensor,
    linear: tf.Tensor,
    source_centre: tf.Tensor,
    target_centre: tf.Tensor,
    output_size: tuple[int, int],
) -> tf.Tensor:
    """Resamples images under a map: bilinear, zero outside, rounded to whole pixel values.

    A map that moves pixels by whole numbers returns the very same pixel values.

    Args:
        images: uint8 (B, H, W, C).
        linear: float64 (B, 2, 2), invertible.
        source_centre: float64, broadcastable to (B, 2).
        target_centre: float64, broadcastable to (B, 2).
        output_size: Height and width of the result.

    Returns:
        uint8 (B, height, width, C).
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


def _inverse(linear: tf.Tensor) -> tf.Tensor:
    """Closed form inverse of float64 (B, 2, 2)."""
    a, b = linear[:, 0, 0], linear[:, 0, 1]
    c, d = linear[:, 1, 0], linear[:, 1, 1]
    determinant = a * d - b * c
    rows = tf.stack([tf.stack([d, -b], axis=-1), tf.stack([-c, a], axis=-1)], axis=-2)
    return rows / determinant[:, tf.newaxis, tf.newaxis]
