"""Whether one run is better than another on the same images, or only luckier with them.

Each resample draws the same images for all runs, so what makes an image easy or hard for all of
them falls out of the difference: its interval is far narrower than those of the two figures
suggest (Koehn 2004, "Statistical significance tests for machine translation evaluation"). It is of
these trained models alone: how much another seed of training would move them is not in it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from loc_keras.errors import ConfigError, DataError
from loc_keras.evaluation.figures import FIGURES, check
from loc_keras.evaluation.outcomes import Bootstrap, Estimate, Floats, Outcomes, means_of

COMPARED = tuple(key for key, figure in FIGURES.items() if figure.compared)
"""Figures that are compared, all of them means."""

_SAME_PX = 0.01  # Boxes went through float32 fractions; a picture of 10,000 px then errs by .001.

Key: TypeAlias = tuple[str, int]


class Difference(NamedTuple):
    """A run's figure minus the first run's; NaN where it is of no image.

    Interval and two-sided p-value in (0, 1], see `compare`, are NaN for fewer than two images.
    """

    value: float
    low: float
    high: float
    p_value: float
    images: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Figures of several runs on the same images, and their differences to the first.

    Figures are by run, the first one first, and by the names of `COMPARED`; all but the class
    accuracy are of the images with an object. `level` is the coverage of the intervals.
    """

    images: int
    object_images: int
    figures: Mapping[str, Mapping[str, Estimate]]
    differences: Mapping[str, Mapping[str, Difference]]
    level: float
    resamples: int
    seed: int

    @property
    def first(self) -> str:
        """Name of the run that the others are compared with."""
        return next(iter(self.figures))


def compare(
    runs: Mapping[str, Outcomes],
    names_of_images: Mapping[str, Sequence[str]],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compares runs with the first of them by the paired bootstrap over images.

    The p-value is what the interval says, read the other way round: with the share of the resampled
    differences on the wrong side of 0 doubled, as the percentile interval of level 1 - p ends at 0
    (Efron and Tibshirani 1993, chapter 15). The observed data count as one more resample, so it is
    never 0 (Davison and Hinkley 1997, chapter 4). It is not corrected for the number of
    comparisons. The order of images may differ by run; a name that occurs more than once is matched
    in its order.

    Raises:
        ConfigError: There are fewer than two runs.
        DataError: The runs are not of the same images, classes and true boxes.
        ModelError: A run's predictions are not finite.
    """
    if len(runs) < 2:
        raise ConfigError(
            f"A comparison needs two runs or more, but got {len(runs)}; name another run."
        )
    bootstrap = Bootstrap(level, resamples, seed)
    matched = _matched(runs, names_of_images)
    reference = next(iter(matched.values()))
    of_all = [name for name in COMPARED if FIGURES[name].of == "all"]
    of_objects = [name for name in COMPARED if FIGURES[name].of == "object"]
    figures: dict[str, dict[str, Estimate]] = {run: {} for run in runs}
    differences: dict[str, dict[str, Difference]] = {run: {} for run in list(runs)[1:]}
    for names in (of_all, of_objects):
        columns = {
            run: {name: FIGURES[name].values(outcomes) for name in names}
            for run, outcomes in matched.items()
        }
        for run, mine in columns.items():
            figures[run] |= bootstrap.estimates(mine)
        first, *others = (np.stack(list(mine.values()), axis=1) for mine in columns.values())
        for run, values in zip(differences, others, strict=True):
            changes = _differences(values - first, bootstrap)
            differences[run] |= dict(zip(names, changes, strict=True))
    return Comparison(
        images=len(reference),
        object_images=int(reference.shown.sum()),
        figures=figures,
        differences=differences,
        level=level,
        resamples=resamples,
        seed=seed,
    )


def two_sided_p(resampled: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Two-sided p-values of resampled differences (resamples, S), (S,) in (0, 1]; see `compare`."""
    values = np.asarray(resampled)
    below = np.count_nonzero(values <= 0, axis=0)
    above = np.count_nonzero(values >= 0, axis=0)
    return np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (len(values) + 1))


def _differences(values: Floats, bootstrap: Bootstrap) -> list[Difference]:
    """Differences of columns (N, S) of differences image by image."""
    images, count = values.shape
    nothing = np.full(count, np.nan)
    low = high = p_value = nothing
    if images > 1:
        resampled = bootstrap.resample(means_of(values), images)
        low, high = bootstrap.interval(resampled)
        p_value = two_sided_p(resampled)
    mean = values.mean(axis=0) if images else nothing
    rows = zip(mean.tolist(), low.tolist(), high.tolist(), p_value.tolist(), strict=True)
    return [Difference(*row, images) for row in rows]


def _matched(
    runs: Mapping[str, Outcomes], names_of_images: Mapping[str, Sequence[str]]
) -> dict[str, Outcomes]:
    """Outcomes in the order of the first run's images, once all are of the same truth."""
    for run, outcomes in runs.items():
        if len(names_of_images[run]) != len(outcomes):
            raise ValueError(f"{run} needs a name for each of its {len(outcomes)} images")
    first = next(iter(runs))
    classes = runs[first].probabilities.shape[1]
    keys = {run: _keys(names_of_images[run]) for run in runs}
    matched = {}
    for run, outcomes in runs.items():
        if outcomes.probabilities.shape[1] != classes or (
            outcomes.background != runs[first].background
        ):
            raise DataError(
                f"{run} and {first} do not know the same classes ({_classes(outcomes)}, and "
                f"{_classes(runs[first])}); compare runs that were trained for the same ones."
            )
        check(outcomes, classes)
        _refuse_other_images(run, first, keys)
        place = {key: index for index, key in enumerate(keys[run])}
        matched[run] = outcomes.take(np.array([place[key] for key in keys[first]], int))
        _refuse_other_truth(run, first, matched, keys[first])
    return matched


def _keys(names: Sequence[str]) -> list[Key]:
    """Names made unique: each with how often it came before."""
    counts: Counter[str] = Counter()
    keys = []
    for name in names:
        keys.append((str(name), counts[name]))
        counts[name] += 1
    return keys


def _classes(outcomes: Outcomes) -> str:
    words = f"{outcomes.probabilities.shape[1]} classes"
    return words if outcomes.background is None else f"{words}, background included"


def _refuse_other_images(run: str, first: str, keys: Mapping[str, Sequence[Key]]) -> None:
    mine, theirs = dict.fromkeys(keys[run]), dict.fromkeys(keys[first])
    for owner, more in (
        (run, [key for key in mine if key not in theirs]),
        (first, [key for key in theirs if key not in mine]),
    ):
        if more:
            raise DataError(
                f"{run} and {first} were measured on different images: {len(more)} are of {owner} "
                f"alone, such as {more[0][0]}; measure both on the same split of the same data."
            )


def _refuse_other_truth(
    run: str, first: str, matched: Mapping[str, Outcomes], keys: Sequence[Key]
) -> None:
    mine, theirs = matched[run], matched[first]
    parts = {
        "class": mine.labels != theirs.labels,
        "size": (mine.sizes != theirs.sizes).any(axis=1),
        "box": (np.abs(mine.boxes_px - theirs.boxes_px) > _SAME_PX).any(axis=1),
    }
    for what, differ in parts.items():
        if differ.any():
            raise DataError(
                f"{run} and {first} have different annotations: the {what} of "
                f"{keys[int(np.argmax(differ))][0]} differs, and that of "
                f"{np.count_nonzero(differ)} images in all; measure both on the same annotations."
            )
