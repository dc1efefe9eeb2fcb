"""Wall-clock time until a training reaches a given quality: our recipe, and each tool switched off.

    python -m benchmarks.time_to_quality --digits FILE.npz [--ways ours ...] [--limit 600]
        [--out FILE.json] [--picture FILE.png]

Every way is one run of the public command `python -m loc_keras.train`, in a process of its own.
The clock starts with the process, so that imports, data and the tracing of graphs count. What was
reached is read from `history_steps.csv`, whose rows are measured on 1,200 digits that are not
trained on. A level is reached at the first of two validations in a row that have it. A run is ended
when it has both levels, or at the limit.

The ways are run one after another: on a machine that does other work meanwhile, the figures mean
little. `--digits` is an .npz with MNIST, or `keras` for the one that Keras downloads.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.common import markdown_of, table_of
from loc_keras.report.style import FAINT, FONT, INK, LABEL_SIZE, TITLE_SIZE, new_figure, save_figure

SEEN_FROM = {"accuracy": (0.9, 1.0), "iou": (0.85, 1.0)}
TITLES = {"accuracy": "class accuracy", "iou": "mean IoU"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
DASHES = ("-", "--", ":")

RECIPE = "configs/mnist_quick.yaml"
LEVELS = {"98.5 % and .89": (0.985, 0.89), "99.3 % and .975": (0.993, 0.975)}
"""Class accuracy and mean IoU: what the original reached at best, and what is asked of us."""

BENT = ("rotation", "scale", "shear", "aspect")
FLAT = [f"augment.digit_{name}=0" for name in BENT]
WAYS: dict[str, list[str]] = {
    "ours": [],
    "ours, longer": ["train.epochs=4", "train.warmup_epochs=0.5"],
    "smaller images first": ["train.progressive_size=[{share: 0.4, side: 48}]"],
    "batches of 64": [
        *("train.batch_size=64", "train.steps_per_epoch=900", "train.learning_rate=0.003"),
        "train.validate_every_steps=60",
    ],
    "no fall of the rate": ["train.schedule=constant"],
    "one cycle": ["train.schedule=one_cycle"],
    "no warm-up": ["train.warmup_epochs=0"],
    "no weight decay": ["train.weight_decay=0"],
    "digits not bent": FLAT,
    "pooled class head": ["model.class_head=pooled"],
    "spatial box head": ["model.bbox_head=spatial"],
    "the original's heads": ["model.class_head=pooled", "model.bbox_head=gap_mlp"],
    # With its network, but at 100 px.
    "the original's recipe": [
        *("model.class_head=pooled", "model.bbox_head=gap_mlp", "model.backbone.width=64"),
        *("train.optimizer=adam", "train.learning_rate=1e-3", "train.weight_decay=1e-4"),
        *("train.schedule=constant", "train.warmup_epochs=0", "train.batch_size=128"),
        *("train.epochs=5", "train.steps_per_epoch=null", *FLAT),
    ],
}
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Point:
    """A validation: seconds since the start, steps, class accuracy and mean IoU as fractions."""

    seconds: float
    step: int
    accuracy: float
    iou: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", default="keras")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--limit", type=float, default=600.0, help="seconds")
    parser.add_argument("--out", type=Path, help="all points, as JSON; runs in it are not repeated")
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    found: dict[str, list[Point]] = {}
    if args.out and args.out.exists():
        kept = json.loads(args.out.read_text())
        found = {name: [Point(**point) for point in points] for name, points in kept.items()}
    for seed in args.seeds:
        for way in args.ways:
            name = way if seed == 0 else f"{way}, seed {seed}"
            if name in found:
                continue
            found[name] = run(way, seed, args.digits, args.limit)
            print(markdown_of([row_of(name, found[name])]).splitlines()[-1], flush=True)
            if args.out:
                told = {each: [asdict(point) for point in found[each]] for each in found}
                args.out.write_text(json.dumps(told, indent=1))
    rows = [row_of(name, points) for name, points in found.items()]
    Console().print(table_of(rows))
    print(markdown_of(rows))
    if args.picture:
        pass

        draw(found, LEVELS, args.picture)


def run(way: str, seed: int, digits: str, limit: float) -> list[Point]:
    """Trains one way and gives its validations."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "run"
        sets = [*WAYS[way], f"data.source.path={digits}", f"train.seed={seed}"]
        given = ["--config", RECIPE, "--run-dir", str(folder)]
        given += [part for one in [*sets, "export.enabled=false"] for part in ("--set", one)]
        log = Path(home) / "log"
        started = time.perf_counter()
        with log.open("wb") as to:
            child = subprocess.Popen(
                [sys.executable, "-m", "loc_keras.train", *given],
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
                stdout=to,
                stderr=to,
            )
            try:
                points = watch(child, folder / "history_steps.csv", started, limit)
            finally:
                child.kill()
                child.wait()
        if not points:
            raise RuntimeError(f"{way}: nothing was measured in {limit:g} s\n{log.read_text()}")
        return points


def watch(
    child: "subprocess.Popen[bytes]", rows: Path, started: float, limit: float
) -> list[Point]:
    """Notes each validation when its row appears, until all is reached, over, or too late."""
    points: list[Point] = []
    while True:
        # Asked before reading, so that the last rows of a run that ends now are seen.
        over = child.poll() is not None
        seconds = time.perf_counter() - started
        new = read(rows)[len(points) :]
        points += [Point(seconds, *values) for values in new]
        if over or seconds > limit or all(reached(points, *level) for level in LEVELS.values()):
            return points
        time.sleep(POLL_SECONDS)


def read(path: Path) -> list[tuple[int, float, float]]:
    """Step, class accuracy and mean IoU of each row that is there."""
    if not path.exists():
        return []
    with path.open() as file:
        return [
            (int(row["step"]), float(row["val_softmax_accuracy"]), float(row["val_bbox_iou"]))
            for row in csv.DictReader(file)
        ]


def reached(points: Sequence[Point], accuracy: float, iou: float) -> Point | None:
    """The first of two validations in a row that have a level."""
    good = [point.accuracy >= accuracy and point.iou >= iou for point in points]
    for index in range(len(points) - 1):
        if good[index] and good[index + 1]:
            return points[index]
    return None


def row_of(name: str, points: Sequence[Point]) -> dict[str, str]:
    """A line of the table."""
    row = {"way": name}
    for level, values in LEVELS.items():
        when = reached(points, *values)
        row[level] = f"{when.seconds:.0f} s (step {when.step})" if when else "not reached"
    last = points[-1]
    row["steps, seconds at the end"] = f"{last.step}, {last.seconds:.0f}"
    row["class accuracy, mean IoU there"] = f"{last.accuracy:.2%}, {last.iou:.3f}"
    return row


def draw(
    found: Mapping[str, Sequence[Any]], levels: Mapping[str, tuple[float, float]], path: Path
) -> None:
    """Draws accuracy and IoU over time, a line a way; levels are dotted lines."""
    figure = new_figure(9.5, 4.2, 110)
    axes = figure.subplots(1, 2)
    for axis, (name, span) in zip(axes, SEEN_FROM.items(), strict=True):
        for number, (way, points) in enumerate(found.items()):
            axis.plot(
                [point.seconds for point in points],
                [getattr(point, name) for point in points],
                label=way,
                color=COLOURS[number % len(COLOURS)],
                linestyle=DASHES[number // len(COLOURS)],
                linewidth=2.2 if number == 0 else 1.2,
            )
        for level in levels.values():
            axis.axhline(level[name == "iou"], color=INK, linestyle=":", linewidth=0.8)
        axis.set_ylim(*span)
        axis.set_xlim(left=0)
        axis.set_xlabel("seconds since the command began", fontsize=LABEL_SIZE)
        axis.set_title(TITLES[name], fontsize=TITLE_SIZE, fontfamily=FONT)
        axis.grid(color=FAINT, linewidth=0.5)
    axes[1].legend(frameon=False, fontsize=LABEL_SIZE, loc="lower right")
    figure.tight_layout()
    save_figure(figure, path)


if __name__ == "__main__":
    main()
