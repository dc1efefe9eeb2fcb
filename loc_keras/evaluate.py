"""`python -m loc_keras.evaluate --run DIR`: measures a trained localizer on a split."""

import argparse
import json
import sys
import zipfile
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import keras
from rich.console import Console

from loc_keras.command_line import add_set, run_command
from loc_keras.config_io import load_config
from loc_keras.errors import DataError, ModelError
from loc_keras.from_config import data_from
from loc_keras.report.table import print_metrics
from loc_keras.run_report import CLASSES_FILE, print_data
from loc_keras.training.measure import answer_function, collect_answers, figures
from loc_keras.training.run_folder import write_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loc_keras.evaluate", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="run folder with best.keras")
    parser.add_argument("--config", type=Path, help="data of another config than the run's own")
    add_set(parser)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    return run_command(partial(_evaluate, parser.parse_args(arguments), Console(markup=False)))


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    localizer = _load(args.run)
    config = load_config(args.config or args.run / "config.yaml", args.set)
    data = data_from(config)
    print_data(console, data, listed=False)
    dataset = getattr(data, args.split)
    if dataset is None:
        raise DataError(f"{config.data.source.path} has no {args.split} images to measure on.")
    _check_fit(localizer, data.image_shape, data.class_names, args.run)
    if not _same_data(args.run, data.fingerprint):
        console.print(
            "note: these are not the splits that the run was trained with; make sure that none of "
            "the images measured here was among its training images."
        )
    answers = collect_answers(answer_function(localizer), dataset)
    found = {args.split: figures(answers, data.background)}
    print_metrics(console, found)
    if args.out:
        write_json(args.out, found)
    return 0


def _load(run: Path) -> keras.Model:
    path = run / "best.keras"
    if not path.is_file():
        raise ModelError(f"{run} holds no best.keras; give the folder of a run to --run.")
    try:
        return keras.saving.load_model(path)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        if "keras_hub" in str(error) and find_spec("keras_hub") is None:
            raise ModelError(
                f"{path} holds layers of KerasHub, which is not installed; install it by python "
                "-m pip install keras-hub."
            ) from error
        raise ModelError(
            f"{path} cannot be opened as a model ({type(error).__name__}): the file is damaged or "
            "of another version; take last.keras in its place or train anew."
        ) from error


def _check_fit(
    localizer: keras.Model, image_shape: tuple[int, ...], class_names: list[str], run: Path
) -> None:
    """Refuses data that the model was not made for."""
    takes = localizer.input_shape[1:]
    if tuple(takes) != tuple(image_shape):
        raise ModelError(
            f"the model takes images of {takes}, the data has {image_shape} (height, width, "
            "channels); set data.image_size and data.channels to the model's."
        )
    file = run / CLASSES_FILE
    learned = file.read_text(encoding="utf-8").splitlines() if file.is_file() else None
    gives = localizer.output["softmax"].shape[-1]
    if gives != len(class_names) or (learned is not None and learned != class_names):
        raise ModelError(
            f"the model knows the classes {', '.join(learned or [str(gives)])}, but the data has "
            f"{', '.join(class_names)}; name them alike and in that order, for example by "
            "data.source.class_names."
        )


def _same_data(run: Path, fingerprint: str) -> bool:
    file = run / "environment.json"
    return file.is_file() and json.loads(file.read_text())["data_fingerprint"] == fingerprint


if __name__ == "__main__":
    sys.exit(main())
