"""What a second worker with a core of its own gains: images a second of 2 against 1.

Run it with `python -m benchmarks.scaling` on a machine that does nothing else. One worker has one
core, then two have one each, and so on in turn, so that what else the machine does meets both. The
global batch grows with the number of workers (weak scaling) or stays (`--strong`). A perfect
cluster has a ratio of 2; what is missing is the exchange of gradients and waiting for the slower.
Also told is what it costs several workers to agree, at each step, on whether to stop.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import fit_on_devices

BATCH, STEPS, SIDE = 32, 10, 64
AGREEMENTS = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--strong", action="store_true", help="keep the global batch")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.out is not None:
        found = measure(args.batch, args.width)
        if found is not None:
            args.out.write_text(json.dumps(found))
        return 0
    from loc_keras.train_workers import available_cores, run_workers

    cores = [[core] for core in available_cores()[:2]]
    speeds: dict[int, list[float]] = {1: [], 2: []}
    agreeing: list[float] = []
    with TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for count, rates in speeds.items():
                out = Path(folder) / "speed.json"
                batch = BATCH if args.strong else BATCH * count
                command = [sys.executable, "-m", "benchmarks.scaling", "--width", str(args.width)]
                more = ["--batch", str(batch), "--out", str(out)]
                if run_workers([*command, *more], count, cores[:count]):
                    return 1
                rate, seconds = json.loads(out.read_text())
                rates.append(rate)
                if count == 2:
                    agreeing.append(seconds / (batch / rate))
    for count, rates in speeds.items():
        shown = ", ".join(f"{rate:.1f}" for rate in rates)
        print(f"{count} worker(s), a core each: {shown} images/s")
    ratios = [two / one for one, two in zip(speeds[1], speeds[2], strict=True)]
    kind = "same global batch" if args.strong else "same batch a worker"
    low, high = min(ratios), max(ratios)
    print(f"ratio {statistics.median(ratios):.2f} ({low:.2f}..{high:.2f}), {kind}, of 2 possible")
    print(f"agreeing takes {statistics.median(agreeing):.2%} of a step of 2 workers")
    return 0


def measure(batch: int, width: int) -> tuple[float, float] | None:
    """What the chief tells of a training and after it.

    Returns:
        Images a second of all workers together, from the steps of the second epoch, and the seconds
        that it takes the workers to agree once.
    """
    import keras

    from loc_keras.config.train import TrainConfig
    from loc_keras.data.digits_data import build_digits_data
    from loc_keras.models.assembly import build_localizer
    from loc_keras.training.distribution import distribution

    devices = distribution("auto", batch_size=batch)
    keras.utils.set_random_seed(0)
    data = build_digits_data(batch_size=batch, limit=batch, canvas=SIDE)
    with devices.scope():
        localizer = build_localizer(
            image_shape=data.image_shape,
            num_classes=len(data.class_names),
            width=width,
            stem="small",
        )
    train = TrainConfig(
        epochs=2, steps_per_epoch=STEPS, batch_size=batch, weight_decay=0.0, warmup_epochs=0.0
    )
    history = fit_on_devices(localizer, data, train, devices)
    devices.on_any(False)  # Begins together.
    began = time.perf_counter()
    for _ in range(AGREEMENTS):
        devices.on_any(False)
    seconds = (time.perf_counter() - began) / AGREEMENTS
    devices.meet()
    return (history[-1]["images_per_second"], seconds) if devices.is_chief else None


if __name__ == "__main__":
    sys.exit(main())
