"""Measures trained localizers on a split, each figure with its interval, and compares them."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from loc_keras.command_line import add_set, run_command
from loc_keras.compare_runs import print_comparison
from loc_keras.data.annotations import Split
from loc_keras.evaluation.figures import evaluate
from loc_keras.evaluation.paired import compare
from loc_keras.evaluation_files import (
    REPORT_FILE,
    Measured,
    train_boxes,
    write_evaluation,
)
from loc_keras.outcomes_of_split import outcomes_of
from loc_keras.report.compare_picture import save_comparison
from loc_keras.report.evaluation_terminal import print_evaluation
from loc_keras.run_folder_model import RunWithData, load_run
from loc_keras.run_report import print_data, print_note
from loc_keras.trust_report import Trusted, measured_trust, observed, trust_of

COMPARISON_FILE = "comparison.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loc_keras.evaluate", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", type=Path, help="run folder with best.keras")
    which.add_argument(
        "--compare", type=Path, nargs="+", metavar="RUN", help="several runs, on the same images"
    )
    parser.add_argument("--config", type=Path, help="data of another config than the run's own")
    add_set(parser)
    parser.add_argument("--split", choices=("val", "test", "calibration"), default="test")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for figures, predictions and report; without it evaluation/SPLIT in the run, "
        "and for the picture of --compare this folder",
    )
    args = parser.parse_args(arguments)
    if args.compare and len(args.compare) < 2:
        parser.error("--compare needs two runs or more")
    work = _compare if args.compare else _evaluate
    return run_command(partial(work, args, Console(markup=False)))


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    run = load_run(args.run, args.config, args.set)
    print_data(console, run.data, listed=False)
    trusted = trust_of(run)
    measured = _measure(run, args.split, trusted)
    note = seen_before(run, args.split, trusted)
    print_note(console, note)
    out = args.out or args.run / "evaluation" / args.split
    write_evaluation(out, measured, _facts(run, args.split, note))
    print_evaluation(console, measured.evaluation, measured.trust)
    console.print(f"report: {out / REPORT_FILE}", highlight=False, soft_wrap=True)
    return 0


def _compare(args: argparse.Namespace, console: Console) -> int:
    outcomes, names = {}, {}
    for folder in args.compare:
        run = load_run(folder, args.config, args.set)
        name = _short_name(folder, args.compare)
        seen = observed(run, args.split)
        pictures = run.data.pictures[args.split]
        outcomes[name] = outcomes_of(seen, pictures)
        names[name] = [str(one) for one in pictures.names]
        print_note(console, seen_before(run, args.split, None))
    found = compare(outcomes, names)
    print_comparison(console, found)
    out = (args.out or Path()) / COMPARISON_FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    save_comparison(out, found)
    console.print(f"picture: {out}", highlight=False, soft_wrap=True)
    return 0


def _measure(run: RunWithData, split: Split, trusted: Trusted | None) -> Measured:
    seen = observed(run, split, trusted)
    pictures = run.data.pictures[split]
    outcomes = outcomes_of(seen, pictures)
    return Measured(
        run=run.name,
        split=split,
        data=run.data,
        outcomes=outcomes,
        evaluation=evaluate(outcomes, run.data.class_names, train_boxes(run.data)),
        trust=measured_trust(trusted, seen, pictures) if trusted else None,
    )


def seen_before(run: RunWithData, split: str, trusted: Trusted | None) -> str | None:
    """Why the figures may flatter the model; None where nothing speaks for it."""
    if not run.same_data:
        return (
            "these are not the splits that the run was trained with; make sure that none of the "
            "images measured here was among its training images."
        )
    if trusted and trusted.fitted_on(run, split):
        return "trust was fitted on these very images, so what it promises looks kept here."
    if split == "val":
        return "the epoch that is kept was chosen by these very images, which flatters it a little."
    return None


def _facts(run: RunWithData, split: str, note: str | None) -> list[tuple[str, str]]:
    config = run.config
    facts = [
        ("run", str(run.folder)),
        ("data", f"{config.data.source.format}, {config.data.source.path}"),
        ("split", split),
        ("data fingerprint", run.data.fingerprint),
        ("model", f"{run.localizer.count_params():,} parameters"),
    ]
    return [*facts, ("note", note)] if note else facts


def _short_name(folder: Path, folders: Sequence[Path]) -> str:
    """The folder's name; where two have the same, with as many parents as it takes."""
    parts = folder.resolve().parts
    for count in range(1, len(parts)):
        name = "/".join(parts[-count:])
        if sum("/".join(one.resolve().parts[-count:]) == name for one in folders) == 1:
            return name
    return str(folder)


if __name__ == "__main__":
    sys.exit(main())
