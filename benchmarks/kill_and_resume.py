"""Kills a training by SIGKILL at random moments, goes on with it, and compares the end to the bit.

    python -m benchmarks.kill_and_resume [--runs 5] [--seed 0]

First one run of 60 steps is left alone. Then each of `--runs` runs is killed four times and goes on
after each: three times at random steps, a random part of a step later, and once in a moment that is
waited for (a checkpoint, the measuring, the export). What is compared with the run that was left
alone are the weights of last.keras and best.keras, history.csv without images_per_second,
history_steps.csv, metrics.json, and that there is one export.

The network is shortened to one block, and no pictures are drawn, since most of the time goes into
starting anew. The task has all that is random or has a memory: dropout, stochastic depth, averaged
weights, early stopping, validation within epochs, and a first epoch in which the body rests.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.common import table_of

STEPS_AN_EPOCH, EPOCHS = 20, 3
SETTINGS = [
    *(
        "data.source.digits.canvas=32",
        "data.split.val=0.02",
        "data.split.test=0.02",
        "model.backbone.width=4",
        "model.backbone.stem=small",
    ),
    *("model.bbox_head=spatial", "model.class_head=pooled", "model.backbone.stochastic_depth=0.1"),
    *(f"train.epochs={EPOCHS}", f"train.steps_per_epoch={STEPS_AN_EPOCH}", "train.batch_size=16"),
    *("train.warmup_epochs=1", "train.deterministic=true", "train.checkpoint_every_steps=7"),
    *("train.ema=0.9", "train.validate_every_steps=9", "train.fine_tune.freeze_epochs=1"),
    "train.early_stopping_patience=3",
]
STEP_FILE = "STEP_FILE"
"""Variable that names the file into which the child writes how many steps it has taken."""

WAITED_FOR = ("a checkpoint", "the measuring", "the export", "a checkpoint", "the export")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        sys.exit(train(args.child))
    print(f"python -m benchmarks.kill_and_resume --runs {args.runs} --seed {args.seed}")
    draw = random.Random(args.seed)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        alone = Trial(Path(name) / "alone")
        started = time.perf_counter()
        alone.finish()
        print(f"left alone: {time.perf_counter() - started:.0f} s", flush=True)
        for number in range(args.runs):
            trial = Trial(Path(name) / f"run{number + 1}")
            killed = [trial.kill_at_step(step, draw.random()) for step in moments(draw)]
            killed.append(trial.kill_during(WAITED_FOR[number % len(WAITED_FOR)]))
            trial.finish()
            equal = "equal" if trial.result() == alone.result() else differences(trial, alone)
            for moment, lost in killed:
                rows.append(
                    {"run": number + 1, "killed in": moment, "steps lost": lost, "end": equal}
                )
                print(*rows[-1].values(), sep=" | ", flush=True)
    Console().print(table_of(rows))


def moments(draw: random.Random) -> list[int]:
    """Three steps at which a run is killed, in order."""
    return sorted(draw.sample(range(1, STEPS_AN_EPOCH * EPOCHS - 2), 3))


class Trial:
    """One run in a folder of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.folder, self.exports, self.step_file = home / "run", home / "export", home / "step"
        self.log = home / "log"
        self.step_file.write_text("0")

    def start(self) -> subprocess.Popen[bytes]:
        given = ["--config", "configs/base.yaml", "--run-dir", str(self.folder)]
        sets = [*SETTINGS, f"export.dir={self.exports}"]
        given += [part for one in sets for part in ("--set", one)]
        command = [sys.executable, "-m", "benchmarks.kill_and_resume", "--child", *given]
        environment = {**os.environ, STEP_FILE: str(self.step_file), "TF_CPP_MIN_LOG_LEVEL": "2"}
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def finish(self) -> None:
        if self.start().wait():
            raise RuntimeError(self.log.read_text()[-2000:])

    def steps(self) -> int:
        return int(self.step_file.read_text() or 0)

    def saved(self) -> int:
        names = [path.name for path in (self.folder / "checkpoints").glob("step-*")]
        return max((int(name.split("-")[1]) for name in names), default=0)

    def kill_at_step(self, step: int, part: float) -> tuple[str, int]:
        """Kills after a step and a part of a quarter of a second."""
        child = self.start()
        while self.steps() < step and child.poll() is None:
            time.sleep(0.002)
        time.sleep(part / 4)
        return self.kill(child, "")

    def kill_during(self, what: str) -> tuple[str, int]:
        """Kills while a checkpoint or an export is half-written, or the best model is measured."""
        child = self.start()
        while child.poll() is None and not self.is_at(what):
            time.sleep(0.0005)
        return self.kill(child, what)

    def is_at(self, what: str) -> bool:
        if what == "a checkpoint":
            return any((self.folder / "checkpoints").glob(".*-writing-*/arrays*"))
        if what == "the export":
            return any((self.exports / "base").glob(".*-writing-*/model/variables/*"))
        return (self.folder / "metrics.json").exists()

    def kill(self, child: subprocess.Popen[bytes], what: str) -> tuple[str, int]:
        child.send_signal(signal.SIGKILL)
        child.wait()
        step = self.steps()
        if any((self.folder / "checkpoints").glob(".*-writing-*")):
            what = "a checkpoint"
        moment = f"step {step}" + (f", {what}" if what else "")
        return moment, max(0, step - self.saved())

    def result(self) -> dict[str, Any]:
        """All that must be equal."""
        import keras

        import loc_keras  # noqa: F401 - registers the layers that the models are made of

        found: dict[str, Any] = {}
        for name in ("last.keras", "best.keras"):
            weights = keras.saving.load_model(self.folder / name).get_weights()
            found[name] = [weight.tobytes() for weight in weights]
        for name in ("history.csv", "history_steps.csv"):
            with (self.folder / name).open() as file:
                rows = list(csv.DictReader(file))
            found[name] = [
                {key: value for key, value in row.items() if key != "images_per_second"}
                for row in rows
            ]
        found["metrics.json"] = json.loads((self.folder / "metrics.json").read_text())
        found["versions"] = sorted(p.name for p in (self.exports / "base").glob("[0-9]*"))
        found["unfinished"] = (self.folder / "checkpoints").exists()
        return found


def differences(one: Trial, other: Trial) -> str:
    """Names of what is not equal."""
    first, second = one.result(), other.result()
    return "NOT equal: " + ", ".join(name for name in first if first[name] != second[name])


def train(arguments: list[str]) -> int:
    """Trains in this process, with a short body, and writes down each step that was taken."""
    from loc_keras import train as train_command
    from loc_keras.cli import runs
    from loc_keras.commands import train as train_work
    from loc_keras.models import assembly
    from loc_keras.training.callbacks import Position

    assembly.RESNETS = {"resnet18": ((1,), "basic", "")}
    runs.save_curves = runs.save_architecture = lambda *given, **more: None
    runs._draw_gallery = lambda *given: None
    train_work.board_from = lambda *given: []
    handle = os.open(os.environ[STEP_FILE], os.O_WRONLY)
    taken = Position.on_train_batch_end

    def noting(self: Position, batch: int, logs: dict[str, Any] | None = None) -> None:
        taken(self, batch, logs)
        os.pwrite(handle, f"{self.global_step:6d}".encode(), 0)

    Position.on_train_batch_end = noting
    return train_command.main(arguments)


if __name__ == "__main__":
    main()
