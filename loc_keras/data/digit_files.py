"""Writing the digits task to disk: PNG files and one CSV file per split."""

import csv
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from loc_keras.data import streams
from loc_keras.data.digit_task import DigitTask
from loc_keras.data.digits import DigitRenderer
from loc_keras.data.digits_data import DigitSplit
from loc_keras.data.readers.csv_file import PUBLISHED_FILES
from loc_keras.errors import DataError

_BATCH = 128
_STREAMS = {"train": streams.TRAIN, "val": streams.VALIDATION, "test": streams.TEST}


def write_digits(
    out: Path,
    splits: Mapping[str, DigitSplit],
    task: DigitTask,
    seed: int,
    progress: Callable[[str, int], None] = lambda split, images: None,
) -> dict[str, int]:
    """Writes all splits, or nothing: the files appear when all are complete.

    Each split gets a CSV file of `file,label,x1,y1,x2,y2` rows without header, boxes as
    fractions of the image side with as many digits as give the same float32 back, and a folder
    of PNG files; the names are those of `csv_file.PUBLISHED_FILES`.

    Args:
        out: Folder to make; one that exists must be empty and is filled, so that it may be
            the working folder.
        splits: `{"train", "val", "test"}`; empty ones are left out.
        task: What the pictures look like.
        seed: Seed of places, sizes and backgrounds.
        progress: Called with the split and the number of images just written.

    Returns:
        Images written for each split.

    Raises:
        DataError: If the folder is not empty or cannot be written.
    """
    refuse_used_folder(out)
    out = Path(os.path.abspath(out))  # A name of its own also for "." and "..".
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    counts = {}
    try:
        for name, split in splits.items():
            if len(split.labels):
                _write_split(partial, name, split, task, seed, progress)
                counts[name] = len(split.labels)
        _publish(partial, out)
    except OSError as error:
        raise DataError(f"the digits cannot be written to {out}: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


def refuse_used_folder(out: Path) -> None:
    """Raises DataError where `out` is a file or a folder with anything in it."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(f"{out} is not empty: give a new folder, or empty this one first.")


def _publish(partial: Path, out: Path) -> None:
    """Gives the complete files their place."""
    if not out.is_dir():
        partial.rename(out)
        return
    # To replace the folder would leave whoever works in it in a deleted one.
    for entry in partial.iterdir():
        entry.rename(out / entry.name)


def _write_split(
    root: Path,
    name: str,
    split: DigitSplit,
    task: DigitTask,
    seed: int,
    progress: Callable[[str, int], None],
) -> None:
    files = PUBLISHED_FILES[name]
    folder = root / files["images"]
    folder.mkdir(parents=True)
    renderer = DigitRenderer(split.digits, split.labels, task, places=split.places)
    count = len(split.labels)
    digits = len(str(count - 1))
    batches = streams.eval_stream(count, _BATCH, seed, _STREAMS[name], columns=renderer.columns)
    encoded = batches.map(lambda rows: _encode(renderer, rows), num_parallel_calls=2).prefetch(2)
    with (root / files["csv"]).open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        for indices, pngs, labels, boxes in encoded.as_numpy_iterator():
            for index, png, label, box in zip(indices, pngs, labels, boxes, strict=True):
                file = f"{index:0{digits}d}.png"
                (folder / file).write_bytes(png)
                writer.writerow([file, label, *(_shortest(side) for side in box)])
            progress(name, len(indices))


def _encode(renderer: DigitRenderer, rows: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    images, targets = renderer(rows["index"], rows["draws"])
    pngs = tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string)
    return rows["index"], pngs, targets["softmax"], targets["bbox"]


def _shortest(value: np.float32) -> str:
    """The shortest decimal that reads back as the same float32."""
    return np.format_float_positional(value, unique=True, trim="0")
