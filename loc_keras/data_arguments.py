"""The arguments that say what a command works on: `--config FILE`, or `--data FOLDER` alone."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from loc_keras.atomic_file import write_text
from loc_keras.command_line import add_set
from loc_keras.config import Config
from loc_keras.config_io import load_config
from loc_keras.data.annotations import Annotations
from loc_keras.data.resolve import DatasetRecords
from loc_keras.folder_plan import plan_folder, plan_text, print_plan
from loc_keras.from_config import records_from
from loc_keras.recipe.numbers import BUDGET_MINUTES

STDOUT = Path("-")


@dataclass(frozen=True, eq=False)
class Given:
    """What the arguments came to.

    Attributes:
        config: All settings.
        annotations: What was read of a folder; None for a config.
        records: What can be used of it, likewise; None, too, where it is not to be trained on.
    """

    config: Config
    annotations: Annotations | None = None
    records: DatasetRecords | None = None


def add_data_arguments(parser: argparse.ArgumentParser, *, resume: bool = False) -> None:
    """Adds `--config`, `--data` and `--set`, and perhaps `--resume` beside the first two."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--config", type=Path, help="config file (YAML)")
    group.add_argument(
        "--data", metavar="FOLDER", help="folder of images and labels; its settings are found"
    )
    if resume:
        group.add_argument(
            "--resume", type=Path, metavar="RUN_DIR", help="go on with an unfinished run"
        )
    add_set(parser)


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what goes with `--data` when it is trained on."""
    parser.add_argument("--name", help="with --data: name of runs; else the folder's")
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"with --data: time that training may take, about; {BUDGET_MINUTES} if not given",
    )
    parser.add_argument("--weights", metavar="NAME", help="with --data: pretrained weights")
    parser.add_argument(
        "--write-config",
        type=Path,
        metavar="FILE",
        help="with --data: write what was chosen as a config, - for the screen, and stop",
    )


def refuse_plan_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program where an argument of `--data` stands beside `--config`, or is wrong."""
    for name in ("name", "minutes", "weights", "write_config"):
        if args.data is None and getattr(args, name) is not None:
            parser.error(f"--{name.replace('_', '-')} goes with --data")
    if args.minutes is not None and not args.minutes > 0:
        parser.error("--minutes needs a number above 0")


def read_given(args: argparse.Namespace, console: Console) -> Given | None:
    """Loads the config, or makes one for the folder and prints it; None where that was all."""
    if args.config is not None:
        return Given(load_config(args.config, args.set))
    plan = plan_folder(
        args.data,
        args.set,
        name=args.name,
        minutes=BUDGET_MINUTES if args.minutes is None else args.minutes,
        weights=args.weights,
    )
    to_screen = args.write_config == STDOUT
    print_plan(Console(markup=False, stderr=True) if to_screen else console, plan)
    if args.write_config is not None:
        text = plan_text(plan)
        if to_screen:
            sys.stdout.write(text)
        else:
            write_text(args.write_config, text)
            words = f"train on it: python -m loc_keras.train --config {args.write_config}"
            console.print(words, soft_wrap=True)
        return None
    reading = plan.reading
    records = records_from(plan.config, reading.annotations, reading.checked)
    return Given(plan.config, reading.annotations, records)


def read_to_check(args: argparse.Namespace, console: Console) -> Given:
    """As `read_given`, also for a folder of which much cannot be used."""
    if args.config is not None:
        return Given(load_config(args.config, args.set))
    plan = plan_folder(args.data, args.set, lenient=True)
    print_plan(console, plan)
    return Given(plan.config, plan.reading.annotations)
