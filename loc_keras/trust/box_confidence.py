"""The probability that a box is good (IoU of at least .5), from signals beside the image.

A logistic regression on standardised signals, such as the class probability, the spread of each
side or the box's size, fitted on calibration images. An L2 penalty holds its weights near what is
known before (`prior`; without one, near 0: Hoerl and Kennard 1970; le Cessie and van Houwelingen
1992): a Gaussian prior. How strong it is depends on how many images of the rarer kind, good or bad
boxes, there are:

- ten or more: chosen by five-fold cross-validation on the log loss, from a thousand times weaker
  to a hundred times stronger than unit variance of the weights; same images, same choice;
- three to nine: fixed at ten times stronger, too few being left to choose by;
- fewer: the prior's weights as they are, so that boxes are still ranked, and the bias at which the
  mean probability is the smoothed share of good boxes, (good + 1) / (images + 2) (Laplace's rule of
  succession).

The regression is linear in what it is given: a signal that is skewed, such as a size, does better
as its logarithm, which the caller takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from keras import ops
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit
from sklearn.model_selection import StratifiedKFold

from loc_keras.boxes import Tensor
from loc_keras.errors import TrustError

Floats = npt.NDArray[np.float64]

GOOD_IOU = 0.5

_FEWEST_TO_CHOOSE, _FEWEST_TO_FIT = 10, 3
# Inverse strengths of the penalty, scikit-learn's C.
_STRENGTHS = tuple(float(c) for c in 10.0 ** np.arange(-2, 4))
_FIXED_STRENGTH = 0.1
_FOLDS, _SEED = 5, 0


@dataclass(frozen=True)
class BoxConfidence:
    """A fitted regression; all tuples have one number for each signal.

    Attributes:
        names: Of the signals.
        mean: Of the calibration images; a signal that is NaN counts as this.
        scale: Standard deviation of the calibration images; 1 where it is 0.
        low: Smallest value there; smaller ones count as this.
        high: Largest value there; larger ones count as this.
        weights: Of the standardised signals.
        bias: Log odds at the mean.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float


def fit_box_confidence(
    signals: Mapping[str, npt.ArrayLike],
    good: npt.ArrayLike,
    prior: Mapping[str, float] | None = None,
) -> BoxConfidence:
    """Fits the regression on images with an object that the model was not trained on.

    Args:
        signals: By name, each float (N,), finite.
        good: bool (N,), whether each box has an IoU of at least GOOD_IOU.
        prior: Weights of standardised signals that are thought right before any image is seen;
            0 for those without one. Names without a signal are not looked at.

    Raises:
        TrustError: There is no image or no signal, or a signal does not fit `good` or is not
            finite.
    """
    is_good = np.asarray(good, bool)
    columns = {name: np.asarray(values, np.float64) for name, values in signals.items()}
    _check(columns, is_good)
    values = np.stack(list(columns.values()), axis=1)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    # Equal numbers have a mean that is off in the last bit, and so a deviation just above 0; and a
    # deviation must not vanish in float32, in which it is applied.
    still = (values.min(axis=0) == values.max(axis=0)) | (scale < np.finfo(np.float32).tiny)
    scale = np.where(still, 1.0, scale)
    before = np.array([(prior or {}).get(name, 0.0) for name in columns])
    weights, bias = _regression((values - mean) / scale, is_good, before)
    return BoxConfidence(
        names=tuple(columns),
        mean=_numbers(mean),
        scale=_numbers(scale),
        low=_numbers(values.min(axis=0)),
        high=_numbers(values.max(axis=0)),
        weights=_numbers(weights),
        bias=bias,
    )


def apply_box_confidence(signals: Mapping[str, Tensor], fitted: BoxConfidence) -> Tensor:
    """Probability that each box is good.

    Args:
        signals: By name, each (N,); those that were not fitted are not looked at.
        fitted: See `fit_box_confidence`.

    Returns:
        float32 (N,), in [0, 1], never NaN.

    Raises:
        TrustError: A signal is missing.
    """
    missing = [name for name in fitted.names if name not in signals]
    if missing:
        raise TrustError(
            f"The confidence of boxes was fitted on the signals {', '.join(fitted.names)}, but "
            f"{', '.join(missing)} is not given; fit it again on the signals there are."
        )
    values = ops.stack([ops.cast(signals[name], "float32") for name in fitted.names], axis=-1)
    mean, scale, low, high, weights = (
        ops.convert_to_tensor(row, dtype="float32")
        for row in (fitted.mean, fitted.scale, fitted.low, fitted.high, fitted.weights)
    )
    values = ops.where(ops.isnan(values), mean, values)
    standard = (ops.minimum(ops.maximum(values, low), high) - mean) / scale
    return ops.sigmoid(ops.sum(standard * weights, axis=-1) + fitted.bias)


def _regression(
    standard: Floats, good: npt.NDArray[np.bool_], prior: Floats
) -> tuple[Floats, float]:
    """Weights (S,) and bias of standardised signals (N, S)."""
    rarer = int(min(good.sum(), (~good).sum()))
    if rarer < _FEWEST_TO_FIT:
        return prior, _bias_for_share(standard @ prior, (good.sum() + 1) / (len(good) + 2))
    if rarer < _FEWEST_TO_CHOOSE:
        return _penalised(standard, good, prior, _FIXED_STRENGTH)
    return _penalised(standard, good, prior, _chosen_strength(standard, good, prior))


def _bias_for_share(odds: Floats, share: float) -> float:
    """The bias at which the mean probability of log odds (N,) is a share in (0, 1)."""
    wide = float(np.abs(odds).max()) + abs(float(logit(share))) + 1.0
    return float(brentq(lambda bias: float(expit(odds + bias).mean()) - share, -wide, wide))


def _chosen_strength(standard: Floats, good: npt.NDArray[np.bool_], prior: Floats) -> float:
    """The strength with the least log loss on images that were left out; of equal ones the most."""
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=_SEED)
    parts = list(folds.split(standard, good))

    def loss(strength: float) -> float:
        left_out = []
        for fit, test in parts:
            weights, bias = _penalised(standard[fit], good[fit], prior, strength)
            left_out.append(_log_losses(standard[test] @ weights + bias, good[test]))
        return float(np.mean([losses.mean() for losses in left_out]))

    return min(_STRENGTHS, key=loss)


def _penalised(
    standard: Floats, good: npt.NDArray[np.bool_], prior: Floats, strength: float
) -> tuple[Floats, float]:
    """Weights and bias with the least `strength * log loss + |weights - prior|^2 / 2`."""

    def cost(moved: Floats) -> tuple[float, Floats]:
        odds = standard @ (prior + moved[:-1]) + moved[-1]
        slope = strength * (expit(odds) - good)
        gradient = np.append(slope @ standard + moved[:-1], slope.sum())
        total = strength * _log_losses(odds, good).sum() + moved[:-1] @ moved[:-1] / 2
        return float(total), gradient

    start = np.append(np.zeros(len(prior)), logit((good.sum() + 1) / (len(good) + 2)))
    found = minimize(
        cost, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 1e-14}
    )
    return prior + found.x[:-1], float(found.x[-1])


def _log_losses(odds: Floats, good: npt.NDArray[np.bool_]) -> Floats:
    """Minus the log probability of what was the case, (N,)."""
    return np.asarray(np.logaddexp(0, np.where(good, -odds, odds)))


def _check(columns: Mapping[str, npt.NDArray[np.float64]], good: npt.NDArray[np.bool_]) -> None:
    if not columns or good.ndim != 1 or not len(good):
        raise TrustError(
            f"The confidence of boxes needs one or more signals of one or more images, but has "
            f"{len(columns)} signals of images of the shape {good.shape}."
        )
    for name, values in columns.items():
        if values.shape != good.shape:
            raise TrustError(
                f"The signal {name!r} needs one number for each of the {len(good)} images, but "
                f"has the shape {values.shape}."
            )
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise TrustError(
                f"The signal {name!r} is not a finite number for {bad} of {len(good)} images; "
                f"leave the signal out or mend it."
            )


def _numbers(row: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(number) for number in row)
