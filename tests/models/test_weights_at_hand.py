"""Which weights of ImageNet are taken without being asked for, of those that can be had in time."""

import threading
from pathlib import Path

import pytest

from loc_keras.config.schema import BackboneConfig
from loc_keras.errors import ModelError
from loc_keras.models import weights
from loc_keras.models.body import random_weights
from loc_keras.models.weights import Start, weights_at_hand

BODIES, OTHER = ("resnet18", "resnet34"), "applications/MobileNetV3Small"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for files of weights; KerasHub is not installed."""
    monkeypatch.setenv("LOC_KERAS_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    return tmp_path


def asked_of(monkeypatch: pytest.MonkeyPatch, *there: tuple[str, str]) -> list[tuple[str, str]]:
    """Has some pairs of body and weights at hand; the list of what was asked for."""
    asked: list[tuple[str, str]] = []

    def find(backbone: BackboneConfig, shape: tuple[int, int, int]) -> Start:
        asked.append((backbone.name, backbone.weights))
        if asked[-1] in there:
            return Start(random_weights(backbone.name))
        raise ModelError(f"{backbone.name} cannot be fetched; do this.")

    monkeypatch.setattr(weights, "find_start", find)
    return asked


def test_files_come_first_and_the_body_that_fits_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "a.safetensors").touch()
    file = str(place / "a.safetensors")
    asked = asked_of(monkeypatch, ("resnet34", file), (OTHER, "imagenet"))
    assert weights_at_hand(BODIES, OTHER) == (file, "resnet34")
    assert asked == [("resnet18", file), ("resnet34", file)]
    monkeypatch.setenv("LOC_KERAS_WEIGHTS", file)
    assert weights_at_hand(BODIES, OTHER) == (file, "resnet34")


def test_packages_are_asked_in_their_order(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_of(monkeypatch, (OTHER, "imagenet"))
    assert weights_at_hand(BODIES, OTHER) == ("imagenet", OTHER)
    assert asked == [(OTHER, "imagenet")]
    monkeypatch.setattr(weights, "find_spec", lambda name: name == "keras_hub")
    assert weights_at_hand(BODIES, OTHER) == ("imagenet", OTHER)
    assert asked[1:] == [("resnet18", "imagenet"), (OTHER, "imagenet")]


def test_a_broken_file_and_no_network_tell_what_to_do(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    # A torn download: half of a header, which promises 200 bytes.
    (place / "torn.safetensors").write_bytes((200).to_bytes(8, "little") + b'{"fc.weight"')
    monkeypatch.setenv("KERAS_HOME", str(place / "keras"))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    with pytest.raises(ModelError, match=r"MobileNetV3Small cannot be fetched .*put it to .*h5"):
        weights_at_hand(BODIES, OTHER)
    assert not list(place.rglob("*.h5"))


def test_what_does_not_come_in_time_is_left(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(weights, "find_start", lambda *_: end.wait(60))
    with pytest.raises(ModelError, match=r"none came within 0\.05 s"):
        weights_at_hand(BODIES, OTHER, 0.05)
    end.set()
