"""How sure each answer is, as one number."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from loc_keras.errors import ConfigError
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.trust_figures import TrustFigures

Score = Literal["class", "class_and_box"]


def detection_scores(
    outcomes: Outcomes, trust: TrustFigures | None = None, score: Score = "class"
) -> npt.NDArray[np.float64]:
    """How sure each answer is, which decides the order in which an evaluator takes them.

    Args:
        outcomes: Of N images.
        trust: What was stated about the same answers.
        score: `class` is the probability of the predicted class, calibrated where there is
            `trust`; it says nothing about the box. `class_and_box` is that times `p_iou50`, the
            probability that the detection is right at an IoU of .5 if class and box fail
            independently; it needs `trust`.

    Returns:
        float64 (N,), in [0, 1].

    Raises:
        ConfigError: `class_and_box` without `trust`.
    """
    if trust is None:
        if score == "class_and_box":
            raise ConfigError(
                "The score class_and_box needs p_iou50, which only a calibrated model states; "
                "calibrate the run, or take the score class."
            )
        return outcomes.confidences
    own = np.take_along_axis(trust.probabilities, outcomes.predicted[:, None], axis=1)[:, 0]
    sure = trust.p_iou50 if score == "class_and_box" else 1.0
    return np.asarray(own * sure, np.float64)
