"""Fine-tuning: what rests, what moves and how fast, and that the stream goes on between phases."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import training_examples

import loc_keras
from loc_keras.config.train import FineTuneConfig, TrainConfig
from loc_keras.models.body import body_groups, body_layers
from loc_keras.training.fit import fit_localizer
from loc_keras.training.model import (
    Phase,
    compiled_training_model,
    rate_factors,
    set_trainable,
    small_batch_warning,
    training_phases,
)
from loc_keras.training.optimizer import Adam, make_optimizer

SHAPE = (32, 32, 1)


def tiny(bbox_head="spatial", class_head="pooled"):
    return loc_keras.build_localizer(
        image_shape=SHAPE, num_classes=3, width=4, bbox_head=bbox_head, class_head=class_head
    )


def noise(count=24, batch=8, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 255, (count, *SHAPE)).astype(np.uint8)
    corners = np.sort(generator.random((count, 2, 2)), axis=1).reshape(count, 4)
    targets = {
        "softmax": generator.integers(0, 3, count).astype(np.int32),
        "bbox": corners.astype(np.float32),
    }
    return tf.data.Dataset.from_tensor_slices((images, targets)).batch(batch)


def plan(**changes):
    settings = {"epochs": 3, "steps_per_epoch": 2, "learning_rate": 1e-2}
    return training_examples.plan(**{**settings, **changes})


def values(layers):
    return [w.numpy() for layer in layers for w in layer.weights]


def is_norm(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def test_groups_are_stem_and_stages_and_hold_each_weight_of_the_body_once():
    localizer = tiny("distribution", "region")
    groups = body_groups(localizer)
    assert [group[0].name.split("_")[0] for group in groups] == [
        *("stem", "stage1", "stage2", "stage3", "stage4")
    ]
    # A ResNet18 of one input channel and width 4: torchvision's 11,176,512 parameters are 64/4
    # squared times more but for the first layer and the normalisations, so they are counted here:
    # stem 7*7*1*4 + 2*4, stages of two blocks each with their 3x3, 1x1 and normalisation weights.
    stem = 49 * 4 + 8
    stages = 0
    for before, c in ((4, 4), (4, 8), (8, 16), (16, 32)):
        convolutions = 9 * before * c + 3 * 9 * c * c + (before * c if before != c else 0)
        stages += convolutions + (5 if before != c else 4) * 2 * c
    counted = [w for layer in body_layers(localizer) for w in layer.trainable_weights]
    assert len({id(w) for w in counted}) == len(counted)
    assert sum(int(np.prod(w.shape)) for w in counted) == stem + stages


def test_phases_cover_every_epoch_once():
    assert training_phases(5, 0) == [Phase(0, 5, body_learns=True)]
    assert training_phases(5, 2) == [
        Phase(0, 2, body_learns=False),
        Phase(2, 5, body_learns=True),
    ]
    assert training_phases(5, 5) == [Phase(0, 5, body_learns=False)]


@pytest.mark.usefixtures("short_body")
def test_resting_body_keeps_weights_and_statistics_while_heads_learn(tmp_path):
    localizer = tiny("distribution")
    body = body_layers(localizer)
    heads = [layer for layer in localizer.layers if layer not in body]
    before, heads_before = values(body), values(heads)
    fit_localizer(
        localizer,
        train=lambda step: noise().repeat(),
        val=noise(8),
        plan=plan(fine_tune=FineTuneConfig(freeze_epochs=3)),
        folder=tmp_path,
    )
    for old, new in zip(before, values(body), strict=True):
        np.testing.assert_array_equal(old, new)
    moved = [np.any(a != b) for a, b in zip(heads_before, values(heads), strict=True)]
    assert sum(moved) > len(moved) / 2


@pytest.mark.whole
def test_frozen_normalisation_stays_while_convolutions_learn(tmp_path):
    localizer = tiny()
    norms = [layer for layer in body_layers(localizer) if is_norm(layer)]
    convolutions = [
        layer for layer in body_layers(localizer) if isinstance(layer, keras.layers.Conv2D)
    ]
    assert len(norms) == len(convolutions) == 20  # ResNet18: 17 on the way, 3 shortcuts.
    before, kernels = values(norms), values(convolutions)
    result = fit_localizer(
        localizer,
        train=lambda step: noise().repeat(),
        val=noise(8),
        plan=plan(fine_tune=FineTuneConfig(freeze_epochs=1, batch_norm="frozen")),
        folder=tmp_path,
    )
    for old, new in zip(before, values(norms), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(np.any(a != b) for a, b in zip(kernels, values(convolutions), strict=True))
    # Whoever trains the saved model on finds nothing frozen in it.
    assert not any(norm.trainable for norm in norms)
    saved = keras.saving.load_model(result.last_path)
    assert len(saved.trainable_weights) == len(tiny().trainable_weights)


@pytest.mark.whole
def test_second_phase_goes_on_with_the_stream_the_history_and_the_moving_average(tmp_path):
    asked = []

    def train(step):
        asked.append(step)
        return noise().repeat()

    result = fit_localizer(
        tiny(),
        train=train,
        val=noise(8),
        plan=plan(ema=0.9, early_stopping_patience=9, fine_tune=FineTuneConfig(freeze_epochs=1)),
        folder=tmp_path,
    )
    assert asked == [0, 2]  # One epoch of two steps comes before the second phase.
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert keras.saving.load_model(result.last_path).count_params() > 0


def test_rates_fall_towards_the_pixels_and_heads_keep_theirs():
    localizer = tiny()
    set_trainable(localizer, body_learns=True, batch_norm="train")
    factors = rate_factors(localizer, FineTuneConfig(body_rate=0.5, layer_decay=0.1))
    by_hand = {"stem": 5e-5, "stage1": 5e-4, "stage2": 5e-3, "stage3": 0.05, "stage4": 0.5}
    for path, factor in factors.items():
        assert factor == pytest.approx(by_hand[path.split("_")[0]])
    assert len(factors) == len([w for la in body_layers(localizer) for w in la.trainable_weights])
    assert rate_factors(localizer, FineTuneConfig()) == {}


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_a_variable_with_a_factor_moves_as_alone_at_that_rate(name):
    """Against Keras itself: two optimizers with one rate each do what one with factors does."""
    start, gradient = np.array([1.0, -2.0], "float32"), np.array([0.3, 0.1], "float32")

    def moved(rate, factors):
        variable = keras.Variable(start, name="kernel")
        given = {variable.path: 0.25} if factors else None
        optimizer = make_optimizer(
            TrainConfig(optimizer=name, learning_rate=rate, weight_decay=0.1), rate_factors=given
        )
        for _ in range(3):
            optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        return keras.ops.convert_to_numpy(variable)

    np.testing.assert_allclose(moved(0.1, True), moved(0.025, False), rtol=1e-6)
    assert np.abs(moved(0.1, True) - moved(0.1, False)).max() > 1e-3


def test_biases_and_scales_do_not_decay():
    kept = keras.Variable(np.ones(2, "float32"), name="bias")
    shrunk = keras.Variable(np.ones(2, "float32"), name="kernel")
    optimizer = Adam(0.5, decay=0.1)
    zero = keras.ops.zeros(2)
    optimizer.apply([zero, zero], [kept, shrunk])
    np.testing.assert_array_equal(kept, [1, 1])
    np.testing.assert_allclose(shrunk, [0.95, 0.95])  # 1 - 0.5 * 0.1


def test_optimizer_with_rates_is_rebuilt_from_its_config():
    optimizer = make_optimizer(
        TrainConfig(learning_rate=0.1, weight_decay=0.2), rate_factors={"a": 0.5}
    )
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.rate_factors == {"a": 0.5} and again.decay == 0.2


def test_plain_plan_uses_the_plain_optimizer():
    model = compiled_training_model(tiny(), plan())
    # Keras's AdamW, with none of the rates by variable; on one device it steps as Keras has it.
    assert isinstance(model.optimizer, keras.optimizers.AdamW)
    assert not isinstance(model.optimizer, Adam)


def test_small_batches_are_told_where_statistics_move():
    assert "train.batch_size 8" in str(small_batch_warning(TrainConfig(batch_size=8)))
    assert small_batch_warning(TrainConfig(batch_size=16)) is None
    frozen = FineTuneConfig(batch_norm="frozen")
    assert small_batch_warning(TrainConfig(batch_size=8, fine_tune=frozen)) is None


def test_a_body_of_another_make_rests_and_slows_down_as_well():
    localizer = loc_keras.build_localizer(
        image_shape=(64, 64, 3), num_classes=2, backbone="applications/MobileNetV3Small"
    )
    body = localizer.get_layer("body")
    # Keras's own count of the network without its top.
    assert sum(int(np.prod(w.shape)) for w in body.weights) == 939_120
    everything = len(localizer.trainable_weights)
    learns = len(body.trainable_weights)
    factors = rate_factors(localizer, FineTuneConfig(body_rate=0.5, layer_decay=0.5))
    assert len(factors) == learns
    # Five shrinkings: 0.5 in the last group, halved four times towards the pixels.
    assert sorted(set(factors.values())) == [0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5]
    set_trainable(localizer, body_learns=False, batch_norm="train")
    assert len(body.trainable_weights) == 0
    assert len(localizer.trainable_weights) == everything - learns
    set_trainable(localizer, body_learns=True, batch_norm="frozen")
    frozen = 2 * sum(is_norm(layer) for layer in body.layers)  # A scale and an offset each.
    assert len(body.trainable_weights) == learns - frozen
