"""What a localizer starts from: bodies and weights of every kind behind one function."""

import keras
import numpy as np
import pytest

import loc_keras
from loc_keras import train
from loc_keras.config.schema import BackboneConfig
from loc_keras.errors import ModelError
from loc_keras.models.body import body_layers
from loc_keras.models.weights import find_start, names_a_run

MOBILE = "applications/MobileNetV3Small"


def start(name="resnet18", weights="none", image_shape=(48, 48, 3)):
    width = {"width": 4} if name == "resnet18" else {}
    return find_start(BackboneConfig(name=name, weights=weights, **width), image_shape)


@pytest.fixture(scope="module")
def mobile_run(tmp_path_factory):
    """A saved localizer with a body of `keras.applications`, as an earlier run leaves it."""
    folder = tmp_path_factory.mktemp("run")
    model = loc_keras.build_localizer(image_shape=(64, 64, 3), num_classes=2, backbone=MOBILE)
    model.save(folder / "best.keras")
    return folder, model


def test_a_run_with_another_body_gives_it_whatever_size_and_classes(mobile_run):
    folder, model = mobile_run
    found = start(MOBILE, str(folder), (96, 80, 3))
    localizer = loc_keras.build_localizer(
        image_shape=(96, 80, 3), num_classes=5, backbone=MOBILE, body=found.body
    )
    found.load(localizer)
    before = [weight for layer in body_layers(model) for weight in layer.get_weights()]
    after = [weight for layer in body_layers(localizer) for weight in layer.get_weights()]
    assert len(before) > 100
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    # MobileNetV3 rescales by itself: the pixels must come as they are.
    assert found.preprocessing.mean == (0, 0, 0) and found.preprocessing.deviation == (1, 1, 1)
    keras.saving.load_model(folder / "best.keras")


def test_the_body_of_a_run_is_refused_by_another_one(mobile_run):
    folder, _ = mobile_run
    found = start("resnet18", str(folder))
    localizer = loc_keras.build_localizer(image_shape=(48, 48, 3), num_classes=2, width=4)
    with pytest.raises(ModelError, match="the new one is another"):
        found.load(localizer)


def test_absent_weights_are_named_before_the_data_are_read(tmp_path, capsys):
    config = tmp_path / "a.yaml"
    config.write_text(
        "data: {source: {format: voc, path: nowhere}}\n"
        "model: {backbone: {weights: gone.safetensors}}\nexport: {enabled: false}\n"
    )
    assert train.main(["--config", str(config)]) == 2
    assert "there is no file or folder gone.safetensors" in capsys.readouterr().err


def test_random_weights_expect_no_pixels():
    found = start()
    assert found.body is None and found.preprocessing is None
    assert found.origin.weights == "none"


def test_a_run_is_known_by_its_file(tmp_path):
    assert names_a_run("anything.keras")
    assert not names_a_run(str(tmp_path)) and not names_a_run("imagenet")
    (tmp_path / "best.keras").touch()
    assert names_a_run(str(tmp_path))
