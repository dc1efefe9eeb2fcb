"""An evaluation read a second time, by pycocotools, from the files that it wrote.

    python -m benchmarks.second_reading --evaluation DIR

DIR holds `metrics.json`, `coco_truth.json` and `coco_detections.json`. The table shows each figure
as we wrote it and as COCO's own evaluator finds it: IoUs by `maskUtils.iou`, shares by the matching
of `COCOeval`, Top-1 localization with classes, GT-known with every detection given its image's true
class. Class figures and the corner error are counted in plain Python. The exit code is 1 where a
figure differs by more than a millionth.
"""

import argparse
import contextlib
import copy
import io
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.table import Table

from loc_keras.errors import DataError
from loc_keras.evaluation.files import DETECTIONS_FILE, METRICS_FILE, TRUTH_FILE

TOLERANCE = 1e-6
THRESHOLDS = (0.3, 0.5, 0.7, 0.75, 0.9)
BACKGROUND = "background"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--evaluation", type=Path, required=True, help="folder of an evaluation")
    folder = parser.parse_args(arguments).evaluation
    try:
        ours, theirs = our_figures(folder), their_figures(folder)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = Table(title=str(folder))
    table.add_column("figure")
    for heading in ("ours", "theirs", "difference"):
        table.add_column(heading, justify="right")
    for name, value in theirs.items():
        gap = abs(value - ours[name])
        style = "" if gap <= TOLERANCE else "bold red"
        table.add_row(name, f"{ours[name]:.6f}", f"{value:.6f}", f"{gap:.1e}", style=style)
    Console().print(table)
    return int(any(abs(value - ours[name]) > TOLERANCE for name, value in theirs.items()))


def our_figures(folder: Path) -> dict[str, float]:
    """Figures of `metrics.json` that have a value."""
    content = _read(folder / METRICS_FILE)
    values = {name: estimate["value"] for name, estimate in content["figures"].items()}
    return {name: value for name, value in values.items() if value is not None}


def their_figures(folder: Path) -> dict[str, float]:
    """The same figures, as far as COCO's files tell them, from pycocotools."""
    truth, detections = _read(folder / TRUTH_FILE), _read(folder / DETECTIONS_FILE)
    annotations = {one["image_id"]: one for one in truth["annotations"]}
    shown = [one for one in detections if one["image_id"] in annotations]
    figures = class_figures(truth, detections)
    if not shown:
        return figures
    ious = [_iou(annotations[one["image_id"]], one) for one in shown]
    named = [{**one, "category_id": annotations[one["image_id"]]["category_id"]} for one in shown]
    box = matched_shares(truth, detections, with_classes=False)
    top1 = matched_shares(truth, detections, with_classes=True)
    known = matched_shares(truth, named, with_classes=True)
    corners = [_corner_error(annotations[one["image_id"]]["bbox"], one["bbox"]) for one in shown]
    return figures | {
        "mean_iou": statistics.fmean(ious),
        "median_iou": statistics.median(ious),
        "acc50": box[0.5],
        "acc75": box[0.75],
        "acc90": box[0.9],
        "top1_loc": top1[0.5],
        "gt_known_loc": known[0.5],
        "max_box_acc_v2": statistics.fmean(box[threshold] for threshold in (0.3, 0.5, 0.7)),
        "corner_error_px": statistics.fmean(corners),
    }


def matched_shares(
    truth: dict[str, Any], detections: list[dict[str, Any]], *, with_classes: bool
) -> dict[float, float]:
    """Share of the true boxes that COCOeval matches to a detection, by IoU threshold."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
        evaluator.params.iouThrs = np.array(THRESHOLDS)
        evaluator.params.maxDets = [1]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, math.inf]], ["all"]
        evaluator.params.useCats = int(with_classes)
        evaluator.evaluate()
    matched = np.zeros(len(THRESHOLDS))
    for image in evaluator.evalImgs:
        if image is not None:
            matched += np.count_nonzero(image["dtMatches"], axis=1)
    return dict(zip(THRESHOLDS, (matched / len(truth["annotations"])).tolist(), strict=True))


def class_figures(truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, float]:
    """Class accuracy, and with a background both rejections; an image without box shows none."""
    background = [one["id"] for one in truth["categories"] if one["supercategory"] == BACKGROUND]
    true = {one["image_id"]: one["category_id"] for one in truth["annotations"]}
    said = {one["image_id"]: one["category_id"] for one in detections}
    images = [one["id"] for one in truth["images"]]
    nothing = background[0] if background else None
    figures = {"class_accuracy": statistics.fmean(said[i] == true.get(i, nothing) for i in images)}
    parts = {
        "rejection": [said[i] == nothing for i in images if i not in true],
        "false_rejection": [said[i] == nothing for i in images if i in true],
    }
    if background:
        figures |= {name: statistics.fmean(part) for name, part in parts.items() if part}
    return figures


def _iou(annotation: dict[str, Any], detection: dict[str, Any]) -> float:
    return float(mask.iou([detection["bbox"]], [annotation["bbox"]], [0])[0, 0])


def _corner_error(one: Sequence[float], other: Sequence[float]) -> float:
    ends = [[box[0] + box[2], box[1] + box[3]] for box in (one, other)]
    return (math.dist(one[:2], other[:2]) + math.dist(*ends)) / 2


def _read(path: Path) -> Any:
    if not path.is_file():
        raise DataError(
            f"{path} is missing; give --evaluation a folder that python -m loc_keras.evaluate "
            "wrote."
        )
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
