"""Bodies from keras.applications: names, normalisation, maps, weights files, refusals."""

import hashlib
import sys
import urllib.request
from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import applications, ops

import loc_keras
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ModelError
from loc_keras.models.body import (
    BODY_NAME,
    Preprocessing,
    body_groups,
    measured_preprocessing,
    normalised,
    preprocessing_of,
)
from loc_keras.models.other_bodies import (
    application_names,
    application_preprocessing,
    build_application,
    find_application,
    weights_files,
)
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.saved_model import export_saved_model
from loc_keras.training.model import training_model

# Parameters without the top, as model summaries in many tutorials show them: nothing is lost.
KNOWN = {"ResNet50": 23_587_712, "VGG16": 14_714_688, "MobileNetV2": 2_257_984}
SMALL = "applications/MobileNetV3Small"


@pytest.fixture
def weights_file(tmp_path):
    """A MobileNet of random weights, and its file as Keras would fetch it."""
    keras.utils.set_random_seed(1)
    network = applications.MobileNet(include_top=False, weights=None, input_shape=(64, 64, 3))
    path = tmp_path / "mobilenet_1_0_224_tf_no_top.h5"
    network.save(path)
    return network, path


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)


def test_every_application_is_named():
    # Counted on Keras's page on applications; the two below are of the oldest and the newest.
    names = application_names()
    assert len(names) >= 40
    assert {"VGG16", "ConvNeXtXLarge"} <= set(names)


@pytest.mark.parametrize("name", application_names())
def test_pixels_are_normalised_as_keras_does(name):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    home = sys.modules[getattr(applications, name).__module__]
    expected = home.preprocess_input(images.astype(np.float64))
    taken = keras.Input((5, 7, 3))
    ours = keras.Model(taken, normalised(taken, application_preprocessing(name)))
    np.testing.assert_allclose(ours(images.astype(np.float32)), expected, rtol=1e-5, atol=1e-4)


def test_a_function_of_another_kind_is_not_taken_for_a_normalisation():
    assert measured_preprocessing(lambda images: images**2) is None
    assert measured_preprocessing(lambda images: -images) is None
    # A sum over channels is affine in grey, but not channel by channel.
    assert measured_preprocessing(lambda images: images + images[..., :1]) is None
    shifted = measured_preprocessing(lambda images: images[..., ::-1] / 2 - 10)
    assert shifted == Preprocessing((20.0,) * 3, (2.0,) * 3, reverse_channels=True)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("applications/mobilenetv3small", "MobileNetV3Small"),
        ("resnet50", "ResNet50"),
        ("NASNETLARGE", "NASNetLarge"),
    ],
)
def test_names_are_found_in_any_case(name, found):
    assert find_application(name)[0] == found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "applications/MobilNetV2",
            r"keras.applications has no 'MobilNetV2'; did you mean applications/MobileNetV2",
        ),
        ("applications/zzz", "has no 'zzz'; it has ConvNeXtBase, .*Xception.$"),
    ],
)
def test_wrong_names_are_answered_with_the_nearest(name, words):
    with pytest.raises(ModelError, match=words):
        build_application(name, (64, 64, 3))


@pytest.mark.whole
def test_localizer_on_a_small_body(tmp_path):
    model = loc_keras.build_localizer(image_shape=(64, 64, 3), num_classes=3, backbone=SMALL)
    body = model.get_layer(BODY_NAME)
    # Strides of MobileNetV3 (Howard et al. 2019, table 2): 2, 4, 8, 16 and 32; 16 and 576 are
    # the channels of its first and last convolution there.
    assert [tensor.shape[1] for tensor in body.outputs] == [32, 16, 8, 4, 2]
    assert (body.outputs[0].shape[-1], body.outputs[-1].shape[-1]) == (16, 576)
    images = pixels(2, 64, 64, 3)
    before = {name: ops.convert_to_numpy(value) for name, value in model(images).items()}
    model.save(tmp_path / "model.keras")
    after = keras.saving.load_model(tmp_path / "model.keras")(images)
    for name in ("softmax", "bbox"):
        np.testing.assert_allclose(before[name], after[name], atol=1e-6)
    wrapped = training_model(model)
    assert set(wrapped.output) == {"softmax", "bbox", "bbox_distribution"}
    assert len(wrapped.trainable_weights) == len(model.trainable_weights)


@pytest.mark.slow
def test_localizer_on_a_small_body_is_exported(tmp_path):
    model = loc_keras.build_localizer(image_shape=(64, 64, 3), num_classes=3, backbone=SMALL)
    # The exporter itself compares the copy with the live model.
    samples = [tf.io.encode_png(image).numpy() for image in pixels(2, 64, 64, 3).astype(np.uint8)]
    bundle = Bundle(model, ["a", "b", "c"], ImageFormat((64, 64), 3, "stretch"), samples)
    version = export_saved_model(bundle, tmp_path / "served")
    assert (version / "saved_model.pb").is_file()


def test_features_are_those_of_keras():
    keras.utils.set_random_seed(2)
    expected = applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3))
    keras.utils.set_random_seed(2)
    body = build_application("applications/MobileNetV2", (64, 64, 3))
    images = pixels(1, 64, 64, 3) / 255
    np.testing.assert_allclose(body.network(images)[-1], expected(images), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_heads_stay_float32_in_mixed_precision(policy):
    keras.mixed_precision.set_global_policy(policy)
    model = loc_keras.build_localizer(image_shape=(64, 64, 3), num_classes=3, backbone=SMALL)
    assert model.get_layer(BODY_NAME).get_layer("conv").compute_dtype != "float32"
    assert model.get_layer("normalization").compute_dtype == "float32"
    heads = [layer for layer in model.layers if layer.name.startswith("bbox")]
    assert {layer.compute_dtype for layer in heads} == {"float32"}
    answer = model(pixels(2, 64, 64, 3))
    assert all(np.all(np.isfinite(ops.convert_to_numpy(value))) for value in answer.values())
    assert {value.dtype.name for value in answer.values()} == {"float32"}


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ResNet50", "ConvNeXtTiny"])
def test_groups_hold_every_layer_once_in_order(name):
    model = loc_keras.build_localizer(
        image_shape=(64, 64, 3), num_classes=2, backbone=f"applications/{name}"
    )
    body = model.get_layer(BODY_NAME)
    groups = body_groups(model)
    found = [layer for group in groups for layer in group]
    assert len({id(layer) for layer in found}) == len(found)
    assert not any(hasattr(layer, "layers") for layer in found)
    held = [id(weight) for layer in found for weight in layer.weights]
    assert sorted(held) == sorted(id(weight) for weight in body.weights)
    weighty = [
        [layer for layer in group if layer.weights and "squeeze" not in layer.name]
        for group in groups
    ]
    sides = [group[-1].output.shape[1] for group in weighty]
    # ConvNeXt begins with patches of 4 px (Liu et al. 2022, section 2.2), the others with a
    # convolution of stride 2.
    assert sides == ([16, 8, 4, 2] if name == "ConvNeXtTiny" else [32, 16, 8, 4, 2])


def test_groups_of_resnet50_are_its_stages():
    model = loc_keras.build_localizer(
        image_shape=(64, 64, 3), num_classes=2, backbone="applications/ResNet50"
    )
    # Keras names the layers by the stages of the paper, conv1 to conv5 (He et al. 2016, table 1).
    stages = [
        {layer.name.partition("_")[0] for layer in group if layer.weights}
        for group in body_groups(model)
    ]
    assert stages == [{"conv1"}, {"conv2"}, {"conv3"}, {"conv4"}, {"conv5"}]


def test_random_bodies_take_measured_pixels_unless_they_normalise_themselves():
    measured = {"pixel_mean": [10.0, 20.0, 30.0], "pixel_variance": [4.0, 9.0, 16.0]}
    shape = {"image_shape": (64, 64, 3), "num_classes": 2}
    plain = loc_keras.build_localizer(**shape, **measured, backbone="applications/MobileNet")
    assert preprocessing_of(plain) == Preprocessing((10.0, 20.0, 30.0), (2.0, 3.0, 4.0))
    rescaling = loc_keras.build_localizer(**shape, **measured, backbone=SMALL)
    assert preprocessing_of(rescaling) == Preprocessing((0.0,) * 3, (1.0,) * 3)


def test_weights_from_the_cache(tmp_path, monkeypatch, weights_file):
    # Keras takes the file of MobileNet from its cache without a network, as it knows no digest.
    network, path = weights_file
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    path = path.rename(tmp_path / "models" / path.name)
    body = build_application("applications/mobilenet", (64, 64, 3), "imagenet")
    images = pixels(2, 64, 64, 3)
    expected = network(applications.mobilenet.preprocess_input(images.copy()))
    model = loc_keras.build_localizer(image_shape=(64, 64, 3), num_classes=2, body=body)
    inside = model.get_layer("normalization")(images)
    np.testing.assert_allclose(body.network(inside)[-1], expected, atol=1e-5)
    assert body.origin.licence == "Apache-2.0"
    assert body.origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert body.origin.source.endswith("/mobilenet_1_0_224_tf_no_top.h5")
    assert body.origin.body == "applications/MobileNet"


def test_weights_from_a_given_file(weights_file):
    network, path = weights_file
    body = build_application("applications/MobileNet", (96, 64, 3), str(path))
    expected = network.get_layer("conv_pw_13").get_weights()[0]
    np.testing.assert_array_equal(body.network.get_layer("conv_pw_13").get_weights()[0], expected)
    assert body.origin.source == "the file mobilenet_1_0_224_tf_no_top.h5, given by the user"
    assert body.origin.licence == "unknown"


@pytest.mark.parametrize("digest", [hashlib.md5, hashlib.sha256])
def test_a_given_file_is_known_by_its_digest(tmp_path, digest):
    file = tmp_path / "x.h5"
    file.write_bytes(b"weights")
    home = sys.modules[keras.utils.get_file.__module__]
    before = home.get_file
    with weights_files("applications/X", file) as files:
        home.get_file("x.h5", "https://a.b/x.h5", file_hash=digest(b"weights").hexdigest())
        home.get_file("x.h5", "https://a.b/x.h5", file_hash=digest(b"others").hexdigest())
    assert [one.known for one in files] == [True, False]
    assert [one.source for one in files] == [
        "https://a.b/x.h5",
        "the file x.h5, given by the user",
    ]
    assert home.get_file is before


@pytest.mark.parametrize("name", ["applications/MobileNetV3Small", "applications/VGG16"])
def test_without_a_network_one_sentence_says_what_to_do(tmp_path, monkeypatch, name):
    # A real call whose connection is refused at once: no one listens on this machine's port 9.
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)
    with pytest.raises(ModelError) as caught:
        build_application(name, (64, 64, 3), "imagenet")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith(f"the weights of {name} cannot be fetched (")
    assert "fetch https://storage.googleapis.com/" in sentence
    assert f"put it to {tmp_path}/models/" in sentence
    assert sentence.endswith("or name it as model.backbone.weights.")


@pytest.mark.parametrize(
    ("name", "shape", "weights", "words"),
    [
        ("InceptionV3", (74, 80, 3), "none", "74 x 80 px is too small .* at least 75 px"),
        ("MobileNetV2", (31, 64, 3), "none", "31 x 64 px is too small .* at least 32 px"),
        ("ResNet50", (64, 64, 1), "imagenet", "3 channels, not 1; set data.channels: 3"),
        ("ResNet50", (64, 64, 3), "no/such.h5", "there is no file no/such.h5"),
    ],
)
def test_what_does_not_fit_is_refused(name, shape, weights, words):
    with pytest.raises(ModelError, match=words):
        build_application(f"applications/{name}", shape, weights)


def test_weights_of_another_body_are_refused(weights_file):
    _, path = weights_file
    with pytest.raises(ModelError, match=r"no_top.h5 does not fit applications/MobileNetV2 \("):
        build_application("applications/MobileNetV2", (64, 64, 3), str(path))


@pytest.mark.slow
@pytest.mark.parametrize("name", application_names())
def test_every_application_gives_maps(name):
    keras.backend.clear_session()
    body = build_application(f"applications/{name}", (96, 128, 3))
    heights = [tensor.shape[1] for tensor in body.network.outputs]
    print(name, f"{body.network.count_params():,}", heights, body.network.outputs[0].shape[-1])
    assert body.network.count_params() == KNOWN.get(name, body.network.count_params())
    assert len(heights) == 5
    assert 96 / 4 <= heights[0] <= 96 / 2
    assert all(coarse <= fine for fine, coarse in pairwise(heights))
    assert heights[-1] in (1, 3)
