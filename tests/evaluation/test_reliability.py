"""Area under the ROC curve: against scikit-learn and SciPy, and its intervals."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from scipy.special import expit, ndtr
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from loc_keras.evaluation.outcomes import Bootstrap
from loc_keras.evaluation.reliability import auroc_difference, auroc_estimate


def auroc(scores, good) -> float:
    return auroc_estimate(scores, good, Bootstrap(resamples=1)).value


modest = settings(max_examples=60, deadline=None, derandomize=True)


def test_by_hand() -> None:
    # Pairs of a good and a bad score: 3 > 1, 3 > 2, 1 = 1 (one half), 1 < 2: 2.5 of 4.
    assert auroc([3, 1, 1, 2], [True, True, False, False]) == 2.5 / 4
    assert auroc([1, 2, 3], [False, False, True]) == 1.0
    assert auroc([1, 2, 3], [True, False, False]) == 0.0
    assert auroc([5, 5, 5], [True, False, False]) == 0.5


@modest
@given(
    hnp.arrays(
        np.float64,
        st.integers(2, 40),
        elements=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(-1e9, 1e9)),
    ),
    st.integers(0, 2**32 - 1),
)
def test_equals_scikit_learn(scores: np.ndarray, seed: int) -> None:
    good = np.random.default_rng(seed).random(len(scores)) < 0.5
    assume(good.any() and not good.all())
    assert auroc(scores, good) == pytest.approx(roc_auc_score(good, scores), abs=1e-12)


@pytest.mark.parametrize("good", [np.ones(5, bool), np.zeros(5, bool), np.zeros(0, bool)])
def test_one_kind_alone_has_no_area(good: np.ndarray) -> None:
    scores = np.arange(len(good))
    assert np.isnan(auroc(scores, good))
    for found in (
        auroc_estimate(scores, good, Bootstrap(resamples=10)),
        auroc_difference(scores, -scores, good, Bootstrap(resamples=10)),
    ):
        assert np.isnan(found[:3]).all()
        assert found.images == len(good)


def answers(images: int, seed: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    good = rng.random(images) < 0.7
    return rng.normal(size=images) + shift * good, good


def test_interval_is_that_of_scipy() -> None:
    scores, good = answers(200, 0)
    oracle = bootstrap(
        (scores, good),
        lambda s, g: roc_auc_score(g, s),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=400,
        rng=np.random.default_rng(1),
    )
    found = auroc_estimate(scores, good)
    assert found.value == pytest.approx(roc_auc_score(good, scores))
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    assert found.low == pytest.approx(oracle.confidence_interval.low, abs=width / 8)
    assert found.high == pytest.approx(oracle.confidence_interval.high, abs=width / 8)
    assert found.images == 200


def test_paired_interval_is_that_of_scipy() -> None:
    scores, good = answers(200, 2)
    others = scores + np.random.default_rng(3).normal(0, 0.5, 200)
    oracle = bootstrap(
        (scores, others, good),
        lambda s, o, g: roc_auc_score(g, s) - roc_auc_score(g, o),
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=400,
        rng=np.random.default_rng(4),
    )
    found = auroc_difference(scores, others, good)
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    assert found.low == pytest.approx(oracle.confidence_interval.low, abs=width / 8)
    assert found.high == pytest.approx(oracle.confidence_interval.high, abs=width / 8)


def test_interval_holds_the_true_area() -> None:
    # Normal scores a distance d apart: the area is Phi(d / sqrt(2)). 95 % of 100 sets, by the
    # binomial distribution 88 or more in all but one case of 250.
    true = ndtr(1 / np.sqrt(2))
    held = 0
    for seed in range(100):
        found = auroc_estimate(*answers(150, seed), Bootstrap(resamples=300))
        held += found.low <= true <= found.high
    assert held >= 88


def test_pairing_narrows_the_difference() -> None:
    scores, good = answers(400, 5)
    others = scores + np.random.default_rng(6).normal(0, 0.1, 400)
    paired = auroc_difference(scores, others, good)
    alone = auroc_estimate(scores, good)
    assert paired.high - paired.low < (alone.high - alone.low) / 3
    assert auroc_difference(scores, expit(scores), good)[:3] == pytest.approx((0, 0, 0))
    opposite = auroc_difference(others, scores, good)
    assert opposite.value == pytest.approx(-paired.value)
    assert (opposite.low, opposite.high) == pytest.approx((-paired.high, -paired.low))


def test_one_bad_answer_still_has_an_interval() -> None:
    # A third of the draws lack the bad one; the others say what is known.
    found = auroc_estimate(np.arange(50), np.arange(50) != 10)
    assert found.value == pytest.approx(39 / 49)
    assert 0 < found.low < found.value < found.high < 1


def test_draws_follow_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, good = answers(100, 7)
    whole = auroc_estimate(scores, good)
    assert whole == auroc_estimate(scores, good)
    assert whole != auroc_estimate(scores, good, Bootstrap(seed=1))
    monkeypatch.setattr("loc_keras.evaluation.outcomes._CHUNK", 1000)
    assert whole == auroc_estimate(scores, good)
