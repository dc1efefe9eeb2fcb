"""All figures of a split, put together."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from loc_keras.errors import DataError, ModelError
from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.evaluation.outcomes import (
    BOX_HIT,
    TOP,
    Estimate,
    Evaluation,
    Group,
    Outcomes,
    corner_errors,
    paired_iou,
)

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


SIZE_EDGES = (0.05, 0.2, 0.5)
SIZE_NAMES = (
    "less than 5 % of the picture",
    "5 to 20 % of the picture",
    "20 to 50 % of the picture",
    "50 % of the picture or more",
)
POSITION_NAMES = (
    *("top left", "top", "top right"),
    *("left", "centre", "right"),
    *("bottom left", "bottom", "bottom right"),
)
NO_GROUP = -1

_FIELDS = 3  # Along each side of the picture.


def class_groups(
    outcomes: Outcomes, class_names: Sequence[str], bootstrap: Bootstrap
) -> list[Group]:
    """A group for each true class, in order; a class without images has figures that are NaN."""
    return _groups(outcomes, class_names, outcomes.labels, bootstrap)


def size_groups(outcomes: Outcomes, bootstrap: Bootstrap) -> list[Group]:
    """Groups by the share of the picture that the true box covers; each holds its lower bound."""
    return _groups(outcomes, SIZE_NAMES, size_places(outcomes), bootstrap)


def position_groups(outcomes: Outcomes, bootstrap: Bootstrap) -> list[Group]:
    """Groups by the ninth of the picture that holds the centre of the true box, row by row."""
    return _groups(outcomes, POSITION_NAMES, position_places(outcomes), bootstrap)


def size_places(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """The group of each image in `size_groups`, int64 (N,); -1 without an object."""
    return np.where(outcomes.shown, np.digitize(outcomes.covers, SIZE_EDGES), NO_GROUP)


def position_places(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """The group of each image in `position_groups`, int64 (N,); -1 without an object."""
    fields = np.clip(np.nan_to_num(outcomes.centres * _FIELDS).astype(int), 0, _FIELDS - 1)
    return np.where(outcomes.shown, fields[:, 1] * _FIELDS + fields[:, 0], NO_GROUP)


def _groups(
    outcomes: Outcomes, names: Sequence[str], places: npt.NDArray[np.integer], bootstrap: Bootstrap
) -> list[Group]:
    """A group for each name, of the images whose place is its index."""
    found = []
    for index, name in enumerate(names):
        part = outcomes.take(places == index)
        found.append(Group(name, len(part), figures_of(part, bootstrap)))
    return found


Box = npt.NDArray[np.float64]


def constant_box(train_boxes: npt.ArrayLike) -> Box:
    """The median of each coordinate of the training boxes.

    Args:
        train_boxes: (M, 4) in fractions, M at least 1.

    Returns:
        float64 (4,), (x1, y1, x2, y2) in fractions.
    """
    return np.median(np.asarray(train_boxes, np.float64), axis=0)


def centre_box(train_boxes: npt.ArrayLike) -> Box:
    """A box in the middle of the picture with the training boxes' median width and height.

    Args:
        train_boxes: (M, 4) in fractions, M at least 1.

    Returns:
        float64 (4,), (x1, y1, x2, y2) in fractions.
    """
    boxes = np.asarray(train_boxes, np.float64)
    half = np.median(boxes[:, 2:] - boxes[:, :2], axis=0) / 2
    return np.concatenate([0.5 - half, 0.5 + half])


def floor_figures(
    outcomes: Outcomes, train_boxes: npt.ArrayLike, bootstrap: Bootstrap
) -> dict[str, dict[str, Estimate]]:
    """Box figures of `constant box` and `centre box`, each scaled to every picture.

    Args:
        outcomes: Truth; the images without an object do not count.
        train_boxes: Boxes of the training split, (M, 4) in fractions of their pictures; those
            that are all zero belong to images without an object and do not count either.
        bootstrap: How intervals are made.

    Returns:
        Box figures by the name of the floor; nothing where no training box is left.
    """
    boxes = np.asarray(train_boxes, np.float64).reshape(-1, 4)
    boxes = boxes[boxes.any(axis=1)]
    if not len(boxes):
        return {}
    scale = np.tile(outcomes.sizes[:, ::-1], 2)
    floors = {"constant box": constant_box(boxes), "centre box": centre_box(boxes)}
    return {
        name: bootstrap.estimates(box_columns(outcomes, box * scale), MEDIANS)
        for name, box in floors.items()
    }


def evaluate(
    outcomes: Outcomes,
    class_names: Sequence[str],
    train_boxes: npt.ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Measures a split: figures with intervals, floors, errors, groups and confusion.

    Args:
        outcomes: Truth and answer of each image.
        class_names: Name of each class, by index, that of the background included.
        train_boxes: Boxes of the training split, (M, 4) in fractions, for the floors; those of
            images without an object are all zero and do not count. None at all: no floors.
        level: Coverage of the intervals.
        resamples: Bootstrap resamples of each interval.
        seed: Of the resamples.

    Raises:
        DataError: A column has another length than the labels, or a label no class.
        ModelError: Predictions are not finite, or are for another number of classes.
        ConfigError: The level or the number of resamples is out of range.
    """
    check(outcomes, len(class_names))
    bootstrap = Bootstrap(level, resamples, seed)
    return Evaluation(
        images=len(outcomes),
        object_images=int(outcomes.shown.sum()),
        class_names=tuple(class_names),
        figures=figures_of(outcomes, bootstrap) | rejections_of(outcomes, bootstrap),
        floors=floor_figures(outcomes, train_boxes, bootstrap),
        errors=bootstrap.estimates(error_columns(outcomes)),
        classes=class_groups(outcomes, class_names, bootstrap),
        sizes=size_groups(outcomes, bootstrap),
        positions=position_groups(outcomes, bootstrap),
        confusion=confusion(outcomes),
        level=level,
        resamples=resamples,
        seed=seed,
    )


def confusion(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """Images of each true class (row) answered as each class (column), int64 (K, K)."""
    classes = outcomes.probabilities.shape[1]
    cells = outcomes.labels.astype(np.int64) * classes + outcomes.predicted
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def check(outcomes: Outcomes, classes: int) -> None:
    """Refuses outcomes that no figure can be of, as `evaluate` says."""
    images = len(outcomes)
    columns = {
        "probabilities": (outcomes.probabilities, classes),
        "boxes_px": (outcomes.boxes_px, 4),
        "boxes_pred_px": (outcomes.boxes_pred_px, 4),
        "sizes": (outcomes.sizes, 2),
    }
    for name, (column, width) in columns.items():
        if column.shape != (images, width):
            error = ModelError if name == "probabilities" else DataError
            raise error(
                f"{images} images of {classes} classes need {name} of the shape "
                f"{(images, width)}, but have {column.shape}."
            )
    beyond = np.flatnonzero((outcomes.labels < 0) | (outcomes.labels >= classes))
    if len(beyond):
        raise DataError(
            f"Image {beyond[0] + 1} has the label {outcomes.labels[beyond[0]]}, but there are "
            f"{classes} classes, numbered from 0."
        )
    answered = np.isfinite(outcomes.probabilities).all(axis=1)
    answered &= np.isfinite(outcomes.boxes_pred_px).all(axis=1)
    if not answered.all():
        raise ModelError(
            f"The model answers {np.count_nonzero(~answered)} of {images} images, the first of "
            f"them number {np.argmin(answered) + 1}, with NaN or infinity: its weights are broken; "
            "take those of an earlier epoch, or train again with a smaller learning rate."
        )
