"""The section `model` of the config: the network."""

from typing import Literal

from pydantic import Field

from loc_keras.config_base import Section, Share, Text


class BackboneConfig(Section):
    """The body that turns an image into feature maps."""

    name: Literal["resnet18", "resnet34", "resnet50"] = Field(
        default="resnet18", description="Architecture."
    )
    width: int = Field(
        default=64, ge=4, le=256, description="Channels of the first stage, 4..256; 64: classic."
    )
    stem: Literal["imagenet", "small"] = Field(
        default="imagenet",
        description="First layers: the classic ones that reduce 4 times, or ones for small images.",
    )
    weights: Text = Field(
        default="none",
        description="Where weights start from; none: random; imagenet: KerasHub's; or a path: a "
        ".safetensors file, a run folder, a .keras file, a KerasHub preset folder.",
    )
    stochastic_depth: Share = Field(
        default=0.0,
        description="Probability that the last residual block is skipped in training, 0..0.9; less "
        "for each earlier one.",
    )


class ModelConfig(Section):
    """The network: one body, one head for the class and one for the box."""

    backbone: BackboneConfig = Field(default=BackboneConfig(), description="The shared body.")
    bbox_head: Literal["gap_mlp", "spatial", "distribution"] = Field(
        default="distribution",
        description="How the box is read: from pooled features, from the feature map, or as a "
        "distribution over positions of each side.",
    )
    class_head: Literal["pooled", "region"] = Field(
        default="region",
        description="How the class is read: from pooled features of the whole image, or also from "
        "what lies under the predicted box.",
    )
    dropout: Share = Field(
        default=0.0, description="Fraction of features dropped before the class layer, 0..0.9."
    )
