"""How well a number tells good answers from bad ones, whatever its scale.

The area under the ROC curve is the probability that a good answer, drawn at random, has the higher
number than a bad one, a tie counting one half (Hanley and McNeil 1982). Intervals come from drawing
images with replacement (Efron 1979, percentile method); two numbers are compared on the same draws,
so what makes one draw easier makes it easier for both. Draws with answers of one kind alone have no
such area and are left out.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.results import Estimate

LEVEL, RESAMPLES, SEED = 0.95, 2000, 0

# Draws are made a few at a time: as (draws, images) all at once they would fill the memory.
_CELLS = 4_000_000


def auroc(scores: npt.ArrayLike, good: npt.ArrayLike) -> float:
    """Area under the ROC curve.

    Args:
        scores: float (N,), higher for answers that are thought good; no NaN.
        good: bool (N,).

    Returns:
        In [0, 1]; .5 is chance, NaN where all answers are good, or all bad.
    """
    counts = np.ones((1, np.asarray(good).size))
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
    draws = [_areas(values, is_good, counts) for counts in _draws(is_good.size, resamples, seed)]
    return _estimate(auroc(values, is_good), np.concatenate(draws), level, is_good.size)


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
    draws = [
        _areas(one, is_good, counts) - _areas(two, is_good, counts)
        for counts in _draws(is_good.size, resamples, seed)
    ]
    value = auroc(one, is_good) - auroc(two, is_good)
    return _estimate(value, np.concatenate(draws), level, is_good.size)


def _draws(images: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """How often each image is in each draw, in portions (some draws, N)."""
    rng = np.random.default_rng(seed)
    most = max(1, _CELLS // max(1, images))
    for start in range(0, resamples, most):
        draws = min(most, resamples - start)
        places = rng.integers(max(1, images), size=(draws, images))
        places += images * np.arange(draws)[:, None]
        counts = np.bincount(places.ravel(), minlength=draws * images)
        yield counts.reshape(draws, images).astype(np.float64)


def _areas(
    scores: npt.NDArray[np.float64],
    good: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.float64],
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


def _estimate(value: float, draws: npt.NDArray[np.float64], level: float, images: int) -> Estimate:
    draws = draws[~np.isnan(draws)]
    if np.isnan(value) or not draws.size:
        return Estimate(value, float("nan"), float("nan"), images)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), images)
