"""The box similarities once more, from the papers: one pair at a time, in float64.

Written apart from the product on purpose: intervals per axis instead of corner vectors, branches
instead of `where`, angles with real arcsines. The rules for boxes without extent are the ones that
`loc_keras.boxes` documents.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

Interval = tuple[float, float]

NEGLIGIBLE = 1e-14


def rowwise(function: Callable[..., float], true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Apply a function of one pair of boxes to every pair of (..., 4) arrays."""
    true, pred = np.asarray(true, "float64"), np.asarray(pred, "float64")
    rows = zip(true.reshape(-1, 4), pred.reshape(-1, 4), strict=True)
    return np.array([function(a, b) for a, b in rows]).reshape(true.shape[:-1])


def _interval(start: float, end: float) -> Interval:
    start, end = float(start), float(end)
    return (start, end) if start <= end else ((start + end) / 2,) * 2


def _axes(box: Sequence[float]) -> tuple[Interval, Interval]:
    return _interval(box[0], box[2]), _interval(box[1], box[3])


def _length(interval: Interval) -> float:
    return interval[1] - interval[0]


def _common(a: Interval, b: Interval) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def _span(a: Interval, b: Interval) -> float:
    return max(a[1], b[1]) - min(a[0], b[0])


def _shift(a: Interval, b: Interval) -> float:
    return sum(b) / 2 - sum(a) / 2


def _over(numerator: float, denominator: float) -> float:
    return 0.0 if denominator <= NEGLIGIBLE else numerator / denominator


def iou(true: Sequence[float], pred: Sequence[float]) -> float:
    (tx, ty), (px, py) = _axes(true), _axes(pred)
    common = _common(tx, px) * _common(ty, py)
    return _over(common, _length(tx) * _length(ty) + _length(px) * _length(py) - common)


def visible_extent(picture: np.ndarray) -> np.ndarray:
    """Extent of what is bright in a picture (H, W), float64 (x1, y1, x2, y2) in px."""
    seen = picture >= 128
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def giou(true: Sequence[float], pred: Sequence[float]) -> float:
    (tx, ty), (px, py) = _axes(true), _axes(pred)
    hull = _span(tx, px) * _span(ty, py)
    union = _length(tx) * _length(ty) + _length(px) * _length(py)
    union -= _common(tx, px) * _common(ty, py)
    return iou(true, pred) - _over(hull - union, hull)


def _centre_term(true: Sequence[float], pred: Sequence[float]) -> float:
    (tx, ty), (px, py) = _axes(true), _axes(pred)
    return _over(_shift(tx, px) ** 2 + _shift(ty, py) ** 2, _span(tx, px) ** 2 + _span(ty, py) ** 2)


def diou(true: Sequence[float], pred: Sequence[float]) -> float:
    return iou(true, pred) - _centre_term(true, pred)


def _aspect_angle(box: Sequence[float]) -> float:
    width, height = (_length(axis) for axis in _axes(box))
    if width**2 + height**2 <= NEGLIGIBLE:
        return math.pi / 4
    return math.pi / 2 if height == 0 else math.atan(width / height)


def ciou_v(true: Sequence[float], pred: Sequence[float]) -> float:
    return 4 / math.pi**2 * (_aspect_angle(true) - _aspect_angle(pred)) ** 2


def ciou_alpha(true: Sequence[float], pred: Sequence[float]) -> float:
    v = ciou_v(true, pred)
    return _over(v, (1 - iou(true, pred)) + v)


def ciou(true: Sequence[float], pred: Sequence[float], alpha: float | None = None) -> float:
    """Complete IoU; with `alpha` given, that factor is held fixed, as its gradient is taken."""
    alpha = ciou_alpha(true, pred) if alpha is None else alpha
    return diou(true, pred) - alpha * ciou_v(true, pred)


def eiou(true: Sequence[float], pred: Sequence[float]) -> float:
    (tx, ty), (px, py) = _axes(true), _axes(pred)
    width_term = _over((_length(tx) - _length(px)) ** 2, _span(tx, px) ** 2)
    height_term = _over((_length(ty) - _length(py)) ** 2, _span(ty, py) ** 2)
    return diou(true, pred) - width_term - height_term


def siou(true: Sequence[float], pred: Sequence[float]) -> float:
    (tx, ty), (px, py) = _axes(true), _axes(pred)
    sigma = math.hypot(_shift(tx, px), _shift(ty, py))
    angle_cost = 0.0
    if sigma**2 > NEGLIGIBLE:
        sine = abs(_shift(ty, py)) / sigma
        angle_cost = 1 - 2 * math.sin(math.asin(sine) - math.pi / 4) ** 2
    gamma = 2 - angle_cost
    distance_cost = shape_cost = 0.0
    for t, p in ((tx, px), (ty, py)):
        rho = _over(_shift(t, p) ** 2, _span(t, p) ** 2)
        distance_cost += 1 - math.exp(-gamma * rho)
        omega = _over(abs(_length(t) - _length(p)), max(_length(t), _length(p)))
        shape_cost += (1 - math.exp(-omega)) ** 4
    return iou(true, pred) - (distance_cost + shape_cost) / 2


def mpdiou(true: Sequence[float], pred: Sequence[float]) -> float:
    (tx, ty), (px, py) = _axes(true), _axes(pred)
    first = math.hypot(tx[0] - px[0], ty[0] - py[0]) ** 2
    second = math.hypot(tx[1] - px[1], ty[1] - py[1]) ** 2
    return iou(true, pred) - first / 2 - second / 2


SIMILARITIES: dict[str, Callable[..., float]] = {
    "iou": iou,
    "giou": giou,
    "diou": diou,
    "ciou": ciou,
    "eiou": eiou,
    "siou": siou,
    "mpdiou": mpdiou,
}
