"""Images per second of the input pipeline, beside the limit and what others do.

Run from the root of the repository:

    python -m benchmarks.input_pipeline [--seconds 2] [--rounds 3] [--out FILE.json] [--json]
    python -m benchmarks.input_pipeline --memory [--images 50000]

For each kind of image: decoding alone at full size (the limit), ours without and with
augmentation (no pixels are kept, so that both decode every picture anew), KerasCV's layers in place
of our augmentation, and a loader as tutorials have it with PIL: one row of a CSV file at a
time, opened, resized, mirrored and warped. All are measured in one run, in turns, since
machines differ and are noisy: read the ratios, not the absolute numbers.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from rich.console import Console

from benchmarks.in_turn import median_ratio
from benchmarks.input_images import KINDS, Kind, write_images
from benchmarks.input_others import keras_cv_stream, pillow_loader
from benchmarks.process_memory import resident_mib
from benchmarks.table import table_of
from loc_keras.data.augment import augmentation_from
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.pipeline import train_dataset
from loc_keras.data.pixel_store import image_set, store_pixels
from loc_keras.data.records import Records

BATCH = 32
AUGMENTATION = {
    "flip": True,
    "translate": 0.1,
    "scale": 0.2,
    "rotation": 10.0,
    "brightness": 0.1,
    "contrast": 0.2,
}
LIMIT, PIL = "decode alone", "PIL loader"
QUARTERS = 4
WARM_UP = 0.3  # Part of the time of a measurement that goes before it.


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="time of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each loader")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--memory", action="store_true", help="follow the memory instead")
    parser.add_argument("--images", type=int, default=50_000, help="images of --memory")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.add_argument("--out", type=Path, help="write JSON here, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.memory:
            rows = memory_rows(Path(folder), args.images)
        else:
            rows = rate_rows(Path(folder), args.kinds, args.seconds, args.rounds)
    text = json.dumps(rows, indent=2)
    if args.out:
        args.out.write_text(text)
    if args.json:
        sys.stdout.write(text + "\n")
    else:
        Console().print(table_of(rows))


def rate_rows(folder: Path, kinds: list[str], seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Images per second of every loader for every kind of image."""
    rows = []
    for name in kinds:
        kind = KINDS[name]
        records, size = write_images(folder / name, kind)
        streams = loaders(records, kind)
        rates: dict[str, list[float]] = {loader: [] for loader in streams}
        costs: dict[str, list[float]] = {loader: [] for loader in streams}
        for _ in range(rounds):
            for loader, stream in streams.items():
                rate, cost = _rate(stream, seconds)
                rates[loader].append(rate)
                costs[loader].append(cost)
        for loader, measured in rates.items():
            rows.append(
                {
                    "images": name,
                    "mean bytes": size,
                    "loader": loader,
                    "images/s": round(statistics.median(measured), 1),
                    "of the limit": median_ratio(measured, rates[LIMIT]),
                    "times PIL": median_ratio(measured, rates[PIL]),
                    "CPU ms": round(statistics.median(costs[loader]), 3),
                }
            )
    return rows


def loaders(records: Records, kind: Kind) -> dict[str, Iterator[int]]:
    """Endless loaders by name; each element is the number of images that have come."""
    form = ImageFormat(kind.target, 3, "stretch")
    stage = augmentation_from(AUGMENTATION)
    streams = {
        LIMIT: lambda: _decode_alone(records),
        "ours": lambda: _ours(records, form),
        "ours, augmented": lambda: _ours(records, form, augmentation=stage),
        "KerasCV": lambda: keras_cv_stream(_ours(records, form), AUGMENTATION),
    }
    found = {name: _counted(make) for name, make in streams.items()}
    found[PIL] = pillow_loader(records, kind.target, AUGMENTATION, BATCH)
    return found


def memory_rows(folder: Path, images: int) -> list[dict[str, Any]]:
    """Memory of the process after each quarter of the images, uncached and augmented."""
    kind = KINDS["100 px PNG"]
    records, _ = write_images(folder / "memory", kind)
    form = ImageFormat(kind.target, 3, "stretch")
    stream = _counted(lambda: _ours(records, form, augmentation=augmentation_from(AUGMENTATION)))
    rows, seen = [], 0
    for quarter in range(QUARTERS + 1):
        # The first row comes after a few batches, when all threads and buffers are there.
        goal = 64 * BATCH if quarter == 0 else images * quarter // QUARTERS
        while seen < goal:
            seen += next(stream)
        rows.append({"images": seen, "resident MiB": round(resident_mib(), 1)})
    return rows


def _ours(records: Records, form: ImageFormat, **options: Any) -> tf.data.Dataset:
    store = store_pixels(records, form, keep="none")
    return train_dataset(image_set(store), batch_size=BATCH, seed=0, **options)


def _decode_alone(records: Records) -> tf.data.Dataset:
    def decode(path: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)

    paths = tf.data.Dataset.from_tensor_slices(records.paths.astype(str)).repeat()
    # Not batched, and so not copied: nothing but files read and decoded.
    return paths.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _counted(make: Callable[[], tf.data.Dataset]) -> Iterator[int]:
    for element in make():
        images = element[0] if isinstance(element, tuple) else element
        yield len(images) if images.shape.rank == 4 else 1


def _rate(stream: Iterator[int], seconds: float) -> tuple[float, float]:
    """Images per second, and milliseconds of all processors for each."""
    # What the last turn left in the buffers, and what other loaders still fill into theirs.
    warm = time.perf_counter() + WARM_UP * seconds
    while time.perf_counter() < warm:
        next(stream)
    images, start, start_cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        images += next(stream)
    cpu = time.process_time() - start_cpu
    return images / (time.perf_counter() - start), cpu / images * 1000


if __name__ == "__main__":
    main()
