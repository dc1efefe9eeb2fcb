"""Fits what is promised of single answers, on images that neither training nor choices have seen.

Writes trust.json beside the model: a temperature for the class probabilities, label sets, the
probability that a box is right, and margins for outer and inner boxes; and, with the run's own
data, novelty.json, by which pictures unlike the training images are told.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from loc_keras.atomic_file import followed
from loc_keras.cli.console import run_work
from loc_keras.cli.options import add_run_data_arguments, command_parser

EXAMPLES = ("--run RUN_DIR", "--run RUN_DIR --coverage 0.95")
PAGE = "trust.md"


def build_parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("calibrate", __doc__, EXAMPLES, PAGE)
    parser.add_argument("--run", type=followed, required=True, help="run folder with best.keras")
    add_run_data_arguments(parser)
    parser.add_argument(
        "--coverage", type=float, metavar="SHARE", help="as trust.coverage of the config, say 0.9"
    )
    parser.add_argument(
        "--split",
        choices=("calibration", "val", "test"),
        default="calibration",
        help="on which images; those of val have chosen the epoch, those of test cannot measure "
        "what is promised",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and calibrates; gives the exit code."""
    return run_work("calibrate", build_parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
