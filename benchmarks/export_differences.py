"""How far are the answers of exports from the model's, by policy of training, body and format?

    python -m benchmarks.export_differences --runs FOLDER [--images 500] [--only resnet18 float16]

Trains a short run on digits with trust for each body and policy, unless FOLDER of `--runs` holds
it, and asks all its exports about its test images. What is compared is the model's float32 copy,
of which exports are made; the first row is the run's own model, in the arithmetic of its training.
The largest difference of any output counts, boxes in fractions; with trust where exports have it.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.console import Console

from benchmarks.common import markdown_of
from loc_keras.cli.build import bundle_of
from loc_keras.cli.runs import RunWithData, load_run
from loc_keras.cli.trust import novelty_beside, trust_of
from loc_keras.commands.export import calibration_images
from loc_keras.serving import portable
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.live_check import TOLERANCES, largest_difference
from loc_keras.serving.runtimes import open_file
from loc_keras.serving.saved_model import write_saved_model
from loc_keras.serving.signatures import IMAGES
from loc_keras.training.model import answer_function
from loc_keras.training.run_folder import BEST_FILE

BODIES = {"resnet18": 16, "applications/MobileNet": 64}
"""With `model.backbone.width`, which for other bodies than ResNets is 64."""

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
SETTINGS = (
    *("data.source.digits.canvas=64", "data.channels=3"),
    *("data.split.test=0.1", "data.split.calibration=0.1", "train.epochs=3"),
    *("train.warmup_epochs=1", "export.enabled=false"),
)
BATCH = 100
P_VALUES = frozenset({"novelty", "known"})
"""Compared otherwise: see `live_check.P_VALUE_TOLERANCE`."""

Answers = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the runs' names")
    args = parser.parse_args()
    names = [
        (f"{body.rpartition('/')[2]}, {policy}", body, policy)
        for body, policy in product(BODIES, POLICIES)
        if not args.only or any(part in f"{body} {policy}" for part in args.only)
    ]
    columns = {name: _column(args.runs, body, policy, args.images) for name, body, policy in names}
    first = next(iter(columns.values()))
    rows = [
        {"answers": row, **{name: f"{column[row]:.1e}" for name, column in columns.items()}}
        for row in first
    ]
    for row, limit in zip(rows[1:], TOLERANCES.values(), strict=True):
        row["allowed"] = f"{limit:g}"
    rows[0]["allowed"] = ""
    Console(width=200).print(markdown_of(rows), markup=False)


def _column(runs: Path, body: str, policy: str, count: int) -> dict[str, float]:
    folder = runs / f"{body.rpartition('/')[2]}-{policy}"
    if not (folder / BEST_FILE).is_file():
        given = (*SETTINGS, f"model.backbone.name={body}", f"train.precision={policy}")
        given += (f"model.backbone.width={BODIES[body]}",)
        sets = [part for one in given for part in ("--set", one)]
        command = [sys.executable, "-m", "loc_keras.train", "--config", "configs/base.yaml"]
        subprocess.run([*command, "--run-dir", str(folder), *sets], check=True)
    run = load_run(folder)
    images = _test_images(run, count)
    trusted = bundle_of(folder, run.localizer, run.data, None, trust_of(run), novelty_beside(run))
    plain = bundle_of(folder, run.localizer, run.data, None)
    expected = _asked(_compiled(trusted.localizer), images)
    own = _asked(_compiled(run.localizer), images)
    column = {"the run's own model": _largest(own, expected)}
    for kind, quantize in TOLERANCES:
        bundle = trusted if quantize == "none" else plain
        with tempfile.TemporaryDirectory() as place:
            found = _asked(_exported(bundle, run, Path(place), kind, quantize), images)
        column[f"{kind} {quantize}".removesuffix(" none")] = _largest(found, expected)
    return column


def _test_images(run: RunWithData, count: int) -> np.ndarray:
    batches = run.held_out("test").unbatch().take(count).batch(count)
    images, _ = next(iter(batches))
    return tf.cast(images, tf.float32).numpy()


def _compiled(model: object) -> Callable[[np.ndarray], Answers]:
    answer = answer_function(model)
    return lambda images: {name: value.numpy() for name, value in answer(images).items()}


def _exported(
    bundle: Bundle, run: RunWithData, place: Path, kind: str, quantize: str
) -> Callable[[np.ndarray], Answers]:
    """Exports unchecked, and opens what was written in its own runtime."""
    folder = place / "model"
    if kind != portable.SAVED_MODEL:
        folder.mkdir()
        file = portable.convert(bundle, folder, kind, quantize, calibration_images(run))
        return open_file(file, kind)[0]
    write_saved_model(bundle, folder)
    loaded = tf.saved_model.load(str(folder))

    def answer(images: np.ndarray, held: object = loaded) -> Answers:
        outputs = loaded.signatures[IMAGES](images=tf.constant(images))
        return {name: value.numpy() for name, value in outputs.items()}

    return answer


def _asked(answer: Callable[[np.ndarray], Answers], images: np.ndarray) -> Answers:
    parts: Iterator[Answers] = (
        answer(images[start : start + BATCH]) for start in range(0, len(images), BATCH)
    )
    found = list(parts)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _largest(found: Answers, expected: Answers) -> float:
    return max(
        largest_difference(name, value, expected[name], TOLERANCES["onnx", "none"])
        for name, value in found.items()
        if name not in P_VALUES
    )


if __name__ == "__main__":
    main()
