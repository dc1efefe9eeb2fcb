"""From a config to the plain values that the rooms below the doors take."""

from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from loc_keras.config.load import flat_settings
from loc_keras.config.schema import Config
from loc_keras.data.dataset import LocalizationData
from loc_keras.data.pipeline import pixel_moments
from loc_keras.errors import DataError
from loc_keras.models.assembly import build_localizer
from loc_keras.models.weights import Start, find_start
from loc_keras.report.gallery import panel_picture
from loc_keras.training.run_folder import TENSORBOARD
from loc_keras.training.tensorboard import HyperParameters, ImagePanel, InferenceGraph

PANEL_IMAGES = 8
"""Validation images that TensorBoard shows each epoch."""


def validation_set(data: LocalizationData) -> tf.data.Dataset:
    """The validation images, without which no checkpoint can be chosen.

    Raises:
        DataError: if the source leaves none.
    """
    if data.val is None:
        raise DataError("no image is left for validation; raise data.split.val above 0.")
    return data.val


def resize_rule(config: Config) -> str:
    """How pictures are brought to the model's size, in words for the model card."""
    if config.data.source.format == "digits":
        return "none: digits are drawn at this size"
    return config.data.resize


def export_base(config: Config) -> Path:
    """The folder whose numbered subfolders are this model's versions."""
    return Path(config.export.dir) / str(config.name)


def board_from(
    config: Config, data: LocalizationData, localizer: keras.Model, folder: Path
) -> list[keras.callbacks.Callback]:
    """What TensorBoard shows of a run beside its scalars: graph, pictures, settings."""
    board = folder / TENSORBOARD
    draw = partial(panel_picture, class_names=data.class_names, background=data.background)
    return [
        InferenceGraph(localizer, board),
        ImagePanel(localizer, board, validation_set(data), PANEL_IMAGES, draw),
        HyperParameters(board, flat_settings(config.model_dump()), folder.name),
    ]


MOMENT_IMAGES = 4096
"""Training images from which the pixels' mean and deviation are measured, at the least."""


def start_from(config: Config, data: LocalizationData) -> Start:
    """Finds the body that the config names and the weights that it starts from.

    Raises:
        ModelError: If they are not there, broken, or made for another body.
    """
    backbone = config.model.backbone
    return find_start(
        backbone.name,
        width=backbone.width,
        stem=backbone.stem,
        weights=backbone.weights,
        image_shape=data.image_shape,
    )


def localizer_from(
    config: Config, data: LocalizationData, start: Start | None = None
) -> keras.Model:
    """Builds the model, with the mean and deviation inside that its first weights were trained on.

    Where these are random, the mean and deviation are those of the training images.

    Args:
        config: The config.
        data: The data it is to be trained on.
        start: What `start_from` gives, where it is there already.
    """
    start = start or start_from(config, data)
    pixels = start.preprocessing
    mean, variance = (pixels.mean, pixels.variance) if pixels else _measured_moments(config, data)
    backbone = config.model.backbone
    localizer = build_localizer(
        image_shape=data.image_shape,
        num_classes=len(data.class_names),
        backbone=backbone.name,
        width=backbone.width,
        stem=backbone.stem,
        stochastic_depth=backbone.stochastic_depth,
        bbox_head=config.model.bbox_head,
        class_head=config.model.class_head,
        dropout=config.model.dropout,
        pixel_mean=mean,
        pixel_variance=variance,
        body=start.body,
    )
    start.load(localizer)
    return localizer


def _measured_moments(config: Config, data: LocalizationData) -> tuple[list[float], list[float]]:
    batch = config.train.batch_size
    steps = min(data.steps_per_epoch, max(1, -(-MOMENT_IMAGES // batch)))
    mean, variance = pixel_moments(data.train(0), steps)
    return [float(value) for value in mean], [float(value) for value in variance]
