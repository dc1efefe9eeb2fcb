"""Whole trainings with several workers and devices: equal, killed and gone on with."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import workers_killed
from benchmarks.workers_agree import compare, differences

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_losses_and_weights():
    found = compare(("1", "2", "4", "mirrored"))
    for case, apart in differences(found).items():
        assert apart["loss"] < 1e-4, case
        # Adam moves a weight by up to the learning rate, 1e-3, in each of 8 steps.
        assert apart["weight_99"] < 1e-4, case
        assert apart["weight"] < 4e-3, case
    # The proof can fail: statistics of each share are another training.
    other = differences({"1": found["1"], **compare(("2",), sync=False)})
    assert other["2"]["loss"] > 1e-3


CONFIG = """
data:
  source: {{format: digits, digits: {{canvas: 32}}}}
  split: {{val: 0.02, test: 0.01}}
model: {{backbone: {{width: 4, stem: small}}, bbox_head: spatial, class_head: pooled}}
train: {{epochs: {epochs}, batch_size: 16, steps_per_epoch: 4, sync_batch_norm: true}}
export: {{enabled: false}}
"""


def launch(tmp_path, epochs):
    (tmp_path / "tiny.yaml").write_text(CONFIG.format(epochs=epochs))
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "loc_keras.train_workers", "--workers", "2", "--"]
    return subprocess.Popen(
        [*command, "--config", str(tmp_path / "tiny.yaml"), "--run-dir", str(tmp_path / "run")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_lost_worker_costs_nothing_but_time(tmp_path, index):
    """Killed behind a checkpoint in the second of 3 epochs; then all are started again."""
    (tmp_path / "tiny.yaml").write_text(workers_killed.CONFIG)
    alone = workers_killed.start(tmp_path, "alone", 2)
    workers_killed.finish(alone, tmp_path / "alone.log")
    killed = workers_killed.start(tmp_path, "run", 2)
    moment = workers_killed.kill(killed, tmp_path / "run", index, after=24, part=0.5)
    assert moment["goes on from step"] >= 24
    workers_killed.finish(workers_killed.start(tmp_path, "run", 2), tmp_path / "run.log")
    assert "going on from step-000000" in (tmp_path / "run.log").read_text()
    found = workers_killed.differences(tmp_path / "alone", tmp_path / "run")
    assert float(found["largest difference of a loss"]) < 1e-5
    assert found["of a weight"] == "equal to the bit" or float(found["of a weight"]) < 4e-3


MIRRORED = """
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

(processor,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
from loc_keras.config.train import LossConfig, TrainConfig
from loc_keras.data.digits_data import build_digits_data
from loc_keras.models import assembly
from loc_keras.training import precision
from loc_keras.training.distribution import distribution
from loc_keras.training.fit import fit_localizer
from loc_keras.training.model import FitPlan

devices = distribution("mirrored", batch_size=16)
assert devices.replicas == 2
precision.make_deterministic(0, True)
assembly.RESNETS = {"resnet18": ((1,), "basic", "")}
data = build_digits_data(batch_size=16, limit=70, canvas=32)


class Death(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) == 7:
            raise KeyboardInterrupt


def fit(folder, *callbacks):
    folder.mkdir(exist_ok=True)
    # Without synchronized statistics, so that those of each device must be made equal.
    train = TrainConfig(epochs=3, steps_per_epoch=4, batch_size=16, weight_decay=0,
                        warmup_epochs=0, ema=0.9, checkpoint_every_steps=3)
    plan = FitPlan.for_data(train, LossConfig(), data)
    with devices.scope():
        localizer = assembly.build_localizer(
            image_shape=data.image_shape, num_classes=10, width=4, stem="small",
            bbox_head="spatial", class_head="pooled",
        )
    fit_localizer(
        localizer, train=data.train, val=data.val, val_share=data.val_share, plan=plan,
        folder=folder, devices=devices, extra_callbacks=callbacks,
    )
    return localizer.get_weights()


home = Path(sys.argv[1])
keras.utils.set_random_seed(0)
alone = fit(home / "alone")
keras.utils.set_random_seed(0)
try:
    fit(home / "run", Death())
except KeyboardInterrupt:
    pass
keras.utils.set_random_seed(5)
resumed = fit(home / "run")
print("apart", max(float(np.abs(a - b).max()) for a, b in zip(alone, resumed)))
"""


@pytest.mark.slow
def test_two_devices_of_one_process_go_on(tmp_path):
    command = [sys.executable, "-c", MIRRORED, str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "going on from step-00000006" in found.stdout
    assert float(found.stdout.split("apart ")[1]) < 1e-6


@pytest.mark.slow
def test_two_workers_leave_one_run(tmp_path):
    process = launch(tmp_path, epochs=2)
    told, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, told
    assert told.count(" 1/2 ") == 1
    assert "2 devices in 2 workers" in told
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for name in ("best.keras", "last.keras", "metrics.json", "model_card.json"):
        assert (tmp_path / "run" / name).exists()
    # What the other worker wrote for Keras is gone.
    assert list((tmp_path / "tmp").glob("loc_keras-worker-*")) == []
    assert {path.name for path in tmp_path.iterdir()} == {"run", "tiny.yaml", "tmp"}


@pytest.mark.slow
def test_lost_worker_ends_the_training_with_a_sentence(tmp_path):
    process = launch(tmp_path, epochs=1000)
    history = tmp_path / "run" / "history.csv"
    began = time.monotonic()
    while not history.exists() and time.monotonic() - began < 1800:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.5)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    )
    workers = [int(line) for line in children.stdout.split()]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGKILL
    assert "worker 1 of 2 ended with code -9" in told
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
