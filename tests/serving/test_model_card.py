"""The model card: what stands in it, and that what a model does is read off the model."""

import json
from datetime import UTC, datetime

import loc_keras
from loc_keras.models.body import Preprocessing, WeightsOrigin, preprocessing_of, random_weights
from loc_keras.serving.bundle import behind_served, model_card

ORIGIN = WeightsOrigin("applications/VGG16", "imagenet", "who made it", "CC-BY-4.0", "ab" * 32)


def card(**changes):
    settings = {
        "name": "birds",
        "class_names": ["owl", "tit"],
        "image_shape": (64, 96, 3),
        "resize": "letterbox",
        "preprocessing": Preprocessing((103.0, 116.0, 123.0), (1.0, 1.0, 1.0), True),
        "origin": ORIGIN,
        "images": {"train": 80, "val": 10, "test": 10},
        "fingerprint": "cd" * 32,
        "test_fingerprint": "ef" * 32,
        "figures": {"val": {"bbox_iou": 0.5, "images": 10}, "test": {"bbox_iou": 0.4}},
        "packages": {"keras": "3.15.1", "keras-cv": None},
        "date": datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        **changes,
    }
    return model_card(**settings)


def test_card_holds_what_a_user_of_the_model_needs():
    written = json.loads(json.dumps(card()))
    assert written["date"] == "2030-01-02T03:04:05+00:00"
    assert written["classes"] == ["owl", "tit"]
    assert [written["input"][key] for key in ("height", "width", "channels")] == [64, 96, 3]
    assert set(written["outputs"]) == {"softmax", "bbox"}
    assert written["preprocessing"]["resize"] == "letterbox"
    assert written["preprocessing"]["mean"] == [103.0, 116.0, 123.0]
    assert written["preprocessing"]["reverse_channels"] is True
    assert written["body"] == "applications/VGG16"
    assert written["weights"] == {
        "weights": "imagenet",
        "source": "who made it",
        "licence": "CC-BY-4.0",
        "sha256": "ab" * 32,
    }
    assert written["training_data"]["fingerprint"] == "cd" * 32
    assert written["training_data"]["test_fingerprint"] == "ef" * 32
    assert written["figures"]["test"] == {"bbox_iou": 0.4}
    assert written["packages"] == {"keras": "3.15.1", "keras-cv": None}


def test_random_weights_need_no_licence():
    assert card(origin=random_weights("resnet18"))["weights"]["licence"] == "none needed"


def test_normalisation_is_read_off_the_model():
    model = loc_keras.build_localizer(
        image_shape=(32, 32, 1), num_classes=2, width=4, pixel_mean=[30.0], pixel_variance=[49.0]
    )
    assert preprocessing_of(model) == Preprocessing((30.0,), (7.0,), False)


def with_figures(accuracy, iou, **changes):
    figures = {"softmax_accuracy": accuracy, "bbox_iou": iou, "images": 1250}
    return card(figures={"test": figures}, **changes)


def serve(base, version, content):
    (base / version / "assets.extra").mkdir(parents=True)
    (base / version / "assets.extra" / "model_card.json").write_text(content)


def test_a_model_that_is_worse_than_the_newest_version_is_told(tmp_path):
    base = tmp_path / "birds"
    assert behind_served(with_figures(0.1, 0.1), base) is None
    serve(base, "9", json.dumps(with_figures(1.0, 1.0)))
    serve(base, "10", json.dumps(with_figures(0.9, 0.5)))
    # .96 x .46 = .4416 is less than .9 x .5 = .45, .96 x .47 = .4512 is more.
    assert behind_served(with_figures(0.96, 0.46), base) == (
        "on the same 1,250 test images this model has a class accuracy of 96.00% and a mean IoU of "
        f"0.4600, and {base / '10'} has a class accuracy of 90.00% and a mean IoU of 0.5000"
    )
    assert behind_served(with_figures(0.96, 0.47), base) is None
    assert behind_served(with_figures(0.9, 0.5), base) is None


def test_models_are_compared_on_the_same_test_images_alone(tmp_path):
    serve(tmp_path, "1", json.dumps(with_figures(0.9, 0.9)))
    other = {"fingerprint": "01", "test_fingerprint": "02"}
    assert behind_served(with_figures(0.1, 0.1, **other), tmp_path) is None
    # More training images, the same to test on.
    assert behind_served(with_figures(0.1, 0.1, fingerprint="01"), tmp_path) is not None
    # Earlier versions wrote the fingerprint of all data alone.
    old = with_figures(0.9, 0.9)
    del old["training_data"]["test_fingerprint"]
    serve(tmp_path, "2", json.dumps(old))
    assert behind_served(with_figures(0.1, 0.1), tmp_path) is not None
    assert behind_served(with_figures(0.1, 0.1, fingerprint="01"), tmp_path) is None
    serve(tmp_path, "3", "no card")
    assert behind_served(with_figures(0.1, 0.1), tmp_path) is None
