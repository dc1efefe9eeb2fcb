"""The figures of an evaluation in words: their names, how they are written, what they mean."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loc_keras.evaluation.results import Estimate, Evaluation

MISSING = "–"
EASY = 0.5
"""Share of boxes that a box that sees nothing hits, from which on a set is called easy."""


class FigureWords(NamedTuple):
    """A figure in words.

    Attributes:
        name: Its name in the field.
        meaning: What it counts.
        unit: `%`, `iou` or `px`.
    """

    name: str
    meaning: str
    unit: str


FIGURES = {
    "class_accuracy": FigureWords("class accuracy", "the most probable class is right", "%"),
    "top5_accuracy": FigureWords("Top-5 accuracy", "the five most probable hold the class", "%"),
    "mean_iou": FigureWords("mean IoU", "overlap of true and predicted box, 0 to 1", "iou"),
    "median_iou": FigureWords("median IoU", "half of the boxes agree at least so well", "iou"),
    "acc50": FigureWords("box accuracy, IoU ≥ .5", "the box is roughly right", "%"),
    "acc75": FigureWords("box accuracy, IoU ≥ .75", "the box is right", "%"),
    "acc90": FigureWords("box accuracy, IoU ≥ .9", "the box is tight", "%"),
    "top1_loc": FigureWords("Top-1 localization", "class right and IoU ≥ .5", "%"),
    "top5_loc": FigureWords("Top-5 localization", "class among five and IoU ≥ .5", "%"),
    "gt_known_loc": FigureWords("GT-known localization", "IoU ≥ .5, whatever the class", "%"),
    "max_box_acc_v2": FigureWords("MaxBoxAccV2", "mean of IoU ≥ .3, .5 and .7", "%"),
    "corner_error_px": FigureWords("corner error", "mean distance of the corners", "px"),
    "rejection": FigureWords("background found empty", "of images without an object", "%"),
    "false_rejection": FigureWords("object called background", "of images with one", "%"),
}


def words_of(key: str) -> FigureWords:
    """The words of a figure; one without words is named by its key."""
    return FIGURES.get(key) or FigureWords(key.replace("_", " "), "", "number")


def format_value(key: str, value: float) -> str:
    """One figure with its unit: `93.2 %`, `.832`, `3.4 px`; a dash for NaN."""
    unit = words_of(key).unit
    if not math.isfinite(value):
        return MISSING
    if unit == "%":
        return f"{percent(value)} %"
    return f"{_plain(unit, value)} px" if unit == "px" else _plain(unit, value)


def format_interval(key: str, estimate: Estimate) -> str:
    """The interval of a figure: `91.0 – 94.9 %`; a dash where there is none."""
    unit = words_of(key).unit
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return MISSING
    if unit == "%":
        return f"{100 * estimate.low:.1f} – {100 * estimate.high:.1f} %"
    end = " px" if unit == "px" else ""
    return f"{_plain(unit, estimate.low)} – {_plain(unit, estimate.high)}{end}"


def percent(share: float) -> str:
    """A share with one decimal; one that is not quite none or all does not look like it."""
    words = f"{100 * share:.1f}"
    if words == "100.0" and share < 1:
        return "> 99.9"
    return "< 0.1" if words == "0.0" and share > 0 else words


def join_words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def best_floor(floors: Mapping[str, Mapping[str, Estimate]], key: str) -> str | None:
    """Name of the floor that scores best; None where none tells the figure."""
    known = {
        name: floor[key].value
        for name, floor in floors.items()
        if key in floor and math.isfinite(floor[key].value)
    }
    best = min if words_of(key).unit == "px" else max
    return best(known, key=lambda name: known[name]) if known else None


def format_gain(key: str, evaluation: Evaluation) -> str:
    """How far a figure lies from the best floor, with its sign; a dash where there is none."""
    name = best_floor(evaluation.floors, key)
    own = evaluation.figures[key].value
    if name is None or not math.isfinite(own):
        return MISSING
    gain = own - evaluation.floors[name][key].value
    unit = words_of(key).unit
    size = f"{100 * abs(gain):.1f}" if unit == "%" else _plain(unit, abs(gain))
    end = " px" if unit == "px" else ""
    return f"{'−' if gain < 0 else '+'}{size}{end}"


def gain_sentence(evaluation: Evaluation) -> str:
    """What the model's mean IoU is worth beside a box that sees nothing; `""` where unknown.

    A gain is called clear where the two intervals do not meet.
    """
    own = evaluation.figures.get("mean_iou")
    name = best_floor(evaluation.floors, "mean_iou")
    if own is None or name is None or not math.isfinite(own.value):
        return ""
    floor = evaluation.floors[name]["mean_iou"]
    model, blind = format_value("mean_iou", own.value), format_value("mean_iou", floor.value)
    start = f"The {name}, which never looks at the picture, has a mean IoU of {blind}"
    if own.low > floor.high:
        gain = own.value - floor.value
        closed = f", {100 * gain / (1 - floor.value):.0f} % of the way to a perfect box"
        return (
            f"{start}; the model has {model}. It gains {_plain('iou', gain)}"
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
    name = best_floor(evaluation.floors, "acc50")
    if name is None:
        return ""
    share = evaluation.floors[name]["acc50"].value
    if share < EASY:
        return ""
    return (
        f"Boxes of this set are easy to hit: the {name} is already right (IoU ≥ .5) on "
        f"{percent(share)} % of the images. Judge by the gain and by the stricter figures."
    )


def _plain(unit: str, value: float) -> str:
    if unit == "px":
        return f"{value:,.1f}"
    if unit == "iou":
        return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"
    return f"{value:.3g}"
