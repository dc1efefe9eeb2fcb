"""Seconds and memory before a command does something, beside another checkout.

Run from the root of the repository:

    python -m benchmarks.startup --against FOLDER [--rounds 5] [--images 300]

Both do the same in turns, each time in a new process: `import loc_keras`, the help of every
command, `check` on pictures of their own (CSV, VOC and COCO; also the time until the first line)
and `predict` of one picture with a run of two steps. Shown are medians of CPU seconds (user and
system), wall seconds and the peak of memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

COMMANDS = (
    *("train", "check", "convert", "evaluate", "calibrate", "predict", "export", "demo", "digits"),
    "train_workers",
)
FORMATS = ("csv", "voc", "coco")
SHORT = (
    "train.epochs=1",
    "train.steps_per_epoch=2",
    "train.warmup_epochs=0",
    "export.enabled=false",
)


class Cost(NamedTuple):
    """What one process took: seconds, seconds, seconds until its first line, MiB."""

    cpu: float
    wall: float
    first: float
    peak: float


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=300, help="in each split that is checked")
    args = parser.parse_args()
    codes = {"other": args.against.absolute(), "this": Path.cwd()}
    with tempfile.TemporaryDirectory() as folder:
        cases = _cases(Path(folder), args.images)
        found: dict[str, dict[str, list[Cost]]] = {
            case: {name: [] for name in codes} for case in cases
        }
        for _ in range(args.rounds):
            for case, arguments in cases.items():
                for name, code in codes.items():
                    found[case][name].append(measured(arguments, code))
    # Until here this process stays small, since the peak of a process holds that of its parent.
    from rich.console import Console

    from benchmarks.common import table_of

    rows = []
    for case, costs in found.items():
        row: dict[str, object] = {"": case}
        for field, heading in enumerate(("CPU s", "wall s", "first line s", "MiB")):
            for name, several in costs.items():
                middle = statistics.median(cost[field] for cost in several)
                row[f"{heading}, {name}"] = f"{middle:.0f}" if heading == "MiB" else f"{middle:.2f}"
        rows.append(row)
    Console(width=200).print(table_of(rows))


def _cases(folder: Path, images: int) -> dict[str, list[str]]:
    """The arguments of Python by what is measured, with what they read."""
    _call(folder, "digits", "--out", "csv", "--limit", str(images))
    (folder / "csv.yaml").write_text("name: csv\ndata: {source: {format: csv, path: csv}}\n")
    for name in FORMATS[1:]:
        _call(folder, "convert", "--config", "csv.yaml", "--to", name, "--out", name)
    changes = [part for change in SHORT for part in ("--set", change)]
    config = Path.cwd() / "configs" / "base.yaml"
    _call(folder, "train", "--config", str(config), "--run-dir", "run", *changes)
    picture = next((folder / "csv" / "test_images").iterdir())
    cases = {"import loc_keras": ["-c", "import loc_keras"]}
    cases |= {f"{name} --help": ["-m", f"loc_keras.{name}", "--help"] for name in COMMANDS}
    cases |= {
        f"check, {name}": ["-m", "loc_keras.check", "--data", str(folder / name)]
        for name in FORMATS
    }
    predict = ["-m", "loc_keras.predict", "--model", str(folder / "run"), str(picture)]
    return {**cases, "predict, one picture": predict}


def _call(folder: Path, name: str, *arguments: str) -> None:
    command = [sys.executable, "-m", f"loc_keras.{name}", *arguments]
    subprocess.run(
        command, cwd=folder, env=_path(Path.cwd()), check=True, stdout=subprocess.DEVNULL
    )


def _path(code: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(code)}


def measured(arguments: list[str], code: Path) -> Cost:
    begun = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=_path(code),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        first = time.perf_counter() - begun
        process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} in {code} ended with code {process.returncode}")
    wall = time.perf_counter() - begun
    return Cost(used.ru_utime + used.ru_stime, wall, first, used.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
