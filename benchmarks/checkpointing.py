"""What checkpoints cost: time of the steps with one every so often, by the time of those without.

    python -m benchmarks.checkpointing [--every 100] [--steps 200] [--rounds 3] [--width 16]

Rounds with and without checkpoints alternate within one run, since machines differ and are noisy:
read the ratio. Also shown are the parts: the copy, for which the training waits, and the write,
beside which it goes on. The folder is on the disk that `--dir` names.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from benchmarks.common import table_of
from loc_keras.config.train import LossConfig, TrainConfig
from loc_keras.models.assembly import build_localizer
from loc_keras.training.callbacks import Position
from loc_keras.training.checkpointing import (
    CheckpointWriter,
    Snapshot,
    TrainingCheckpoint,
    build_optimizer,
    collect_arrays,
)
from loc_keras.training.model import FitPlan, compiled_training_model, with_training_targets
from loc_keras.training.run_folder import Interruption

SIDE, CLASSES, WARM_UP = 64, 10, 3


class Times(keras.callbacks.Callback):
    """Seconds from the first step's beginning to the last one's end, callbacks included."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self.began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dir", type=Path)
    args = parser.parse_args()
    localizer = build_localizer(image_shape=(SIDE, SIDE, 1), num_classes=CLASSES, width=args.width)
    plan = FitPlan(
        TrainConfig(batch_size=args.batch, epochs=1), LossConfig(), args.steps, val_images=0
    )
    model = compiled_training_model(localizer, plan)
    build_optimizer(model)
    stream = batches(args.batch, list(model.output))
    model.fit(stream, steps_per_epoch=WARM_UP, verbose=0)
    with tempfile.TemporaryDirectory(dir=args.dir) as name:
        writer = CheckpointWriter(Path(name), keep=2)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(args.rounds):
            for saving, found in seconds.items():
                found.append(fit_seconds(model, stream, args, writer if saving else None))
        parts = part_seconds(model, writer)
        size = sum(file.stat().st_size for file in next(Path(name).glob("step-*")).iterdir())
    ratios = [on / off for on, off in zip(seconds[True], seconds[False], strict=True)]
    step = statistics.median(seconds[False]) / args.steps
    rows = [
        {"what": f"a step, {localizer.count_params():,} parameters", "value": f"{step:.3f} s"},
        {"what": "a checkpoint", "value": f"{size / 2**20:.1f} MiB"},
        {"what": "copying it, training waits", "value": f"{parts[0]:.3f} s"},
        {"what": "writing it, beside training", "value": f"{parts[1]:.3f} s"},
        {
            "what": f"time with one every {args.every} steps by time without",
            "value": f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        },
    ]
    Console().print(table_of(rows))


def batches(batch: int, names: list[str]) -> tf.data.Dataset:
    images = np.random.default_rng(0).integers(0, 255, (batch, SIDE, SIDE, 1), np.uint8)
    targets = {
        "softmax": np.zeros(batch, np.int32),
        "bbox": np.tile(np.array([[0.1, 0.1, 0.6, 0.7]], np.float32), (batch, 1)),
    }
    named = with_training_targets(targets, names)
    return tf.data.Dataset.from_tensors((images, named)).repeat()


def fit_seconds(
    model: keras.Model,
    stream: tf.data.Dataset,
    args: argparse.Namespace,
    writer: CheckpointWriter | None,
) -> float:
    """Time of an epoch of steps, after which every write has ended."""
    position, times = Position(args.steps), Times()
    callbacks: list[keras.callbacks.Callback] = [position]
    if writer is not None:
        facts = {"rate": 1.0, "phase": 0}
        callbacks.append(
            TrainingCheckpoint(
                writer,
                position,
                callbacks,
                list,
                every=args.every,
                facts=facts,
                interruption=Interruption(""),
            )
        )
    model.fit(stream, steps_per_epoch=args.steps, callbacks=[*callbacks, times], verbose=0)
    if writer is not None:
        writer.wait()
    return times.seconds


def part_seconds(model: keras.Model, writer: CheckpointWriter) -> tuple[float, float]:
    """Time of the copy, and of the write with nothing beside it."""
    began = time.perf_counter()
    arrays = collect_arrays(model)
    copied = time.perf_counter()
    writer.submit(Snapshot("step-99999999", arrays, {}, ()))
    writer.wait()
    return copied - began, time.perf_counter() - copied


if __name__ == "__main__":
    main()
