"""Pure geometry of axis-aligned boxes: conversions, and how alike two paired boxes are.

A box is `(x1, y1, x2, y2)` on the last axis: x to the right, y down, edges as continuous
coordinates. The unit is free (fractions of the image side, or pixels) where a function does not
say otherwise. Boxes have any leading shape, `()` and `(B, 1)` included, and may be NumPy arrays or
lists. Results are float32 or wider: float64 stays, narrower types and integers are cast up.
A last axis that is not 4 long, or two shapes that differ, raise DataError.

The similarities pair row i with row i, (..., 4) and (..., 4) -> (...), and never build all pairs.
Each is 1 minus its paper's loss: 1 for identical boxes, less otherwise. They and their gradients
are finite for all coordinates up to a million:

- A denominator of at most 1e-14 (an area or a squared length: a side of 1e-7, the resolution of
  float32 near 1) makes its whole term 0. Nothing is added to a denominator, so small boxes keep
  their exact score. The IoU of two boxes without area is 0, even if they are identical.
- A box that is inverted along an axis (x2 < x1 or y2 < y1) has no extent there: both its edges
  count as lying at their middle, so both still receive a gradient.
- NaN in a coordinate is not hidden: the result is NaN.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
from keras import ops

from loc_keras.errors import ConfigError, DataError

Tensor: TypeAlias = Any  # whatever the active Keras backend, or NumPy, calls an array

_NEGLIGIBLE = 1e-14


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Convert (x1, y1, x2, y2) to (x1, y1, width, height); shape (..., 4), same unit."""
    x1, y1, x2, y2 = _unstack(boxes)
    return ops.stack([x1, y1, x2 - x1, y2 - y1], axis=-1)


def xywh_to_xyxy(boxes_xywh: Tensor) -> Tensor:
    """Convert (x1, y1, width, height) to (x1, y1, x2, y2); shape (..., 4), same unit."""
    x1, y1, width, height = _unstack(boxes_xywh)
    return ops.stack([x1, y1, x1 + width, y1 + height], axis=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Convert (x1, y1, x2, y2) to (centre x, centre y, width, height); shape (..., 4)."""
    x1, y1, x2, y2 = _unstack(boxes)
    return ops.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """Convert (centre x, centre y, width, height) to (x1, y1, x2, y2); shape (..., 4)."""
    x, y, width, height = _unstack(boxes_cxcywh)
    return ops.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1)


def fractions_to_pixels(boxes: Tensor, *, height: Tensor, width: Tensor) -> Tensor:
    """Scale boxes (..., 4) from fractions of the image side to pixels.

    `height` and `width` of the image, in pixels, are numbers or have one value per box: (...).
    """
    boxes = _as_boxes(boxes, "boxes")
    return boxes * _image_sides(height, width, boxes.dtype)


def pixels_to_fractions(boxes_px: Tensor, *, height: Tensor, width: Tensor) -> Tensor:
    """Scale boxes from pixels to fractions of the image side: undoes `fractions_to_pixels`."""
    boxes_px = _as_boxes(boxes_px, "boxes_px")
    return boxes_px / _image_sides(height, width, boxes_px.dtype)


def clip(boxes: Tensor, *, height: Tensor = 1.0, width: Tensor = 1.0) -> Tensor:
    """Move edges that lie outside the image onto its border; shape (..., 4) kept.

    `height` and `width` are the image's sides in the unit of the boxes: 1 for fractions.
    """
    boxes = _as_boxes(boxes, "boxes")
    return ops.minimum(ops.maximum(boxes, 0.0), _image_sides(height, width, boxes.dtype))


def area(boxes: Tensor) -> Tensor:
    """Area of each box, (..., 4) -> (...), in squared units; 0 for an inverted box."""
    return _product(_proper(_as_boxes(boxes, "boxes")).sides)


def iou(boxes_true: Tensor, boxes_pred: Tensor) -> Tensor:
    """Intersection over union of paired boxes (Jaccard index), in [0, 1].

    It has no gradient where the boxes do not overlap; the other similarities do.
    """
    return _overlap(*_pair(boxes_true, boxes_pred))[0]


def giou(boxes_true: Tensor, boxes_pred: Tensor) -> Tensor:
    """Generalized IoU of paired boxes, in [-1, 1].

    IoU minus the share of the smallest enclosing box that neither box covers (Rezatofighi et al.
    2019, algorithm 1).
    """
    true, pred = _pair(boxes_true, boxes_pred)
    overlap, union = _overlap(true, pred)
    hull_area = _product(_hull_sides(true, pred))
    return overlap - _ratio(hull_area - union, hull_area)


def diou(boxes_true: Tensor, boxes_pred: Tensor) -> Tensor:
    """Distance IoU of paired boxes, in [-1, 1].

    IoU minus the squared distance of the centres over the squared diagonal of the smallest
    enclosing box (Zheng et al. 2020, eq. 7).
    """
    true, pred = _pair(boxes_true, boxes_pred)
    return _overlap(true, pred)[0] - _centre_penalty(true, pred)


def ciou(boxes_true: Tensor, boxes_pred: Tensor) -> Tensor:
    """Complete IoU of paired boxes, at most 1.

    Distance IoU minus `alpha * v`, where `v = 4 / pi^2 * (difference of arctan(w / h))^2` and
    `alpha = v / (1 - IoU + v)` (Zheng et al. 2020, eq. 8 to 11). Alpha is a trade-off factor and
    takes no gradient. A box without any extent counts as a square.
    """
    true, pred = _pair(boxes_true, boxes_pred)
    overlap, _ = _overlap(true, pred)
    v = 4 / math.pi**2 * ops.square(_aspect_angle(true) - _aspect_angle(pred))
    alpha = ops.stop_gradient(_ratio(v, 1 - overlap + v))
    return overlap - _centre_penalty(true, pred) - alpha * v


def eiou(boxes_true: Tensor, boxes_pred: Tensor) -> Tensor:
    """Efficient IoU of paired boxes, at most 1.

    Distance IoU minus the squared differences of width and of height, each over the squared side
    of the smallest enclosing box (Zhang et al. 2021, without their focal weight).
    """
    true, pred = _pair(boxes_true, boxes_pred)
    overlap, _ = _overlap(true, pred)
    penalty = _ratio(ops.square(true.sides - pred.sides), ops.square(_hull_sides(true, pred)))
    return overlap - _centre_penalty(true, pred) - ops.sum(penalty, axis=-1)


def siou(boxes_true: Tensor, boxes_pred: Tensor) -> Tensor:
    """SCYLLA IoU of paired boxes, at most 1.

    IoU minus half the sum of a distance cost, which weighs less the more diagonal the offset of
    the centres is, and a shape cost (Gevorgyan 2022; theta = 4). The paper's angle cost
    `1 - 2 sin^2(arcsin(s) - pi / 4)` equals sin(2 arcsin(s)); written with the offsets themselves
    it needs neither root nor arcsine, whose slopes are infinite at aligned centres.
    """
    true, pred = _pair(boxes_true, boxes_pred)
    overlap, _ = _overlap(true, pred)
    offset = true.centre - pred.centre
    squared = ops.square(offset)
    angle = _ratio(2 * _product(ops.absolute(offset)), ops.sum(squared, axis=-1))
    distance = _ratio(squared, ops.square(_hull_sides(true, pred)))
    distance_cost = _saturate(ops.expand_dims(2 - angle, axis=-1) * distance)
    shape = _ratio(ops.absolute(true.sides - pred.sides), ops.maximum(true.sides, pred.sides))
    shape_cost = ops.square(ops.square(_saturate(shape)))
    return overlap - ops.sum(distance_cost + shape_cost, axis=-1) / 2


def mpdiou(
    boxes_true: Tensor, boxes_pred: Tensor, *, image_height: float = 1.0, image_width: float = 1.0
) -> Tensor:
    """Minimum point distance IoU of paired boxes, at most 1.

    IoU minus the squared distances of the two top left and of the two bottom right corners, each
    over the squared diagonal of the image (Ma and Xu 2023, algorithm 1).

    The sides of the image are in the unit of the boxes: 1 and 1 for fractions (the image then
    counts as square), the numbers of rows and columns for pixels. ConfigError if not positive.
    """
    if not (image_height > 0 and image_width > 0):
        raise ConfigError(
            f"mpdiou needs an image_height and image_width above 0, in the unit of the boxes "
            f"(1 and 1 for fractions), but got {image_height} and {image_width}."
        )
    true, pred = _pair(boxes_true, boxes_pred)
    corners = ops.square(true.low - pred.low) + ops.square(true.high - pred.high)
    penalty = ops.sum(corners, axis=-1) / (image_height**2 + image_width**2)
    return _overlap(true, pred)[0] - penalty


SIMILARITIES: dict[str, Callable[..., Tensor]] = {
    # Registered, so that a model compiled with one as its metric can be loaded.
    function.__name__: keras.saving.register_keras_serializable(package="loc_keras")(function)
    for function in (iou, giou, diou, ciou, eiou, siou, mpdiou)
}
"""The similarities by name, each `(boxes_true, boxes_pred) -> (...)`."""


def paired(boxes_true: Tensor, boxes_pred: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as tensors of one dtype, float32 or wider; DataError if their shapes differ."""
    true, pred = _as_boxes(boxes_true, "boxes_true"), _as_boxes(boxes_pred, "boxes_pred")
    # Shapes such as (N, 4) and (N, 1, 4) would broadcast to N x N values without a word.
    if not shapes_agree(true.shape, pred.shape):
        raise DataError(
            f"boxes_true and boxes_pred are compared row by row and need the same shape, "
            f"but have {tuple(true.shape)} and {tuple(pred.shape)}; reshape one to match the other."
        )
    dtype = keras.backend.result_type(true.dtype, pred.dtype)
    return ops.cast(true, dtype), ops.cast(pred, dtype)


def shapes_agree(a: Sequence[int | None], b: Sequence[int | None]) -> bool:
    """Whether two static shapes are equal, where None (not known yet) equals any length."""
    return len(a) == len(b) and all(m == n or None in (m, n) for m, n in zip(a, b, strict=True))


class _Box(NamedTuple):
    """Boxes that are not inverted, by their corners; the last axis holds x and y."""

    low: Tensor
    high: Tensor

    @property
    def sides(self) -> Tensor:
        return self.high - self.low

    @property
    def centre(self) -> Tensor:
        return (self.low + self.high) / 2


def _as_boxes(boxes: Tensor, name: str) -> Tensor:
    if not keras.utils.is_keras_tensor(boxes):
        boxes = ops.convert_to_tensor(boxes)
    if len(boxes.shape) == 0 or boxes.shape[-1] not in (4, None):
        raise DataError(
            f"{name} must hold the 4 coordinates of a box on its last axis, "
            f"but has the shape {tuple(boxes.shape)}; give it the shape (..., 4)."
        )
    return ops.cast(boxes, keras.backend.result_type(boxes.dtype, "float32"))


def _unstack(boxes: Tensor) -> list[Tensor]:
    return ops.unstack(_as_boxes(boxes, "boxes"), 4, axis=-1)


def _image_sides(height: Tensor, width: Tensor, dtype: Any) -> Tensor:
    height, width = ops.cast(height, dtype), ops.cast(width, dtype)
    return ops.stack([width, height, width, height], axis=-1)


def _proper(boxes: Tensor) -> _Box:
    low, high = ops.split(boxes, 2, axis=-1)
    # The middle of a proper box lies between its edges, after rounding too: only inverted boxes
    # change.
    middle = (low + high) / 2
    return _Box(ops.minimum(low, middle), ops.maximum(high, middle))


def _pair(boxes_true: Tensor, boxes_pred: Tensor) -> tuple[_Box, _Box]:
    true, pred = paired(boxes_true, boxes_pred)
    return _proper(true), _proper(pred)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; 0, with gradient 0, where the denominator is negligible."""
    # The inner `where` keeps the division itself harmless: a gradient of infinity times the outer
    # zero would be NaN. `<=` is false for NaN, which therefore comes through.
    negligible = denominator <= _NEGLIGIBLE
    safe = ops.where(negligible, ops.ones_like(denominator), denominator)
    return ops.where(negligible, ops.zeros_like(safe), numerator / safe)


def _product(xy: Tensor) -> Tensor:
    return xy[..., 0] * xy[..., 1]


def _overlap(true: _Box, pred: _Box) -> tuple[Tensor, Tensor]:
    """Return intersection over union, and the area of the union."""
    shared = ops.minimum(true.high, pred.high) - ops.maximum(true.low, pred.low)
    intersection = _product(ops.maximum(shared, 0.0))
    union = _product(true.sides) + _product(pred.sides) - intersection
    return _ratio(intersection, union), union


def _hull_sides(true: _Box, pred: _Box) -> Tensor:
    """Width and height of the smallest box that encloses both."""
    return ops.maximum(true.high, pred.high) - ops.minimum(true.low, pred.low)


def _centre_penalty(true: _Box, pred: _Box) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the hull, in [0, 1]."""
    distance = ops.sum(ops.square(true.centre - pred.centre), axis=-1)
    return _ratio(distance, ops.sum(ops.square(_hull_sides(true, pred)), axis=-1))


def _aspect_angle(box: _Box) -> Tensor:
    """arctan(width / height) in [0, pi / 2]; pi / 4, with gradient 0, for a point."""
    point = ops.sum(ops.square(box.sides), axis=-1, keepdims=True) <= _NEGLIGIBLE
    sides = ops.where(point, ops.ones_like(box.sides), box.sides)
    return ops.arctan2(sides[..., 0], sides[..., 1])


def _saturate(cost: Tensor) -> Tensor:
    """1 - exp(-cost), exact for small costs too."""
    return -ops.expm1(-cost)
