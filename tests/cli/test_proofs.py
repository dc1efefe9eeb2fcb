"""The figures that the configs promise, on 10,000 digits that no training saw. Minutes each.

    LOC_KERAS_DATA=FOLDER python -m pytest -m slow tests/cli/test_proofs.py

For the first two, the folder holds `seed_mnist.npz`: the digits and boxes of the task that the
project began from.
"""

import csv
import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def run(*arguments):
    subprocess.run([sys.executable, "-m", *arguments], check=True)


def figures_on_the_seed_test(tmp_path, optional_data, config, *changes):
    data = optional_data / "seed_mnist.npz"
    if not data.exists():
        pytest.skip("LOC_KERAS_DATA holds no seed_mnist.npz")
    own = [f"data.source.path={data}"]
    train = [f"export.dir={tmp_path / 'saved_models'}", *(c.format(data=data) for c in changes)]
    folder, out = tmp_path / "run", tmp_path / "evaluation"
    sets = [part for change in train for part in ("--set", change)]
    run("loc_keras.train", "--config", f"configs/{config}.yaml", "--run-dir", str(folder), *sets)
    sets = [part for change in own for part in ("--set", change)]
    run("loc_keras.evaluate", "--run", str(folder), *sets, "--out", str(out))
    found = json.loads((out / "metrics.json").read_text())
    assert found["images"] == 10_000
    return {name: figure["value"] for name, figure in found["figures"].items()}


def test_base_reaches_its_score(tmp_path, optional_data):
    found = figures_on_the_seed_test(tmp_path, optional_data, "base")
    assert found["class_accuracy"] >= 0.985
    assert found["mean_iou"] >= 0.96


def test_mnist_full_reaches_its_score(tmp_path, optional_data):
    found = figures_on_the_seed_test(
        tmp_path, optional_data, "mnist_full", "data.source.path={data}"
    )
    assert found["class_accuracy"] >= 0.993
    assert found["mean_iou"] >= 0.975
    assert found["top1_loc"] >= 0.993


def test_deterministic_runs_agree_to_the_bit(tmp_path):
    # In processes of their own, since determinism cannot be switched off again.
    histories = []
    for name in ("first", "second"):
        folder = tmp_path / name
        sets = ["train.deterministic=true", "train.epochs=2", "model.backbone.width=8"]
        sets += ["train.warmup_epochs=1", "export.enabled=false"]
        changes = [part for change in sets for part in ("--set", change)]
        config = ["--config", "configs/base.yaml", "--run-dir", str(folder)]
        run("loc_keras.train", *config, *changes)
        with (folder / "history.csv").open() as file:
            histories.append(list(csv.DictReader(file)))
    for first, second in zip(*histories, strict=True):
        for figure in set(first) - {"images_per_second"}:
            assert first[figure] == second[figure], figure


def test_killed_runs_end_as_one_that_was_left_alone():
    """Four kills of one run; `docs/experiments.md` has twenty."""
    command = [sys.executable, "-m", "benchmarks.kill_and_resume", "--runs", "1", "--seed", "1"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line for line in printed.splitlines() if line.startswith("1 | ")]
    assert len(lines) == 4
    assert all(line.endswith("| equal") for line in lines)
