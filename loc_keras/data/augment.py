"""Whole-image augmentation: one affine map and one resampling per image, boxes moved along."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import tensorflow as tf

from loc_keras.data.affine import linear_map, map_points, warp
from loc_keras.data.pipeline import Augmentation, Targets
from loc_keras.errors import DataError

LEAST_VISIBLE = 0.25
"""Part of the moved box's area that must stay inside the picture for the map to be used."""

# Columns of a row of draws.
_FLIP, _SHIFT_X, _SHIFT_Y, _SCALE, _ROTATION, _BRIGHTNESS, _CONTRAST = range(7)
_COLUMNS = 7
_DIGIT_PREFIX = "digit_"
_DIGIT_KNOBS = ("rotation", "scale", "shear", "aspect")


@dataclass(frozen=True)
class ImageAugment:
    """Random changes to whole training images; all are off by default.

    Attributes:
        flip: Whether half of the images are mirrored left to right.
        translate: Largest shift as a fraction of the side, either way, for each axis.
        scale: Largest relative change of size about the centre: factors from 1 / (1 + scale)
            to 1 + scale, uniform in their logarithm.
        rotation: Largest turn about the centre in degrees, either way.
        brightness: Largest value added to the pixels as a fraction of 255, either way.
        contrast: Largest relative change of the distance to the image's mean, either way.
    """

    flip: bool = False
    translate: float = 0.0
    scale: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            DataError: If a value is outside its range.
        """
        limits = {"translate": 1, "scale": 4, "rotation": 180, "brightness": 1, "contrast": 1}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise DataError(f"augment.{name} must be in 0..{limit}, got {value}.")

    @property
    def moves(self) -> bool:
        """Whether any knob moves pixels."""
        return self.flip or max(self.translate, self.scale, self.rotation) > 0

    @property
    def recolours(self) -> bool:
        """Whether any knob changes pixel values."""
        return max(self.brightness, self.contrast) > 0


def split_augment_options(
    options: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, float]]:
    """Parts knobs named `digit_*` (without that prefix) from those for whole images.

    Raises:
        DataError: If a name is unknown.
    """
    image_names = [field.name for field in fields(ImageAugment)]
    digit_names = [_DIGIT_PREFIX + name for name in _DIGIT_KNOBS]
    unknown = sorted(set(options) - set(image_names) - set(digit_names))
    if unknown:
        raise DataError(
            f"augment has no {unknown[0]!r}; its names are "
            f"{', '.join([*image_names, *digit_names])}."
        )
    digit = {
        name.removeprefix(_DIGIT_PREFIX): value
        for name, value in options.items()
        if name in digit_names
    }
    return digit, {name: value for name, value in options.items() if name in image_names}


def augmentation_from(knobs: Mapping[str, float]) -> Augmentation | None:
    """Builds the pipeline stage for whole-image knobs, or None if all of them are off."""
    options = ImageAugment(**knobs)  # type: ignore[arg-type]
    if not (options.moves or options.recolours):
        return None
    return Augmentation(
        _COLUMNS, lambda images, targets, draws: augment(images, targets, draws, options)
    )


def augment(
    images: tf.Tensor, targets: Targets, draws: tf.Tensor, options: ImageAugment
) -> tuple[tf.Tensor, Targets]:
    """Augments one batch.

    The box becomes the bounding box of its moved corners, clipped to the picture. An image
    whose box would keep less than `LEAST_VISIBLE` of its area is not moved at all.

    Args:
        images: uint8 (B, H, W, C).
        targets: `"bbox"` float32 (B, 4), fractions; other entries pass unchanged.
        draws: float32 (B, 7), uniform in [0, 1).
        options: Ranges of the changes.

    Returns:
        Images and targets of the same shapes and types.
    """
    boxes = targets["bbox"]
    if options.moves:
        size = (images.shape[1], images.shape[2])
        linear, shift = random_map(draws, size, options)
        linear, shift, boxes = _keep_visible(boxes, linear, shift, size)
        centre = _centre(size)
        images = warp(images, linear, centre, centre + shift, size)
    if options.recolours:
        images = recolour(images, draws[:, _BRIGHTNESS], draws[:, _CONTRAST], options)
    return images, {**targets, "bbox": boxes}


def random_map(
    draws: tf.Tensor, size: tuple[int, int], options: ImageAugment
) -> tuple[tf.Tensor, tf.Tensor]:
    """Random maps about the picture's centre.

    Returns:
        float64 (B, 2, 2) and the shift of the centre, float64 (B, 2), (x, y) in pixels.
    """
    signed = tf.cast(draws, tf.float64) * 2.0 - 1.0
    factor = tf.exp(signed[:, _SCALE] * math.log1p(options.scale))
    mirrored = draws[:, _FLIP] < (0.5 if options.flip else 0.0)
    linear = linear_map(
        rotation=signed[:, _ROTATION] * math.radians(options.rotation),
        scale_x=tf.where(mirrored, -factor, factor),
        scale_y=factor,
        shear=tf.zeros_like(factor),
    )
    return linear, signed[:, _SHIFT_X : _SHIFT_Y + 1] * (options.translate * _side(size))


def move_boxes(
    boxes: tf.Tensor, linear: tf.Tensor, shift: tf.Tensor, size: tuple[int, int]
) -> tf.Tensor:
    """Bounding boxes of the moved corners, not clipped; fractions in, fractions out."""
    x1, y1, x2, y2 = tf.unstack(tf.cast(boxes, tf.float64), axis=-1)
    corners = tf.stack([x1, y1, x2, y1, x2, y2, x1, y2], axis=-1)
    points = tf.reshape(corners, [-1, 4, 2]) * _side(size)
    centre = _centre(size)
    moved = map_points(points, linear, centre, centre + shift) / _side(size)
    low, high = tf.reduce_min(moved, axis=1), tf.reduce_max(moved, axis=1)
    return tf.cast(tf.concat([low, high], axis=-1), tf.float32)


def recolour(
    images: tf.Tensor, brightness: tf.Tensor, contrast: tf.Tensor, options: ImageAugment
) -> tf.Tensor:
    """Scales the distance to each image's mean, then adds a constant; clipped to 0..255."""
    pixels = tf.cast(images, tf.float32)
    mean = tf.reduce_mean(pixels, axis=[1, 2, 3], keepdims=True)
    factor = _column(1.0 + (contrast * 2.0 - 1.0) * options.contrast)
    added = _column((brightness * 2.0 - 1.0) * (options.brightness * 255.0))
    pixels = (pixels - mean) * factor + mean + added
    return tf.cast(tf.clip_by_value(pixels, 0.0, 255.0) + 0.5, tf.uint8)


def _keep_visible(
    boxes: tf.Tensor, linear: tf.Tensor, shift: tf.Tensor, size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Replaces the maps that move a box (almost) out of the picture by the identity."""
    moved = move_boxes(boxes, linear, shift, size)
    clipped = tf.clip_by_value(moved, 0.0, 1.0)
    keep = _area(clipped) >= LEAST_VISIBLE * _area(moved)
    linear = tf.where(keep[:, tf.newaxis, tf.newaxis], linear, tf.eye(2, dtype=tf.float64))
    shift = tf.where(keep[:, tf.newaxis], shift, tf.zeros_like(shift))
    return linear, shift, tf.where(keep[:, tf.newaxis], clipped, boxes)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _side(size: tuple[int, int]) -> tf.Tensor:
    """Picture size (height, width) as float64 (x, y) lengths."""
    return tf.constant([size[1], size[0]], tf.float64)


def _centre(size: tuple[int, int]) -> tf.Tensor:
    return _side(size) / 2.0


def _column(values: tf.Tensor) -> tf.Tensor:
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]
