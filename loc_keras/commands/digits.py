"""What `digits` does: draw the digits and write them as PNG and CSV files."""

import argparse
import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow as tf

from loc_keras.atomic_file import folder_aside
from loc_keras.cli.console import progress_bar
from loc_keras.config.data import CSV_FILES
from loc_keras.data import pipeline
from loc_keras.data.digits import DigitRenderer, DigitTask
from loc_keras.data.digits_data import DigitSplit, digit_splits, load_digits
from loc_keras.data.formats.writing import shortest
from loc_keras.errors import DataError, first_line

_BATCH = 128
_STREAMS = {"train": pipeline.TRAIN, "val": pipeline.VALIDATION, "test": pipeline.TEST}


def run(options: argparse.Namespace) -> int:
    """Draws and writes the pictures; gives the exit code."""
    keys = ("canvas", "scale", "box", "background", "distractors")
    task = DigitTask.from_options("digits", {key: getattr(options, key) for key in keys})
    refuse_used_folder(options.out)
    splits, notes = digit_splits(
        load_digits(options.source),
        task,
        options.seed,
        options.val,
        options.test,
        limit=options.limit,
    )
    with progress_bar() as bar:
        bars = {name: bar.add_task(name, total=len(split.labels)) for name, split in splits.items()}
        counts = write_digits(
            options.out,
            splits,
            task,
            options.seed,
            lambda name, images: bar.advance(bars[name], images),
        )
    for note in notes:
        print(f"note: {note}")
    for name, count in counts.items():
        print(f"{name}: {count} images, {options.out / CSV_FILES[name]['csv']}")
    return 0


def write_digits(
    out: Path,
    splits: Mapping[str, DigitSplit],
    task: DigitTask,
    seed: int,
    progress: Callable[[str, int], None] = lambda split, images: None,
) -> dict[str, int]:
    """Writes all splits, or nothing, into a new or empty folder; gives the images of each split.

    Each split that is not empty gets a CSV file of `file,label,x1,y1,x2,y2` rows without header,
    boxes as fractions of the image side with as many digits as give the same float32 back, and a
    folder of PNG files, by the names of `config.data.CSV_FILES`. `progress` is called with the
    split and the number of images just written. DataError if the folder is not empty or cannot be
    written.
    """
    refuse_used_folder(out)
    counts = {}
    try:
        with folder_aside(out) as aside:
            for name, split in splits.items():
                if len(split.labels):
                    _write_split(aside, name, split, task, seed, progress)
                    counts[name] = len(split.labels)
            refuse_used_folder(out)  # Somebody may have used it meanwhile.
    except OSError as error:
        raise DataError(f"the digits cannot be written to {out}: {first_line(error)}.") from error
    return counts


def refuse_used_folder(out: Path) -> None:
    """Raises DataError where `out` is a file or a folder with anything in it."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(f"{out} is not empty: give a new folder, or empty this one first.")


def _write_split(
    root: Path,
    name: str,
    split: DigitSplit,
    task: DigitTask,
    seed: int,
    progress: Callable[[str, int], None],
) -> None:
    files = CSV_FILES[name]
    folder = root / files["images"]
    folder.mkdir(parents=True)
    renderer = DigitRenderer(split.digits, split.labels, task, places=split.places)
    count = len(split.labels)
    digits = len(str(count - 1))
    batches = pipeline.eval_stream(count, _BATCH, seed, _STREAMS[name], columns=renderer.columns)
    encoded = batches.map(lambda rows: _encode(renderer, rows), num_parallel_calls=2).prefetch(2)
    with (root / files["csv"]).open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        for indices, pngs, labels, boxes in encoded.as_numpy_iterator():
            for index, png, label, box in zip(indices, pngs, labels, boxes, strict=True):
                file = f"{index:0{digits}d}.png"
                (folder / file).write_bytes(png)
                writer.writerow([file, label, *map(shortest, box)])
            progress(name, len(indices))


def _encode(renderer: DigitRenderer, rows: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    images, targets = renderer(rows["index"], rows["draws"])
    pngs = tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string)
    return rows["index"], pngs, targets["softmax"], targets["bbox"]
