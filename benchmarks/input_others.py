"""What the input pipeline is compared with: KerasCV's layers, and a loader as in tutorials."""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageEnhance

from loc_keras.data.resolve import Records


def keras_cv_stream(stream: tf.data.Dataset, knobs: Mapping[str, float]) -> tf.data.Dataset:
    """Augments batches with the layers of KerasCV for the operations of `augment`.

    RandomZoom takes no boxes, so that the change of size is left to RandomShear's warp of the same
    cost, with next to no shear.
    """
    import keras_cv

    common = {"bounding_box_format": "rel_xyxy"}
    layers = [
        keras_cv.layers.RandomFlip("horizontal", **common),
        keras_cv.layers.RandomRotation(
            knobs["rotation"] / 360, fill_mode="constant", segmentation_classes=None, **common
        ),
        keras_cv.layers.RandomShear(1e-3, 1e-3, fill_mode="constant", **common),
        keras_cv.layers.RandomTranslation(
            knobs["translate"], knobs["translate"], fill_mode="constant", **common
        ),
        keras_cv.layers.RandomBrightness(knobs["brightness"], value_range=(0, 255)),
        keras_cv.layers.RandomContrast((0, 255), knobs["contrast"]),
    ]

    def augment(images: tf.Tensor, targets: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        inputs = {
            "images": tf.cast(images, tf.float32),
            "bounding_boxes": {
                "boxes": targets["bbox"][:, tf.newaxis],
                "classes": tf.cast(targets["softmax"], tf.float32)[:, tf.newaxis],
            },
        }
        for layer in layers:
            inputs = layer(inputs, training=True)
        return inputs["images"], inputs["bounding_boxes"]["boxes"]

    return stream.map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def pillow_loader(
    records: Records, target: tuple[int, int], knobs: Mapping[str, float], batch: int
) -> Iterator[int]:
    """Reads a CSV file row by row and makes each picture with Pillow, in one thread.

    Yields:
        The number of images of each batch.
    """
    path = Path(str(records.paths[0])).parent / "rows.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(
            [name, *box, label]
            for name, box, label in zip(records.paths, records.boxes, records.labels, strict=True)
        )
    rng = np.random.default_rng(0)
    while True:
        with open(path, newline="") as file:
            pictures: list[np.ndarray] = []
            for name, *box, _ in csv.reader(file):
                image = Image.open(name).convert("RGB").resize(target[::-1])
                pictures.append(_augmented(image, [float(side) for side in box], knobs, rng)[0])
                if len(pictures) == batch:
                    yield len(np.stack(pictures))
                    pictures = []


def _augmented(
    image: Image.Image, box: list[float], knobs: Mapping[str, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mirrors, warps and recolours one picture, and moves its box by its corners."""
    corners = np.array([[x, y] for x in box[0::2] for y in box[1::2]]) * image.size
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        corners[:, 0] = image.width - corners[:, 0]
    angle = math.radians(rng.uniform(-1, 1) * knobs["rotation"])
    factor = math.exp(rng.uniform(-1, 1) * math.log1p(knobs["scale"]))
    shift = rng.uniform(-1, 1, 2) * knobs["translate"] * image.size
    linear = factor * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    centre = np.array(image.size) / 2
    corners = (corners - centre) @ linear.T + centre + shift
    inverse = np.linalg.inv(linear)
    offset = centre - inverse @ (centre + shift)
    matrix = [*inverse[0], offset[0], *inverse[1], offset[1]]
    image = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    image = ImageEnhance.Brightness(image).enhance(1 + rng.uniform(-1, 1) * knobs["brightness"])
    image = ImageEnhance.Contrast(image).enhance(1 + rng.uniform(-1, 1) * knobs["contrast"])
    moved = np.concatenate([corners.min(0), corners.max(0)]) / np.tile(image.size, 2)
    return np.asarray(image), moved.clip(0, 1)
