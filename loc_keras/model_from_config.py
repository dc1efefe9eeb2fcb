"""From a config and its data to the localizer that is trained."""

import keras

from loc_keras.config import Config
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data.moments import pixel_moments
from loc_keras.models.assembly import build_localizer
from loc_keras.models.start import Start, find_start

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
