"""Truth and answers as COCO's files, for other evaluators: pycocotools, FiftyOne, torchmetrics.

Truth is an `instances` file; answers are a list in COCO's format of detection results
(https://cocodataset.org/#format-results), one for each image. Ids count from 1, since evaluators
take 0 for "none"; the class with index i is the category i + 1. Boxes are `[x, y, width, height]`
in px with all their digits, so another evaluator gets the same IoU.

With a background, its class is a category too (`"supercategory": "background"`): an image without
an object has no annotation, and an answer of that category means "nothing here". COCO's average
precision leaves out a category without annotations, so the numbers of the objects stay as they are.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import write_text
from loc_keras.evaluation.outcomes import Outcomes

TRUTH_FILE = "coco_truth.json"
DETECTIONS_FILE = "coco_detections.json"


def write_coco(
    folder: Path,
    outcomes: Outcomes,
    class_names: Sequence[str],
    file_names: Sequence[str],
    scores: npt.ArrayLike | None = None,
) -> None:
    """Writes `coco_truth.json` and `coco_detections.json`, each whole or absent.

    Args:
        folder: An existing folder.
        outcomes: Of N images.
        class_names: Name of each class, by index.
        file_names: N files or names of the images.
        scores: (N,), see `scores.detection_scores`; None for the class probability.
    """
    files = {
        TRUTH_FILE: coco_truth(outcomes, class_names, file_names),
        DETECTIONS_FILE: coco_detections(outcomes, scores),
    }
    for name, content in files.items():
        # Escaped (`ensure_ascii`), since a file name need not be valid Unicode.
        write_text(folder / name, json.dumps(content, allow_nan=False) + "\n")


def coco_truth(
    outcomes: Outcomes, class_names: Sequence[str], file_names: Sequence[str]
) -> dict[str, Any]:
    """The true boxes as the content of an `instances` file; arguments as for `write_coco`."""
    images = [
        {"id": number, "file_name": name, "height": int(height), "width": int(width)}
        for number, (name, (height, width)) in enumerate(
            zip(file_names, outcomes.sizes, strict=True), start=1
        )
    ]
    annotations: list[dict[str, Any]] = []
    for index in np.flatnonzero(outcomes.shown).tolist():
        bbox = _xywh(outcomes.boxes_px[index])
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": index + 1,
                "category_id": int(outcomes.labels[index]) + 1,
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
                "iscrowd": 0,
                "segmentation": [],
            }
        )
    categories = [
        {
            "id": index + 1,
            "name": name,
            "supercategory": "background" if index == outcomes.background else "object",
        }
        for index, name in enumerate(class_names)
    ]
    return {
        "info": {"description": "truth of an evaluation by loc_keras", "version": "1"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def coco_detections(
    outcomes: Outcomes, scores: npt.ArrayLike | None = None
) -> list[dict[str, Any]]:
    """The answers in COCO's format of detection results, one for each image.

    Args:
        outcomes: Of N images.
        scores: (N,), see `scores.detection_scores`; None for the class probability.
    """
    scores = outcomes.confidences if scores is None else np.asarray(scores, np.float64)
    rows = zip(outcomes.predicted, outcomes.boxes_pred_px, scores, strict=True)
    return [
        {
            "image_id": number,
            "category_id": int(label) + 1,
            "bbox": _xywh(box),
            "score": float(score),
        }
        for number, (label, box, score) in enumerate(rows, start=1)
    ]


def _xywh(box_px: npt.NDArray[np.float64]) -> list[float]:
    """`[x, y, width, height]` of (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = box_px.tolist()
    return [x1, y1, x2 - x1, y2 - y1]
