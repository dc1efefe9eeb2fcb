"""Searches settings of a config with Optuna, by the public command line alone.

    python -m pip install optuna
    python examples/tune_with_optuna.py --config configs/base.yaml --out tuning --trials 12 \
        --set train.epochs=6

Every trial is a training in a folder of its own below `--out`; a trial whose validation score is
behind the median of the others at the same epoch is stopped early. The study lies in
`--out/study.db`: the same command again goes on with it. Settings are chosen by the validation
images, so the test figures of the best run are still those of images that chose nothing.
"""

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna

SCORE = "val_score"  # Class accuracy times mean IoU of the validation images.
POLL_S = 1.0


def suggested(trial: optuna.Trial) -> dict[str, float]:
    """The settings that are searched: put your own here, by their keys in the config."""
    return {
        "train.learning_rate": trial.suggest_float("train.learning_rate", 5e-4, 2e-2, log=True),
        "train.weight_decay": trial.suggest_float("train.weight_decay", 1e-4, 0.2, log=True),
        "model.dropout": trial.suggest_float("model.dropout", 0.0, 0.5, step=0.05),
        "loss.distribution_weight": trial.suggest_float(
            "loss.distribution_weight", 0.05, 1.0, log=True
        ),
    }


def scores(history: Path) -> list[float]:
    """The validation score of each epoch that is finished."""
    if not history.exists():
        return []
    with history.open(newline="") as file:
        return [float(row[SCORE]) for row in csv.DictReader(file)]


def watched(training: subprocess.Popen, history: Path) -> Iterator[tuple[int, float]]:
    """Epochs and their scores, as they come, until the training ends."""
    told = 0
    running = True
    while running:
        running = training.poll() is None  # Looked at before the file, so that no row is missed.
        found = scores(history)
        yield from enumerate(found[told:], start=told)
        told = len(found)
        if running:
            time.sleep(POLL_S)


def run_trial(trial: optuna.Trial, config: Path, out: Path, fixed: list[str]) -> float:
    """Trains once; gives the best score, or stops a training that falls behind."""
    folder = out / f"trial-{trial.number:03d}"
    chosen = [f"{key}={value:.6g}" for key, value in suggested(trial).items()]
    settings = [f"--set={one}" for one in ("export.enabled=false", *fixed, *chosen)]
    command = [sys.executable, "-m", "loc_keras.train", "--config", str(config)]
    with (out / f"trial-{trial.number:03d}.log").open("w") as log:
        training = subprocess.Popen(
            [*command, "--run-dir", str(folder), *settings], stdout=log, stderr=log
        )
        try:
            for epoch, score in watched(training, folder / "history.csv"):
                trial.report(score, epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
        finally:
            if training.poll() is None:
                training.kill()
            training.wait()
    if training.returncode != 0:
        raise RuntimeError(f"trial {trial.number} failed; {log.name} says why")
    return max(scores(folder / "history.csv"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--trials", type=int, default=20, help="trainings in this call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="settings of every trial")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="loc_keras",
        storage=f"sqlite:///{args.out / 'study.db'}",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=args.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )
    study.optimize(
        lambda trial: run_trial(trial, args.config, args.out, args.set),
        n_trials=args.trials,
        catch=(RuntimeError,),
    )
    best = study.best_trial
    print(f"best of {len(study.trials)}: trial {best.number}, {SCORE} {best.value:.4f}")
    print(" ".join(f"--set {key}={value:.6g}" for key, value in best.params.items()))


if __name__ == "__main__":
    main()
