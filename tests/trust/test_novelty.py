"""How a picture is told to be unlike the training images: distance, p-value, file and model."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis

import loc_keras
from loc_keras.atomic_file import file_sha256
from loc_keras.errors import TrustError
from loc_keras.models import assembly
from loc_keras.trust.novelty import (
    COMPARED,
    MOST_KEPT,
    STATED,
    Novelty,
    distance,
    fit_novelty,
    novelty_of,
    p_values,
    read_novelty,
    statistics,
    statistics_over,
    with_novelty,
    write_novelty,
)


def fitted(training, others, level=0.01, digest="0"):
    return fit_novelty(training, others, level=level, split="val", model_sha256=digest)


def made_up(*distances, **changes) -> Novelty:
    """Novelty with these distances in each fold."""
    rng = np.random.default_rng(0)
    novelty = fitted(rng.normal(size=(40, 3)), rng.normal(size=(9, 3)))
    folds = [replace(novelty.folds[0], distances=sorted(one)) for one in distances]
    return replace(novelty, folds=folds or novelty.folds, **changes)


# The statistics


@pytest.mark.parametrize("wavelet", [0, 1, 2])
def test_statistics_by_hand(wavelet: int) -> None:
    # Columns, rows or a checkerboard of 0 and 255, grey. Lightness: mean 1/2, deviation 1/2; no
    # difference of channels. Of the finest wavelets one sees (1 - 0 + 1 - 0) / 2 = 1 everywhere and
    # no plain ground, the others nothing; the next scale is flat.
    x, y = np.meshgrid(np.arange(16), np.arange(16))
    grey = (x, y, x + y)[wavelet] % 2 * 255
    images = np.repeat(grey[None, ..., None], 3, axis=-1).astype(np.uint8)
    none = np.log(1e-3)
    # Of each wavelet, for lightness and both differences of channels: detail, then plain ground.
    flat = [[none] * 3, [1] * 3]
    finest = [[np.log(1.001), none, none], [0, 1, 1]]
    scales = [*wavelet * flat, *finest, *(2 - wavelet) * flat, *3 * flat]
    expected = np.concatenate([[0.5] * 3, [np.log(0.51)] * 3, *scales])
    np.testing.assert_allclose(np.asarray(statistics(images))[0], expected, atol=1e-5)


def test_small_coefficients_are_plain_the_less_the_larger() -> None:
    # Columns that differ by 1 of 255, so a coefficient of 1, half of the 2 from where none counts.
    images = np.tile(np.uint8([100, 101]), (1, 8, 4))[..., None]
    found = np.asarray(statistics(images))[0]
    np.testing.assert_allclose(found[2:4], [np.log(1 / 255 + 1e-3), 0.5], rtol=1e-3)


@pytest.mark.parametrize(
    ("shape", "scales"), [((7, 40, 1), 0), ((16, 17, 3), 2), ((400, 300, 3), 5)]
)
def test_scales_end_where_a_side_has_less_than_eight(shape, scales) -> None:
    images = np.zeros((2, *shape), np.uint8)
    assert statistics(images).shape == (2, shape[2] * (2 + 6 * scales))


# The distance


def test_it_is_nearly_the_distance_of_mahalanobis() -> None:
    # Against scipy, with the covariance of numpy, of which each statistic has a hundredth alone.
    rng = np.random.default_rng(1)
    mixed = 2 * np.eye(5) + 0.5 * rng.normal(size=(5, 5))
    training, others = rng.normal(size=(400, 5)) @ mixed + 3, rng.normal(size=(50, 5)) @ mixed
    novelty = fitted(training, others)
    covariance = np.cov(training, rowvar=False, ddof=0)
    covariance += 0.01 * (np.diag(np.diag(covariance)) - covariance)
    inverse = np.linalg.inv(covariance)
    expected = [2 * np.log(mahalanobis(row, training.mean(axis=0), inverse)) for row in others]
    found = np.asarray(distance(others.astype(np.float32), novelty.folds[0]))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(novelty.folds[0].distances, np.sort(expected), atol=1e-3)


def test_each_fold_is_compared_with_the_others() -> None:
    rng = np.random.default_rng(2)
    training = rng.normal(size=(30, 4))
    folds = [np.arange(0, 30, 3), np.setdiff1d(np.arange(30), np.arange(0, 30, 3))]
    novelty = fit_novelty(training, folds=folds, level=0.01, split="train", model_sha256="")
    for fold, rows, rest in zip(novelty.folds, folds, folds[::-1], strict=True):
        alone = fitted(training[rest], training[rows]).folds[0]
        assert fold == alone
    assert [len(fold.distances) for fold in novelty.folds] == [10, 20]


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_and_still_features_give_numbers(images: int) -> None:
    features = np.ones((images, 6)) * np.arange(6)
    novelty = fitted(features, features[:1])
    answers = novelty_of(np.stack([features[0], features[0] + 1]).astype(np.float32), novelty)
    found = np.asarray(answers["novelty"])
    assert found[0] > 0.9  # The very image, but for the digits that the file keeps.
    assert found[1] < 0.01
    assert np.asarray(answers["known"]).tolist() == [True, False]


# The p-value


def test_p_values_by_hand() -> None:
    # n = 3. At the second distance two of three are as far, and the picture itself: 3/4; behind it
    # one of three, 2/4, half-way there in the middle of a ramp of .01; beyond the last 1/4, times e
    # to what exceeds its ramp over the tail.
    novelty = made_up([1.0, 2.0, 4.0], tail=0.5)
    found = p_values(np.float32([-9, 1, 2, 2.005, 3, 4, 4.01, 5])[:, None], novelty)
    expected = [1, 1, 3 / 4, 5 / 8, 2 / 4, 2 / 4, 1 / 4, 1 / 4 * np.exp(-0.99 / 0.5)]
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-3)


def test_p_values_by_folds_are_the_same_in_a_graph() -> None:
    # TensorFlow 2.21 makes (N,) of `stack(...)[:, k, None]` in a graph, and is not asked to.
    rng = np.random.default_rng(0)
    folds = np.array_split(np.arange(60), 3)
    novelty = fit_novelty(
        rng.normal(size=(60, 5)), folds=folds, level=0.05, split="train", model_sha256=""
    )
    features = rng.normal(size=(4, 5)).astype(np.float32)
    one_by_one = [float(novelty_of(row[None], novelty)["novelty"][0]) for row in features]
    in_graph = tf.function(lambda rows: novelty_of(rows, novelty))(tf.constant(features))
    np.testing.assert_allclose(in_graph["novelty"], one_by_one, rtol=1e-5)


def test_p_values_of_two_folds_by_hand() -> None:
    # n = 3, in folds of two and one. At (1.5, 1.5) one of the first and the one of the second are
    # as far: 3/4; at (2.5, 3.5) none is, but the first does not say "beyond 3"; at (4, 3.51) the
    # lesser excess counts, .5 behind the ramp.
    novelty = made_up([1.0, 2.0], [3.0], tail=0.5)
    found = p_values(np.float32([[1.5, 1.5], [2.5, 3.5], [4, 3.51]]), novelty)
    np.testing.assert_allclose(np.asarray(found), [3 / 4, 1 / 4, np.exp(-1) / 4], rtol=1e-3)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(-20, 20), min_size=1, max_size=30), min_size=1, max_size=3),
    st.lists(st.floats(-25, 25, width=32), min_size=3, max_size=3),
)
def test_no_level_that_is_promised_is_broken(known: list[list[int]], at: list[float]) -> None:
    # The cross-conformal p-value, (1 + number at least as far from the others as the picture is)
    # / (n + 1) (Vovk 2015): where it is at least 1 / (n + 1) and ours no more than a level, it is
    # no more than that level either.
    novelty = made_up(*[list(map(float, one)) for one in known], tail=1.0)
    count = sum(map(len, known)) + 1
    places = np.float32([at[: len(known)]])
    ours = float(np.asarray(p_values(places, novelty))[0])
    farther = sum(one >= mine for fold, mine in zip(known, at, strict=False) for one in fold)
    assert max(ours, 1 / count) >= (1 + farther) / count - 1e-5
    assert 0 <= float(np.asarray(p_values(places + 1, novelty))[0]) <= ours <= 1


def test_of_images_drawn_alike_few_are_unknown() -> None:
    # At most the level over sets and images, a promise that for .05 takes 19 images. With 39 it is
    # nearly the share of images beyond all but one of them, 2/40 (only those on a ramp are not
    # counted); over 400 sets its standard error is .0018.
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(400):
        known, new = np.sort(rng.normal(size=39)), rng.normal(size=(100, 1))
        novelty = made_up(known.tolist(), tail=0.1)
        shares.append(np.mean(np.asarray(p_values(new.astype(np.float32), novelty)) <= 0.05))
    assert 0.04 < np.mean(shares) <= 0.055


@pytest.mark.parametrize("images", [25, 100])
def test_p_values_by_folds_are_uniform(images: int) -> None:
    # Fitted anew to each of 60 exchangeable sets: proven is twice a level (Barber et al. 2021,
    # theorem 4); with stable fits it is nearly the level, within four standard errors (new images
    # of a set share its fit), and less where a fifth of the images changes much.
    rng = np.random.default_rng(4)
    found = []
    for _ in range(60):
        drawn = rng.gamma(2, size=(images + 50, 6)) @ rng.normal(size=(6, 6))
        folds = np.array_split(np.arange(images), COMPARED)
        novelty = fit_novelty(
            drawn[:images], folds=folds, level=0.01, split="train", model_sha256=""
        )
        found.append(np.asarray(novelty_of(drawn[images:], novelty)["novelty"]))
    for level, error in ((0.1, 0.04), (0.3, 0.06)):
        assert 0.6 * level < np.mean(np.stack(found) <= level) < level + error


def test_many_distances_are_a_sample() -> None:
    rng = np.random.default_rng(4)
    (fold,) = fitted(rng.normal(size=(100, 3)), rng.normal(size=(MOST_KEPT + 500, 3))).folds
    assert len(fold.distances) == MOST_KEPT
    assert fold.distances == sorted(fold.distances)


# File and model


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged"),
        ('{"version": 1}', "is of version 1, not 2"),
        ('{"version": 2}', "is damaged"),
        (None, "was fitted to another model"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str, words: str) -> None:
    model = tmp_path / "best.keras"
    model.write_bytes(b"weights")
    file = tmp_path / "novelty.json"
    assert read_novelty(file, model) is None
    novelty = made_up(model_sha256=file_sha256(model))
    write_novelty(file, novelty)
    assert read_novelty(file, model) == novelty
    if content is None:
        model.write_bytes(b"others")
    else:
        file.write_text(content)
    with pytest.raises(TrustError, match=words):
        read_novelty(file, model)


@pytest.fixture(
    scope="module",
    params=["float32", pytest.param("mixed_float16", marks=pytest.mark.whole), "mixed_bfloat16"],
)
def localizer(request: pytest.FixtureRequest) -> keras.Model:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(request.param)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
            return loc_keras.build_localizer(image_shape=(32, 32, 3), num_classes=3, width=4)
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def test_the_model_says_what_was_fitted_alone_in_batches_and_saved(
    localizer: keras.Model, tmp_path: Path
) -> None:
    rng = np.random.default_rng(6)
    images = np.clip(rng.normal(120, 20, (60, 32, 32, 3)), 0, 255).astype(np.float32)
    features = statistics_over([(images[:40], None), (images[40:], None)])
    np.testing.assert_allclose(features, np.asarray(statistics(images)), rtol=1e-4)
    folds = np.array_split(np.arange(60), 4)
    novelty = fit_novelty(features, folds=folds, level=0.02, split="train", model_sha256="")
    model = with_novelty(localizer, novelty)
    assert set(model.output) == {"softmax", "bbox", *STATED}
    assert with_novelty(localizer, None) is localizer
    asked = np.concatenate([images[40:], np.zeros((1, 32, 32, 3), np.float32)])
    live = {name: np.asarray(value) for name, value in model(asked).items()}
    expected = novelty_of(np.asarray(statistics(asked)), novelty)
    np.testing.assert_allclose(live["novelty"], np.asarray(expected["novelty"]), atol=1e-3)
    assert np.std(live["novelty"][:-1]) > 0.01
    assert live["known"].tolist() == (live["novelty"] >= 0.02).tolist()
    assert not live["known"][-1]  # Black, where all others were near grey.
    alone = [float(np.asarray(model(one[None])["novelty"])[0]) for one in asked]
    np.testing.assert_allclose(alone, live["novelty"], atol=1e-3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")(asked)
    np.testing.assert_allclose(np.asarray(again["novelty"]), live["novelty"], atol=1e-3)
