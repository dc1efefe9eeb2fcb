"""From a config to the plain values that the rooms below the doors take."""

from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from loc_keras.config import Config
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data.moments import pixel_moments
from loc_keras.data.sources import BUILDERS
from loc_keras.errors import DataError
from loc_keras.models.assembly import build_localizer
from loc_keras.report.run_pictures import panel_picture
from loc_keras.training.fit import FitPlan
from loc_keras.training.precision import use_xla
from loc_keras.training.tensorboard import HyperParameters, ImagePanel, InferenceGraph

PANEL_IMAGES = 8
"""Validation images that TensorBoard shows each epoch."""

MOMENT_IMAGES = 4096
"""Training images from which the pixels' mean and deviation are measured, at the least."""


def data_from(config: Config) -> LocalizationData:
    """Builds the data source that the config names.

    Raises:
        DataError: if the source is wrong.
    """
    data = config.data
    source = data.source
    own = getattr(source, source.format).model_dump()
    if source.format != "digits":
        own["on_error"] = data.on_error
    return BUILDERS[source.format](
        source.path,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        val_fraction=data.split.val,
        test_fraction=data.split.test,
        image_size=data.image_size,
        channels=data.channels,
        resize=data.resize,
        augment=config.augment.model_dump(),
        cache=data.cache,
        **own,
    )


def validation_set(data: LocalizationData) -> tf.data.Dataset:
    """The validation images, without which no checkpoint can be chosen.

    Raises:
        DataError: if the source leaves none.
    """
    if data.val is None:
        raise DataError("no image is left for validation; raise data.split.val above 0.")
    return data.val


def localizer_from(config: Config, data: LocalizationData) -> keras.Model:
    """Builds the model, with the mean and deviation of the training images inside."""
    batch = config.train.batch_size
    steps = min(data.steps_per_epoch, max(1, -(-MOMENT_IMAGES // batch)))
    mean, variance = pixel_moments(data.train(0), steps)
    backbone = config.model.backbone
    return build_localizer(
        image_shape=data.image_shape,
        num_classes=len(data.class_names),
        backbone=backbone.name,
        width=backbone.width,
        stem=backbone.stem,
        bbox_head=config.model.bbox_head,
        class_head=config.model.class_head,
        dropout=config.model.dropout,
        pixel_mean=[float(value) for value in mean],
        pixel_variance=[float(value) for value in variance],
    )


def plan_from(config: Config, data: LocalizationData) -> FitPlan:
    """How long and how to train."""
    train = config.train
    return FitPlan(
        epochs=train.epochs,
        steps_per_epoch=train.steps_per_epoch or data.steps_per_epoch,
        batch_size=train.batch_size,
        val_images=data.sizes["val"],
        learning_rate=train.learning_rate,
        optimizer=train.optimizer,
        weight_decay=train.weight_decay,
        schedule=train.schedule,
        warmup_epochs=train.warmup_epochs,
        gradient_clip_norm=train.gradient_clip_norm,
        ema=train.ema,
        jit_compile=use_xla(train.xla),
        monitor=train.monitor,
        early_stopping_patience=train.early_stopping_patience,
        validate_every_steps=train.validate_every_steps,
    )


def losses_from(config: Config) -> dict[str, Any]:
    """Which losses, and their weights, as arguments of `compile_localizer`."""
    return config.loss.model_dump()


def export_base(config: Config) -> Path:
    """The folder whose numbered subfolders are this model's versions."""
    return Path(config.export.dir) / str(config.name)


def board_from(
    config: Config, data: LocalizationData, localizer: keras.Model, folder: Path
) -> list[keras.callbacks.Callback]:
    """What TensorBoard shows of a run beside its scalars: graph, pictures, settings."""
    board = folder / "tensorboard"
    draw = partial(panel_picture, class_names=data.class_names)
    return [
        InferenceGraph(localizer, board),
        ImagePanel(localizer, board, validation_set(data), PANEL_IMAGES, draw),
        HyperParameters(board, flat_settings(config.model_dump()), folder.name),
    ]


def flat_settings(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested settings to dotted names."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
