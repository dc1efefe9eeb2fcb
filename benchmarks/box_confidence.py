"""Does `p_iou50` tell good boxes from bad ones better than the class probability does?

    python -m benchmarks.box_confidence --answers FILE.npz ... [--splits 100]

Files of `benchmarks.held_out_answers`. Their images are split in halves at random again and again;
on one half the confidence is fitted, on the other both are ranked by the area under the ROC curve.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from sklearn.metrics import roc_auc_score

from benchmarks.common import table_of
from benchmarks.held_out_answers import read_answers
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.reliability import expected_calibration_error
from loc_keras.trust.confidence import PRIOR, apply_box_confidence, fit_box_confidence
from loc_keras.trust.fit import good_boxes, signals_of

MIRRORED = "mirrored"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", nargs="+", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=100)
    args = parser.parse_args()
    rows = [_row(*read_answers(path), args.splits) for path in args.answers]
    Console(width=140).print(table_of(rows))


def _row(name: str, seen: Outcomes, splits: int) -> dict[str, Any]:
    good = good_boxes(seen)
    signals = signals_of(seen)
    plain = {key: value for key, value in signals.items() if not key.startswith(MIRRORED)}
    confidence = np.asarray(seen.outputs["softmax"]).max(axis=1)
    rng = np.random.default_rng(0)
    areas: dict[str, list[float]] = {"class": [], "p_iou50": [], "with flip": [], "ece": []}
    for _ in range(splits):
        order = rng.permutation(len(good))
        fit, test = order[: len(good) // 2], order[len(good) // 2 :]
        if good[test].all() or not good[test].any():
            continue
        areas["class"].append(roc_auc_score(good[test], confidence[test]))
        for key, used in (("p_iou50", plain), ("with flip", signals)):
            stated = _stated(used, good, fit, test)
            areas[key].append(roc_auc_score(good[test], stated))
            if key == "p_iou50":
                areas["ece"].append(expected_calibration_error(stated, good[test], bins=10))
    better = np.mean(np.array(areas["p_iou50"]) > np.array(areas["class"]))
    return {
        "set": name,
        "images": len(good),
        "bad boxes": int((~good).sum()),
        "class probability": _spread(areas["class"]),
        "p_iou50": _spread(areas["p_iou50"]),
        "with flip": _spread(areas["with flip"]),
        "p_iou50 better in": f"{100 * better:.0f} %",
        "its calibration error": f"{np.mean(areas['ece']):.3f}",
    }


def _stated(
    signals: dict[str, np.ndarray], good: np.ndarray, fit: np.ndarray, test: np.ndarray
) -> np.ndarray:
    known = {key: value[fit] for key, value in signals.items()}
    fitted = fit_box_confidence(known, good[fit], PRIOR)
    return np.asarray(apply_box_confidence({k: v[test] for k, v in signals.items()}, fitted))


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


if __name__ == "__main__":
    main()
