"""Which images the page of an evaluation shows, and by which rule."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loc_keras.report.captions import LOCALIZED_IOU, format_iou, spread_by_iou
from loc_keras.report.evaluation_input import ImageRows, Indices

WORST = 12
BEST = 12
MISTAKES = 8
SUSPECTS = 12
OF_A_SIZE = 4
OF_A_POSITION = 3

SURE_OF_BOX = 0.8
SURE_OF_CLASS = 0.9


@dataclass(frozen=True, eq=False)
class PictureChoice:
    """Rows of the images in each gallery, int64, in the order they are shown.

    Attributes:
        worst: By `choose_worst`.
        best: By `choose_best`.
        wrong_class: By `choose_wrong_classes`.
        false_alarms: By `choose_false_alarms`.
        sizes: Of each size at even ranks of IoU, worst first, by its place in `Evaluation.sizes`.
        positions: Of each position, likewise.
    """

    worst: Indices
    best: Indices
    wrong_class: Indices
    false_alarms: Indices
    sizes: dict[int, Indices]
    positions: dict[int, Indices]


def choose_pictures(rows: ImageRows) -> PictureChoice:
    """Chooses the images of all galleries but that of suspects."""
    worst = choose_worst(rows)
    return PictureChoice(
        worst=worst,
        best=choose_best(rows, without=worst),
        wrong_class=choose_wrong_classes(rows),
        false_alarms=choose_false_alarms(rows),
        sizes=_of_groups(rows, rows.size_groups, OF_A_SIZE),
        positions=_of_groups(rows, rows.positions, OF_A_POSITION),
    )


def wanted_pictures(rows: ImageRows, suspects: Iterable[int] = ()) -> Indices:
    """Which images the page shows a picture of, so that only these need to be loaded.

    Args:
        rows: Truth and answer of each image.
        suspects: Rows of the suspects that the page will get.

    Returns:
        int64 (M,), rows, rising; a few dozen however many images there are.
    """
    choice = choose_pictures(rows)
    parts = [choice.worst, choice.best, choice.wrong_class, choice.false_alarms]
    parts += [*choice.sizes.values(), *choice.positions.values()]
    return np.unique(np.concatenate([*parts, np.fromiter(suspects, np.int64)]))


def choose_worst(rows: ImageRows, count: int = WORST) -> Indices:
    """Images with an object whose boxes agree least; of equal ones the surest first.

    Returns:
        int64 (M,), M at most `count`, worst first.
    """
    return _first(np.flatnonzero(rows.shown), count, _overlaps(rows), -_confidence(rows))


def choose_best(rows: ImageRows, count: int = BEST, *, without: npt.ArrayLike = ()) -> Indices:
    """Images with the right class whose boxes agree most, at least by half; surest first.

    Args:
        rows: Truth and answer of each image.
        count: How many, at most.
        without: Rows that are shown elsewhere.

    Returns:
        int64 (M,), best first.
    """
    fits = rows.shown & (rows.predicted == rows.labels) & (_overlaps(rows) >= LOCALIZED_IOU)
    fits[np.asarray(without, np.int64)] = False
    return _first(np.flatnonzero(fits), count, -_overlaps(rows), -_confidence(rows))


def choose_wrong_classes(rows: ImageRows, count: int = MISTAKES) -> Indices:
    """Images with an object and a wrong class, surest first."""
    fits = rows.shown & (rows.predicted != rows.labels)
    return _first(np.flatnonzero(fits), count, -_confidence(rows))


def choose_false_alarms(rows: ImageRows, count: int = MISTAKES) -> Indices:
    """Images without an object that were answered with one, surest first."""
    fits = ~rows.shown & (rows.predicted != rows.labels)
    return _first(np.flatnonzero(fits), count, -_confidence(rows))


def choose_suspects(
    rows: ImageRows,
    p_iou50: npt.ArrayLike | None = None,
    count: int = SUSPECTS,
    *,
    one_class: bool = False,
) -> Indices:
    """Images whose true box is perhaps wrong: the model is sure of its box, and they disagree.

    An image is suspect where it shows an object, was not answered with the background, its boxes
    have an IoU below .5, and the model is sure: where it says how sure it is of its box, that
    probability is at least .8; where it does not, that of its class is at least .9. Suspects are
    ordered by sureness times (1 - IoU), so a sure box elsewhere comes before a sure box that is a
    little off. After the badly located boxes of Tkachenko, Thyagarajan and Mueller 2023
    ("ObjectLab: Automated Diagnosis of Mislabeled Images in Object Detection Data").

    Args:
        rows: Truth and answer of each image.
        p_iou50: Stated probability that the box has an IoU of .5 or more, float (N,); or None.
        count: How many, at most.
        one_class: Whether there is a single class, of which the model is always sure: then there
            are no suspects unless it says how sure it is of its boxes.

    Returns:
        int64 (M,), most suspicious first.
    """
    if one_class and p_iou50 is None:
        return np.zeros(0, np.int64)
    sure, least = _sureness(rows, p_iou50)
    overlaps = _overlaps(rows)
    fits = rows.shown & (overlaps < LOCALIZED_IOU) & (sure >= least)
    if rows.background is not None:
        fits &= rows.predicted != rows.background
    return _first(np.flatnonzero(fits), count, -sure * (1 - overlaps))


def suspect_words(rows: ImageRows, index: int, p_iou50: npt.ArrayLike | None = None) -> str:
    """Why `choose_suspects` chose an image, in words."""
    sure, _ = _sureness(rows, p_iou50)
    of_what = "the class" if p_iou50 is None else "the box"
    return (
        f"the model is {100 * sure[index]:.0f} % sure of {of_what}, but the two boxes have an IoU "
        f"of {format_iou(float(rows.ious[index]))}"
    )


def _sureness(
    rows: ImageRows, p_iou50: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.float64], float]:
    """How sure the model is, float (N,), and how sure it must be to cast doubt on the truth."""
    if p_iou50 is None:
        return _confidence(rows), SURE_OF_CLASS
    return np.asarray(p_iou50, np.float64), SURE_OF_BOX


def _of_groups(
    rows: ImageRows, groups: npt.NDArray[np.integer] | None, count: int
) -> dict[int, Indices]:
    if groups is None:
        return {}
    found = {}
    for group in np.unique(groups[groups >= 0]):
        members = np.flatnonzero((groups == group) & rows.shown)
        if len(members):
            found[int(group)] = members[spread_by_iou(_overlaps(rows)[members], count)]
    return found


def _first(among: Indices, count: int, *keys: npt.NDArray[np.floating]) -> Indices:
    """The first `count` of some rows, ordered by the first key, then the next, then the row."""
    order = np.lexsort([key[among] for key in reversed(keys)])
    return among[order[:count]]


def _overlaps(rows: ImageRows) -> npt.NDArray[np.float64]:
    """IoU in float64; one that is no number counts as none."""
    return np.nan_to_num(np.asarray(rows.ious, np.float64))


def _confidence(rows: ImageRows) -> npt.NDArray[np.float64]:
    return np.nan_to_num(np.asarray(rows.confidence, np.float64))
