"""Augmentation of whole training images: geometry, cutout, colours, mixing; boxes move along.

A batch is a pure function of its images and of uniform draws keyed by seed, epoch and index, so
the same seed gives the same batch whatever runs in parallel.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from loc_keras.data.augment_cutout import cutout
from loc_keras.data.augment_draws import Draws, draw_names
from loc_keras.data.augment_geometry import move, move_sources
from loc_keras.data.augment_options import ImageAugment, split_augment_options
from loc_keras.data.fused_sources import Sources
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.mixing import mix
from loc_keras.data.photometric import recolour
from loc_keras.data.pipeline import Augmentation, Targets
from loc_keras.errors import DataError

__all__ = [
    "ImageAugment",
    "augment",
    "augment_sources",
    "augmentation_from",
    "draw_names",
    "split_augment_options",
]


def augmentation_from(
    knobs: Mapping[str, Any], num_classes: int | None = None
) -> Augmentation | None:
    """Builds the pipeline stage for whole-image knobs, or None if all of them are off.

    Args:
        knobs: Values of `ImageAugment` by name.
        num_classes: Needed for `mixup` and `cutmix`, which turn the class targets into
            probabilities.

    Raises:
        DataError: If a value is out of its range, or a number of classes is missing.
    """
    options = ImageAugment(**knobs)
    names = draw_names(options)
    if not names:
        return None
    if options.mixes and num_classes is None:
        raise DataError("augment.mixup and augment.cutmix need the number of classes; give it.")

    def apply(images: tf.Tensor, targets: Targets, draws: tf.Tensor) -> tuple[tf.Tensor, Targets]:
        return augment(images, targets, draws, options, num_classes)

    def apply_sources(
        sources: Sources, targets: Targets, draws: tf.Tensor, form: ImageFormat
    ) -> tuple[tf.Tensor, Targets]:
        return augment_sources(sources, targets, draws, options, form, num_classes)

    return Augmentation(
        len(names),
        apply,
        apply_sources if options.warps else None,
        reach=1 if options.mixes else 0,
    )


# Every branch is decided by the options alone, so converting the source gains nothing; it takes
# seconds.
@tf.autograph.experimental.do_not_convert
def augment(
    images: tf.Tensor,
    targets: Targets,
    draws: tf.Tensor,
    options: ImageAugment,
    num_classes: int | None = None,
) -> tuple[tf.Tensor, Targets]:
    """Augments one batch.

    Args:
        images: uint8 (B, H, W, C).
        targets: `"bbox"` float32 (B, 4), fractions; mixing also takes `"softmax"` int32 (B,);
            other entries pass unchanged.
        draws: float32 (B, columns), uniform in [0, 1); the columns are `draw_names(options)`.
        options: Ranges of the changes.
        num_classes: K, needed for mixing.

    Returns:
        Images and targets of the same shapes and types; after mixing, `"softmax"` is float32
        (B, K), probabilities.
    """
    named = Draws(draws, draw_names(options))
    boxes = targets["bbox"]
    if options.flips or options.warps:
        images, boxes = move(images, boxes, named, options)
    return _finish(images, {**targets, "bbox": boxes}, named, options, num_classes)


@tf.autograph.experimental.do_not_convert
def augment_sources(
    sources: Sources,
    targets: Targets,
    draws: tf.Tensor,
    options: ImageAugment,
    form: ImageFormat,
    num_classes: int | None = None,
) -> tuple[tf.Tensor, Targets]:
    """Resizes and augments one batch, with one resampling for both.

    The boxes, and what is drawn, are those of `augment` on the resized pictures. The pixels differ
    a little: they are sharper, since they are resampled once and not twice.

    Args:
        sources: Pictures not resized yet.
        targets: As for `augment`, with boxes in fractions of the resized pictures.
        draws: As for `augment`.
        options: Ranges of the changes, of which one `warps`.
        form: The common format that the pictures are brought to.
        num_classes: As for `augment`.

    Returns:
        As `augment`, images uint8 (B, *form.shape).
    """
    named = Draws(draws, draw_names(options))
    barred = form.rule == "letterbox"
    images, boxes = move_sources(sources, targets["bbox"], named, form.size, options, barred=barred)
    return _finish(images, {**targets, "bbox": boxes}, named, options, num_classes)


def _finish(
    images: tf.Tensor,
    targets: Targets,
    named: Draws,
    options: ImageAugment,
    num_classes: int | None,
) -> tuple[tf.Tensor, Targets]:
    """What comes after the geometry."""
    if options.cutout:
        images = cutout(images, targets["bbox"], named, options)
    images = recolour(images, named, options)
    if options.mixes and num_classes is not None:
        images, targets = mix(images, targets, named, options, num_classes)
    return images, targets
