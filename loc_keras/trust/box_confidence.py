"""The probability that a box is good (IoU of at least .5), from signals beside the image.

A logistic regression on standardised signals, such as the class probability, the spread of each
side or the box's size, fitted on calibration images. Its weights are held small by an L2 penalty
(Hoerl and Kennard 1970; le Cessie and van Houwelingen 1992). How strong it is depends on how many
images of the rarer kind, good or bad boxes, there are:

- ten or more: chosen by five-fold cross-validation on the log loss, from a thousand times weaker
  to a hundred times stronger than unit variance of the weights; same images, same choice;
- three to nine: fixed at ten times stronger, too few being left to choose by. On made data this
  was better than both the choice and the constant below;
- fewer: no regression; the smoothed share of good boxes, (good + 1) / (images + 2), for all
  (Laplace's rule of succession).

The regression is linear in what it is given: a signal that is skewed, such as a size, does better
as its logarithm, which the caller takes.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from keras import ops

from loc_keras.boxes import Tensor
from loc_keras.errors import TrustError

GOOD_IOU = 0.5

_FEWEST_TO_CHOOSE, _FEWEST_TO_FIT = 10, 3
# Inverse strengths of the penalty, scikit-learn's C.
_STRENGTHS = tuple(float(c) for c in 10.0 ** np.arange(-2, 4))
_FIXED_STRENGTH = 0.1
_FOLDS, _SEED = 5, 0
# Newton's method: a dozen signals make a small matrix, and a few steps reach the optimum.
_SOLVER = "newton-cholesky"


@dataclass(frozen=True)
class BoxConfidence:
    """A fitted regression; all tuples have one number for each signal.

    Attributes:
        names: Of the signals.
        mean: Of the calibration images; a signal that is NaN counts as this.
        scale: Standard deviation of the calibration images; 1 where it is 0.
        low: Smallest value there; smaller ones count as this.
        high: Largest value there; larger ones count as this.
        weights: Of the standardised signals; all 0 where there was too little to fit.
        bias: Log odds at the mean.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float


def fit_box_confidence(signals: Mapping[str, npt.ArrayLike], good: npt.ArrayLike) -> BoxConfidence:
    """Fits the regression on images with an object that the model was not trained on.

    Args:
        signals: By name, each float (N,), finite.
        good: bool (N,), whether each box has an IoU of at least GOOD_IOU.

    Raises:
        TrustError: There is no image or no signal, or a signal does not fit `good` or is not
            finite.
    """
    is_good = np.asarray(good, bool)
    columns = {name: np.asarray(values, np.float64) for name, values in signals.items()}
    _check(columns, is_good)
    values = np.stack(list(columns.values()), axis=1)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    # Equal numbers have a mean that is off in the last bit, and so a deviation just above 0.
    scale = np.where(values.min(axis=0) == values.max(axis=0), 1.0, scale)
    weights, bias = _regression((values - mean) / scale, is_good)
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
    standard: npt.NDArray[np.float64], good: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], float]:
    """Weights (S,) and bias of standardised signals (N, S)."""
    # Imported here: applying a fitted regression needs no scikit-learn.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

    rarer = int(min(good.sum(), (~good).sum()))
    if rarer < _FEWEST_TO_FIT:
        share = (good.sum() + 1) / (len(good) + 2)
        return np.zeros(standard.shape[1]), float(np.log(share / (1 - share)))
    if rarer < _FEWEST_TO_CHOOSE:
        model = LogisticRegression(C=_FIXED_STRENGTH, solver=_SOLVER)
    else:
        model = LogisticRegressionCV(
            Cs=_STRENGTHS,
            l1_ratios=(0,),
            cv=StratifiedKFold(_FOLDS, shuffle=True, random_state=_SEED),
            scoring="neg_log_loss",
            solver=_SOLVER,
            use_legacy_attributes=False,
        )
    with warnings.catch_warnings():
        # Where rounding leaves the line search nothing to gain, it says so and goes on with L-BFGS.
        warnings.filterwarnings("ignore", "Line search of Newton solver", ConvergenceWarning)
        model.fit(standard, good)
    return model.coef_[0], float(model.intercept_[0])


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
