"""How a picture is told to be unlike the training images: distance, p-value, file and model."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis

import loc_keras
from loc_keras.atomic_file import file_sha256
from loc_keras.errors import TrustError
from loc_keras.models import assembly
from loc_keras.trust.novelty import (
    DIRECTIONS,
    MOST_KEPT,
    STATED,
    Novelty,
    distance,
    features_over,
    fit_novelty,
    novelty_of,
    p_values,
    pooled_maps,
    read_novelty,
    with_novelty,
    write_novelty,
)


def fitted(training, others, level=0.01, digest="0"):
    return fit_novelty(training, others, level=level, split="val", model_sha256=digest)


def with_roots(values):
    """Features whose signed roots are these values."""
    return np.sign(values) * np.square(values)


def made_up(**changes) -> Novelty:
    rng = np.random.default_rng(0)
    return replace(fitted(rng.normal(size=(40, 3)), rng.normal(size=(9, 3))), **changes)


# The distance


def test_with_all_directions_it_is_the_distance_of_mahalanobis() -> None:
    # Against scipy, with the covariance of numpy. Of 5 features 4 directions are kept, and what
    # is left is one direction, too.
    rng = np.random.default_rng(1)
    mixed = 2 * np.eye(5) + 0.5 * rng.normal(size=(5, 5))
    training, others = rng.normal(size=(400, 5)) @ mixed + 3, rng.normal(size=(50, 5)) @ mixed
    novelty = fitted(with_roots(training), with_roots(others))
    inverse = np.linalg.inv(np.cov(training, rowvar=False, ddof=0))
    expected = [2 * np.log(mahalanobis(row, training.mean(axis=0), inverse)) for row in others]
    found = distance(with_roots(others).astype(np.float32), novelty)
    np.testing.assert_allclose(np.asarray(found), expected, atol=5e-3)


def test_beyond_the_kept_directions_one_variance_is_shared() -> None:
    # Standard normal features: all variances are 1, so that the distance is the plain square.
    rng = np.random.default_rng(2)
    training = rng.normal(size=(40_000, DIRECTIONS + 20))
    novelty = fitted(with_roots(training), with_roots(training[:20]))
    assert len(novelty.directions) == DIRECTIONS
    far = 10 * rng.normal(size=(30, DIRECTIONS + 20))
    found = np.asarray(distance(with_roots(far).astype(np.float32), novelty))
    np.testing.assert_allclose(found, np.log(np.square(far).sum(axis=1)), atol=0.1)


def test_a_channel_of_a_wide_map_counts_less() -> None:
    # Independent features of variance 1 in maps of one and of four channels: without principal
    # directions of their own the wide map's are divided by 4, so that their squares are by 16.
    rng = np.random.default_rng(7)
    training = with_roots(rng.normal(size=(2000, 5)))
    widths = [1, 4]
    novelty = fit_novelty(
        training, training[:9], widths=widths, level=0.01, split="val", model_sha256=""
    )
    np.testing.assert_allclose(np.array(novelty.scale) / [1, 4, 4, 4, 4], 1, atol=0.05)
    # The first principal direction is the narrow map's, of variance 1, the others of 1/16.
    np.testing.assert_allclose(np.abs(novelty.directions[0]), [1, 0, 0, 0, 0], atol=0.05)
    assert novelty.variances == pytest.approx([1, *[1 / 16] * 3], rel=0.1)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_and_still_features_give_numbers(images: int) -> None:
    features = np.ones((images, 6)) * np.arange(6)
    novelty = fitted(features, features[:1])
    answers = novelty_of(np.stack([features[0], features[0] + 1]).astype(np.float32), novelty)
    found = np.asarray(answers["novelty"])
    assert found[0] > 0.9  # The very image, but for the digits that the file keeps.
    assert found[1] < 0.01
    assert np.asarray(answers["known"]).tolist() == [True, False]


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(TrustError, match="not finite"):
        fitted(np.array([[1.0, np.inf], [0, 1]]), np.ones((2, 2)))


# The p-value


def test_p_values_by_hand() -> None:
    # n = 3. At the second distance two of three are as far, and the picture itself: 3/4; behind it
    # one of three, 2/4, half-way there in the middle of a ramp of .01; beyond the last 1/4, times e
    # to what exceeds its ramp over the tail.
    novelty = made_up(distances=[1.0, 2.0, 4.0], tail=0.5)
    found = p_values(np.float32([-9, 1, 2, 2.005, 3, 4, 4.01, 5]), novelty)
    expected = [1, 1, 3 / 4, 5 / 8, 2 / 4, 2 / 4, 1 / 4, 1 / 4 * np.exp(-0.99 / 0.5)]
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-3)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=30),
    st.floats(-25, 25, width=32),
)
def test_no_level_that_conformal_prediction_promises_is_broken(known: list[int], at: float) -> None:
    # The conformal p-value, (1 + number at least as far) / (n + 1) (Vovk et al. 2005): where it is
    # at least 1 / (n + 1) and ours no more than a level, it is no more than that level either.
    novelty = made_up(distances=sorted(map(float, known)), tail=1.0)
    ours = float(np.asarray(p_values(np.float32([at]), novelty))[0])
    conformal = (1 + sum(one >= at for one in known)) / (len(known) + 1)
    assert max(ours, 1 / (len(known) + 1)) >= conformal - 1e-5
    farther = float(np.asarray(p_values(np.float32([at + 1]), novelty))[0])
    assert 0 <= farther <= ours <= 1


def test_of_images_drawn_alike_few_are_unknown() -> None:
    # At most the level over sets and images, a promise that for .05 takes 19 images. With 39 it is
    # nearly the share of images beyond all but one of them, 2/40 (only those on a ramp are not
    # counted); over 400 sets its standard error is .0018.
    rng = np.random.default_rng(3)
    form = made_up()
    shares = []
    for _ in range(400):
        known, new = np.sort(rng.normal(size=39)), rng.normal(size=100)
        novelty = replace(form, distances=known.tolist(), tail=0.1)
        shares.append(np.mean(np.asarray(p_values(new.astype(np.float32), novelty)) <= 0.05))
    assert 0.04 < np.mean(shares) <= 0.055


def test_many_distances_are_an_even_sample() -> None:
    rng = np.random.default_rng(4)
    novelty = fitted(rng.normal(size=(100, 3)), rng.normal(size=(MOST_KEPT + 500, 3)))
    assert len(novelty.distances) == MOST_KEPT
    assert novelty.distances == sorted(novelty.distances)


# File and model


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged"),
        ('{"version": 7}', "is of version 7, not 1"),
        ('{"version": 1}', "is damaged"),
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


@pytest.fixture(scope="module", params=["distribution", "gap_mlp"])
def localizer(request: pytest.FixtureRequest) -> keras.Model:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        keras.utils.set_random_seed(1)
        return loc_keras.build_localizer(
            image_shape=(32, 32, 3),
            num_classes=3,
            width=4,
            bbox_head=request.param,
            class_head="region" if request.param == "distribution" else "pooled",
        )


def test_features_are_the_means_of_the_maps_that_heads_read(localizer: keras.Model) -> None:
    images = np.random.default_rng(5).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    names = {layer.name for layer in localizer.layers}
    ends = [layer.name for layer in localizer.layers if layer.name.endswith("block1_relu2")]
    maps = [name for name in ends if name.startswith("stage")]
    # Stem and both stages; the pooled heads read the last stage alone.
    wanted = ["stem_relu", *maps] if "bbox_sides" in names else maps[-1:]
    outputs = {name: localizer.get_layer(name).output for name in wanted}
    read = keras.Model(localizer.inputs[0], outputs)(images)
    means = [np.asarray(one).mean(axis=(1, 2)) for one in read.values()]
    expected = np.concatenate(means, axis=1)
    model = keras.Model(localizer.inputs[0], pooled_maps(localizer))
    found = np.asarray(model(images))
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(expected, axis=1), rtol=1e-5)
    batches = [(images[:3], None), (images[3:], None)]
    np.testing.assert_allclose(features_over(localizer, batches), found, rtol=1e-5)
    assert len(features_over(localizer, batches, 2)) == 2


def test_a_saved_model_says_the_same(localizer: keras.Model, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    images = np.clip(rng.normal(120, 20, (60, 32, 32, 3)), 0, 255).astype(np.float32)
    features = features_over(localizer, [(images, None)])
    novelty = fitted(features[:40], features[40:], level=0.02)
    model = with_novelty(localizer, novelty)
    assert set(model.output) == {"softmax", "bbox", *STATED}
    assert with_novelty(localizer, None) is localizer
    asked = np.concatenate([images[40:], np.zeros((1, 32, 32, 3), np.float32)])
    live = {name: np.asarray(value) for name, value in model(asked).items()}
    assert live["known"].tolist() == (live["novelty"] >= 0.02).tolist()
    assert live["known"][:-1].all()
    assert not live["known"][-1]  # Black, where all others were near grey.
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")(asked)
    np.testing.assert_allclose(np.asarray(again["novelty"]), live["novelty"], atol=1e-5)
