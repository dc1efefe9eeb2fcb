"""KerasHub presets in our ResNets: the same features, the preset's pixels, whom to ask."""

import json
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.torch_resnet import seeded_images, seeded_state
from safetensors.numpy import save_file

import loc_keras
from loc_keras.config.schema import BackboneConfig
from loc_keras.errors import ModelError
from loc_keras.models.backbone import RESNETS
from loc_keras.models.other_bodies import read_hub_weights
from loc_keras.models.torch_weights import read_torch_weights, torch_tensors
from loc_keras.models.weights import Start, initial_weights

BLOCKS = {
    "resnet18": ([2, 2, 2, 2], "basic_block"),
    "resnet50": ([3, 4, 6, 3], "bottleneck_block"),
}
MEAN, STD = (0.5, 0.4, 0.45), (0.3, 0.25, 0.2)


def start(weights: Path | str, name: str = "resnet18") -> Start:
    return initial_weights(BackboneConfig(name=name, weights=str(weights)), channels=3)


def hub_network(name: str, **changes):
    """KerasHub's own network with random weights and batch statistics that are not trivial."""
    hub = pytest.importorskip(
        "keras_hub", reason="needs KerasHub: pip install -r requirements-hub.txt"
    )
    blocks, kind = BLOCKS[name]
    settings = {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 128, 256, 512],
        "stackwise_num_blocks": blocks,
        "stackwise_num_strides": [1, 2, 2, 2],
        "block_type": kind,
    }
    network = hub.models.ResNetBackbone(**{**settings, **changes})
    random = np.random.RandomState(0)
    ranges = {"moving_variance": (0.5, 1.5), "gamma": (0.4, 0.9), "kernel": None}
    for weight in network.weights:
        limits = ranges.get(weight.name, (-0.3, 0.3))
        if limits:
            weight.assign(random.uniform(*limits, weight.shape))
    return hub, network


@pytest.mark.parametrize(
    ("name", "side", "count"),
    [
        ("resnet18", 100, 8),
        ("resnet18", 224, 2),
        pytest.param("resnet50", 100, 2, marks=pytest.mark.slow),
    ],
)
def test_features_are_those_of_kerashub(tmp_path, name, side, count):
    hub, network = hub_network(name)
    scale, offset = [1 / 255 / s for s in STD], [-m / s for m, s in zip(MEAN, STD, strict=True)]
    converter = hub.layers.ResNetImageConverter(scale=scale, offset=offset)
    network.save_to_preset(str(tmp_path))
    converter.save_to_preset(str(tmp_path))

    weights = start(tmp_path, name)
    assert weights.preprocessing.mean == pytest.approx([255 * m for m in MEAN])
    assert weights.preprocessing.deviation == pytest.approx([255 * s for s in STD])
    model = loc_keras.build_localizer(
        image_shape=(side, side, 3),
        num_classes=2,
        backbone=name,
        class_head="pooled",
        bbox_head="gap_mlp",
        pixel_mean=weights.preprocessing.mean,
        pixel_variance=weights.preprocessing.variance,
    )
    weights.load(model)
    images = seeded_images(count, side).astype(np.float32)
    inner = keras.Model(model.input, model.get_layer("softmax_logits").input)
    ours = keras.ops.convert_to_numpy(inner(images, training=False))
    theirs = keras.ops.convert_to_numpy(network(converter(images), training=False)).mean((1, 2))
    difference = np.abs(ours - theirs).max()
    print(f"{name}, {side} px, {count} images: largest difference {difference:.1e}")
    assert difference < 1e-4


def test_a_folder_of_timm_is_converted_by_kerashub(tmp_path):
    # As `imagenet` does for ResNet34, for which KerasHub fetches such a folder from timm.
    pytest.importorskip("keras_hub", reason="needs KerasHub")
    state = seeded_state({name: one.shape for name, one in torch_tensors("resnet34").items()})
    save_file(state, tmp_path / "model.safetensors")
    recipe = {"input_size": [3, 224, 224], "interpolation": "bicubic", "mean": MEAN, "std": STD}
    config = {"architecture": "resnet34", "num_classes": 1000, "pretrained_cfg": recipe}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    theirs = read_hub_weights(str(tmp_path), "resnet34")
    ours = read_torch_weights(tmp_path / "model.safetensors", "resnet34")
    assert theirs.preprocessing.mean == pytest.approx([255 * m for m in MEAN])
    assert theirs.sha256 == ours.sha256
    assert set(theirs.by_layer) == set(ours.by_layer)
    for name, arrays in ours.by_layer.items():
        for one, other in zip(arrays, theirs.by_layer[name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_presets_of_another_network_are_refused(tmp_path):
    _, network = hub_network("resnet18", use_pre_activation=True)
    network.save_to_preset(str(tmp_path))
    with pytest.raises(ModelError, match=r"does not fit resnet18: .*pre_activation True, not Fals"):
        start(tmp_path)
    with pytest.raises(ModelError, match=r"block_type basic_block, not bottleneck_block"):
        start(tmp_path, "resnet50")


def test_names_of_presets_are_those_that_kerashub_has():
    hub = pytest.importorskip("keras_hub", reason="needs KerasHub")
    known = hub.models.ResNetBackbone.presets
    assert [RESNETS[name].preset in known for name in ("resnet18", "resnet50")] == [True, True]
    # There is no ResNet34 among them, or it should be used.
    assert not [name for name in known if name.startswith("resnet_34")]


# --- without the package or the network: these run everywhere ---


def test_without_kerashub_the_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "keras_hub", None)  # As Python does where import must fail.
    (tmp_path / "config.json").write_text("{}", "utf-8")
    for weights in ("imagenet", tmp_path):
        with pytest.raises(ModelError, match=r"pip install keras-hub.*\.safetensors"):
            start(weights)


def fake_hub(monkeypatch, from_preset, converter=None) -> None:
    """Puts a package in KerasHub's place that answers as given."""
    hub = types.ModuleType("keras_hub")
    hub.models = types.SimpleNamespace(Backbone=types.SimpleNamespace(from_preset=from_preset))
    hub.layers = types.SimpleNamespace(ImageConverter=types.SimpleNamespace(from_preset=converter))
    monkeypatch.setitem(sys.modules, "keras_hub", hub)


def test_without_a_network_the_sentence_says_where_to_put_which_file(monkeypatch):
    def unreachable(preset, **settings):
        raise ConnectionError("Failed to resolve a host\nand more lines " + "x" * 500)

    fake_hub(monkeypatch, unreachable)
    with pytest.raises(ModelError) as caught:
        start("imagenet")
    assert str(caught.value) == (
        "KerasHub could not fetch the preset resnet_18_imagenet (ConnectionError: Failed to "
        "resolve a host); connect to the network, or put the resnet18 of timm or torchvision as a "
        ".safetensors file on this machine and set model.backbone.weights to its path."
    )


def test_a_broken_preset_folder_is_named(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{", "utf-8")

    def reads(preset, **settings):
        json.loads((Path(preset) / "config.json").read_text("utf-8"))

    fake_hub(monkeypatch, reads)
    with pytest.raises(ModelError, match=r"cannot be read as a KerasHub preset \(JSONDecodeError"):
        start(tmp_path)
