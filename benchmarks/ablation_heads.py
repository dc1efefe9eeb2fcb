"""Which heads? Trains variants of a config by the public command, same budget, several seeds.

Run from the root of the repository:

    python -m benchmarks.ablation_heads --out DIR [--epochs 8] [--seeds 0 1 2]
        [--test-data FILE.npz]

With `--test-data` the figures are those on the test digits of that file, else those of the run's
own test split. Runs that are already in DIR are not repeated.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

VARIANTS = {
    "gap_mlp + pooled": ("gap_mlp", "pooled"),
    "spatial + pooled": ("spatial", "pooled"),
    "distribution + pooled": ("distribution", "pooled"),
    "distribution + region": ("distribution", "region"),
}
FIGURES = ("softmax_accuracy", "bbox_iou", "bbox_acc90", "top1_loc")
# Their names in the metrics.json of an evaluation.
_NAMES = dict(zip(FIGURES, ("class_accuracy", "mean_iou", "acc90", "top1_loc"), strict=True))


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/base.yaml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test-data", help="digits .npz with a test split")
    args = parser.parse_args()
    table = Table(
        title=f"{args.epochs} epochs, mean (lowest to highest) of {len(args.seeds)} seeds"
    )
    for column in ("heads", *FIGURES, "minutes"):
        table.add_column(column)
    for name, (bbox_head, class_head) in VARIANTS.items():
        runs = [_run(args, bbox_head, class_head, seed) for seed in args.seeds]
        cells = [_spread([run[figure] for run in runs]) for figure in FIGURES]
        minutes = statistics.mean(run["seconds"] for run in runs) / 60
        table.add_row(name, *cells, f"{minutes:.1f}")
    Console(width=120).print(table)


def _run(args: argparse.Namespace, bbox_head: str, class_head: str, seed: int) -> dict[str, float]:
    folder = args.out / f"{bbox_head}-{class_head}-{seed}"
    result = folder.with_suffix(".json")
    if result.exists():
        return json.loads(result.read_text())
    settings = {
        "model.bbox_head": bbox_head,
        "model.class_head": class_head,
        "train.epochs": args.epochs,
        "train.seed": seed,
        "export.enabled": "false",
    }
    started = time.perf_counter()
    command = [sys.executable, "-m", "loc_keras.train", "--config", args.config]
    command += ["--run-dir", str(folder)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    _quietly(command, folder)
    seconds = time.perf_counter() - started
    figures = json.loads((folder / "metrics.json").read_text())["test"]
    if args.test_data:
        measured = folder / "test_data"
        command = [sys.executable, "-m", "loc_keras.evaluate", "--run", str(folder)]
        command += ["--set", f"data.source.path={args.test_data}", "--out", str(measured)]
        _quietly(command, folder)
        found = json.loads((measured / "metrics.json").read_text())["figures"]
        figures = {key: found[name]["value"] for key, name in _NAMES.items()}
    result.write_text(json.dumps({**figures, "seconds": seconds}))
    return json.loads(result.read_text())


def _quietly(command: list[str], folder: Path) -> None:
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        subprocess.run(command, stdout=file, stderr=file, check=True)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


if __name__ == "__main__":
    main()
