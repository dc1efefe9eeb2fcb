"""Figures as columns: a number for each image, whose mean or median over images is the figure."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.evaluation.outcomes import BOX_HIT, TOP, Outcomes
from loc_keras.evaluation.per_image import corner_errors, paired_iou
from loc_keras.evaluation.results import Estimate

Column: TypeAlias = npt.NDArray[np.float64]

MEDIANS = frozenset({"median_iou"})
"""Figures that are medians; all others are means."""

REJECTIONS = ("rejection", "false_rejection")
_IOU_ACCURACIES = {"acc50": 0.5, "acc75": 0.75, "acc90": 0.9}
_MAX_BOX_ACC_V2 = (0.3, 0.5, 0.7)  # Thresholds of Choe et al. 2020.


def class_columns(outcomes: Outcomes) -> dict[str, Column]:
    """Figures of the class alone, of every image.

    Returns:
        `class_accuracy` and, with more than five classes, `top5_accuracy`; float64 (N,) each.
    """
    columns = {"class_accuracy": outcomes.class_hits.astype(np.float64)}
    if has_top5(outcomes):
        columns["top5_accuracy"] = outcomes.top5_hits.astype(np.float64)
    return columns


def object_columns(outcomes: Outcomes) -> dict[str, Column]:
    """Figures of boxes, and of boxes with classes, of the images that show an object.

    Top-1 and Top-5 localization are those of Russakovsky et al. (2015), as accuracies: the true
    class is among the first k, and the box has an IoU of at least .5.

    Returns:
        float64 (M,) each, M the number of those images, in the order of `Evaluation.figures`.
    """
    shown = outcomes.shown
    box = _box_columns(outcomes.ious[shown], outcomes.corner_errors_px[shown])
    joint = {"top1_loc": (outcomes.class_hits & outcomes.box_hits)[shown].astype(np.float64)}
    if has_top5(outcomes):
        joint["top5_loc"] = (outcomes.top5_hits & outcomes.box_hits)[shown].astype(np.float64)
    after = ("gt_known_loc", "max_box_acc_v2", "corner_error_px")
    before = {name: column for name, column in box.items() if name not in after}
    return {**before, **joint, **{name: box[name] for name in after}}


def box_columns(outcomes: Outcomes, boxes_px: npt.ArrayLike) -> dict[str, Column]:
    """Figures of other boxes than the predicted ones, of the images that show an object.

    Args:
        outcomes: Truth.
        boxes_px: (N, 4), a box for each image.

    Returns:
        float64 (M,) each.
    """
    shown = outcomes.shown
    truth, boxes = outcomes.boxes_px[shown], np.asarray(boxes_px)[shown]
    return _box_columns(paired_iou(truth, boxes), corner_errors(truth, boxes))


def error_columns(outcomes: Outcomes) -> dict[str, Column]:
    """What was wrong, class or box or both, of the images that show an object.

    The split of the errors of single-object localization by Russakovsky et al. (2015).

    Returns:
        `right, class_wrong, box_wrong, both_wrong`, float64 (M,) each; one of them is 1.
    """
    named, found = outcomes.class_hits[outcomes.shown], outcomes.box_hits[outcomes.shown]
    kinds = {
        "right": named & found,
        "class_wrong": ~named & found,
        "box_wrong": named & ~found,
        "both_wrong": ~named & ~found,
    }
    return {name: kind.astype(np.float64) for name, kind in kinds.items()}


def rejection_columns(outcomes: Outcomes) -> dict[str, Column]:
    """Whether images were answered with the background: of those without an object, and with one.

    Returns:
        `rejection` float64 (N - M,) and `false_rejection` (M,); nothing without a background.
    """
    if outcomes.background is None:
        return {}
    rejected = (outcomes.predicted == outcomes.background).astype(np.float64)
    parts = (rejected[~outcomes.shown], rejected[outcomes.shown])
    return dict(zip(REJECTIONS, parts, strict=True))


def figures_of(outcomes: Outcomes, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """All figures of `Evaluation.figures` but the rejections, of any outcomes."""
    of_all, of_objects = class_columns(outcomes), object_columns(outcomes)
    if outcomes.shown.all():
        return bootstrap.estimates({**of_all, **of_objects}, MEDIANS)
    return bootstrap.estimates(of_all) | bootstrap.estimates(of_objects, MEDIANS)


def rejections_of(outcomes: Outcomes, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Estimates of `rejection_columns`, each of its own images."""
    found: dict[str, Estimate] = {}
    for name, column in rejection_columns(outcomes).items():
        found |= bootstrap.estimates({name: column})
    return found


def has_top5(outcomes: Outcomes) -> bool:
    """Whether there are more classes than five, so that the top-5 figures say something."""
    return outcomes.probabilities.shape[1] > TOP


def _box_columns(ious: Column, corner_errors_px: Column) -> dict[str, Column]:
    reached: Mapping[str, Column] = {
        name: (ious >= threshold).astype(np.float64) for name, threshold in _IOU_ACCURACIES.items()
    }
    return {
        "mean_iou": ious,
        "median_iou": ious,
        **reached,
        "gt_known_loc": (ious >= BOX_HIT).astype(np.float64),
        "max_box_acc_v2": (ious[:, None] >= np.array(_MAX_BOX_ACC_V2)).mean(axis=1),
        "corner_error_px": corner_errors_px,
    }
