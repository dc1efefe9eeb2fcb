"""Random geometry: one composed map for each image, redrawn where it loses the object.

A box follows its map by its moved corners or its moved inscribed ellipse, and is cut where the
picture ends; the share of it that stays in the picture is exact, from the clipped polygon's area.
The uniform random numbers behind all augmentation are here by name as well.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from loc_keras.config.data import AugmentConfig
from loc_keras.data.geometry import from_affine, linear_map, map_points, matrix, tilt
from loc_keras.data.resize import are_empty, keep_empty

CANDIDATES = 4
"""Draws of the geometry and of the cutout for each image, of which the first good one counts.

A draw is given up for hiding too much of the object, which is rare; the chance that four are
falls with the fourth power, and what then remains is the picture without that change.
"""


class Drawn(NamedTuple):
    """Names of what a key of the config draws for each image: once, and `CANDIDATES` times."""

    once: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()


class Draws(NamedTuple):
    """A batch of draws, float32 (B, columns) uniform in [0, 1), and the columns' names."""

    values: tf.Tensor
    names: tuple[str, ...]

    def column(self, name: str) -> tf.Tensor:
        """The draws of one name, float32 (B,)."""
        return self.values[:, self.names.index(name)]

    def candidates(self, name: str) -> tf.Tensor:
        """The draws of one name, float32 (B, CANDIDATES)."""
        first = self.names.index(name)
        return self.values[:, first : first + CANDIDATES]

    def signed(self, name: str) -> tf.Tensor:
        """The candidates of one name, spread over [-1, 1); float64 (B, CANDIDATES)."""
        return tf.cast(self.candidates(name), tf.float64) * 2.0 - 1.0


def column_names(options: AugmentConfig, drawn: Mapping[str, Drawn]) -> Iterator[str]:
    """Names of the columns of a row of draws, in the order of the config's keys that are on.

    Those of candidates come last, each `CANDIDATES` times.
    """
    keys = [key for key in AugmentConfig.model_fields if key in drawn and getattr(options, key)]
    for key in keys:
        yield from drawn[key].once
    for key in keys:
        for name in drawn[key].candidates:
            yield from [name] * CANDIDATES


def log_uniform(signed: tf.Tensor, largest: float) -> tf.Tensor:
    """Factors from 1 / (1 + largest) to 1 + largest for draws in [-1, 1); float64."""
    return tf.exp(signed * math.log1p(largest))


Size: TypeAlias = tuple[int, int]

MIRRORS = {"flip": Drawn(("flip",)), "flip_vertical": Drawn(("flip_vertical",))}
"""Keys of the config that mirror, with what they draw."""

WARPS = {
    "translate": Drawn(candidates=("translate_x", "translate_y")),
    "scale": Drawn(candidates=("scale",)),
    "aspect": Drawn(candidates=("aspect",)),
    "rotation": Drawn(candidates=("rotation",)),
    "shear": Drawn(candidates=("shear_x", "shear_y")),
    "perspective": Drawn(candidates=("perspective_x", "perspective_y")),
    "crop": Drawn(candidates=("crop_area", "crop_aspect", "crop_x", "crop_y")),
}
"""Keys of the config that move pixels by more than mirroring, with what they draw."""

_TOLERANCE_PX = 1e-6
"""Edges nearer than this coincide: far below a pixel, far above float64's rounding."""

_ROUNDING = 1e-5
"""Slack of visible shares: a crop may keep just what is asked for, computed another way."""


def warps(options: AugmentConfig) -> bool:
    """Whether pictures are resampled, moved by more than mirroring."""
    return any(getattr(options, key) for key in WARPS)


def mirror(
    images: tf.Tensor, boxes: tf.Tensor, draws: Draws, options: AugmentConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mirrors images uint8 (B, H, W, C) and boxes alone, which needs no resampling.

    Boxes are float32 (B, 4), fractions; those that are empty stay so.
    """
    mirrored = boxes
    for key, axis in (("flip", 0), ("flip_vertical", 1)):
        if not getattr(options, key):
            continue
        chosen = draws.column(key) < 0.5
        # Pictures are (B, y, x, C), boxes (x1, y1, x2, y2).
        turned = tf.reverse(images, axis=[2 - axis])
        images = tf.where(chosen[:, tf.newaxis, tf.newaxis, tf.newaxis], turned, images)
        sides = tf.unstack(mirrored, axis=-1)
        sides[axis], sides[axis + 2] = 1.0 - sides[axis + 2], 1.0 - sides[axis]
        mirrored = tf.where(chosen[:, tf.newaxis], tf.stack(sides, axis=-1), mirrored)
    return images, keep_empty(boxes, mirrored)


def choose_maps(
    boxes: tf.Tensor, draws: Draws, size: Size, options: AugmentConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """The map of each image, float64 (B, 3, 3), pixels about the centre, and its box under it.

    Of the candidates the first counts that keeps `min_visible` of the moved box's area in the
    picture; where none does, the image is only mirrored, if at all. An image without an object
    takes the first, since nothing can leave it. Boxes are float32 (B, 4), fractions in 0..1;
    empty ones stay so. The size is height and width in pixels.
    """
    # Where there is no object, the whole picture takes its place: any map will do.
    empty = are_empty(boxes)
    frame = tf.constant([0.0, 0.0, 1.0, 1.0])
    centred = to_centred(tf.where(empty[:, tf.newaxis], frame, boxes), size)
    candidates = random_maps(centred, empty, draws, size, options)
    signs = _mirror_signs(draws, options)
    mirrors = tf.linalg.diag(tf.stack([*signs, tf.ones_like(signs[0])], axis=-1))
    maps = tf.concat([candidates, mirrors[:, tf.newaxis]], axis=1)
    share, bounds = visible_part(centred[:, tf.newaxis], maps, size)
    good = share[:, :-1] >= options.min_visible - _ROUNDING
    first = first_good(good | empty[:, tf.newaxis])
    maps, bounds = (tf.gather(values, first, batch_dims=1) for values in (maps, bounds))
    if options.box_from == "ellipse":
        # Where the picture's edge cuts the box off, the cut bounds the ellipse's box as well.
        other = ellipse_bounds(centred, maps)
        low = tf.maximum(bounds[..., :2], other[..., :2])
        high = tf.minimum(bounds[..., 2:], other[..., 2:])
        bounds = tf.concat([low, tf.maximum(low, high)], axis=-1)
    return maps, keep_empty(boxes, to_fractions(bounds, size))


def first_good(good: tf.Tensor) -> tf.Tensor:
    """Index of the first true entry of bool (B, K), int32 (B,); K where there is none."""
    count = good.shape[1]
    return tf.reduce_min(tf.where(good, tf.range(count), count), axis=1)


def random_maps(
    centred: tf.Tensor, empty: tf.Tensor, draws: Draws, size: Size, options: AugmentConfig
) -> tf.Tensor:
    """Candidates for the map of each image, float64 (B, CANDIDATES, 3, 3), pixels about the centre.

    From first to last: perspective, crop, mirroring, scale with aspect, shear, rotation, shift.
    Boxes are float64 (B, 4), in pixels from the picture's centre; of those that are `empty` nothing
    needs to be kept.
    """
    sides = tf.constant([size[1], size[0]], tf.float64)
    linear = _random_linear(draws, options)
    shift = tf.zeros_like(linear[..., 0])
    if options.translate:
        signed = [draws.signed("translate_x"), draws.signed("translate_y")]
        shift = tf.stack(signed, axis=-1) * (options.translate * sides)
    boxes = centred[:, tf.newaxis]
    tilted = None
    if options.perspective:
        strength = options.perspective / (sides / 2.0)
        tilted = tilt(
            draws.signed("perspective_x") * strength[0], draws.signed("perspective_y") * strength[1]
        )
        boxes = hull(boxes, tilted)
    if options.crop:
        centre, zoom = random_crop(boxes, empty, draws, size, options)
        linear = linear * zoom[..., tf.newaxis, :]
        shift = shift - tf.linalg.matvec(linear, centre)
    maps = from_affine(linear, shift)
    return maps if tilted is None else maps @ tilted


def random_crop(
    boxes: tf.Tensor, empty: tf.Tensor, draws: Draws, size: Size, options: AugmentConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """Windows that hold at least `min_visible` of the box, anywhere where a box is `empty`.

    Along each axis the window holds at least the root of that share of the box, so both together
    hold the share; one too small for it is enlarged. It gives centres in pixels from the picture's
    centre, and the factors that blow the windows up to the picture; both float64 (B, CANDIDATES,
    2), (x, y).
    """
    area = 1.0 - options.crop * tf.cast(draws.candidates("crop_area"), tf.float64)
    stretch = log_uniform(draws.signed("crop_aspect"), options.crop_aspect)
    least = tf.constant(math.sqrt(options.min_visible), tf.float64)
    kept = tf.where(empty, tf.zeros_like(least), least)[:, tf.newaxis]
    centres, zooms = [], []
    for axis, name, share in ((0, "crop_x", area * stretch), (1, "crop_y", area / stretch)):
        side = float(size[1 - axis])
        low = tf.clip_by_value(boxes[..., axis], -side / 2, side / 2)
        high = tf.clip_by_value(boxes[..., axis + 2], -side / 2, side / 2)
        needed = kept * (high - low)
        window = tf.maximum(tf.minimum(tf.sqrt(share), 1.0) * side, needed)
        first = tf.maximum(low + needed - window, -side / 2)
        last = tf.minimum(side / 2 - window, high - needed)
        draw = tf.cast(draws.candidates(name), tf.float64)
        centres.append(first + (last - first) * draw + window / 2)
        zooms.append(side / window)
    return tf.stack(centres, axis=-1), tf.stack(zooms, axis=-1)


def visible_part(
    boxes: tf.Tensor, maps: tf.Tensor, size: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """What of each moved box (..., 4) lies in the picture; all float64, pixels from its centre.

    Returns:
        The share of the moved box's area in 0..1, (...), and the bounds of that part, (..., 4);
        they are the picture's centre where nothing is visible.
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
    """Bounds of the moved ellipses that touch the sides of boxes float64 (..., 4), not clipped.

    The box of a turned object is nearer to that of its inscribed ellipse than to that of its
    corners (Kalra et al. 2021, Towards Rotation Invariance in Object Detection). Under
    an affine map with the first row (a, b) the half width is sqrt((a w / 2)^2 + (b h / 2)^2). The
    dual conic gives the same, and the bounds under perspective too: the line x = t touches the
    ellipse where e33 t^2 - 2 e13 t + e11 = 0 (Hartley and Zisserman 2004, section 2.2.3).
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


def _random_linear(draws: Draws, options: AugmentConfig) -> tf.Tensor:
    """Mirroring, scale, aspect, shear and rotation, float64 (B, CANDIDATES, 2, 2)."""
    shape = [tf.shape(draws.values)[0], CANDIDATES]
    zero, one = tf.zeros(shape, tf.float64), tf.ones(shape, tf.float64)
    factor, stretch, angle, shear = one, one, zero, zero
    if options.scale:
        factor = log_uniform(draws.signed("scale"), options.scale)
    if options.aspect:
        # Half of the change goes to each axis, so that the area stays.
        stretch = tf.sqrt(log_uniform(draws.signed("aspect"), options.aspect))
    if options.rotation:
        angle = draws.signed("rotation") * math.radians(options.rotation)
    if options.shear:
        shear = draws.signed("shear_x") * options.shear
    linear = linear_map(angle, one, one, shear)
    if options.shear:
        linear = linear @ matrix([[one, zero], [draws.signed("shear_y") * options.shear, one]])
    sign_x, sign_y = _mirror_signs(draws, options)
    scales = [factor * stretch * sign_x[:, tf.newaxis], factor / stretch * sign_y[:, tf.newaxis]]
    return linear * tf.stack(scales, axis=-1)[..., tf.newaxis, :]


def _mirror_signs(draws: Draws, options: AugmentConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """-1 where an image is mirrored, else 1, along x and along y; float64 (B,) each."""
    one = tf.ones([tf.shape(draws.values)[0]], tf.float64)
    along_x = tf.where(draws.column("flip") < 0.5, -one, one) if options.flip else one
    if not options.flip_vertical:
        return along_x, one
    return along_x, tf.where(draws.column("flip_vertical") < 0.5, -one, one)


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
    """Start, end (..., P, 2) and presence (..., P, 1) of parts of edges in a convex (..., Q, 2)."""
    # Both run from x towards y. A point counts as inside up to `tolerance` pixels outside.
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
