"""Comparison of runs on the same images: numbers, what is refused, table and picture."""

import io
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.outcome_examples import names_of, random_outcomes, with_noise
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from scipy import stats

from loc_keras.errors import ConfigError, DataError, ModelError
from loc_keras.evaluation.figures import figures_of
from loc_keras.evaluation.outcomes import Bootstrap, Outcomes
from loc_keras.evaluation.paired import COMPARED, Comparison, Difference, compare, two_sided_p
from loc_keras.report.compare import (
    difference_words,
    draw_comparison,
    interval_words,
    is_clear,
    p_words,
    print_comparison,
    save_comparison,
)
from loc_keras.report.style import shorten_middle, text_width

BASE = random_outcomes(200, background=3)
WORSE = with_noise(BASE, 0.05, seed=1)


def compared(runs: Mapping[str, Outcomes], **options: int) -> Comparison:
    return compare(runs, {name: names_of(one) for name, one in runs.items()}, **options)


def test_figures_are_those_of_each_run_alone() -> None:
    found = compared({"base": BASE, "worse": WORSE}, resamples=50)
    for run, outcomes in {"base": BASE, "worse": WORSE}.items():
        alone = figures_of(outcomes, Bootstrap(resamples=50))
        assert list(found.figures[run]) == list(COMPARED)
        for name in COMPARED:
            # Up to the order of summing.
            assert found.figures[run][name] == pytest.approx(alone[name], rel=1e-9)
    assert found.first == "base" and list(found.differences) == ["worse"]
    assert (found.images, found.object_images) == (200, int(BASE.shown.sum()))


def test_differences_are_those_of_scipys_paired_bootstrap() -> None:
    found = compared({"base": BASE, "worse": WORSE}, resamples=20_000).differences["worse"]
    shown = BASE.shown
    pairs = {
        "class_accuracy": (WORSE.class_hits, BASE.class_hits),
        "mean_iou": (WORSE.ious[shown], BASE.ious[shown]),
        "acc50": (WORSE.ious[shown] >= 0.5, BASE.ious[shown] >= 0.5),
        "corner_error_px": (WORSE.corner_errors_px[shown], BASE.corner_errors_px[shown]),
    }
    for name, (mine, theirs) in pairs.items():
        interval = stats.bootstrap(
            (mine.astype(float), theirs.astype(float)),
            lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
            paired=True,
            n_resamples=20_000,
            method="percentile",
            rng=np.random.default_rng(3),
        ).confidence_interval
        width = interval.high - interval.low
        assert found[name].value == pytest.approx(mine.mean() - theirs.mean(), abs=1e-12)
        assert found[name].low == pytest.approx(interval.low, abs=0.05 * width)
        assert found[name].high == pytest.approx(interval.high, abs=0.05 * width)


def test_p_values_are_near_those_of_the_paired_t_test() -> None:
    # Of means of many images the bootstrap distribution is near the normal one.
    a = random_outcomes(1000, seed=4)
    b = with_noise(a, 0.01, seed=5)
    found = compared({"a": a, "b": b}, resamples=5_000).differences["b"]
    expected = stats.ttest_rel(b.ious, a.ious).pvalue
    assert found["mean_iou"].p_value == pytest.approx(expected, abs=0.02)


def test_two_sided_p_by_hand() -> None:
    # Of 9 resamples 1 is at most 0 and 8 at least 0: 2 x (1 + 1) / (9 + 1). None below: 2 / 10.
    # All exactly 0: never above 1.
    resampled = np.array([[-1, 2, 0]] + [[1, 3, 0]] * 8)
    assert two_sided_p(resampled).tolist() == [0.4, 0.2, 1.0]


@settings(deadline=None)
@given(st.floats(-3, 3), st.integers(0, 1000))
def test_p_value_and_interval_agree(mean: float, seed: int) -> None:
    # Beside the step that one resample makes, p is below .05 just where the interval excludes 0.
    resampled = np.random.default_rng(seed).normal(mean, 1, (400, 1)).round(1)
    low, high = Bootstrap().interval(resampled)
    p = two_sided_p(resampled)[0]
    if low[0] > 0 or high[0] < 0:
        assert p <= 0.05 + 4 / 401
    elif low[0] < 0 < high[0]:
        assert p >= 0.05 - 4 / 401


def test_no_difference_is_found_where_there_is_none() -> None:
    # 200 pairs of runs that are equally good: p below .05 for about 1 in 20 (3 standard
    # deviations of 200 draws reach 9.6 %).
    rng = np.random.default_rng(0)
    found = 0
    for seed in range(200):
        values = rng.normal(size=(60, 1))
        resampled = Bootstrap(resamples=300, seed=seed).resample(
            lambda counts, v=values: counts @ v / 60, 60
        )
        found += two_sided_p(resampled)[0] < 0.05
    assert 0.01 <= found / 200 <= 0.1


def test_a_run_equals_itself() -> None:
    found = compared({"a": BASE, "b": BASE}, resamples=50)
    for difference in found.differences["b"].values():
        assert difference[:4] == (0, 0, 0, 1)
    assert found.figures["a"] == found.figures["b"]


def test_images_are_matched_by_name() -> None:
    order = np.random.default_rng(1).permutation(len(WORSE))
    names = names_of(BASE)
    straight = compared({"base": BASE, "worse": WORSE}, resamples=50)
    turned = compare(
        {"base": BASE, "worse": WORSE.take(order)},
        {"base": names, "worse": [names[index] for index in order]},
        resamples=50,
    )
    assert turned.differences == straight.differences


def test_a_name_that_occurs_twice_is_matched_in_its_order() -> None:
    # Two objects cut out of one picture have its name.
    three = random_outcomes(3)
    turned = three.take(np.array([2, 0, 1]))
    found = compare(
        {"a": three, "b": turned},
        {"a": ["x.jpg", "x.jpg", "y.jpg"], "b": ["y.jpg", "x.jpg", "x.jpg"]},
        resamples=10,
    )
    assert found.differences["b"]["mean_iou"].value == 0
    with pytest.raises(DataError, match="different annotations"):
        compare(
            {"a": three, "b": turned},
            {"a": ["x.jpg", "x.jpg", "y.jpg"], "b": ["x.jpg", "x.jpg", "y.jpg"]},
        )


FIRST = int(np.flatnonzero(BASE.shown)[0])


def moved(name: str) -> Outcomes:
    """The same answers to another truth of the first image with an object."""
    column = getattr(BASE, name).copy()
    if name == "labels":
        column[FIRST] = (column[FIRST] + 1) % 3
    else:
        column[FIRST] += 1
    return replace(BASE, **{name: column})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (moved("labels"), f"the class of {FIRST:05}.jpg differs"),
        (moved("boxes_px"), f"the box of {FIRST:05}.jpg differs"),
        (moved("sizes"), f"the size of {FIRST:05}.jpg differs"),
        (BASE.take(np.arange(199)), "1 are of base alone, such as 00199.jpg"),
        (random_outcomes(200, 9, background=3), "9 classes, background included, and 8 classes"),
        (replace(BASE, background=None), "do not know the same classes"),
    ],
)
def test_other_truths_are_refused(other: Outcomes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        compared({"base": BASE, "other": other}, resamples=10)


def test_boxes_that_differ_by_float32_are_the_same() -> None:
    scale = np.tile(BASE.sizes[:, ::-1], 2)
    rounded = (BASE.boxes_px / scale).astype(np.float32).astype(np.float64) * scale
    assert (rounded != BASE.boxes_px).any()
    compared({"a": BASE, "b": replace(BASE, boxes_px=rounded)}, resamples=10)


def test_one_run_and_broken_answers_are_refused() -> None:
    with pytest.raises(ConfigError, match="two runs"):
        compared({"base": BASE})
    broken = replace(WORSE, boxes_pred_px=np.full((200, 4), np.nan))
    with pytest.raises(ModelError, match="NaN"):
        compared({"base": BASE, "broken": broken})
    with pytest.raises(ValueError, match="a name for each"):
        compare({"a": BASE, "b": WORSE}, {"a": names_of(BASE), "b": ["x"]})


def test_one_image_tells_nothing() -> None:
    one = BASE.take(np.array([FIRST]))
    difference = compared({"a": one, "b": one}).differences["b"]["mean_iou"]
    assert difference.value == 0 and difference.images == 1
    assert math.isnan(difference.low) and math.isnan(difference.p_value)


# In words.


def test_numbers_in_words() -> None:
    one = Difference(-0.0042, -0.0081, -0.00001, 0.04949, 10)
    assert difference_words("acc50", one) == "−0.42"
    assert interval_words("acc50", one) == "−0.81 to −0.00"
    assert difference_words("corner_error_px", one) == "−0.00"
    assert is_clear(one) and not is_clear(one._replace(high=0.0))
    assert [p_words(p) for p in (0.04949, 0.0004, 1.0, float("nan"))] == [
        ".049",
        "< .001",
        "1",
        "–",
    ]
    nothing = Difference(*[float("nan")] * 4, 0)
    assert (difference_words("acc50", nothing), interval_words("acc50", nothing)) == ("–", "–")
    assert not is_clear(nothing)


def test_a_long_name_keeps_both_its_ends() -> None:
    name = "runs/2024-05-01_" + "long_" * 12 + "seed_3"
    found = shorten_middle(name, 200, 9)
    assert found.startswith("runs/2024") and found.endswith("seed_3") and found.count("…") == 1
    assert text_width(found, 9) <= 200
    assert shorten_middle("short", 200, 9) == "short"


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_names_runs_and_figures(width: int) -> None:
    runs = {"runs/[b]ase": BASE, "runs/worse": WORSE, "same": BASE}
    found = compared(runs, resamples=100)
    text = io.StringIO()
    print_comparison(Console(file=text, width=width, markup=False), found)
    lines = text.getvalue().splitlines()
    assert "run 1: runs/[b]ase (the one that others are compared with)" in lines
    rows = [line.split() for line in lines]
    words = difference_words("mean_iou", found.differences["runs/worse"]["mean_iou"])
    start = next(place for place, row in enumerate(rows) if row[:2] == ["mean", "IoU"])
    assert rows[start + 1][0] == "2" and words in rows[start + 1]
    assert rows[start + 2][-1] == "1"  # p of no difference at all.
    assert max(map(len, lines[3:-2])) <= 80
    objects = int(BASE.shown.sum())
    assert any(line.startswith(f"200 images, {objects} of them with an object") for line in lines)


# The picture.


def long_named(count: int) -> dict[str, Outcomes]:
    # The second name has to be cut, the others fit.
    names = ["base", "runs/" + "long_name_" * 15 + "1", *(f"runs/{i}" for i in range(2, count))]
    return {name: with_noise(BASE, 0.01 * index, index) for index, name in enumerate(names)}


@pytest.mark.parametrize("count", [2, 7])
def test_nothing_in_the_picture_leaves_it_or_overlaps(count: int) -> None:
    figure = draw_comparison(compared(long_named(count), resamples=50))
    figure.draw_without_rendering()  # Until then the plots have no place.
    renderer = figure.canvas.get_renderer()
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    page = figure.bbox
    for text, box in zip(texts, boxes, strict=True):
        assert page.x0 <= box.x0 and box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 and box.y1 <= page.y1, text.get_text()
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            tall = min(one.y1, other.y1) - max(one.y0, other.y0)
            # Lines of text may touch by their descenders.
            assert wide <= 0 or tall <= 0.25 * min(one.height, other.height)


def test_marks_lie_where_the_figures_are() -> None:
    found = compared({"base": BASE, "worse": WORSE}, resamples=200)
    left, right, *_ = draw_comparison(found).axes
    marks = [line for line in left.lines if line.get_marker() not in ("None", None, "")]
    shown = [name for name in COMPARED if name not in ("acc50", "corner_error_px")]
    expected = [100 * found.figures[run][name].value for name in shown for run in found.figures]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx(expected)
    marks = [line for line in right.lines if line.get_marker() not in ("None", None, "")]
    differences = [found.differences["worse"][name] for name in shown]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx(
        [100 * one.value for one in differences]
    )
    # An open mark is one whose interval holds 0.
    full = [line.get_markerfacecolor() == line.get_color() for line in marks]
    assert full == [is_clear(one) for one in differences]
    assert set(full) == {True, False}  # Both kinds of marks were seen.


def test_picture_of_images_without_an_object_and_of_one(tmp_path: Path) -> None:
    for name, index in {"none": np.flatnonzero(~BASE.shown), "one": np.array([FIRST])}.items():
        some = BASE.take(index)
        path = save_comparison(tmp_path / f"{name}.png", compared({"a": some, "b": some}))
        with Image.open(path) as picture:
            assert picture.width > 1000
