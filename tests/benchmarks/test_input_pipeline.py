"""The benchmark of the input pipeline: what it measures is what it says."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import input_pipeline
from benchmarks.input_others import _augmented, pillow_loader
from benchmarks.input_pipeline import KINDS, Kind, photograph, write_images

SMALL = Kind(32, (24, 24), "JPEG")
NO_CHANGE = dict.fromkeys(("rotation", "scale", "translate", "brightness", "contrast"), 0.0)


def test_made_photographs_have_the_size_of_real_ones(tmp_path):
    records, size = write_images(tmp_path / "images", KINDS["500 px JPEG"], count=6)
    # Public sets of photographs of about this size have 4 to 5 bits a pixel.
    assert 3.5 < size * 8 / 500**2 < 5.5
    assert len(records) == 6
    assert Image.open(records.paths[0]).size == (500, 500)


def test_the_box_is_that_of_the_ellipse():
    image, box = photograph(np.random.default_rng(0), Kind(200, (200, 200), "PNG", grain=0.0))
    left, top, right, bottom = (round(float(side)) for side in box * 200)
    pixels = np.asarray(image)
    colour = pixels[(top + bottom) // 2, (left + right) // 2]
    rows, columns = np.nonzero((pixels == colour).all(-1))
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(found, [left, top, right, bottom], atol=1)


def test_the_pillow_loader_moves_boxes_with_pixels():
    drawn = np.zeros((100, 100, 3), np.uint8)
    drawn[30:60, 20:70] = 255
    knobs = {**NO_CHANGE, "scale": 0.2, "translate": 0.1}
    rng = np.random.default_rng(0)
    for _ in range(20):
        pixels, box = _augmented(Image.fromarray(drawn), [0.2, 0.3, 0.7, 0.6], knobs, rng)
        inside = pixels[..., 0] > 127
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(box * 100, found, atol=1.1)


def test_the_pillow_loader_counts_its_images(tmp_path):
    records, _ = write_images(tmp_path / "images", SMALL, count=5)
    loader = pillow_loader(records, SMALL.target, NO_CHANGE, batch=2)
    assert [next(loader) for _ in range(4)] == [2, 2, 2, 2]


@pytest.mark.slow
def test_all_loaders_are_compared(monkeypatch, capsys):
    monkeypatch.setattr(input_pipeline, "KINDS", {"small": SMALL})
    monkeypatch.setattr(
        sys, "argv", ["input_pipeline", "--json", "--seconds", "0.05", "--rounds", "1"]
    )
    input_pipeline.main()
    rows = json.loads(capsys.readouterr().out)
    assert [row["loader"] for row in rows] == [
        "decode alone",
        "ours",
        "ours, augmented",
        "KerasCV",
        "PIL loader",
    ]
    assert {row["images"] for row in rows} == {"small"}
    assert all(row["images/s"] > 0 for row in rows)
    assert rows[0]["of the limit"] == 1.0
    assert rows[-1]["times PIL"] == 1.0


@pytest.mark.slow
def test_memory_is_followed(monkeypatch, capsys):
    monkeypatch.setattr(input_pipeline, "KINDS", {"100 px PNG": SMALL})
    monkeypatch.setattr(sys, "argv", ["input_pipeline", "--memory", "--images", "4096", "--json"])
    input_pipeline.main()
    rows = json.loads(capsys.readouterr().out)
    assert [row["images"] for row in rows] == [2048, 2048, 2048, 3072, 4096]
    assert all(row["resident MiB"] > 50 for row in rows)
