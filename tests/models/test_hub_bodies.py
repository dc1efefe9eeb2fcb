"""Bodies from KerasHub: presets in folders, made here of random weights. Needs keras-hub."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import loc_keras
from loc_keras.errors import ModelError
from loc_keras.models.body import body_layers, preprocessing_of
from loc_keras.models.other_bodies import build_hub_body

SHAPE = (64, 64, 3)


@pytest.fixture(scope="module")
def hub():
    return pytest.importorskip("keras_hub")


@pytest.fixture(scope="module")
def resnet(hub, tmp_path_factory):
    """A ResNet18 of random weights and the folder of its preset, with an image converter."""
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        use_pre_activation=False,
    )
    folder = tmp_path_factory.mktemp("presets") / "resnet"
    backbone.save_to_preset(str(folder))
    converter = hub.layers.ImageConverter(scale=[1 / 50, 1 / 60, 1 / 70], offset=[-2, -1.5, -1])
    converter.save_to_preset(str(folder))
    return backbone, converter, folder


def test_features_and_pixels_are_those_of_keras_hub(resnet):
    backbone, converter, folder = resnet
    body = build_hub_body(f"hub/{folder}", SHAPE, "imagenet")
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype(np.float32)
    # KerasHub's own path, from raw pixels to its pyramid.
    pyramid = keras.Model(backbone.inputs[0], backbone.pyramid_outputs)(converter(images))
    model = loc_keras.build_localizer(image_shape=SHAPE, num_classes=2, body=body)
    inside = keras.Model(model.input, [model.get_layer("normalization").output])(images)
    stem, *maps = body.network(inside[0] if isinstance(inside, list) else inside)
    assert stem.shape[1:] == (32, 32, 64)
    for name, ours in zip(("P2", "P3", "P4", "P5"), maps, strict=True):
        np.testing.assert_allclose(ours, pyramid[name], atol=1e-4)
    # A scale of 1/50 and an offset of -2: pixel / 50 - 2 = (pixel - 100) / 50.
    np.testing.assert_allclose(preprocessing_of(model).mean, (100, 90, 70), rtol=1e-6)
    np.testing.assert_allclose(preprocessing_of(model).deviation, (50, 60, 70), rtol=1e-6)
    assert body.origin.licence == "unknown"
    assert len(body.origin.sha256) == 64


def test_saved_model_needs_only_our_package(resnet, tmp_path):
    _, _, folder = resnet
    model = loc_keras.build_localizer(
        image_shape=SHAPE, num_classes=2, body=build_hub_body(f"hub/{folder}", SHAPE)
    )
    model.save(tmp_path / "model.keras")
    code = (
        "import sys; sys.modules['keras_hub'] = None\n"
        "import keras, loc_keras\n"
        f"print(keras.saving.load_model({str(tmp_path / 'model.keras')!r}).count_params())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == model.count_params()


def test_a_body_without_a_pyramid(hub, tmp_path):
    backbone = hub.models.MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64, 144]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[16, 16], [24, 24]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=48,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=16,
        depthwise_filters=8,
        depthwise_stride=1,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=48,
    )
    backbone.save_to_preset(str(tmp_path))
    body = build_hub_body(f"hub/{tmp_path}", SHAPE)
    # One convolution of stride 2 and two stages of stride 2.
    assert [tensor.shape[1] for tensor in body.network.outputs] == [32, 16, 8]
    model = loc_keras.build_localizer(image_shape=SHAPE, num_classes=2, body=body)
    # Its blocks are layers of KerasHub that hold layers: those inside are what can be frozen.
    found = body_layers(model)
    assert len({id(layer) for layer in found}) == len(found)
    assert sum(len(layer.weights) for layer in found) == len(body.network.weights)
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in found)
    answer = model(np.zeros((1, *SHAPE), np.float32))
    assert np.all(np.isfinite(ops.convert_to_numpy(answer["bbox"])))


def test_a_transformer_is_refused(hub, tmp_path):
    backbone = hub.models.ViTBackbone(
        image_shape=SHAPE, patch_size=16, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16
    )
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(ModelError, match="has no feature map that a box could be read from"):
        build_hub_body(f"hub/{tmp_path}", SHAPE)


def test_weights_without_a_converter_are_refused(hub, tmp_path):
    backbone = hub.models.VGGBackbone(stackwise_num_repeats=[1, 1], stackwise_num_filters=[4, 8])
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(ModelError, match="nothing says how they want their pixels; save the image"):
        build_hub_body(f"hub/{tmp_path}", SHAPE, "imagenet")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hub/resnet_18_imagenett", "no preset 'resnet_18_imagenett'; did you mean hub/resnet_18"),
        ("hub/qqqqqqqq", "no preset 'qqqqqqqq'; give one of those"),
        ("hub/bert_tiny_en_uncased", "is no backbone for images"),
    ],
)
def test_wrong_presets_are_refused(hub, name, words):
    with pytest.raises(ModelError, match=words):
        build_hub_body(name, SHAPE)


def test_without_a_network_one_sentence_says_what_to_do(hub, monkeypatch):
    def offline(*args, **settings):
        raise ConnectionError("no route")

    monkeypatch.setattr(hub.models.Backbone, "from_preset", offline)
    with pytest.raises(ModelError, match=r"cannot be fetched \(ConnectionError\); on a machine"):
        build_hub_body("hub/resnet_18_imagenet", SHAPE)


def test_weights_of_three_channels_refuse_one(resnet):
    with pytest.raises(ModelError, match=r"3 channels, not 1; set data\.channels: 3"):
        build_hub_body(f"hub/{resnet[2]}", (64, 64, 1), "imagenet")


def test_without_the_package_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ModelError, match=r"needs the package keras-hub.*pip install keras-hub"):
        build_hub_body("hub/resnet_18_imagenet", SHAPE)


def test_a_file_as_weights_is_refused():
    with pytest.raises(ModelError, match=r"not with some\.h5"):
        build_hub_body("hub/resnet_18_imagenet", SHAPE, "some.h5")
