"""Whether boxes lie in each other, and what they cover, in NumPy."""

from typing import Any

import numpy as np
import numpy.typing as npt


def within(inner: npt.NDArray[np.floating], outer: npt.NDArray[np.floating]) -> Any:
    """Whether one box lies in the other: (..., 4) each to bool (...)."""
    low, high = inner[..., :2] >= outer[..., :2], inner[..., 2:] <= outer[..., 2:]
    return low.all(axis=-1) & high.all(axis=-1)


def areas(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """What boxes cover, (..., 4) to float64 (...); 0 for one that is inverted."""
    sides = boxes[..., 2:].astype(np.float64) - boxes[..., :2]
    return np.asarray(sides.clip(0).prod(axis=-1))
