"""Cutout that knows where the object is: a covered rectangle never hides too much of it."""

import tensorflow as tf

from loc_keras.data.augment_draws import Draws
from loc_keras.data.augment_geometry import first_good
from loc_keras.data.augment_options import ImageAugment


def cutout(images: tf.Tensor, boxes: tf.Tensor, draws: Draws, options: ImageAugment) -> tf.Tensor:
    """Covers a rectangle of some images (DeVries and Taylor 2017).

    Of the candidates the first counts that covers at most `cutout_hidden` of the box's area;
    where none does, nothing is covered. The box stays as it is.

    Args:
        images: uint8 (B, H, W, C).
        boxes: float32 (B, 4), fractions.
        draws: Uniform draws of the names that `draw_names` lists.
        options: Probability, largest size and largest hidden share.

    Returns:
        uint8 (B, H, W, C).
    """
    size = (images.shape[1], images.shape[2])
    candidates = _random_rectangles(draws, options)
    good = covered_share(boxes[:, tf.newaxis], candidates) <= options.cutout_hidden
    # The empty rectangle stands behind the candidates.
    candidates = tf.pad(candidates, [[0, 0], [0, 1], [0, 0]])
    wanted = draws.one("cutout") < options.cutout
    chosen = tf.where(wanted, first_good(good), good.shape[1])
    inside = rectangle_mask(tf.gather(candidates, chosen, batch_dims=1), size)
    colour = tf.zeros([1, 1, 1, 1], tf.uint8)
    if options.fill != "black":
        mean = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2], keepdims=True)
        colour = tf.cast(mean + 0.5, tf.uint8)
    return tf.where(inside, colour, images)


def covered_share(boxes: tf.Tensor, rectangles: tf.Tensor) -> tf.Tensor:
    """Share of the boxes' area under the rectangles, (..., 4) each to (...); 0 for empty boxes."""
    low = tf.maximum(boxes[..., :2], rectangles[..., :2])
    high = tf.minimum(boxes[..., 2:], rectangles[..., 2:])
    covered = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    return tf.math.divide_no_nan(covered, tf.reduce_prod(boxes[..., 2:] - boxes[..., :2], axis=-1))


def rectangle_mask(rectangles: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Whether the centre of each pixel lies in the rectangle of its picture.

    Args:
        rectangles: float32 (B, 4), (x1, y1, x2, y2) as fractions.
        size: Height and width in pixels.

    Returns:
        bool (B, H, W, 1).
    """
    along = []
    for axis, side in ((0, size[1]), (1, size[0])):
        centres = (tf.range(side, dtype=tf.float32) + 0.5) / side
        low, high = rectangles[:, axis, tf.newaxis], rectangles[:, axis + 2, tf.newaxis]
        along.append((low <= centres) & (centres < high))
    return (along[1][:, :, tf.newaxis] & along[0][:, tf.newaxis, :])[..., tf.newaxis]


def _random_rectangles(draws: Draws, options: ImageAugment) -> tf.Tensor:
    """Rectangles with their centres in the picture, float32 (B, CANDIDATES, 4)."""
    centre = tf.stack([draws.candidates("cutout_x"), draws.candidates("cutout_y")], axis=-1)
    names = ("cutout_width", "cutout_height")
    half = tf.stack([draws.candidates(name) for name in names], axis=-1) * options.cutout_size / 2
    return tf.concat([centre - half, centre + half], axis=-1)
