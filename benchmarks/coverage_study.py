"""Are the promises kept? Coverage over many random splits of held-out answers.

A pool of answers to images that the model was not trained on is split at random, again and again,
into images to calibrate with and images to test on. Each split fits outer boxes, inner boxes and
label sets, and counts how often they keep their promise; the study gives means over the splits.

The splits share images, yet need no correction for it: without ties only the order of the scores
decides what is kept, and every way to deal that order out is equally likely. So, given the pool,
the splits are independent draws of one known distribution: the number kept among m test images is
beta-binomial with parameters k and n + 1 - k, of mean k / (n + 1) for k = ceil((n + 1) coverage).
The deviation over the splits, divided by the root of their number, is the standard error of the
mean, and `expected_error` is what theory says it is. Ties, empty inner boxes and the top label can
only lift the mean above `expected`. What does depend on the pool is the size of boxes and sets.

A mean that is exactly as asked falls short by more than one standard error in one case of six.

A study like this proves the calculation and shows what the promise costs. That new images keep the
promise needs them to be like the pool.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from keras import ops
from scipy.stats import betabinom

from loc_keras.errors import TrustError
from loc_keras.trust.confidence import finite
from loc_keras.trust.conformal import (
    K_REG,
    PENALTY,
    SCALINGS,
    Scaling,
    areas,
    conformal_rank,
    inner_boxes,
    inner_scores,
    is_empty,
    label_scores,
    least_images,
    outer_boxes,
    outer_scores,
    scales_of,
    threshold_above,
    within,
)

COVERAGES = (0.8, 0.9, 0.95, 0.99)

# Boxes of so many test images are made at once.
_AT_ONCE = 250_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeldOutAnswers:
    """Truth and answer of images with an object that the model was not trained on.

    Attributes:
        labels: True classes, int (N,).
        probabilities: float (N, K).
        boxes: True boxes in fractions, float (N, 4).
        boxes_pred: Predicted boxes, float (N, 4).
        spread: Standard deviation of each predicted side, float (N, 4); None where the model says
            nothing of it.
    """

    labels: npt.NDArray[np.integer]
    probabilities: npt.NDArray[np.floating]
    boxes: npt.NDArray[np.floating]
    boxes_pred: npt.NDArray[np.floating]
    spread: npt.NDArray[np.floating] | None = None


@dataclass(frozen=True)
class CoverageRow:
    """One promise over all splits; the figures are NaN where calibration images were too few.

    Attributes:
        kind: `outer box`, `inner box` or `label set`.
        scaling: Of the box's margin; None for label sets.
        asked: Promised share.
        needed: Calibration images that this promise needs.
        too_few: Whether there are fewer.
        kept: Share of test images for which it was kept, mean over the splits.
        standard_error: Of that mean, from the deviation over the splits.
        expected: What `kept` is by theory without ties, k / (n + 1).
        expected_error: What `standard_error` is by theory.
        size: Mean share of the picture that the box covers, or mean number of labels.
        empty: Share of inner boxes that are empty; 0 for the others.
    """

    kind: str
    scaling: Scaling | None
    asked: float
    needed: int
    too_few: bool
    kept: float = float("nan")
    standard_error: float = float("nan")
    expected: float = float("nan")
    expected_error: float = float("nan")
    size: float = float("nan")
    empty: float = float("nan")

    @property
    def met(self) -> bool:
        """Whether the mean is within one standard error of what was asked, or above."""
        return self.kept + self.standard_error >= self.asked


@dataclass(frozen=True)
class CoverageStudy:
    """All promises over the same splits.

    Attributes:
        calibration_images: In each split.
        test_images: In each split.
        splits: How many.
        seed: Of the splits.
        rows: By kind, scaling and coverage.
    """

    calibration_images: int
    test_images: int
    splits: int
    seed: int
    rows: tuple[CoverageRow, ...]


def coverage_over_splits(
    answers: HeldOutAnswers,
    *,
    coverages: Sequence[float] = COVERAGES,
    splits: int = 500,
    calibration_share: float = 0.5,
    seed: int = 0,
    penalty: float = PENALTY,
    k_reg: int = K_REG,
) -> CoverageStudy:
    """Coverage and size of outer boxes, inner boxes and label sets.

    Args:
        answers: The pool.
        coverages: Promised shares, each in (0, 1).
        splits: Two or more.
        calibration_share: Of the pool, rounded to whole images.
        seed: Of the splits.
        penalty: Of the label sets.
        k_reg: Of the label sets.

    Raises:
        TrustError: A split would lack images of one side, or the arrays do not fit together.
    """
    p, labels = finite(answers.probabilities, "probabilities"), answers.labels
    true, pred = (finite(one, "coordinates") for one in (answers.boxes, answers.boxes_pred))
    images = len(labels)
    calibration = round(images * calibration_share)
    if len(true) != images or not 0 < calibration < images or splits < 2:
        raise TrustError(
            f"A coverage study needs two or more splits with images on both sides, and one box for "
            f"each label, but has {splits} splits of {images} labels and {len(true)} boxes, "
            f"{calibration} of them to calibrate with."
        )
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(images), (splits, 1)), axis=1)
    study = _Splits(orders[:, :calibration], orders[:, calibration:])

    rows: list[CoverageRow] = []
    for scaling in SCALINGS if answers.spread is not None else SCALINGS[:2]:
        scales = ops.convert_to_numpy(scales_of(pred, scaling, answers.spread))
        for kind, score, measure in (
            ("outer box", outer_scores, _outer),
            ("inner box", inner_scores, _inner),
        ):
            measured = _over_portions(measure, study, true, pred, scales)
            rows += study.rows(kind, scaling, score(true, pred, scales), measured, coverages)
    scores = ops.convert_to_numpy(label_scores(p, penalty, k_reg)).astype(np.float64)
    own = scores[np.arange(images), labels]
    measured = _label_measure(study, scores, labels, p.argmax(axis=1))
    rows += study.rows("label set", None, own, measured, coverages)
    return CoverageStudy(calibration, images - calibration, splits, seed, tuple(rows))


# Of one quantile for each split (S,): kept, size and empty share of each split, (3, S).
_Measure = Callable[[Floats], Floats]


@dataclass(frozen=True)
class _Splits:
    """Rows of the pool, int (S, n) to calibrate with and (S, m) to test on."""

    calibration: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]

    def rows(
        self,
        kind: str,
        scaling: Scaling | None,
        scores: Floats,
        measure: _Measure,
        coverages: Sequence[float],
    ) -> Iterator[CoverageRow]:
        """A row for each coverage, from scores (N,) of the true boxes or classes."""
        splits, images = self.calibration.shape
        ranked = np.sort(scores[self.calibration], axis=1)
        for coverage in coverages:
            needed = least_images(coverage)
            if images < needed:
                yield CoverageRow(kind, scaling, coverage, needed, too_few=True)
                continue
            rank = conformal_rank(images, coverage)
            kept, size, empty = measure(ranked[:, rank - 1])
            theory = betabinom(self.test.shape[1], rank, images + 1 - rank)
            yield CoverageRow(
                kind,
                scaling,
                coverage,
                needed,
                too_few=False,
                kept=float(kept.mean()),
                standard_error=float(kept.std(ddof=1) / np.sqrt(splits)),
                expected=rank / (images + 1),
                expected_error=float(theory.std() / self.test.shape[1] / np.sqrt(splits)),
                size=float(size.mean()),
                empty=float(empty.mean()),
            )


def _over_portions(
    measure: Callable[[Floats, Floats, Floats, Floats], Floats],
    study: _Splits,
    true: Floats,
    pred: Floats,
    scales: Floats,
) -> _Measure:
    """Makes and measures the boxes of some splits at a time, to bound the memory."""
    most = max(1, _AT_ONCE // study.test.shape[1])

    def of_all(margins: Floats) -> Floats:
        parts = []
        for start in range(0, len(margins), most):
            test = study.test[start : start + most]
            margin = margins[start : start + most, None]
            parts.append(measure(true[test], pred[test], scales[test], margin))
        return np.concatenate(parts, axis=1)

    return of_all


def _outer(true: Floats, pred: Floats, scales: Floats, margin: Floats) -> Floats:
    boxes = ops.convert_to_numpy(outer_boxes(pred, scales, margin))
    kept = within(true, boxes).mean(axis=1)
    return np.stack([kept, areas(boxes).mean(axis=1), np.zeros_like(kept)])


def _inner(true: Floats, pred: Floats, scales: Floats, margin: Floats) -> Floats:
    boxes = ops.convert_to_numpy(inner_boxes(pred, scales, margin))
    empty = ops.convert_to_numpy(is_empty(boxes))
    kept = (within(boxes, true) | empty).mean(axis=1)
    return np.stack([kept, areas(boxes).mean(axis=1), empty.mean(axis=1)])


def _label_measure(
    study: _Splits, scores: Floats, labels: npt.NDArray[np.int64], top: npt.NDArray[np.int64]
) -> _Measure:
    """Measures label sets from the scores of all labels, (N, K); the top label is always in."""
    images = np.arange(len(labels))
    scores = scores.copy()
    scores[images, top] = -np.inf
    own = scores[images, labels]

    def of_all(quantiles: Floats) -> Floats:
        thresholds = threshold_above(quantiles)
        kept = (own[study.test] <= thresholds[:, None]).mean(axis=1)
        sizes = np.empty(len(thresholds))
        for split, threshold in enumerate(thresholds):
            sizes[split] = (scores <= threshold).sum(axis=1)[study.test[split]].mean()
        return np.stack([kept, sizes, np.zeros_like(kept)])

    return of_all
