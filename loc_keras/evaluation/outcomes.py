"""Truth and answer of every image of a split, and what follows from them image by image."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

TOP = 5


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What was there and what was answered, one row an image.

    Boxes are (x1, y1, x2, y2) in px of each original picture, inside it.

    Attributes:
        labels: True classes, int32 (N,).
        probabilities: float (N, K), of each class.
        boxes_px: True boxes, float64 (N, 4); all zero where the image shows no object.
        boxes_pred_px: Predicted boxes, float64 (N, 4).
        sizes: Height and width of the pictures in px, int32 (N, 2).
        background: Index of the class of images without an object; None where all show one.
    """

    labels: npt.NDArray[np.int32]
    probabilities: npt.NDArray[np.floating]
    boxes_px: npt.NDArray[np.float64]
    boxes_pred_px: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.int32]
    background: int | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Whether each image shows an object, bool (N,); box figures are of these alone."""
        if self.background is None:
            return np.ones(len(self), bool)
        return self.labels != self.background
