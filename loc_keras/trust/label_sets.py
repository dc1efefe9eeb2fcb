"""Label sets that hold the true class with a promised probability.

A label's score is the probability of all classes that are more likely than it (APS: Romano, Sesia
and Candès 2020, section 2, equation 5 with U = 0), plus `penalty` for each rank beyond `k_reg`
(RAPS: Angelopoulos et al. 2021, section 2). The set is every label whose score is at most the
conformal quantile of the true classes' scores.

The papers add a random share U of the label's own probability, so that a set has chance in it. Here
the same image gets the same set each time, and of the two ends U = 0 is the better one: the most
probable label scores 0, so it is in every set, and what it adds is counted. With U = 1 it may have
to be added to an empty set, which makes the sets larger than was asked for: on photographs of
twenty classes 5.2 labels at a coverage of .9, of which .94 held, where U = 0 has 3.6 and .90
(docs/experiments.md). The promise holds as "at least": a model that is right more often than was
asked gets sets of one label.

The default penalty, .01 from the second rank on, is as mild as can be while still telling equal
scores apart: the last labels of a confident model all have an APS score of 1 within float32.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from keras import ops

from loc_keras.boxes import Tensor
from loc_keras.trust.checks import class_answers
from loc_keras.trust.conformal_quantile import conformal_quantile
from loc_keras.trust.most_probable import most_probable

PENALTY, K_REG = 0.01, 1

# Sums of float32 differ by so much from one machine to another; counted in the user's favour.
_ROUNDING = 2e-6


@dataclass(frozen=True)
class LabelSets:
    """Fitted label sets.

    Attributes:
        coverage: Promised share of images whose true class is in the set, in (0, 1).
        threshold: Largest score of a label in the set.
        penalty: Added for each rank beyond `k_reg`, at least 0; 0 is APS.
        k_reg: Ranks without a penalty, at least 0.
    """

    coverage: float
    threshold: float
    penalty: float = PENALTY
    k_reg: int = K_REG


def fit_label_sets(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    coverage: float,
    penalty: float = PENALTY,
    k_reg: int = K_REG,
) -> LabelSets:
    """Fits the threshold on images the model was not trained on.

    Args:
        probabilities: float (N, K).
        labels: int (N,), true classes.
        coverage: Promised share, in (0, 1).
        penalty: Chosen before looking at these images, as is `k_reg`: else the promise is off.
        k_reg: See the module.

    Raises:
        TrustError: The images are too few for the coverage, or the arrays do not fit together.
    """
    quantile = conformal_quantile(true_scores(probabilities, labels, penalty, k_reg), coverage)
    return LabelSets(coverage, float(threshold_above(quantile)), penalty, k_reg)


def threshold_above(quantile: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The threshold that no rounding of a score at the quantile passes, same shape."""
    values = np.asarray(quantile, np.float64)
    return values + _ROUNDING * np.maximum(1.0, values)


def label_sets(probabilities: Tensor, fitted: LabelSets) -> Tensor:
    """Which labels each set holds.

    Args:
        probabilities: (N, K).
        fitted: See `fit_label_sets`.

    Returns:
        bool (N, K), the most probable label always included. A higher coverage, fitted on the same
        images, gives the same labels or more.
    """
    probabilities = ops.cast(probabilities, "float32")
    index = ops.arange(probabilities.shape[-1], dtype="int32")
    top = most_probable(probabilities)
    is_top = ops.equal(index, ops.expand_dims(top, axis=-1))
    scores = label_scores(probabilities, fitted.penalty, fitted.k_reg)
    return ops.logical_or(scores <= fitted.threshold, is_top)


def label_scores(probabilities: Tensor, penalty: float = PENALTY, k_reg: int = K_REG) -> Tensor:
    """Score of every label, float32 (N, K).

    Of classes with equal probability the one with the smaller index comes first, as for argmax.

    Args:
        probabilities: (N, K).
        penalty: See the module.
        k_reg: See the module.
    """
    probabilities = ops.cast(probabilities, "float32")
    order = ops.argsort(-probabilities, axis=-1)
    mass = ops.cumsum(ops.take_along_axis(probabilities, order, axis=-1), axis=-1)
    ranks = ops.arange(1, probabilities.shape[-1] + 1, dtype="float32")
    ahead = ops.concatenate([ops.zeros_like(mass[:, :1]), mass[:, :-1]], axis=-1)
    scores = ahead + penalty * ops.maximum(ranks - k_reg, 0.0)
    return ops.take_along_axis(scores, ops.argsort(order, axis=-1), axis=-1)


def true_scores(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    penalty: float = PENALTY,
    k_reg: int = K_REG,
) -> npt.NDArray[np.float64]:
    """Scores of the true classes, (N,), in the arithmetic that applies them later.

    Raises:
        TrustError: The arrays do not fit together.
    """
    p, y = class_answers(probabilities, labels)
    scores = ops.convert_to_numpy(label_scores(p, penalty, k_reg))
    return np.take_along_axis(scores, y[:, None], axis=1)[:, 0].astype(np.float64)
