"""Temporary."""

from typing import Any
import numpy as np
from sklearn.metrics import roc_auc_score
from loc_keras.evaluation.results import Estimate


def auroc_estimate(scores: Any, good: Any, bootstrap: Any) -> Estimate:
    if good.all() or not good.any():
        return Estimate(np.nan, np.nan, np.nan, len(good))
    return Estimate(float(roc_auc_score(good, scores)), np.nan, np.nan, len(good))
