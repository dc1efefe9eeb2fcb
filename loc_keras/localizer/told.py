"""From a row of a model's outputs to an answer in px of the picture: plain values, no framework."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from loc_keras.localizer.results import Box, ClassScore, Localization

Arrays = Mapping[str, npt.NDArray]


def localization_of(
    arrays: Arrays,
    row: int,
    size: tuple[int, int],
    names: Sequence[str],
    *,
    background: int | None,
    top_k: int,
) -> Localization:
    """One answer out of a batch of outputs.

    Args:
        arrays: `softmax` (N, K) and `bbox` (N, 4) and, with trust, `softmax_calibrated`, `p_iou50`
            (N,), `box_outer`, `box_inner` and `label_set` bool (N, K). Boxes are (x1, y1, x2, y2)
            in fractions of the original.
        row: Which of the N.
        size: Height and width of the original in px.
        names: Of the classes by index.
        background: Index of the class of images without an object; None without one.
        top_k: How many classes are told, at least one.
    """
    # By the raw probabilities, since calibrated ones may round to ties.
    order = np.argsort(-arrays["softmax"][row], kind="stable").tolist()
    scores = arrays.get("softmax_calibrated", arrays["softmax"])[row].tolist()
    best = [ClassScore(names[at], at, scores[at]) for at in order[:top_k]]
    shown = order[0] != background
    trusted = "label_set" in arrays
    fraction = arrays["bbox"][row]
    return Localization(
        label=best[0].label,
        index=best[0].index,
        score=best[0].score,
        top_k=tuple(best),
        found=shown,
        box=_box_px(fraction, size) if shown else None,
        box_fraction=_box(fraction) if shown else None,
        size=size,
        p_iou50=float(arrays["p_iou50"][row]) if trusted and shown else None,
        box_outer=_box_px(arrays["box_outer"][row], size) if trusted and shown else None,
        box_inner=_inner_px(arrays["box_inner"][row], size) if trusted and shown else None,
        label_set=_set(arrays["label_set"][row], order, names) if trusted else None,
    )


def _set(members: npt.NDArray, order: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names[at] for at in order if members[at])


def _inner_px(fraction: npt.NDArray, size: tuple[int, int]) -> Box | None:
    x1, y1, x2, y2 = fraction.tolist()
    return _box_px(fraction, size) if x2 > x1 and y2 > y1 else None


def _box_px(fraction: npt.NDArray, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = _box(fraction)
    height, width = size
    return x1 * width, y1 * height, x2 * width, y2 * height


def _box(fraction: npt.NDArray) -> Box:
    x1, y1, x2, y2 = (min(max(side, 0.0), 1.0) for side in fraction.tolist())
    return x1, y1, x2, y2
