"""The typed schema of a config file: every key, its meaning, unit, range and default.

Sections are frozen pydantic models that refuse unknown keys and do not convert types: `"5"` is
no integer and `1` is no boolean. `config.load` reads, overrides and writes them.
"""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from loc_keras.config.augment import AugmentConfig
from loc_keras.config.base import Section, Text
from loc_keras.config.data import DataConfig
from loc_keras.config.model import RESNETS, ModelConfig
from loc_keras.config.train import LossConfig, TrainConfig


class TrustConfig(Section):
    """What is promised of single answers, and on which images it is fitted."""

    method: Literal["split", "cross"] = "split"
    """On what it is fitted: split, the images that data.split.calibration holds back; cross,
    training images as models answer them that were trained without them."""
    folds: int = Field(default=5, ge=2, le=50)
    """With cross: models, each trained without a fold."""
    fold_length: float = Field(default=0.3, gt=0, le=1)
    """With cross: length of their trainings, as a share of train.epochs."""
    coverage: float = Field(default=0.9, gt=0, lt=1)
    """Share of images for which a label set, an outer and an inner box each hold, 0..1 without
    both."""
    scaling: Literal["auto", "additive", "size", "spread"] = "auto"
    """What the margins of outer and inner boxes grow with: nothing, the box, or the model's own
    doubt about each side; auto: spread with the distribution head, else size."""
    label_sets: Literal["raps", "aps"] = "raps"
    """Label sets: raps keeps them small and steady, or aps."""
    per_class: bool = False
    """Whether boxes hold for the images of each predicted class by itself; needs as many images of
    each as else of all."""
    flip: bool = False
    """Whether confidence in a box also rests on a look at the mirrored image, which doubles the
    time of an answer."""
    novelty_level: float = Field(default=0.02, ge=0, lt=1)
    """Pictures are told unknown whose p-value of being drawn like the training images is below
    this; needs no calibration images."""


class ExportConfig(Section):
    """The copy of the trained model for serving."""

    dir: Text = "saved_models"
    """Folder for <name>/<version>/ of published exports."""
    enabled: bool = True
    """Whether training ends with an export, to export/ in its run."""
    publish: bool = False
    """Whether that export becomes the next version in dir, which servers load, in place of export/;
    not where it does worse than the newest one on the same test images."""


class RunConfig(Section):
    """Where a run writes what it learned and measured."""

    dir: Text = "runs"
    """Folder for <name>/<time>/ of each run."""


class Config(Section):
    """A whole config file; every key has a default, so an empty one is the smallest config."""

    name: Text | None = None
    """Name of runs and exports; null: the file's name without ending."""
    data: DataConfig = DataConfig()
    """The data set."""
    augment: AugmentConfig = AugmentConfig()
    """Random changes to training images."""
    model: ModelConfig = ModelConfig()
    """The network."""
    loss: LossConfig = LossConfig()
    """What training minimises."""
    train: TrainConfig = TrainConfig()
    """How the model is fitted."""
    trust: TrustConfig = TrustConfig()
    """What is promised of single answers."""
    export: ExportConfig = ExportConfig()
    """The copy for serving."""
    run: RunConfig = RunConfig()
    """Where a run writes."""

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str | None) -> str | None:
        if name in (".", "..") or (name and not {"/", "\\", "\0"}.isdisjoint(name)):
            raise ValueError("must be usable as a folder's name, without slashes")
        return name

    @model_validator(mode="after")
    def _works_on_several_sizes(self) -> "Config":
        if not self.train.progressive_size:
            return self
        body, head = self.model.backbone.name, self.model.bbox_head
        if body not in RESNETS:
            raise ValueError(
                f"train.progressive_size needs a body that takes images of any size, one of "
                f"{', '.join(RESNETS)}, and model.backbone.name is {body}; leave it out"
            )
        if head == "spatial":
            raise ValueError(
                "train.progressive_size needs a box head without weights for each place, and "
                "model.bbox_head is spatial; set it to distribution, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _trust_is_fitted_once(self) -> "Config":
        if self.trust.method == "cross" and self.trust.per_class:
            raise ValueError(
                "trust.method cross has no margins for each class; set trust.per_class to false"
            )
        if self.trust.method == "cross" and self.data.split.calibration:
            raise ValueError(
                "trust.method cross needs no images held back, and data.split.calibration is "
                f"{self.data.split.calibration:g}; set one to split, or the other to 0"
            )
        return self

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
