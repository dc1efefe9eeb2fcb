"""What `Localizer` costs beside the bare compiled model call: one image, and a list of files.

    python -m benchmarks.localizer_call [--side 64] [--width 32] [--rounds 200] [--run DIR]

All ways are asked in turn, round by round, in one process, so that a busy machine slows them alike;
the medians of their times are compared.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console

from benchmarks.common import table_of
from loc_keras import Localizer, build_localizer

CLASSES, FILES, BATCH = 20, 64, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--run", type=Path, help="a run's folder in place of an untrained model")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = args.run or _untrained(Path(folder), args.side, args.width)
        localizer = Localizer.open(file)
        path = file if file.is_file() else file / "best.keras"
        model = keras.saving.load_model(path)
        images = _photographs(Path(folder), localizer.form.shape)
        rows = _single(localizer, model, images, args.rounds) + _batches(localizer, images)
    Console().print(table_of(rows, f"{localizer.form.shape}, {args.rounds} rounds"))


def _untrained(folder: Path, side: int, width: int) -> Path:
    model = build_localizer(image_shape=(side, side, 3), num_classes=CLASSES, width=width)
    model.save(folder / "model.keras")
    return folder / "model.keras"


def _photographs(folder: Path, shape: tuple[int, int, int]) -> list[Path]:
    """JPEG files of the model's own size, so that decoding is all that comes before the model."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(FILES):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        paths.append(folder / f"{number}.jpg")
        coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def _single(
    localizer: Localizer, model: keras.Model, paths: list[Path], rounds: int
) -> list[dict[str, str]]:
    form = localizer.form
    array = np.asarray(Image.open(paths[0]).convert("RGB" if form.channels > 1 else "L"))
    pixels = array.reshape(form.shape)
    batch = pixels[None].astype(np.float32)
    spec = tf.TensorSpec([None, *form.shape], tf.float32)
    bare = tf.function(lambda images: model(images, training=False), input_signature=[spec])

    def compiled() -> None:
        for value in bare(tf.constant(batch)).values():
            value.numpy()

    ways: dict[str, Callable[[], object]] = {
        "bare compiled call": compiled,
        "Localizer.predict(array)": lambda: localizer.predict(pixels),
        "Localizer.predict(JPEG file)": lambda: localizer.predict(paths[0]),
        "Keras model.predict": lambda: model.predict(batch, verbose=0),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 10):
        for name, ask in ways.items():
            started = time.perf_counter()
            ask()
            if number >= 10:
                times[name].append(time.perf_counter() - started)
    base = median(times["bare compiled call"])
    return [
        {
            "way": name,
            "ms an image": f"{1e3 * median(found):.2f}",
            "ratio": f"{median(found) / base:.2f}",
        }
        for name, found in times.items()
    ]


def _batches(localizer: Localizer, paths: list[Path]) -> list[dict[str, str]]:
    """Files in batches, against reading all of them first and only then asking the model."""
    opened = localizer._opened

    def in_turn() -> None:
        for start in range(0, FILES, BATCH):
            opened.ask([opened.reader.read(path) for path in paths[start : start + BATCH]], 5)

    ways: dict[str, Callable[[], object]] = {
        f"{FILES} files, decoded, then asked": in_turn,
        f"{FILES} files, Localizer.predict": lambda: localizer.predict(paths, batch_size=BATCH),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(12):
        for name, ask in ways.items():
            started = time.perf_counter()
            ask()
            if number >= 2:
                times[name].append((time.perf_counter() - started) / FILES)
    base = median(next(iter(times.values())))
    return [
        {
            "way": name,
            "ms an image": f"{1e3 * median(found):.2f}",
            "ratio": f"{median(found) / base:.2f}",
        }
        for name, found in times.items()
    ]


if __name__ == "__main__":
    main()
