"""Which images the page of an evaluation shows, and by which rule."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.evaluation.figures import (
    MISSING,
    figure_of,
    format_difference,
    format_value,
    percent,
)
from loc_keras.evaluation.outcomes import Estimate, Evaluation
from loc_keras.evaluation.reliability import TrustFigures
from loc_keras.report.gallery import LOCALIZED_IOU, format_iou, spread_by_iou

Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageRows:
    """Truth and answer of each image, one row an image.

    Attributes:
        labels: True classes, int (N,).
        predicted: Most probable classes, int (N,).
        confidence: Their probabilities, float (N,), in [0, 1]; calibrated where the model is.
        ious: IoU of true and predicted box, float (N,); of images without an object it is not
            read.
        corner_errors_px: Mean distance of the boxes' corners, float (N,), in px of the pictures.
        boxes_px: True boxes (x1, y1, x2, y2), float (N, 4), in px of the pictures.
        boxes_pred_px: Predicted boxes, likewise.
        sizes: Height and width of the pictures in px, int (N, 2).
        background: Index of the class of images without an object; None where all show one.
        size_groups: Place of each image in `Evaluation.sizes`, int (N,), -1 for none; None leaves
            out the pictures of each size.
        positions: Place in `Evaluation.positions`, likewise.

    Raises:
        ValueError: The rows are not equally many.
    """

    labels: npt.NDArray[np.integer]
    predicted: npt.NDArray[np.integer]
    confidence: npt.NDArray[np.floating]
    ious: npt.NDArray[np.floating]
    corner_errors_px: npt.NDArray[np.floating]
    boxes_px: npt.NDArray[np.floating]
    boxes_pred_px: npt.NDArray[np.floating]
    sizes: npt.NDArray[np.integer]
    background: int | None = None
    size_groups: npt.NDArray[np.integer] | None = None
    positions: npt.NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray) and len(value) != len(self.labels):
                raise ValueError(
                    f"{field.name} has {len(value)} rows, but there are {len(self.labels)} labels."
                )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Whether each image shows an object, bool (N,)."""
        if self.background is None:
            return np.ones(len(self), bool)
        return np.asarray(self.labels != self.background)


class Lookalike(NamedTuple):
    """An image of the training split that looks like another one.

    Attributes:
        name: Its file.
        picture: uint8 (H, W, 3), small; None where it cannot be shown.
        label: Name of its class.
    """

    name: str
    picture: Pixels | None
    label: str


@dataclass(frozen=True, eq=False)
class Suspect:
    """An image whose true box is perhaps wrong.

    Attributes:
        index: Its row.
        why: What speaks against the box, in words.
        lookalikes: Images of the training split that look like it.
    """

    index: int
    why: str
    lookalikes: Sequence[Lookalike] = ()


@dataclass(frozen=True, eq=False)
class EvaluationPage:
    """All that the page shows.

    Attributes:
        title: Heading of the page.
        run: Name of the run.
        split: Name of the split that was measured.
        facts: How it was measured, as (label, value), both plain text.
        evaluation: The figures.
        rows: Truth and answer of each image.
        names: Name of each image, such as its file.
        pictures: Small pictures by row, uint8 (H, W, 3), each of the whole image and of any size;
            `wanted_pictures` says which are looked for. One that is missing is shown as an empty
            field.
        trust: How true the model's statements about itself were; None where it makes none.
        suspects: Images whose true box is perhaps wrong, the most suspicious first.
    """

    title: str
    run: str
    split: str
    facts: Sequence[tuple[str, str]]
    evaluation: Evaluation
    rows: ImageRows
    names: Sequence[str]
    pictures: Mapping[int, Pixels]
    trust: TrustFigures | None = None
    suspects: Sequence[Suspect] = ()


EASY = 0.5
"""Share of boxes that a box that sees nothing hits, from which on a set is called easy."""


def join_words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def best_baseline(baselines: Mapping[str, Mapping[str, Estimate]], key: str) -> str | None:
    """Name of the baseline that scores best; None where none has the figure."""
    known = {
        name: figures[key].value
        for name, figures in baselines.items()
        if key in figures and math.isfinite(figures[key].value)
    }
    best = min if figure_of(key).lower_is_better else max
    return best(known, key=lambda name: known[name]) if known else None


def format_gain(key: str, evaluation: Evaluation) -> str:
    """How far a figure lies from the best baseline, with its sign; a dash where there is none."""
    name = best_baseline(evaluation.baselines, key)
    own = evaluation.figures[key].value
    if name is None or not math.isfinite(own):
        return MISSING
    return format_difference(key, own - evaluation.baselines[name][key].value)


def gain_sentence(evaluation: Evaluation) -> str:
    """What the model's mean IoU is worth beside a box that sees nothing; `""` where unknown.

    A gain is called clear where the two intervals do not meet.
    """
    own = evaluation.figures.get("mean_iou")
    name = best_baseline(evaluation.baselines, "mean_iou")
    if own is None or name is None or not math.isfinite(own.value):
        return ""
    floor = evaluation.baselines[name]["mean_iou"]
    model, blind = format_value("mean_iou", own.value), format_value("mean_iou", floor.value)
    start = f"The {name}, which never looks at the picture, has a mean IoU of {blind}"
    if own.low > floor.high:
        gain = own.value - floor.value
        closed = f", {100 * gain / (1 - floor.value):.0f} % of the way to a perfect box"
        return (
            f"{start}; the model has {model}. It gains {format_value('mean_iou', gain)}"
            f"{closed if floor.value < 1 else ''}."
        )
    if own.high < floor.low:
        return f"{start}; the model has {model}, which is worse than not looking."
    return (
        f"{start}; the model has {model}, and their intervals meet: these images do not show that "
        "the model has learned where the object is."
    )


def easy_sentence(evaluation: Evaluation) -> str:
    """A warning where a box that sees nothing is often right; else `""`."""
    name = best_baseline(evaluation.baselines, "acc50")
    if name is None:
        return ""
    share = evaluation.baselines[name]["acc50"].value
    if share < EASY:
        return ""
    return (
        f"Boxes of this set are easy to hit: the {name} is already right (IoU ≥ .5) on "
        f"{percent(share)} % of the images. Judge by the gain and by the stricter figures."
    )


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
