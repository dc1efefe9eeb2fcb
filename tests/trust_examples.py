"""Trust figures made up for outcomes, for the tests of what is written about them."""

import numpy as np

from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.reliability import reliability_bins
from loc_keras.evaluation.results import Estimate
from loc_keras.evaluation.trust_figures import Guarantee, Shift, ShiftTest, TrustFigures


def trust_of(outcomes: Outcomes) -> TrustFigures:
    """Values of the right kinds and shapes; the second inner box and the third set are empty."""
    images = len(outcomes)
    probabilities = outcomes.probabilities**0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    inner = outcomes.boxes_pred_px.copy()
    inner[1] = 0
    label_sets = probabilities > 0.1
    label_sets[2] = False
    kept = Estimate(0.91, 0.88, 0.94, images)
    bins = reliability_bins(outcomes.confidences, outcomes.class_hits, 5)
    return TrustFigures(
        temperature=1.5,
        ece=(0.2, 0.1),
        nll=(1.2, 1.1),
        class_bins=(bins, bins),
        box_bins=bins,
        auroc_p_iou50=Estimate(float("nan"), float("nan"), float("nan"), images),
        auroc_confidence=Estimate(0.7, 0.6, 0.8, images),
        guarantees=[Guarantee("label set", 0.9, kept, 1.7, 0.01)],
        shift=Shift(images, 100, 0.004, 0.01, [ShiftTest("class confidence", 0.3, 0.004)]),
        probabilities=probabilities,
        p_iou50=np.linspace(0, 1, images),
        outer_px=outcomes.boxes_pred_px + 1,
        inner_px=inner,
        label_sets=label_sets,
    )
