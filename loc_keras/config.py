"""The typed schema of a config file: every key, its meaning, unit, range and default.

Sections are frozen pydantic models that refuse unknown keys and do not convert types: `"5"` is
no integer and `1` is no boolean. `loc_keras.config_io` reads, overrides and writes them.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from loc_keras.config_augment import AugmentConfig
from loc_keras.config_base import Count, Section, Share, Text, Weight
from loc_keras.config_data import DataConfig


class BackboneConfig(Section):
    """The body that turns an image into feature maps."""

    name: Literal["resnet18"] = Field(default="resnet18", description="Architecture.")
    width: int = Field(
        default=64, ge=4, le=256, description="Channels of the first stage, 4..256; 64: classic."
    )
    stem: Literal["imagenet", "small"] = Field(
        default="imagenet",
        description="First layers: the classic ones that reduce 4 times, or ones for small images.",
    )
    weights: Literal["none"] = Field(
        default="none", description="Where weights start from; none: random."
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


class LossConfig(Section):
    """What training minimises: a weighted sum of terms."""

    bbox: Literal["iou", "giou", "diou", "ciou", "eiou", "siou", "mpdiou"] = Field(
        default="diou", description="Similarity of two boxes; the loss is 1 minus it."
    )
    bbox_weight: Weight = Field(default=1.0, description="Weight of the box similarity, >= 0.")
    softmax_weight: Weight = Field(default=1.0, description="Weight of the class loss, >= 0.")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the class target spread evenly, 0..<1."
    )
    smooth_l1_weight: Weight = Field(
        default=0.0,
        description="Weight of smooth L1 on the corners within the box loss, so times "
        "bbox_weight, >= 0; 0: off.",
    )
    distribution_weight: Weight = Field(
        default=1.0, description="Weight of the distribution focal loss, >= 0; distribution head."
    )


class TrainConfig(Section):
    """How the model is fitted."""

    epochs: Count = Field(default=20, description="Passes over the training images, >= 1.")
    batch_size: Count = Field(default=128, description="Images per step, >= 1.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Highest learning rate, > 0.")
    optimizer: Literal["adamw", "adam"] = Field(
        default="adamw",
        description="adamw: weight decay apart from the gradient; adam: as part of it.",
    )
    weight_decay: Weight = Field(default=1e-4, description="Strength of weight decay, >= 0.")
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="Course of the learning rate after the warm-up."
    )
    warmup_epochs: float = Field(
        default=0.5, ge=0, description="Epochs of linear rise to learning_rate, 0..epochs."
    )
    gradient_clip_norm: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Largest norm of the whole gradient, > 0; null: no limit."
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Momentum per step of the moving average of the weights, >0..<1; null: off.",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="Start of every random draw, 0..4294967295."
    )
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = Field(
        default="auto", description="Number format of the body; auto: by device."
    )
    deterministic: bool = Field(
        default=False, description="Same numbers at each run on the same machine, at lower speed."
    )
    xla: Literal["auto", "on", "off"] = Field(
        default="auto", description="Compile the step with XLA; auto: off, as measured."
    )
    gpu_memory_growth: bool = Field(
        default=True, description="Take GPU memory as needed instead of all of it at the start."
    )
    early_stopping_patience: Count | None = Field(
        default=None, description="Epochs without a better monitor before stopping; null: never."
    )
    validate_every_steps: Count | None = Field(
        default=None, description="Steps between validations within an epoch; null: at its end."
    )
    steps_per_epoch: Count | None = Field(
        default=None, description="Steps that count as an epoch; null: one pass over the images."
    )
    monitor: Literal[
        "val_top1_loc", "val_bbox_iou", "val_softmax_accuracy", "val_loss", "val_score"
    ] = Field(
        default="val_score",
        description="Figure that chooses the best checkpoint: the newest epoch within one standard "
        "error of the best. val_score: class accuracy times mean IoU.",
    )

    @model_validator(mode="after")
    def _warmup_ends(self) -> "TrainConfig":
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs:g}) must not exceed epochs ({self.epochs})"
            )
        return self


class ExportConfig(Section):
    """The copy of the trained model for serving."""

    dir: Text = Field(
        default="saved_models", description="Folder for <name>/<version>/ of each export."
    )
    enabled: bool = Field(default=True, description="Whether training ends with an export.")


class RunConfig(Section):
    """Where a run writes what it learned and measured."""

    dir: Text = Field(default="runs", description="Folder for <name>/<time>/ of each run.")


class Config(Section):
    """A whole config file; every key has a default, so an empty one is the smallest config."""

    name: Text | None = Field(
        default=None, description="Name of runs and exports; null: the file's name without ending."
    )
    data: DataConfig = Field(default=DataConfig(), description="The data set.")
    augment: AugmentConfig = Field(
        default=AugmentConfig(), description="Random changes to training images."
    )
    model: ModelConfig = Field(default=ModelConfig(), description="The network.")
    loss: LossConfig = Field(default=LossConfig(), description="What training minimises.")
    train: TrainConfig = Field(default=TrainConfig(), description="How the model is fitted.")
    export: ExportConfig = Field(default=ExportConfig(), description="The copy for serving.")
    run: RunConfig = Field(default=RunConfig(), description="Where a run writes.")

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str | None) -> str | None:
        if name in (".", "..") or (name and not {"/", "\\", "\0"}.isdisjoint(name)):
            raise ValueError("must be usable as a folder's name, without slashes")
        return name

    @model_validator(mode="after")
    def _something_to_learn(self) -> "Config":
        weights = [self.loss.bbox_weight, self.loss.softmax_weight]
        if self.model.bbox_head == "distribution":
            weights.append(self.loss.distribution_weight)
        if not any(weights):
            raise ValueError(
                "all weights under loss that this model uses are 0, so there is nothing to learn; "
                "raise loss.bbox_weight or loss.softmax_weight"
            )
        return self
