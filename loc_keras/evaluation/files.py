"""Files of an evaluation: `metrics.json`, `predictions.csv`, and truth and answers for COCO tools.

COCO's files are for other evaluators (pycocotools, FiftyOne, torchmetrics): truth is an `instances`
file, answers are a list of detection results (https://cocodataset.org/#format-results), one for
each image. Ids count from 1, since evaluators take 0 for "none"; the class with index i is the
category i + 1. Boxes are `[x, y, width, height]` in px with all their digits, so another evaluator
gets the same IoU. With a background, its class is a category too (`"supercategory":
"background"`): an image without an object has no annotation, and an answer of that category means
"nothing here". COCO's average precision leaves out a category without annotations, so the numbers
of the objects stay as they are.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import csv_text, label_set, safe_cell, write_text
from loc_keras.evaluation.outcomes import Evaluation, Outcomes
from loc_keras.evaluation.reliability import TrustFigures, detection_scores

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"
TRUTH_FILE = "coco_truth.json"
DETECTIONS_FILE = "coco_detections.json"

_SIDES = ("x1", "y1", "x2", "y2")


def write_metrics(
    path: Path,
    evaluation: Evaluation,
    trust: TrustFigures | None = None,
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes `metrics_json`, whole or absent; `about` says what was measured, such as the run."""
    content = metrics_json(evaluation, trust)
    if about:
        content = {"about": dict(about), **content}
    # Apart, since `indent` would give each cell a line: a million lines for a thousand classes.
    rows = ",\n".join(f"    {json.dumps(row)}" for row in content.pop("confusion"))
    rest = json.dumps(content, indent=2, allow_nan=False).removesuffix("\n}")
    write_text(path, f'{rest},\n  "confusion": [\n{rows}\n  ]\n}}\n')


def metrics_json(evaluation: Evaluation, trust: TrustFigures | None = None) -> dict[str, Any]:
    """All figures as values of JSON: mappings, lists, strings, numbers and None.

    An estimate is `{"value", "low", "high", "images"}`. A figure of no image is None: NaN is no
    JSON.
    """
    content: dict[str, Any] = {
        "images": evaluation.images,
        "object_images": evaluation.object_images,
        "class_names": evaluation.class_names,
        "intervals": {
            "method": "percentile bootstrap",
            "level": evaluation.level,
            "resamples": evaluation.resamples,
            "seed": evaluation.seed,
        },
        "figures": evaluation.figures,
        **({} if evaluation.apart is None else {"without_near_duplicates": evaluation.apart}),
        "floors": evaluation.baselines,
        "errors": evaluation.errors,
        "classes": evaluation.classes,
        "sizes": evaluation.sizes,
        "positions": evaluation.positions,
    }
    if trust is not None:
        content["trust"] = trust_json(trust)
    return {**_plain(content), "confusion": evaluation.confusion.tolist()}


def trust_json(trust: TrustFigures) -> dict[str, Any]:
    """What trust states of the whole split, as values of JSON."""
    before_after = ("before", "after")
    content: dict[str, Any] = {"temperature": trust.temperature}
    for name in ("ece", "nll", "class_bins"):
        content[name] = dict(zip(before_after, getattr(trust, name), strict=True))
    for name in ("box_bins", "auroc_p_iou50", "auroc_confidence"):
        content[name] = getattr(trust, name)
    if trust.auroc_gain:
        content["auroc_gain"] = trust.auroc_gain
    content["guarantees"] = trust.guarantees
    if trust.guarantee:
        content["guarantee"] = trust.guarantee
    content["shift"] = {"found": bool(trust.shift.found), **_plain(trust.shift)}
    plain: dict[str, Any] = _plain(content)
    return plain


def write_predictions(
    path: Path,
    outcomes: Outcomes,
    class_names: Sequence[str],
    images: Sequence[str],
    paths: Sequence[str],
    trust: TrustFigures | None = None,
) -> None:
    """Writes a row for each image, in their order; UTF-8, with a header, whole or absent.

    Columns that need `trust` (`p_iou50`, outer, inner, `label_set`) or novelty are absent without
    it; with trust `probability` is the calibrated one. A cell is empty where there is nothing to
    tell: the true box of an image without an object and what is compared with it, an empty inner
    box, an empty label set. Texts are as `safe_cell` makes them.
    """
    columns: dict[str, Sequence[str]] = {
        "image": [safe_cell(name) for name in images],
        "path": [safe_cell(name) for name in paths],
        "true_label": [safe_cell(class_names[label]) for label in outcomes.labels],
        "pred_label": [safe_cell(class_names[label]) for label in outcomes.predicted],
        "probability": _numbers(detection_scores(outcomes, trust), 6),
    }
    if trust is not None:
        columns["p_iou50"] = _numbers(trust.p_iou50, 6)
    columns |= _sides("true", outcomes.boxes_px, outcomes.shown)
    columns |= _sides("pred", outcomes.boxes_pred_px)
    columns["iou"] = _numbers(outcomes.ious, 6)
    columns["corner_error_px"] = _numbers(outcomes.corner_errors_px, 3)
    if trust is not None:
        columns |= _sides("outer", trust.outer_px)
        columns |= _sides("inner", trust.inner_px, np.asarray(trust.inner_px.any(axis=1), bool))
        columns["label_set"] = [
            safe_cell(label_set(class_names[label] for label in np.flatnonzero(row).tolist()))
            for row in trust.label_sets
        ]
    if "novelty" in outcomes.outputs:
        columns["novelty"] = _numbers(outcomes.outputs["novelty"], 6)
    write_text(path, csv_text([columns, *zip(*columns.values(), strict=True)]))


def write_coco(
    folder: Path,
    outcomes: Outcomes,
    class_names: Sequence[str],
    file_names: Sequence[str],
    scores: npt.ArrayLike | None = None,
) -> None:
    """Writes `coco_truth.json` and `coco_detections.json`, each whole or absent.

    Scores (N,) are of `detection_scores`; None stands for the class probability.
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
    for number, index in enumerate(np.flatnonzero(outcomes.shown).tolist(), start=1):
        bbox, category = _xywh(outcomes.boxes_px[index]), int(outcomes.labels[index]) + 1
        one = {"id": number, "image_id": index + 1, "category_id": category, "bbox": bbox}
        annotations.append({**one, "area": bbox[2] * bbox[3], "iscrowd": 0, "segmentation": []})
    kinds = ("object", "background")
    categories = [
        {"id": index + 1, "name": name, "supercategory": kinds[index == outcomes.background]}
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
    """The answers in COCO's format of detection results, one for each image; as `write_coco`."""
    scores = outcomes.confidences if scores is None else np.asarray(scores, np.float64)
    categories = (outcomes.predicted + 1).tolist()
    rows = zip(categories, outcomes.boxes_pred_px, scores, strict=True)
    return [
        {"image_id": number, "category_id": category, "bbox": _xywh(box), "score": float(score)}
        for number, (category, box, score) in enumerate(rows, start=1)
    ]


def _plain(value: Any) -> Any:
    """A value of JSON: records as mappings, NaN and infinity as None."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Sequence):
        return [_plain(part) for part in value]
    if isinstance(value, Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None


def _sides(
    name: str, boxes_px: npt.NDArray[np.float64], there: npt.NDArray[np.bool_] | None = None
) -> dict[str, list[str]]:
    if there is not None:
        boxes_px = np.where(there[:, None], boxes_px, np.nan)
    return {
        f"{name}_{side}_px": _numbers(boxes_px[:, place], 3) for place, side in enumerate(_SIDES)
    }


def _numbers(values: npt.ArrayLike, decimals: int) -> list[str]:
    numbers = np.asarray(values, np.float64) + 0.0  # Makes -0 a 0.
    return ["" if np.isnan(value) else f"{value:.{decimals}f}" for value in numbers]


def _xywh(box_px: npt.NDArray[np.float64]) -> list[float]:
    x1, y1, x2, y2 = box_px.tolist()
    return [x1, y1, x2 - x1, y2 - y1]
