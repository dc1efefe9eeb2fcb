"""The section `trust` of the config: what is promised of single answers."""

from typing import Literal

from pydantic import Field

from loc_keras.config_base import Section


class TrustConfig(Section):
    """What is fitted on the images that `data.split.calibration` holds back."""

    coverage: float = Field(
        default=0.9,
        gt=0,
        lt=1,
        description="Share of images for which a label set, an outer and an inner box each hold, "
        "0..1 without both.",
    )
    scaling: Literal["auto", "additive", "size", "spread"] = Field(
        default="auto",
        description="What the margins of outer and inner boxes grow with: nothing, the box, or the "
        "model's own doubt about each side; auto: spread with the distribution head, else size.",
    )
    label_sets: Literal["raps", "aps"] = Field(
        default="raps", description="Label sets: raps keeps them small and steady, or aps."
    )
    per_class: bool = Field(
        default=False,
        description="Whether boxes hold for the images of each predicted class by itself; needs "
        "as many images of each as else of all.",
    )
    flip: bool = Field(
        default=False,
        description="Whether confidence in a box also rests on a look at the mirrored image, which "
        "doubles the time of an answer.",
    )
