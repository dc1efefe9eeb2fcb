"""Truth and answer of every image of a split, and what follows from them image by image."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.per_image import corner_errors, paired_iou, top_k_hits

TOP = 5
BOX_HIT = 0.5
"""Least IoU at which a box counts as right (Russakovsky et al. 2015)."""


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

    def take(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Outcomes":
        """The outcomes of these images: indices, or bool (N,)."""
        return Outcomes(
            labels=self.labels[index],
            probabilities=self.probabilities[index],
            boxes_px=self.boxes_px[index],
            boxes_pred_px=self.boxes_pred_px[index],
            sizes=self.sizes[index],
            background=self.background,
        )

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Whether each image shows an object, bool (N,); box figures are of these alone."""
        if self.background is None:
            return np.ones(len(self), bool)
        return self.labels != self.background

    @cached_property
    def predicted(self) -> npt.NDArray[np.int64]:
        """The most probable class, int64 (N,); of equal ones the first."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def confidences(self) -> npt.NDArray[np.float64]:
        """Probability of the predicted class, float64 (N,)."""
        return self.probabilities.max(axis=1).astype(np.float64)

    @cached_property
    def class_hits(self) -> npt.NDArray[np.bool_]:
        """Whether the predicted class is the true one, bool (N,)."""
        return top_k_hits(self.labels, self.probabilities, 1)

    @cached_property
    def top5_hits(self) -> npt.NDArray[np.bool_]:
        """Whether the true class is among the five most probable ones, bool (N,)."""
        return top_k_hits(self.labels, self.probabilities, TOP)

    @cached_property
    def ious(self) -> npt.NDArray[np.float64]:
        """IoU of true and predicted box, float64 (N,); NaN where there is no object."""
        return np.where(self.shown, paired_iou(self.boxes_px, self.boxes_pred_px), np.nan)

    @cached_property
    def box_hits(self) -> npt.NDArray[np.bool_]:
        """Whether the IoU is at least .5, bool (N,); false where there is no object."""
        return self.ious >= BOX_HIT

    @cached_property
    def corner_errors_px(self) -> npt.NDArray[np.float64]:
        """Mean distance of the box's two corners in px, float64 (N,); NaN without an object."""
        return np.where(self.shown, corner_errors(self.boxes_px, self.boxes_pred_px), np.nan)

    @cached_property
    def covers(self) -> npt.NDArray[np.float64]:
        """Share of each picture that the true box covers, float64 (N,); 0 without an object."""
        sides = (self.boxes_px[:, 2:] - self.boxes_px[:, :2]) / self.sizes[:, ::-1]
        return sides.prod(axis=1)

    @cached_property
    def centres(self) -> npt.NDArray[np.float64]:
        """Centres (x, y) of the true boxes in fractions of the picture, float64 (N, 2)."""
        return (self.boxes_px[:, :2] + self.boxes_px[:, 2:]) / 2 / self.sizes[:, ::-1]
