"""Whether half precision learns as float32 does from the worst of starts, and how fast it is.

    python -m benchmarks.precision [--steps 500] [--seeds 0 1]
    KERAS_BACKEND=jax python -m benchmarks.precision

For each dtype policy a small localizer is trained from two starts that hurt box losses: boxes of
zero area (both sides of each axis have the same weights), and boxes in a corner, disjoint from
nearly all true ones, where plain IoU has no gradient. The loss must be finite at each step. Only
`keras.ops` is used, so that any backend of Keras can run it; images are drawn by numpy.
"""

import argparse
import math
import statistics
import time
from typing import Any

import keras
import numpy as np
from rich.console import Console

from benchmarks.common import markdown_of, table_of
from loc_keras.config.train import LossConfig
from loc_keras.models.assembly import build_localizer
from loc_keras.training.model import (
    TrainingModel,
    compile_localizer,
    training_model,
    with_training_targets,
)

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
STARTS = {"zero area": "distribution", "disjoint": "spatial"}
SIDE, CLASSES, BATCH, WARM_UP = 48, 3, 32, 20
CORNER = 2.0
"""Bias of the four corners before their sigmoid, which puts all of them at 0.881.

At 4.0 the sigmoids are so flat that float32 itself is left with a box of the whole image
after 500 steps, which would compare nothing.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    args = parser.parse_args()
    rows = []
    for start in STARTS:
        for policy in POLICIES:
            found = [trained(start, policy, seed, args.steps) for seed in args.seeds]
            rows.append(
                {
                    "start": start,
                    "policy": policy,
                    "losses not finite": sum(one["bad"] for one in found),
                    "mean IoU at first": f"{found[0]['before']:.3f}",
                    "mean IoU at last": ", ".join(f"{one['after']:.3f}" for one in found),
                    "images/s": f"{statistics.median(one['rate'] for one in found):.0f}",
                }
            )
            print(*rows[-1].values(), sep=" | ", flush=True)
    Console().print(table_of(rows, f"backend {keras.backend.backend()}"))
    print(markdown_of(rows))


def trained(start: str, policy: str, seed: int, steps: int) -> dict[str, float]:
    """Trains once; gives the steps with a loss that is no number, IoU before and after, speed."""
    keras.mixed_precision.set_global_policy(policy)
    keras.utils.set_random_seed(seed)
    model = hostile(start)
    optimizer = keras.optimizers.Adam(1e-3)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    compile_localizer(model, optimizer, LossConfig())
    names = list(model.output)
    images, targets = squares(np.random.default_rng(99), 256)
    held_out = with_training_targets(targets, names)
    measure = {"batch_size": 64, "verbose": 0, "return_dict": True}
    before = model.evaluate(images, held_out, **measure)["bbox_iou"]
    generator = np.random.default_rng(seed)
    bad, began = 0, 0.0
    for step in range(steps):
        if step == WARM_UP:
            began = time.perf_counter()
        batch, truth = squares(generator, BATCH)
        model.reset_metrics()  # So that the loss that is told is this step's alone.
        logs = model.train_on_batch(batch, with_training_targets(truth, names), return_dict=True)
        bad += not math.isfinite(float(logs["loss"]))
    rate = (steps - WARM_UP) * BATCH / (time.perf_counter() - began)
    after = model.evaluate(images, held_out, **measure)["bbox_iou"]
    return {"bad": bad, "before": float(before), "after": float(after), "rate": rate}


def hostile(start: str) -> TrainingModel:
    """A localizer whose boxes have no area, or lie in the lower right corner."""
    localizer = build_localizer(
        image_shape=(SIDE, SIDE, 1),
        num_classes=CLASSES,
        width=8,
        stem="small",
        bbox_head=STARTS[start],
        class_head="pooled",
    )
    if start == "zero area":
        for axis in ("x", "y"):
            layer = localizer.get_layer(f"bbox_{axis}_logits")
            kernel, bias = layer.get_weights()
            layer.set_weights([np.repeat(kernel[..., :1], 2, axis=-1), bias])
    else:
        layer = localizer.get_layer("bbox_points")
        kernel, _ = layer.get_weights()
        layer.set_weights([kernel * 0.1, np.full(4, CORNER, np.float32)])
    if keras.backend.backend() == "tensorflow":
        from loc_keras.training.batch_norm import fuse_batch_norms

        fuse_batch_norms(localizer)  # As in every training; it is TensorFlow's alone.
    return training_model(localizer)


def squares(generator: np.random.Generator, count: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Squares of 8 to 19 px whose gray value is their class, on noise."""
    images = generator.integers(0, 40, (count, SIDE, SIDE, 1)).astype(np.float32)
    labels = generator.integers(0, CLASSES, count)
    sides = generator.integers(8, 20, count)
    corners = np.floor(generator.uniform(size=(count, 2)) * (SIDE - sides[:, None])).astype(int)
    for image, label, side, (x, y) in zip(images, labels, sides, corners, strict=True):
        image[y : y + side, x : x + side] = 80 * (label + 1)
    boxes = np.concatenate([corners, corners + sides[:, None]], axis=1).astype(np.float32) / SIDE
    return images, {"softmax": labels.astype(np.int32), "bbox": boxes}


if __name__ == "__main__":
    main()
