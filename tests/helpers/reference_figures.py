"""The figures of an evaluation once more, by plain loops over images, from their definitions.

Written apart from the product on purpose: no array operations, ranks by sorting, boxes one by one.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

Box = Sequence[float]

KEYS = [
    *("class_accuracy", "top5_accuracy", "mean_iou", "median_iou", "acc50", "acc75", "acc90"),
    *("top1_loc", "top5_loc", "gt_known_loc", "max_box_acc_v2", "corner_error_px"),
]
"""Keys of all figures but the rejections, in the order of tables and files."""


def iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def corner_error(a: Box, b: Box) -> float:
    first = math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2)
    return (first + math.sqrt((a[2] - b[2]) ** 2 + (a[3] - b[3]) ** 2)) / 2


def ranking(probabilities: Sequence[float]) -> list[int]:
    """Classes from most to least probable; `sorted` keeps equal ones in order."""
    return sorted(range(len(probabilities)), key=lambda index: -probabilities[index])


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def rows_of(outcomes: Any) -> list[dict[str, Any]]:
    """Each image as a dictionary of plain Python values."""
    found = []
    for index in range(len(outcomes.labels)):
        label = int(outcomes.labels[index])
        order = ranking(outcomes.probabilities[index].tolist())
        truth, said = outcomes.boxes_px[index].tolist(), outcomes.boxes_pred_px[index].tolist()
        height, width = outcomes.sizes[index].tolist()
        found.append(
            {
                "label": label,
                "order": order,
                "shown": outcomes.background is None or label != outcomes.background,
                "truth": truth,
                "iou": iou(truth, said),
                "corner": corner_error(truth, said),
                "covers": (truth[2] - truth[0]) * (truth[3] - truth[1]) / (width * height),
                "column": int(3 * (truth[0] + truth[2]) / 2 / width),
                "row": int(3 * (truth[1] + truth[3]) / 2 / height),
                "width": width,
                "height": height,
            }
        )
    return found


def box_figures(ious: Sequence[float], corners: Sequence[float]) -> dict[str, float]:
    return {
        "mean_iou": mean(ious),
        "median_iou": statistics.median(ious) if ious else math.nan,
        "acc50": mean([float(one >= 0.5) for one in ious]),
        "acc75": mean([float(one >= 0.75) for one in ious]),
        "acc90": mean([float(one >= 0.9) for one in ious]),
        "gt_known_loc": mean([float(one >= 0.5) for one in ious]),
        "max_box_acc_v2": mean([mean([float(one >= t) for t in (0.3, 0.5, 0.7)]) for one in ious]),
        "corner_error_px": mean(corners),
    }


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """All figures but the rejections, of rows of more than five classes."""
    shown = [row for row in rows if row["shown"]]

    def share(of: Sequence[dict[str, Any]], hit: Callable[[dict[str, Any]], bool]) -> float:
        return mean([float(hit(row)) for row in of])

    return {
        "class_accuracy": share(rows, lambda row: row["order"][0] == row["label"]),
        "top5_accuracy": share(rows, lambda row: row["label"] in row["order"][:5]),
        **box_figures([row["iou"] for row in shown], [row["corner"] for row in shown]),
        "top1_loc": share(shown, lambda row: row["order"][0] == row["label"] and row["iou"] >= 0.5),
        "top5_loc": share(
            shown, lambda row: row["label"] in row["order"][:5] and row["iou"] >= 0.5
        ),
    }


def errors(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    found = {"right": 0.0, "class_wrong": 0.0, "box_wrong": 0.0, "both_wrong": 0.0}
    shown = [row for row in rows if row["shown"]]
    for row in shown:
        if row["order"][0] == row["label"]:
            found["right" if row["iou"] >= 0.5 else "box_wrong"] += 1 / len(shown)
        else:
            found["class_wrong" if row["iou"] >= 0.5 else "both_wrong"] += 1 / len(shown)
    return found


def size_place(row: dict[str, Any]) -> int:
    for place, edge in enumerate((0.05, 0.2, 0.5)):
        if row["covers"] < edge:
            return place
    return 3


def position_place(row: dict[str, Any]) -> int:
    return 3 * min(row["row"], 2) + min(row["column"], 2)


def floor(rows: Sequence[dict[str, Any]], box: Box) -> dict[str, float]:
    """Box figures of one box in fractions, scaled to each picture."""
    ious, corners = [], []
    for row in rows:
        if row["shown"]:
            w, h = row["width"], row["height"]
            there = (box[0] * w, box[1] * h, box[2] * w, box[3] * h)
            ious.append(iou(row["truth"], there))
            corners.append(corner_error(row["truth"], there))
    return box_figures(ious, corners)
