"""The conformal quantile: values by hand, exact counts, errors, and the coverage it promises."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from loc_keras.errors import TrustError
from loc_keras.trust.conformal import (
    conformal_quantile,
    conformal_rank,
    highest_coverage,
    least_images,
)

modest = settings(max_examples=100, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("images", "coverage", "rank"),
    # By hand: ceil((n + 1) coverage).
    [
        (9, 0.9, 9),  # 9 exactly
        (10, 0.9, 10),  # 9.9
        (19, 0.9, 18),  # 18 exactly
        (99, 0.9, 90),
        (99, 0.99, 99),
        (999, 0.99, 990),
        (99, 0.07, 7),  # 100 * .07 is 7.000000000000001 in floats
        (99, 0.57, 57),  # and 100 * .57 is 56.99999999999999
        (99, 0.58, 58),
        (2, 1 / 3, 1),
        (9, 1 - 0.9, 1),  # 0.09999999999999998
        (999, np.float32(0.9), 900),
        (4, 0.5, 3),  # 2.5
        (1, 0.5, 1),
    ],
)
def test_rank_by_hand(images: int, coverage: float, rank: int) -> None:
    assert conformal_rank(images, coverage) == rank


def test_some_products_of_floats_are_wrong() -> None:
    # Why the fraction is needed: this would be one rank too high.
    assert np.ceil(100 * 0.07) == 8


def test_quantile_by_hand() -> None:
    # n = 9, .7: ceil(7) = the 7th smallest of 1..9 in any order; .75: ceil(7.5) = the 8th.
    scores = [4, 9, 1, 7, 3, 8, 2, 6, 5]
    assert conformal_quantile(scores, 0.7) == 7
    assert conformal_quantile(scores, 0.75) == 8
    assert conformal_quantile(scores, 0.9) == 9
    # Ties: 0 0 0 2 2, n = 5, .5: the 3rd; .51: ceil(3.06), the 4th.
    assert conformal_quantile([2, 0, 0, 2, 0], 0.5) == 0
    assert conformal_quantile([2, 0, 0, 2, 0], 0.51) == 2


@pytest.mark.parametrize(
    ("coverage", "images"),
    [(0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999), (0.5, 1), (0.8, 4), (0.1, 1), (0.91, 11)],
)
def test_least_images_by_hand(coverage: float, images: int) -> None:
    # 1 / alpha - 1: .91 gives 10.11, so 11.
    assert least_images(coverage) == images


def test_highest_coverage_by_hand() -> None:
    # 50 / 51 = .98039; 5 / 6 = .83333
    assert highest_coverage(50) == 0.9803
    assert highest_coverage(5) == 0.8333
    assert highest_coverage(9) == 0.9
    assert highest_coverage(1_000_000) == 0.9999


@modest
@given(st.integers(1, 3000), st.integers(1, 999))
def test_counts_agree_with_each_other(images: int, thousandths: int) -> None:
    coverage = thousandths / 1000
    if images < least_images(coverage):
        with pytest.raises(TrustError):
            conformal_rank(images, coverage)
    else:
        # In whole thousandths, ceil((n + 1) c) has a second way: minus floor of minus.
        assert conformal_rank(images, coverage) == -(-(images + 1) * thousandths // 1000)
    conformal_rank(images, highest_coverage(images))


def test_too_few_images_names_both_numbers_and_the_way_out() -> None:
    with pytest.raises(TrustError) as caught:
        conformal_quantile(np.zeros(50), 0.99)
    assert str(caught.value) == (
        "A coverage of 0.99 needs 99 calibration images or more, but there are 50; "
        "add images or ask for 0.9803 or less."
    )


def test_no_images() -> None:
    with pytest.raises(TrustError, match=r"but there are 0; add images\.$"):
        conformal_quantile([], 0.9)


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, 90, float("nan"), 1 - 1e-14, 1e-14])
def test_coverage_out_of_range(coverage: float) -> None:
    with pytest.raises(TrustError, match="between 0"):
        conformal_quantile(np.zeros(100), coverage)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_score_that_is_not_finite(bad: float) -> None:
    with pytest.raises(TrustError, match="1 of 20 calibration scores"):
        conformal_quantile([bad, *range(19)], 0.9)


@pytest.mark.parametrize(("images", "coverage"), [(9, 0.9), (50, 0.8), (200, 0.95)])
def test_coverage_follows_the_beta_distribution(images: int, coverage: float) -> None:
    # Of uniform scores, the share below the k-th of n is Beta(k, n + 1 - k) (order statistics):
    # mean k / (n + 1), variance k (n + 1 - k) / ((n + 1)^2 (n + 2)).
    trials = 4000
    rng = np.random.default_rng(5)
    kept = [conformal_quantile(rng.random(images), coverage) for _ in range(trials)]
    rank = conformal_rank(images, coverage)
    mean = rank / (images + 1)
    variance = mean * (1 - mean) / (images + 2)
    assert abs(np.mean(kept) - mean) < 4 * np.sqrt(variance / trials)
    assert np.var(kept) == pytest.approx(variance, rel=0.15)
    assert mean >= coverage
