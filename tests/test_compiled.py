"""Every public loss and metric in a compiled model: it trains, is saved, and scores as before."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from loc_keras import boxes, losses, metrics
from loc_keras.models.heads import OrderedBox

CLASSES, BINS = 3, 9
NO_LOSS = dict.fromkeys(("softmax", "bbox", "sides"))

LOSSES: dict[str, tuple[str, Callable[[], keras.losses.Loss]]] = {
    **{
        f"box {name}": ("bbox", lambda name=name: losses.BoxLoss(name, 0.5, 0.2))
        for name in boxes.SIMILARITIES
    },
    "class": ("softmax", lambda: losses.ClassLoss(0.1)),
    "distribution": ("sides", losses.DistributionFocalLoss),
}
METRICS: dict[str, tuple[str, Callable[[], list[keras.metrics.Metric]]]] = {
    "class": ("softmax", metrics.class_metrics),
    "bbox": ("bbox", metrics.bbox_metrics),
}


def three_outputs() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    features = keras.layers.Dense(8, activation="relu")(inputs)
    softmax = keras.layers.Dense(CLASSES, activation="softmax", name="softmax")(features)
    points = keras.layers.Dense(4, activation="sigmoid")(features)
    bbox = OrderedBox(name="bbox")(points)
    sides = keras.layers.Reshape((4, BINS), name="sides")(keras.layers.Dense(4 * BINS)(features))
    return keras.Model(inputs, {"softmax": softmax, "bbox": bbox, "sides": sides})


def batch() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    corners = np.sort(generator.random((8, 2, 2)), axis=1).reshape(8, 4).astype("float32")
    labels = generator.integers(0, CLASSES, 8).astype("int32")
    images = generator.normal(size=(8, 6)).astype("float32")
    return images, {"softmax": labels, "bbox": corners, "sides": corners}


def scores_before_and_after(model: keras.Model, file: Path) -> tuple[dict, dict]:
    """What the model evaluates to after two steps, and what its saved copy does."""
    weights = np.linspace(0.5, 1.5, 8).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((*batch(), weights)).batch(4)
    model.fit(data, verbose=0)
    before = model.evaluate(data, return_dict=True, verbose=0)
    assert np.isfinite(list(before.values())).all()
    model.save(file)
    return before, keras.saving.load_model(file).evaluate(data, return_dict=True, verbose=0)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(tmp_path: Path, name: str) -> None:
    output, build = LOSSES[name]
    model = three_outputs()
    before_weights = model.get_weights()
    model.compile("sgd", loss=NO_LOSS | {output: build()})
    before, after = scores_before_and_after(model, tmp_path / "model.keras")
    assert after == pytest.approx(before, rel=1e-5)
    changed = [
        np.any(one != other) for one, other in zip(before_weights, model.get_weights(), strict=True)
    ]
    assert any(changed)


@pytest.mark.parametrize("name", METRICS)
def test_metrics(tmp_path: Path, name: str) -> None:
    output, build = METRICS[name]
    model = three_outputs()
    model.compile(
        "sgd",
        loss=NO_LOSS | {"bbox": "mse"},
        metrics={output: build()},
        weighted_metrics={output: build()},
    )
    before, after = scores_before_and_after(model, tmp_path / "model.keras")
    assert {f"{output}_{metric.name}" for metric in build()} <= set(before)
    assert after == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("metric", metrics.joint_metrics(CLASSES), ids=lambda one: one.name)
def test_joint_metrics_as_saved_objects(metric: keras.metrics.Metric) -> None:
    # They take both outputs at once, so no single output of a compiled model can hold them.
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    model = three_outputs()
    images, targets = batch()
    answers = model(images)
    for one in (metric, copy):
        one.update_state(targets, answers)
    assert float(copy.result()) == float(metric.result())
    assert copy.get_config() == metric.get_config()
