"""Bootstrap intervals: against scipy, against exact distributions, and what they must keep to."""

import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loc_keras.evaluation import outcomes as module
from loc_keras.evaluation.outcomes import Bootstrap, means_of, median_of

MANY = Bootstrap(resamples=20_000)
values_01 = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def draws(rows: int, images: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=rows)


@pytest.mark.parametrize("images", [1, 2, 7, 8])
def test_statistics_of_draws_are_those_of_numpy(images: int) -> None:
    # Each resample written out, image by image, and measured by numpy.
    values = np.random.default_rng(3).normal(size=(images, 2))
    counts = draws(50, images)
    written = [np.repeat(values, row, axis=0) for row in counts]
    means = means_of(values)(counts)
    np.testing.assert_allclose(means, [one.mean(axis=0) for one in written], atol=1e-12)
    medians = median_of(values[:, 0])(counts)
    np.testing.assert_allclose(medians[:, 0], [np.median(one[:, 0]) for one in written])


def test_resamples_draw_each_image_as_often_as_a_multinomial() -> None:
    # Of n images, one is drawn Binomial(n, 1 / n) times: mean 1, variance 1 - 1 / n.
    counts = MANY.resample(lambda counts: counts.astype(np.float64), 5)
    assert counts.shape == (20_000, 5)
    assert (counts.sum(axis=1) == 5).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(axis=0), 0.8, atol=0.04)
    # Two images compete: covariance -1 / n.
    assert np.cov(counts[:, 0], counts[:, 1])[0, 1] == pytest.approx(-0.2, abs=0.03)


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("images", [9, 40])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_are_those_of_scipy(statistic: str, images: int, level: float) -> None:
    values = np.random.default_rng(1).beta(2, 1, images)
    theirs = stats.bootstrap(
        (values,),
        getattr(np, statistic),
        n_resamples=20_000,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    medians = ("x",) if statistic == "median" else ()
    ours = Bootstrap(level, 20_000).estimates({"x": values}, medians)["x"]
    assert ours.value == getattr(np, statistic)(values)
    # Two sets of 20,000 resamples differ by about a hundredth of the interval's width.
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    # The resampled number of hits is exactly Binomial(100, .3).
    hits = np.repeat([1.0, 0.0], [30, 70])
    found = MANY.estimates({"x": hits})["x"]
    exact = stats.binom.ppf([0.025, 0.975], 100, 0.3) / 100
    assert (found.low, found.high) == pytest.approx(tuple(exact), abs=0.0101)


def test_intervals_cover_what_they_promise() -> None:
    # 400 splits of 60 images from a known population: 95 % of the intervals should hold its mean
    # of 2 / 3. The percentile interval falls a little short at so few images; 400 trials err by
    # 1.1 points (one standard deviation).
    rng = np.random.default_rng(4)
    held = 0
    for seed in range(400):
        one = Bootstrap(resamples=300, seed=seed).estimates({"x": rng.beta(2, 1, 60)})["x"]
        held += one.low <= 2 / 3 <= one.high
    assert 0.90 <= held / 400 <= 0.98


@given(values_01, st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_what_every_interval_keeps_to(values: list[float], seed: int) -> None:
    few = Bootstrap(0.9, 200, seed)
    found = few.estimates({"mean": values, "median": values}, ("median",))
    for one in found.values():
        assert min(values) - 1e-9 <= one.value <= max(values) + 1e-9
        assert one.images == len(values)
        assert one.low <= one.high
        if len(set(values)) > 1:
            assert min(values) - 1e-9 <= one.low and one.high <= max(values) + 1e-9
    again = few.estimates({"mean": values, "median": values}, ("median",))
    assert again == found
    # Another order of the images draws other ones, but the figure is the same.
    turned = few.estimates({"mean": values[::-1]})["mean"]
    assert turned.value == pytest.approx(found["mean"].value)
    # A wider level holds a narrower one.
    wide = Bootstrap(0.99, 200, seed).estimates({"mean": values})["mean"]
    assert wide.low <= found["mean"].low and found["mean"].high <= wide.high


@given(values_01, st.floats(-5, 5), st.floats(0.1, 9))
@settings(max_examples=50, deadline=None)
def test_intervals_move_and_scale_with_the_values(values, shift, scale) -> None:
    few = Bootstrap(resamples=100)
    plain = few.estimates({"x": np.array(values) + 2})["x"]
    moved = few.estimates({"x": (np.array(values) + 2) * scale + shift + 20})["x"]
    for before, after in zip(plain[:3], moved[:3], strict=True):
        assert after == pytest.approx(before * scale + shift + 20, rel=1e-9)


def test_columns_keep_their_order_and_names() -> None:
    columns = {"b": [0.1, 0.9, 0.4], "median": [0.5, 0.2, 0.8], "a": [0.3, 0.3, 0.6]}
    found = Bootstrap(resamples=50).estimates(columns, ("median",))
    assert list(found) == ["b", "median", "a"]
    expected = [1.4 / 3, 0.5, 0.4]  # By hand.
    assert [one.value for one in found.values()] == pytest.approx(expected)


def test_no_image_and_one_image_tell_nothing_about_others() -> None:
    assert Bootstrap().estimates({}) == {}
    for median in ((), ("x",)):
        nothing = Bootstrap().estimates({"x": []}, median)["x"]
        assert nothing.images == 0
        assert all(math.isnan(value) for value in nothing[:3])
        one = Bootstrap().estimates({"x": [0.7]}, median)["x"]
        assert one.value == 0.7 and one.images == 1
        assert math.isnan(one.low) and math.isnan(one.high)


@pytest.mark.parametrize("images", [2, 20, 1000])
@pytest.mark.parametrize("median", [False, True])
def test_where_all_are_right_the_exact_bound_stands(images: int, median: bool) -> None:
    # Clopper and Pearson's interval as scipy has it.
    medians = ("x",) if median else ()
    for hits in (0, images):
        exact = stats.binomtest(hits, images).proportion_ci(0.95, method="exact")
        found = Bootstrap().estimates({"x": np.full(images, hits / images)}, medians)["x"]
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_equal_values_that_are_no_share_have_no_width() -> None:
    found = Bootstrap(resamples=50).estimates({"x": np.full(9, 0.25)})["x"]
    assert found[:3] == (0.25, 0.25, 0.25)


def test_the_size_of_the_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(37)
    whole = Bootstrap(resamples=101).estimates({"x": values})
    monkeypatch.setattr(module, "_CHUNK", 5 * 37)
    in_parts = Bootstrap(resamples=101).estimates({"x": values})
    assert in_parts["x"] == pytest.approx(whole["x"], rel=1e-12)


def test_ten_thousand_images_need_little_time_and_memory() -> None:
    # 2,000 resamples at once would be 160 MB of draws alone. The time is of this process alone,
    # about .7 s on one core of 2020, with room for a machine that is busy.
    rng = np.random.default_rng(0)
    columns = {f"{index}": (rng.random(10_000) < 0.7).astype(float) for index in range(10)}
    columns["median"] = rng.random(10_000)
    started = time.process_time()
    Bootstrap().estimates(columns, ("median",))
    assert time.process_time() - started < 4
    tracemalloc.start()
    Bootstrap(resamples=200).estimates(columns, ("median",))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6
