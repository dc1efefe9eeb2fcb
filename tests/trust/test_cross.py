"""Boxes and label sets by all models of the folds: against loops by hand, and how often kept."""

import math
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.trust_examples import CLASSES, seen_by

import loc_keras
from loc_keras.atomic_file import file_sha256
from loc_keras.config.schema import TrustConfig
from loc_keras.errors import TrustError
from loc_keras.trust.conformal import (
    CrossScores,
    cross_stated,
    fit_boxes,
    fit_label_sets,
    fold_ensemble,
    inner_boxes,
    label_sets,
    outer_boxes,
    scales_of,
    within,
)
from loc_keras.trust.fit import fit_statements
from loc_keras.trust.observations import observer
from loc_keras.trust.shift import shift_reference
from loc_keras.trust.statements import (
    FOLDS_FILE,
    VERSION,
    Calibration,
    Trust,
    read_folds,
    stated,
    trusted_model,
)

N, M, NEW, COVERAGE = 40, 4, 25, 0.8


def boxes_around(rng: np.random.Generator, truth: np.ndarray, error: float) -> np.ndarray:
    moved = truth + rng.normal(0, error, truth.shape)
    return np.concatenate(
        [np.minimum(moved[..., :2], moved[..., 2:]), np.maximum(moved[..., :2], moved[..., 2:])], -1
    ).clip(0, 1)


def true_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.uniform(0.1, 0.4, (count, 2))
    return np.concatenate([low, low + rng.uniform(0.2, 0.5, (count, 2))], axis=1)


def shares(rng: np.random.Generator, shape: tuple[int, ...], labels: np.ndarray) -> np.ndarray:
    logits = rng.normal(0, 1.5, (*shape, 3)) + 2 * np.eye(3)[labels].reshape(
        *labels.shape, *(1,) * (len(shape) - labels.ndim), 3
    )
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def score(softmax: np.ndarray, label: int) -> float:
    """What is more probable than a label, and .01 for each rank from the second on."""
    order = np.argsort(-softmax, kind="stable").tolist()
    rank = order.index(label)
    return float(softmax[order[:rank]].sum() + 0.01 * rank)


def example(seed: int) -> tuple[CrossScores, dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Scores of N images by M models without spread, answers about NEW ones, and their truth."""
    rng = np.random.default_rng(seed)
    folds = np.arange(N) % M
    truth, labels = true_boxes(rng, N + NEW), rng.integers(0, 3, N + NEW)
    of_model = rng.uniform(0.01, 0.06, M)
    seen = boxes_around(rng, truth[:N], 0.04)
    own = shares(rng, (N,), labels[:N])
    edges = (truth[:N] - seen) * [-1, -1, 1, 1]
    sizes = (seen[:, 2:] - seen[:, :2]).min(axis=1) / 2
    cross = CrossScores(
        COVERAGE, "additive", 0.01, 1, tuple(folds.tolist()),
        tuple(score(*pair) for pair in zip(own, labels[:N].tolist(), strict=True)),
        tuple(folds.tolist()), tuple(edges.max(axis=1).tolist()),
        tuple(np.minimum((-edges).max(axis=1), sizes).tolist()),
    )  # fmt: skip
    new = np.stack([boxes_around(rng, truth[N:], error) for error in of_model], axis=1)
    softmax = shares(rng, (NEW, M), labels[N:])
    outputs = {"bbox_folds": new, "softmax_folds": softmax, "softmax": softmax.mean(axis=1)}
    columns = {name: value.astype(np.float32) for name, value in outputs.items()}
    return cross, columns, truth[N:], labels[N:]


def test_sides_and_labels_are_those_of_the_definition() -> None:
    cross, outputs, _, _ = example(0)
    said = {name: np.asarray(value) for name, value in cross_stated(outputs, cross).items()}
    # A label or box is believed unless .8 x 41 = 32.8 scores or more are below its own: up to 32
    # may be, so 8 of the 40 boxes at least must hold it.
    for image in range(NEW):
        lows, highs, inner_lows, inner_highs = [], [], [], []
        for fold, out, into in zip(cross.box_folds, cross.outer, cross.inner, strict=True):
            x1, y1, x2, y2 = outputs["bbox_folds"][image, fold].astype(float)
            lows.append((x1 - out, y1 - out))
            highs.append((x2 + out, y2 + out))
            empty = x2 - x1 <= 2 * into or y2 - y1 <= 2 * into
            inner_lows.append((1, 1) if empty else (x1 + into, y1 + into))
            inner_highs.append((0, 0) if empty else (x2 - into, y2 - into))
        outer = [*np.sort(lows, axis=0)[7], *np.sort(highs, axis=0)[-8]]
        np.testing.assert_allclose(said["box_outer"][image], np.clip(outer, 0, 1), atol=1e-5)
        low, high = np.sort(inner_lows, axis=0)[-8], np.sort(inner_highs, axis=0)[7]
        low, high = np.maximum(low, outer[:2]), np.minimum(high, outer[2:])
        inner = [*low, *high] if (high > low).all() else [0, 0, 0, 0]
        np.testing.assert_allclose(said["box_inner"][image], np.clip(inner, 0, 1), atol=1e-5)
        for label in range(3):
            lower = sum(
                own < score(outputs["softmax_folds"][image, fold], label) - 1e-6
                for fold, own in zip(cross.folds, cross.labels, strict=True)
            )
            is_top = outputs["softmax"][image].argmax() == label
            assert said["label_set"][image, label] == (lower <= 32 or is_top)


def test_with_one_model_for_all_it_is_split_conformal() -> None:
    seen, new = seen_by(np.random.default_rng(1)), seen_by(np.random.default_rng(2), 50)
    options = TrustConfig(coverage=0.9, scaling="spread")
    statements = fit_statements(seen, options, CLASSES, np.zeros(len(seen), int))
    cross = statements.cross
    assert cross is not None
    # What decides nothing is not written.
    assert statements.boxes is None and statements.label_sets is None
    said = cross_stated(
        {
            **{f"{one}_folds": new.outputs[one][:, None] for one in ("softmax", "bbox", "spread")},
            "softmax": new.outputs["softmax"],
        },
        cross,
    )  # fmt: skip
    boxes = seen.outputs["bbox_true"], seen.outputs["bbox"]
    fitted = fit_boxes(*boxes, coverage=0.9, scaling="spread", spread=seen.outputs["spread"])
    scales = scales_of(new.outputs["bbox"], "spread", new.outputs["spread"])
    outer = outer_boxes(new.outputs["bbox"], scales, fitted.outer[0])
    inner = inner_boxes(new.outputs["bbox"], scales, fitted.inner[0])
    np.testing.assert_allclose(said["box_outer"], outer, atol=1e-5)
    np.testing.assert_allclose(said["box_inner"], inner, atol=1e-5)
    sets = fit_label_sets(seen.probabilities, seen.labels, 0.9)
    np.testing.assert_array_equal(said["label_set"], label_sets(new.outputs["softmax"], sets))


def test_promises_are_kept_about_as_often_as_asked() -> None:
    kept = []
    for seed in range(60):
        cross, outputs, truth, labels = example(seed)
        said = {name: np.asarray(value) for name, value in cross_stated(outputs, cross).items()}
        empty = ~said["box_inner"].any(axis=1)
        assert within(said["box_inner"][~empty], said["box_outer"][~empty]).all()
        kept.append(
            [
                said["label_set"][np.arange(NEW), labels].mean(),
                within(truth, said["box_outer"]).mean(),
                (empty | within(said["box_inner"], truth)).mean(),
            ]
        )
    # Theorem 4 of Barber et al. 2021 has .6 - sqrt(2 / 40); the deviation of a mean of 1,500 images
    # is about .01, and that of the scores of 60 sets about as much.
    assert (np.mean(kept, axis=0) > 0.8 - 3 * math.hypot(0.01, 0.01)).all()


def test_few_images_are_refused() -> None:
    seen = seen_by(np.random.default_rng(0), 8)
    with pytest.raises(TrustError, match="needs 9 calibration images or more, but there are 8"):
        fit_statements(seen, TrustConfig(coverage=0.9), CLASSES, np.arange(8) % 2)


@pytest.mark.usefixtures("short_body")
def test_the_model_asks_the_models_of_its_folds(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    made = [
        loc_keras.build_localizer(image_shape=(32, 32, 3), num_classes=3, width=4) for _ in range(3)
    ]
    folds = fold_ensemble([observer(one) for one in made[1:]])
    folds.save(tmp_path / FOLDS_FILE)
    seen = seen_by(np.random.default_rng(0))
    statements = fit_statements(seen, TrustConfig(), CLASSES, np.arange(len(seen)) % 2)
    base = Calibration(
        "train", len(seen), len(seen), "data", "model", 0.9, "cross", 2, "",
        file_sha256(tmp_path / FOLDS_FILE),
    )  # fmt: skip
    trust = Trust(VERSION, base, statements, shift_reference(seen))
    opened = read_folds(tmp_path, trust)
    images = np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3)).astype(np.float32)
    said = trusted_model(made[0], statements, opened)(images, training=False)
    answers = [observer(one)(images, training=False) for one in made]
    outputs = dict(answers[0]) | {
        f"{name}_folds": np.stack([np.asarray(one[name]) for one in answers[1:]], axis=1)
        for name in ("softmax", "bbox", "spread")
    }
    for name, value in stated(outputs, statements).items():
        np.testing.assert_allclose(
            np.asarray(said[name], float), np.asarray(value, float), atol=1e-5, err_msg=name
        )
    np.testing.assert_allclose(said["bbox"], answers[0]["bbox"], atol=1e-6)
    assert (
        read_folds(
            tmp_path, replace(trust, statements=fit_statements(seen, TrustConfig(), CLASSES))
        )
        is None
    )
    (tmp_path / FOLDS_FILE).write_bytes(b"other")
    with pytest.raises(TrustError, match=r"folds\.keras there is missing or another file"):
        read_folds(tmp_path, trust)
