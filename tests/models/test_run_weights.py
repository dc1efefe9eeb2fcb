"""The body of an earlier run: into other heads and sizes, and what is said where it cannot."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import loc_keras
from loc_keras.config.schema import BackboneConfig
from loc_keras.errors import ModelError
from loc_keras.models.body import BODY_NAME, body_layers
from loc_keras.models.weights import initial_weights

SMALL = {"width": 4, "stem": "small"}


def small(**changes) -> keras.Model:
    settings = {"image_shape": (32, 32, 1), "num_classes": 3, "bbox_head": "gap_mlp", **SMALL}
    return loc_keras.build_localizer(**{**settings, "class_head": "pooled", **changes})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder, as far as it matters, whose weights are all different from their start."""
    folder = tmp_path_factory.mktemp("runs") / "digits" / "20260101-000000"
    folder.mkdir(parents=True)
    model = small(pixel_mean=[20.0], pixel_variance=[900.0])
    random = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([random.uniform(0.1, 1, w.shape) for w in layer.get_weights()])
    model.save(folder / "best.keras")
    facts = {"images": {"train": 4500}, "data_fingerprint": "0123456789abcdef"}
    (folder / "environment.json").write_text(json.dumps(facts), "utf-8")
    return folder


def start(weights: Path, name: str = "resnet18", channels: int = 1):
    shape = SMALL if name == "resnet18" else {}
    return initial_weights(BackboneConfig(name=name, weights=str(weights), **shape), channels)


def body_arrays(model: keras.Model) -> list[np.ndarray]:
    return [array for layer in body_layers(model) for array in layer.get_weights()]


@pytest.mark.parametrize("file", ["", "best.keras"])
def test_a_body_moves_to_other_heads_classes_and_sizes(run, file):
    trained = keras.saving.load_model(run / "best.keras")
    model = small(
        image_shape=(40, 48, 1), num_classes=7, bbox_head="distribution", class_head="region"
    )
    head = model.get_layer("bbox_attention").get_weights()[0]
    start(run / file).load(model)
    moved = body_arrays(model)
    # 20 convolutions with one weight and 20 normalisations with four.
    assert len(moved) == 20 + 20 * 4
    for found, expected in zip(moved, body_arrays(trained), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(model.get_layer("bbox_attention").get_weights()[0], head)


def test_a_run_brings_its_pixels_and_its_name(run):
    found = start(run)
    assert found.preprocessing.mean == (20.0,)
    assert found.preprocessing.deviation == (30.0,)
    assert found.origin.source == (
        "the run digits/20260101-000000 (best.keras), trained on 4,500 images (fingerprint "
        "0123456789ab)"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 8}, r"it has 40 layers \(stem_conv, .* and 37 more\) of another shape; give"),
        ({"stem": "imagenet"}, r"it has 1 layer \(stem_conv\) of another shape; give"),
        ({"backbone": "resnet34"}, r"it lacks 32 layers \(stage1_block3_conv1, "),
        ({"backbone": "resnet50"}, r"it lacks .*; it has .* of another shape"),
    ],
)
def test_another_body_is_refused_in_words_of_the_config(run, changes, words):
    with pytest.raises(ModelError, match=words) as caught:
        start(run).load(small(**changes))
    assert "is resnet18 of width 4 with the small stem, and the new one" in str(caught.value)


def test_other_channels_are_refused(run):
    with pytest.raises(ModelError, match=r"channels: 1, and these images have 3; set it to 1\."):
        start(run, channels=3)


def test_files_that_hold_no_localizer(tmp_path, run):
    whole = (run / "best.keras").read_bytes()
    for content in (b"", b"garbage", whole[: len(whole) // 2]):
        (tmp_path / "broken.keras").write_bytes(content)
        with pytest.raises(ModelError, match=r"broken.keras cannot be opened as a model .*damaged"):
            start(tmp_path / "broken.keras")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ModelError, match="cannot be opened as a model") as caught:
        start(tmp_path / "empty.keras")
    assert "\n" not in str(caught.value)
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    with pytest.raises(ModelError, match="but no localizer of this package"):
        start(tmp_path / "other.keras")


def nested(side: int, filters: int = 2) -> keras.Model:
    """A localizer-like model whose body is nested, with layers that Keras numbers by itself."""
    inner = keras.Input((side, side, 1))
    x = keras.layers.Conv2D(filters, 3)(inner)
    x = keras.layers.Conv2D(filters, 3)(keras.layers.BatchNormalization()(x))
    images = keras.Input((side, side, 1))
    y = keras.layers.Normalization(mean=[3.0], variance=[4.0], name="normalization")(images)
    return keras.Model(images, keras.Model(inner, x, name=BODY_NAME)(y))


def test_bodies_of_others_are_matched_by_order_where_keras_numbers_their_layers(tmp_path):
    source, target = nested(16), nested(24)
    assert not {one.name for one in body_layers(source) if one.weights} & {
        one.name for one in body_layers(target)
    }
    source.save(tmp_path / "other.keras")
    found = start(tmp_path / "other.keras", name="applications/InceptionV3")
    found.load(target)
    for one, other in zip(body_arrays(source), body_arrays(target), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ModelError, match="no ResNet of ours"):
        found.load(nested(24, filters=3))
