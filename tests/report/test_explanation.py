"""What a picture says of an answer is what the model went by.

A model with a pooled head is linear behind its last map, so that its evidence is a formula over its
weights, computed here by NumPy; for the region head the gradient is taken by finite differences.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest
import scipy.special
from helpers.localizer_run import photograph, write_run
from helpers.training_examples import tiny
from PIL import Image

import loc_keras
from loc_keras import predict
from loc_keras.errors import ModelError
from loc_keras.localizer.opening import open_trained
from loc_keras.models.heads import SIDES_LAYER
from loc_keras.report.explanation import (
    CLASS_MAP,
    SIDE_BANDS,
    Explanation,
    drawn_explanation,
    explainer,
)

pytestmark = pytest.mark.usefixtures("short_body")

BLUE = np.array([0x35, 0xC9, 0xFF])  # Of SIDE_BANDS.
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1)).astype(np.float32)


def outputs_of(model, images, **tensors):
    found = keras.Model(model.inputs[0], tensors)(images)
    return {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}


def test_evidence_of_a_pooled_head_is_its_weights_times_its_map():
    model = tiny(bbox_head="spatial", class_head="pooled")
    explained = explainer(model)(IMAGES)
    pooled, logits = model.get_layer("softmax_pool"), model.get_layer("softmax_logits")
    found = outputs_of(model, IMAGES, map=pooled.input, scores=logits.output)
    weights = keras.ops.convert_to_numpy(logits.kernel)
    for own, features, scores in zip(explained, found["map"], found["scores"], strict=True):
        evidence = np.maximum(features @ weights[:, scores.argmax()], 0)
        assert own.sides is None
        assert own.class_map.shape == (32, 32)
        # At the centres of the cells bilinear enlargement gives back the cells, up to neighbours.
        tall, wide = evidence.shape
        cells = own.class_map.reshape(tall, 32 // tall, wide, 32 // wide).mean((1, 3))
        assert np.corrcoef(cells.ravel(), evidence.ravel())[0, 1] > 0.95
        assert own.class_map.max() == pytest.approx(1.0)


@pytest.mark.whole
def test_evidence_of_a_region_head_is_the_gradient_of_its_logit():
    """Of the finest map that the class is read from, by differences of the rest of the model."""
    keras.utils.set_random_seed(0)
    model = tiny(bbox_head="distribution", class_head="region")
    crop, logits = model.get_layer("softmax_region1"), model.get_layer("softmax_logits")
    images = IMAGES[:1]
    features = outputs_of(model, images, map=crop.input[0])["map"]
    stem = model.get_layer("softmax_region0").input[0]
    rest = keras.Model([stem, crop.input[0]], logits.output)
    held = outputs_of(model, images, stem=stem)["stem"]

    def score(changed):
        return keras.ops.convert_to_numpy(rest([held, changed]))[0].astype(np.float64)

    best = score(features).argmax()
    (own,) = explainer(model)(images)
    tall, wide = features.shape[1:3]
    cells = own.class_map.reshape(tall, 32 // tall, wide, 32 // wide).mean((1, 3))
    evidence = np.zeros((tall, wide))
    for row in range(tall):
        for column in range(wide):
            step = 0.01 * features
            step[:, :row], step[:, row + 1 :] = 0, 0
            step[:, :, :column], step[:, :, column + 1 :] = 0, 0
            change = score(features + step)[best] - score(features - step)[best]
            evidence[row, column] = max(change / 0.02, 0)
    assert np.corrcoef(cells.ravel(), evidence.ravel())[0, 1] > 0.9


def test_sides_are_the_distribution_of_the_box_head():
    model = tiny(bbox_head="distribution", class_head="region")
    logits = outputs_of(model, IMAGES, sides=model.get_layer(SIDES_LAYER).output)["sides"]
    for own, expected in zip(explainer(model)(IMAGES), logits, strict=True):
        np.testing.assert_allclose(own.sides, scipy.special.softmax(expected, -1), atol=1e-6)
        np.testing.assert_allclose(own.sides.sum(-1), 1.0, atol=1e-5)


def test_a_picture_is_bright_where_the_class_was_read_from():
    evidence = np.zeros((10, 10), np.float32)
    evidence[2:5, 6:9] = 1.0
    white = Image.new("RGB", (100, 50), "white")
    drawn, styles = drawn_explanation(white, Explanation(evidence, None), "stretch")
    pixels = np.asarray(drawn).astype(int)
    assert drawn.size == (100, 50)
    assert styles == [CLASS_MAP]
    assert (pixels[12:23, 65:85] > 230).all()  # Rows 2..5 of 10 are 10..25 of 50 px.
    assert (pixels[40:, :40] < 100).all()


def test_bands_run_where_the_sides_are():
    sides = np.zeros((4, 11), np.float32)
    for side, place in enumerate((2, 4, 8, 9)):
        sides[side, place] = 1.0
    lit = Explanation(np.ones((10, 10), np.float32), sides)
    drawn, styles = drawn_explanation(Image.new("RGB", (110, 110), "black"), lit, "stretch")
    pixels = np.asarray(drawn).astype(float)
    assert styles == [CLASS_MAP, SIDE_BANDS]
    blue = pixels @ BLUE / (BLUE @ BLUE)
    # Bin k of 11 lies over the px 10 k to 10 k + 10; off the other bands at row and column 65.
    assert {at // 10 for at in np.flatnonzero(blue[65] > 0.6)} == {2, 8}
    assert {at // 10 for at in np.flatnonzero(blue[:, 65] > 0.6)} == {4, 9}
    assert blue[65, 65] == 0.0


def test_a_letterboxed_picture_gets_its_own_part_of_the_map():
    """100 x 50 px stand in the middle half of a square: rows 5..15 of 20."""
    evidence = np.zeros((20, 20), np.float32)
    evidence[5:10] = 1.0
    evidence[:3] = 1.0  # The black above the picture.
    white = Image.new("RGB", (100, 50), "white")
    drawn, _ = drawn_explanation(white, Explanation(evidence, None), "letterbox")
    bright = np.asarray(drawn)[..., 0].mean(axis=1)
    assert (bright[:20] > 250).all()
    assert (bright[30:] < 100).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("explained") / "run")
    photograph(0).save(folder / "photo.png")
    return folder


def test_a_run_explains_its_answers(run):
    localizer = loc_keras.Localizer.load(run)
    photo = str(run / "photo.png")
    plain = localizer.annotate(photo, localizer.predict(photo))
    explained = localizer.explain(photo)
    # The same picture, above a legend of what is shown besides the box.
    assert explained.width == plain.width
    assert explained.height > plain.height
    assert np.abs(np.asarray(explained)[: plain.height].astype(int) - np.asarray(plain)).max() > 50


@pytest.mark.whole
def test_the_command_writes_pictures_of_why(run, tmp_path, capsys):
    options = ["--model", str(run), str(run / "photo.png"), "--out", str(tmp_path / "answers")]
    assert predict.main([*options, "--explain"]) == 0
    with Image.open(tmp_path / "answers" / "explained" / "photo.jpg") as picture:
        assert picture.size[0] >= 90
    (tmp_path / "answers" / "explained" / "photo.jpg").unlink()
    assert predict.main([*options, "--explain"]) == 0  # What is missing is written again.
    assert (tmp_path / "answers" / "explained" / "photo.jpg").is_file()
    with pytest.raises(SystemExit):
        predict.main([*options[:3], "--explain"])
    assert "give --out" in capsys.readouterr().err


def test_what_has_no_gradients_is_told(run):
    opened = replace(open_trained(run), model=None)
    other = replace(opened, model=keras.Sequential([keras.layers.Input((4,)), keras.layers.ReLU()]))
    assert loc_keras.Localizer.load(run).explains
    for one in (opened, other):
        assert not loc_keras.Localizer(one).explains
        with pytest.raises(ModelError, match=r"is an export or of other layers .* cannot say why"):
            loc_keras.Localizer(one).explain(str(run / "photo.png"))
