"""The arguments that name a command's data, and the data that they name."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from loc_keras.atomic_file import own_files, write_text
from loc_keras.cli.console import add_set
from loc_keras.cli.data_source import DataSource, plan_folder, plan_text, print_plan
from loc_keras.config.load import load_config
from loc_keras.recipe.rules import BUDGET_MINUTES

STDOUT = Path("-")


def add_data_arguments(parser: argparse.ArgumentParser, *, resume: bool = False) -> None:
    """Adds `--config`, `--data` and `--set`, and perhaps `--resume` beside the first two."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--config", type=Path, help="config file (YAML)")
    group.add_argument(
        "--data", metavar="FOLDER", help="folder, or file of labels; its settings are found"
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


def source_to_train(args: argparse.Namespace, console: Console) -> DataSource | None:
    """The data of `--config`, or of `--data` with what was chosen for it, which is printed.

    Returns:
        The data; None where the choices were written to a file and that was all.
    """
    if args.config is not None:
        return DataSource(load_config(args.config, args.set))
    plan = plan_folder(
        args.data,
        args.set,
        name=args.name,
        minutes=BUDGET_MINUTES if args.minutes is None else args.minutes,
        weights=args.weights,
    )
    to_screen = args.write_config == STDOUT
    print_plan(Console(markup=False, stderr=True) if to_screen else console, plan)
    if args.write_config is None:
        return plan.source
    text = plan_text(plan)
    if to_screen:
        sys.stdout.write(text)
    else:
        file: Path = args.write_config
        with own_files(file.parent, (file.name,), "give another file to --write-config"):
            write_text(file, text)
        console.print(
            f"train on it: python -m loc_keras.train --config {args.write_config}", soft_wrap=True
        )
    return None


def source_to_check(args: argparse.Namespace, console: Console) -> DataSource:
    """As `source_to_train`, also for a folder of which much cannot be used."""
    if args.config is not None:
        return DataSource(load_config(args.config, args.set))
    plan = plan_folder(args.data, args.set, lenient=True)
    print_plan(console, plan)
    return plan.source
