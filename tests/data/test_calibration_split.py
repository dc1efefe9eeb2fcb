"""Images held back for calibration, and boxes in px of the pictures behind a split."""

from pathlib import Path

import numpy as np
import pytest
from helpers.trust_examples import write_noise
from PIL import Image

from loc_keras.cli.data_source import DataSource
from loc_keras.config.load import load_config
from loc_keras.convert import main as convert
from loc_keras.data.dataset import SplitPictures, drawn_pictures
from loc_keras.errors import ConfigError, DataError
from loc_keras.report.image_boxes import small_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures of two classes, 60 x 30 px, with a box in the left half, as CSV."""
    root = tmp_path_factory.mktemp("pictures")
    rest = """
  image_size: 32
  resize: letterbox
  split: {val: 0.1, test: 0.1}
train: {batch_size: 8}
"""
    write_noise(root, (30, 60), lambda number: f"{'ab'[number % 2]},0.1,0.2,0.5,0.8", rest)
    return root


def names(data, split: str) -> list[str]:
    return data.pictures[split].names.tolist()


def test_calibration_is_cut_off_training_alone(folder: Path) -> None:
    plain = DataSource(load_config(folder / "config.yaml")).build()
    held = DataSource(load_config(folder / "config.yaml", ["data.split.calibration=0.25"])).build()
    assert plain.calibration is None
    assert "calibration" not in plain.sizes
    assert held.sizes == {"train": 22, "val": 4, "test": 4, "calibration": 10}
    # What figures are measured on, and epochs chosen by, stays what it was.
    for split in ("val", "test"):
        assert sorted(names(held, split)) == sorted(names(plain, split))
    every = [name for split in held.sizes for name in names(held, split)]
    assert len(set(every)) == len(every) == 40
    assert set(names(held, "calibration")) <= set(names(plain, "train"))
    assert held.fingerprint != plain.fingerprint
    labels = np.concatenate([targets["softmax"] for _, targets in held.calibration])
    assert sorted(labels.tolist()) == [0] * 5 + [1] * 5


def test_pictures_stand_in_the_order_of_the_pipeline(folder: Path) -> None:
    data = DataSource(load_config(folder / "config.yaml", ["data.split.calibration=0.25"])).build()
    pictures = data.pictures["calibration"]
    boxes = np.concatenate([targets["bbox"] for _, targets in data.calibration])
    # 60 x 30 px in 32 x 32: the picture lies at y 8 to 24, so y = .2 is at (8 + .2 x 16) / 32.
    assert boxes == pytest.approx(np.tile([0.1, 0.35, 0.5, 0.65], (10, 1)), abs=1e-6)
    assert pictures.to_px(boxes) == pytest.approx(np.tile([6, 6, 30, 24], (10, 1)), abs=1e-4)
    images = np.concatenate([images for images, _ in data.calibration])
    assert pictures.records is not None
    for row, picture in small_pictures(pictures.records, range(10)).items():
        original = np.asarray(Image.open(folder / "images" / str(pictures.names[row])))
        assert (picture == original).all()
        # The middle rows are the picture at about half its size.
        middle = images[row, 8:24].astype(float)
        halved = original.reshape(15, 2, 30, 2, 3).mean(axis=(1, 3))
        assert abs(middle.mean() - halved.mean()) < 2


def test_boxes_that_reach_into_the_padding_are_clipped() -> None:
    pictures = SplitPictures(
        np.array(["a"], object), np.array([[30, 60]], np.int32), "letterbox", (32, 32)
    )
    found = pictures.to_px(np.array([[0.0, 0.0, 1.0, 0.5]]))
    assert found == pytest.approx(np.array([[0, 0, 60, 15]]), abs=1e-4)


def test_drawn_pictures_are_numbered() -> None:
    pictures = drawn_pictures(3, (100, 80), (50, 40), "stretch")
    assert pictures.names.tolist() == ["000000", "000001", "000002"]
    assert pictures.to_px(np.tile([0.5, 0.5, 1.0, 1.0], (3, 1))).tolist() == [[40, 50, 80, 100]] * 3


def test_shares_that_leave_nothing_to_train_on(folder: Path) -> None:
    shares = [f"data.split.{name}" for name in ("val=0.4", "test=0.4", "calibration=0.2")]
    with pytest.raises(ConfigError, match=r"val \(0.4\), test \(0.4\) and calibration \(0.2\)"):
        load_config(folder / "config.yaml", shares)


def test_a_share_of_no_image_is_refused(folder: Path) -> None:
    config = load_config(folder / "config.yaml", ["data.split.calibration=0.01"])
    with pytest.raises(DataError, match=r"data\.split\.calibration 0\.01 of 40 images leaves none"):
        DataSource(config).build()


def test_converting_keeps_images_for_calibration_in_training(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "converted"
    arguments = ["--config", str(folder / "config.yaml"), "--to", "csv", "--out", str(out)]
    assert convert([*arguments, "--set", "data.split.calibration=0.25"]) == 0
    again = DataSource(load_config(out / "loc_keras.yaml")).build()
    assert again.sizes == {"train": 24, "val": 4, "test": 4, "calibration": 8}
