"""How a comparison of runs is written: names of figures, numbers with their units, p-values."""

import math

from loc_keras.evaluation.paired import LOWER_IS_BETTER, Comparison, Difference
from loc_keras.evaluation.results import Estimate

FIGURE_NAMES = {
    "class_accuracy": "class accuracy",
    "mean_iou": "mean IoU × 100",
    "acc50": "box accuracy, IoU ≥ .5",
    "acc75": "box accuracy, IoU ≥ .75",
    "acc90": "box accuracy, IoU ≥ .9",
    "top1_loc": "Top-1 localization",
    "gt_known_loc": "GT-known localization",
    "corner_error_px": "corner error in px (lower is better)",
}
SHORT_NAMES = {
    "class_accuracy": "class accuracy",
    "mean_iou": "mean IoU × 100",
    "acc50": "IoU ≥ .5",
    "acc75": "IoU ≥ .75",
    "acc90": "IoU ≥ .9",
    "top1_loc": "Top-1 loc.",
    "gt_known_loc": "GT-known loc.",
    "corner_error_px": "corner error",
}
NOTHING = "–"
MINUS = "−"  # As wide as a plus sign, unlike the hyphen.


def images_words(comparison: Comparison) -> str:
    """Such as `1,000 images, 900 of them with an object`."""
    images = f"{comparison.images:,} image{'' if comparison.images == 1 else 's'}"
    if comparison.object_images == comparison.images:
        return images
    return f"{images}, {comparison.object_images:,} of them with an object"


def in_units(figure: str, value: float) -> float:
    """The number as it is shown: percent, or px of the corner error."""
    return value if figure in LOWER_IS_BETTER else 100 * value


def value_words(figure: str, estimate: Estimate) -> str:
    """Such as `71.23`; a dash for NaN."""
    return _number(in_units(figure, estimate.value))


def interval_words(figure: str, one: Estimate | Difference) -> str:
    """Such as `70.11 to 72.35`, with signs for a difference; a dash for NaN."""
    if math.isnan(one.low):
        return NOTHING
    signed = isinstance(one, Difference)
    low, high = (_number(in_units(figure, end), signed=signed) for end in (one.low, one.high))
    return f"{low} to {high}"


def difference_words(figure: str, difference: Difference) -> str:
    """Such as `+1.12` or `−0.40`; a dash for NaN."""
    return _number(in_units(figure, difference.value), signed=True)


def p_words(p_value: float) -> str:
    """Such as `.012` or `< .001`; a dash for NaN."""
    if math.isnan(p_value):
        return NOTHING
    if p_value < 0.001:
        return "< .001"
    return "1" if p_value >= 0.9995 else f"{p_value:.3f}".removeprefix("0")


def is_clear(difference: Difference) -> bool:
    """Whether the interval of the difference lies on one side of 0."""
    return difference.low > 0 or difference.high < 0


def _number(value: float, *, signed: bool = False) -> str:
    if math.isnan(value):
        return NOTHING
    text = f"{value:+.2f}" if signed and value else f"{abs(value):.2f}"
    return text.replace("-", MINUS)
