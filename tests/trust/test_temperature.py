"""Temperature scaling: recovered, never worse, and never another answer."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from loc_keras.errors import TrustError
from loc_keras.evaluation.reliability import expected_calibration_error, negative_log_likelihood
from loc_keras.trust.confidence import HIGHEST, LOWEST, apply_temperature, fit_temperature

modest = settings(max_examples=60, deadline=None, derandomize=True)


def overconfident(
    images: int, classes: int, temperature: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits are `temperature` times too large, and labels from true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, classes))
    true = softmax(logits, axis=1)
    labels = (rng.random((images, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    return softmax(logits * temperature, axis=1), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_known_temperature_is_recovered(temperature: float, classes: int) -> None:
    # The labels are drawn from softmax(logits): by construction T is the factor on the logits.
    probabilities, labels = overconfident(20_000, classes, temperature)
    assert fit_temperature(probabilities, labels) == pytest.approx(temperature, rel=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_two_classes_are_a_logistic_regression(seed: int) -> None:
    # With two classes, 1 / T is the slope of a logistic regression on the difference of the
    # logits, without intercept or penalty: scikit-learn's fit.
    probabilities, labels = overconfident(500, 2, 2.5, seed)
    difference = np.diff(np.log(probabilities), axis=1)
    oracle = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(difference, labels)
    found = fit_temperature(probabilities, labels)
    assert 1 / found == pytest.approx(
        oracle.coef_[0, 0], rel=0.05
    )  # The prior counts little among so many images.


@pytest.mark.parametrize("images", [1, 3, 30, 300])
def test_no_temperature_on_a_fine_grid_is_better(images: int) -> None:
    # scikit-learn's log loss of numpy's powers, normalised: another way to the same likelihood. The
    # prior by hand: minus the log density of log T, of deviation 1/2, as one of `images` terms.
    probabilities, labels = overconfident(images, 5, 3.0, seed=images)

    def loss(temperature: float) -> float:
        powers = probabilities ** (1 / temperature)
        powers /= powers.sum(axis=1, keepdims=True)
        prior = 2 * np.log(temperature) ** 2 / images
        return log_loss(labels, powers, labels=range(5)) + prior

    grid = np.geomspace(LOWEST, HIGHEST, 60)
    found = fit_temperature(probabilities, labels)
    assert LOWEST <= found <= HIGHEST
    assert loss(found) <= min(map(loss, grid)) + 1e-9


def test_calibration_error_falls() -> None:
    probabilities, labels = overconfident(5000, 10, 3.0)
    after = np.asarray(apply_temperature(probabilities, fit_temperature(probabilities, labels)))
    right = probabilities.argmax(axis=1) == labels
    before = expected_calibration_error(probabilities.max(axis=1), right)
    assert before > 0.15
    assert expected_calibration_error(after.max(axis=1), right) < 0.02


def test_all_right_images_do_not_promise_certainty_while_they_are_few() -> None:
    temperatures = []
    for images in (1, 5, 50, 500):
        probabilities, _ = overconfident(images, 4, 1.0)
        temperatures.append(fit_temperature(probabilities, probabilities.argmax(axis=1)))
    # The likelihood alone would give LOWEST, .1, from the first image on.
    assert temperatures[0] > 0.5
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[-1] < 0.4


def test_all_wrong_images_draw_probabilities_together() -> None:
    probabilities, _ = overconfident(200, 4, 1.0)
    assert fit_temperature(probabilities, probabilities.argmin(axis=1)) > 3


def test_where_temperature_makes_no_difference_it_is_one() -> None:
    assert fit_temperature(np.ones((7, 1)), np.zeros(7, int)) == 1.0
    assert fit_temperature(np.full((7, 4), 0.25), np.arange(7) % 4) == 1.0


def test_true_class_that_underflowed() -> None:
    # One image in a hundred is wrong with all the certainty that float32 has.
    probabilities = np.tile(np.array([1.0, 0.0], "float32"), (10_000, 1))
    labels = np.r_[np.ones(100, int), np.zeros(9_900, int)]
    found = fit_temperature(probabilities, labels)
    after = np.asarray(apply_temperature(probabilities, found))
    # By hand: a logit difference of log(tiny) = -87.34 has to become log(1 / 99) = -4.595, T = 19,
    # which is beyond the range.
    assert found == pytest.approx(HIGHEST)
    assert np.isfinite(after).all()
    assert after[0, 1] == pytest.approx(np.exp(-8.734), rel=1e-3)


@modest
@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 2**32 - 1), st.floats(0.1, 8))
def test_likelihood_of_the_fitted_images_is_never_worse(
    classes: int, images: int, seed: int, sharpness: float
) -> None:
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, sharpness, (images, classes)), axis=1)
    labels = rng.integers(classes, size=images)
    found = fit_temperature(probabilities, labels)
    assert LOWEST <= found <= HIGHEST
    after = apply_temperature(probabilities, found)
    before = negative_log_likelihood(probabilities, labels)
    # float32 of the applied form against float64 of the fitted one
    assert negative_log_likelihood(after, labels) <= before + 1e-5 * max(1.0, before)


ANY_ROWS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 40)),
    # Ties, zeros, underflow and neighbours in the last bit.
    elements=st.one_of(
        st.sampled_from([0.0, 1e-45, 1e-38, 0.25, 0.3, np.nextafter(np.float32(0.3), 1)]),
        st.floats(0, 1, width=32, allow_subnormal=False),
    ),
).filter(lambda rows: bool((rows.sum(axis=1) > 0.1).all()))


@tf.function(reduce_retracing=True)
def in_graph(probabilities: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    return apply_temperature(probabilities, temperature)


@modest
@given(ANY_ROWS, st.sampled_from([LOWEST, 0.7, 1.0, 1.3, HIGHEST]))
def test_top_label_and_its_ties_stay(rows: np.ndarray, temperature: float) -> None:
    for apply in (apply_temperature, in_graph):
        after = np.asarray(apply(rows, tf.constant(temperature, tf.float32)))
        assert after.dtype == np.float32
        assert ((after == after.max(axis=1, keepdims=True)) == is_top(rows)).all()
        assert (after.argmax(axis=1) == rows.argmax(axis=1)).all()
        assert after.sum(axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)


def is_top(rows: np.ndarray) -> np.ndarray:
    return rows == rows.max(axis=1, keepdims=True)


def test_plain_softmax_would_change_an_answer() -> None:
    # Why the top label is guarded: two float32 neighbours at T = 10 round to one.
    near = np.array([[0.3, np.nextafter(np.float32(0.3), 1), 0.4]], "float32")[:, :2]
    plain = tf.nn.softmax(tf.math.log(near) / 10).numpy()
    assert plain[0, 0] >= plain[0, 1]
    guarded = np.asarray(apply_temperature(near, 10.0))
    assert guarded[0, 0] < guarded[0, 1]


def test_temperature_by_hand() -> None:
    def applied(row: np.ndarray, temperature: float) -> np.ndarray:
        return np.asarray(apply_temperature(row, temperature))[0]

    row = np.array([[0.8, 0.2]])
    # (.8, .2) at T = 2: roots .894427 and .447214, so 2 / 3 and 1 / 3. At T = .5: squares, 16 / 17.
    assert applied(row, 2.0) == pytest.approx([2 / 3, 1 / 3])
    assert applied(row, 0.5) == pytest.approx([16 / 17, 1 / 17])
    assert applied(row, 1.0) == pytest.approx([0.8, 0.2])


@pytest.mark.parametrize(
    ("probabilities", "labels", "words"),
    [
        ([[0.5, np.nan]], [0], "1 of 2 probabilities are not finite"),
    ],
)
def test_arrays_that_do_not_fit(probabilities: object, labels: object, words: str) -> None:
    with pytest.raises(TrustError, match=words):
        fit_temperature(probabilities, labels)
