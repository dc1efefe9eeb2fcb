"""What `digits` does: draw the digits and write them as PNG and CSV files."""

import argparse

from loc_keras.cli.console import progress_bar
from loc_keras.config.data import CSV_FILES
from loc_keras.data.digits import DigitTask
from loc_keras.data.digits_data import digit_splits, load_digits, refuse_used_folder, write_digits
from loc_keras.errors import DataError


def run(options: argparse.Namespace) -> int:
    """Draws and writes the pictures; gives the exit code."""
    if options.limit is not None and options.limit < 1:
        raise DataError(f"--limit must be 1 or more, got {options.limit}.")
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
