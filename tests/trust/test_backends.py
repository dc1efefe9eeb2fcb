"""What is applied inside an exported model: one graph with all of it, and another Keras backend."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from loc_keras.trust.confidence import BoxConfidence, apply_box_confidence, apply_temperature
from loc_keras.trust.conformal import (
    LabelSets,
    inner_boxes,
    is_empty,
    label_sets,
    margins_of,
    outer_boxes,
    scales_of,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIDENCE = BoxConfidence(
    names=("width", "top"),
    mean=(0.3, 0.5),
    scale=(0.1, 0.2),
    low=(0.1, 0.2),
    high=(0.6, 0.9),
    weights=(1.5, -0.5),
    bias=0.2,
)


def statements(probabilities, boxes, spread):
    """All that is said of an answer, from what a model gives."""
    p = apply_temperature(probabilities, 1.7)
    margins = margins_of((0.02, 0.3, 0.05), keras.ops.argmax(p, axis=-1))
    found = {"probabilities": p, "label_sets": label_sets(p, LabelSets(0.9, 0.95))}
    for scaling in ("additive", "size", "spread"):
        scales = scales_of(boxes, scaling, spread)
        found[f"outer {scaling}"] = outer_boxes(boxes, scales, margins)
        found[f"inner {scaling}"] = inner = inner_boxes(boxes, scales, margins)
        found[f"empty {scaling}"] = is_empty(inner)
    signals = {"width": boxes[..., 2] - boxes[..., 0], "top": keras.ops.max(p, axis=-1)}
    found["p_iou50"] = apply_box_confidence(signals, CONFIDENCE)
    return found


def answers() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    p = rng.dirichlet([0.5, 0.5, 0.5], 40)
    p[:3] = [[1, 0, 0], [0.5, 0.5, 0], [0.2, 0.4, 0.4]]
    boxes = np.sort(rng.random((40, 2, 2)), axis=1).reshape(40, 4)
    return tuple(array.astype("float32") for array in (p, boxes, rng.gamma(2, 0.01, (40, 4))))


def eager() -> dict[str, np.ndarray]:
    return {name: keras.ops.convert_to_numpy(x) for name, x in statements(*answers()).items()}


def compare(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        assert found[name].ravel() == pytest.approx(values.ravel(), abs=2e-6), name


@pytest.mark.parametrize("jit", [False, True])
def test_one_graph_with_any_number_of_images(jit: bool) -> None:
    specs = [tf.TensorSpec((None, n), tf.float32) for n in (3, 4, 4)]
    graph = tf.function(statements, input_signature=specs, jit_compile=jit)
    compare({name: x.numpy() for name, x in graph(*answers()).items()}, eager())
    assert len(graph(*(array[:1] for array in answers()))["p_iou50"]) == 1


def test_keras_model_holds_it() -> None:
    inputs = [keras.Input((n,)) for n in (3, 4, 4)]
    model = keras.Model(inputs, statements(*inputs))
    found = {name: keras.ops.convert_to_numpy(x) for name, x in model(list(answers())).items()}
    compare(found, eager())


@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.whole), "torch"])
def test_another_backend_gives_the_same(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    file = tmp_path / "found.npz"
    # Keras runs on one backend a process.
    source = (
        "import keras, numpy, test_backends as tests\n"
        f"assert keras.backend.backend() == {backend!r}\n"
        f"numpy.savez({str(file)!r}, **tests.eager())"
    )
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", source], check=True, env=environment)
    with np.load(file) as found:
        compare(dict(found), eager())
