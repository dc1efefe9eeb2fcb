"""Colours of training images: changes of pixel values that leave every box where it is.

Each operation was measured against Pillow's or a formula, eagerly and inside
`tf.data.Dataset.map`, alone and in a batch (keras-cv 0.9, tensorflow 2.21):

- Hue is KerasCV's `RandomHue`, with our own draws through `augment_images`. It is built in float32
  whatever the dtype policy and with a seed: without one it takes TensorFlow's global generator,
  which refuses to exist where operations are to be deterministic.
- Sharpness is ours: the convolution in `RandomSharpness` takes ten times as long as nine shifted
  sums once the steps are compiled together. Blurring is ours, as KerasCV's goes image by image.
- Saturation and grey blend with `tf.image.rgb_to_grayscale`: `RandomColorDegeneration` takes no
  seed, and `RandomSaturation`, which scales the saturation of HSV, takes more than twice the time.
- Auto-contrast, equalize, gamma and posterize map each value by itself: their tables are composed
  and the pixels looked up once, in a third of the time of KerasCV's `AutoContrast`. Its
  `Equalization` is up to 16 values off Pillow's; its `Posterization` keeps the same bits for all.

A new operation is a function here with a row in `STEPS` or `VALUE_MAPS`, and its key in the config.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from loc_keras.config.data import AugmentConfig
from loc_keras.data.augment.geometry import Drawn, Draws, log_uniform

Paint: TypeAlias = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_LEVELS = 256
_COLOURS = 3
_FEWEST_BITS, _MOST_BITS = 4, 7


class Step(NamedTuple):
    """An operation on float32 pixels 0..255, its keys in the config, each the name of its draw.

    With `colour`, images of one channel stay as they are.
    """

    keys: tuple[str, ...]
    apply: Callable[[tf.Tensor, Draws, AugmentConfig], tf.Tensor]
    colour: bool = False


def recolour(images: tf.Tensor, draws: Draws, options: AugmentConfig) -> tf.Tensor:
    """Changes the colours of each image uint8 (B, H, W, 1 or 3) by its own draws.

    From first to last: what maps each value by itself (auto-contrast, equalize, gamma, posterize),
    then `STEPS`.
    """
    if any(getattr(options, key) for key in VALUE_MAPS):
        images = look_up(images, _tables(images, draws, options))
    steps = [step for step in STEPS if any(getattr(options, key) for key in step.keys)]
    if images.shape[-1] != _COLOURS:
        steps = [step for step in steps if not step.colour]
    for place, step in enumerate(steps, start=1):
        paint = _compiled(step, options, draws.names, place == len(steps))
        images = paint(images, draws.values)
    return images


@functools.cache
def _compiled(step: Step, options: AugmentConfig, names: tuple[str, ...], last: bool) -> Paint:
    """A step as a function of pixels and draws' values: float32 0..255, the last one uint8."""
    # Compiled, a step takes a half to a fifth of the time. Each is compiled by itself: with several
    # in one, XLA (tensorflow 2.21) was seen to give other pixels than one by one.

    @tf.function(autograph=False, jit_compile=True)
    def paint(pixels: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        pixels = step.apply(tf.cast(pixels, tf.float32), Draws(values, names), options)
        pixels = tf.clip_by_value(pixels, 0.0, 255.0)
        return tf.cast(pixels + 0.5, tf.uint8) if last else pixels

    return paint


def look_up(images: tf.Tensor, tables: tf.Tensor) -> tf.Tensor:
    """Replaces every value: uint8 (B, H, W, C) and int32 tables (B, C, 256) to uint8."""
    return tf.gather(tf.cast(tf.reshape(tables, [-1]), tf.uint8), _table_index(images))


def stretch_tables(images: tf.Tensor) -> tf.Tensor:
    """Tables int32 (B, C, 256) that stretch each channel of uint8 images to 0..255.

    Channels of one value stay.
    """
    low, high = (
        tf.cast(reduce(tf.cast(images, tf.int32), axis=[1, 2]), tf.float64)[..., tf.newaxis]
        for reduce in (tf.reduce_min, tf.reduce_max)
    )
    levels = tf.range(_LEVELS, dtype=tf.float64)
    stretched = tf.math.divide_no_nan((levels - low) * 255.0, high - low)
    stretched = tf.where(high > low, tf.clip_by_value(stretched, 0.0, 255.0), levels)
    return tf.cast(stretched + 0.5, tf.int32)


def equalize_tables(images: tf.Tensor) -> tf.Tensor:
    """Tables int32 (B, C, 256) that flatten each channel's histogram as `PIL.ImageOps.equalize`.

    With the step of a 255th of the pixels that are not of the channel's brightest value, a value
    becomes the number of steps that the pixels below it fill, rounded. Channels of one value, or
    with fewer such pixels than 255, stay.
    """
    batch, channels = tf.shape(images)[0], images.shape[-1]
    bins = batch * channels * _LEVELS
    counts = tf.math.bincount(
        tf.reshape(_table_index(images), [-1]), minlength=bins, maxlength=bins
    )
    counts = tf.reshape(counts, [batch, channels, _LEVELS])
    levels = tf.range(_LEVELS)
    brightest = tf.reduce_max(tf.where(counts > 0, levels, 0), axis=-1, keepdims=True)
    step = tf.reduce_sum(tf.where(levels < brightest, counts, 0), axis=-1, keepdims=True) // 255
    below = tf.cumsum(counts, axis=-1, exclusive=True)
    flat = (step // 2 + below) // tf.maximum(step, 1)
    return tf.where(step > 0, tf.minimum(flat, _LEVELS - 1), levels)


def _tables(images: tf.Tensor, draws: Draws, options: AugmentConfig) -> tf.Tensor:
    """The composed tables, int32 (B, C, 256), of what maps each value by itself."""
    tables = tf.range(_LEVELS)[tf.newaxis, tf.newaxis]
    if options.auto_contrast:
        tables = tf.where(_chosen(draws, options, "auto_contrast"), stretch_tables(images), tables)
    if options.equalize:
        # The histogram's order is that of the values, so stretching first would change nothing.
        tables = tf.where(_chosen(draws, options, "equalize"), equalize_tables(images), tables)
    if options.gamma:
        signed = tf.cast(draws.column("gamma"), tf.float64) * 2.0 - 1.0
        exponent = log_uniform(signed, options.gamma)[:, tf.newaxis, tf.newaxis]
        curve = 255.0 * (tf.cast(tables, tf.float64) / 255.0) ** exponent
        tables = tf.cast(curve + 0.5, tf.int32)
    if options.posterize:
        kinds = _MOST_BITS - _FEWEST_BITS + 1
        dropped = 8 - _FEWEST_BITS - tf.cast(draws.column("posterize_bits") * kinds, tf.int32)
        unit = tf.bitwise.left_shift(1, dropped)[:, tf.newaxis, tf.newaxis]
        chosen = _chosen(draws, options, "posterize")
        tables = tf.where(chosen, tables // unit * unit, tables)
    return tf.broadcast_to(tables, [tf.shape(images)[0], images.shape[-1], _LEVELS])


def _chosen(draws: Draws, options: AugmentConfig, key: str) -> tf.Tensor:
    """Whether each image is changed by an operation of some probability, bool (B, 1, 1)."""
    return (draws.column(key) < getattr(options, key))[:, tf.newaxis, tf.newaxis]


def _table_index(images: tf.Tensor) -> tf.Tensor:
    """Place of every value in tables (B, C, 256) laid end to end, int32 (B, H, W, C)."""
    channels = images.shape[-1]
    first = tf.range(tf.shape(images)[0] * channels) * _LEVELS
    return tf.cast(images, tf.int32) + tf.reshape(first, [-1, 1, 1, channels])


def _contrast_brightness(pixels: tf.Tensor, draws: Draws, options: AugmentConfig) -> tf.Tensor:
    """Scales the distance to each image's mean, then adds a constant."""
    factor, added = tf.ones([1, 1, 1, 1]), tf.zeros([1, 1, 1, 1])
    if options.contrast:
        factor = 1.0 + _signed(draws, "contrast") * options.contrast
        added = tf.reduce_mean(pixels, axis=[1, 2, 3], keepdims=True) * (1.0 - factor)
    if options.brightness:
        added = added + _signed(draws, "brightness") * (options.brightness * 255.0)
    return pixels * factor + added


def _saturation_gray(pixels: tf.Tensor, draws: Draws, options: AugmentConfig) -> tf.Tensor:
    factor = tf.ones([tf.shape(pixels)[0], 1, 1, 1])
    if options.saturation:
        factor = 1.0 + _signed(draws, "saturation") * options.saturation
    if options.gray:
        factor = tf.where(_column(draws.column("gray")) < options.gray, 0.0, factor)
    grey = tf.image.rgb_to_grayscale(pixels)
    return grey + (pixels - grey) * factor


def _hue(pixels: tf.Tensor, draws: Draws, options: AugmentConfig) -> tf.Tensor:
    turn = (draws.column("hue") * 2.0 - 1.0) * options.hue
    return _hue_layer().augment_images(pixels, turn)


def _blur(pixels: tf.Tensor, draws: Draws, options: AugmentConfig) -> tf.Tensor:
    return gaussian_blur(pixels, draws.column("blur") * options.blur, options.blur)


def gaussian_blur(pixels: tf.Tensor, sigma: tf.Tensor, largest: float) -> tf.Tensor:
    """Blurs images float32 (B, H, W, C) by deviations in px, up to `largest`, mirrored outside."""
    for axis in (1, 2):
        side = pixels.shape[axis]
        # Mirrored once, a picture reaches no further than its own side.
        reach = min(math.ceil(3 * largest), side)
        weights = _gaussian(sigma, reach)
        margin = [[reach, reach] if other == axis else [0, 0] for other in range(4)]
        padded = tf.pad(pixels, margin, mode="SYMMETRIC")
        total = tf.zeros_like(pixels)
        for offset in range(2 * reach + 1):
            window = [slice(None)] * 4
            window[axis] = slice(offset, offset + side)
            total += padded[tuple(window)] * _column(weights[:, offset])
        pixels = total
    return pixels


def _gaussian(sigma: tf.Tensor, reach: int) -> tf.Tensor:
    """Weights of the pixels up to `reach` to each side, float32 (B, 2 reach + 1), of sum 1."""
    distance = tf.range(-reach, reach + 1, dtype=tf.float32)
    sigma = sigma[:, tf.newaxis]
    weights = tf.exp(-tf.math.divide_no_nan(distance**2, 2.0 * sigma**2))
    # The limit for a standard deviation of 0: the pixel itself.
    weights = tf.where((sigma == 0) & (distance != 0), 0.0, weights)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def _sharpness(pixels: tf.Tensor, draws: Draws, options: AugmentConfig) -> tf.Tensor:
    """Scales the distance to the image under Pillow's smoothing filter; the border row stays."""
    # The mean of the 3 x 3 neighbourhood in which the pixel itself counts five times.
    height, width = pixels.shape[1], pixels.shape[2]
    total = 4.0 * pixels[:, 1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total += pixels[:, row : height - 2 + row, column : width - 2 + column]
    away = pixels[:, 1:-1, 1:-1] - total / 13.0
    away = tf.pad(away, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return pixels - away * _signed(draws, "sharpness") * options.sharpness


@functools.cache
def _hue_layer() -> Any:
    """KerasCV's layer, made once, outside of any graph; the import alone takes a second."""
    from keras_cv.layers import RandomHue

    with tf.init_scope(), tf.device("CPU:0"):
        return RandomHue(factor=1.0, value_range=(0, 255), seed=1, dtype="float32")


def _signed(draws: Draws, name: str) -> tf.Tensor:
    """Draws spread over [-1, 1), float32 (B, 1, 1, 1)."""
    return _column(draws.column(name) * 2.0 - 1.0)


def _column(values: tf.Tensor) -> tf.Tensor:
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]


VALUE_MAPS = {
    "auto_contrast": Drawn(("auto_contrast",)),
    "equalize": Drawn(("equalize",)),
    "gamma": Drawn(("gamma",)),
    "posterize": Drawn(("posterize", "posterize_bits")),
}
"""Keys of the config that map each value by itself, with what they draw; see `_tables`."""

STEPS = (
    Step(("contrast", "brightness"), _contrast_brightness),
    Step(("saturation", "gray"), _saturation_gray, colour=True),
    Step(("hue",), _hue, colour=True),
    Step(("blur",), _blur),
    Step(("sharpness",), _sharpness),
)
"""What changes pixels otherwise, from first to last."""

COLOUR_KEYS = VALUE_MAPS | {key: Drawn((key,)) for step in STEPS for key in step.keys}
"""Keys of the config that change colours, with what they draw."""
