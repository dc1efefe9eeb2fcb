"""Models, losses and metrics under other backends of Keras: no TensorFlow, the same answers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from loc_keras.losses import BoxLoss, ClassLoss
from loc_keras.metrics import bbox_metrics, joint_metrics
from loc_keras.models import assembly

ROOT = Path(__file__).resolve().parents[1]


def answers(weights: list[np.ndarray] | None) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Weights that are not those of the start, and what a localizer with them gives."""
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:  # Each shape of a map is compiled anew.
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        localizer = assembly.build_localizer(
            image_shape=(32, 32, 1), num_classes=3, width=4, stem="small"
        )
    if weights is None:
        weights = [rng.uniform(0.5, 1, w.shape) * w + 0.01 for w in localizer.get_weights()]
    localizer.set_weights(weights)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (4, 32, 32, 1)).astype(np.float32)
    boxes = np.sort(rng.random((4, 2, 2)), axis=1).reshape(4, 4).astype(np.float32)
    targets = {"softmax": np.array([0, 1, 2, 0], np.int32), "bbox": boxes}
    found = localizer(images)
    values = {name: keras.ops.convert_to_numpy(one) for name, one in found.items()}
    for name in ("iou", "giou", "diou", "ciou"):
        values[name] = np.array(BoxLoss(name)(boxes, found["bbox"]))
    values["class loss"] = np.array(
        ClassLoss(label_smoothing=0.1)(targets["softmax"], found["softmax"])
    )
    for metric in bbox_metrics():
        metric.update_state(boxes, found["bbox"])
        values[metric.name] = np.array(metric.result())
    for metric in joint_metrics(3):
        metric.update_state(targets, found)
        values[metric.name] = np.array(metric.result())
    return weights, values


@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.whole), "torch"])
def test_another_backend_needs_no_tensorflow_and_gives_the_same(
    backend: str, tmp_path: Path
) -> None:
    pytest.importorskip(backend)
    weights, expected = answers(None)
    np.savez(tmp_path / "weights.npz", *weights)
    source = (
        "import sys, keras, numpy, test_other_backends as tests\n"
        f"assert keras.backend.backend() == {backend!r}\n"
        f"with numpy.load({str(tmp_path / 'weights.npz')!r}) as file:\n"
        "    weights = list(file.values())\n"
        "_, values = tests.answers(weights)\n"
        "assert 'tensorflow' not in sys.modules\n"
        f"numpy.savez({str(tmp_path / 'values.npz')!r}, **values)"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", source], check=True, env=environment)
    with np.load(tmp_path / "values.npz") as values:
        assert values.keys() == expected.keys()
        for name, value in expected.items():
            assert values[name] == pytest.approx(value, abs=2e-5), name
