"""PyTorch weights in our ResNets: the same features, and a sentence for every fault."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_resnet import (
    EVERY,
    RECORDED,
    seeded_images,
    seeded_network,
    seeded_state,
    torch_features,
)

from loc_keras.config import Config
from loc_keras.data.localization_data import LocalizationData
from loc_keras.from_config import localizer_from


def no_images(step: int):
    raise AssertionError("pixels must not be measured where weights bring their preprocessing")


def localizer(weights: Path | str, side: int = 64, channels: int = 3, **backbone) -> keras.Model:
    """What a training with these settings starts from."""
    model = {
        "backbone": {"weights": str(weights), **backbone},
        "class_head": "pooled",
        "bbox_head": "gap_mlp",
    }
    data = LocalizationData(
        train=no_images,
        val=None,
        test=None,
        sizes={},
        class_names=["a", "b"],
        image_shape=(side, side, channels),
        steps_per_epoch=1,
        fingerprint="",
    )
    return localizer_from(Config.model_validate({"model": model}), data)


def features(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """The pooled features that the class layer reads, from raw pixels."""
    inner = keras.Model(model.input, model.get_layer("softmax_logits").input)
    parts = [inner(images[at : at + 8], training=False) for at in range(0, len(images), 8)]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])


@pytest.fixture(scope="module")
def recorded() -> dict:
    return json.loads(RECORDED.read_text("utf-8"))


@pytest.fixture(scope="module")
def state(recorded) -> dict[str, np.ndarray]:
    """The seeded ResNet18 whose features PyTorch gave, under torchvision's names."""
    return seeded_state({name: tuple(shape) for name, shape in recorded["shapes"].items()})


@pytest.fixture(scope="module")
def resnet18_file(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(state, path)
    return path


# --- the same numbers as PyTorch ---


@pytest.mark.parametrize("side", [100, 101])
def test_features_are_those_that_pytorch_recorded(resnet18_file, recorded, side):
    # Recorded with PyTorch 2.13.0 by `python tests/torch_resnet.py`: 2 images, each 16th feature.
    found = features(localizer(resnet18_file, side), seeded_images(2, side))[:, ::EVERY]
    assert np.abs(found - recorded["features"][str(side)]).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "side", "images"),
    [
        ("resnet18", 100, 64),
        ("resnet34", 100, 4),
        ("resnet50", 100, 2),
        pytest.param("resnet18", 224, 64, marks=pytest.mark.slow),
        pytest.param("resnet34", 224, 8, marks=pytest.mark.slow),
        pytest.param("resnet50", 224, 8, marks=pytest.mark.slow),
    ],
)
def test_features_are_those_of_pytorch(tmp_path, name, side, images):
    pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    network, state = seeded_network(name)
    save_file(state, tmp_path / "weights.safetensors")
    pictures = seeded_images(images, side)
    found = features(localizer(tmp_path / "weights.safetensors", side, name=name), pictures)
    difference = np.abs(found - torch_features(network, pictures)).max()
    print(f"{name}, {side} px, {images} images: largest difference {difference:.1e}")
    assert difference < 1e-4
