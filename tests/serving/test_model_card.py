"""The model card: what stands in it, and that what a model does is read off the model."""

import json
from datetime import UTC, datetime

import loc_keras
from loc_keras.models.body import Preprocessing, WeightsOrigin, preprocessing_of, random_weights
from loc_keras.serving.bundle import model_card

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
    assert written["figures"]["test"] == {"bbox_iou": 0.4}
    assert written["packages"] == {"keras": "3.15.1", "keras-cv": None}


def test_random_weights_need_no_licence():
    assert card(origin=random_weights("resnet18"))["weights"]["licence"] == "none needed"


def test_normalisation_is_read_off_the_model():
    model = loc_keras.build_localizer(
        image_shape=(32, 32, 1), num_classes=2, width=4, pixel_mean=[30.0], pixel_variance=[49.0]
    )
    assert preprocessing_of(model) == Preprocessing((30.0,), (7.0,), False)
