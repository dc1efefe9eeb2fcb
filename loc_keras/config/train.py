"""The sections `train` and `loss` of the config: how the model is fitted, and to what."""

from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator

from loc_keras.config.base import Count, Section, Weight

Portion = Annotated[float, Field(gt=0, le=1)]


class FineTuneConfig(Section):
    """How a body that starts from trained weights is trained on; the defaults change nothing."""

    freeze_epochs: int = Field(default=0, ge=0)
    """First epochs in which only the heads learn, 0..epochs."""
    body_rate: Portion = 1.0
    """Learning rate of the body's last stage as a share of learning_rate, >0..1."""
    layer_decay: Portion = 1.0
    """Factor on the rate from each stage of the body to the one before it, >0..1."""
    batch_norm: Literal["train", "frozen"] = "train"
    """Whether the body's batch normalisation adapts to the new images or stays as it came; frozen
    is for batches below 16."""


class SizeStageConfig(Section):
    """A first part of the training on smaller images."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Part of all steps, >0..<1; what all stages leave is of full size."""
    side: int = Field(ge=16)
    """Longer side of the training images in px, >= 16."""


class TrainConfig(Section):
    """How the model is fitted."""

    epochs: Count = 20
    """Passes over the training images, >= 1."""
    batch_size: Count = 128
    """Images per step, >= 1."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate, > 0."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """adamw: weight decay apart from the gradient; adam: as part of it."""
    weight_decay: Weight = 1e-4
    """Strength of weight decay, >= 0."""
    accumulate: Count = 1
    """Batches whose gradients are averaged into one update, >= 1: the effect of a batch that the
    memory cannot hold, but for batch normalisation."""
    schedule: Literal["cosine", "constant", "one_cycle"] = "cosine"
    """Course of the learning rate after the warm-up; one_cycle has a rise of its own in place of
    it."""
    warmup_epochs: float = Field(default=0.5, ge=0)
    """Epochs of linear rise to learning_rate, 0..epochs."""
    gradient_clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the whole gradient, > 0; null: no limit."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Momentum per step of the moving average of the weights, >0..<1; null: off."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Start of every random draw, 0..4294967295."""
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    """Number format of the body; auto: bfloat16 or float16 where the device has units for it that
    pay, else float32."""
    deterministic: bool = False
    """Same numbers at each run on the same machine, at lower speed."""
    xla: Literal["auto", "on", "off"] = "auto"
    """Compile the step with XLA; auto: off, as measured."""
    gpu_memory_growth: bool = True
    """Take GPU memory as needed instead of all of it at the start."""
    strategy: Literal["auto", "single", "mirrored", "multi_worker"] = "auto"
    """Devices that train together; auto: multi_worker where TF_CONFIG names several workers,
    mirrored where several GPUs are visible, else single."""
    sync_batch_norm: bool = False
    """With several devices, normalise by the statistics of the whole batch instead of each device's
    share: the results of one device, at lower speed."""
    folds: int = Field(default=0, ge=0, le=50)
    """Models, each trained without a part of the images and asked about it, that measure in place
    of splits: what data.split does not ask for is not cut off, and the model that is kept learns
    from all images. 0: off, else 2..50; image files only."""
    early_stopping_patience: Count | None = None
    """Epochs without a better monitor before stopping; null: never."""
    validate_every_steps: Count | None = None
    """Steps between validations within an epoch; null: at its end."""
    steps_per_epoch: Count | None = None
    """Steps that count as an epoch; null: one pass over the images."""
    profile_steps: Annotated[tuple[Count, Count], Strict(False)] | None = None
    """[first, last] step, from 1, whose operations TensorBoard's profiler records into the run's
    tensorboard folder, counted anew after a resume and in each phase of fine-tuning; null: none."""
    checkpoint_every_steps: Count | None = None
    """Steps between checkpoints to go on from after an interruption; null: at each epoch's end."""
    keep_checkpoints: Count = 2
    """Newest checkpoints that are kept while the run lasts, >= 1."""
    monitor: Literal[
        "val_top1_loc", "val_bbox_iou", "val_softmax_accuracy", "val_loss", "val_score"
    ] = "val_score"
    """Figure that chooses the best checkpoint: the newest epoch within one standard error of the
    best. val_score: class accuracy times mean IoU."""

    progressive_size: Annotated[tuple[SizeStageConfig, ...], Strict(False)] = ()
    """Stages from the training's beginning on smaller images, which take less time; validation is
    always at full size. resnets only, bbox_head distribution or gap_mlp."""
    fine_tune: FineTuneConfig = FineTuneConfig()
    """Training on from weights that know something."""

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainConfig":
        if self.profile_steps is not None and self.profile_steps[0] > self.profile_steps[1]:
            first, last = self.profile_steps
            raise ValueError(f"profile_steps must be [first, last]; got [{first}, {last}]")
        shares = sum(stage.share for stage in self.progressive_size)
        if shares >= 1:
            raise ValueError(
                f"the shares of progressive_size sum to {shares:g}, which leaves no step at full "
                "size; they must sum to less than 1"
            )
        if self.folds == 1:
            raise ValueError(
                "folds must be 0, for none, or 2 and more: one leaves no image to train on"
            )
        if self.fine_tune.freeze_epochs > self.epochs:
            raise ValueError(
                f"fine_tune.freeze_epochs ({self.fine_tune.freeze_epochs}) must not exceed epochs "
                f"({self.epochs})"
            )
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs:g}) must not exceed epochs ({self.epochs})"
            )
        return self


class LossConfig(Section):
    """What training minimises: a weighted sum of terms."""

    bbox: Literal["iou", "giou", "diou", "ciou", "eiou", "siou", "mpdiou"] = "diou"
    """Similarity of two boxes; the loss is 1 minus it."""
    bbox_weight: Weight = 1.0
    """Weight of the box similarity, >= 0."""
    softmax_weight: Weight = 1.0
    """Weight of the class loss, >= 0."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the class target spread evenly, 0..<1."""
    smooth_l1_weight: Weight = 0.0
    """Weight of smooth L1 on the corners within the box loss, so times bbox_weight, >= 0; 0:
    off."""
    distribution_weight: Weight = 1.0
    """Weight of the distribution focal loss, >= 0; distribution head."""
    balance: Literal["fixed", "uncertainty"] = "fixed"
    """Whether the weights stay, or the terms are weighed by what noise is learned to be in each."""
