"""What a config and its data make: the localizer, what TensorBoard shows, the export's bundle."""

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from loc_keras.atomic_file import file_sha256
from loc_keras.cli.runs import split_pictures_at
from loc_keras.config.load import flat_settings
from loc_keras.config.schema import Config
from loc_keras.data.annotations import FOLDS
from loc_keras.data.dataset import LocalizationData
from loc_keras.data.files import read_bytes
from loc_keras.data.image_bytes import is_served_kind
from loc_keras.data.pipeline import pixel_moments
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import DataError
from loc_keras.models.assembly import build_localizer
from loc_keras.models.weights import Start, find_start
from loc_keras.report.gallery import draw_gallery
from loc_keras.report.style import figure_to_array
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.runtimes import SOURCE_FILE
from loc_keras.training.run_folder import (
    BEST_FILE,
    CLASSES_FILE,
    NOVELTY_FILE,
    TENSORBOARD,
    TRUST_FILE,
)
from loc_keras.training.tensorboard import HyperParameters, ImagePanel, InferenceGraph
from loc_keras.trust.novelty import Novelty, with_novelty
from loc_keras.trust.statements import FOLDS_FILE, Trust, read_folds, trusted_model

PANEL_IMAGES = 6
"""Validation images that TensorBoard shows each epoch."""

MOMENT_IMAGES = 4096
"""Training images from which the pixels' mean and deviation are measured, at the least."""

SAMPLES = 4
"""Validation images on which the exported copy is compared with the model."""

MADE_OF = (BEST_FILE, CLASSES_FILE, TRUST_FILE, FOLDS_FILE, NOVELTY_FILE)
"""Files of a run that decide what its exports answer."""

_READ_PER_SAMPLE = 8
"""Files that are read for each sample, at most, since some may be of another kind."""


def validation_set(data: LocalizationData) -> tf.data.Dataset | None:
    """The validation images, which choose the checkpoint; None where folds measure in their place.

    Raises:
        DataError: if the source leaves none, and there are no folds.
    """
    if data.val is None and data.folds is None:
        raise DataError("no image is left for validation; raise data.split.val above 0.")
    return data.val


def localizer_from(
    config: Config, data: LocalizationData, start: Start | None = None
) -> keras.Model:
    """Builds the model, with the mean and deviation inside that its first weights were trained on.

    Where these are random, the mean and deviation are those of the training images. `start` is what
    `find_start` gives, where it is there already.
    """
    start = start or find_start(config.model.backbone, data.image_shape)
    pixels = start.preprocessing
    mean, variance = (pixels.mean, pixels.variance) if pixels else _measured_moments(config, data)
    body = config.model.backbone
    localizer = build_localizer(
        image_shape=data.image_shape,
        num_classes=len(data.class_names),
        backbone=body.name,
        **body.model_dump(exclude={"name", "weights"}),
        **config.model.model_dump(exclude={"backbone"}),
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


def board_from(
    config: Config, data: LocalizationData, localizer: keras.Model, folder: Path
) -> list[keras.callbacks.Callback]:
    """What TensorBoard shows of a run beside its scalars: graph, pictures, settings."""
    board, val = folder / TENSORBOARD, validation_set(data)

    def draw(
        images: np.ndarray, truth: Mapping[str, np.ndarray], answers: Mapping[str, np.ndarray]
    ) -> list[np.ndarray]:
        names, background = data.class_names, data.background
        pictures, shown = data.pictures["val"], dict(enumerate(images))
        if pictures.rule == "stretch" and pictures.records is not None:
            # In their own shape, in which fractions are the same.
            shown |= split_pictures_at(data, "val", list(shown))
        one = [slice(place, place + 1) for place in range(len(images))]
        return [
            figure_to_array(
                draw_gallery(
                    list(shown.values())[at],
                    {name: value[at] for name, value in truth.items()},
                    {name: value[at] for name, value in answers.items()},
                    names,
                    background=background,
                )
            )
            for at in one
        ]

    return [
        InferenceGraph(localizer, board),
        *([] if val is None else [ImagePanel(localizer, board, val, PANEL_IMAGES, draw)]),
        HyperParameters(board, flat_settings(config.model_dump()), folder.name),
    ]


def export_base(config: Config) -> Path:
    """The folder whose numbered subfolders are this model's versions."""
    return Path(config.export.dir) / str(config.name)


def bundle_of(
    folder: Path,
    localizer: keras.Model,
    data: LocalizationData,
    card: Mapping[str, Any] | None,
    trust: Trust | None = None,
    novelty: Novelty | None = None,
) -> Bundle:
    """Puts an export of a run together, by its best model and those of its folds.

    `trust` and `novelty` are what the run's folder holds of them; None for an export without.
    """
    model, files = localizer, [folder / name for name in MADE_OF]
    digests = {file.name: file_sha256(file) if file.is_file() else None for file in files}
    texts = {SOURCE_FILE: json.dumps(digests, indent=1) + "\n"}
    if trust is not None:
        folds = read_folds(folder, trust)
        model = trusted_model(model, trust.statements, folds)
        texts[TRUST_FILE] = (folder / TRUST_FILE).read_text(encoding="utf-8")
    *size, channels = data.image_shape
    rules = [pictures.rule for pictures in data.pictures.values()]
    return Bundle(
        localizer=with_novelty(model, novelty),
        class_names=data.class_names,
        form=ImageFormat((size[0], size[1]), channels, rules[0] if rules else "stretch"),
        samples=samples_of(data),
        card=card,
        texts=texts,
    )


def samples_of(data: LocalizationData, count: int = SAMPLES) -> list[bytes]:
    """Encoded images of validation, else of training, at most `count`: files, or PNG where not."""
    pictures = data.pictures.get("val", data.pictures.get(FOLDS))
    records = pictures.records if pictures else None
    if records is not None:
        tried = range(min(len(records), _READ_PER_SAMPLE * count))
        places = (
            (records.paths[i], int(records.offsets[i]), int(records.lengths[i])) for i in tried
        )
        contents = (read_bytes(*place) for place in places)
        served = list(islice(filter(is_served_kind, contents), count))
        if served:
            return served
    images, _ = next(iter(data.val or data.folds or data.train(0)))
    return [tf.io.encode_png(image).numpy() for image in tf.cast(images[:count], tf.uint8)]
