"""Augmentation of whole training images: geometry, cutout, colours, mixing; boxes move along.

A batch is a pure function of its images and of uniform draws keyed by seed, epoch and index, so
the same seed gives the same batch whatever runs in parallel.
"""

import functools

import numpy as np
import tensorflow as tf
from scipy.special import betaincinv

from loc_keras.config.data import AugmentConfig
from loc_keras.data.augment.geometry import (
    CANDIDATES,
    MIRRORS,
    WARPS,
    Drawn,
    Draws,
    choose_maps,
    column_names,
    first_good,
    mirror,
    warps,
)
from loc_keras.data.augment.photometric import COLOUR_KEYS, recolour
from loc_keras.data.geometry import Kind, Sources, warp, warp_sources
from loc_keras.data.pipeline import Augmentation, Targets
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import DataError

CUTOUT = {"cutout": Drawn(("cutout",), ("cutout_x", "cutout_y", "cutout_width", "cutout_height"))}
MIXING = {
    "mix_probability": Drawn(("mix", "mix_kind", "mix_share")),
    "cutmix": Drawn(candidates=("cutmix_x", "cutmix_y")),
}
_QUANTILES = 1025


def mixes(options: AugmentConfig) -> bool:
    """Whether images are blended with others and classes with them."""
    return max(options.mixup, options.cutmix) > 0 and options.mix_probability > 0


def draw_names(options: AugmentConfig) -> tuple[str, ...]:
    """Names of the columns of a row of draws; those of candidates stand `CANDIDATES` times."""
    drawn = MIRRORS | WARPS | CUTOUT | COLOUR_KEYS
    return tuple(column_names(options, drawn | MIXING if mixes(options) else drawn))


def augmentation_from(
    options: AugmentConfig, num_classes: int | None = None
) -> Augmentation | None:
    """Builds the pipeline stage for whole images, or None where nothing is drawn for them.

    `mixup` and `cutmix`, which turn the class targets into probabilities, need `num_classes`:
    DataError without.
    """
    columns = len(draw_names(options))
    if not columns:
        return None
    if mixes(options) and num_classes is None:
        raise DataError("augment.mixup and augment.cutmix need the number of classes; give it.")
    fused = functools.partial(augment_sources, options=options, num_classes=num_classes)
    return Augmentation(
        columns,
        functools.partial(augment, options=options, num_classes=num_classes),
        fused if warps(options) else None,
        reach=1 if mixes(options) else 0,
    )


# Every branch is decided by the options alone, so converting the source gains nothing; it takes
# seconds.
@tf.autograph.experimental.do_not_convert
def augment(
    images: tf.Tensor,
    targets: Targets,
    draws: tf.Tensor,
    options: AugmentConfig,
    num_classes: int | None = None,
) -> tuple[tf.Tensor, Targets]:
    """Augments one batch of images uint8 (B, H, W, C).

    Of the targets, `"bbox"` is float32 (B, 4), fractions; mixing among `num_classes` also takes
    `"softmax"` int32 (B,) and makes float32 (B, K) of it, shares; others pass unchanged. Draws are
    float32 (B, columns), uniform in [0, 1), with the columns `draw_names(options)`.
    """
    named = Draws(draws, draw_names(options))
    boxes = targets["bbox"]
    if warps(options):
        maps, boxes = choose_maps(boxes, named, (images.shape[1], images.shape[2]), options)
        images = warp(images, maps, fill=options.fill)
    elif options.flip or options.flip_vertical:
        images, boxes = mirror(images, boxes, named, options)
    return _finish(images, {**targets, "bbox": boxes}, named, options, num_classes)


@tf.autograph.experimental.do_not_convert
def augment_sources(
    sources: Sources,
    targets: Targets,
    draws: tf.Tensor,
    options: AugmentConfig,
    form: ImageFormat,
    num_classes: int | None = None,
) -> tuple[tf.Tensor, Targets]:
    """Resizes to `form` and augments one batch, with one resampling for both; else as `augment`.

    The boxes, and what is drawn, are those of `augment` on the resized pictures. The pixels differ
    a little: they are sharper, since they are resampled once and not twice.
    """
    named = Draws(draws, draw_names(options))
    maps, boxes = choose_maps(targets["bbox"], named, form.size, options)
    barred, tilted = form.rule == "letterbox", options.perspective > 0
    images = warp_sources(sources, maps, Kind(form.size, options.fill, barred, tilted))
    return _finish(images, {**targets, "bbox": boxes}, named, options, num_classes)


def _finish(
    images: tf.Tensor,
    targets: Targets,
    named: Draws,
    options: AugmentConfig,
    num_classes: int | None,
) -> tuple[tf.Tensor, Targets]:
    if options.cutout:
        images = cutout(images, targets["bbox"], named, options)
    images = recolour(images, named, options)
    if mixes(options) and num_classes is not None:
        images, targets = mix(images, targets, named, options, num_classes)
    return images, targets


def cutout(images: tf.Tensor, boxes: tf.Tensor, draws: Draws, options: AugmentConfig) -> tf.Tensor:
    """Covers a rectangle of some images uint8 (B, H, W, C) (DeVries and Taylor 2017).

    Of the candidates the first counts that covers at most `cutout_hidden` of the box's area;
    where none does, nothing is covered. The box, float32 (B, 4) in fractions, stays as it is.
    """
    size = (images.shape[1], images.shape[2])
    wanted = draws.column("cutout") < options.cutout
    candidates = _random_rectangles(draws, options)
    inside = rectangle_mask(_first_of(candidates, boxes, options.cutout_hidden, wanted), size)
    colour = tf.zeros([1, 1, 1, 1], tf.uint8)
    if options.fill != "black":
        mean = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2], keepdims=True)
        colour = tf.cast(mean + 0.5, tf.uint8)
    return tf.where(inside, colour, images)


def _first_of(rectangles: tf.Tensor, boxes: tf.Tensor, most: float, wanted: tf.Tensor) -> tf.Tensor:
    """Of rectangles (B, K, 4) the first that covers at most a share of the box, or an empty one."""
    good = covered_share(boxes[:, tf.newaxis], rectangles) <= most
    chosen = tf.where(wanted, first_good(good), good.shape[1])
    # The empty rectangle stands behind the candidates.
    return tf.gather(tf.pad(rectangles, [[0, 0], [0, 1], [0, 0]]), chosen, batch_dims=1)


def covered_share(boxes: tf.Tensor, rectangles: tf.Tensor) -> tf.Tensor:
    """Share of the boxes' area under the rectangles, (..., 4) each to (...); 0 for empty boxes."""
    low = tf.maximum(boxes[..., :2], rectangles[..., :2])
    high = tf.minimum(boxes[..., 2:], rectangles[..., 2:])
    covered = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    return tf.math.divide_no_nan(covered, tf.reduce_prod(boxes[..., 2:] - boxes[..., :2], axis=-1))


def rectangle_mask(rectangles: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Whether the centre of each pixel lies in the rectangle of its picture, bool (B, H, W, 1).

    Rectangles are float32 (B, 4), (x1, y1, x2, y2) as fractions; the size is height, width in px.
    """
    along = []
    for axis, side in ((0, size[1]), (1, size[0])):
        centres = (tf.range(side, dtype=tf.float32) + 0.5) / side
        low, high = rectangles[:, axis, tf.newaxis], rectangles[:, axis + 2, tf.newaxis]
        along.append((low <= centres) & (centres < high))
    return (along[1][:, :, tf.newaxis] & along[0][:, tf.newaxis, :])[..., tf.newaxis]


def _random_rectangles(draws: Draws, options: AugmentConfig) -> tf.Tensor:
    """Rectangles with their centres in the picture, float32 (B, CANDIDATES, 4)."""
    centre = tf.stack([draws.candidates("cutout_x"), draws.candidates("cutout_y")], axis=-1)
    names = ("cutout_width", "cutout_height")
    half = tf.stack([draws.candidates(name) for name in names], axis=-1) * options.cutout_size / 2
    return tf.concat([centre - half, centre + half], axis=-1)


def mix(
    images: tf.Tensor, targets: Targets, draws: Draws, options: AugmentConfig, num_classes: int
) -> tuple[tf.Tensor, Targets]:
    """Mixes some images uint8 (B, H, W, C) of a batch with their neighbours.

    With both kinds on, each is taken for half of the mixed images. An image whose patches would
    all leave less than `min_visible` of its box stays unmixed; an empty box has nothing to hide.
    Of the targets, `"softmax"` int32 (B,) becomes float32 (B, K), rows that sum to 1; a single
    class has no shares and stays int32 (B,).
    """
    neighbours = tf.roll(images, shift=-1, axis=0)
    wanted = draws.column("mix") < options.mix_probability
    blended = wanted & (draws.column("mix_kind") < _mixup_part(options))
    own = tf.ones_like(draws.column("mix"))
    if options.mixup:
        own = tf.where(blended, _larger_share(draws, options.mixup), own)
        share = own[:, tf.newaxis, tf.newaxis, tf.newaxis]
        pixels = tf.cast(images, tf.float32) * share
        pixels += tf.cast(neighbours, tf.float32) * (1.0 - share)
        images = tf.cast(pixels + 0.5, tf.uint8)
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
    """Quantiles at 1025 even steps of 0..1 of the beta distribution of both parameters `alpha`."""
    return betaincinv(alpha, alpha, np.linspace(0.0, 1.0, _QUANTILES)).astype(np.float32)


def _mixup_part(options: AugmentConfig) -> float:
    if not options.cutmix:
        return 1.0
    return 0.5 if options.mixup else 0.0


def _larger_share(draws: Draws, alpha: float) -> tf.Tensor:
    """Share of an image itself, beta-distributed and at least a half, float32 (B,)."""
    table = tf.constant(beta_quantiles(alpha))
    place = draws.column("mix_share") * (_QUANTILES - 1)
    left = tf.minimum(tf.cast(place, tf.int32), _QUANTILES - 2)
    part = place - tf.cast(left, tf.float32)
    share = tf.gather(table, left) * (1.0 - part) + tf.gather(table, left + 1) * part
    return tf.maximum(share, 1.0 - share)


def _patches(
    boxes: tf.Tensor, draws: Draws, options: AugmentConfig, wanted: tf.Tensor
) -> tf.Tensor:
    """Where the neighbour shows: float32 (B, 4), empty for images that stay as they are."""
    side = tf.sqrt(1.0 - _larger_share(draws, options.cutmix))[:, tf.newaxis]
    side = tf.tile(side, [1, CANDIDATES])
    names = ("cutmix_x", "cutmix_y")
    first = tf.stack([draws.candidates(name) * (1.0 - side) for name in names], axis=-1)
    rectangles = tf.concat([first, first + side[..., tf.newaxis]], axis=-1)
    return _first_of(rectangles, boxes, 1.0 - options.min_visible, wanted)
