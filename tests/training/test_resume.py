"""A run that is interrupted comes to what it would have come to, to the bit."""

import csv
import json
import os
import random
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.training_examples import plan
from tensorflow.python.framework import config as tf_config

import loc_keras
from loc_keras.config.train import FineTuneConfig, SizeStageConfig
from loc_keras.errors import Interrupted
from loc_keras.training import checkpointing, precision
from loc_keras.training.callbacks import PatientStopping
from loc_keras.training.checkpoint_files import checkpoints_in, newest_checkpoint
from loc_keras.training.fit import SharedLocalizer, fit_localizer

SHAPE = (32, 32, 1)
STEPS = 3
PLAN = plan(
    epochs=3,
    steps_per_epoch=STEPS,
    val_images=16,
    learning_rate=1e-2,
    warmup_epochs=0.5,
    ema=0.8,
    gradient_clip_norm=1.0,
    validate_every_steps=2,
    early_stopping_patience=2,
    checkpoint_every_steps=2,
)


@pytest.fixture(scope="module", autouse=True)
def _to_the_bit():
    """One block, and operations that repeat to the bit, for this file alone."""
    from loc_keras.models import assembly

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1,), "basic", "")})
        precision.make_deterministic(0, True)
        yield
        tf_config.disable_op_determinism()


def squares(count, seed=0):
    generator = np.random.default_rng(seed)
    images = np.zeros((count, *SHAPE), np.uint8)
    labels = generator.integers(0, 3, count).astype(np.int32)
    corners = generator.integers(0, 20, (count, 2))
    for image, label, (x, y) in zip(images, labels, corners, strict=True):
        image[y : y + 12, x : x + 12] = 80 * (label + 1)
    boxes = np.concatenate([corners, corners + 12], axis=1).astype(np.float32) / 32
    return tf.data.Dataset.from_tensor_slices((images, {"softmax": labels, "bbox": boxes}))


def batches(step):
    """Seven batches, over and over, so that an epoch of three never sees the same ones."""
    return squares(56).batch(8).repeat().skip(step)


class At(keras.callbacks.Callback):
    """Does something after some step of a fit, passed-over steps not counted."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action = step, action

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.step:
            self.action()


class Death(Exception):
    """What a test dies of."""


def die():
    raise Death


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def fit(folder, *callbacks, plan=PLAN, train=batches, bbox_head="spatial", **changes):
    """One process, as it were: a fresh model from another seed, since nothing may depend on it."""
    folder.mkdir(exist_ok=True)
    keras.utils.set_random_seed(len(os.listdir(folder)))
    localizer = loc_keras.build_localizer(
        image_shape=SHAPE,
        num_classes=3,
        width=4,
        bbox_head=bbox_head,
        class_head="pooled",
        dropout=0.3,
        stochastic_depth=0.2,
    )
    result = fit_localizer(
        localizer,
        train=train,
        val=squares(16, seed=1).batch(8),
        plan=plan,
        folder=folder,
        extra_callbacks=callbacks,
        **changes,
    )
    return localizer, result


def rows(folder, name):
    if not (folder / name).exists():
        return None
    with (folder / name).open() as file:
        found = list(csv.DictReader(file))
    # Wall-clock time is the one figure that no state can bring back.
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in found]


def bits(model):
    return [weight.tobytes() for weight in model.get_weights()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was left alone."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, *fit(folder)


def same_end(one, other):
    """Compares two runs (folder, localizer, result) to the bit."""
    assert rows(one[0], "history.csv") == rows(other[0], "history.csv")
    assert rows(one[0], "history_steps.csv") == rows(other[0], "history_steps.csv")
    assert bits(one[1]) == bits(other[1])
    assert one[2].best_epoch == other[2].best_epoch
    for name in ("best.keras", "last.keras"):
        saved = [keras.saving.load_model(run[0] / name) for run in (one, other)]
        assert bits(saved[0]) == bits(saved[1]), name


def test_interrupted_in_an_epoch_it_ends_as_if_never(whole, tmp_path):
    folder = tmp_path / "run"
    # Killed in the second epoch, behind a validation within it; the newest checkpoint is of step 4.
    with pytest.raises(Death):
        fit(folder, At(5, die))
    assert [path.name for path in checkpoints_in(folder / "checkpoints")] == [
        "step-00000003-epoch-end",
        "step-00000004",
    ]
    same_end(whole, (folder, *fit(folder)))
    # Nothing is left to do: it only tells what came out.
    _, again = fit(folder, At(1, die))
    assert again.best_epoch == whole[2].best_epoch
    assert len(again.history) == len(whole[2].history)


@pytest.mark.slow
def test_stopped_before_an_epochs_validation_it_ends_as_if_never(whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Interrupted) as stop:
        fit(folder, At(6, terminate))
    assert stop.value.signal == signal.SIGTERM
    assert "after 1 epochs and 3 of 3 steps of the next" in str(stop.value)
    saved = newest_checkpoint(folder / "checkpoints", print)
    assert saved is not None
    assert (saved.path.name, saved.state["epoch"], saved.state["step"]) == ("step-00000006", 1, 3)
    same_end(whole, (folder, *fit(folder)))


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 3, 4])
def test_phases_of_fine_tuning_are_gone_on_with(tmp_path, step):
    """Before, at and behind the border between two phases, whose optimizers begin anew."""
    plan = PLAN.with_train(fine_tune=FineTuneConfig(freeze_epochs=1), validate_every_steps=None)
    left_alone = (tmp_path / "alone", *fit(tmp_path / "alone", plan=plan))
    folder = tmp_path / "run"

    class AtStep(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == step:
                raise Death

    with pytest.raises(Death):
        fit(folder, AtStep(), plan=plan)
    same_end(left_alone, (folder, *fit(folder, plan=plan)))


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 5])
def test_a_change_of_the_images_size_is_gone_on_with(tmp_path, step):
    """At 16 px for 4 of 9 steps, then at 24 px for 2: before, and behind, a first change."""
    sizes = (SizeStageConfig(share=0.44, side=16), SizeStageConfig(share=0.22, side=24))
    plan = PLAN.with_train(progressive_size=sizes, validate_every_steps=None)
    settings = {"plan": plan, "bbox_head": "gap_mlp"}
    left_alone = (tmp_path / "alone", *fit(tmp_path / "alone", **settings))
    with pytest.raises(Death):
        fit(tmp_path / "run", At(step, die), **settings)
    same_end(left_alone, (tmp_path / "run", *fit(tmp_path / "run", **settings)))


@pytest.mark.slow
def test_loss_scale_comes_back(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    plan = PLAN.with_train(validate_every_steps=None)
    left_alone = (tmp_path / "alone", *fit(tmp_path / "alone", plan=plan))
    with pytest.raises(Death):
        fit(tmp_path / "run", At(5, die), plan=plan)
    same_end(left_alone, (tmp_path / "run", *fit(tmp_path / "run", plan=plan)))


@pytest.mark.slow
def test_a_failure_that_passes_costs_half_the_rate_once(tmp_path):
    """The first stream has a box that is no number at step 5; the one after going back has none."""
    streams = []

    def train(step):
        streams.append(step)
        if len(streams) > 1:
            return batches(step)
        bad = batches(4).take(1).map(lambda x, y: (x, {**y, "bbox": y["bbox"] * float("nan")}))
        return batches(0).take(4).concatenate(bad).concatenate(batches(5))

    said = []
    plan = PLAN.with_train(schedule="constant", warmup_epochs=0, validate_every_steps=None)
    _, found = fit(tmp_path / "run", plan=plan, train=train, say=said.append)
    assert streams == [0, 4]
    assert "not finite at step 5 (epoch 2, step 2 of the epoch; bbox_loss)" in said[0]
    rates = [row["learning_rate"] for row in found.history]
    assert rates == pytest.approx([1e-2, 5e-3, 5e-3])
    saved = newest_checkpoint(tmp_path / "run" / "checkpoints", print)
    assert saved is not None
    assert saved.state["rate"] == 0.5


@pytest.mark.whole
def test_workers_and_buffers_do_not_change_the_history(whole, tmp_path):
    """Threads of the input and depth of its buffer change when batches come, never which."""

    def hurried(step):
        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        options.threading.max_intra_op_parallelism = 1
        order = tf.data.Dataset.range(7).map(
            lambda place: place, num_parallel_calls=4, deterministic=True
        )
        stacked = squares(56).batch(8).batch(7).get_single_element()
        images, targets = stacked
        picked = (
            order.repeat()
            .skip(step)
            .map(
                lambda place: (
                    images[place],
                    {name: value[place] for name, value in targets.items()},
                ),
                num_parallel_calls=3,
            )
        )
        return picked.prefetch(5).with_options(options)

    _, found = fit(tmp_path / "run", train=hurried)
    assert rows(tmp_path / "run", "history.csv") == rows(whole[0], "history.csv")
    assert found.best_epoch == whole[2].best_epoch


def test_patience_survives():
    stopping = PatientStopping("val_score", 3, print)
    stopping.on_train_begin()
    stopping.best, stopping.wait, stopping.best_epoch = np.float32(0.5), 2, 4
    state = json.loads(json.dumps(stopping.state()))
    other = PatientStopping("val_score", 3, print)
    other.on_train_begin()
    other.restore(state)
    assert (other.best, other.wait, other.best_epoch) == (0.5, 2, 4)


def test_random_generators_come_back():
    def draws():
        return (
            random.random(),
            random.gauss(0, 1),
            np.random.rand(),
            np.random.normal(),
            tf.random.get_global_generator().uniform([2]).numpy().tolist(),
        )

    # One number of a pair is kept by the normal generators: that is state as well.
    random.gauss(0, 1)
    np.random.normal()
    state = json.loads(json.dumps(checkpointing.random_state()))
    first = draws()
    assert draws() != first
    checkpointing.restore_random(state)
    assert draws() == first


@pytest.mark.whole
@pytest.mark.parametrize("seeds", [(1, 2), (1, 2, 1)])
def test_trainings_that_share_what_was_traced_come_to_what_others_come_to(tmp_path, seeds):
    """One after another, of two seeds, pixels and images, against some that share nothing.

    The first of all is compared where it comes again.
    """
    fine_tune = FineTuneConfig(freeze_epochs=1, layer_decay=0.5)
    short = plan(
        loss={"balance": "uncertainty"}, epochs=3, steps_per_epoch=2, val_images=16,
        learning_rate=1e-2, warmup_epochs=0.5, ema=0.8, early_stopping_patience=2,
        fine_tune=fine_tune,
    )  # fmt: skip

    def built(seed):
        keras.utils.set_random_seed(seed)
        return loc_keras.build_localizer(
            image_shape=SHAPE, num_classes=3, width=4, class_head="pooled", dropout=0.3,
            stochastic_depth=0.2, pixel_mean=[20.0 * seed], pixel_variance=[3000.0 * seed],
        )  # fmt: skip

    def trained(localizer, folder, seed, **more):
        folder.mkdir()
        fit_localizer(
            localizer,
            train=lambda step: squares(64, seed).batch(8).repeat().skip(step),
            val=squares(16, seed=9).batch(8),
            plan=short,
            folder=folder,
            **more,
        )
        saved = keras.saving.load_model(folder / "best.keras")
        return bits(localizer), bits(saved), answers(saved), rows(folder, "history.csv")

    def answers(localizer):
        images = next(iter(squares(8).batch(8)))[0]
        return {name: np.asarray(value).tobytes() for name, value in localizer(images).items()}

    alone = {seed: trained(built(seed), tmp_path / f"{seed} alone", seed) for seed in seeds[1:]}
    shared = SharedLocalizer(built(5))
    answer = tf.function(lambda images: shared.localizer(images, training=False))
    for seed in seeds:
        folder = tmp_path / f"{seed}-{len(os.listdir(tmp_path))}"
        shared.become(built(seed))
        found = trained(shared.localizer, folder, seed, compiled=shared)
        assert found == alone.get(seed, found)
        # What was traced first, before any of these values were there, answers as the newest.
        saved = keras.saving.load_model(folder / "best.keras")
        shared.become(saved)
        images = next(iter(squares(8).batch(8)))[0]
        for name, value in answer(images).items():
            np.testing.assert_array_equal(value, saved(images)[name])
