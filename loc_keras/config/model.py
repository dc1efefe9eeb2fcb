"""The section `model` of the config: the network."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from loc_keras.config.base import Section, Share, Text

RESNETS = ("resnet18", "resnet34", "resnet50")
"""The bodies of our own, which alone have a width and a stem to choose."""


OTHER_BODIES = ("applications", "hub")
"""What stands before the slash in the names of all other bodies."""


def _names_a_body(name: str) -> str:
    """Refuse what can be no body; whether there is one of that name shows when it is built."""
    kind, slash, rest = name.partition("/")
    if name in RESNETS or (kind in OTHER_BODIES and slash and rest):
        return name
    choices = [*RESNETS, "applications/<name>", "hub/<preset>"]
    listed = ", ".join(f"'{one}'" for one in choices[:-1])
    raise PydanticKnownError("literal_error", {"expected": f"{listed} or '{choices[-1]}'"})


class BackboneConfig(Section):
    """The body that turns an image into feature maps."""

    name: Annotated[str, AfterValidator(_names_a_body)] = "resnet18"
    """Architecture: resnet18, resnet34, resnet50, applications/<name in keras.applications> or
    hub/<preset or folder of KerasHub>."""
    width: int = Field(default=64, ge=4, le=256)
    """Channels of the first stage, 4..256; 64: classic."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """First layers: the classic ones that reduce 4 times, or ones for small images."""
    weights: Text = "none"
    """Where weights start from; none: random; imagenet: those that come with the body, for resnets
    KerasHub's; or a path: a .safetensors file, a run folder, a .keras file, a KerasHub preset
    folder, or Keras's own file for an application."""
    stochastic_depth: Share = 0.0
    """Probability that the last residual block is skipped in training, 0..0.9; less for each
    earlier one; resnets only."""

    @model_validator(mode="after")
    def _only_resnets_are_shaped(self) -> "BackboneConfig":
        if self.name in RESNETS:
            return self
        for key in ("width", "stem", "stochastic_depth"):
            value, usual = getattr(self, key), type(self).model_fields[key].default
            if value != usual:
                raise ValueError(
                    f"{key} ({value}) is for the resnets only, {self.name} has its own; leave it "
                    f"out or set it to {usual}"
                )
        return self


class ModelConfig(Section):
    """The network: one body, one head for the class and one for the box."""

    backbone: BackboneConfig = BackboneConfig()
    """The shared body."""
    bbox_head: Literal["gap_mlp", "spatial", "distribution"] = "distribution"
    """How the box is read: from pooled features, from the feature map, or as a distribution over
    positions of each side."""
    class_head: Literal["pooled", "region"] = "region"
    """How the class is read: from pooled features of the whole image, or also from what lies under
    the predicted box."""
    dropout: Share = 0.0
    """Fraction of features dropped before the class layer, 0..0.9."""
