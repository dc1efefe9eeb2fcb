"""What the page of an evaluation shows: its input, its pictures by rule, and its sentences."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.data.duplicates import leak_words
from loc_keras.errors import counted
from loc_keras.evaluation.figures import (
    MISSING,
    figure_of,
    format_difference,
    format_value,
    percent,
    position_places,
    size_places,
)
from loc_keras.evaluation.outcomes import BOX_HIT, Estimate, Evaluation, Outcomes
from loc_keras.evaluation.reliability import Guarantee, Shift, TrustFigures, detection_scores

Column = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

CHANCE = 0.025
"""Of being called broken, for a guarantee that holds: the lower half of a 95 % interval."""

EASY = 0.5  # Box accuracy of a baseline from which on a set is called easy.

ONE_CLASS = (
    "There is one class: the class is always right, so a class accuracy of 100 % is no result; "
    "only the box is learned and measured."
)
OBJECTS_ONLY = (
    "Box and localization figures are of the images with an object; class accuracy is of all."
)

WORST = BEST = SUSPECTS = 12
MISTAKES = 8
OF_A_SIZE, OF_A_POSITION = 4, 3
SURE_OF_BOX, SURE_OF_CLASS = 0.8, 0.9


class NearDuplicate(NamedTuple):
    """An image of the training split that is nearly the same as another image.

    It has a small picture, uint8 (H, W, 3), or None where it cannot be shown.
    """

    name: str
    picture: Pixels | None
    label: str


@dataclass(frozen=True, eq=False)
class Suspect:
    """An image, by its row, whose true box is perhaps wrong; what speaks against the box in words.

    Near duplicates of it are those in the training split.
    """

    index: int
    why: str
    near_duplicates: Sequence[NearDuplicate] = ()


@dataclass(frozen=True, eq=False)
class EvaluationPage:
    """All that the page shows.

    Attributes:
        facts: How it was measured, as (label, value), both plain text.
        names: Of each image, such as its file.
        pictures: Small ones by row, uint8 (H, W, 3), each of the whole image and of any size;
            `wanted_pictures` says which are looked for. One that is missing is shown as an empty
            field.
        trust: How true the model's statements about itself were; None where it makes none.
        suspects: The most suspicious first.
        explained: Pictures as in `pictures`, of the worst boxes, with what answers were read from.
    """

    title: str
    run: str
    split: str
    facts: Sequence[tuple[str, str]]
    evaluation: Evaluation
    outcomes: Outcomes
    names: Sequence[str]
    pictures: Mapping[int, Pixels]
    trust: TrustFigures | None = None
    suspects: Sequence[Suspect] = ()
    explained: Mapping[int, Pixels] = field(default_factory=dict)

    @cached_property
    def confidences(self) -> Column:
        """Probability of the predicted class, float (N,); calibrated where the model is."""
        return detection_scores(self.outcomes, self.trust)


class PictureChoice(NamedTuple):
    """Rows of the images in each gallery, int64, in the order they are shown, by `choose_...`.

    Sizes and positions are by their place in `Evaluation`, at even ranks of IoU, worst first.
    """

    worst: Indices
    best: Indices
    wrong_class: Indices
    false_alarms: Indices
    least_familiar: Indices
    sizes: dict[int, Indices]
    positions: dict[int, Indices]


def choose_pictures(outcomes: Outcomes, confidences: Column) -> PictureChoice:
    """Chooses the images of all galleries but that of suspects."""
    worst = choose_worst(outcomes, confidences)
    return PictureChoice(
        worst=worst,
        best=choose_best(outcomes, confidences, without=worst),
        wrong_class=choose_wrong_classes(outcomes, confidences),
        false_alarms=choose_false_alarms(outcomes, confidences),
        least_familiar=choose_least_familiar(outcomes),
        sizes=_of_groups(outcomes, size_places(outcomes), OF_A_SIZE),
        positions=_of_groups(outcomes, position_places(outcomes), OF_A_POSITION),
    )


def wanted_pictures(
    outcomes: Outcomes, confidences: Column, suspects: Iterable[int] = ()
) -> Indices:
    """Rows, rising, of the images that the page shows a picture of, int64 (M,).

    Only these need to be loaded, a few dozen however many images there are. `suspects` are the rows
    of those that the page will get.
    """
    *parts, sizes, positions = choose_pictures(outcomes, confidences)
    parts += [*sizes.values(), *positions.values(), np.fromiter(suspects, np.int64)]
    return np.unique(np.concatenate(parts))


def choose_worst(outcomes: Outcomes, confidences: Column, count: int = WORST) -> Indices:
    """Images with an object whose boxes agree least; of equal ones the surest first."""
    return _first(np.flatnonzero(outcomes.shown), count, _ious(outcomes), -_number(confidences))


def choose_best(
    outcomes: Outcomes, confidences: Column, count: int = BEST, *, without: npt.ArrayLike = ()
) -> Indices:
    """Images with the right class whose boxes agree most, at least by half; surest first.

    Rows in `without` are shown elsewhere.
    """
    ious = _ious(outcomes)
    fits = outcomes.shown & (outcomes.predicted == outcomes.labels) & (ious >= BOX_HIT)
    fits[np.asarray(without, np.int64)] = False
    return _first(np.flatnonzero(fits), count, -ious, -_number(confidences))


def choose_wrong_classes(outcomes: Outcomes, confidences: Column, count: int = MISTAKES) -> Indices:
    """Images with an object and a wrong class, surest first."""
    fits = outcomes.shown & (outcomes.predicted != outcomes.labels)
    return _first(np.flatnonzero(fits), count, -_number(confidences))


def choose_false_alarms(outcomes: Outcomes, confidences: Column, count: int = MISTAKES) -> Indices:
    """Images without an object that were answered with one, surest first."""
    fits = ~outcomes.shown & (outcomes.predicted != outcomes.labels)
    return _first(np.flatnonzero(fits), count, -_number(confidences))


def choose_least_familiar(outcomes: Outcomes, count: int = MISTAKES) -> Indices:
    """Images least like those of training, where novelty is known; the least p-value first."""
    novelty = outcomes.outputs.get("novelty", np.zeros(0))
    return _first(np.arange(len(novelty)), count, _number(novelty))


def choose_suspects(
    outcomes: Outcomes, p_iou50: npt.ArrayLike | None = None, count: int = SUSPECTS
) -> Indices:
    """Images whose true box is perhaps wrong: the model is sure of its box, and they disagree.

    An image is suspect where it shows an object, was not answered with the background, its boxes
    have an IoU below .5, and the model is sure: by `p_iou50`, float (N,), at least .8; without it
    by the probability of its class, at least .9. They are ordered by sureness times (1 - IoU).
    After the badly located boxes of Tkachenko, Thyagarajan and Mueller 2023 ("ObjectLab: Automated
    Diagnosis of Mislabeled Images in Object Detection Data").
    """
    if outcomes.probabilities.shape[1] == 1 and p_iou50 is None:
        return np.zeros(0, np.int64)  # Of a single class the model is always sure.
    sure, least = _sureness(outcomes, p_iou50)
    ious = _ious(outcomes)
    fits = outcomes.shown & (ious < BOX_HIT) & (sure >= least)
    if outcomes.background is not None:
        fits &= outcomes.predicted != outcomes.background
    return _first(np.flatnonzero(fits), count, -sure * (1 - ious))


def suspect_words(outcomes: Outcomes, index: int, p_iou50: npt.ArrayLike | None = None) -> str:
    """Why `choose_suspects` chose an image, in words."""
    sure, _ = _sureness(outcomes, p_iou50)
    of_what = "the class" if p_iou50 is None else "the box"
    return (
        f"the model is {100 * sure[index]:.0f} % sure of {of_what}, but the two boxes have an IoU "
        f"of {format_iou(float(outcomes.ious[index]))}"
    )


def _sureness(
    outcomes: Outcomes, p_iou50: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.float64], float]:
    """How sure the model is, float (N,), and how sure it must be to cast doubt on the truth."""
    if p_iou50 is None:
        return _number(outcomes.confidences), SURE_OF_CLASS
    return np.asarray(p_iou50, np.float64), SURE_OF_BOX


def _of_groups(
    outcomes: Outcomes, groups: npt.NDArray[np.integer], count: int
) -> dict[int, Indices]:
    found = {}
    for group in np.unique(groups[groups >= 0]):
        members = np.flatnonzero((groups == group) & outcomes.shown)
        if len(members):
            found[int(group)] = members[spread_by_iou(_ious(outcomes)[members], count)]
    return found


def _first(among: Indices, count: int, *keys: Column) -> Indices:
    """The first `count` of some rows, ordered by the first key, then the next, then the row."""
    order = np.lexsort([key[among] for key in reversed(keys)])
    return among[order[:count]]


def _ious(outcomes: Outcomes) -> npt.NDArray[np.float64]:
    return _number(outcomes.ious)


def _number(values: Column) -> npt.NDArray[np.float64]:
    """Values in float64; what is no number counts as 0."""
    return np.nan_to_num(np.asarray(values, np.float64))


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
    """The model's mean IoU beside the best baseline's; `""` where unknown.

    A gain is called clear where the two intervals do not meet.
    """
    own = evaluation.figures.get("mean_iou")
    name = best_baseline(evaluation.baselines, "mean_iou")
    if own is None or name is None or not math.isfinite(own.value):
        return ""
    baseline = evaluation.baselines[name]["mean_iou"]
    model, blind = format_value("mean_iou", own.value), format_value("mean_iou", baseline.value)
    start = f"The {name}, which is the same in every picture, has a mean IoU of {blind}"
    if not (math.isfinite(own.low) and math.isfinite(baseline.low)):
        return f"{start}; the model has {model}. Of so few images there is no interval to compare."
    if own.low > baseline.high:
        gain = own.value - baseline.value
        closed = f", {100 * gain / (1 - baseline.value):.0f} % of the way to a perfect box"
        return (
            f"{start}; the model has {model}. It gains {format_value('mean_iou', gain)}"
            f"{closed if baseline.value < 1 else ''}."
        )
    if own.high < baseline.low:
        return f"{start}; the model has {model}, which is worse than this baseline."
    return (
        f"{start}; the model has {model}, and their intervals meet: these images do not show that "
        "the model has learned where the object is."
    )


def limits_of_figures(evaluation: Evaluation) -> list[str]:
    """What the figures of this set do not say of themselves, see `ONE_CLASS`."""
    one_class = [ONE_CLASS] if len(evaluation.class_names) == 1 else []
    return one_class + ([OBJECTS_ONLY] if evaluation.object_images < evaluation.images else [])


def easy_sentence(evaluation: Evaluation) -> str:
    """A warning where a baseline is often right; else `""`."""
    name = best_baseline(evaluation.baselines, "acc50")
    if name is None or (share := evaluation.baselines[name]["acc50"].value) < EASY:
        return ""
    return (
        f"Boxes of this set are easy to hit: the {name} is already right (IoU ≥ .5) on "
        f"{percent(share)} % of the images. Judge by the gain and by the stricter figures."
    )


def apart_sentence(evaluation: Evaluation) -> str:
    """How many images are near duplicates of training images; `""` where none is."""
    if evaluation.apart is None:
        return ""
    count = evaluation.images - evaluation.apart.images
    return (
        f"{leak_words(count, evaluation.images)}, which flatters the model: mind the figures "
        f"{evaluation.apart.name}."
    )


def verdict(one: Guarantee) -> str:
    """Whether a guarantee was kept, as far as these images can tell."""
    if not math.isfinite(one.kept.value):
        return "no image"
    if one.kept.value >= one.asked:
        return "kept"
    return "broken" if one.p_value < CHANCE else "below, within chance"


def shift_sentence(shift: Shift) -> str:
    """Whether these images look to the model as those did that they are compared with."""
    chance = f"p {p_relation(shift.p_value)}"
    sizes = f"{counted(shift.images, 'image')} here, {shift.calibration_images:,} of {shift.split}"
    if shift.found:
        return (
            f"These images do not look to the model as those of the {shift.split} split did "
            f"({chance}, below {shift.level:g}; {sizes}): what was calibrated and guaranteed for "
            "such images need not hold here."
        )
    return (
        f"No shift was found: to the model these images look as those of the {shift.split} split "
        f"did ({chance}, not below {shift.level:g}; {sizes}). That is no proof that there is none."
    )


def p_value(value: float) -> str:
    """A p-value with two digits; a small one as `< .0001`."""
    return p_relation(value).removeprefix("= ")


def p_relation(value: float) -> str:
    """As `p_value`, behind the sign of its relation."""
    if not math.isfinite(value):
        return f"= {MISSING}"
    return f"= {value:.2g}" if value >= 1e-4 else "< .0001"


def format_iou(iou: float) -> str:
    """Writes an IoU with two decimals and no leading zero: `.97`, `1.00`, `–` for NaN."""
    return f"{iou:.2f}".removeprefix("0") if math.isfinite(iou) else MISSING


def spread_by_iou(ious: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    """Chooses examples at even ranks of IoU, the worst and the best included, worst first.

    With `count=5` these are the worst, the lower quartile, the median, the upper quartile and the
    best; one alone is the median. A choice by rank shows failures as often as they happen, and
    always the worst one. NaN counts as worse than every number. It gives int64 (min(count, N),)
    distinct indices into `ious` (N,); ValueError for a count below 1 or another shape.
    """
    values = np.asarray(ious, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"ious must have one dimension; it has shape {values.shape}.")
    if count < 1:
        raise ValueError(f"count must be at least 1; it is {count}.")
    order = np.argsort(np.where(np.isnan(values), -np.inf, values), kind="stable")
    if count == 1:
        ranks = np.array([(len(order) - 1) // 2] if len(order) else [], dtype=np.int64)
    else:
        ranks = np.round(np.linspace(0, len(order) - 1, min(count, len(order)))).astype(np.int64)
    return order[ranks].astype(np.int64)
