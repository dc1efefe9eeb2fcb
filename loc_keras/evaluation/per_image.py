"""How good each single answer is: pure functions of paired rows, in float64 and NumPy alone.

`loc_keras.boxes` and `loc_keras.metrics` hold the same formulas for training, in float32 and on any
backend; the tests prove that the two agree.
"""

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float64]

_NEGLIGIBLE = 1e-14  # As in `loc_keras.boxes`: two boxes without area overlap by 0, not by 0 / 0.


def paired_iou(boxes: npt.ArrayLike, boxes_pred: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over union of row i with row i (Jaccard index).

    A box that is inverted along an axis has no extent there, as in `loc_keras.boxes`.

    Args:
        boxes: (N, 4), (x1, y1, x2, y2) in any unit.
        boxes_pred: (N, 4) in the same unit.

    Returns:
        float64 (N,), in [0, 1]; NaN where a coordinate is.
    """
    low, high = _corners(boxes)
    low_pred, high_pred = _corners(boxes_pred)
    shared = np.maximum(np.minimum(high, high_pred) - np.maximum(low, low_pred), 0.0).prod(axis=1)
    union = (high - low).prod(axis=1) + (high_pred - low_pred).prod(axis=1) - shared
    safe = np.where(union <= _NEGLIGIBLE, 1.0, union)
    return np.where(union <= _NEGLIGIBLE, 0.0, shared / safe)


def corner_errors(boxes: npt.ArrayLike, boxes_pred: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean distance of the two top left and of the two bottom right corners (Euclidean).

    Args:
        boxes: (N, 4), (x1, y1, x2, y2) in any unit.
        boxes_pred: (N, 4) in the same unit.

    Returns:
        float64 (N,), at least 0, in that unit.
    """
    moves = np.asarray(boxes, np.float64) - np.asarray(boxes_pred, np.float64)
    return (np.hypot(moves[:, 0], moves[:, 1]) + np.hypot(moves[:, 2], moves[:, 3])) / 2


def top_k_hits(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, k: int
) -> npt.NDArray[np.bool_]:
    """Whether the true class is among the k most probable ones.

    Ties are broken as in `loc_keras.metrics.hits_top_k`: of equal classes the smaller index comes
    first, so a constant answer is right for k classes only.

    Args:
        labels: int (N,), in 0..K - 1.
        probabilities: (N, K).
        k: At least 1.

    Returns:
        bool (N,).
    """
    labels, values = np.asarray(labels), np.asarray(probabilities)
    own = np.take_along_axis(values, labels[:, None], axis=1)
    before = np.arange(values.shape[1]) < labels[:, None]
    # Counted this way round, a comparison with NaN never helps the true class.
    behind = (values < own) | ((values == own) & ~before)
    return np.count_nonzero(~behind, axis=1) < k


def _corners(boxes: npt.ArrayLike) -> tuple[Boxes, Boxes]:
    """Top left and bottom right corners, (N, 2) each; both at the middle where inverted."""
    values = np.asarray(boxes, np.float64)
    low, high = values[:, :2], values[:, 2:]
    middle = (low + high) / 2
    return np.minimum(low, middle), np.maximum(high, middle)
