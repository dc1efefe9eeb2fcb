"""Numbers of two published conformal packages, for the tests of `loc_keras.trust`.

`recorded/conformal_oracle.json` was written with puncc 0.9.3 and MAPIE 1.6.0 (NumPy 1.26.4):

    python -m venv oracle && oracle/bin/pip install puncc==0.9.3 MAPIE==1.6.0
    cd tests/helpers && ../../oracle/bin/python conformal_oracle.py > recorded/conformal_oracle.json

The tests read that file; where the packages are installed, they also ask them anew.
"""

import json
from typing import Any

import numpy as np

COVERAGES = (0.5, 0.8, 0.9, 0.95)
PENALTIES = ((0.0, 1), (0.01, 1), (0.05, 2))  # RAPS lambda and k_reg; the first is APS


def inputs() -> dict[str, Any]:
    """Made answers to 60 calibration images and 12 new ones; 5 classes."""
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 2, (72, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = [int(rng.choice(5, p=row)) for row in probabilities]
    corners = np.sort(rng.uniform(0.2, 0.8, (72, 2, 2)), axis=1).reshape(72, 4)
    pred = corners + rng.normal(0, 0.03, (72, 4)) * [1, 1, 1.5, 0.7]
    pred[:, 2:] = np.maximum(pred[:, 2:], pred[:, :2] + 0.05)
    return {
        "calibration_images": 60,
        "probabilities": probabilities.tolist(),
        "labels": labels,
        "boxes": corners.tolist(),
        "boxes_pred": pred.tolist(),
    }


def answers(given: dict[str, Any]) -> dict[str, Any]:
    """What the packages make of the inputs."""
    return {"label_sets": _label_sets(given), "boxes": _boxes(given)}


def _label_sets(given: dict[str, Any]) -> list[dict[str, Any]]:
    from deel.puncc.api.calibration import BaseCalibrator
    from deel.puncc.api.nonconformity_scores import raps_score
    from mapie.conformity_scores import APSConformityScore, RAPSConformityScore
    from mapie.utils import _compute_classification_quantile

    n = given["calibration_images"]
    p, y = np.array(given["probabilities"]), np.array(given["labels"])
    found = []
    for penalty, k_reg in PENALTIES:

        def score(pred: np.ndarray, true: np.ndarray, lam: float = penalty, k: int = k_reg) -> Any:
            return raps_score(pred, true, lambd=lam, k_reg=k, rand=False)

        calibrator = BaseCalibrator(nonconf_score_func=score, pred_set_func=None)
        calibrator.fit(y_true=y[:n], y_pred=p[:n])
        scores = np.asarray(score(p[:n], y[:n]))
        for coverage in COVERAGES:
            alpha = round(1 - coverage, 10)
            threshold = float(calibrator.compute_quantile(alpha=alpha, correction=lambda a: a))
            again = _compute_classification_quantile(scores[:, None], np.array([alpha]))
            assert threshold == again[0], "the two packages disagree"
            mapie = RAPSConformityScore() if penalty else APSConformityScore()
            mapie.quantiles_ = np.array([threshold])
            mapie.lambda_star, mapie.k_star = penalty, k_reg
            # "Without the label that crosses the threshold": the set of all scores up to it.
            sets = mapie.get_prediction_sets(
                p[n:, :, None], scores, np.array([alpha]), "prefit", include_last_label=False
            )
            found.append(
                {
                    "penalty": penalty,
                    "k_reg": k_reg,
                    "coverage": coverage,
                    "scores": scores.tolist(),
                    "threshold": threshold,
                    "sets": sets[:, :, 0].tolist(),
                }
            )
    return found


def _boxes(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Boxes with one margin for all four sides.

    puncc's `SplitBoxWise` gives each side its own quantile after Bonferroni; here its scores by
    side, its quantile and its boxes are joined by the largest of the four signed scores.
    """
    from deel.puncc.api import nonconformity_scores, prediction_sets
    from deel.puncc.api.calibration import BaseCalibrator

    n = given["calibration_images"]
    true, pred = np.array(given["boxes"]), np.array(given["boxes_pred"])
    parts = {
        "additive": (nonconformity_scores.difference, prediction_sets.constant_bbox),
        "size": (nonconformity_scores.scaled_bbox_difference, prediction_sets.scaled_bbox),
    }
    found = []
    for scaling, (difference, box_set) in parts.items():
        for kind, sign in (("inner", -1), ("outer", 1)):

            def score(y_pred: np.ndarray, y_true: np.ndarray, s: int = sign, d: Any = difference):
                return (np.asarray(d(y_pred, y_true)) * [s, s, -s, -s]).max(axis=1)

            calibrator = BaseCalibrator(nonconf_score_func=score, pred_set_func=box_set)
            calibrator.fit(y_true=true[:n], y_pred=pred[:n])
            for coverage in COVERAGES:
                alpha = round(1 - coverage, 10)
                margin = float(calibrator.compute_quantile(alpha=alpha, correction=lambda a: a))
                inner, outer = box_set(pred[n:], np.full(4, margin))
                boxes = inner if kind == "inner" else outer
                found.append(
                    {
                        "scaling": scaling,
                        "kind": kind,
                        "coverage": coverage,
                        "margin": margin,
                        "boxes": np.asarray(boxes).tolist(),
                    }
                )
    return found


if __name__ == "__main__":
    case = inputs()
    print(json.dumps({"inputs": case, "answers": answers(case)}))
