"""What of trust is refused before a training, and what becomes of a model without it."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from loc_keras.cli import trust
from loc_keras.cli.data_source import DataSource
from loc_keras.config.load import load_config
from loc_keras.errors import TrustError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 pictures of one class and 20 without an object, as CSV."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "images").mkdir()
    lines = []
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 20, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        lines.append(f"{number}.png,thing,0.1,0.2,0.5,0.8" if number % 2 else f"{number}.png,,,,,")
    (root / "all.csv").write_text("\n".join(lines) + "\n")
    (root / "config.yaml").write_text(f"""
data:
  source:
    format: csv
    path: "{root}"
    background: nothing
    csv: {{splits: {{train: {{csv: all.csv, images: images}}, val: null, test: null}}}}
  image_size: 20
  split: {{val: 0.1, test: 0, calibration: 0.4}}
train: {{batch_size: 4}}
""")
    return root


def check(folder: Path, *overrides: str) -> None:
    config = load_config(folder / "config.yaml", list(overrides))
    trust.check_trust(config, DataSource(config).build())


def test_images_without_an_object_do_not_count_for_boxes(folder: Path) -> None:
    # 16 images are held back, half of them show an object. With n of these a coverage of n/(n+1)
    # can be promised: 8/9 with 8 (Vovk et al. 2005), .9 takes 9.
    with pytest.raises(TrustError, match=r"9 images with an object .* calibration split has 8;"):
        check(folder, "trust.coverage=0.9")
    check(folder, "trust.coverage=0.88")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trust.per_class=true", r"margins for each class \(trust\.per_class\) cannot be fitted"),
        ("trust.scaling=spread", r"'spread' needs model\.bbox_head 'distribution', not 'spatial'"),
    ],
)
def test_what_cannot_be_had_is_refused_before_training(
    folder: Path, override: str, words: str
) -> None:
    with pytest.raises(TrustError, match=words):
        check(folder, "trust.coverage=0.8", "model.bbox_head=spatial", override)


def test_a_step_that_fails_leaves_a_model_to_export(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = keras.Input((4, 4, 1))
    best = keras.Model(image, keras.layers.Flatten()(image))
    config = load_config(folder / "config.yaml")
    data = DataSource(config).build()

    def fail(*_: object) -> None:
        raise TrustError("too few.")

    monkeypatch.setattr(trust, "calibrate_model", fail)
    result = trust.add_trust(config, data, Path(), Path(), best)
    assert result.model is best
    assert (result.texts, result.card) == ({}, None)
    assert str(result.error) == "there is no trust with this model: too few."
    plain = replace(data, calibration=None)
    assert trust.add_trust(config, plain, Path(), Path(), best).error is None
