"""Writes a data set in another format."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from loc_keras.cli.console import run_work
from loc_keras.cli.options import add_data_arguments, command_parser

EXAMPLES = ("--data FOLDER --to coco --out FOLDER", "--config FILE --to tfrecord --out FOLDER")
PAGE = "data.md"

WRITTEN = (
    *("labelme", "createml", "via", "via_csv", "cvat", "huggingface"),
    *("coco", "yolo", "voc", "csv", "tfrecord"),
)
"""The keys of `data.formats.registry.WRITERS`."""


def build_parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("convert", __doc__, EXAMPLES, PAGE)
    add = parser.add_argument
    add_data_arguments(parser)
    add("--to", choices=WRITTEN, required=True, help="format to write")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    add(
        "--shards",
        type=int,
        metavar="N",
        help="tfrecord files of each split; without it as many as keep each near 128 MiB",
    )
    add("--limit", type=int, metavar="N", help="most images of each split, evenly spaced")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 2 for an error that the user can mend, or 130 after Ctrl-C."""
    args = build_parser().parse_args(arguments)
    return run_work(
        "convert",
        args,
        when_interrupted="stopped; the same command goes on from here, with what is done in "
        f"{os.path.abspath(args.out)}.partial.",
    )


if __name__ == "__main__":
    sys.exit(main())
