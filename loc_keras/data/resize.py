"""The resize rule, one for training and for use, with its effect on boxes and back again.

`"stretch"` fills the target and leaves boxes in fractions as they are; `"letterbox"` keeps the
aspect ratio and centres the picture on black, so that boxes move and shrink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from loc_keras._environ import tf

EMPTY_BOX = (0.0, 0.0, 0.0, 0.0)
"""(x1, y1, x2, y2) of an image without an object; no other image has it."""


def are_empty(boxes: tf.Tensor) -> tf.Tensor:
    """Whether each box is the empty one: (..., 4) to bool (...)."""
    return tf.reduce_all(tf.equal(boxes, 0.0), axis=-1)


def keep_empty(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """Boxes (..., 4) after a change, with the empty ones as they were before it."""
    return tf.where(are_empty(before)[..., tf.newaxis], tf.zeros_like(after), after)


ResizeRule = Literal["stretch", "letterbox"]


def resize_images(
    images: tf.Tensor,
    target: tuple[int, int],
    rule: ResizeRule,
    *,
    size: tf.Tensor | None = None,
    ratio: tf.Tensor | int = 1,
) -> tf.Tensor:
    """Resizes uint8 pictures (..., H, W, C): bilinear, averaged over the covered pixels.

    Pictures that have the target (height, width) in px already are returned bit for bit. Where the
    decoder made the original smaller by `ratio`, so that H and W were rounded up, `size` is its
    height and width.
    """
    if size is None and tuple(images.shape[-3:-1]) == tuple(target):
        return images
    size = tf.shape(images)[-3:-1] if size is None else size
    resized = tf.cond(
        tf.reduce_all(size == tf.constant(target)),
        lambda: images,
        lambda: _resample(images, target, rule, size, ratio),
    )
    return tf.ensure_shape(resized, [*images.shape[:-3], *target, images.shape[-1]])


def resize_boxes(
    boxes: tf.Tensor, size: tf.Tensor, target: tuple[int, int], rule: ResizeRule
) -> tf.Tensor:
    """Moves boxes as `resize_images` moves the picture; empty boxes stay empty.

    Boxes are float32 (..., 4), fractions; sizes int32 (2,) or (..., 2), height and width in pixels
    of the original picture.
    """
    if rule == "stretch":
        return boxes
    scale, offset = _box_map(size, target)
    return keep_empty(boxes, boxes * scale + offset)


def restore_boxes(
    boxes: tf.Tensor, size: tf.Tensor, target: tuple[int, int], rule: ResizeRule
) -> tf.Tensor:
    """The inverse of `resize_boxes`, clipped to the original picture, [0, 1]."""
    if rule == "stretch":
        return boxes
    scale, offset = _box_map(size, target)
    return tf.clip_by_value((boxes - offset) / scale, 0.0, 1.0)


def letterbox_placement(size: tf.Tensor, target: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Where a letterboxed picture of int32 (..., 2), height and width, lies on its target.

    Gives its height and width there, at least one pixel, and its top and left offset, int32 alike.
    """
    size = tf.convert_to_tensor(size)
    ratio = tf.constant(target, tf.float64) / tf.cast(size, tf.float64)
    factor = tf.reduce_min(ratio, axis=-1, keepdims=True)
    scaled = tf.cast(tf.round(tf.cast(size, tf.float64) * factor), tf.int32)
    scaled = tf.clip_by_value(scaled, 1, tf.constant(target, tf.int32))
    return scaled, (tf.constant(target, tf.int32) - scaled) // 2


def placement(size: Sequence[int], target: Sequence[int]) -> tuple[list[int], list[int]]:
    """`letterbox_placement` of one picture, without TensorFlow."""
    factor = min(side / own for side, own in zip(target, size, strict=True))
    scaled = [
        min(max(round(own * factor), 1), side) for side, own in zip(target, size, strict=True)
    ]
    return scaled, [(side - own) // 2 for side, own in zip(target, scaled, strict=True)]


def _resample(
    images: tf.Tensor,
    target: tuple[int, int],
    rule: ResizeRule,
    size: tf.Tensor,
    ratio: tf.Tensor | int,
) -> tf.Tensor:
    # The part of a pixel's row or column that lies beyond the original's edge is left out.
    covered = tf.cast(size, tf.float32) / tf.cast(ratio, tf.float32)
    if rule == "stretch":
        return _bilinear(images, covered, tf.constant(target, tf.int32))
    scaled, offset = letterbox_placement(size, target)
    resized = _bilinear(images, covered, scaled)
    return tf.image.pad_to_bounding_box(resized, offset[0], offset[1], target[0], target[1])


def _bilinear(images: tf.Tensor, covered: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Scales the covered part of uint8 (..., H, W, C) to `size`, with a triangular kernel."""
    # The same bits as `tf.image.resize(..., antialias=True)` in two thirds of the time: the kernel
    # is separable, and its op is quick along rows with many channels alone.
    channels = images.shape[-1]
    batch, shape = tf.shape(images)[:-3], tf.shape(images)[-3:]
    rows = tf.reshape(images, [-1, shape[0], 1, shape[1] * channels])
    rows = _scale_rows(rows, size[0], covered[0])
    rows = tf.reshape(rows, [-1, size[0], shape[1], channels])
    columns = tf.transpose(rows, [0, 2, 1, 3])
    columns = tf.reshape(columns, [-1, shape[1], 1, size[0] * channels])
    columns = _scale_rows(columns, size[1], covered[1])
    columns = tf.reshape(columns, [-1, size[1], size[0], channels])
    # Rounded before they are moved: a quarter of the bytes.
    rounded = tf.cast(tf.clip_by_value(columns, 0.0, 255.0) + 0.5, tf.uint8)
    whole = tf.concat([batch, size, [channels]], axis=0)
    return tf.reshape(tf.transpose(rounded, [0, 2, 1, 3]), whole)


def _scale_rows(images: tf.Tensor, height: tf.Tensor, covered: tf.Tensor) -> tf.Tensor:
    """Scales (B, H, 1, C) to float32 (B, height, 1, C), of which `covered` rows count."""
    return tf.raw_ops.ScaleAndTranslate(
        images=images,
        size=tf.stack([height, 1]),
        scale=tf.stack([tf.cast(height, tf.float32) / covered, 1.0]),
        translation=tf.zeros([2]),
        kernel_type="triangle",
        antialias=True,
    )


def _box_map(size: tf.Tensor, target: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale and offset, float32 (..., 4), from fractions of the original to the target."""
    scaled, offset = letterbox_placement(size, target)
    side = tf.constant(target, tf.float32)
    scale = tf.reverse(tf.cast(scaled, tf.float32) / side, axis=[-1])
    shift = tf.reverse(tf.cast(offset, tf.float32) / side, axis=[-1])
    return tf.concat([scale, scale], axis=-1), tf.concat([shift, shift], axis=-1)


@dataclass(frozen=True)
class ImageFormat:
    """The common format of the pictures that a model sees: height and width in px, 1 or 3 channels.

    A rule of None takes no image of another size. With `fast` JPEG pictures are decoded as small as
    the target allows, at some cost in sharpness: `jpeg_ratio`.
    """

    size: tuple[int, int]
    channels: int
    rule: ResizeRule | None
    fast: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return (*self.size, self.channels)

    @property
    def rule_in_use(self) -> ResizeRule:
        """The rule for pictures that users bring, also where training takes one size alone."""
        return self.rule or "stretch"
