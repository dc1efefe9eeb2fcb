"""Whether 1, 2 and 4 workers come to the same losses and weights with the same global batch.

So should two devices of one process.

Run it with `python -m benchmarks.workers_agree`; it takes minutes on two cores. The model is tiny,
since what is compared is arithmetic: it has batch normalisation (synchronized), two heads, MixUp
across the borders of the shares, a clipped gradient, and validation images that no number of
workers divides.

A worker is a process with TensorFlow's strategy for several workers on the loopback interface.
What is left between the runs is the order in which float32 numbers are added. Adam makes more of it
than it was, since it divides a gradient by its own size: a weight whose gradient is nearly nothing
moves by as much as any other, in a direction that rounding decides.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.common import fit_on_devices, table_of

CASES = ("1", "2", "4", "mirrored")
BATCH, STEPS, EPOCHS = 16, 4, 2
SHOWN = ("loss", "val_loss", "val_bbox_iou", "val_score")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers_agree", description=__doc__)
    parser.add_argument(
        "--cases",
        nargs="+",
        default=list(CASES),
        help="numbers of workers; mirrored: two devices of one process; the first is compared with",
    )
    parser.add_argument("--no-sync", action="store_true", help="batch statistics of each share")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--devices", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.out is not None:
        train(args.out, devices_here=args.devices, sync=not args.no_sync)
        return 0
    report(Console(), compare(args.cases, sync=not args.no_sync))
    return 0


def compare(cases: Sequence[str] = CASES, *, sync: bool = True) -> dict[str, dict[str, Any]]:
    """History and weights of the training in each case."""
    from loc_keras.train_workers import run_workers

    found = {}
    with TemporaryDirectory() as folder:
        for case in cases:
            out = Path(folder) / f"{case}.npz"
            command = [sys.executable, "-m", "benchmarks.workers_agree", "--out", str(out)]
            more = ["--devices", "2"] if case == "mirrored" else []
            more += [] if sync else ["--no-sync"]
            code = run_workers([*command, *more], 1 if case == "mirrored" else int(case))
            if code:
                raise SystemExit(f"case {case} ended with code {code}")
            with np.load(out) as saved:
                history = json.loads(str(saved["history"]))
                weights = [saved[name] for name in saved.files if name.startswith("weight")]
            found[case] = {"history": history, "weights": weights}
    return found


def differences(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How far each run is from the first: in its losses, relative, and in its weights."""
    first = next(iter(found.values()))
    flat = np.concatenate([weight.ravel() for weight in first["weights"]])
    result = {}
    for case, run in found.items():
        pairs = zip(first["history"], run["history"], strict=True)
        losses = [abs(b[name] / a[name] - 1) for a, b in pairs for name in ("loss", "val_loss")]
        other = np.concatenate([weight.ravel() for weight in run["weights"]])
        apart = np.abs(other - flat)
        result[case] = {
            "loss": max(losses),
            "weight_99": float(np.quantile(apart, 0.99)),
            "weight": float(apart.max()),
        }
    return result


def report(console: Console, found: dict[str, dict[str, Any]]) -> None:
    """Prints two tables: the figures of each epoch, and the differences."""
    rows = [
        {"case": case, "epoch": row["epoch"], **{name: f"{row[name]:.6f}" for name in SHOWN}}
        for case, run in found.items()
        for row in run["history"]
    ]
    apart = [
        {"case": case, **{name: f"{value:.1e}" for name, value in one.items()}}
        for case, one in differences(found).items()
    ]
    console.print(table_of(rows, "Figures of the epochs"))
    console.print(table_of(apart, "Largest differences from the first: losses relative, weights"))


def train(out: Path, *, devices_here: int = 1, sync: bool = True) -> None:
    """Trains as one of the workers in TF_CONFIG; the chief writes history and weights."""
    import keras
    import tensorflow as tf

    from loc_keras.config.train import TrainConfig
    from loc_keras.data.digits_data import build_digits_data
    from loc_keras.models import assembly
    from loc_keras.training.distribution import distribution

    if devices_here > 1:
        (processor,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * devices_here
        tf.config.set_logical_device_configuration(processor, parts)
    devices = distribution("mirrored" if devices_here > 1 else "auto", batch_size=BATCH)
    keras.utils.set_random_seed(0)
    # Two blocks: most of the time is tracing.
    assembly.RESNETS = {"resnet18": ((1, 1), "basic", "")}
    data = build_digits_data(
        batch_size=BATCH,
        limit=70,
        canvas=32,
        augment={"mixup": 0.4, "mix_probability": 0.5},
    )
    with devices.scope():
        localizer = assembly.build_localizer(
            image_shape=data.image_shape,
            num_classes=len(data.class_names),
            width=4,
            stem="small",
            bbox_head="spatial",
            class_head="pooled",
        )
    train = TrainConfig(
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        batch_size=BATCH,
        weight_decay=0.0,
        warmup_epochs=0.0,
        gradient_clip_norm=0.5,
        ema=0.9,
        sync_batch_norm=sync,
    )
    history = fit_on_devices(localizer, data, train, devices)
    if devices.is_chief:
        weights = {f"weight{i:03d}": np.asarray(w) for i, w in enumerate(localizer.get_weights())}
        np.savez(out, history=json.dumps(history), **weights)
    devices.meet()


if __name__ == "__main__":
    sys.exit(main())
