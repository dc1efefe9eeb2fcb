"""The kernel of batch normalisation against Keras's own layer, and against NumPy."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.training_examples import plan

from loc_keras.models.assembly import build_localizer
from loc_keras.training.batch_norm import FusedCall, batch_norms, can_fuse, fuse_batch_norms

SHAPE = (4, 5, 6, 3)
# Half precision keeps 11 and 8 bits: a unit in the last place of values up to 8, and some more. In
# float32 sums of 120 values are added in another order.
TOLERANCE = {"float32": 1e-5, "mixed_float16": 8e-3, "mixed_bfloat16": 6e-2}


def layer_of(fused: bool, shape: tuple[int, ...] = SHAPE, **options: Any) -> Any:
    """A layer with weights that are not those of its start, and a model around it."""
    inputs = keras.Input(shape[1:])
    layer = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **options)
    model = keras.Model(inputs, layer(inputs))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.get_weights()])
    if fused:
        assert fuse_batch_norms(model) == 1
        assert isinstance(layer.call, FusedCall)
    return layer, model


def maps(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    scale = np.array([1.0, 3.0, 0.1], np.float32)
    return np.random.default_rng(0).normal(2.0, scale, shape).astype(np.float32)


def step(model: keras.Model, layer: Any, images: np.ndarray) -> list[np.ndarray]:
    """Output, gradients of input, scale and offset, and the moved statistics."""
    x = tf.convert_to_tensor(images)
    towards = tf.constant(np.random.default_rng(2).normal(size=images.shape), tf.float32)

    @tf.function
    def traced() -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(model(x, training=True), tf.float32)
            loss = tf.reduce_sum(y * towards)
        return [y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])]

    found = [one.numpy() for one in traced()]
    return [*found, *(one.numpy() for one in (layer.moving_mean, layer.moving_variance))]


@pytest.mark.parametrize("policy", list(TOLERANCE))
def test_it_is_the_layer_of_keras_but_for_rounding(policy: str) -> None:
    keras.mixed_precision.set_global_policy(policy)
    expected = step(*layer_of(False)[::-1], maps())
    found = step(*layer_of(True)[::-1], maps())
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, float(np.abs(other).max()))
        assert one == pytest.approx(other, abs=TOLERANCE[policy] * scale)


def test_output_and_statistics_are_those_of_the_paper() -> None:
    """Ioffe and Szegedy 2015, algorithm 1, in NumPy's float64; variances divided by n."""
    layer, model = layer_of(True)
    gamma, beta, moving_mean, moving_variance = (np.float64(w) for w in layer.get_weights())
    x = np.float64(maps())
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
    assert model(maps(), training=True).numpy() == pytest.approx(expected, abs=1e-5)
    found_mean, found_variance = layer.get_weights()[2:]
    assert found_mean == pytest.approx(0.9 * moving_mean + 0.1 * mean, rel=1e-6)
    assert found_variance == pytest.approx(0.9 * moving_variance + 0.1 * variance, rel=1e-6)


def test_a_single_value_has_no_variance() -> None:
    layer, model = layer_of(True, (1, 1, 1, 3))
    before = layer.get_weights()[3]
    output = model(np.ones((1, 1, 1, 3), np.float32), training=True).numpy()
    assert output.ravel() == pytest.approx(layer.beta.numpy(), abs=1e-6)
    assert layer.get_weights()[3] == pytest.approx(0.9 * before, rel=1e-6)


@pytest.mark.parametrize("frozen", [False, True])
def test_without_learning_the_statistics_stand(frozen: bool) -> None:
    layer, model = layer_of(True)
    plain, plain_model = layer_of(False)
    layer.trainable = plain.trainable = not frozen
    before = layer.get_weights()
    answers = [one(maps(), training=frozen).numpy() for one in (model, plain_model)]
    assert np.array_equal(*answers)
    for one, other in zip(layer.get_weights(), before, strict=True):
        assert np.array_equal(one, other)


def test_synchronized_statistics_stay_with_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, model = layer_of(True)
    layer.synchronized = True
    asked: list[Any] = []
    monkeypatch.setattr(type(layer), "_moments", lambda self, x, mask: asked.append(x) or (0, 1))
    model(maps(), training=True)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("options", "shape"),
    [({"axis": 1}, SHAPE), ({"scale": False}, SHAPE), ({"center": False}, SHAPE)],
)
def test_others_are_left_alone(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    layer, model = layer_of(False, shape, **options)
    assert not can_fuse(layer)
    assert fuse_batch_norms(model) == 0


def test_vectors_are_left_to_keras() -> None:
    vectors = maps()[:, 0, 0]
    answers = [layer_of(fused, vectors.shape)[1](vectors, training=True) for fused in (True, False)]
    assert np.array_equal(*answers)


def test_what_is_saved_is_a_plain_layer(tmp_path: Path) -> None:
    localizer = build_localizer(image_shape=(32, 32, 1), num_classes=3, width=4, stem="small")
    before = localizer.to_json()
    assert fuse_batch_norms(localizer) == len(batch_norms(localizer)) > 20
    assert fuse_batch_norms(localizer) == len(batch_norms(localizer))
    assert localizer.to_json() == before
    localizer.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras")
    assert not any(isinstance(layer.call, FusedCall) for layer in batch_norms(opened))
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 1)).astype(np.float32)
    for name, answer in localizer(images).items():
        assert np.array_equal(answer, opened(images)[name])


def test_the_step_of_a_plan_uses_it() -> None:
    from loc_keras.training.model import compiled_training_model

    localizer = build_localizer(image_shape=(32, 32, 1), num_classes=3, width=4, stem="small")
    model = compiled_training_model(localizer, plan())
    graph = tf.function(lambda x: model(x, training=True)).get_concrete_function(
        tf.TensorSpec((2, 32, 32, 1), tf.float32)
    )
    kinds = [operation.type for operation in graph.graph.get_operations()]
    of_maps = [layer for layer in batch_norms(localizer) if len(layer.output.shape) == 4]
    assert kinds.count("FusedBatchNormV3") == len(of_maps) > 20
