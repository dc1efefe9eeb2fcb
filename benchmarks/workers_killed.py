"""Kills a worker of a training by SIGKILL, starts all again, and compares the end.

    python -m benchmarks.workers_killed [--kills 4] [--workers 2] [--seed 0]

One training by `python -m loc_keras.train_workers` is left alone. Of each other one a worker, the
chief and the others in turn, is killed behind a random checkpoint, a random time later; the same
command with the same `--run-dir` goes on. What is compared with the training that was left alone
are the weights of last.keras and the losses of history.csv.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.common import markdown_of, table_of

EPOCHS, STEPS, EVERY = 3, 20, 6
CONFIG = f"""
data:
  source: {{format: digits, digits: {{canvas: 32}}}}
  split: {{val: 0.02, test: 0.01}}
model: {{backbone: {{width: 4, stem: small}}, bbox_head: spatial, class_head: pooled}}
train:
  {{epochs: {EPOCHS}, batch_size: 16, steps_per_epoch: {STEPS}, sync_batch_norm: true,
  checkpoint_every_steps: {EVERY}, deterministic: true, ema: 0.9}}
export: {{enabled: false}}
"""
LATEST = 0.3
"""Seconds after a checkpoint within which a worker is killed: some steps of this model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "tiny.yaml").write_text(CONFIG)
        finish(start(home, "alone", args.workers), home / "alone.log")
        for number in range(args.kills):
            run, index = f"run{number + 1}", number % args.workers
            after = draw.randrange(EVERY, EPOCHS * STEPS - EVERY, EVERY)
            moment = kill(start(home, run, args.workers), home / run, index, after, draw.random())
            finish(start(home, run, args.workers), home / f"{run}.log")
            row = {"killed": "chief" if index == 0 else f"worker {index}", **moment}
            rows.append(row | differences(home / "alone", home / run))
            print(*rows[-1].values(), sep=" | ", flush=True)
    Console().print(table_of(rows))
    print(markdown_of(rows))


def start(home: Path, run: str, workers: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "loc_keras.train_workers", "--workers", str(workers), "--"]
    given = ["--config", str(home / "tiny.yaml"), "--run-dir", str(home / run)]
    with (home / f"{run}.log").open("ab") as log:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        return subprocess.Popen([*command, *given], env=environment, stdout=log, stderr=log)


def finish(process: "subprocess.Popen[bytes]", log: Path) -> None:
    if process.wait():
        raise RuntimeError(log.read_text()[-3000:])


def kill(
    launcher: "subprocess.Popen[bytes]", run: Path, index: int, after: int, part: float
) -> dict[str, Any]:
    """Kills one worker some time after a checkpoint of step `after` or later."""
    while newest(run) < after and launcher.poll() is None:
        time.sleep(0.005)
    seen = newest(run)
    time.sleep(part * LATEST)
    listed = ["pgrep", "-P", str(launcher.pid)]
    children = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(children[index]), signal.SIGKILL)
    code = launcher.wait()
    if code != 128 + signal.SIGKILL:
        raise RuntimeError(f"the launcher ended with {code}")
    moment = f"{part * LATEST:.2f} s after the checkpoint of step {seen}"
    return {"when": moment, "goes on from step": newest(run)}


def newest(run: Path) -> int:
    names = [path.name for path in (run / "checkpoints").glob("step-*")]
    return max((int(name.split("-")[1]) for name in names), default=0)


def differences(one: Path, other: Path) -> dict[str, str]:
    """The largest differences of losses, relative, and of weights."""
    import keras

    import loc_keras  # noqa: F401 - registers the layers that the models are made of

    def weights(run: Path) -> np.ndarray:
        found = keras.saving.load_model(run / "last.keras").get_weights()
        return np.concatenate([weight.ravel() for weight in found])

    def losses(run: Path) -> np.ndarray:
        with (run / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        return np.array([[float(row[name]) for name in ("loss", "val_loss")] for row in rows])

    loss = float(np.abs(losses(other) / losses(one) - 1).max())
    weight = float(np.abs(weights(other) - weights(one)).max())
    return {
        "largest difference of a loss": f"{loss:.1e}",
        "of a weight": f"{weight:.1e}" if weight else "equal to the bit",
    }


if __name__ == "__main__":
    main()
