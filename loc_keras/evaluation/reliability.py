"""Whether probabilities mean what they say: reliability bins and the numbers that sum them up."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class ReliabilityBin(NamedTuple):
    """Images whose probability lies between two bounds.

    Attributes:
        low: Lower bound of the probability.
        high: Upper bound.
        images: Images in the bin.
        stated: Their mean probability; NaN in an empty bin.
        found: Share of them that were right; NaN in an empty bin.
    """

    low: float
    high: float
    images: int
    stated: float
    found: float


def reliability_bins(
    probabilities: npt.ArrayLike, right: npt.ArrayLike, bins: int = 15
) -> list[ReliabilityBin]:
    """Compares stated probabilities with what came true, in bins of equal width.

    Args:
        probabilities: float (N,), in [0, 1].
        right: bool (N,), whether what each promises came true.
        bins: How many; a bin holds its upper bound, the first also 0.

    Returns:
        As many bins, from low to high.
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
    """Mean gap between stated probability and share that came true, over bins of equal width.

    Naeini, Cooper and Hauskrecht 2015; in the form of Guo et al. 2017, equation 3.

    Args:
        probabilities: float (N,), in [0, 1].
        right: bool (N,).
        bins: How many.

    Returns:
        In [0, 1]; NaN for no image.
    """
    found = [one for one in reliability_bins(probabilities, right, bins) if one.images]
    total = sum(one.images for one in found)
    if not total:
        return float("nan")
    return sum(one.images * abs(one.stated - one.found) for one in found) / total


def negative_log_likelihood(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean of minus the logarithm of the true class's probability, natural; at least 0.

    Args:
        probabilities: float (N, K); below the smallest float32 they count as that.
        labels: int (N,).
    """
    values = np.asarray(probabilities, np.float64)
    own = np.take_along_axis(values, np.asarray(labels)[:, None], axis=1)
    return float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean())
