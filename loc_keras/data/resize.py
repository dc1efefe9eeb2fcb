"""The resize rule, one for training and for use, with its effect on boxes and back again.

`"stretch"` fills the target and leaves boxes in fractions as they are; `"letterbox"` keeps the
aspect ratio and centres the picture on black, so that boxes move and shrink.
"""

from typing import Literal

import tensorflow as tf

ResizeRule = Literal["stretch", "letterbox"]


def resize_images(images: tf.Tensor, target: tuple[int, int], rule: ResizeRule) -> tf.Tensor:
    """Resizes pictures: bilinear, averaged over the covered pixels when it shrinks.

    Pictures that have the target size already are returned bit for bit.

    Args:
        images: uint8 (..., H, W, C), with or without a batch axis.
        target: Height and width in pixels.
        rule: `"stretch"` or `"letterbox"`.

    Returns:
        uint8 (..., height, width, C).
    """
    if tuple(images.shape[-3:-1]) == tuple(target):
        return images
    height, width = tf.shape(images)[-3], tf.shape(images)[-2]
    same = (height == target[0]) & (width == target[1])
    resized = tf.cond(same, lambda: images, lambda: _resample(images, target, rule))
    return tf.ensure_shape(resized, [*images.shape[:-3], *target, images.shape[-1]])


def resize_boxes(
    boxes: tf.Tensor, size: tf.Tensor, target: tuple[int, int], rule: ResizeRule
) -> tf.Tensor:
    """Moves boxes as `resize_images` moves the picture.

    Args:
        boxes: float32 (..., 4), fractions of the original picture (x1, y1, x2, y2).
        size: int32 (2,) or (..., 2), height and width of the original picture in pixels.
        target: Height and width after resizing.
        rule: `"stretch"` or `"letterbox"`.

    Returns:
        float32 (..., 4), fractions of the resized picture.
    """
    if rule == "stretch":
        return boxes
    scale, offset = _box_map(size, target)
    return boxes * scale + offset


def restore_boxes(
    boxes: tf.Tensor, size: tf.Tensor, target: tuple[int, int], rule: ResizeRule
) -> tf.Tensor:
    """The inverse of `resize_boxes`, clipped to the original picture.

    Args:
        boxes: float32 (..., 4), fractions of the resized picture.
        size: int32 (2,) or (..., 2), height and width of the original picture in pixels.
        target: Height and width of the resized picture.
        rule: `"stretch"` or `"letterbox"`.

    Returns:
        float32 (..., 4), fractions of the original picture, in [0, 1].
    """
    if rule == "stretch":
        return boxes
    scale, offset = _box_map(size, target)
    return tf.clip_by_value((boxes - offset) / scale, 0.0, 1.0)


def letterbox_placement(size: tf.Tensor, target: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Where a letterboxed picture lies on its target.

    Args:
        size: int32 (..., 2), height and width of the original in pixels, >= 1.
        target: Height and width of the target.

    Returns:
        Height and width of the scaled picture (at least one pixel), and its top and left
        offset: two int32 tensors of `size`'s shape.
    """
    size = tf.convert_to_tensor(size)
    ratio = tf.constant(target, tf.float64) / tf.cast(size, tf.float64)
    factor = tf.reduce_min(ratio, axis=-1, keepdims=True)
    scaled = tf.cast(tf.round(tf.cast(size, tf.float64) * factor), tf.int32)
    scaled = tf.clip_by_value(scaled, 1, tf.constant(target, tf.int32))
    return scaled, (tf.constant(target, tf.int32) - scaled) // 2


def _resample(images: tf.Tensor, target: tuple[int, int], rule: ResizeRule) -> tf.Tensor:
    if rule == "stretch":
        return _bilinear(images, tf.constant(target, tf.int32))
    scaled, offset = letterbox_placement(tf.shape(images)[-3:-1], target)
    resized = _bilinear(images, scaled)
    return tf.image.pad_to_bounding_box(resized, offset[0], offset[1], target[0], target[1])


def _bilinear(images: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    resized = tf.image.resize(images, size, method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(resized, 0.0, 255.0) + 0.5, tf.uint8)


def _box_map(size: tf.Tensor, target: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale and offset, float32 (..., 4), from fractions of the original to the target."""
    scaled, offset = letterbox_placement(size, target)
    side = tf.constant(target, tf.float32)
    scale = tf.reverse(tf.cast(scaled, tf.float32) / side, axis=[-1])
    shift = tf.reverse(tf.cast(offset, tf.float32) / side, axis=[-1])
    return tf.concat([scale, scale], axis=-1), tf.concat([shift, shift], axis=-1)
