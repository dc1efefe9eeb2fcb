"""Percentile bootstrap intervals of means and medians over images.

The images of a split are taken as a sample of all images of their kind. A resample draws as many
images with replacement; the spread of a figure over many resamples is its interval (Efron 1979;
Efron and Tibshirani 1993, chapter 13). It tells what other images would have changed, not what
another training run would.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loc_keras.errors import ConfigError
from loc_keras.evaluation.outcomes import Estimate

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Statistic = Callable[[Counts], Floats]
"""Gives figures (B, S) for how often each image was drawn, (B, N)."""

_CHUNK = 2**19  # Draws held at once: 4 MiB an array, whatever the numbers of images and resamples.


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    The level is their coverage, in (0, 1), such as .95; the same seed and number of images give the
    same resamples. ConfigError where a value is out of range.
    """

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ConfigError(
                f"The level of intervals must lie between 0 and 1, such as 0.95, but is "
                f"{self.level}."
            )
        if self.resamples < 1:
            raise ConfigError(
                f"Intervals need 1 resample or more, better 2,000, but got {self.resamples}."
            )

    def resample(self, statistic: Statistic, images: int) -> Floats:
        """Figures of every resample of N images, at least 1: float64 (resamples, S)."""
        generator = np.random.default_rng(self.seed)
        rows = max(1, _CHUNK // images)
        parts = []
        for start in range(0, self.resamples, rows):
            count = min(rows, self.resamples - start)
            draws = generator.integers(images, size=(count, images))
            draws += images * np.arange(count)[:, None]
            drawn = np.bincount(draws.ravel(), minlength=count * images)
            parts.append(statistic(drawn.reshape(count, images)))
        return np.concatenate(parts)

    def interval(self, resampled: Floats) -> tuple[Floats, Floats]:
        """Ends of the interval, (S,) each, of figures (resamples, S)."""
        tail = (1 - self.level) / 2
        low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
        return low, high

    def estimates(
        self, columns: Mapping[str, npt.ArrayLike], medians: Collection[str] = ()
    ) -> dict[str, Estimate]:
        """Means, or medians where they are named, of columns (N,) of the same images.

        Where all values of a column are 0, or all are 1, the resamples cannot differ and would
        promise certainty; a share's exact bound stands there instead (Clopper and Pearson 1934). So
        values are in [0, 1] or cannot all be 0 or all 1 by their nature. Without images all is NaN;
        with one image both ends of the interval are, since one image tells nothing about others.
        """
        values = {name: np.asarray(column, np.float64) for name, column in columns.items()}
        images = len(next(iter(values.values()), ()))
        if images == 0:
            return {name: Estimate(np.nan, np.nan, np.nan, 0) for name in values}
        means = [name for name in values if name not in medians]
        middles = [name for name in values if name in medians]
        matrix = (
            np.stack([values[name] for name in means], axis=1) if means else np.empty((images, 0))
        )
        parts = [means_of(matrix), *(median_of(values[name]) for name in middles)]

        def figures(counts: Counts) -> Floats:
            return np.concatenate([part(counts) for part in parts], axis=1)

        observed = figures(np.ones((1, images), np.int64))[0]
        if images == 1:
            low = high = np.full(len(values), np.nan)
        else:
            low, high = self.interval(self.resample(figures, images))
        place = {name: index for index, name in enumerate([*means, *middles])}
        return {
            name: self._estimate(column, *(float(of[place[name]]) for of in (observed, low, high)))
            for name, column in values.items()
        }

    def _estimate(self, column: Floats, value: float, low: float, high: float) -> Estimate:
        """One estimate, with the exact bound where every image says the same."""
        images = len(column)
        if images > 1 and column[0] in (0, 1) and np.all(column == column[0]):
            beyond = ((1 - self.level) / 2) ** (1 / images)
            low, high = (beyond, 1.0) if column[0] == 1 else (0.0, 1 - beyond)
        return Estimate(value, low, high, images)


def means_of(values: Floats) -> Statistic:
    """A statistic: the means (B, S) of the columns of values (N, S)."""
    # Not `counts @ values`: the threads of BLAS cost many times the sum itself on a busy machine.
    return lambda counts: np.einsum("bn,ns->bs", counts.astype(np.float64), values) / len(values)


def median_of(values: Floats) -> Statistic:
    """A statistic: the median (B, 1) of values (N,), as `numpy.median` has it."""
    order = np.argsort(values)
    ranked = values[order]
    images = len(values)

    def medians(counts: Counts) -> Floats:
        drawn = counts.astype(np.int32).take(order, axis=1).cumsum(axis=1, dtype=np.int32)
        lower = np.count_nonzero(drawn < (images + 1) // 2, axis=1)
        upper = np.count_nonzero(drawn < images // 2 + 1, axis=1)
        return (ranked[lower] + ranked[upper])[:, None] / 2

    return medians
