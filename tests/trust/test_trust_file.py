"""trust.json, the model that states what stands in it, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.trust_examples import CLASSES, seen_by
from hypothesis import given, settings
from hypothesis import strategies as st

import loc_keras
from loc_keras.atomic_file import file_sha256
from loc_keras.config.schema import TrustConfig
from loc_keras.data.dataset import SplitPictures
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import TrustError
from loc_keras.evaluation.outcomes import Bootstrap, Outcomes
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.saved_model import export_saved_model
from loc_keras.training.run_folder import TRUST_FILE
from loc_keras.trust import fit
from loc_keras.trust.conformal import within
from loc_keras.trust.fit import chance_of_less, fit_statements, trust_figures
from loc_keras.trust.shift import shift_reference
from loc_keras.trust.statements import (
    STATED,
    VERSION,
    Calibration,
    Statements,
    Trust,
    read_trust,
    stated,
    trusted_model,
    write_trust,
)


@pytest.fixture(scope="module")
def seen() -> Outcomes:
    return seen_by(np.random.default_rng(0))


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    path = tmp_path / "best.keras"
    path.write_bytes(b"weights")
    return path


@pytest.fixture(scope="module")
def fitted(seen: Outcomes) -> Statements:
    return fit_statements(seen, TrustConfig(coverage=0.9), CLASSES)


@pytest.fixture
def trust(seen: Outcomes, fitted: Statements, model_path: Path) -> Trust:
    base = Calibration("calibration", len(seen), len(seen), "data", file_sha256(model_path), 0.9)
    return Trust(VERSION, base, fitted, shift_reference(seen))


def test_round_trip(trust: Trust, tmp_path: Path, model_path: Path, seen: Outcomes) -> None:
    path = tmp_path / TRUST_FILE
    write_trust(path, trust)
    again = read_trust(path, model_path)
    assert again == trust
    assert again is not None
    for name, value in stated(seen.outputs, again.statements).items():
        assert (np.asarray(value) == np.asarray(stated(seen.outputs, trust.statements)[name])).all()


def test_no_file_is_no_trust(tmp_path: Path, model_path: Path) -> None:
    assert read_trust(tmp_path / TRUST_FILE, model_path) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda text: text[:50],
            r"is damaged .*; move it away and run python -m loc_keras.calibrate again\.$",
        ),
        (lambda text: "[]", "is of version None, not 1"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "is of version 2, not 1"),
        (lambda text: text.replace('"temperature"', '"heat"'), r"damaged \(statements.temperature"),
        (lambda text: text.replace('"temperature": ', '"temperature": -'), "be greater than 0"),
        (lambda text: text.replace('"boxes"', '"none"'), "boxes and label_sets are needed where"),
    ],
)
def test_a_bad_file_is_refused_in_a_sentence(
    trust: Trust, tmp_path: Path, model_path: Path, change, words: str
) -> None:
    path = tmp_path / TRUST_FILE
    write_trust(path, trust)
    path.write_text(change(path.read_text()))
    with pytest.raises(TrustError, match=words) as caught:
        read_trust(path, model_path)
    assert str(path) in str(caught.value)


def test_trust_of_another_model_is_refused(trust: Trust, tmp_path: Path, model_path: Path) -> None:
    write_trust(tmp_path / TRUST_FILE, trust)
    model_path.write_bytes(b"other weights")
    with pytest.raises(TrustError, match="was fitted to another model"):
        read_trust(tmp_path / TRUST_FILE, model_path)


# What is stated


def test_fresh_images_keep_the_promises(seen: Outcomes) -> None:
    statements = fit_statements(seen, TrustConfig(coverage=0.8), CLASSES)
    fresh = seen_by(np.random.default_rng(7), 4000)
    said = {name: np.asarray(value) for name, value in stated(fresh.outputs, statements).items()}
    # Beta(97, 24) of 120 calibration images: mean .80, standard deviation .036.
    sets = said["label_set"][np.arange(4000), fresh.labels]
    assert abs(sets.mean() - 0.8) < 3 * 0.036
    true = fresh.outputs["bbox_true"]
    assert abs(within(true, said["box_outer"]).mean() - 0.8) < 3 * 0.036
    empty = ~said["box_inner"].any(axis=1)
    assert abs((empty | within(said["box_inner"], true)).mean() - 0.8) < 3 * 0.036
    assert within(said["box_inner"][~empty], said["box_outer"][~empty]).all()
    # The spread tells the quality of a made-up box.
    assert (said["softmax_calibrated"].argmax(axis=1) == fresh.outputs["softmax"].argmax(1)).all()
    assert 0 < said["p_iou50"].min() < said["p_iou50"].max() <= 1


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.3, 0.98), min_size=2, max_size=4, unique=True))
def test_more_coverage_never_says_less(
    seen: Outcomes, fitted: Statements, coverages: list[float]
) -> None:
    before = None
    for coverage in sorted(coverages):
        with pytest.MonkeyPatch.context() as patch:  # Neither goes by the coverage.
            patch.setattr(fit, "fit_temperature", lambda *_: fitted.temperature)
            patch.setattr(fit, "fit_box_confidence", lambda *_: fitted.box_confidence)
            statements = fit_statements(seen, TrustConfig(coverage=coverage), CLASSES)
        said = {n: np.asarray(v) for n, v in stated(seen.outputs, statements).items()}
        if before is not None:
            assert within(before["box_outer"], said["box_outer"]).all()
            still = said["box_inner"].any(axis=1)
            assert within(said["box_inner"][still], before["box_inner"][still]).all()
            assert (said["label_set"] >= before["label_set"]).all()
        before = said


def test_few_images_are_refused(seen: Outcomes) -> None:
    with pytest.raises(TrustError, match="needs 99 calibration images or more, but there are 60"):
        fit_statements(seen.take(np.arange(60)), TrustConfig(coverage=0.99), CLASSES)


def test_scaling_by_a_spread_that_is_not_there(seen: Outcomes) -> None:
    plain = {name: seen.outputs[name] for name in ("softmax", "bbox", "bbox_true", "features")}
    bare = replace(seen, outputs=plain)
    with pytest.raises(TrustError, match="'spread' need the standard deviation"):
        fit_statements(bare, TrustConfig(scaling="spread"), CLASSES)
    assert fit_statements(bare, TrustConfig(), CLASSES).boxes.scaling == "size"


def test_margins_for_each_class(seen: Outcomes) -> None:
    options = TrustConfig(coverage=0.8, per_class=True)
    assert len(fit_statements(seen, options, CLASSES).boxes.outer) == 3
    with pytest.raises(TrustError, match=r"'owl' \(\d+\)"):
        fit_statements(seen, options.model_copy(update={"coverage": 0.98}), CLASSES)
    with pytest.raises(TrustError, match=r"trust\.per_class"):
        fit_statements(replace(seen, background=2), options, CLASSES)


def test_images_without_an_object_say_nothing_about_boxes(seen: Outcomes) -> None:
    labels = seen.labels.copy()
    boxes = np.where((labels == 2)[:, None], 0, seen.outputs["bbox_true"]).astype(np.float32)
    with_empty = replace(seen, outputs={**seen.outputs, "bbox_true": boxes}, background=2)
    only = with_empty.take(with_empty.shown)
    a = fit_statements(with_empty, TrustConfig(), CLASSES)
    b = fit_statements(only, TrustConfig(), CLASSES)
    assert (a.boxes, a.box_confidence) == (b.boxes, b.box_confidence)
    assert a.label_sets != b.label_sets


@pytest.mark.parametrize(
    ("kept", "images", "chance"),
    [
        # The worst of 9 scores is the margin: a tenth image beats it with a probability of 1/10.
        ([False], 9, 0.1),
        ([True], 9, 1.0),
        # Of 11 scores in any order the two new ones are the largest two: 2 / (11 x 10).
        ([False, False], 9, 1 / 55),
    ],
)
def test_chance_of_being_kept_so_seldom(kept: list[bool], images: int, chance: float) -> None:
    assert chance_of_less(np.array(kept), 0.9, images) == pytest.approx(chance)


def test_a_box_is_a_share_of_the_picture_and_not_of_its_bars(trust: Trust, seen: Outcomes) -> None:
    images, statements = len(seen), trust.statements
    # 60 x 30 px in 32 x 32: the picture lies at y .25 to .75, and the bars above and below it.
    pictures = SplitPictures(
        np.array(["a"] * images, object), np.tile([[30, 60]], (images, 1)), "letterbox", (32, 32)
    )
    found = trust_figures(trust, seen, pictures.to_px, Bootstrap(0.95, 100, 0))
    said = {
        name: np.asarray(value, float) for name, value in stated(seen.outputs, statements).items()
    }
    for guarantee, name in zip(found.guarantees[1:], ("box_outer", "box_inner"), strict=True):
        x1, y1, x2, y2 = said[name].T
        height = np.clip(y2, 0.25, 0.75) - np.clip(y1, 0.25, 0.75)
        assert guarantee.size == pytest.approx(((x2 - x1) * height / 0.5).mean(), abs=1e-5)


# As a model


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_model_states_it_saved_and_served(trust: Trust, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    localizer = loc_keras.build_localizer(image_shape=(32, 32, 3), num_classes=3, width=4)
    statements = replace(trust.statements, flip=False)
    model = trusted_model(localizer, statements)
    assert set(model.output) == {"softmax", "bbox", *STATED}
    images = np.random.default_rng(2).integers(0, 256, (6, 32, 32, 3)).astype(np.float32)
    live = {name: np.asarray(value) for name, value in model(images, training=False).items()}
    plain = localizer(images, training=False)
    assert live["bbox"] == pytest.approx(np.asarray(plain["bbox"]), abs=1e-6)
    assert live["label_set"].dtype == bool

    model.save(tmp_path / "trusted.keras")
    again = keras.saving.load_model(tmp_path / "trusted.keras")
    for name, value in again(images, training=False).items():
        assert np.asarray(value, float) == pytest.approx(live[name].astype(float), abs=1e-6)

    samples = [tf.io.encode_png(image).numpy() for image in images.astype(np.uint8)]
    bundle = Bundle(
        model,
        CLASSES,
        ImageFormat((32, 32), 3, "letterbox"),
        samples,
        texts={TRUST_FILE: json.dumps({"a": 1})},
    )
    # The exporter itself compares every output with the live model's.
    folder = export_saved_model(bundle, tmp_path / "served")
    assert json.loads((folder / "assets.extra" / TRUST_FILE).read_text()) == {"a": 1}
