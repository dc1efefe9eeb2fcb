"""The quantile of split conformal prediction, and how many images a coverage needs.

Scores say how badly an answer misses the truth. If the n calibration images and a new image are
exchangeable, the new score is at most the k-th smallest of the n, k = ceil((n + 1) coverage), with
a probability of at least `coverage` and, without ties, exactly k / (n + 1): over new calibration
sets and new images together (Vovk et al. 2005; Lei et al. 2018, theorem 2.2).

A coverage is read as the fraction that its decimals mean, so that .99 of 100 is 99, although the
float nearest to .99 is not a hundredth: (99 + 1) * .99 in floats may be just above 99.
"""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from loc_keras.errors import TrustError

# Far finer than any level that someone means, and coarse enough to read 1 - .9 as a tenth.
_LARGEST_DENOMINATOR = 10**9


def conformal_quantile(scores: npt.ArrayLike, coverage: float) -> float:
    """The ceil((n + 1) coverage)-th smallest score.

    Args:
        scores: float (n,), finite, of the calibration images.
        coverage: Promised share, in (0, 1).

    Returns:
        One of the scores.

    Raises:
        TrustError: The images are too few for the coverage, a score is not finite, or the
            coverage is out of range.
    """
    values = np.asarray(scores, np.float64).ravel()
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise TrustError(
            f"{bad} of {values.size} calibration scores are not finite numbers; look for NaN in "
            f"the model's answers or in the true boxes."
        )
    rank = conformal_rank(values.size, coverage)
    return float(np.partition(values, rank - 1)[rank - 1])


def conformal_rank(images: int, coverage: float) -> int:
    """Which of the sorted calibration scores is the quantile, counted from 1.

    Args:
        images: How many there are to calibrate with, n.
        coverage: Promised share, in (0, 1).

    Returns:
        ceil((n + 1) coverage), in 1..n.

    Raises:
        TrustError: It would be n + 1, so no score promises this much; or the coverage is out of
            range.
    """
    rank = math.ceil((images + 1) * _exact(coverage))
    if rank <= images:
        return rank
    lower = f" or ask for {highest_coverage(images):g} or less" if images else ""
    raise TrustError(
        f"A coverage of {float(coverage):g} needs {least_images(coverage)} calibration images or "
        f"more, but there are {images}; add images{lower}."
    )


def least_images(coverage: float) -> int:
    """Fewest calibration images that can promise the coverage: 1 / (1 - coverage) - 1, rounded up.

    Raises:
        TrustError: The coverage is out of range.
    """
    share = _exact(coverage)
    return math.ceil(share / (1 - share))


def highest_coverage(images: int) -> float:
    """Highest coverage that so many images can promise: n / (n + 1), cut after four decimals.

    From 9,999 images on it stays at .9999.
    """
    return min(10_000 * images // (images + 1), 9_999) / 10_000


def _exact(coverage: float) -> Fraction:
    """The fraction that was meant, in (0, 1)."""
    if not 0 < coverage < 1:
        raise TrustError(
            f"A coverage is a share between 0 and 1, such as 0.9, but {coverage} was asked for."
        )
    # str() of a float is the shortest decimal text that gives it back: the one someone wrote.
    share = Fraction(str(coverage)).limit_denominator(_LARGEST_DENOMINATOR)
    if not 0 < share < 1:
        raise TrustError(
            f"A coverage of {coverage} is too near to 0 or 1 to be told from it; ask for one "
            f"between 0.000001 and 0.999999."
        )
    return share
