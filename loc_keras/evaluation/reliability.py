"""Whether probabilities mean what they say, and how well they rank: plain values and formulas.

The area under the ROC curve is the probability that a good answer, drawn at random, has the higher
number than a bad one, a tie counting one half (Hanley and McNeil 1982). Two numbers are compared on
the same draws, so what makes one draw easier makes it easier for both. Draws with answers of one
kind alone have no such area and are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.outcomes import Bootstrap, Estimate, Outcomes

DEFAULT = Bootstrap()


class ReliabilityBin(NamedTuple):
    """Images whose probability lies between two bounds.

    `stated` is their mean probability and `found` the share that were right; NaN in an empty bin.
    """

    low: float
    high: float
    images: int
    stated: float
    found: float


def reliability_bins(
    probabilities: npt.ArrayLike, right: npt.ArrayLike, bins: int = 15
) -> list[ReliabilityBin]:
    """Compares stated probabilities with what came true, in bins of equal width, from low to high.

    Probabilities are float (N,), in [0, 1]; whether what each promises came true is bool (N,). A
    bin holds its upper bound, the first also 0.
    """
    stated = np.asarray(probabilities, np.float64)
    came = np.asarray(right, np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.digitize(stated, edges[1:-1], right=True), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(place, stated, bins) / counts
        shares = np.bincount(place, came, bins) / counts
    return [
        ReliabilityBin(float(edges[b]), float(edges[b + 1]), int(counts[b]), float(m), float(s))
        for b, (m, s) in enumerate(zip(means, shares, strict=True))
    ]


def expected_calibration_error(
    probabilities: npt.ArrayLike, right: npt.ArrayLike, bins: int = 15
) -> float:
    """Mean gap of stated probability (N,) and share that came true, over bins, in [0, 1].

    NaN for no image. Naeini, Cooper and Hauskrecht 2015; in the form of Guo et al. 2017, equation
    3.
    """
    filled = [part for part in reliability_bins(probabilities, right, bins) if part.images]
    total = sum(part.images for part in filled)
    if not total:
        return float("nan")
    return sum(part.images * abs(part.stated - part.found) for part in filled) / total


def negative_log_likelihood(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean of minus the logarithm of the true class's probability, natural; at least 0.

    Probabilities (N, K) below the smallest float32 count as that; labels are int (N,).
    """
    values = np.asarray(probabilities, np.float64)
    own = np.take_along_axis(values, np.asarray(labels)[:, None], axis=1)
    return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())


class Guarantee(NamedTuple):
    """A promise, `label set`, `outer box` or `inner box`, and how often it was kept.

    Attributes:
        asked: Share of images for which it is promised, such as .9.
        kept: Share for which it was kept here.
        size: Mean size: labels in a set; share of the picture that a box covers.
        empty: Share of images with an empty set or box.
        p_value: Of being kept so seldom or less if it holds, over both kinds of images.
    """

    name: str
    asked: float
    kept: Estimate
    size: float
    empty: float
    p_value: float = 1.0


class ShiftTest(NamedTuple):
    """One signal's two-sample test, such as of `class confidence`.

    `distance` is the largest gap of the two distribution functions (Kolmogorov-Smirnov), in [0, 1];
    the p-value is corrected for the number of tests.
    """

    name: str
    distance: float
    p_value: float


@dataclass(frozen=True)
class Shift:
    """Whether images look to the model as others of a split did that it was not trained on.

    Attributes:
        p_value: Smallest of the corrected ones: below `level`, such as .01, the sets differ.
        tests: Of each signal, the most different first.
    """

    images: int
    calibration_images: int
    p_value: float
    level: float
    tests: Sequence[ShiftTest]
    split: str = "calibration"

    @property
    def found(self) -> bool:
        """Whether the two sets differ, so that the guarantees no longer hold."""
        return self.p_value < self.level


@dataclass(frozen=True, eq=False)
class TrustFigures:
    """What was stated about each answer, and how true it was over all images.

    `ece`, `nll` and `class_bins` are of the class probability, before and after calibration;
    `box_bins` and areas under the ROC curve are of `p_iou50`, for telling good boxes (IoU >= .5)
    from bad ones, NaN where all are alike; the gain is on the same draws, None where it was not
    measured.

    Of each image there are calibrated probabilities (N, K), `p_iou50` (N,), outer and inner boxes
    in px of the pictures, float64 (N, 4), inner ones all zero where empty, and label sets bool (N,
    K).
    """

    temperature: float
    ece: tuple[float, float]
    nll: tuple[float, float]
    class_bins: tuple[Sequence[ReliabilityBin], Sequence[ReliabilityBin]]
    box_bins: Sequence[ReliabilityBin]
    auroc_p_iou50: Estimate
    auroc_confidence: Estimate
    guarantees: Sequence[Guarantee]
    shift: Shift
    probabilities: npt.NDArray[np.floating]
    p_iou50: npt.NDArray[np.floating]
    outer_px: npt.NDArray[np.float64]
    inner_px: npt.NDArray[np.float64]
    label_sets: npt.NDArray[np.bool_]
    auroc_gain: Estimate | None = None
    guarantee: str = ""


def detection_scores(
    outcomes: Outcomes, trust: TrustFigures | None = None
) -> npt.NDArray[np.float64]:
    """Probability of each predicted class, calibrated where there is trust, float64 (N,).

    It says nothing about the box, and decides the order in which COCO's evaluator takes answers.
    """
    if trust is None:
        return outcomes.confidences
    own = np.take_along_axis(trust.probabilities, outcomes.predicted[:, None], axis=1)[:, 0]
    return np.asarray(own, np.float64)


def auroc_estimate(
    scores: npt.ArrayLike, good: npt.ArrayLike, bootstrap: Bootstrap = DEFAULT
) -> Estimate:
    """Area under the ROC curve of scores (N,); all NaN where all are `good`, bool (N,), or none."""
    return _estimate(good, bootstrap, scores)


def auroc_difference(
    scores: npt.ArrayLike,
    others: npt.ArrayLike,
    good: npt.ArrayLike,
    bootstrap: Bootstrap = DEFAULT,
) -> Estimate:
    """Area of `scores` minus that of `others`, in [-1, 1], on the same images and draws.

    Without 0 in the interval, the two differ; else as `auroc_estimate`.
    """
    return _estimate(good, bootstrap, scores, others)


def _areas(
    scores: npt.NDArray[np.float64], good: npt.NDArray[np.bool_], counts: npt.NDArray[np.integer]
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


def _estimate(good: npt.ArrayLike, bootstrap: Bootstrap, *scores: npt.ArrayLike) -> Estimate:
    """The area of the first scores, less that of the second where there are any."""
    is_good = np.asarray(good, bool)
    images, columns = is_good.size, [np.asarray(column, np.float64) for column in scores]

    def areas(counts: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        first, *second = (_areas(column, is_good, counts) for column in columns)
        return first - second[0] if second else first

    value = float(areas(np.ones((1, images), np.int64))[0])
    nothing = Estimate(value, float("nan"), float("nan"), images)
    if np.isnan(value):
        return nothing
    draws = bootstrap.resample(lambda counts: areas(counts)[:, None], images)[:, 0]
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return nothing
    low, high = bootstrap.interval(draws[:, None])
    return Estimate(value, float(low[0]), float(high[0]), images)
