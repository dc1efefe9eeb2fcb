"""What boxes score that do not look at the picture: the floor that a localizer has to leave."""

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.evaluation.columns import MEDIANS, box_columns
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.results import Estimate

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
