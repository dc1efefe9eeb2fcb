"""Temporary."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
import numpy as np
from keras import ops
from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True)
class BoxConfidence:
    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float


def fit_box_confidence(signals: Mapping[str, Any], good: Any) -> BoxConfidence:
    names = tuple(signals)
    x = np.stack([signals[n] for n in names], 1)
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    if good.all() or not good.any():
        p = (good.sum() + 1) / (len(good) + 2)
        return BoxConfidence(
            names,
            tuple(mean.tolist()),
            tuple(scale.tolist()),
            (0.0,) * len(names),
            float(np.log(p / (1 - p))),
        )
    m = LogisticRegression(C=0.1).fit((x - mean) / scale, good)
    return BoxConfidence(
        names,
        tuple(mean.tolist()),
        tuple(scale.tolist()),
        tuple(m.coef_[0].tolist()),
        float(m.intercept_[0]),
    )


def apply_box_confidence(signals: Mapping[str, Any], fitted: BoxConfidence) -> Any:
    logit = fitted.bias
    for n, m, s, w in zip(fitted.names, fitted.mean, fitted.scale, fitted.weights, strict=True):
        logit = logit + w * (ops.cast(signals[n], "float32") - m) / s
    return ops.sigmoid(logit)
