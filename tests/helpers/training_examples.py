"""The smallest localizer, task and plan for the tests of training."""

import numpy as np
import tensorflow as tf

import loc_keras
from loc_keras.config.train import LossConfig, TrainConfig
from loc_keras.training.model import FitPlan

IMAGE_SHAPE = (32, 32, 1)


def tiny(bbox_head="spatial", class_head="pooled"):
    return loc_keras.build_localizer(
        image_shape=IMAGE_SHAPE,
        num_classes=3,
        width=4,
        bbox_head=bbox_head,
        class_head=class_head,
    )


def squares(count, seed=0, batch=8):
    """Bright squares whose gray value is their class: the smallest task with both answers."""
    generator = np.random.default_rng(seed)
    images = np.zeros((count, *IMAGE_SHAPE), np.uint8)
    labels = generator.integers(0, 3, count).astype(np.int32)
    corners = generator.integers(0, 20, (count, 2))
    for image, label, (x, y) in zip(images, labels, corners, strict=True):
        image[y : y + 12, x : x + 12] = 80 * (label + 1)
    boxes = np.concatenate([corners, corners + 12], axis=1).astype(np.float32) / 32
    targets = {"softmax": labels, "bbox": boxes}
    return tf.data.Dataset.from_tensor_slices((images, targets)).batch(batch)


def plan(*, steps_per_epoch=3, val_images=8, background=None, loss=None, **train):
    """A plan without warm-up and weight decay, but for changes of the section `train`."""
    settings = {"epochs": 2, "batch_size": 8, "weight_decay": 0.0, "warmup_epochs": 0.0, **train}
    section = TrainConfig(**settings)
    return FitPlan(section, LossConfig(**(loss or {})), steps_per_epoch, val_images, background)
