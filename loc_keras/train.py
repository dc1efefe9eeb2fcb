"""`python -m loc_keras.train --config FILE`: from a config to a trained and exported localizer."""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf
from rich.console import Console

from loc_keras import run_report
from loc_keras.command_line import run_command
from loc_keras.config import Config
from loc_keras.config_io import dump_config, load_config
from loc_keras.data.localization_data import LocalizationData
from loc_keras.from_config import (
    data_from,
    export_base,
    flat_settings,
    localizer_from,
    losses_from,
    plan_from,
    validation_set,
)
from loc_keras.report.run_pictures import panel_picture
from loc_keras.serving.saved_model import export_saved_model
from loc_keras.training import precision, run_folder
from loc_keras.training.fit import FitResult, fit_localizer
from loc_keras.training.overfit import overfit_batch
from loc_keras.training.tensorboard import (
    HyperParameters,
    ImagePanel,
    InferenceGraph,
    first_images,
)

PANEL_IMAGES = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and trains; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loc_keras.train", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config file (YAML)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting; may be repeated",
    )
    parser.add_argument("--run-dir", type=Path, help="run folder, new or empty")
    parser.add_argument(
        "--overfit-batch",
        type=int,
        metavar="N",
        help="only check that N steps on one batch bring its loss near zero",
    )
    args = parser.parse_args(arguments)
    if args.overfit_batch is not None and args.overfit_batch < 1:
        parser.error("--overfit-batch needs a number of steps of at least 1")
    return run_command(
        partial(_train, args, Console()),
        when_interrupted="stopped; checkpoints that were saved stay in the run folder.",
    )


def _train(args: argparse.Namespace, console: Console) -> int:
    started = time.perf_counter()
    config = load_config(args.config, args.set)
    policy = _set_up(config)
    data = data_from(config)
    val = validation_set(data)
    run_report.print_data(console, data)
    localizer = localizer_from(config, data)
    if args.overfit_batch:
        return _overfit(args.overfit_batch, config, data, localizer, console)
    folder = (
        run_folder.given_run_folder(args.run_dir)
        if args.run_dir
        else run_folder.new_run_folder(Path(config.run.dir), str(config.name))
    )
    run_report.write_start(folder, dump_config(config), policy, data)
    console.print(f"run folder {folder}; {policy}, {localizer.count_params():,} parameters")
    result = _fit(config, data, val, localizer, folder)
    best = keras.saving.load_model(result.best_path)
    measured = run_report.finish_run(folder, best, data, str(config.name))
    exported = None
    if config.export.enabled:
        probe, _ = first_images(val, PANEL_IMAGES)
        exported = export_saved_model(best, export_base(config), probe)
    run_report.print_end(console, folder, measured, result, exported, time.perf_counter() - started)
    return 0


def _set_up(config: Config) -> str:
    """Prepares devices and seeds before the first operation; gives the dtype policy."""
    if config.train.gpu_memory_growth:
        precision.grow_gpu_memory()
    precision.make_deterministic(config.train.seed, config.train.deterministic)
    return precision.set_precision(config.train.precision)


def _fit(
    config: Config,
    data: LocalizationData,
    val: tf.data.Dataset,
    localizer: keras.Model,
    folder: Path,
) -> FitResult:
    board = folder / "tensorboard"
    draw = partial(panel_picture, class_names=data.class_names)
    return fit_localizer(
        localizer,
        train=data.train(0),
        val=val,
        plan=plan_from(config, data),
        losses=losses_from(config),
        folder=folder,
        extra_callbacks=[
            InferenceGraph(localizer, board),
            ImagePanel(localizer, board, val, PANEL_IMAGES, draw),
            HyperParameters(board, flat_settings(config.model_dump()), folder.name),
        ],
    )


def _overfit(
    steps: int, config: Config, data: LocalizationData, localizer: keras.Model, console: Console
) -> int:
    batch = next(iter(data.train(0)))
    found = overfit_batch(
        localizer,
        batch,
        steps=steps,
        learning_rate=config.train.learning_rate,
        losses=losses_from(config),
    )
    run_report.print_overfit(console, found, len(batch[0]))
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
