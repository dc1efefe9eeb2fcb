"""Images per second of a training step, to compare oneDNN kernels and precisions by process.

TensorFlow reads the switch when it is imported, so each row is a process of its own:

    TF_ENABLE_ONEDNN_OPTS=0 python -m benchmarks.onednn_step
    TF_ENABLE_ONEDNN_OPTS=1 python -m benchmarks.onednn_step [--precision mixed_bfloat16]
"""

import argparse
import os
import time

import keras
import numpy as np
import tensorflow as tf

from loc_keras._environ import ONEDNN_VARIABLE
from loc_keras.config.train import LossConfig, TrainConfig
from loc_keras.models.assembly import build_localizer
from loc_keras.training.batch_norm import fuse_batch_norms
from loc_keras.training.model import compile_localizer, training_model, with_training_targets
from loc_keras.training.optimizer import make_optimizer

WIDTH, SIDE, BATCH, CLASSES = 32, 64, 128, 20
WARM_UP, STEPS = 2, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="float32")
    precision = parser.parse_args().precision
    keras.mixed_precision.set_global_policy(precision)
    localizer = build_localizer(image_shape=(SIDE, SIDE, 3), num_classes=CLASSES, width=WIDTH)
    fuse_batch_norms(localizer)
    model = training_model(localizer)
    compile_localizer(model, make_optimizer(TrainConfig(weight_decay=0.0)), LossConfig())
    images = np.random.default_rng(0).integers(0, 255, (BATCH, SIDE, SIDE, 3)).astype(np.float32)
    targets = {
        "softmax": np.zeros(BATCH, np.int32),
        "bbox": np.tile(np.array([[0.1, 0.1, 0.6, 0.7]], np.float32), (BATCH, 1)),
    }
    named = with_training_targets(targets, list(model.output))
    stream = tf.data.Dataset.from_tensors((images, named)).repeat()
    model.fit(stream, steps_per_epoch=WARM_UP, verbose=0)
    started = time.perf_counter()
    model.fit(stream, steps_per_epoch=STEPS, verbose=0)
    rate = STEPS * BATCH / (time.perf_counter() - started)
    print(f"{ONEDNN_VARIABLE}={os.environ[ONEDNN_VARIABLE]}, {precision}: {rate:.1f} images/s")


if __name__ == "__main__":
    main()
