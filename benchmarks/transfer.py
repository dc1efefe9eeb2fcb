"""Does a pretrained body pay? Few photographs, from random weights and from those of another run.

    python -m benchmarks.transfer --body RUN --data NAME=CONFIG=FOLDER ... --out DIR

trains every combination of data set, number of photographs, first weights and seed for the same
number of steps and writes one line of figures each to DIR/runs.jsonl; what stands there already is
not trained again. `--folds 5` measures all photographs by cross-validation instead, in
DIR/folds.jsonl. Both end with a table; `--plot FILE.png` draws the curves.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from rich.console import Console

from benchmarks.common import table_of
from benchmarks.transfer_runs import ALL, Arm, Trainer, few, folds
from loc_keras.cli.data_source import DataSource
from loc_keras.config.load import load_config
from loc_keras.config.schema import Config
from loc_keras.config.train import FineTuneConfig
from loc_keras.report.style import (
    BLUE,
    FAINT,
    FONT,
    INK,
    LABEL_SIZE,
    TITLE_SIZE,
    VERMILLION,
    new_figure,
    save_figure,
)

FIGURES = {"gt_known_loc": "GT-known localization", "top1_loc": "Top-1 localization"}
LOOK = {"random": (VERMILLION, "--", "o"), "pretrained": (BLUE, "-", "s")}
SHOWN = ("softmax_accuracy", "bbox_iou", "gt_known_loc", "top1_loc")
EPOCHS = 8  # Only to divide the steps: the body of the last arm rests in the first eighth.
ARMS = (
    Arm("random", False, FineTuneConfig()),
    Arm("pretrained", True, FineTuneConfig()),
    Arm("lower rates", True, FineTuneConfig(freeze_epochs=1, body_rate=0.3, layer_decay=0.7)),
)


def main() -> None:
    args = _arguments()
    console = Console()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / ("folds.jsonl" if args.folds else "runs.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {_key(row) for row in rows}
    for name, config, folder in (text.split("=") for text in args.data):
        work = _fold_runs if args.folds else _grid_runs
        for row in work(args, name, config, folder, done):
            rows.append(row)
            with file.open("a") as out:
                out.write(json.dumps(row) + "\n")
            console.print({key: row[key] for key in ("set", "arm", "photographs", "seed", *SHOWN)})
    console.print(table_of(summary(rows, "fold" if args.folds else "seed")))
    if args.plot:
        save_curves(rows, args.plot)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--body", type=Path, required=True, help="run with the pretrained body")
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=CONFIG=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photographs", nargs="+", type=int, default=[10, 30, 100, ALL])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=["random", "pretrained"])
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def _config(args: argparse.Namespace, config: str, folder: str, *more: str) -> Config:
    settings = [
        f"data.source.path={folder}",
        "data.split.val=0.0",
        "data.channels=3",
        f"model.backbone.weights={args.body}",
        f"train.epochs={EPOCHS}",
        "train.warmup_epochs=0.5",
        "train.steps_per_epoch=1",
        "train.precision=float32",
    ]
    return load_config(Path(config), [*settings, *args.set, *more])


def _grid_runs(
    args: argparse.Namespace, name: str, path: str, folder: str, done: set[tuple[Any, ...]]
) -> Iterator[dict[str, Any]]:
    trainer = None
    for seed in args.seeds:
        config = _config(args, path, folder, f"train.seed={seed}")
        found = DataSource(config).records
        trainer = trainer or Trainer(config, found, args.steps)
        for count in args.photographs:
            for arm in (arm for arm in ARMS if arm.name in args.arms):
                row = {"set": name, "arm": arm.name, "photographs": count, "seed": seed}
                if _key(row) not in done:
                    yield {**row, **trainer.run(arm, few(found, count, seed), seed)}


def _fold_runs(
    args: argparse.Namespace, name: str, path: str, folder: str, done: set[tuple[Any, ...]]
) -> Iterator[dict[str, Any]]:
    trainer = None
    for seed in args.seeds:
        config = _config(args, path, folder, f"train.seed={seed}", "data.split.test=0.0")
        found = DataSource(config).records
        for fold, part in enumerate(folds(found, args.folds, seed)):
            trainer = trainer or Trainer(config, part, args.steps)
            for arm in (arm for arm in ARMS if arm.name in args.arms):
                row = {"set": name, "arm": arm.name, "photographs": ALL, "seed": seed, "fold": fold}
                if _key(row) not in done:
                    yield {**row, **trainer.run(arm, part, seed)}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("set", "arm", "photographs", "seed", "fold"))


def summary(rows: list[dict[str, Any]], over: str) -> list[dict[str, Any]]:
    """Mean and range over seeds, or over folds weighted by their images, in the rows' order."""
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["set"], row["photographs"], row["arm"]), []).append(row)
    lines = []
    for (name, count, arm), mine in cells.items():
        line = {"set": name, "photographs": count or f"all ({mine[0]['train']})", "start": arm}
        line |= {"test images": sum(row["images"] for row in mine), over + "s": len(mine)}
        lines.append(line | {key: _spread([row[key] for row in mine]) for key in SHOWN})
    return lines


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def save_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws a column a data set and a row a figure; bars span the seeds."""
    sets = list(dict.fromkeys(row["set"] for row in rows))
    figure = new_figure(3.4 * len(sets), 2.9 * len(FIGURES), 110)
    axes = figure.subplots(len(FIGURES), len(sets), sharey=True, squeeze=False)
    for line, (key, title) in enumerate(FIGURES.items()):
        for column, name in enumerate(sets):
            mine = [row for row in rows if row["set"] == name]
            _draw(axes[line][column], mine, key)
            if line == 0:
                axes[line][column].set_title(name, fontsize=TITLE_SIZE, fontfamily=FONT)
            if column == 0:
                axes[line][column].set_ylabel(f"{title}, %", fontsize=LABEL_SIZE)
            if line == len(FIGURES) - 1:
                axes[line][column].set_xlabel("training photographs", fontsize=LABEL_SIZE)
    axes[0][0].legend(frameon=False, fontsize=LABEL_SIZE, loc="lower right")
    figure.tight_layout()
    save_figure(figure, path)


def _draw(axis: Axes, rows: list[dict[str, Any]], key: str) -> None:
    counts = sorted({row["train"] for row in rows})
    for arm, (colour, dashes, marker) in LOOK.items():
        values = [
            [100 * row[key] for row in rows if row["train"] == count and row["arm"] == arm]
            for count in counts
        ]
        points = [(count, found) for count, found in zip(counts, values, strict=True) if found]
        if not points:
            continue
        x = [count for count, _ in points]
        means = [sum(found) / len(found) for _, found in points]
        spans = [
            [mean - min(found) for mean, (_, found) in zip(means, points, strict=True)],
            [max(found) - mean for mean, (_, found) in zip(means, points, strict=True)],
        ]
        axis.errorbar(
            x,
            means,
            yerr=spans,
            label=f"{arm} weights",
            color=colour,
            linestyle=dashes,
            marker=marker,
            markersize=4,
            capsize=3,
        )
    axis.set_xscale("log")
    axis.set_xticks(counts, [str(count) for count in counts], color=INK)
    axis.minorticks_off()
    axis.set_ylim(0, 102)
    axis.grid(color=FAINT)


if __name__ == "__main__":
    main()
