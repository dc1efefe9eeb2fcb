"""What an export is made of, from a run's model and data."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from loc_keras.data.files import read_bytes
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.localization_data import LocalizationData
from loc_keras.data.records import Records
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.content_check import is_served_kind

SAMPLES = 4
"""Validation images on which the exported copy is compared with the model."""

_LOOKED_AT = 8
"""Files that are looked at for each that is wanted, since some may be of another kind."""


def bundle_of(
    model: keras.Model,
    data: LocalizationData,
    card: Mapping[str, Any] | None,
    texts: Mapping[str, str],
) -> Bundle:
    """Puts an export together.

    Args:
        model: What is exported.
        data: The run's.
        card: The model card.
        texts: Further files to come with the model, by name.
    """
    return Bundle(
        localizer=model,
        class_names=data.class_names,
        form=image_format(data),
        samples=samples_of(data),
        card=card,
        texts=texts,
    )


def image_format(data: LocalizationData) -> ImageFormat:
    """How pictures become the model's images."""
    *size, channels = data.image_shape
    rules = [pictures.rule for pictures in data.pictures.values()]
    return ImageFormat((size[0], size[1]), channels, rules[0] if rules else "stretch")


def samples_of(data: LocalizationData, count: int = SAMPLES) -> list[bytes]:
    """Encoded validation images: the files themselves, or PNG where they are of another kind.

    Args:
        data: The run's.
        count: How many at most.
    """
    pictures = data.pictures.get("val")
    records = pictures.records if pictures else None
    return (_files(records, count) if records is not None else []) or _drawn(data, count)


def _files(records: Records, count: int) -> list[bytes]:
    found: list[bytes] = []
    for index in range(min(len(records), _LOOKED_AT * count)):
        place = (records.paths[index], int(records.offsets[index]), int(records.lengths[index]))
        content = read_bytes(*place)
        if is_served_kind(content):
            found.append(content)
        if len(found) == count:
            break
    return found


def _drawn(data: LocalizationData, count: int) -> list[bytes]:
    images, _ = next(iter(data.val or data.train(0)))
    return [tf.io.encode_png(image).numpy() for image in tf.cast(images[:count], tf.uint8)]
