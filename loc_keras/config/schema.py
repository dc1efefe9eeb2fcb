"""The typed schema of a config file: every key, its meaning, unit, range and default.

Sections are frozen pydantic models that refuse unknown keys and do not convert types: `"5"` is
no integer and `1` is no boolean. `config.load` reads, overrides and writes them. Data, augmentation
and training have modules of their own.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticKnownError

from loc_keras.config.base import Section, Share, Text
from loc_keras.config.data import AugmentConfig, DataConfig
from loc_keras.config.train import LossConfig, TrainConfig

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


class TrustConfig(Section):
    """What is promised of single answers, and on which images it is fitted."""

    method: Literal["split", "cross"] = "split"
    """On what it is fitted: split, the images that data.split.calibration holds back; cross,
    training images as models answer them that were trained without them."""
    folds: int = Field(default=5, ge=2, le=50)
    """With cross: models, each trained without a fold; with train.folds these."""
    fold_length: float = Field(default=0.3, gt=0, le=1)
    """Length of the trainings of folds, as a share of train.epochs."""
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

    @model_validator(mode="after")
    def _folds_take_the_place_of_splits(self) -> "Config":
        """With `train.folds` nothing is cut off that was not asked for, and trust goes by them."""
        if not self.train.folds:
            return self
        given, asked = self.data.split, self.trust.model_fields_set
        unset = {"val", "test", "calibration"} - given.model_fields_set
        split = given.model_copy(update=dict.fromkeys(unset, 0.0))
        by_folds: dict[str, Any] = {"folds": self.train.folds}
        if "method" not in asked and not split.calibration:
            by_folds["method"] = "cross"
        data = self.data.model_copy(update={"split": split})
        trust = self.trust.model_copy(update=by_folds)
        return self.model_copy(update={"data": data, "trust": trust})

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str | None) -> str | None:
        if name in (".", "..") or (name and not {"/", "\\", "\0"}.isdisjoint(name)):
            raise ValueError("must be usable as a folder's name, without slashes")
        return name

    @property
    def has_folds(self) -> bool:
        """Whether models are trained without a part of the images, for figures or for trust."""
        return self.train.folds > 0 or self.trust.method == "cross"

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
