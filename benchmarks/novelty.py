"""Does `novelty` tell pictures that are nothing like the training images?

    python -m benchmarks.novelty --runs FOLDER [--data FOLDER] [--images 150] [--splits 200]

Trains a run of one step for each data set, unless FOLDER of `--runs` holds it: on digits, and with
`--data` on the others of `SETS` below that folder. Each is asked about its own test images and
about others, as `predict` does: the area under the ROC curve says how often an own image is the
more familiar of a pair; in brackets the percentage of the others that are told unknown. With
`--splits` instead: the images of each set, or 400 of them, are cut at random so many times into
three quarters and one, whose p-values by folds should be at most a level for that share.
"""

import argparse
import io
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from sklearn.metrics import roc_auc_score

from benchmarks.common import markdown_of
from loc_keras.cli.data_source import DataSource
from loc_keras.cli.runs import RunWithData, load_run
from loc_keras.config.load import load_config
from loc_keras.localizer.localizer import Localizer
from loc_keras.localizer.opening import GraphReader
from loc_keras.training.run_folder import BEST_FILE, CONFIG_FILE
from loc_keras.trust.novelty import COMPARED, fit_novelty, novelty_of, statistics_over

Pixels = npt.NDArray[np.uint8]

WORDS = "area box class depth edge field grid height image label mean net plane range side text"
SETTINGS = (
    *("model.backbone.width=16", "export.enabled=false", "train.epochs=1"),
    *("train.warmup_epochs=0", "train.steps_per_epoch=1"),
)
"""Of every run: what the model has learned has no part in novelty."""

LEVELS = (0.02, 0.05, 0.1)
MOST_SPLIT = 400

SETS = {
    "digits": "base",
    "caltech3": "caltech3",
    "microcontrollers": "microcontrollers",
    "vegetables3": "vegetables3",
    "tiny-imagenet-20": "tiny_imagenet_20",
}
"""The data sets, each with the name of its configuration."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--splits", type=int, default=0)
    args = parser.parse_args()
    names = list(SETS) if args.data else ["digits"]
    for name in names:
        _train(name, args.runs / name, args.data)
    runs = {name: load_run(args.runs / name) for name in names}
    foreign = {
        name: list(_files(run, args.images)) for name, run in runs.items() if name != "digits"
    }
    if args.splits:
        _print([_splits_row(*one, foreign, args.images, args.splits) for one in runs.items()])
    else:
        _print([_row(*one, foreign, args.images) for one in runs.items()])


def _print(rows: list[dict[str, Any]]) -> None:
    columns = dict.fromkeys(key for row in rows for key in row)
    Console(width=200).print(markdown_of([{c: row.get(c, "") for c in columns} for row in rows]))


def noise(count: int) -> Iterator[Pixels]:
    """Pictures of independent pixels."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield rng.integers(0, 256, (*rng.integers(64, 400, 2), 3)).astype(np.uint8)


def flat(count: int) -> Iterator[Pixels]:
    """Pictures of one colour; the first are black, white and grey."""
    rng = np.random.default_rng(2)
    for number in range(count):
        colour = (0, 255, 128)[number] if number < 3 else rng.integers(0, 256, 3)
        yield np.full((200, 300, 3), colour, np.uint8)


def charts(count: int) -> Iterator[Pixels]:
    """Bars, curves, points and sectors, and pages of text."""
    rng = np.random.default_rng(3)
    words = WORDS.split()
    for number in range(count):
        figure = Figure(figsize=(float(rng.uniform(3, 6)), float(rng.uniform(3, 6))), dpi=80)
        kind, colour, values = number % 5, rng.uniform(0, 1, 3), rng.uniform(0, 10, 3 + number % 8)
        if kind == 4:
            lines = [" ".join(rng.choice(words, 7)) for _ in range(rng.integers(5, 22))]
            size = float(rng.uniform(7, 14))
            figure.text(0.05, 0.95, "\n".join(lines), verticalalignment="top", fontsize=size)
        else:
            axes = figure.add_subplot(title=" ".join(rng.choice(words, 3)))
            if kind == 0:
                axes.bar(range(len(values)), values, color=colour)
            elif kind == 1:
                axes.plot(np.cumsum(rng.normal(0, 1, (100, 3)), axis=0))
                axes.grid()
            elif kind == 2:
                axes.scatter(*rng.normal(0, 1, (2, 200)), color=colour)
            else:
                axes.pie(values, labels=words[: len(values)])
        png = io.BytesIO()
        figure.savefig(png, format="png")
        yield np.asarray(Image.open(png).convert("RGB"))


def _train(name: str, folder: Path, data: Path | None) -> None:
    if (folder / BEST_FILE).is_file():
        return
    settings = list(SETTINGS)
    if name != "digits":
        settings.append(f"data.source.path={data and data / name}")
    command = [sys.executable, "-m", "loc_keras.train", "--config", f"configs/{SETS[name]}.yaml"]
    given = [part for one in settings for part in ("--set", one)]
    subprocess.run([*command, "--run-dir", str(folder), *given], check=True)


def _files(run: RunWithData, count: int) -> Iterator[str]:
    """Files of test photographs, each once, as they lie on the disk."""
    records = run.data.pictures["test"].records
    assert records is not None
    paths = np.unique(records.paths.astype(str))
    yield from np.random.default_rng(0).permutation(paths)[:count].tolist()


def _row(name: str, run: RunWithData, foreign: dict[str, list[str]], count: int) -> dict[str, Any]:
    localizer = Localizer.open(run.folder)
    own = _novelty(localizer, _pictures(run))
    others = _others(name, foreign, count)
    if name == "digits":
        clutter = load_config(run.folder / CONFIG_FILE, ["data.source.digits.background=clutter"])
        seen = RunWithData(run.folder, run.localizer, clutter, DataSource(clutter).build())
        others["digits in clutter"] = _pictures(seen)
    level = run.config.trust.novelty_level
    row: dict[str, Any] = {"trained on": name, "own images": len(own)}
    row["own flagged, %"] = f"{100 * float(np.mean(own < level)):.1f}"
    for kind, pictures in others.items():
        found = _novelty(localizer, pictures)
        row[kind] = f"{_area(own, found):.3f} ({100 * float(np.mean(found < level)):.0f})"
    return row


def _splits_row(
    name: str, run: RunWithData, foreign: dict[str, list[str]], count: int, splits: int
) -> dict[str, Any]:
    """How often p-values are low for a quarter of a set's images, fitted to the other three."""
    steps = run.data.steps_per_epoch
    training = run.data.train(0, augmentation=None).take(steps)
    batches = (run.held_out("test"), run.held_out("val"), training)
    images = np.unique(np.concatenate([statistics_over(one) for one in batches]), axis=0)
    reader = GraphReader(Localizer.open(run.folder).form)
    others = {
        kind: statistics_over([([reader.read(one).pixels for one in pictures],)])
        for kind, pictures in _others(name, foreign, count).items()
    }
    rng, shares, areas = np.random.default_rng(0), [], []
    for _ in range(splits):
        drawn = rng.permutation(images)[:MOST_SPLIT]
        held = len(drawn) // 4
        novelty = fit_novelty(
            drawn[held:],
            folds=np.array_split(np.arange(len(drawn) - held), COMPARED),
            level=0,
            split="train",
            model_sha256="",
        )
        own = np.asarray(novelty_of(drawn[:held], novelty)["novelty"])
        shares.append([np.mean(own <= level) for level in LEVELS])
        areas.append([_area(own, novelty_of(one, novelty)["novelty"]) for one in others.values()])
    mean, error = np.mean(shares, axis=0), np.std(shares, axis=0) / np.sqrt(splits)
    row: dict[str, Any] = {"images of": name, "fitted to": len(drawn) - held}
    figures = zip(LEVELS, 100 * mean, 100 * error, strict=True)
    row |= {f"at most {level}, %": f"{a:.2f}±{b:.2f}" for level, a, b in figures}
    return row | {k: f"{a:.3f}" for k, a in zip(others, np.mean(areas, axis=0), strict=True)}


def _others(name: str, foreign: dict[str, list[str]], count: int) -> dict[str, Iterable[Any]]:
    return {
        "noise": noise(count),
        "flat": flat(count),
        "charts, text": charts(count),
        **{other: files for other, files in foreign.items() if other != name},
    }


def _area(own: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """Area under the ROC curve by which p-values tell own images from others."""
    truth = np.repeat([1, 0], [np.size(own), np.size(others)])
    return float(roc_auc_score(truth, np.concatenate([own, others])))


def _pictures(run: RunWithData) -> Iterator[Pixels]:
    for images, _ in run.held_out("test"):
        yield from images.numpy()


def _novelty(localizer: Localizer, pictures: Iterable[Any]) -> npt.NDArray[np.float64]:
    return np.array([answer.novelty for answer in localizer.predict(list(pictures), top_k=1)])


if __name__ == "__main__":
    main()
