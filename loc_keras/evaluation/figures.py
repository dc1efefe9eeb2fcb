"""All figures of a split, put together."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loc_keras.errors import DataError, ModelError
from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.evaluation.columns import error_columns, figures_of, rejections_of
from loc_keras.evaluation.floors import floor_figures
from loc_keras.evaluation.groups import class_groups, position_groups, size_groups
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.results import Evaluation


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
