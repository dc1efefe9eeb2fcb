"""What an evaluation finds, as plain values that a page shows and a file keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Estimate(NamedTuple):
    """A figure with its bootstrap interval.

    Attributes:
        value: The figure; NaN where it is of no image.
        low: Lower end of the interval; NaN for fewer than two images.
        high: Upper end; likewise.
        images: Images that it is of.
    """

    value: float
    low: float
    high: float
    images: int


@dataclass(frozen=True)
class Group:
    """Figures of the images that have something in common.

    Attributes:
        name: What they share, in words, such as a class or "5 to 20 % of the picture".
        images: How many they are.
        figures: By name, those of `Evaluation.figures` but the rejections; box figures of a group
            without objects are NaN.
    """

    name: str
    images: int
    figures: Mapping[str, Estimate]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All figures of one split.

    Attributes:
        images: Images of the split.
        object_images: Those that show an object; box figures are of these.
        class_names: Name of each class, by index.
        figures: In the order they are shown: `class_accuracy, top5_accuracy, mean_iou, median_iou,
            acc50, acc75, acc90, top1_loc, top5_loc, gt_known_loc, max_box_acc_v2,
            corner_error_px`; with a background also `rejection, false_rejection`. The top-5
            figures are left out with five classes or fewer.
        floors: What a box that sees nothing scores, by its name (`constant box`, `centre box`):
            the box figures. Empty where no training box is known.
        errors: Shares of the images with an object: `right, class_wrong, box_wrong, both_wrong`.
        classes: Figures of each class, in order.
        sizes: Figures by the share of the picture that the object covers, from small to large.
        positions: Figures by where the object's centre is, nine fields row by row.
        confusion: int64 (K, K), images of true class (row) answered as (column).
        level: Coverage of the intervals, such as .95.
        resamples: Bootstrap resamples.
        seed: Of the resamples.
    """

    images: int
    object_images: int
    class_names: Sequence[str]
    figures: Mapping[str, Estimate]
    floors: Mapping[str, Mapping[str, Estimate]]
    errors: Mapping[str, Estimate]
    classes: Sequence[Group]
    sizes: Sequence[Group]
    positions: Sequence[Group]
    confusion: npt.NDArray[np.int64]
    level: float
    resamples: int
    seed: int
