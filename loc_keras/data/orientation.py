"""EXIF orientation: turning a stored picture, and its box, to how it is looked at.

Every orientation is a transposition or none, then a mirroring of x, of y, of both or none; the
table is that of the EXIF standard (CIPA DC-008, tag 0x0112).
"""

import numpy as np
import tensorflow as tf

_TRANSPOSED = (5, 6, 7, 8)
_MIRRORED_X = (2, 3, 6, 7)  # Left to right, after the transposition.
_MIRRORED_Y = (3, 4, 7, 8)


def turn_image(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a stored picture upright.

    Args:
        image: (H, W, C), any type.
        orientation: integer scalar, EXIF orientation 1..8.

    Returns:
        (H, W, C), or (W, H, C) for the orientations 5 to 8.
    """
    orientation = tf.cast(orientation, tf.int32)

    def turn() -> tf.Tensor:
        turned = tf.cond(
            _is_in(orientation, _TRANSPOSED), lambda: tf.transpose(image, [1, 0, 2]), lambda: image
        )
        mirrored = [_is_in(orientation, _MIRRORED_Y), _is_in(orientation, _MIRRORED_X)]
        return tf.raw_ops.ReverseV2(
            tensor=turned, axis=tf.reshape(tf.where(tf.stack(mirrored)), [-1])
        )

    turned = tf.cond(orientation == 1, lambda: image, turn)
    return tf.ensure_shape(turned, [None, None, image.shape[-1]])


def is_transposed(orientation: tf.Tensor) -> tf.Tensor:
    """Whether turning swaps height and width; bool scalar."""
    return _is_in(tf.cast(orientation, tf.int32), _TRANSPOSED)


def turned_sizes(sizes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """Heights and widths (..., 2) of turned pictures, in any order of the two."""
    swapped = np.isin(orientations, _TRANSPOSED)
    return np.where(swapped[..., None], sizes[..., ::-1], sizes)


def turn_boxes(boxes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """Moves boxes as `turn_image` moves the pixels.

    Args:
        boxes: float (..., 4), (x1, y1, x2, y2) in fractions of the stored picture.
        orientations: int (...) or scalar, 1..8.

    Returns:
        The same shape and type, fractions of the turned picture.
    """
    swapped = np.isin(orientations, _TRANSPOSED)[..., None]
    return _mirror(np.where(swapped, boxes[..., [1, 0, 3, 2]], boxes), orientations)


def turn_boxes_back(boxes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    """The inverse of `turn_boxes`: from the turned picture to the stored one."""
    stored = _mirror(boxes, orientations)
    swapped = np.isin(orientations, _TRANSPOSED)[..., None]
    return np.where(swapped, stored[..., [1, 0, 3, 2]], stored)


def _mirror(boxes: np.ndarray, orientations: np.ndarray) -> np.ndarray:
    in_x = np.isin(orientations, _MIRRORED_X)[..., None]
    in_y = np.isin(orientations, _MIRRORED_Y)[..., None]
    flip = np.concatenate([in_x, in_y, in_x, in_y], axis=-1)
    return np.where(flip, 1 - boxes[..., [2, 3, 0, 1]], boxes)


def _is_in(value: tf.Tensor, choices: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(value == tf.constant(choices, tf.int32))
