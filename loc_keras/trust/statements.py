"""All that is said of a single answer beside its class and its box."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from loc_keras.trust.box_confidence import BoxConfidence, apply_box_confidence
from loc_keras.trust.conformal_boxes import (
    BoxMargins,
    inner_boxes,
    margins_of,
    outer_boxes,
    scales_of,
)
from loc_keras.trust.label_sets import LabelSets, label_sets
from loc_keras.trust.most_probable import most_probable
from loc_keras.trust.signals import box_signals
from loc_keras.trust.temperature import apply_temperature

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

STATED = ("softmax_calibrated", "p_iou50", "box_outer", "box_inner", "label_set")
"""Names of the outputs that trust adds."""


@dataclass(frozen=True)
class Statements:
    """What was fitted on calibration images, as far as an answer needs it.

    Attributes:
        temperature: Of the class probabilities, above 0.
        label_sets: Threshold of label sets.
        box_confidence: Model of `p_iou50`.
        boxes: Margins of outer and inner boxes.
        flip: Whether the model also looks at the mirrored image.
    """

    temperature: Annotated[float, Field(gt=0)]
    label_sets: LabelSets
    box_confidence: BoxConfidence
    boxes: BoxMargins
    flip: bool = False


def stated(outputs: Mapping[str, Tensor], said: Statements) -> dict[str, Tensor]:
    """What is said of each answer.

    Label sets and boxes go by the model's own outputs, to which nothing was fitted: so the promise
    of split conformal prediction holds for them as it stands.

    Args:
        outputs: As `observer.observed_outputs` gives them.
        said: What was fitted.

    Returns:
        `softmax_calibrated` float32 (N, K), with the most probable class of `softmax`; `p_iou50`
        float32 (N,), probability that the box has an IoU of at least .5 with the true one;
        `box_outer` and `box_inner` float32 (N, 4) in fractions, the inner one all zero where it is
        empty; `label_set` bool (N, K).
    """
    softmax, bbox = outputs["softmax"], outputs["bbox"]
    scales = scales_of(bbox, said.boxes.scaling, outputs.get("spread"))
    predicted = most_probable(softmax)
    return {
        "softmax_calibrated": apply_temperature(softmax, said.temperature),
        "p_iou50": apply_box_confidence(box_signals(outputs), said.box_confidence),
        "box_outer": outer_boxes(bbox, scales, margins_of(said.boxes.outer, predicted)),
        "box_inner": inner_boxes(bbox, scales, margins_of(said.boxes.inner, predicted)),
        "label_set": label_sets(softmax, said.label_sets),
    }
