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
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw
from rich.console import Console

from benchmarks.common import median_ratio, resident_mib, table_of
from benchmarks.input_others import keras_cv_stream, pillow_loader
from loc_keras.config.data import AugmentConfig
from loc_keras.data.augment.batch import augmentation_from
from loc_keras.data.pipeline import train_dataset
from loc_keras.data.pixel_store import image_set, store_pixels
from loc_keras.data.resize import ImageFormat
from loc_keras.data.resolve import Records

COUNT = 256
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


@dataclass(frozen=True)
class Kind:
    """Files of one sort.

    Attributes:
        side: Height and width of the files.
        target: Height and width for the model.
        format: Pillow's name of the file format.
        grain: Deviation of the finest noise. With 20, a JPEG file of quality 92 takes 4 bits a
            pixel; photographs of 500 px in public data sets take 4 to 5.
    """

    side: int
    target: tuple[int, int]
    format: str
    grain: float = 20.0


KINDS = {
    "100 px PNG": Kind(100, (100, 100), "PNG"),
    "64 px JPEG": Kind(64, (64, 64), "JPEG"),
    "500 px JPEG": Kind(500, (224, 224), "JPEG"),
}


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
    stage = augmentation_from(AugmentConfig(**AUGMENTATION))
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
    stage = augmentation_from(AugmentConfig(**AUGMENTATION))
    stream = _counted(lambda: _ours(records, form, augmentation=stage))
    rows, count = [], 0
    for quarter in range(QUARTERS + 1):
        # The first row comes after a few batches, when all threads and buffers are there.
        goal = 64 * BATCH if quarter == 0 else images * quarter // QUARTERS
        while count < goal:
            count += next(stream)
        rows.append({"images": count, "resident MiB": round(resident_mib(), 1)})
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


def write_images(folder: Path, kind: Kind, count: int = COUNT) -> tuple[Records, int]:
    """Writes photograph-like images, each with one object.

    Returns:
        Their records, and the mean size of the files in bytes.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    boxes, sizes = np.zeros((count, 4), np.float32), []
    for index in range(count):
        image, boxes[index] = photograph(rng, kind)
        buffer = io.BytesIO()
        image.save(buffer, kind.format, quality=92)
        (folder / f"{index}.img").write_bytes(buffer.getvalue())
        sizes.append(len(buffer.getvalue()))
    names = np.array([f"{index}.img" for index in range(count)])
    records = Records(
        paths=np.array([str(folder / name) for name in names]),
        offsets=np.zeros(count, np.int64),
        lengths=np.full(count, -1, np.int64),
        orientations=np.ones(count, np.uint8),
        windows=np.zeros((count, 4), np.int32),
        sizes=np.full((count, 2), kind.side, np.int32),
        labels=(np.arange(count) % 10).astype(np.int32),
        boxes=boxes,
        names=names,
        files=np.full(count, "made"),
        rows=np.arange(1, count + 1),
        groups=np.full(count, ""),
        class_names=[str(label) for label in range(10)],
    )
    return records, int(np.mean(sizes))


def photograph(rng: np.random.Generator, kind: Kind) -> tuple[Image.Image, np.ndarray]:
    """Noise of four scales with an ellipse on it, and the ellipse's box in fractions."""
    side = kind.side
    pixels = np.full((side, side, 3), 120.0)
    for cells, deviation in ((4, 60.0), (16, 35.0), (64, 20.0), (side, kind.grain)):
        pixels += deviation * _noise(rng, min(cells, side), side)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    low = rng.uniform(0.1, 0.4, 2)
    box = np.concatenate([low, low + rng.uniform(0.2, 0.5, 2)])
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    ImageDraw.Draw(image).ellipse([float(value) for value in box * side], fill=colour)
    return image, box.astype(np.float32)


def _noise(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Smooth noise (side, side, 3), mostly the same in all colours, as light is."""
    light = rng.normal(size=(cells, cells, 1)).clip(-2, 2)
    colour = rng.normal(size=(cells, cells, 3)).clip(-2, 2)
    planes = (0.9 * light + 0.3 * colour).astype(np.float32)
    grown = [
        np.asarray(Image.fromarray(planes[..., i]).resize((side, side), Image.Resampling.BICUBIC))
        for i in range(3)
    ]
    return np.stack(grown, axis=-1)


if __name__ == "__main__":
    main()
