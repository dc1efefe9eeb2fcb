"""Temperature scaling: class probabilities that come true as often as they say.

All logits are divided by one number T that minimises the negative log-likelihood of calibration
images (Guo et al. 2017, section 4.2): above 1 the probabilities are drawn together, below 1 apart.
The logits are taken back from the probabilities, log p, which differ from the model's own by a
constant for each image that the softmax does not see. So it works on any model's answer. A weak
prior keeps T near 1 where images are few.
"""

import numpy as np
import numpy.typing as npt
from keras import ops
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from loc_keras.boxes import Tensor
from loc_keras.trust.checks import class_answers

LOWEST, HIGHEST = 0.1, 10.0
"""The range of T."""

DEVIATION = 0.5
"""Of the Gaussian prior of log T around 0. If all calibration images are right, the likelihood
alone draws T to 0 and promises certainty after ten images; with many images the prior is nothing.
"""

# A probability that underflowed to 0 in float32 is at most this, and counts as this.
_TINY = float(np.finfo(np.float32).tiny)
# So far below 1 that it stays below after both are divided by the same float32.
_BELOW_ONE = 1 - 2.0**-22


def fit_temperature(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Fits T on images the model was not trained on.

    The likelihood of these images is never worse than with T = 1, which is also the answer where T
    makes no difference: for a single class, or if all classes are equally likely in each row.

    Args:
        probabilities: float (N, K), of each class, rows that add up to 1.
        labels: int (N,), true classes.

    Returns:
        T in [LOWEST, HIGHEST].

    Raises:
        TrustError: There is no image, or the arrays do not fit together.
    """
    p, y = class_answers(probabilities, labels)
    logits = np.log(np.maximum(p, _TINY))
    own = np.take_along_axis(logits, y[:, None], axis=1)[:, 0]

    def cost(log_temperature: float) -> float:
        beta = np.exp(-log_temperature)
        prior = (log_temperature / DEVIATION) ** 2 / (2 * len(y))
        return float(np.mean(logsumexp(logits * beta, axis=1) - own * beta) + prior)

    ends = (float(np.log(LOWEST)), float(np.log(HIGHEST)))
    found = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-8})
    # The bounded method stops short of the ends.
    best = min((found.x, *ends), key=cost)
    gain = cost(0.0) - cost(best)
    # Below what rounding does to the mean, a gain is none.
    if gain <= 1e-12:
        return 1.0
    return float(np.clip(np.exp(best), LOWEST, HIGHEST))


def apply_temperature(probabilities: Tensor, temperature: Tensor | float) -> Tensor:
    """Probabilities after the logits were divided by T.

    The most probable class stays the most probable one, and classes that shared that place still
    do, so every answer stays as it was. Elsewhere order can only be lost to rounding, not turned.

    Args:
        probabilities: (..., K), of the softmax.
        temperature: Above 0.

    Returns:
        float32 (..., K); rows add up to 1 within rounding.
    """
    before = ops.cast(probabilities, "float32")
    highest = ops.max(before, axis=-1, keepdims=True)
    odds = ops.maximum(before, _TINY) / highest
    powers = ops.exp(ops.log(odds) / temperature)
    # Two near probabilities can round to one, and equal ones apart (vectorised exp and its scalar
    # remainder differ in the last bit): either would let argmax name another class.
    powers = ops.where(before >= highest, 1.0, ops.minimum(powers, _BELOW_ONE))
    return powers / ops.sum(powers, axis=-1, keepdims=True)
