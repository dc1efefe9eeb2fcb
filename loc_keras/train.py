"""Trains and exports a localizer, from a config or from a folder of labelled images alone."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from loc_keras.cli.console import run_work
from loc_keras.cli.options import add_data_arguments, command_parser
from loc_keras.recipe.rules import BUDGET_MINUTES
from loc_keras.training.cluster import VARIABLE

EXAMPLES = ("--data FOLDER --minutes 30", "--config base --set train.epochs=5", "--resume RUN_DIR")
PAGE = "training.md"

RATE_PICTURE = Path("learning_rate.png")


def build_parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("train", __doc__, EXAMPLES, PAGE)
    add_data_arguments(parser, resume=True)
    add = parser.add_argument
    add("--name", help="with --data: name of runs; else the folder's")
    add(
        "--minutes",
        type=float,
        help=f"with --data: time that training may take, about; {BUDGET_MINUTES} if not given",
    )
    add("--weights", metavar="NAME", help="with --data: pretrained weights")
    add(
        "--write-config",
        type=Path,
        metavar="FILE",
        help="with --data: write what was chosen as a config, - for the screen, and stop",
    )
    add(
        "--run-dir",
        type=Path,
        help="run folder: new, empty, or with an unfinished run of the same config, which goes on",
    )
    trials = parser.add_mutually_exclusive_group()
    trials.add_argument(
        "--overfit-batch",
        type=int,
        metavar="N",
        help="only check that N steps on one batch bring its loss near zero",
    )
    trials.add_argument(
        "--find-lr",
        type=Path,
        nargs="?",
        const=RATE_PICTURE,
        metavar="PNG",
        help=f"only sweep the learning rate, print which to take and draw it ({RATE_PICTURE})",
    )
    trials.add_argument(
        "--find-batch", action="store_true", help="only time steps of growing batch sizes"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; gives the exit code."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.overfit_batch is not None and args.overfit_batch < 1:
        parser.error("--overfit-batch needs a number of steps of at least 1")
    is_trial = args.overfit_batch or args.find_lr or args.find_batch
    if args.resume and (args.run_dir or is_trial):
        parser.error(
            "--resume goes with none of --run-dir, --overfit-batch, --find-lr, --find-batch"
        )
    for name in ("name", "minutes", "weights", "write_config"):
        if args.data is None and getattr(args, name) is not None:
            parser.error(f"--{name.replace('_', '-')} goes with --data")
    if args.minutes is not None and not args.minutes > 0:
        parser.error("--minutes needs a number above 0")
    return run_work(
        "train",
        args,
        when_interrupted="stopped; a run that has begun goes on with --resume RUN_FOLDER.",
        waits=VARIABLE in os.environ,
    )


if __name__ == "__main__":
    sys.exit(main())
