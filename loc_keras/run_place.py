"""Which folder a training writes to, and whether it goes on with a run that is there."""

import argparse
import json
import shlex
from pathlib import Path

from rich.console import Console

from loc_keras.config import Config
from loc_keras.config_io import load_config
from loc_keras.data_arguments import Given, read_given
from loc_keras.errors import TrainingError
from loc_keras.serving.model_card import CARD_FILE
from loc_keras.serving.saved_model import EXTRA_FOLDER
from loc_keras.training import run_folder
from loc_keras.training.distribution import Distribution
from loc_keras.training.run_state import CONFIG_FILE, RunState, refuse_changes, run_state
from loc_keras.training.tensorboard import flat_settings


def read_or_resume(args: argparse.Namespace, console: Console) -> Given | None:
    """What to work on: as `read_given`, or the config of the run that `--resume` names.

    Raises:
        TrainingError: If there is no run in that folder that could go on.
    """
    if args.resume is None:
        return read_given(args, console)
    state = run_state(args.resume)
    if state is RunState.OTHER:
        raise TrainingError(
            f"{args.resume} holds no unfinished run: a finished one needs nothing more, and one "
            "that is something else cannot go on."
        )
    if state is RunState.NEW:
        raise TrainingError(
            f"{args.resume} holds nothing to go on with; begin with --config and --run-dir "
            f"{args.resume}, or, where several machines train, put the run folder where all see it."
        )
    return Given(load_config(args.resume / CONFIG_FILE, args.set))


def goes_on(folder: Path | None, config: Config) -> bool:
    """Whether the folder holds an unfinished run of this config.

    Raises:
        TrainingError: If it holds a run of another config, a finished one, or something else.
    """
    if folder is None:
        return False
    if run_state(folder) is not RunState.UNFINISHED:
        run_folder.refuse_used_folder(folder)
        return False
    before = load_config(folder / CONFIG_FILE)
    refuse_changes(folder, flat_settings(before.model_dump()), flat_settings(config.model_dump()))
    return True


def made_folder(folder: Path | None, config: Config) -> Path:
    """Makes the folder of a new run."""
    if folder is not None:
        return run_folder.given_run_folder(folder)
    return run_folder.new_run_folder(Path(config.run.dir), str(config.name))


def how_to_resume(folder: Path) -> str:
    """How an unfinished run goes on, as the end of a sentence."""
    return f"go on with: python -m loc_keras.train --resume {shlex.quote(str(folder))}"


def how_it_ends(folder: Path, devices: Distribution) -> str:
    """What becomes of the run if it stops before its end, as a sentence."""
    workers = ", in all workers" if devices.workers > 1 else ""
    return f"if it stops, {how_to_resume(folder)}{workers}"


def exported_before(folder: Path, base: Path) -> Path | None:
    """The version that this run has exported already, told by its model card; else None.

    A run may be stopped after its export was put in place and before it was marked as finished.
    """
    card = folder / CARD_FILE
    if not card.is_file() or not base.is_dir():
        return None
    own = json.loads(card.read_text(encoding="utf-8"))
    for found in base.glob(f"*/{EXTRA_FOLDER}/{CARD_FILE}"):
        version = found.parents[1]
        # Folders aside, of exports that were stopped half-way, are no versions.
        if version.name.isdecimal() and json.loads(found.read_text(encoding="utf-8")) == own:
            return version
    return None
