"""Figures of ways that were measured in turn, round by round, on one noisy machine."""

from collections.abc import Sequence

import numpy as np


def median_ratio(measured: Sequence[float], base: Sequence[float]) -> float:
    """Median of the ratios within the rounds, each of which had one state of the machine."""
    return round(float(np.median(np.divide(measured, base))), 3)
