"""Every public loss and metric, and all else of ours that Keras saves, opens again as it was.

The cases are collected from the modules, so that a new class or function is tried, or named in the
failure, without a line here.
"""

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.trust_examples import CLASSES as CLASS_NAMES
from helpers.trust_examples import seen_by

import loc_keras
from loc_keras import boxes, losses, metrics
from loc_keras.config.schema import TrustConfig
from loc_keras.models.heads import OrderedBox
from loc_keras.trust.fit import fit_statements
from loc_keras.trust.statements import trusted_model

CLASSES, BINS = 3, 9
OUTPUTS = ("softmax", "bbox", "sides")
TRAINING_ALONE = {
    *("TrainingModel", "LogVariances", "UncertainLoss"),
    *("OneCycle", "ClippedSum", "AdamW", "Adam"),
}
"""What stands around a localizer while it trains: the localizer inside is what is saved."""

ABSTRACT = {"WeightedMean", "LocalizationMetric"}
SAVED_BASES = {"Layer", "Loss", "Metric", "Model", "Optimizer", "LearningRateSchedule"}


def public(module: ModuleType) -> dict[str, Any]:
    """What a module defines under a public name."""
    return {
        name: one
        for name, one in vars(module).items()
        if not name.startswith("_") and getattr(one, "__module__", None) == module.__name__
    }


def compares_two(one: Any) -> bool:
    """Whether this is a function that Keras can call with truth and answer alone."""
    if not inspect.isfunction(one):
        return False
    needed = [p for p in inspect.signature(one).parameters.values() if p.default is p.empty]
    takes_truth = needed and needed[0].name in ("boxes_true", "labels")
    return bool(takes_truth and len(needed) == 2)


def is_score(one: Any) -> bool:
    """Whether Keras can take the mean of what it gives: a tensor of numbers to compare by."""
    return one is not losses.class_index and (
        inspect.signature(one).return_annotation is boxes.Tensor
    )


def collected(module: ModuleType, base: type) -> dict[str, Callable[[], Any]]:
    """A maker of each public class below `base`, with its defaults, and of each function."""
    found = {}
    for name, one in public(module).items():
        if inspect.isclass(one) and issubclass(one, base) and not inspect.isabstract(one):
            if name not in ABSTRACT:
                found[name] = one
        elif compares_two(one) and is_score(one):
            found[name] = lambda one=one: one
    return found


LOSSES: dict[str, Callable[[], Any]] = {
    **collected(losses, keras.losses.Loss),
    **{
        f"BoxLoss {name}": lambda name=name: losses.BoxLoss(name, 0.5, 0.2)
        for name in boxes.SIMILARITIES
    },
}
METRICS: dict[str, Callable[[], Any]] = {
    **collected(metrics, keras.metrics.Metric),
    "boxes": lambda: list(collected(boxes, keras.metrics.Metric)[n]() for n in boxes.SIMILARITIES),
    "class_metrics": metrics.class_metrics,
    "bbox_metrics": metrics.bbox_metrics,
}
JOINT = {n: m for n, m in METRICS.items() if n in public(metrics) and inspect.isclass(m)
         and issubclass(m, metrics.LocalizationMetric)}  # fmt: skip


def output_of(one: Any) -> str:
    """The output that a loss or metric compares."""
    one = one[0] if isinstance(one, list) else one
    name = one.__name__ if inspect.isfunction(one) else type(one).__name__
    if "istribution" in name:
        return "sides"
    by_class = ("ClassLoss", "MeanMetricWrapper", "class_cross_entropy", "hits_top_k")
    return "softmax" if name in by_class else "bbox"


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


def compiled(loss: Mapping[str, Any], metric: Mapping[str, Any] | None = None) -> keras.Model:
    model = three_outputs()
    model.compile(
        "sgd", loss=dict.fromkeys(OUTPUTS) | dict(loss), metrics=metric, weighted_metrics=metric
    )
    return model


def check_round_trip(build: Callable[[], keras.Model], folder: Path) -> dict[str, float]:
    """Trains two steps; the model's file, and its weights in a new model, score as it does."""
    model = build()
    weights = np.linspace(0.5, 1.5, 8).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((*batch(), weights)).batch(4)
    start = model.get_weights()
    model.fit(data, verbose=0)
    pairs = zip(start, model.get_weights(), strict=True)
    assert any(np.any(one != other) for one, other in pairs)
    before = model.evaluate(data, return_dict=True, verbose=0)
    assert np.isfinite(list(before.values())).all()
    model.save(folder / "model.keras")
    opened = keras.saving.load_model(folder / "model.keras")
    assert opened.evaluate(data, return_dict=True, verbose=0) == pytest.approx(before, rel=1e-5)
    model.save_weights(folder / "model.weights.h5")
    other = build()
    other.load_weights(folder / "model.weights.h5")
    assert other.evaluate(data, return_dict=True, verbose=0) == pytest.approx(before, rel=1e-5)
    return before


def test_the_collection_holds_what_it_is_known_to_hold() -> None:
    # By hand, from reading the modules.
    assert {"BoxLoss", "ClassLoss", "DistributionFocalLoss", "class_cross_entropy",
            "distribution_focal"} <= set(LOSSES)  # fmt: skip
    one_box = {"MeanIoU", "IoUAccuracy"}
    both = {"TopKLocalization", "GTKnownLocalization", "MaxBoxAccV2"}
    assert one_box | both <= set(METRICS)
    assert set(collected(boxes, keras.metrics.Metric)) == set(boxes.SIMILARITIES)
    assert set(JOINT) == both
    makers = {name for name in public(metrics) if name.endswith("_metrics")}
    assert makers == {"class_metrics", "bbox_metrics", "joint_metrics"}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(tmp_path: Path, name: str) -> None:
    loss = LOSSES[name]
    check_round_trip(lambda: compiled({output_of(loss()): loss()}), tmp_path)


@pytest.mark.parametrize("name", sorted(set(METRICS) - set(JOINT)))
def test_metrics(tmp_path: Path, name: str) -> None:
    build = METRICS[name]
    output = output_of(build())
    shown = check_round_trip(lambda: compiled({"bbox": "mse"}, {output: build()}), tmp_path)
    made = build() if isinstance(build(), list) else [build()]
    names = [one.__name__ if inspect.isfunction(one) else one.name for one in made]
    assert {f"{output}_{one}" for one in names} <= set(shown)


@pytest.mark.parametrize("metric", metrics.joint_metrics(CLASSES), ids=lambda one: one.name)
def test_joint_metrics_as_saved_objects(metric: keras.metrics.Metric) -> None:
    # They take both outputs at once, so no single output of a compiled model can hold them.
    assert type(metric).__name__ in JOINT
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    model = three_outputs()
    images, targets = batch()
    answers = model(images)
    for one in (metric, copy):
        one.update_state(targets, answers)
    assert float(copy.result()) == float(metric.result())
    assert copy.get_config() == metric.get_config()


def keras_classes() -> set[str]:
    """Names of our classes that Keras could save, read from the source of every module."""
    found: set[str] = set()
    for path in Path(loc_keras.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                if bases & (SAVED_BASES | ABSTRACT | TRAINING_ALONE):
                    found.add(node.name)
    return found


@pytest.mark.whole
def test_import_of_the_package_alone_opens_all_that_is_saved(tmp_path: Path) -> None:
    ours = keras_classes()
    assert ours >= TRAINING_ALONE | ABSTRACT
    to_save = ours - TRAINING_ALONE - ABSTRACT
    assert len(to_save) >= 15  # Counted: five metrics, three losses, seven layers of heads alone.

    keras.utils.set_random_seed(0)
    localizer = loc_keras.build_localizer(image_shape=(32, 32, 3), num_classes=3, width=4)
    observed = seen_by(np.random.default_rng(0))
    statements = fit_statements(observed, TrustConfig(flip=False), CLASS_NAMES)
    model = trusted_model(localizer, statements)
    model.save(tmp_path / "trusted.keras")
    plain = compiled({"softmax": losses.ClassLoss()}, {"softmax": metrics.class_metrics()})
    plain.save(tmp_path / "compiled.keras")
    images, targets = batch()
    scores = plain.evaluate(images, targets, verbose=0, return_dict=True)
    code = (
        "import json, numpy as np, loc_keras, keras\n"
        "names = [n.partition('>')[2] for n in keras.saving.get_custom_objects()]\n"
        f"plain = keras.saving.load_model({str(tmp_path / 'compiled.keras')!r})\n"
        f"trusted = keras.saving.load_model({str(tmp_path / 'trusted.keras')!r})\n"
        "images, targets = np.load('images.npy'), dict(np.load('targets.npz'))\n"
        "scores = plain.evaluate(images, targets, verbose=0, return_dict=True)\n"
        "pixels = np.full((1, 32, 32, 3), 90, np.float32)\n"
        "outer = np.asarray(trusted(pixels)['box_outer'])[0].tolist()\n"
        "print(json.dumps([names, scores, outer]))"
    )
    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "targets.npz", **targets)
    root = str(Path(loc_keras.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    names, again, outer = json.loads(done.stdout.splitlines()[-1])
    assert to_save <= set(names), f"not registered by import loc_keras: {to_save - set(names)}"
    assert again == pytest.approx(scores, rel=1e-5)
    here = np.asarray(model(np.full((1, 32, 32, 3), 90, np.float32))["box_outer"])[0]
    assert outer == pytest.approx(here.tolist(), abs=1e-5)
