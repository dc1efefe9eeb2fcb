"""`metrics.json`: an evaluation as JSON that every reader takes."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loc_keras.atomic_file import write_text
from loc_keras.evaluation.reliability import ReliabilityBin
from loc_keras.evaluation.results import Estimate, Evaluation, Group
from loc_keras.evaluation.trust_figures import Shift, TrustFigures

METRICS_FILE = "metrics.json"


def metrics_json(evaluation: Evaluation, trust: TrustFigures | None = None) -> dict[str, Any]:
    """All figures as values of JSON: mappings, lists, strings, numbers and None.

    An estimate is `{"value", "low", "high", "images"}`. A figure of no image is None, `null` in the
    file: NaN is no JSON. What trust says of single images is in `predictions.csv`, not here.

    Args:
        evaluation: Of a split.
        trust: What was stated about the answers, with its own key `trust`.
    """
    found: dict[str, Any] = {
        "images": evaluation.images,
        "object_images": evaluation.object_images,
        "class_names": list(evaluation.class_names),
        "intervals": {
            "method": "percentile bootstrap",
            "level": evaluation.level,
            "resamples": evaluation.resamples,
            "seed": evaluation.seed,
        },
        "figures": _figures(evaluation.figures),
        "floors": {name: _figures(figures) for name, figures in evaluation.floors.items()},
        "errors": _figures(evaluation.errors),
        "classes": _groups(evaluation.classes),
        "sizes": _groups(evaluation.sizes),
        "positions": _groups(evaluation.positions),
    }
    if trust is not None:
        found["trust"] = trust_json(trust)
    return {**found, "confusion": evaluation.confusion.tolist()}


def write_metrics(
    path: Path,
    evaluation: Evaluation,
    trust: TrustFigures | None = None,
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes `metrics_json` as a file that is whole or absent; a row of the confusion is a line.

    Args:
        path: The file.
        evaluation: Of a split.
        trust: What was stated about the answers.
        about: What was measured, such as the run, for the key `about` at the top.
    """
    content = metrics_json(evaluation, trust)
    if about:
        content = {"about": dict(about), **content}
    # Apart, since `indent` would give each cell a line: a million lines for a thousand classes.
    rows = ",\n".join(f"    {json.dumps(row)}" for row in content.pop("confusion"))
    rest = json.dumps(content, indent=2, allow_nan=False).removesuffix("\n}")
    write_text(path, f'{rest},\n  "confusion": [\n{rows}\n  ]\n}}\n')


def _figures(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: _estimate(estimate) for name, estimate in figures.items()}


def _estimate(estimate: Estimate) -> dict[str, Any]:
    low, high = _number(estimate.low), _number(estimate.high)
    return {
        "value": _number(estimate.value),
        "low": low,
        "high": high,
        "images": int(estimate.images),
    }


def _groups(groups: Sequence[Group]) -> list[dict[str, Any]]:
    return [
        {"name": group.name, "images": group.images, "figures": _figures(group.figures)}
        for group in groups
    ]


def trust_json(trust: TrustFigures) -> dict[str, Any]:
    """What trust states of the whole split, as values of JSON."""
    before_after = ("before", "after")
    return {
        "temperature": _number(trust.temperature),
        "ece": dict(zip(before_after, map(_number, trust.ece), strict=True)),
        "nll": dict(zip(before_after, map(_number, trust.nll), strict=True)),
        "class_bins": dict(zip(before_after, map(_bins, trust.class_bins), strict=True)),
        "box_bins": _bins(trust.box_bins),
        "auroc_p_iou50": _estimate(trust.auroc_p_iou50),
        "auroc_confidence": _estimate(trust.auroc_confidence),
        **({"auroc_gain": _estimate(trust.auroc_gain)} if trust.auroc_gain else {}),
        "guarantees": [
            {
                "name": one.name,
                "asked": _number(one.asked),
                "kept": _estimate(one.kept),
                "size": _number(one.size),
                "empty": _number(one.empty),
                "p_value": _number(one.p_value),
            }
            for one in trust.guarantees
        ],
        "shift": _shift(trust.shift),
    }


def _bins(bins: Sequence[ReliabilityBin]) -> list[dict[str, Any]]:
    return [
        {
            "low": _number(one.low),
            "high": _number(one.high),
            "images": int(one.images),
            "stated": _number(one.stated),
            "found": _number(one.found),
        }
        for one in bins
    ]


def _shift(shift: Shift) -> dict[str, Any]:
    return {
        "found": bool(shift.found),
        "images": int(shift.images),
        "calibration_images": int(shift.calibration_images),
        "p_value": _number(shift.p_value),
        "level": _number(shift.level),
        "tests": [
            {
                "name": one.name,
                "distance": _number(one.distance),
                "p_value": _number(one.p_value),
            }
            for one in shift.tests
        ],
    }


def _number(value: float) -> float | None:
    """The number; None where it is NaN or infinite, which JSON cannot say."""
    return float(value) if math.isfinite(value) else None
