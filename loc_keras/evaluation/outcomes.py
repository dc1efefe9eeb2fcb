"""Truth and answer of every image of a split, what follows image by image, intervals of means.

The formulas are pure functions of paired rows, in float64 and NumPy alone; `loc_keras.boxes` and
`loc_keras.metrics` hold the same ones for training, and the tests prove that the two agree.

Intervals of means and medians are of the percentile bootstrap. The images of a split are taken as a
sample of all images of their kind. A resample draws as many images with replacement; the spread of
a figure over many resamples is its interval (Efron 1979; Efron and Tibshirani 1993, chapter 13). It
tells what other images would have changed, not what another training run would.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.errors import ConfigError

Boxes = npt.NDArray[np.float64]

TOP = 5
BOX_HIT = 0.5
"""Least IoU at which a box counts as right (Russakovsky et al. 2015)."""

_COLUMNS = ("labels", "probabilities", "boxes_px", "boxes_pred_px", "sizes")
_NEGLIGIBLE = 1e-14  # As in `loc_keras.boxes`: two boxes without area overlap by 0, not by 0 / 0.


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Truth and answer of every image of a split, in its order: the one table of both.

    Boxes are (x1, y1, x2, y2) in px of each original picture, inside it.

    Attributes:
        labels: True classes, int32 (N,).
        probabilities: float (N, K), of each class.
        boxes_px: True boxes, float64 (N, 4); all zero where the image shows no object.
        boxes_pred_px: Predicted boxes, float64 (N, 4).
        sizes: Height and width of the pictures in px, int32 (N, 2).
        background: Index of the class of images without an object; None where all show one.
        outputs: Further columns (N, ...) by name, such as a model's outputs and true boxes,
            `bbox_true`, with boxes in fractions of the model's image.
    """

    labels: npt.NDArray[np.int32]
    probabilities: npt.NDArray[np.floating]
    boxes_px: npt.NDArray[np.float64]
    boxes_pred_px: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.int32]
    background: int | None = None
    outputs: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def take(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Outcomes":
        """The outcomes of these images: indices, or bool (N,)."""
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        outputs = {name: column[index] for name, column in self.outputs.items()}
        return replace(self, **columns, outputs=outputs)

    @cached_property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Whether each image shows an object, bool (N,); box figures are of these alone."""
        if self.background is None:
            return np.ones(len(self), bool)
        return self.labels != self.background

    @cached_property
    def predicted(self) -> npt.NDArray[np.int64]:
        """The most probable class, int64 (N,); of equal ones the first."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def confidences(self) -> npt.NDArray[np.float64]:
        """Probability of the predicted class, float64 (N,)."""
        return self.probabilities.max(axis=1).astype(np.float64)

    @cached_property
    def class_hits(self) -> npt.NDArray[np.bool_]:
        """Whether the predicted class is the true one, bool (N,)."""
        return top_k_hits(self.labels, self.probabilities, 1)

    @cached_property
    def top5_hits(self) -> npt.NDArray[np.bool_]:
        """Whether the true class is among the five most probable ones, bool (N,)."""
        return top_k_hits(self.labels, self.probabilities, TOP)

    @cached_property
    def ious(self) -> npt.NDArray[np.float64]:
        """IoU of true and predicted box, float64 (N,); NaN where there is no object."""
        return np.where(self.shown, paired_iou(self.boxes_px, self.boxes_pred_px), np.nan)

    @cached_property
    def box_hits(self) -> npt.NDArray[np.bool_]:
        """Whether the IoU is at least .5, bool (N,); false where there is no object."""
        return self.ious >= BOX_HIT

    @cached_property
    def corner_errors_px(self) -> npt.NDArray[np.float64]:
        """Mean distance of the box's two corners in px, float64 (N,); NaN without an object."""
        return np.where(self.shown, corner_errors(self.boxes_px, self.boxes_pred_px), np.nan)

    @cached_property
    def covers(self) -> npt.NDArray[np.float64]:
        """Share of each picture that the true box covers, float64 (N,); 0 without an object."""
        sides = (self.boxes_px[:, 2:] - self.boxes_px[:, :2]) / self.sizes[:, ::-1]
        return sides.prod(axis=1)

    @cached_property
    def centres(self) -> npt.NDArray[np.float64]:
        """Centres (x, y) of the true boxes in fractions of the picture, float64 (N, 2)."""
        return (self.boxes_px[:, :2] + self.boxes_px[:, 2:]) / 2 / self.sizes[:, ::-1]


def join_outcomes(parts: Sequence[Outcomes]) -> Outcomes:
    """One table of several, at least one, of the same model's form, in this order."""

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    outputs = {
        name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs
    }
    return replace(parts[0], **{name: joined(name) for name in _COLUMNS}, outputs=outputs)


class Estimate(NamedTuple):
    """A figure and its bootstrap interval; NaN of no image, respectively fewer than two."""

    value: float
    low: float
    high: float
    images: int


@dataclass(frozen=True)
class Group:
    """Figures of the images that share what the name says, as of `Evaluation` but the rejections.

    Box figures of a group without objects are NaN.
    """

    name: str
    images: int
    figures: Mapping[str, Estimate]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All figures of one split.

    Attributes:
        object_images: Images that show an object; box figures are of these.
        figures: By key, in the order of `figures.FIGURES`; the Top-5 figures are left out with five
            classes or fewer, the rejections without a background.
        baselines: Box figures by name of `baseline_boxes`; empty where no training box is known.
        errors: Shares of the images with an object: `right, class_wrong, box_wrong, both_wrong`.
        sizes: By the share of the picture that the object covers, from small to large.
        positions: By where the object's centre is, nine fields row by row.
        confusion: int64 (K, K), images of true class (row) answered as (column).
        apart: All figures of the images without near duplicates among the training images; None
            where that is all of them.
    """

    images: int
    object_images: int
    class_names: Sequence[str]
    figures: Mapping[str, Estimate]
    baselines: Mapping[str, Mapping[str, Estimate]]
    errors: Mapping[str, Estimate]
    classes: Sequence[Group]
    sizes: Sequence[Group]
    positions: Sequence[Group]
    confusion: npt.NDArray[np.int64]
    level: float
    resamples: int
    seed: int
    apart: Group | None = None


def paired_iou(boxes: npt.ArrayLike, boxes_pred: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over union of row i with row i (Jaccard index), float64 (N,) in [0, 1].

    Boxes are (N, 4), (x1, y1, x2, y2) in one unit; a coordinate of NaN gives NaN. A box that is
    inverted along an axis has no extent there, as in `loc_keras.boxes`.
    """
    low, high = _corners(boxes)
    low_pred, high_pred = _corners(boxes_pred)
    shared = np.maximum(np.minimum(high, high_pred) - np.maximum(low, low_pred), 0.0).prod(axis=1)
    union = (high - low).prod(axis=1) + (high_pred - low_pred).prod(axis=1) - shared
    safe = np.where(union <= _NEGLIGIBLE, 1.0, union)
    return np.where(union <= _NEGLIGIBLE, 0.0, shared / safe)


def corner_errors(boxes: npt.ArrayLike, boxes_pred: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean distance of the two top left and of the two bottom right corners (Euclidean).

    It is float64 (N,), in the unit of the boxes, (N, 4), (x1, y1, x2, y2).
    """
    moves = np.asarray(boxes, np.float64) - np.asarray(boxes_pred, np.float64)
    return (np.hypot(moves[:, 0], moves[:, 1]) + np.hypot(moves[:, 2], moves[:, 3])) / 2


def top_k_hits(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, k: int
) -> npt.NDArray[np.bool_]:
    """Whether the true class, in 0..K - 1, is among the k most probable ones of (N, K): bool (N,).

    Ties are broken as in `loc_keras.metrics.hits_top_k`: of equal classes the smaller index comes
    first, so a constant answer is right for k classes only.
    """
    labels, values = np.asarray(labels), np.asarray(probabilities)
    own = np.take_along_axis(values, labels[:, None], axis=1)
    before = np.arange(values.shape[1]) < labels[:, None]
    # Counted this way round, a comparison with NaN never helps the true class.
    behind = (values < own) | ((values == own) & ~before)
    return np.count_nonzero(~behind, axis=1) < k


def _corners(boxes: npt.ArrayLike) -> tuple[Boxes, Boxes]:
    """Top left and bottom right corners, (N, 2) each; both at the middle where inverted."""
    values = np.asarray(boxes, np.float64)
    low, high = values[:, :2], values[:, 2:]
    middle = (low + high) / 2
    return np.minimum(low, middle), np.maximum(high, middle)


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
