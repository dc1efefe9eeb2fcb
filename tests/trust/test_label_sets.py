"""Label sets: against puncc and MAPIE, by hand, and what always holds."""

import json
from pathlib import Path

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from helpers import conformal_oracle
from hypothesis import given, settings
from scipy.special import softmax

from loc_keras.errors import TrustError
from loc_keras.trust.confidence import most_probable
from loc_keras.trust.conformal import (
    LabelSets,
    conformal_quantile,
    fit_label_sets,
    label_scores,
    label_sets,
    true_scores,
)

RECORDED = Path(__file__).parents[1] / "helpers" / "recorded" / "conformal_oracle.json"
ORACLE = json.loads(RECORDED.read_text())
modest = settings(max_examples=25, deadline=None, derandomize=True)


def compare_with_packages(case: dict, given_: dict) -> None:
    n = given_["calibration_images"]
    p, y = np.array(given_["probabilities"]), np.array(given_["labels"])
    rest = case["penalty"], case["k_reg"]
    # Both packages count the label's own probability in (U = 1), which is added here.
    scores = true_scores(p[:n], y[:n], *rest) + p[np.arange(n), y[:n]]
    assert scores == pytest.approx(case["scores"], abs=1e-6)
    quantile = conformal_quantile(scores, case["coverage"])
    assert quantile == pytest.approx(case["threshold"], abs=1e-6)
    with_own = np.asarray(label_scores(p[n:], *rest)) + p[n:]
    top = np.arange(p.shape[1]) == p[n:].argmax(axis=1, keepdims=True)  # MAPIE adds it.
    assert ((with_own <= quantile + 1e-6) | top).tolist() == case["sets"]


@pytest.mark.parametrize("case", ORACLE["answers"]["label_sets"])
def test_recorded_numbers_of_puncc_and_mapie(case: dict) -> None:
    # The scores and the quantile are puncc's, the sets MAPIE's; see conformal_oracle.py.
    compare_with_packages(case, ORACLE["inputs"])


def test_puncc_and_mapie_asked_anew() -> None:
    pytest.importorskip("deel.puncc")
    pytest.importorskip("mapie")
    inputs = conformal_oracle.inputs()
    for case in conformal_oracle.answers(inputs)["label_sets"]:
        compare_with_packages(case, inputs)


def test_scores_by_hand() -> None:
    row = np.array([[0.2, 0.5, 0.3]])
    # Ranks 3, 1, 2; what is more likely: .5 + .3, nothing, .5.
    assert np.asarray(label_scores(row, 0.0, 1))[0] == pytest.approx([0.8, 0.0, 0.5])
    # Penalty .1 from rank 2 on: .2, 0, .1 more. From rank 1 on: .3, .1, .2.
    assert np.asarray(label_scores(row, 0.1, 1))[0] == pytest.approx([1.0, 0.0, 0.6])
    assert np.asarray(label_scores(row, 0.1, 0))[0] == pytest.approx([1.1, 0.1, 0.7])


def test_ties_count_from_the_smaller_index() -> None:
    row = np.full((1, 4), 0.25)
    assert np.asarray(label_scores(row, 0.0, 1))[0] == pytest.approx([0.0, 0.25, 0.5, 0.75])


def test_sets_by_hand() -> None:
    rows = np.array([[0.2, 0.5, 0.3], [0.05, 0.05, 0.9]])
    fitted = LabelSets(0.9, threshold=0.6, penalty=0.0)
    # Scores .8, 0, .5 and, with the smaller index first, .9, .95, 0; at most .6 are 0 and .5.
    expected = [[False, True, True], [False, False, True]]
    assert np.asarray(label_sets(rows, fitted)).tolist() == expected


@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_one_class_and_two(penalty: float) -> None:
    single = fit_label_sets(np.ones((20, 1)), np.zeros(20, int), 0.9, penalty)
    assert np.asarray(label_sets(np.ones((3, 1)), single)).all()
    # 20 images, 10 % wrong with (.9, .1): the 19th score is that of a wrong one, so both labels.
    pairs = np.tile([0.9, 0.1], (20, 1))
    labels = np.r_[np.zeros(18, int), 1, 1]
    both = fit_label_sets(pairs, labels, 0.9, penalty)
    assert np.asarray(label_sets(pairs, both)).all()
    # For .85 the 18th of 20 is that of a right one: one label, which is right for 90 %.
    one = fit_label_sets(pairs, labels, 0.85, penalty)
    assert np.asarray(label_sets(pairs, one)).tolist() == [[True, False]] * 20


def test_confident_model_gets_few_labels_with_a_penalty() -> None:
    p = np.tile(np.array([1e-9, 1.0, 1e-9, 1e-9], "float32"), (1000, 1))

    def size(wrong: int, penalty: float) -> int:
        labels = np.r_[np.ones(1000 - wrong, int), np.zeros(wrong, int)]
        sets = np.asarray(label_sets(p, fit_label_sets(p, labels, 0.9, penalty)))
        (found,) = set(sets.sum(axis=1).tolist())
        return found

    # Right more often than asked: the top label is enough.
    assert size(5, 0.01) == size(5, 0.0) == 1
    # Else the true one is the second; to APS all others score 1, so it takes them all.
    assert (size(150, 0.01), size(150, 0.0)) == (2, 4)


ROWS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(5, 30), st.integers(1, 6)),
    elements=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, width=32)),
).map(lambda rows: (rows + 1e-6) / (rows + 1e-6).sum(axis=1, keepdims=True))


@modest
@given(ROWS, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.5]), st.integers(0, 3))
def test_what_always_holds(rows: np.ndarray, seed: int, penalty: float, k_reg: int) -> None:
    labels = np.random.default_rng(seed).integers(rows.shape[1], size=len(rows))
    before = np.zeros(rows.shape, bool)
    for coverage in (0.1, 0.5, 0.8):
        fitted = fit_label_sets(rows, labels, coverage, penalty, k_reg)
        sets = np.asarray(label_sets(rows, fitted))
        # Never empty, the answer is in it, and a higher coverage only adds labels.
        assert sets[np.arange(len(rows)), rows.argmax(axis=1)].all()
        assert (sets >= before).all()
        # At least ceil((n + 1) coverage) of the n calibration images keep the promise.
        kept = sets[np.arange(len(rows)), labels].sum()
        assert kept >= np.ceil(round((len(rows) + 1) * coverage, 6))
        before = sets


def test_graph_gives_what_eager_gives() -> None:
    p = softmax(np.random.default_rng(0).normal(0, 3, (50, 7)), axis=1).astype("float32")
    fitted = fit_label_sets(p, p.argmin(axis=1), 0.6)
    graph = tf.function(
        lambda x: label_sets(x, fitted), input_signature=[tf.TensorSpec((None, 7), tf.float32)]
    )
    assert (graph(p).numpy() == np.asarray(label_sets(p, fitted))).all()
    assert graph(p).dtype == tf.bool


@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_coverage_of_fresh_images(penalty: float) -> None:
    rng = np.random.default_rng(3)
    p = softmax(rng.normal(0, 1, (50_999, 4)), axis=1)
    labels = (rng.random((50_999, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    fitted = fit_label_sets(p[:999], labels[:999], 0.9, penalty)
    sets = np.asarray(label_sets(p[999:], fitted))
    kept = sets[np.arange(50_000), labels[999:]].mean()
    # Beta(900, 100): mean .9, standard deviation .0095; the top label can only add a little.
    assert 0.9 - 3 * 0.0095 < kept < 0.9 + 3 * 0.0095 + 0.01


def test_sums_of_another_machine_keep_the_promise() -> None:
    # The scores again, in float64: those of at least ceil(100 coverage) of 99 images must pass.
    p = softmax(np.random.default_rng(1).normal(0, 1, (99, 1000)), axis=1).astype("float32")
    labels = np.random.default_rng(2).integers(1000, size=99)
    own = p[np.arange(99), labels]
    exact = np.array([row[row > own].sum() for row, own in zip(p.astype(float), own, strict=True)])
    for hundredths in range(5, 100, 5):
        fitted = fit_label_sets(p, labels, hundredths / 100, penalty=0.0)
        assert (exact <= fitted.threshold).sum() >= hundredths


def test_too_few_images() -> None:
    with pytest.raises(TrustError, match="needs 19 calibration images or more, but there are 10"):
        fit_label_sets(np.full((10, 2), 0.5), np.zeros(10, int), 0.95)


@given(
    rows=st.lists(
        st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.3000001, 1.0]), min_size=4, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_most_probable_is_numpys_argmax(rows):
    # NumPy, too, takes the first of equals.
    values = np.array(rows, np.float32)
    np.testing.assert_array_equal(most_probable(values), values.argmax(axis=1))
