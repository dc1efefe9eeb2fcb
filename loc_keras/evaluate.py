"""Measures trained localizers on a split, each figure with its interval, and compares them."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from loc_keras.atomic_file import followed
from loc_keras.cli.console import run_work
from loc_keras.cli.options import add_run_data_arguments, command_parser

EXAMPLES = ("--run RUN_DIR", "--run RUN_DIR --data FOLDER", "--compare RUN_DIR OTHER_RUN_DIR")
PAGE = "experiments.md"


def build_parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("evaluate", __doc__, EXAMPLES, PAGE)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", type=followed, help="run folder with best.keras")
    which.add_argument(
        "--compare",
        type=followed,
        nargs="+",
        metavar="RUN",
        help="several runs, on the same images",
    )
    add_run_data_arguments(parser, folder=True)
    parser.add_argument("--split", choices=("val", "test", "calibration", "folds"))
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for figures, predictions and report; without it evaluation/SPLIT in the run, "
        "and for the picture of --compare this folder",
    )
    return parser


def read_arguments(arguments: Sequence[str] | None = None) -> Namespace:
    """Reads the command line; a wrong one ends the program with code 2."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.compare and len(args.compare) < 2:
        parser.error("--compare needs two runs or more")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; gives the exit code."""
    return run_work("evaluate", read_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
