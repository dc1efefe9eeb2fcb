"""Trains and exports a localizer, from a config or from a folder of labelled images alone."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from loc_keras.cli.console import run_work
from loc_keras.cli.options import add_data_arguments, command_parser, count
from loc_keras.recipe.rules import BUDGET_MINUTES
from loc_keras.training.cluster import VARIABLE

EXAMPLES = (
    "--data FOLDER --minutes 30",
    "--data FOLDER --image-size 160 --epochs 20 --device gpu",
    "--config base --epochs 5 --set train.optimizer=adam",
    "--resume RUN_DIR",
)
PAGE = "training.md"

SETTINGS = {
    "epochs": "train.epochs",
    "batch": "train.batch_size",
    "image_size": "data.image_size",
    "lr": "train.learning_rate",
    "seed": "train.seed",
    "precision": "train.precision",
}
"""Arguments that are short for a `--set`, and its key."""
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")

RATE_PICTURE = Path("learning_rate.png")


def build_parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("train", __doc__, EXAMPLES, PAGE)
    add_data_arguments(parser, resume=True)
    everyday = parser.add_argument_group("everyday settings, short for --set")
    everyday.add_argument("--epochs", type=count, metavar="N", help="passes over the images")
    everyday.add_argument("--batch", type=count, metavar="N", help="images per step")
    everyday.add_argument(
        "--image-size", metavar="PX", help="side of the model's input, or [height, width]"
    )
    everyday.add_argument("--lr", type=float, metavar="RATE", help="highest learning rate")
    everyday.add_argument("--seed", type=int, metavar="N", help="start of every random draw")
    everyday.add_argument(
        "--precision", choices=PRECISIONS, help="number format; auto: what pays on the device"
    )
    everyday.add_argument(
        "--device", metavar="NAME", help="cpu, gpu, or numbers of GPUs such as 0,1; else all GPUs"
    )
    add = parser.add_argument
    add("--name", help="with --data: name of runs; else the folder's")
    add(
        "--minutes",
        type=float,
        help=f"with --data: time that training may take, about; {BUDGET_MINUTES} if not given",
    )
    add(
        "--weights",
        metavar="NAME",
        help="with --data: pretrained weights; auto, as without it: of ImageNet, if any can be "
        "had; none: random ones",
    )
    add("--explain", action="store_true", help="with --data: print each choice with its reason")
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


def read_arguments(arguments: Sequence[str] | None = None) -> Namespace:
    """Reads the command line; a wrong one ends the program with code 2."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    given = {key: getattr(args, name) for name, key in SETTINGS.items()}
    args.set = [f"{key}={value}" for key, value in given.items() if value is not None] + args.set
    if args.overfit_batch is not None and args.overfit_batch < 1:
        parser.error("--overfit-batch needs a number of steps of at least 1")
    is_trial = args.overfit_batch or args.find_lr or args.find_batch
    if args.resume and (args.run_dir or is_trial):
        parser.error(
            "--resume goes with none of --run-dir, --overfit-batch, --find-lr, --find-batch"
        )
    for name in ("name", "minutes", "weights", "write_config", "explain"):
        if args.data is None and getattr(args, name) not in (None, False):
            parser.error(f"--{name.replace('_', '-')} goes with --data")
    if args.minutes is not None and not args.minutes > 0:
        parser.error("--minutes needs a number above 0")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; gives the exit code."""
    return run_work(
        "train",
        read_arguments(arguments),
        when_interrupted="stopped; a run that has begun goes on with --resume RUN_FOLDER.",
        waits=VARIABLE in os.environ,
    )


class _Callable(ModuleType):
    """This module, which is also the function `loc_keras.train`."""

    def __call__(self, *data: Any, **options: Any) -> Any:
        """Trains from Python, see `loc_keras.commands.python.train`."""
        from loc_keras.commands.python import train

        return train(*data, **options)


if __name__ == "__main__":
    sys.exit(main())
sys.modules[__name__].__class__ = _Callable
