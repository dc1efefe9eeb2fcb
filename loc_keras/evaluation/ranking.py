"""How well a number tells good answers from bad ones, whatever its scale.

The area under the ROC curve is the probability that a good answer, drawn at random, has the higher
number than a bad one, a tie counting one half (Hanley and McNeil 1982). Intervals come from drawing
images with replacement (Efron 1979, percentile method); two numbers are compared on the same draws,
so what makes one draw easier makes it easier for both. Draws with answers of one kind alone have no
such area and are left out.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.evaluation.results import Estimate

LEVEL, RESAMPLES, SEED = 0.95, 2000, 0


def auroc(scores: npt.ArrayLike, good: npt.ArrayLike) -> float:
    """Area under the ROC curve.

    Args:
        scores: float (N,), higher for answers that are thought good; no NaN.
        good: bool (N,).

    Returns:
        In [0, 1]; .5 is chance, NaN where all answers are good, or all bad.
    """
    counts = np.ones((1, np.asarray(good).size), np.int64)
    return float(_areas(np.asarray(scores, np.float64), np.asarray(good, bool), counts)[0])


def auroc_estimate(
    scores: npt.ArrayLike,
    good: npt.ArrayLike,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Area under the ROC curve with its bootstrap interval.

    Args:
        scores: float (N,).
        good: bool (N,).
        level: Coverage of the interval.
        resamples: How often images are drawn.
        seed: Of the draws.

    Returns:
        All NaN where all answers are good, or all bad.
    """
    values, is_good = np.asarray(scores, np.float64), np.asarray(good, bool)
    value = auroc(values, is_good)
    return _estimate(
        value, lambda counts: _areas(values, is_good, counts), is_good, level, resamples, seed
    )


def auroc_difference(
    scores: npt.ArrayLike,
    others: npt.ArrayLike,
    good: npt.ArrayLike,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """By how much one number ranks better than another one, on the same images.

    Args:
        scores: float (N,).
        others: float (N,), of the same answers.
        good: bool (N,).
        level: Coverage of the interval; without 0 in it, the two differ.
        resamples: How often images are drawn.
        seed: Of the draws.

    Returns:
        Area of `scores` minus that of `others`, in [-1, 1]; all NaN where all answers are good, or
        all bad.
    """
    is_good = np.asarray(good, bool)
    one, two = np.asarray(scores, np.float64), np.asarray(others, np.float64)
    value = auroc(one, is_good) - auroc(two, is_good)
    return _estimate(
        value,
        lambda counts: _areas(one, is_good, counts) - _areas(two, is_good, counts),
        is_good,
        level,
        resamples,
        seed,
    )


def _areas(
    scores: npt.NDArray[np.float64],
    good: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.integer],
) -> npt.NDArray[np.float64]:
    """Area of each draw, (draws,), NaN where it holds one kind alone; counts (draws, N)."""
    if not good.any() or good.all():
        return np.full(len(counts), np.nan)
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] > ranked[:-1]])
    # By distinct score, from low to high: how many good and bad answers have it.
    goods = np.add.reduceat(counts[:, order] * good[order], starts, axis=1)
    bads = np.add.reduceat(counts[:, order] * ~good[order], starts, axis=1)
    beaten = np.cumsum(bads, axis=1) - bads / 2
    pairs = goods.sum(axis=1) * bads.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return (goods * beaten).sum(axis=1) / pairs


def _estimate(
    value: float,
    areas: Callable[[npt.NDArray[np.integer]], npt.NDArray[np.float64]],
    good: npt.NDArray[np.bool_],
    level: float,
    resamples: int,
    seed: int,
) -> Estimate:
    """A value with the interval of `areas`, which gives (draws,) of counts (draws, N)."""
    if np.isnan(value):
        return Estimate(value, float("nan"), float("nan"), good.size)
    bootstrap = Bootstrap(level, resamples, seed)
    draws = bootstrap.resample(lambda counts: areas(counts)[:, None], good.size)[:, 0]
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return Estimate(value, float("nan"), float("nan"), good.size)
    low, high = bootstrap.interval(draws[:, None])
    return Estimate(value, float(low[0]), float(high[0]), good.size)
