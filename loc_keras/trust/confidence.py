"""Probabilities that come true as often as they say: of the class, and of a good box.

**The class**, by temperature scaling: all logits are divided by one number T that minimises the
negative log-likelihood of calibration images (Guo et al. 2017, section 4.2). The logits are taken
back from the probabilities, log p, which differ from the model's own by a constant for each image
that the softmax does not see. So it works on any model's answer. A weak prior keeps T near 1 where
images are few.

**The box** (IoU of at least .5), by a logistic regression on standardised signals such as the class
probability, the spread of each side or the box's size. It is linear in them: a signal that is
skewed, such as a size, does better as its logarithm. An L2 penalty holds its weights near what is
known before (`PRIOR`; without one, near 0: Hoerl and Kennard 1970; le Cessie and van Houwelingen
1992): a Gaussian prior. How strong it is depends on how many images of the rarer kind, good or bad
boxes, there are:

- ten or more: chosen by five-fold cross-validation on the log loss, from a thousand times weaker
  to a hundred times stronger than unit variance of the weights; same images, same choice;
- three to nine: fixed at ten times stronger, too few being left to choose by;
- fewer: the prior's weights as they are, so that boxes are still ranked, and the bias at which the
  mean probability is the smoothed share of good boxes, (good + 1) / (images + 2) (Laplace's rule of
  succession).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from keras import ops
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.special import expit, logit, logsumexp
from sklearn.model_selection import StratifiedKFold

from loc_keras.boxes import Tensor, area, iou
from loc_keras.errors import TrustError

LOWEST, HIGHEST = 0.1, 10.0  # The range of T.

DEVIATION = 0.5
"""Of the Gaussian prior of log T around 0. If all calibration images are right, the likelihood
alone draws T to 0 and promises certainty after ten images; with many images the prior is nothing.
"""

# A probability that underflowed to 0 in float32 is at most this, and counts as this.
_TINY = float(np.finfo(np.float32).tiny)
# So far below 1 that it stays below after both are divided by the same float32.
_BELOW_ONE = 1 - 2.0**-22

_LEAST = 1e-6

PRIOR = {"class_log_odds": 0.5, "spread": -0.5, "widest_spread": -0.5}
"""What is known of the signals' weights before any image is seen, for `fit_box_confidence`.

Of a handful of sums tried, this one ranks good boxes before bad ones on five data sets nearly as
well as weights fitted to each (docs/experiments.md); it counts where calibration images show too
few bad boxes to fit anything.
"""

Floats = npt.NDArray[np.float64]

# Logarithms that differ by less are about equal: what rounding does, which is another in each
# format of an export, must not decide.
_LEAST_SCALE = 0.01

# Inverse strengths of the penalty, scikit-learn's C.
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


def fit_temperature(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Fits T in [LOWEST, HIGHEST] on images the model was not trained on.

    The likelihood of these images is never worse than with T = 1, which is also the answer where T
    makes no difference: for a single class, or if all classes are equally likely in each row.
    Probabilities are float (N, K), rows that add up to 1, labels int (N,).

    Raises:
        TrustError: A probability is not finite.
    """
    p, y = finite(probabilities, "probabilities"), np.asarray(labels, np.int64)
    logits = np.log(np.maximum(p, _TINY))
    own = np.take_along_axis(logits, y[:, None], axis=1)[:, 0]

    def cost(log_temperature: float) -> float:
        beta = np.exp(-log_temperature)
        prior = (log_temperature / DEVIATION) ** 2 / (2 * len(y))
        return float(np.mean(logsumexp(logits * beta, axis=1) - own * beta) + prior)

    ends = (float(np.log(LOWEST)), float(np.log(HIGHEST)))
    optimum = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-8})
    # The bounded method stops short of the ends.
    best = min((optimum.x, *ends), key=cost)
    gain = cost(0.0) - cost(best)
    # Below what rounding does to the mean, a gain is none.
    if gain <= 1e-12:
        return 1.0
    return float(np.clip(np.exp(best), LOWEST, HIGHEST))


def apply_temperature(probabilities: Tensor, temperature: Tensor | float) -> Tensor:
    """Probabilities (..., K), float32, after the logits were divided by T, which is above 0.

    The most probable class stays the most probable one, and classes that shared that place still
    do, so every answer stays as it was. Elsewhere order can only be lost to rounding, not turned.
    """
    before = ops.cast(probabilities, "float32")
    highest = ops.max(before, axis=-1, keepdims=True)
    odds = ops.maximum(before, _TINY) / highest
    powers = ops.exp(ops.log(odds) / temperature)
    # Two near probabilities can round to one, and equal ones apart (vectorised exp and its scalar
    # remainder differ in the last bit): either would let argmax name another class.
    powers = ops.where(before >= highest, 1.0, ops.minimum(powers, _BELOW_ONE))
    return powers / ops.sum(powers, axis=-1, keepdims=True)


def box_signals(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Numbers of each answer (`observed_outputs`) that go with the quality of its box.

    All are logarithms or log odds, so that a linear model can use them.

    Returns:
        Each float32 (N,): `class_log_odds` (of the top class; not with a single class), `log_area`
        of the box; of a distribution head `spread` (log of the sides' mean standard deviation in
        box sides), `widest_spread` (of the least certain side), `mean_iou` and `chance50` (log
        odds, see `SideStatistics`); of a mirrored look `mirrored_iou` (log odds) and
        `mirrored_class` (log of the probability that the top class has there).
    """
    boxes = ops.convert_to_tensor(outputs["bbox"])
    signals = {"log_area": ops.log(ops.maximum(area(boxes), _LEAST))}
    if outputs["softmax"].shape[-1] > 1:
        signals["class_log_odds"] = class_log_odds(outputs["softmax"])
    if "spread" in outputs:
        relative = ops.convert_to_tensor(outputs["spread"]) / box_sides(boxes)
        signals["spread"] = ops.log(ops.maximum(ops.mean(relative, axis=-1), _LEAST))
        signals["widest_spread"] = ops.log(ops.maximum(ops.max(relative, axis=-1), _LEAST))
        signals["mean_iou"] = _log_odds(outputs["mean_iou"])
        signals["chance50"] = _log_odds(outputs["chance50"])
    if "bbox_mirrored" in outputs:
        signals["mirrored_iou"] = _log_odds(iou(outputs["bbox"], outputs["bbox_mirrored"]))
        top = most_probable(outputs["softmax"])
        there = ops.take_along_axis(
            ops.convert_to_tensor(outputs["softmax_mirrored"]), top[:, None], axis=-1
        )[:, 0]
        signals["mirrored_class"] = ops.log(ops.maximum(there, _LEAST))
    return signals


def class_log_odds(probabilities: Tensor) -> Tensor:
    """Log odds of the most probable class, (N, K) to (N,); within about +-16.

    The other classes are summed, since 1 - p has no digits left where p is near 1.
    """
    values = ops.convert_to_tensor(probabilities)
    index = ops.arange(values.shape[-1], dtype="int32")
    top = ops.expand_dims(most_probable(values), -1)
    rest = ops.sum(ops.where(ops.equal(index, top), ops.zeros_like(values), values), axis=-1)
    return ops.log(ops.maximum(ops.max(values, axis=-1), 1e-7)) - ops.log(ops.maximum(rest, 1e-7))


def box_sides(boxes: Tensor) -> Tensor:
    """Width and height of a box as the scale of its sides, (N, 4): w, h, w, h; at least 1e-3."""
    size = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    return ops.concatenate([size, size], axis=-1)


@dataclass(frozen=True)
class BoxConfidence:
    """A fitted regression; all tuples have one number for each signal, by its name.

    Mean (as which NaN counts) and scale (0.01 or more) standardise signals, which are first cut
    to low and high, the extremes of the calibration images. The bias is the log odds at the mean.
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

    Signals, float (N,), are by name; `good`, bool (N,), says whether each box has an IoU of at
    least .5; `prior` has weights of standardised signals before any image is seen, else 0.

    Raises:
        TrustError: A signal is not finite.
    """
    is_good = np.asarray(good, bool)
    columns = {name: finite(own, f"values of {name}") for name, own in signals.items()}
    values = np.stack(list(columns.values()), axis=1)
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), _LEAST_SCALE)
    before = np.array([(prior or {}).get(name, 0.0) for name in columns])
    weights, bias = _regression((values - mean) / scale, is_good, before)
    return BoxConfidence(
        names=tuple(columns),
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        low=tuple(values.min(axis=0).tolist()),
        high=tuple(values.max(axis=0).tolist()),
        weights=tuple(weights.tolist()),
        bias=bias,
    )


def apply_box_confidence(signals: Mapping[str, Tensor], fitted: BoxConfidence) -> Tensor:
    """Probability that each box is good, float32 (N,), never NaN."""
    values = ops.stack([ops.cast(signals[name], "float32") for name in fitted.names], axis=-1)
    mean, scale, low, high, weights = (
        ops.convert_to_tensor(row, dtype="float32")
        for row in (fitted.mean, fitted.scale, fitted.low, fitted.high, fitted.weights)
    )
    values = ops.where(ops.isnan(values), mean, values)
    standard = (ops.minimum(ops.maximum(values, low), high) - mean) / scale
    return ops.sigmoid(ops.sum(standard * weights, axis=-1) + fitted.bias)


def most_probable(probabilities: Tensor) -> Tensor:
    """Index of the largest probability, the first of equals: float (N, K) to int32 (N,).

    `ops.argmax` of floats looks at their sign bits, which LiteRT, ONNX and OpenVINO cannot.
    """
    values = ops.convert_to_tensor(probabilities)
    is_highest = ops.equal(values, ops.max(values, axis=-1, keepdims=True))
    return ops.cast(ops.argmax(ops.cast(is_highest, "int32"), axis=-1), "int32")


def finite(values: npt.ArrayLike, what: str) -> Floats:
    """The values as float64; TrustError where one is no finite number."""
    found = np.asarray(values, np.float64)
    bad = int(np.count_nonzero(~np.isfinite(found)))
    if bad:
        raise TrustError(
            f"{bad} of {found.size} {what} are not finite numbers; look for NaN in the model's "
            "answers or in the true boxes."
        )
    return found


def _log_odds(share: Tensor) -> Tensor:
    inside = ops.clip(ops.convert_to_tensor(share), 1e-4, 1 - 1e-4)
    return ops.log(inside) - ops.log(1 - inside)


def _regression(
    standard: Floats, good: npt.NDArray[np.bool_], prior: Floats
) -> tuple[Floats, float]:
    """Weights (S,) and bias of standardised signals (N, S)."""
    rarer = int(min(good.sum(), (~good).sum()))
    if rarer < 3:
        odds, share = standard @ prior, (good.sum() + 1) / (len(good) + 2)
        wide = float(np.abs(odds).max()) + abs(float(logit(share))) + 1.0
        return prior, float(brentq(lambda bias: expit(odds + bias).mean() - share, -wide, wide))
    strength = 0.1 if rarer < 10 else _chosen_strength(standard, good, prior)
    return _penalised(standard, good, prior, strength)


def _chosen_strength(standard: Floats, good: npt.NDArray[np.bool_], prior: Floats) -> float:
    """The strength with the least log loss on images that were left out; of equal ones the most."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    parts = list(folds.split(standard, good))

    def loss(strength: float) -> float:
        left_out = []
        for fit, test in parts:
            weights, bias = _penalised(standard[fit], good[fit], prior, strength)
            left_out.append(_log_losses(standard[test] @ weights + bias, good[test]).mean())
        return float(np.mean(left_out))

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
    optimum = minimize(
        cost, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 1e-14}
    )
    return prior + optimum.x[:-1], float(optimum.x[-1])


def _log_losses(odds: Floats, good: npt.NDArray[np.bool_]) -> Floats:
    """Minus the log probability of what was the case, (N,)."""
    return np.asarray(np.logaddexp(0, np.where(good, -odds, odds)))
