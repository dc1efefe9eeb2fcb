"""How much smaller a JPEG picture may be decoded, where it is shrunk anyway.

A JPEG decoder gives a picture at a half, quarter or eighth of its size by leaving out the finest
frequencies of each 8 x 8 block. What remains to be shrunk is then small and quick.
"""

import tensorflow as tf

from loc_keras.data.decode import RATIOS, is_jpeg
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.resize import letterbox_placement

_KEPT = {False: 2, True: 1}
"""Pixels that stay for each one of the target, along each side.

With two, photographs differ by 0.1 to 0.5 of 255 on average from those decoded in full, by no more
than 10 in any pixel. With one the mean is about 1, since two kernels in a row soften the picture.
"""


def jpeg_ratio(
    content: tf.Tensor, form: ImageFormat, transposed: tf.Tensor | bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Size of a picture, and by how much smaller to decode it.

    Args:
        content: string scalar, an encoded image.
        form: What it becomes.
        transposed: Whether the orientation swaps height and width.

    Returns:
        int32 (2,), height and width as looked at, zeros unless it is JPEG; and an int32 scalar
        of `decode.RATIOS`, 1 unless it is JPEG.
    """
    size = tf.cond(
        is_jpeg(content),
        lambda: tf.image.extract_jpeg_shape(content)[:2],
        lambda: tf.zeros([2], tf.int32),
    )
    size = tf.ensure_shape(size, [2])
    size = tf.where(transposed, tf.reverse(size, [0]), size)
    wanted = tf.constant(form.size)
    if form.rule == "letterbox":
        wanted, _ = letterbox_placement(tf.maximum(size, 1), form.size)
    room = tf.reduce_min(size // (wanted * _KEPT[form.fast]))
    # Each ratio that fits doubles the one before.
    steps = tf.cast(room >= tf.constant(RATIOS[1:]), tf.int32)
    return size, tf.bitwise.left_shift(1, tf.reduce_sum(steps))
