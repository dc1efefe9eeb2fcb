"""How far a model's statements about its own answers were true on a split, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.reliability import ReliabilityBin
from loc_keras.evaluation.results import Estimate


class Guarantee(NamedTuple):
    """A promise and how often it was kept.

    Attributes:
        name: `label set`, `outer box` or `inner box`.
        asked: Share of images for which it is promised, such as .9.
        kept: Share for which it was kept here.
        size: Mean size: labels in a set; share of the picture that a box covers.
        empty: Share of images with an empty set or box.
        p_value: Probability that it would be kept so seldom or less if it holds: both the images
            here and those of calibration are a matter of luck.
    """

    name: str
    asked: float
    kept: Estimate
    size: float
    empty: float
    p_value: float = 1.0


class ShiftTest(NamedTuple):
    """One signal's two-sample test.

    Attributes:
        name: What was compared, such as `class confidence`.
        distance: Largest gap of the two distribution functions (Kolmogorov-Smirnov), in [0, 1].
        p_value: Corrected for the number of tests, in [0, 1].
    """

    name: str
    distance: float
    p_value: float


@dataclass(frozen=True)
class Shift:
    """Whether images look to the model as those of the calibration split did.

    Attributes:
        images: How many were compared.
        calibration_images: With how many.
        p_value: Smallest of the corrected ones: below `level` the sets differ.
        level: Of the test, such as .01.
        tests: Of each signal, the most different first.
    """

    images: int
    calibration_images: int
    p_value: float
    level: float
    tests: Sequence[ShiftTest]

    @property
    def found(self) -> bool:
        """Whether the two sets differ, so that the guarantees no longer hold."""
        return self.p_value < self.level


@dataclass(frozen=True, eq=False)
class TrustFigures:
    """What was stated about each answer, and how true it was over all images.

    Attributes:
        temperature: The one that the class logits are divided by.
        ece: Expected calibration error of the class probability, before and after.
        nll: Negative log-likelihood, before and after.
        class_bins: Reliability of the class probability, before and after.
        box_bins: Reliability of `p_iou50`.
        auroc_p_iou50: Area under the ROC curve of `p_iou50` for telling good boxes (IoU >= .5)
            from bad ones; NaN where all are good, or all bad.
        auroc_confidence: That of the class probability.
        guarantees: Of label sets and boxes.
        shift: Comparison with the calibration split.
        probabilities: Calibrated, float (N, K).
        p_iou50: Stated probability that the box has IoU >= .5, float (N,).
        outer_px: Outer boxes in px of the pictures, float64 (N, 4).
        inner_px: Inner boxes, likewise; all zero where empty.
        label_sets: bool (N, K).
        auroc_gain: `auroc_p_iou50` minus `auroc_confidence`, on the same draws; None where it was
            not measured.
    """

    temperature: float
    ece: tuple[float, float]
    nll: tuple[float, float]
    class_bins: tuple[Sequence[ReliabilityBin], Sequence[ReliabilityBin]]
    box_bins: Sequence[ReliabilityBin]
    auroc_p_iou50: Estimate
    auroc_confidence: Estimate
    guarantees: Sequence[Guarantee]
    shift: Shift
    probabilities: npt.NDArray[np.floating]
    p_iou50: npt.NDArray[np.floating]
    outer_px: npt.NDArray[np.float64]
    inner_px: npt.NDArray[np.float64]
    label_sets: npt.NDArray[np.bool_]
    auroc_gain: Estimate | None = None
