"""`python -m loc_keras.evaluate --run DIR`: measures a trained localizer on a split."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
from rich.console import Console

from loc_keras.command_line import run_command
from loc_keras.config_io import load_config
from loc_keras.errors import DataError, ModelError
from loc_keras.from_config import data_from
from loc_keras.report.table import print_metrics
from loc_keras.run_report import print_data
from loc_keras.training.measure import answer_function, collect_answers, figures
from loc_keras.training.run_folder import write_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and measures; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loc_keras.evaluate", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="run folder with best.keras")
    parser.add_argument("--config", type=Path, help="data of another config than the run's own")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting, for example data.source.path; may be repeated",
    )
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    return run_command(partial(_evaluate, parser.parse_args(arguments), Console()))


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    model_path = args.run / "best.keras"
    if not model_path.is_file():
        raise ModelError(f"{args.run} holds no best.keras; give the folder of a run to --run.")
    config = load_config(args.config or args.run / "config.yaml", args.set)
    data = data_from(config)
    print_data(console, data)
    dataset = getattr(data, args.split)
    if dataset is None:
        raise DataError(f"{config.data.source.path} has no {args.split} images to measure on.")
    localizer = keras.saving.load_model(model_path)
    _check_fit(localizer, data.image_shape, len(data.class_names))
    found = {args.split: figures(collect_answers(answer_function(localizer), dataset))}
    print_metrics(console, found)
    if args.out:
        write_json(args.out, found)
    return 0


def _check_fit(localizer: keras.Model, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Refuses data that the model was not made for."""
    takes, gives = localizer.input_shape[1:], localizer.output["softmax"].shape[-1]
    if tuple(takes) != tuple(image_shape):
        raise ModelError(
            f"the model takes images of {takes}, the data has {image_shape} (height, width, "
            "channels); set data.image_size and data.channels to the model's."
        )
    if gives != num_classes:
        raise ModelError(f"the model knows {gives} classes, but the data has {num_classes}.")


if __name__ == "__main__":
    sys.exit(main())
