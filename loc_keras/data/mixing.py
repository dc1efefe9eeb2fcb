"""MixUp and CutMix: two images in one, for what the class head learns.

Image i of a batch is mixed with image i + 1 (the last one with the first). The image with the
larger share gives the box; the classes become probabilities by the shares.
"""

import functools

import numpy as np
import tensorflow as tf

from loc_keras.data.augment_cutout import covered_share, rectangle_mask
from loc_keras.data.augment_draws import CANDIDATES, Draws
from loc_keras.data.augment_geometry import first_good
from loc_keras.data.augment_options import ImageAugment
from loc_keras.data.pipeline import Targets

_QUANTILES = 1025
_HALVINGS = 52


def mix(
    images: tf.Tensor, targets: Targets, draws: Draws, options: ImageAugment, num_classes: int
) -> tuple[tf.Tensor, Targets]:
    """Mixes some images of a batch with their neighbours.

    With both kinds on, each is taken for half of the mixed images. An image whose patches would
    all leave less than `min_visible` of its box stays unmixed; an empty box has nothing to hide.

    Args:
        images: uint8 (B, H, W, C).
        targets: `"softmax"` int32 (B,) and `"bbox"` float32 (B, 4), fractions; other entries
            pass unchanged.
        draws: Uniform draws of the names that `draw_names` lists.
        options: Kinds, their beta distributions, and the share of the images.
        num_classes: K.

    Returns:
        Images of the same shape and type, and the targets with `"softmax"` float32 (B, K), rows
        that sum to 1; a single class has no shares and stays int32 (B,).
    """
    neighbours = tf.roll(images, shift=-1, axis=0)
    wanted = draws.one("mix") < options.mix_probability
    blended = wanted & (draws.one("mix_kind") < _mixup_part(options))
    own = tf.ones_like(draws.one("mix"))
    if options.mixup:
        own = tf.where(blended, _larger_share(draws, options.mixup), own)
        images = _blend(images, neighbours, own)
    if options.cutmix:
        patch = _patches(targets["bbox"], draws, options, wanted & ~blended)
        mask = rectangle_mask(patch, (images.shape[1], images.shape[2]))
        images = tf.where(mask, neighbours, images)
        own = own - tf.reduce_mean(tf.cast(mask, tf.float32), axis=[1, 2, 3])
    if num_classes == 1:
        return images, targets
    classes = tf.one_hot(targets["softmax"], num_classes)
    weight = own[:, tf.newaxis]
    mixed = weight * classes + (1.0 - weight) * tf.roll(classes, shift=-1, axis=0)
    return images, {**targets, "softmax": mixed}


@functools.cache
def beta_quantiles(alpha: float) -> np.ndarray:
    """Quantiles of the beta distribution with both parameters `alpha` at even steps of [0, 1].

    Found by halving, as its distribution function has no inverse in closed form.

    Returns:
        float32 (1025,).
    """
    levels = np.linspace(0.0, 1.0, _QUANTILES)
    low, high = np.zeros_like(levels), np.ones_like(levels)
    with tf.init_scope():
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            parameter = np.full_like(middle, alpha)
            below = tf.math.betainc(parameter, parameter, middle).numpy() < levels
            low, high = np.where(below, middle, low), np.where(below, high, middle)
    return ((low + high) / 2).astype(np.float32)


def _mixup_part(options: ImageAugment) -> float:
    """Share of the mixed images that are blended rather than patched."""
    if not options.cutmix:
        return 1.0
    return 0.5 if options.mixup else 0.0


def _larger_share(draws: Draws, alpha: float) -> tf.Tensor:
    """Share of an image itself, beta-distributed and at least a half, float32 (B,)."""
    table = tf.constant(beta_quantiles(alpha))
    place = draws.one("mix_share") * (_QUANTILES - 1)
    left = tf.minimum(tf.cast(place, tf.int32), _QUANTILES - 2)
    part = place - tf.cast(left, tf.float32)
    share = tf.gather(table, left) * (1.0 - part) + tf.gather(table, left + 1) * part
    return tf.maximum(share, 1.0 - share)


def _blend(images: tf.Tensor, neighbours: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    share = own[:, tf.newaxis, tf.newaxis, tf.newaxis]
    pixels = tf.cast(images, tf.float32) * share + tf.cast(neighbours, tf.float32) * (1.0 - share)
    return tf.cast(pixels + 0.5, tf.uint8)


def _patches(boxes: tf.Tensor, draws: Draws, options: ImageAugment, wanted: tf.Tensor) -> tf.Tensor:
    """Where the neighbour shows: float32 (B, 4), empty for images that stay as they are."""
    side = tf.sqrt(1.0 - _larger_share(draws, options.cutmix))[:, tf.newaxis]
    side = tf.tile(side, [1, CANDIDATES])
    names = ("cutmix_x", "cutmix_y")
    first = tf.stack([draws.candidates(name) * (1.0 - side) for name in names], axis=-1)
    rectangles = tf.concat([first, first + side[..., tf.newaxis]], axis=-1)
    hidden = covered_share(boxes[:, tf.newaxis], rectangles)
    chosen = tf.where(wanted, first_good(hidden <= 1.0 - options.min_visible), CANDIDATES)
    rectangles = tf.pad(rectangles, [[0, 0], [0, 1], [0, 0]])
    return tf.gather(rectangles, chosen, batch_dims=1)
