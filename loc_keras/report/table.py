"""The last lines of a run on screen: what was measured, and on how many images."""

import math
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

Metrics = Mapping[str, Mapping[str, float]]

MISSING = "–"
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
PERCENTAGES = {
    "softmax_accuracy": "class accuracy",
    "bbox_acc50": "box accuracy, IoU ≥ .5",
    "bbox_acc75": "box accuracy, IoU ≥ .75",
    "bbox_acc90": "box accuracy, IoU ≥ .9",
    "top1_loc": "Top-1 localization",
    "top5_loc": "Top-5 localization",
    "gt_known_loc": "GT-known localization",
    "max_box_acc_v2": "MaxBoxAccV2",
    "rejection": "background found empty",
    "false_rejection": "object called background",
}
NAMES = {
    "images": "images",
    "object_images": "images with an object",
    "softmax_accuracy": PERCENTAGES["softmax_accuracy"],
    "bbox_iou": "mean IoU",
    **PERCENTAGES,
}


ONE_CLASS = (
    "note: with one class the class is always right, so a class accuracy of 100 % is no result; "
    "only the box is learned and measured."
)
OBJECTS_ONLY = (
    "note: box and localization figures are those of the images with an object; class accuracy is "
    "that of all."
)
_COUNTED = frozenset({"classes"})  # Told in words.


def classes_words(class_names: Sequence[str]) -> str:
    """The number of classes with its noun."""
    return "1 class" if len(class_names) == 1 else f"{len(class_names):,} classes"


def format_metric(key: str, value: float | None) -> str:
    """Write one figure so that a column of them lines up.

    Args:
        key: Name of the metric.
        value: Its value; None where a split lacks it.

    Returns:
        Accuracies in percent with two decimals, whole numbers with thousands separators,
        everything else with four decimals; a dash for None and NaN.
    """
    if value is None or math.isnan(value):
        return MISSING
    if key in PERCENTAGES:
        return f"{100 * value:.2f} %"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}"


def metrics_table(metrics: Metrics) -> Table:
    """Lay out the metrics of one or more splits side by side.

    Args:
        metrics: Split name (`val`, `test`) to metric name to value; `images` is the number of
            images measured. Metrics that are not known here come last, under their own name.

    Returns:
        A table with one row per metric and one column per split.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("measured on", no_wrap=True)
    for split in metrics:
        table.add_column(SPLIT_NAMES.get(split, split), justify="right", no_wrap=True)
    table.add_column("key", style="dim", no_wrap=True)
    present = dict.fromkeys(key for values in metrics.values() for key in values)
    known = [key for key in NAMES if key in present]
    others = [key for key in present if key not in NAMES and key not in _COUNTED]
    for key in (*known, *others):
        figures = [Text(format_metric(key, values.get(key))) for values in metrics.values()]
        table.add_row(Text(NAMES.get(key, key)), *figures, Text(key))
    return table


def print_metrics(console: Console, metrics: Metrics) -> None:
    """Print the metrics of a run's splits as one table, and below it what they do not say.

    Args:
        console: Where to print.
        metrics: As in `metrics_table`, for example `{"val": {...}, "test": {...}}`.
    """
    console.print(metrics_table(metrics))
    present = {key for values in metrics.values() for key in values}
    if "classes" in present:
        console.print(ONE_CLASS, highlight=False, soft_wrap=True)
    if "object_images" in present:
        console.print(OBJECTS_ONLY, highlight=False, soft_wrap=True)
