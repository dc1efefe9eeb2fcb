"""Whether new images look to a model as those of the calibration split did.

A guarantee of split conformal prediction holds for images drawn as the calibration images were.
That cannot be proved, but it can be refuted: if a statistic of the new images is distributed
otherwise than that of the calibration images, they were not drawn alike. Several signals are each
put to a two-sample test, and their p-values corrected for the number of tests, as Rabanser,
Günnemann and Lipton found to work best (2019, "Failing Loudly").
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from loc_keras.errors import TrustError
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.reliability import Shift, ShiftTest
from loc_keras.trust.confidence import box_signals

LEVEL = 0.01  # Sets that were drawn alike are called different this often at most.
MOST_KEPT = 2000  # Calibration images whose statistics are kept, at most.

PROJECTIONS = 8
CLASSES = "predicted classes"
_LEAST_EXPECTED = 5
_LEAST_IMAGES = 8
_MOST_EXACT = 10_000
_SEED = 20190
_PLACES = 5

Columns = Mapping[str, npt.NDArray[np.floating]]


@dataclass(frozen=True)
class ShiftReference:
    """The statistics of the calibration images.

    Values are by signal, for all images or an even sample of `MOST_KEPT`; `classes` counts images
    answered with each; `feature_scale` is the standard deviation of each feature, (F,), empty where
    other models have answered: confidence, doubt and features are then not compared.
    """

    images: int
    values: dict[str, list[float]]
    classes: list[int]
    feature_scale: list[float]


def shift_reference(outcomes: Outcomes, *, by_others: bool = False) -> ShiftReference:
    """Keeps the statistics of calibration images, which other models may have answered."""
    features = np.asarray(outcomes.outputs["features"], np.float64)
    scale = np.zeros(0) if by_others else features.std(axis=0)
    columns = _columns(outcomes, scale)
    keep = np.linspace(0, len(outcomes) - 1, min(len(outcomes), MOST_KEPT)).round().astype(int)
    return ShiftReference(
        images=len(outcomes),
        values={name: rounded(column[keep]) for name, column in columns.items()},
        classes=_class_counts(outcomes).tolist(),
        feature_scale=rounded(scale),
    )


def measure_shift(reference: ShiftReference, outcomes: Outcomes, level: float = LEVEL) -> Shift:
    """Tests whether new images, whose truth is not looked at, were drawn as the calibration images.

    Every signal is compared by the two-sample test of Kolmogorov and Smirnov, and the numbers of
    images answered with each class by a chi-square test; p-values are multiplied by the number of
    tests (Bonferroni), so that sets drawn alike are called different at most in a share `level`.
    """
    classes, known = _class_counts(outcomes), len(reference.feature_scale)
    fits = known in (0, outcomes.outputs["features"].shape[1])
    columns = _columns(outcomes, np.array(reference.feature_scale)) if fits else {}
    fits = fits and columns.keys() <= reference.values.keys()
    if not fits or len(classes) != len(reference.classes):
        raise TrustError(
            "the trust file compares new images by other features, signals or classes than this "
            "model gives; calibrate this model anew."
        )
    tests = []
    if min(len(outcomes), reference.images) >= _LEAST_IMAGES:
        for name, column in columns.items():
            before = np.array(reference.values[name])
            # Rounded alike, or the last digit would tell the two apart.
            tests.append((name, *_distributions_test(before, np.array(rounded(column)))))
        if len(reference.classes) > 1:
            tests.append((CLASSES, *_classes_test(np.array(reference.classes), classes)))
    corrected = [ShiftTest(name, far, min(1.0, p * len(tests))) for name, far, p in tests]
    corrected.sort(key=lambda test: (test.p_value, -test.distance))
    return Shift(
        images=len(outcomes),
        calibration_images=reference.images,
        p_value=corrected[0].p_value if corrected else 1.0,
        level=level,
        tests=corrected,
    )


def _columns(outcomes: Outcomes, feature_scale: npt.NDArray[np.floating]) -> Columns:
    """One number an image for each statistic, by the words that are shown for it."""
    signals = {name: np.asarray(value) for name, value in box_signals(outcomes.outputs).items()}
    words = {
        "class_log_odds": "class confidence",
        "log_area": "box area",
        "spread": "spread of the box",
        "chance50": "expected quality of the box",
    }
    if not len(feature_scale):
        words = {"log_area": words["log_area"]}
    columns = {words[name]: value for name, value in signals.items() if name in words}
    boxes = np.asarray(outcomes.outputs["bbox"])
    columns["place of the box, x"] = boxes[:, [0, 2]].mean(axis=1)
    columns["place of the box, y"] = boxes[:, [1, 3]].mean(axis=1)
    columns |= {name: outcomes.outputs[name] for name in ("brightness", "contrast")}
    if not len(feature_scale):
        return columns
    features = np.asarray(outcomes.outputs["features"], np.float64)
    # A feature that never moved among the calibration images tells nothing, or everything.
    scaled = features / np.where(feature_scale > 0, feature_scale, 1.0)
    columns["size of the features"] = np.linalg.norm(scaled, axis=1)
    # Fixed directions: ones fitted to the calibration images would set these apart from others.
    directions = np.random.default_rng(_SEED).standard_normal((features.shape[1], PROJECTIONS))
    projected = scaled @ (directions / np.sqrt(features.shape[1]))
    for number in range(PROJECTIONS):
        columns[f"features, direction {number + 1}"] = projected[:, number]
    return columns


def _class_counts(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    probabilities = np.asarray(outcomes.outputs["softmax"])
    return np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])


def _distributions_test(
    before: npt.NDArray[np.floating], now: npt.NDArray[np.floating]
) -> tuple[float, float]:
    """Distance and p-value of Kolmogorov and Smirnov, exact for small samples."""
    method = "exact" if len(before) * len(now) <= _MOST_EXACT else "asymp"
    with warnings.catch_warnings():
        # Where the exact sum overflows, scipy says so and takes the asymptotic one.
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ks_2samp(before, now, method=method)
    return float(test.statistic), float(test.pvalue)


def _classes_test(before: npt.NDArray[np.int64], now: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Total variation distance and chi-square p-value of two sets of class counts.

    Classes that are too rare for the test (fewer than five expected) count as one.
    """
    table = np.stack([before, now]).astype(np.float64)
    distance = 0.5 * float(np.abs(np.subtract(*(table / table.sum(axis=1, keepdims=True)))).sum())
    share = table.sum(axis=1).min() / table.sum()
    rare = table.sum(axis=0) * share < _LEAST_EXPECTED
    table = np.concatenate([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)], axis=1)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return distance, 1.0
    return distance, float(stats.chi2_contingency(table, correction=False).pvalue)


def rounded(values: npt.NDArray[np.floating]) -> list[float]:
    """Values with as many digits as a float32 needs here, so that the file stays small."""
    return [float(f"{value:.{_PLACES}g}") for value in values.tolist()]
