"""Fits all of trust on the observations of a calibration split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from loc_keras.errors import TrustError
from loc_keras.evaluation.outcomes import BOX_HIT
from loc_keras.evaluation.per_image import paired_iou
from loc_keras.trust.box_confidence import fit_box_confidence
from loc_keras.trust.conformal_boxes import BoxMargins, Scaling, fit_boxes
from loc_keras.trust.label_sets import K_REG, PENALTY, fit_label_sets
from loc_keras.trust.observations import Observations
from loc_keras.trust.signals import PRIOR, box_signals
from loc_keras.trust.statements import Statements
from loc_keras.trust.temperature import fit_temperature

PER_CLASS_WITH_BACKGROUND = (
    "margins for each class (trust.per_class) cannot be fitted beside a class of images without an "
    "object; set trust.per_class to false."
)


@dataclass(frozen=True)
class TrustOptions:
    """What is asked for.

    Attributes:
        coverage: Share of images for which label sets and boxes hold, in (0, 1).
        scaling: Of box margins; `auto` takes `spread` where the model tells it, else `size`.
        label_sets: `raps` or `aps`.
        per_class: Whether margins hold in each predicted class.
        flip: Whether `p_iou50` also goes by the mirrored image.
    """

    coverage: float = 0.9
    scaling: Literal["auto"] | Scaling = "auto"
    label_sets: Literal["raps", "aps"] = "raps"
    per_class: bool = False
    flip: bool = False


def fit_statements(
    seen: Observations, options: TrustOptions, class_names: Sequence[str]
) -> Statements:
    """Fits what is said of answers.

    Args:
        seen: Of images that the model was not trained on and no choice was made by.
        options: What is asked for.
        class_names: Name of each class, by index.

    Raises:
        TrustError: If the images are too few, or do not serve what is asked for.
    """
    probabilities = np.asarray(seen.outputs["softmax"], np.float64)
    penalty = PENALTY if options.label_sets == "raps" else 0.0
    return Statements(
        temperature=fit_temperature(probabilities, seen.labels),
        label_sets=fit_label_sets(probabilities, seen.labels, options.coverage, penalty, K_REG),
        box_confidence=fit_box_confidence(
            signals_of(seen.take(seen.shown)), good_boxes(seen.take(seen.shown)), PRIOR
        ),
        boxes=_margins(seen, options, class_names),
        flip=options.flip,
    )


def signals_of(seen: Observations) -> dict[str, npt.NDArray[np.float64]]:
    """`box_signals` as arrays, float64 (N,)."""
    found = box_signals(seen.outputs)
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def good_boxes(seen: Observations) -> npt.NDArray[np.bool_]:
    """Whether each box has an IoU of at least .5 with the true one, bool (N,)."""
    boxes = np.asarray(seen.boxes, np.float64)
    return paired_iou(boxes, np.asarray(seen.outputs["bbox"], np.float64)) >= BOX_HIT


def _margins(seen: Observations, options: TrustOptions, class_names: Sequence[str]) -> BoxMargins:
    if options.per_class and seen.background is not None:
        raise TrustError(PER_CLASS_WITH_BACKGROUND)
    with_object = seen.take(seen.shown)
    spread = with_object.outputs.get("spread")
    scaling: Scaling = _auto_scaling(seen) if options.scaling == "auto" else options.scaling
    predicted = np.asarray(with_object.outputs["softmax"]).argmax(axis=1)
    return fit_boxes(
        with_object.boxes,
        with_object.outputs["bbox"],
        coverage=options.coverage,
        scaling=scaling,
        spread=spread,
        classes_pred=predicted if options.per_class else None,
        class_names=class_names if options.per_class else None,
    )


def _auto_scaling(seen: Observations) -> Scaling:
    return "spread" if "spread" in seen.outputs else "size"
