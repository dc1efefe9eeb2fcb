"""PyTorch weights in our ResNets: the same features, and a sentence for every fault."""

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
from helpers.torch_resnet import (
    EVERY,
    RECORDED,
    seeded_images,
    seeded_network,
    seeded_state,
    torch_features,
)
from safetensors.numpy import load_file, save_file

from loc_keras.cli.build import localizer_from
from loc_keras.config.schema import BackboneConfig, Config
from loc_keras.data.dataset import LocalizationData
from loc_keras.errors import ModelError
from loc_keras.models.body import random_weights
from loc_keras.models.torch_weights import CONVERT, torch_tensors
from loc_keras.models.weights import Start, initial_weights


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
    # Recorded with PyTorch 2.13.0 by tests/helpers/torch_resnet.py: 2 images, each 16th feature.
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


# --- what a file may look like ---


def start(weights: Path | str, name: str = "resnet18", channels: int = 3, **changes) -> Start:
    return initial_weights(BackboneConfig(name=name, weights=str(weights), **changes), channels)


def test_wrapped_names_half_precision_and_timms_leftovers_are_taken(tmp_path, state):
    # 0.5 and 3.140625 are bfloat16 numbers; 0.333251953125 is the float16 nearest to 1 / 3.
    halves = {
        "bn1.weight": np.full(64, 0.5, ml_dtypes.bfloat16),
        "bn1.bias": np.full(64, 3.140625, ml_dtypes.bfloat16),
        "bn1.running_mean": np.full(64, 1 / 3, np.float16),
        "bn1.running_var": np.full(64, 2, np.float64),
        "bn1.num_batches_tracked": np.array(7, np.int64),
        "fc.weight": np.zeros((1000, 512), np.float32),
        "fc.bias": np.zeros(1000, np.float32),
    }
    tensors = {f"module.{name}": values for name, values in (state | halves).items()}
    save_file(tensors, tmp_path / "wrapped.safetensors")
    model = localizer(tmp_path / "wrapped.safetensors", 32)
    found = [float(values[0]) for values in model.get_layer("stem_bn").get_weights()]
    assert found == [0.5, 3.140625, 0.333251953125, 2.0]
    # A convolution is (out, in, height, width) in PyTorch and (height, width, in, out) in Keras.
    kernel = model.get_layer("stage4_block2_conv2").get_weights()[0]
    theirs = state["layer4.1.conv2.weight"]
    assert kernel[1, 2, 3, 4] == theirs[4, 3, 1, 2]
    assert kernel.shape == (3, 3, 512, 512)


def test_pixels_are_normalised_as_the_weights_were_trained(resnet18_file, state, tmp_path):
    # torchvision.transforms.Normalize of its weights, times 255; a file's own numbers win.
    pixels = start(resnet18_file).preprocessing
    assert pixels.mean == pytest.approx((123.675, 116.28, 103.53))
    assert pixels.deviation == pytest.approx((58.395, 57.12, 57.375))
    own = {"mean": "0.5, 0.5, 0.5", "std": "[0.2,0.2,0.4]", "license": "MIT"}
    save_file(state, tmp_path / "own.safetensors", metadata=own)
    found = start(tmp_path / "own.safetensors")
    assert found.preprocessing.mean == (127.5, 127.5, 127.5)
    assert found.preprocessing.deviation == pytest.approx((51, 51, 102))
    assert found.origin.licence == "MIT"
    normal = localizer(resnet18_file, 32).get_layer("normalization")
    white = keras.ops.convert_to_numpy(normal(np.full((1, 1, 1, 3), 255, np.float32)))
    assert white[0, 0, 0] == pytest.approx(
        [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    )


def test_origin_names_the_file_and_its_digest(resnet18_file):
    origin = start(resnet18_file).origin
    assert origin.sha256 == hashlib.sha256(resnet18_file.read_bytes()).hexdigest()
    assert (origin.body, origin.weights) == ("resnet18", str(resnet18_file))
    assert origin.licence == "unknown"
    assert "resnet18.safetensors" in origin.source


def test_random_weights_bring_no_pixels():
    found = start("none", width=8, stem="small", channels=1)
    assert found.preprocessing is None
    assert found.origin == random_weights("resnet18")


def test_names_are_those_of_pytorch(recorded):
    # The names and shapes were recorded from the state dict of the network in `torch.nn`.
    shapes = {name: place.shape for name, place in torch_tensors("resnet18").items()}
    assert shapes == {name: tuple(shape) for name, shape in recorded["shapes"].items()}


# --- one sentence for every fault ---


def sentence(weights: Path | str, name: str = "resnet18", **changes) -> str:
    with pytest.raises(ModelError) as caught:
        start(weights, name, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_depth_is_named_by_what_the_file_holds(resnet18_file):
    assert sentence(resnet18_file, "resnet34") == (
        f"{resnet18_file} does not fit resnet34: it lacks 80 tensors (layer1.2.conv1.weight, "
        "layer1.2.bn1.weight, layer1.2.bn1.bias and 77 more); it holds resnet18, so set "
        "model.backbone.name to that."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 16}, "need model.backbone.width: 64 (it is 16);"),
        ({"stem": "small"}, "need model.backbone.stem: imagenet (it is small);"),
        ({"channels": 1}, "need data.channels: 3 (the images have 1);"),
        ({"name": "applications/VGG16"}, "cannot be put into the body applications/VGG16; they"),
    ],
)
def test_a_body_that_shared_weights_cannot_fit(resnet18_file, changes, words):
    assert words in sentence(resnet18_file, **changes)
    assert words in sentence("imagenet", **changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conv1.weight": None, "bn1.bias": None}, "it lacks 2 tensors (conv1.weight, bn1.bias);"),
        ({"conv9.weight": np.zeros(2, np.float32)}, "it has 1 tensor (conv9.weight) that the"),
        (
            {"bn1.bias": np.zeros(65, np.float32)},
            "it has 1 tensor (bn1.bias is (65,), not (64,)) of another shape;",
        ),
        ({"bn1.bias": np.zeros(64, np.int8)}, "tensor bn1.bias holds I8 numbers, where weights"),
        ({"bn1.bias": np.full(64, np.nan, np.float32)}, "1 tensor (bn1.bias) with values that are"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, state, change, words):
    tensors = {name: values for name, values in (state | change).items() if values is not None}
    save_file(tensors, tmp_path / "other.safetensors")
    assert words in sentence(tmp_path / "other.safetensors")


@pytest.mark.parametrize("content", [b"", b"short", b"garbage " * 99, None])
def test_files_that_are_not_whole(tmp_path, resnet18_file, content):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(resnet18_file.read_bytes()[:-1] if content is None else content)
    found = sentence(path)
    assert found.startswith(f"{path} is not a whole safetensors file (")
    assert found.endswith("; download or convert it again.")


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin", "a.ckpt", "a.safetensors"])
def test_pickles_are_refused_unread(tmp_path, name):
    # This one would leave a file behind, were it unpickled.
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    found = sentence(tmp_path / name)
    assert "is a pickle, and reading a pickle can run any code" in found
    assert "save_file" in found
    assert not (tmp_path / "run").exists()


def test_the_command_that_converts_a_pickle_works(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    torch.save({"a": torch.ones(2, 3).T}, tmp_path / "a.pth")
    command = CONVERT.replace("FILE", str(tmp_path / "a")).replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    assert load_file(tmp_path / "a.safetensors")["a"].tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    "metadata", [{"mean": "x"}, {"mean": "1,2", "std": "1,1"}, {"std": "1,1,1"}]
)
def test_metadata_that_cannot_be_read(tmp_path, state, metadata):
    save_file(state, tmp_path / "meta.safetensors", metadata=metadata)
    assert "must give mean and std as three numbers" in sentence(tmp_path / "meta.safetensors")
    metadata = {"mean": "123.7,116.3,103.5", "std": "58.4,57.1,57.4"}
    save_file(state, tmp_path / "meta.safetensors", metadata=metadata)
    assert "which are no fractions of 255" in sentence(tmp_path / "meta.safetensors")


def test_paths_that_hold_no_weights(tmp_path):
    assert f"there is no file or folder {tmp_path / 'x'};" in sentence(tmp_path / "x")
    assert "holds neither best.keras" in sentence(tmp_path)
    (tmp_path / "x.onnx").write_bytes(b"onnx")
    assert "ends in neither .safetensors nor .keras" in sentence(tmp_path / "x.onnx")
