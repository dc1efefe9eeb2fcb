"""What `calibrate` does: fit what is promised of single answers, measure and write it."""

import argparse

from rich.console import Console

from loc_keras.atomic_file import refuse_foreign
from loc_keras.cli.console import print_line, print_note
from loc_keras.cli.options import program
from loc_keras.cli.runs import load_run, print_data
from loc_keras.cli.trust import (
    add_novelty,
    calibrate_model,
    check_images,
    measured_on,
    novelty_words,
    print_trust,
    trust_place,
)
from loc_keras.training.run_folder import TRUST_FILE


def run(args: argparse.Namespace) -> int:
    """Fits and measures what is promised; gives the exit code."""
    console = Console(markup=False)
    given = list(args.set)
    if args.coverage is not None:
        given.append(f"trust.coverage={args.coverage!r}")
    refuse_foreign(*trust_place(args.run))
    run = load_run(args.run, args.config, given)
    print_data(console, run.data, listed=False)
    print_note(console, _doubt(run.same_data, args.split))
    check_images(run.config.trust, run.data, args.split)
    if run.same_data:
        _, card = add_novelty(run.folder, run.model_path, run.data, run.config)
        if words := novelty_words(card):
            print_line(console, words)
    trust = calibrate_model(
        run.folder, run.model_path, run.localizer, run.data, run.config.trust, args.split
    )
    found = measured_on(trust, run.localizer, run.data, ("test", "val"))
    if found is None:
        console.print("note: no other images are there to measure on what is promised.")
    else:
        print_trust(console, trust, found)
    console.print(f"written: {run.folder / TRUST_FILE}", highlight=False, soft_wrap=True)
    console.print(
        f"note: models exported before keep what they had; {program('export')} --run "
        f"{run.folder} --out saved_models/{run.name} writes the next version.",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def _doubt(same_data: bool, split: str) -> str | None:
    """Why what is promised may not hold; None where nothing speaks for it."""
    if not same_data:
        return (
            "these are not the splits that the run was trained with; what is promised holds only "
            "if none of these images was among its training images."
        )
    if split == "val":
        return (
            "the epoch that is kept was chosen by these images, so what is promised holds only "
            "nearly; data.split.calibration holds back images for this."
        )
    if split == "test":
        return (
            "what is promised is fitted on the test images, so these cannot measure it; "
            "data.split.calibration holds back images for this."
        )
    return None
