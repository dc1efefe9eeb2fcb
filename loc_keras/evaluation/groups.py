"""Figures of images that have something in common: a class, a size, a place in the picture."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.bootstrap import Bootstrap
from loc_keras.evaluation.columns import figures_of
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.results import Group

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
