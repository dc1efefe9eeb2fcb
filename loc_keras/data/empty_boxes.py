"""The box of an image without an object: no area, and always the same four zeros."""

import tensorflow as tf

EMPTY_BOX = (0.0, 0.0, 0.0, 0.0)
"""(x1, y1, x2, y2) of an image without an object; no other image has it."""


def are_empty(boxes: tf.Tensor) -> tf.Tensor:
    """Whether each box is the empty one: (..., 4) to bool (...)."""
    return tf.reduce_all(tf.equal(boxes, 0.0), axis=-1)


def keep_empty(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """Boxes (..., 4) after a change, with the empty ones as they were before it."""
    return tf.where(are_empty(before)[..., tf.newaxis], tf.zeros_like(after), after)
