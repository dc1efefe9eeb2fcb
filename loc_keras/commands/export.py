"""What `export` does: convert a run's best model, compare the copy with it, write a version."""

import argparse
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console

from loc_keras.cli.build import bundle_of
from loc_keras.cli.console import print_line, print_note
from loc_keras.cli.runs import RunWithData, load_run, print_data
from loc_keras.cli.trust import novelty_beside, trust_of
from loc_keras.data.annotations import Split
from loc_keras.errors import DataError, ExportError
from loc_keras.evaluation.figures import run_figures
from loc_keras.report.terminal import print_metrics
from loc_keras.serving import web
from loc_keras.serving.bundle import Bundle, behind_served, parse_version, refuse_version
from loc_keras.serving.portable import SAVED_MODEL, export_portable, refuse_format
from loc_keras.serving.runtimes import Run
from loc_keras.serving.saved_model import export_saved_model
from loc_keras.training.model import answer_function, collect_outcomes
from loc_keras.training.run_folder import CARD_FILE, read_json

CALIBRATION_IMAGES = 128
"""Validation images by which the ranges of int8 are set."""


def run(args: argparse.Namespace) -> int:
    """Converts, compares and writes; gives the exit code."""
    console = Console(markup=False)
    # What can be refused is refused before minutes are spent.
    is_web = args.format == web.WEB
    kind = web.ONNX if is_web else args.format
    refuse_format(kind, args.quantize)
    if args.onnxruntime_web is not None and not is_web:
        raise ExportError("--onnxruntime-web is for --format web; leave it out.")
    beside = web.page_writer(web.find_runtime(args.onnxruntime_web)) if is_web else None
    version = None if args.version is None else parse_version(args.version)
    is_server = args.format == SAVED_MODEL
    place = args.out if is_server else args.out / args.format
    if version is not None:
        refuse_version(place, version)
    run = load_run(args.run, args.config, args.set)
    print_data(console, run.data, listed=False)
    bundle = _bundle(run, console, args.quantize)
    behind = behind_served(bundle.card or {}, place)
    print_note(console, behind and f"{behind}; it is exported all the same.")
    if is_server:
        written = export_saved_model(bundle, args.out, version)
    else:
        written = export_portable(
            bundle,
            args.out,
            kind,
            args.quantize,
            measure=partial(_measured, run, console),
            calibration=calibration_images(run) if args.quantize == "int8" else None,
            version=version,
            place=args.format,
            beside=beside,
        )
    print_line(console, f"written: {written}")
    if is_web:
        print_line(console, f"see it: python -m http.server --bind 127.0.0.1 -d {written}")
    return 0


def _bundle(run: RunWithData, console: Console, quantize: str) -> Bundle:
    file = run.folder / CARD_FILE
    card = read_json(file) if file.is_file() else None
    if card is None:
        print_note(console, f"{run.folder} holds no {CARD_FILE}, so the export has none.")
    trust, novelty = trust_of(run), novelty_beside(run)
    if quantize != "none" and trust is not None:
        print_note(
            console,
            "trust was fitted to the model's full precision, so the quantized one goes without.",
        )
        trust = None
    return bundle_of(run.folder, run.localizer, run.data, card, trust, novelty)


def calibration_images(run: RunWithData) -> np.ndarray:
    """Images float32 (N, H, W, C) of validation, else of training, that set the ranges of int8."""
    split = "folds" if run.data.val is None else "val"
    images, _ = next(iter(run.held_out(split).unbatch().batch(CALIBRATION_IMAGES)))
    pixels: np.ndarray = tf.cast(images, tf.float32).numpy()
    return pixels


def _measured(run: RunWithData, console: Console, converted: Run) -> dict[str, Any]:
    """Figures of the model and of its conversion on the test images, else those of validation."""
    splits: tuple[Split, ...] = ("test", "val", "folds")
    split = next((name for name in splits if run.data.held_out(name) is not None), None)
    if split is None:
        raise DataError("there are no test or validation images to measure the export on.")
    images, pictures = run.held_out(split), run.data.pictures[split]
    answers = {
        "before": answer_function(run.localizer),
        "after": lambda images: converted(images.numpy()),
    }
    measured = {
        name: run_figures(collect_outcomes(answer, images, pictures, run.data.background))
        for name, answer in answers.items()
    }
    split = "train" if split == "folds" else split  # This very model learned from them.
    print_metrics(console, {f"{split}, {name}": values for name, values in measured.items()})
    return {"split": split, **measured}
