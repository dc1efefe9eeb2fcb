"""Boxes under maps: what of a moved box the picture shows, and the box around it.

A moved box is a convex polygon (a parallelogram, under perspective any convex quadrilateral). What
the picture shows of it is bounded by those parts of its edges that lie in the picture and those
parts of the picture's edges that lie in it; both are found by clipping edges to half planes
(Liang and Barsky 1984).
"""

import tensorflow as tf

from loc_keras.data.projective import map_points, matrix

_TOLERANCE_PX = 1e-6
"""Edges nearer than this coincide: far below a pixel, far above float64's rounding."""


def visible_part(
    boxes: tf.Tensor, maps: tf.Tensor, size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """What of each moved box lies in the picture.

    Args:
        boxes: float64 (..., 4), (x1, y1, x2, y2) in pixels from the picture's centre.
        maps: float64 (..., 3, 3).
        size: Height and width of the picture.

    Returns:
        The share of the moved box's area in 0..1, float64 (...), and the bounds of that part,
        float64 (..., 4); they are the picture's centre where nothing is visible.
    """
    polygon = map_points(_corners(boxes), maps)
    area = _signed_area(polygon, _next(polygon))
    # A mirrored box runs the other way round.
    mirrored = tf.reverse(polygon, axis=[-2])
    polygon = tf.where(area[..., tf.newaxis, tf.newaxis] < 0, mirrored, polygon)
    half_x, half_y = size[1] / 2, size[0] / 2
    picture = tf.broadcast_to(
        tf.constant(
            [[-half_x, -half_y], [half_x, -half_y], [half_x, half_y], [-half_x, half_y]], tf.float64
        ),
        tf.shape(polygon),
    )
    # Where an edge of the box lies on one of the picture, only the box's must count.
    own = _clip_edges(polygon, picture, _TOLERANCE_PX)
    frame = _clip_edges(picture, polygon, -_TOLERANCE_PX)
    start, end, valid = (tf.concat(pair, axis=-2) for pair in zip(own, frame, strict=True))
    zero = tf.zeros_like(start)
    start, end = tf.where(valid, start, zero), tf.where(valid, end, zero)
    share = _signed_area(start, end) / tf.maximum(tf.abs(area), _TOLERANCE_PX**2)
    return tf.clip_by_value(share, 0.0, 1.0), _bounds(tf.concat([start, end], -2), valid)


def ellipse_bounds(boxes: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Bounds of the moved ellipses that touch the boxes' sides.

    The box of a turned object is nearer to that of its inscribed ellipse than to that of its
    corners (Kalra et al. 2021, Towards Rotation Invariance in Object Detection). Under
    an affine map with the first row (a, b) the half width is sqrt((a w / 2)^2 + (b h / 2)^2). The
    dual conic gives the same, and the bounds under perspective too: the line x = t touches the
    ellipse where e33 t^2 - 2 e13 t + e11 = 0 (Hartley and Zisserman 2004, section 2.2.3).

    Args:
        boxes: float64 (..., 4), (x1, y1, x2, y2) in pixels from the picture's centre.
        maps: float64 (..., 3, 3).

    Returns:
        float64 (..., 4), not clipped to the picture.
    """
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    zero, one = tf.zeros_like(x1), tf.ones_like(x1)
    from_circle = matrix(
        [
            [(x2 - x1) / 2, zero, (x1 + x2) / 2],
            [zero, (y2 - y1) / 2, (y1 + y2) / 2],
            [zero, zero, one],
        ]
    )
    conic = maps @ from_circle
    signature = tf.constant([1.0, 1.0, -1.0], tf.float64)
    last = conic[..., 2:, :] * signature
    cross = tf.reduce_sum(conic[..., :2, :] * last, axis=-1)
    square = tf.reduce_sum(tf.square(conic[..., :2, :]) * signature, axis=-1)
    scale = tf.reduce_sum(conic[..., 2:, :] * last, axis=-1)
    root = tf.sqrt(tf.maximum(tf.square(cross) - square * scale, 0.0))
    # The scale is negative as long as the ellipse stays on this side of the horizon.
    return tf.concat([(cross + root) / scale, (cross - root) / scale], axis=-1)


def hull(boxes: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    """Bounds of the moved corners, float64 (..., 4), not clipped to the picture."""
    points = map_points(_corners(boxes), maps)
    return tf.concat([tf.reduce_min(points, -2), tf.reduce_max(points, -2)], axis=-1)


def to_centred(boxes: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Fractions of the sides, float32 (..., 4), as float64 pixels from the picture's centre."""
    return (tf.cast(boxes, tf.float64) - 0.5) * _sides(size)


def to_fractions(boxes: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """The inverse of `to_centred`, clipped to 0..1."""
    return tf.cast(tf.clip_by_value(boxes / _sides(size) + 0.5, 0.0, 1.0), tf.float32)


def _sides(size: tuple[int, int]) -> tf.Tensor:
    height, width = size
    return tf.constant([width, height, width, height], tf.float64)


def _corners(boxes: tf.Tensor) -> tf.Tensor:
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    return matrix([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def _next(polygon: tf.Tensor) -> tf.Tensor:
    return tf.roll(polygon, shift=-1, axis=-2)


def _cross(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _signed_area(start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Area within closed edges (..., E, 2) (Green's theorem): positive from x towards y."""
    return tf.reduce_sum(_cross(start, end), axis=-1) / 2.0


def _clip_edges(
    polygon: tf.Tensor, convex: tf.Tensor, tolerance: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Parts of the edges of one polygon (..., P, 2) that lie in a convex one (..., Q, 2).

    Both run from x towards y. A point counts as inside up to `tolerance` pixels outside.

    Returns:
        Start and end of each part (..., P, 2), and whether there is one (..., P, 1).
    """
    along = _next(convex) - convex
    length = tf.maximum(tf.norm(along, axis=-1), _TOLERANCE_PX)
    # Distance of every vertex (P) to the inner side of every edge of the convex polygon (Q).
    offsets = polygon[..., :, tf.newaxis, :] - convex[..., tf.newaxis, :, :]
    begin = _cross(along[..., tf.newaxis, :, :], offsets) / length[..., tf.newaxis, :] + tolerance
    stop = tf.roll(begin, shift=-1, axis=-2)
    crossing = tf.math.divide_no_nan(begin, begin - stop)
    one = tf.ones_like(begin)
    enter = tf.reduce_max(tf.where(begin < 0, crossing, 0.0 * one), axis=-1, keepdims=True)
    leave = tf.reduce_min(tf.where(stop < 0, crossing, one), axis=-1, keepdims=True)
    outside = tf.reduce_any((begin < 0) & (stop < 0), axis=-1, keepdims=True)
    edge = _next(polygon) - polygon
    return polygon + enter * edge, polygon + leave * edge, ~outside & (enter <= leave)


def _bounds(points: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Bounds of the valid ones among edges' starts (first half) and ends (second half)."""
    valid = tf.concat([valid, valid], axis=-2)
    infinite = tf.constant(float("inf"), tf.float64)
    low = tf.reduce_min(tf.where(valid, points, infinite), axis=-2)
    high = tf.reduce_max(tf.where(valid, points, -infinite), axis=-2)
    some = tf.reduce_any(valid, axis=-2)
    zero = tf.zeros_like(low)
    return tf.concat([tf.where(some, low, zero), tf.where(some, high, zero)], axis=-1)
