"""Several devices and workers: what they need of Keras, and that they change no result."""

import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import loc_keras
from loc_keras.config.train import TrainConfig
from loc_keras.errors import Interrupted, TrainingError
from loc_keras.training import distribution
from loc_keras.training.batch_norm import AveragedStatistics, batch_norms, synchronize
from loc_keras.training.callbacks import save_model
from loc_keras.training.checkpoint_files import Checkpoint, checkpoints_in
from loc_keras.training.checkpointing import Snapshot, checkpoint_of_chief, checkpoint_writer
from loc_keras.training.cluster import Cluster
from loc_keras.training.distribution import Distribution, refuse_for_devices
from loc_keras.training.optimizer import make_optimizer
from loc_keras.training.run_folder import Interruption


class Recording(tf.distribute.MultiWorkerMirroredStrategy):
    """What Keras takes for a strategy of several workers, without a cluster; notes the axes."""

    extended = type("Extended", (), {"_in_multi_worker_mode": staticmethod(lambda: True)})()

    def __init__(self):
        self.axes = []

    def reduce(self, reduce_op, value, axis=None):
        self.axes.append(axis)
        return value


def test_this_keras_still_needs_the_patch():
    """Fails once Keras reduces scalars as scalars: the patched strategy can go then."""
    from keras.src.backend.tensorflow.trainer import reduce_per_replica

    strategy = Recording()
    reduce_per_replica(1.0, strategy, "mean")
    assert strategy.axes == [0]


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
    optimizer = make_optimizer(
        TrainConfig(optimizer=name, learning_rate=1.0, gradient_clip_norm=1.0)
    )
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
    return Distribution(distribution.PatchedMultiWorkerStrategy(), Cluster(("a:1", "b:1"), 0))


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


def test_workers_get_what_the_chief_tells(devices):
    # Any number of bytes, also where four of them are no whole number of words.
    for content in (b"", b"a", b"four", bytes(range(256)) * 3 + b"\xff"):
        assert devices.from_chief(content) == content
    assert devices.on_any(True) is True
    assert devices.on_any(False) is False
    # One process alone asks nobody.
    assert Distribution().from_chief(b"x") == b"x"
    assert Distribution().on_any(True) is True


def test_a_checkpoint_reaches_all_workers_whole(devices, tmp_path):
    arrays = {
        "model/0000/kernel": np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32),
        "optimizer/0000/step": np.array(2**40 + 1),
        "model/0001/seed": np.array([1, 2**32 - 1], np.uint32),
    }
    saved = Checkpoint(tmp_path, arrays, {"epoch": 3, "rate": 0.5, "callbacks": {"é": [None]}})
    found = checkpoint_of_chief(devices, saved)
    assert found.path == tmp_path
    assert found.state == saved.state
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert checkpoint_of_chief(devices, None) is None


def test_processes_that_stop_together_wait_until_they_agreed():
    one = Interruption("go on.", together=True)
    one.asked = signal.SIGINT
    assert one.due is None
    one.leave("not yet")
    one.agree(False)
    assert one.due is None
    one.agree(True)
    assert one.due == signal.SIGINT
    other = Interruption("go on.", together=True)
    other.agree(True)
    with pytest.raises(Interrupted, match=r"saved; go on\.") as stop:
        other.leave("saved")
    # No signal came to it: it ends as if by the one that systems send.
    assert stop.value.signal == signal.SIGTERM


def test_only_the_chief_writes_checkpoints(devices, tmp_path):
    snapshot = Snapshot("step-00000001", {"model/0000/a": np.zeros(2)}, {}, [])
    for index, written in ((0, ["step-00000001"]), (1, [])):
        folder = tmp_path / str(index)
        own = Distribution(devices.strategy, Cluster(("a:1", "b:1"), index))
        writer = checkpoint_writer(own, folder, keep=2)
        writer.submit(snapshot)
        writer.wait()
        assert [path.name for path in checkpoints_in(folder)] == written


@pytest.mark.parametrize(
    ("change", "words"),
    [({"accumulate": 2}, "train.accumulate 2 .* set it to 1"), ({"xla": "on"}, "xla: on")],
)
def test_settings_that_fail_on_several_devices_are_refused(devices, change, words):
    train = TrainConfig(**change)
    with pytest.raises(TrainingError, match=words):
        refuse_for_devices(devices, train)
    refuse_for_devices(Distribution(), train)
    refuse_for_devices(devices, TrainConfig())


@pytest.mark.parametrize("kind", [tf.errors.UnavailableError, tf.errors.AbortedError])
def test_loss_of_a_worker_is_one_sentence(devices, kind):
    sentence = f"worker 0 of 2 lost its connection .*{kind.__name__}.* start them again"
    with pytest.raises(TrainingError, match=sentence), devices.watching("start them again."):
        raise kind(None, None, "Collective ops is aborted by: ...")
    with pytest.raises(kind), Distribution().watching("start them again."):
        raise kind(None, None, "not about workers")
