"""Confidence of boxes: recovered weights, few images, and numbers that are never NaN."""

import dataclasses

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from loc_keras.errors import TrustError
from loc_keras.evaluation.reliability import expected_calibration_error
from loc_keras.trust.confidence import apply_box_confidence, fit_box_confidence

modest = settings(max_examples=10, deadline=None, derandomize=True)


def hardness(images: int, seed: int, odds: float = 1.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Four signals, three of which know how hard an image is, and whether its box is good."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=images)
    signals = {
        "spread": np.exp(hard + rng.normal(0, 0.5, images)),
        "confidence": expit(-hard + rng.normal(0, 1, images)),
        "entropy": hard + rng.normal(0, 0.7, images),
        "noise": rng.normal(size=images) * 1000 + 5000,
    }
    return signals, rng.random(images) < expit(odds - 1.5 * hard)


def applied(signals: dict[str, np.ndarray], fitted: object) -> np.ndarray:
    return np.asarray(apply_box_confidence(signals, fitted))


def test_weights_of_a_known_model_are_recovered() -> None:
    # Drawn from log odds .5 + 2 a - b with a, b of variance 1 and 9: standardised weights 2 and -3.
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50_000), rng.normal(0, 3, 50_000) + 7
    good = rng.random(50_000) < expit(0.5 + 2 * a - (b - 7))
    fitted = fit_box_confidence({"a": a, "b": b}, good)
    assert fitted.names == ("a", "b")
    assert fitted.mean == pytest.approx((0, 7), abs=0.05)
    assert fitted.scale == pytest.approx((1, 3), rel=0.02)
    assert fitted.weights == pytest.approx((2, -3), rel=0.05)
    assert fitted.bias == pytest.approx(0.5, abs=0.1)


def test_few_bad_boxes_are_a_plain_regression_of_fixed_strength() -> None:
    # Seven bad boxes: scikit-learn's own prediction on its own standardised signals.
    signals, _ = hardness(200, 1)
    good = np.ones(200, bool)
    good[np.argsort(signals["entropy"])[-7:]] = False
    columns = np.stack(list(signals.values()), axis=1)
    standard = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    oracle = LogisticRegression(C=0.1).fit(standard, good).predict_proba(standard)[:, 1]
    assert applied(signals, fit_box_confidence(signals, good)) == pytest.approx(oracle, abs=2e-3)


def test_it_ranks_and_promises_better_than_a_single_signal() -> None:
    signals, good = hardness(1500, 2)
    fitted = fit_box_confidence(signals, good)
    new, came = hardness(20_000, 3)
    p = applied(new, fitted)
    assert roc_auc_score(came, p) > roc_auc_score(came, new["confidence"]) + 0.03
    assert log_loss(came, p) < log_loss(came, np.full(len(came), good.mean())) - 0.1
    assert expected_calibration_error(p, came) < 0.05


def test_choice_is_the_same_each_time() -> None:
    signals, good = hardness(300, 4)
    assert fit_box_confidence(signals, good) == fit_box_confidence(signals, good)


def test_useless_signals_are_held_smaller_than_without_a_penalty() -> None:
    rng = np.random.default_rng(0)
    good = np.arange(60) % 2 == 0
    size = {"ours": 0.0, "free": 0.0}
    for _ in range(3):
        signals = {f"noise {i}": rng.normal(size=60) for i in range(12)}
        size["ours"] += np.abs(fit_box_confidence(signals, good).weights).sum()
        columns = np.stack(list(signals.values()), axis=1)
        free = LogisticRegression(C=np.inf).fit(columns / columns.std(axis=0), good)
        size["free"] += np.abs(free.coef_).sum()
    assert size["ours"] < size["free"] / 2


@pytest.mark.parametrize(
    ("good", "share"),
    # Laplace's rule by hand: (good + 1) / (images + 2).
    [
        (np.ones(8, bool), 9 / 10),
        (np.zeros(8, bool), 1 / 10),
        (np.ones(1, bool), 2 / 3),
        (np.arange(38) > 1, 37 / 40),
        (np.arange(38) < 2, 3 / 40),
    ],
)
def test_one_kind_alone_gives_a_smoothed_share(good: np.ndarray, share: float) -> None:
    signals = {"a": np.arange(len(good)), "b": np.ones(len(good))}
    fitted = fit_box_confidence(signals, good)
    assert fitted.weights == (0.0, 0.0)
    assert applied(signals, fitted) == pytest.approx(np.full(len(good), share))


@pytest.mark.parametrize("bad", [3, 9, 10, 11])
def test_few_bad_boxes(bad: int) -> None:
    signals, _ = hardness(100, bad)
    good = np.argsort(np.argsort(-signals["entropy"])) >= bad
    p = applied(signals, fit_box_confidence(signals, good))
    # An unpenalised intercept keeps the mean at the share of good boxes.
    assert p.mean() == pytest.approx(1 - bad / 100, abs=1e-3)
    assert roc_auc_score(good, p) > 0.9


def test_equal_numbers_are_no_signal() -> None:
    signals, good = hardness(100, 5)
    # Their mean in floats is not .1, so they would be far off after division by the deviation.
    fitted = fit_box_confidence({**signals, "equal": np.full(100, 0.1)}, good)
    assert fitted.weights[-1] == pytest.approx(0, abs=1e-6)
    assert fitted.scale[-1] == 0.01
    again = applied({**signals, "equal": np.full(100, 1e30)}, fitted)
    assert again == pytest.approx(applied({**signals, "equal": np.full(100, 0.1)}, fitted))


def test_what_rounding_does_decides_nothing() -> None:
    signals, good = hardness(100, 5)
    # The same answer to every image, but for the last bits of float32, which runtimes differ in.
    nearly = np.random.default_rng(5).normal(5.68, 1e-6, 100)
    fitted = fit_box_confidence({**signals, "nearly": nearly}, good, {"nearly": -0.5})
    first, other = (applied({**signals, "nearly": nearly + by}, fitted) for by in (0, 2e-6))
    assert np.abs(first - other).max() < 1e-4


def test_extremes_count_as_the_largest_seen() -> None:
    signals, good = hardness(400, 6)
    fitted = fit_box_confidence(signals, good)
    top = {name: np.array([values.max()]) for name, values in signals.items()}
    beyond = {name: np.array([1e38]) for name in signals}
    infinite = {name: np.array([np.inf]) for name in signals}
    assert applied(beyond, fitted) == pytest.approx(applied(top, fitted))
    assert applied(infinite, fitted) == pytest.approx(applied(top, fitted))
    # NaN counts as the mean, where the log odds are the bias.
    unknown = {name: np.array([np.nan]) for name in signals}
    assert applied(unknown, fitted) == pytest.approx([expit(fitted.bias)], rel=1e-5)


@modest
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 40), st.integers(1, 4)),
        elements=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(-1e6, 1e6)),
    ),
    st.integers(0, 2**32 - 1),
)
def test_never_nan(rows: np.ndarray, seed: int) -> None:
    signals = {str(index): column for index, column in enumerate(rows.T)}
    good = np.random.default_rng(seed).random(len(rows)) < 0.5
    fitted = fit_box_confidence(signals, good)
    assert np.isfinite([*fitted.mean, *fitted.scale, *fitted.weights, fitted.bias]).all()
    assert np.array(fitted.scale).min() > 0
    p = applied({name: np.r_[column, np.nan, np.inf] for name, column in signals.items()}, fitted)
    assert ((p >= 0) & (p <= 1)).all()


def test_graph_gives_what_eager_gives() -> None:
    signals, good = hardness(60, 7)
    fitted = fit_box_confidence(signals, good)
    narrow = {name: values.astype("float32") for name, values in signals.items()}
    graph = tf.function(lambda given_: apply_box_confidence(given_, fitted))(narrow)
    assert graph.dtype == tf.float32
    assert graph.numpy() == pytest.approx(applied(signals, fitted), abs=1e-5)


def test_plain_numbers() -> None:
    signals, good = hardness(60, 9)
    for value in dataclasses.asdict(fit_box_confidence(signals, good)).values():
        for one in value if isinstance(value, tuple) else (value,):
            assert type(one) in (str, float)


def test_a_signal_that_is_not_finite_is_named() -> None:
    with pytest.raises(TrustError, match="1 of 2 values of b are not finite numbers"):
        fit_box_confidence({"a": [1, 2], "b": [np.nan, 1]}, [True, False])
