"""Finds what is wrong with a data set, of a config or of a folder alone, and mends it."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from loc_keras.cli.console import run_work
from loc_keras.cli.options import PREVIEW_FILE, add_data_arguments, command_parser

EXAMPLES = ("--data FOLDER", "--data FOLDER --report findings", "--config base --preview 64")
PAGE = "data.md"

MOST_PREVIEWED = 400


def build_parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("check", __doc__, EXAMPLES, PAGE)
    add_data_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="do not decode images")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a page and all findings")
    parser.add_argument("--fix", type=Path, metavar="DIR", help="write a mended copy to a new DIR")
    parser.add_argument(
        "--preview",
        type=int,
        metavar="N",
        help=f"draw N augmented training samples to {PREVIEW_FILE}, beside the report",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and checks; gives the exit code: 0 clean, 1 errors, 2 misuse."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.preview is not None and not 1 <= args.preview <= MOST_PREVIEWED:
        parser.error(f"--preview needs a number from 1 to {MOST_PREVIEWED}")
    if args.fix is not None and args.quick:
        parser.error("--fix needs to decode every image, so it does not go with --quick")
    return run_work("check", args, when_interrupted="stopped; no copy was written.")


if __name__ == "__main__":
    sys.exit(main())
