"""Several devices and workers: what they need of Keras, and that they change no result."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import loc_keras
from benchmarks.workers_agree import compare, differences
from loc_keras.errors import TrainingError
from loc_keras.training import keras_multi_worker
from loc_keras.training.batch_statistics import AveragedStatistics, batch_norms, synchronize
from loc_keras.training.callbacks import save_model
from loc_keras.training.cluster import Cluster
from loc_keras.training.distribution import Distribution
from loc_keras.training.optimizer import make_optimizer

ROOT = Path(__file__).resolve().parents[1]


def test_this_keras_still_needs_the_mend():
    """Fails once Keras reduces scalars as scalars: `keras_multi_worker` can go then, see there."""
    assert keras_multi_worker.keras_needs_the_mend()


def test_mend_steps_aside_when_keras_is_mended(monkeypatch):
    from keras.src.backend.tensorflow import trainer

    def mended(values, strategy, reduction):
        return strategy.reduce("MEAN", values, axis=None)

    monkeypatch.setattr(trainer, "reduce_per_replica", mended)
    assert not keras_multi_worker.keras_needs_the_mend()
    made = []
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: made.append("plain"))
    # Its own class stands for the one that would need a cluster.
    monkeypatch.setattr(keras_multi_worker, "keras_needs_the_mend", lambda: False)
    keras_multi_worker.strategy_for_keras()
    assert made == ["plain"]


@pytest.mark.usefixtures("short_body")
def test_saved_model_has_plain_batch_normalisation(tmp_path):
    localizer = loc_keras.build_localizer(image_shape=(32, 32, 1), num_classes=2, width=4)
    # By its name, not by the class that the code under test looks for.
    named = [w.path for w in localizer.weights if w.path.endswith("moving_mean")]
    assert len(batch_norms(localizer)) == len(named) > 2
    synchronize(localizer, True)
    save_model(localizer, tmp_path / "model.keras")
    assert all(layer.synchronized for layer in batch_norms(localizer))
    opened = keras.saving.load_model(tmp_path / "model.keras")
    assert not any(layer.synchronized for layer in batch_norms(opened))


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_gradient_is_clipped_after_the_sum(name, monkeypatch):
    """Two devices that each bring half of (3, 4): its norm is 5, and 1 after clipping.

    Clipped before the sum, as Keras does, halves of norm 2.5 would come to (1.2, 1.6).
    """
    optimizer = make_optimizer(name, learning_rate=1.0, clip_norm=1.0)
    half = tf.constant([1.5, 2.0])
    monkeypatch.setattr("loc_keras.training.optimizer._several_replicas", lambda: True)
    monkeypatch.setattr(
        keras.optimizers.Adam,
        "_all_reduce_sum_gradients",
        lambda self, pairs: [(2 * gradient, variable) for gradient, variable in pairs],
    )
    (sent,) = optimizer._clip_gradients([half])
    np.testing.assert_array_equal(sent, half)
    ((clipped, _),) = optimizer._all_reduce_sum_gradients([(sent, None)])
    np.testing.assert_allclose(clipped, [0.6, 0.8], rtol=1e-6)


@pytest.fixture(scope="module")
def devices():
    """The first of two workers, whose strategy is that of several workers without a cluster."""
    return Distribution(keras_multi_worker.MendedMultiWorkerStrategy(), Cluster(("a:1", "b:1"), 0))


def test_strategy_of_workers_reduces_scalars_batches_and_statistics(devices):
    strategy = devices.strategy
    # As Keras asks: a measure along axis 0, and whole batches of integers for their shapes.
    assert float(strategy.reduce("MEAN", tf.constant(3.0), axis=0)) == 3.0
    batch = {"images": tf.zeros((2, 4, 4, 1), tf.uint8), "labels": tf.ones((2,), tf.int32)}
    assert strategy.reduce("MEAN", batch, axis=None)["images"].shape == (2, 4, 4, 1)
    # Other calls are as they were: the mean along the axis.
    assert float(strategy.reduce("MEAN", tf.constant([1.0, 2.0]), axis=0)) == 1.5
    devices.meet()
    with strategy.scope():
        layer = keras.layers.BatchNormalization(name="stage1_bn")
        model = keras.Sequential([keras.Input((2,)), layer])
    layer.moving_mean.assign([1.0, 2.0])
    AveragedStatistics(model, strategy).on_test_begin()
    np.testing.assert_array_equal(layer.moving_mean, [1.0, 2.0])


@pytest.mark.parametrize("kind", [tf.errors.UnavailableError, tf.errors.AbortedError])
def test_loss_of_a_worker_is_one_sentence(devices, kind):
    sentence = f"worker 0 of 2 lost its connection .*{kind.__name__}.* start them again"
    with pytest.raises(TrainingError, match=sentence), devices.watching("start them again."):
        raise kind(None, None, "Collective ops is aborted by: ...")
    with pytest.raises(kind), Distribution().watching("start them again."):
        raise kind(None, None, "not about workers")


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
def test_two_workers_leave_one_run(tmp_path):
    process = launch(tmp_path, epochs=2)
    told, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, told
    assert told.count("Epoch 1/2") == 1
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
