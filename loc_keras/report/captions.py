"""The words under a picture: what was true, what the model said, how well the boxes agree."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

WRONG_MARK = "✗"
LOCALIZED_IOU = 0.5  # the threshold of Top-1 localization (Russakovsky et al. 2015)


def format_iou(iou: float) -> str:
    """Write an IoU with two decimals and no leading zero: `.97`, `1.00`, `–` for NaN."""
    if not math.isfinite(iou):
        return "–"
    return f"{iou:.2f}".removeprefix("0")


def is_localized(label_true: int, label_pred: int, iou: float) -> bool:
    """Whether class and box are both right: same label and IoU of at least .5."""
    return label_true == label_pred and iou >= LOCALIZED_IOU


def caption_parts(name_true: str, name_pred: str, probability: float, iou: float) -> list[str]:
    """Say in short parts what a prediction got right; a cross marks each failure.

    Args:
        name_true: Name of the true class.
        name_pred: Name of the predicted class.
        probability: Probability given to the predicted class, in [0, 1].
        iou: Intersection over union of the two boxes, in [0, 1]; NaN is allowed.

    Returns:
        `["true 7", "said 7", "98 %", "IoU .97"]`; with a wrong class the second part starts
        with a cross, with an IoU below .5 (or NaN) the last does.
    """
    said = f"said {name_pred}"
    box = f"IoU {format_iou(iou)}"
    if name_true != name_pred:
        said = f"{WRONG_MARK} {said}"
    if not iou >= LOCALIZED_IOU:
        box = f"{WRONG_MARK} {box}"
    return [f"true {name_true}", said, f"{100 * probability:.0f} %", box]


def caption_without_object(name_true: str, name_pred: str, probability: float) -> list[str]:
    """As `caption_parts` for an image without an object, which has no box to agree with."""
    said = f"said {name_pred}"
    if name_true != name_pred:
        said = f"{WRONG_MARK} {said}"
    return [f"true {name_true}", said, f"{100 * probability:.0f} %"]


def caption_of_one_class(name: str, iou: float) -> list[str]:
    """As `caption_parts` where there is one class, which is always right."""
    return [name, caption_parts(name, name, 1.0, iou)[-1]]


def caption(name_true: str, name_pred: str, probability: float, iou: float) -> str:
    """The caption on one line: `true 7 · said 7 · 98 % · IoU .97`; see `caption_parts`."""
    return " · ".join(caption_parts(name_true, name_pred, probability, iou))


def class_name(label: int, class_names: Sequence[str] | None) -> str:
    """Name a label: its entry in `class_names`, or the number itself where there is none."""
    if class_names is not None and 0 <= label < len(class_names):
        return str(class_names[label])
    return str(label)


def spread_by_iou(ious: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    """Choose examples at even ranks of IoU, the worst and the best included.

    With `count=5` these are the worst, the lower quartile, the median, the upper quartile
    and the best. A choice by rank shows failures as often as they happen, and always the
    worst one.

    Args:
        ious: (N,) IoU of each example; NaN counts as worse than every number.
        count: How many to choose, at least 1; at most N are returned. One alone is the median.

    Returns:
        int64 (min(count, N),) distinct indices into `ious`, worst first.

    Raises:
        ValueError: `count` is below 1 or `ious` is not one-dimensional.
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


def spread_title(ious: npt.ArrayLike, count: int, split: str, images: str = "") -> str:
    """Say how `spread_by_iou` chose, so that nobody takes a gallery for a best-of.

    Args:
        ious: (N,) IoU of every example that could have been chosen.
        count: How many are shown.
        split: Name of the split, for example `"test"`.
        images: What was chosen from in words; `""` for the images of the split.

    Returns:
        For example `12 of 10,000 test images at even ranks of IoU: worst .41, best .99,
        mean of all .97`.
    """
    values = np.asarray(ious, dtype=np.float64)
    images = images or f"{split} images"
    shown = min(count, len(values))
    if shown == len(values):
        return f"All {shown:,} {images}, ordered by IoU, mean {format_iou(values.mean())}"
    low, high = format_iou(float(values.min())), format_iou(float(values.max()))
    return (
        f"{shown} of {len(values):,} {images} at even ranks of IoU: "
        f"worst {low}, best {high}, mean of all {format_iou(float(values.mean()))}"
    )
