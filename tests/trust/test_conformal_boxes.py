"""Outer and inner boxes: by hand, against puncc, and what the promise rests on."""

import json
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from helpers import conformal_oracle
from hypothesis import given, settings

from loc_keras.errors import TrustError
from loc_keras.trust.conformal import (
    SCALINGS,
    BoxMargins,
    fit_boxes,
    inner_boxes,
    inner_scores,
    is_empty,
    margins_of,
    outer_boxes,
    outer_scores,
    scales_of,
)

RECORDED = Path(__file__).parents[1] / "helpers" / "recorded" / "conformal_oracle.json"
ORACLE = json.loads(RECORDED.read_text())
modest = settings(max_examples=20, deadline=None, derandomize=True)
MILLIONTH = 1.1e-6


def answers(images: int, seed: int = 0, noise: float = 0.03) -> tuple[np.ndarray, ...]:
    """True boxes, predicted boxes and a spread that knows half of the noise."""
    rng = np.random.default_rng(seed)
    true = np.sort(rng.uniform(0, 1, (images, 2, 2)), axis=1).reshape(images, 4)
    spread = noise * rng.gamma(2, 0.5, (images, 4))
    pred = np.clip(true + rng.normal(0, 1, (images, 4)) * spread, 0, 1)
    pred = np.concatenate(
        [np.minimum(pred[:, :2], pred[:, 2:]), np.maximum(pred[:, :2], pred[:, 2:])], axis=1
    )
    return true, pred, spread


def contains(outer: np.ndarray, inner: np.ndarray, slack: float = 0.0) -> np.ndarray:
    return (outer[..., :2] <= inner[..., :2] + slack).all(axis=-1) & (
        outer[..., 2:] >= inner[..., 2:] - slack
    ).all(axis=-1)


# By hand


def test_scores_by_hand() -> None:
    true, pred = np.array([[0.2, 0.3, 0.6, 0.8]]), np.array([[0.25, 0.3, 0.65, 0.7]])
    # Beyond the predicted box: left .05, top 0, right -.05, bottom .1.
    assert outer_scores(true, pred, np.ones((1, 4))) == pytest.approx([0.1])
    assert inner_scores(true, pred, np.ones((1, 4))) == pytest.approx([0.05])
    # Width and height are .4: .1 / .4 and .05 / .4.
    scales = np.asarray(scales_of(pred, "size"))
    assert scales[0] == pytest.approx([0.4] * 4)
    assert outer_scores(true, pred, scales) == pytest.approx([0.25])
    assert inner_scores(true, pred, scales) == pytest.approx([0.125])
    # By side: .05 / .01 = 5 beats .1 / .05 = 2.
    spread = np.array([[0.01, 0.01, 0.05, 0.05]])
    scales = np.asarray(scales_of(pred, "spread", spread))
    assert outer_scores(true, pred, scales) == pytest.approx([5.0])


def test_boxes_by_hand() -> None:
    pred = np.array([[0.4, 0.1, 0.6, 0.5]])
    ones = np.ones((1, 4))
    assert np.asarray(outer_boxes(pred, ones, 0.05))[0] == pytest.approx(
        [0.35, 0.05, 0.65, 0.55], abs=MILLIONTH
    )
    # Clipped at the top.
    assert np.asarray(outer_boxes(pred, ones, 0.2))[0] == pytest.approx(
        [0.2, 0.0, 0.8, 0.7], abs=MILLIONTH
    )
    assert np.asarray(inner_boxes(pred, ones, 0.05))[0] == pytest.approx(
        [0.45, 0.15, 0.55, 0.45], abs=MILLIONTH
    )
    # Half the width is .1: nothing is left.
    for margin in (0.1, 0.3):
        inner = np.asarray(inner_boxes(pred, ones, margin))
        assert inner.tolist() == [[0.0, 0.0, 0.0, 0.0]]
        assert np.asarray(is_empty(inner)).tolist() == [True]
    # By width .2 and height .4.
    sizes = scales_of(pred, "size")
    assert np.asarray(outer_boxes(pred, sizes, 0.25))[0] == pytest.approx(
        [0.35, 0.0, 0.65, 0.6], abs=MILLIONTH
    )
    # A negative margin draws the outer box in, at most until its sides meet: .05 and then .1 of
    # the width, .3 of the height.
    assert np.asarray(outer_boxes(pred, ones, -0.05))[0] == pytest.approx(
        [0.45, 0.15, 0.55, 0.45], abs=MILLIONTH
    )
    assert np.asarray(outer_boxes(pred, ones, -0.15))[0] == pytest.approx(
        [0.5, 0.25, 0.5, 0.35], abs=MILLIONTH
    )
    # And lets the inner box grow.
    assert np.asarray(inner_boxes(pred, ones, -0.05))[0] == pytest.approx(
        [0.35, 0.05, 0.65, 0.55], abs=MILLIONTH
    )


def test_scales_have_a_floor() -> None:
    point = np.array([[0.5, 0.5, 0.5, 0.505]])
    assert np.asarray(scales_of(point, "size"))[0] == pytest.approx([0.01] * 4)
    spread = np.array([[0.0, 1e-9, 0.002, 0.5]])
    assert np.asarray(scales_of(point, "spread", spread))[0] == pytest.approx(
        [0.001, 0.001, 0.002, 0.5]
    )


def test_fit_by_hand() -> None:
    # Nine images whose right side is .01 to .09 too far left: .8 of ten is the 8th.
    pred = np.tile([0.1, 0.1, 0.5, 0.5], (9, 1))
    true = pred.copy()
    true[:, 2] += np.arange(1, 10) / 100
    fitted = fit_boxes(true, pred, coverage=0.8)
    assert fitted.outer == pytest.approx((0.08,))
    # The other three sides fit exactly, so no inner score is below 0.
    assert fitted.inner == pytest.approx((0.0,))
    assert (fitted.scaling, fitted.coverage) == ("additive", 0.8)


# Against puncc


def compare_with_puncc(case: dict, given_: dict) -> None:
    n = given_["calibration_images"]
    true, pred = np.array(given_["boxes"]), np.array(given_["boxes_pred"])
    fitted = fit_boxes(true[:n], pred[:n], coverage=case["coverage"], scaling=case["scaling"])
    margin = case["margin"]
    if case["kind"] == "outer":
        assert fitted.outer[0] == pytest.approx(margin, abs=1e-6)
    else:
        # puncc does not count that an empty box keeps the promise.
        assert fitted.inner[0] <= margin + 1e-6
    make = outer_boxes if case["kind"] == "outer" else inner_boxes
    found = np.asarray(make(pred[n:], scales_of(pred[n:], case["scaling"]), margin))
    expected = np.clip(case["boxes"], 0, 1)  # puncc knows no picture and no empty box
    gone = (expected[:, 2:] <= expected[:, :2]).any(axis=1)
    assert (np.asarray(is_empty(found)) == gone).all()
    assert found[~gone].ravel() == pytest.approx(expected[~gone].ravel(), abs=3e-6)


@pytest.mark.parametrize("case", ORACLE["answers"]["boxes"])
def test_recorded_numbers_of_puncc(case: dict) -> None:
    compare_with_puncc(case, ORACLE["inputs"])


def test_puncc_asked_anew() -> None:
    pytest.importorskip("deel.puncc")
    pytest.importorskip("mapie")
    inputs = conformal_oracle.inputs()
    for case in conformal_oracle.answers(inputs)["boxes"]:
        compare_with_puncc(case, inputs)


# What always holds

every_scaling = pytest.mark.parametrize("scaling", SCALINGS)
seeds = st.integers(0, 2**32 - 1)


@every_scaling
@modest
@given(seeds, st.floats(-1, 3))
def test_kept_exactly_where_the_score_is_at_most_the_margin(
    scaling: str, seed: int, margin: float
) -> None:
    true, pred, spread = answers(40, seed, noise=0.1)
    scales = np.asarray(scales_of(pred, scaling, spread))
    outer = np.asarray(outer_boxes(pred, scales, margin))
    held = contains(outer, true)
    score = outer_scores(true, pred, scales)
    # A millionth of the picture, in units of the smallest scale.
    slack = 3e-6 / scales.min(axis=1)
    assert held[score <= margin].all()
    assert not held[score > margin + slack].any()
    inner = np.asarray(inner_boxes(pred, scales, margin))
    score, empty = inner_scores(true, pred, scales), np.asarray(is_empty(inner))
    held = contains(true, inner) | empty
    assert held[score <= margin].all()
    assert not (held & ~empty)[score > margin + slack].any()


@every_scaling
@modest
@given(seeds, st.floats(0.02, 0.3))
def test_calibration_images_keep_the_promise_and_boxes_are_nested(
    scaling: str, seed: int, noise: float
) -> None:
    true, pred, spread = answers(19, seed, noise)
    scales = np.asarray(scales_of(pred, scaling, spread))
    before = None
    for coverage in (0.5, 0.7, 0.9, 0.95):
        fitted = fit_boxes(true, pred, coverage=coverage, scaling=scaling, spread=spread)
        outer = np.asarray(outer_boxes(pred, scales, fitted.outer[0]))
        inner = np.asarray(inner_boxes(pred, scales, fitted.inner[0]))
        empty = np.asarray(is_empty(inner))
        assert ((outer >= 0) & (outer <= 1) & (inner >= 0) & (inner <= 1)).all()
        # In float32, after clipping: at least ceil(20 coverage) of the 19 images, by hand.
        least = {0.5: 10, 0.7: 14, 0.9: 18, 0.95: 19}[coverage]
        assert contains(outer, true).sum() >= least
        assert (contains(true, inner) | empty).sum() >= least
        # From 1/2 on, the inner box lies in the outer one.
        assert fitted.outer[0] + fitted.inner[0] >= 0
        assert contains(outer, inner)[~empty].all()
        # A higher coverage: no smaller outer box, no larger inner box.
        if before is not None:
            assert contains(outer, before[0]).all()
            assert contains(before[1], inner)[~empty].all()
            assert empty[before[2]].all()
        before = outer, inner, empty


def test_boxes_never_cross() -> None:
    # Four images: two boxes .1 too small and two .1 too large on all sides: outer scores
    # .1 .1 -.1 -.1 and inner ones the negatives; .4 of five is the 2nd. With -.1 for both, the
    # inner box would be the larger one.
    pred = np.tile([0.3, 0.3, 0.7, 0.7], (4, 1))
    grow = np.array([0.1, 0.1, -0.1, -0.1])[:, None] * [-1, -1, 1, 1]
    fitted = fit_boxes(pred + grow, pred, coverage=0.4)
    assert fitted.outer == pytest.approx((-0.1,))
    assert fitted.inner == pytest.approx((0.1,))


def test_hopeless_boxes_do_not_empty_the_others() -> None:
    # 19 images, boxes .4 wide and high. Of four the truth is elsewhere: they ask for a margin that
    # empties their own box, .2. The others are up to .15 too large on the right.
    pred = np.tile([0.1, 0.1, 0.5, 0.5], (19, 1))
    true = pred.copy()
    true[:15, 2] -= np.arange(1, 16) / 100
    true[15:] = [0.6, 0.6, 0.9, 0.9]
    # .75 of 20 is the 15th: all good ones keep the promise.
    fitted = fit_boxes(true, pred, coverage=0.75)
    assert fitted.inner == pytest.approx((0.15,))
    # .95 is the 19th: the margin that empties every box, not the .5 that the truth is away.
    assert fit_boxes(true, pred, coverage=0.95).inner == pytest.approx((0.2,))


def test_ties_keep_the_promise() -> None:
    # Most truths lie exactly on the margin in float64; float32 must not put them outside.
    rng = np.random.default_rng(1)
    pred = np.sort(rng.uniform(0.2, 0.8, (500, 2, 2)), axis=1).reshape(500, 4).astype("float32")
    sizes = (pred[:, 2:] - pred[:, :2]).astype("float64")
    scale = np.concatenate([sizes, sizes], axis=1)
    for scaling, unit in (("additive", np.ones((500, 4))), ("size", np.maximum(scale, 0.01))):
        true = pred.astype("float64") + 0.1 / 3 * unit * [-1, -1, 1, 1]
        fitted = fit_boxes(true, pred, coverage=0.9, scaling=scaling)
        outer = outer_boxes(pred, scales_of(pred, scaling), fitted.outer[0])
        assert contains(np.asarray(outer), true).all()


@every_scaling
def test_coverage_of_fresh_images(scaling: str) -> None:
    true, pred, spread = answers(40_999, seed=2)
    fitted = fit_boxes(true[:999], pred[:999], coverage=0.9, scaling=scaling, spread=spread[:999])
    scales = scales_of(pred[999:], scaling, spread[999:])
    outer = np.asarray(outer_boxes(pred[999:], scales, fitted.outer[0]))
    inner = np.asarray(inner_boxes(pred[999:], scales, fitted.inner[0]))
    # Beta(900, 100): mean .9, standard deviation .0095. Empty inner boxes come on top.
    assert contains(outer, true[999:]).mean() == pytest.approx(0.9, abs=3 * 0.0095)
    kept = contains(true[999:], inner) | np.asarray(is_empty(inner))
    assert kept.mean() > 0.9 - 3 * 0.0095


def test_spread_that_knows_the_noise_gives_smaller_boxes() -> None:
    true, pred, spread = answers(4000, seed=4)
    area = {}
    for scaling in SCALINGS:
        fitted = fit_boxes(true, pred, coverage=0.9, scaling=scaling, spread=spread)
        boxes = np.asarray(outer_boxes(pred, scales_of(pred, scaling, spread), fitted.outer[0]))
        area[scaling] = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).mean()
    assert area["spread"] < area["additive"]


def test_each_class_keeps_its_promise() -> None:
    # Class 1 is four times as noisy: one margin for all would fail it.
    calm, noisy = answers(20_500, seed=5, noise=0.01), answers(20_500, seed=6, noise=0.04)
    true, pred = (np.stack([a, b]).swapaxes(0, 1) for a, b in zip(calm[:2], noisy[:2], strict=True))
    classes = np.tile([0, 1], (500, 1))
    fitted = fit_boxes(
        true[:500].reshape(-1, 4),
        pred[:500].reshape(-1, 4),
        coverage=0.9,
        classes_pred=classes.ravel(),
        class_names=["calm", "noisy"],
    )
    assert len(fitted.outer) == len(fitted.inner) == 2
    assert fitted.outer[1] > 3 * fitted.outer[0]
    together = fit_boxes(true[:500].reshape(-1, 4), pred[:500].reshape(-1, 4), coverage=0.9)
    for index in (0, 1):
        new = pred[500:, index]
        margins = margins_of(fitted.outer, np.full(len(new), index))
        kept = contains(np.asarray(outer_boxes(new, np.ones_like(new), margins)), true[500:, index])
        # Beta(451, 50): standard deviation .0134.
        assert kept.mean() == pytest.approx(0.9, abs=3 * 0.0134)
    shared = outer_boxes(pred[500:, 1], np.ones_like(pred[500:, 1]), together.outer[0])
    assert contains(np.asarray(shared), true[500:, 1]).mean() < 0.85


def test_margins_of_each_image() -> None:
    assert np.asarray(margins_of((0.5,), np.array([0, 3]))) == pytest.approx(0.5)
    found = np.asarray(margins_of((0.25, 0.5, 1.0), np.array([2, 0, 2])))
    assert found.tolist() == [1.0, 0.25, 1.0]


@every_scaling
def test_graph_gives_what_eager_gives(scaling: str) -> None:
    true, pred, spread = (rows.astype("float32") for rows in answers(50))
    fitted = fit_boxes(true, pred, coverage=0.8, scaling=scaling, spread=spread)

    def both(boxes: tf.Tensor, spreads: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        scales = scales_of(boxes, scaling, spreads)
        return outer_boxes(boxes, scales, fitted.outer[0]), inner_boxes(
            boxes, scales, fitted.inner[0]
        )

    spec = tf.TensorSpec((None, 4), tf.float32)
    for graph, eager in zip(
        tf.function(both, input_signature=[spec, spec])(pred, spread),
        both(pred, spread),
        strict=True,
    ):
        assert graph.dtype == tf.float32
        assert graph.numpy().ravel() == pytest.approx(np.asarray(eager).ravel(), abs=1e-6)


# Errors


def test_class_with_too_few_images_is_named() -> None:
    true, pred, _ = answers(40)
    with pytest.raises(TrustError) as caught:
        fit_boxes(
            true,
            pred,
            coverage=0.9,
            classes_pred=np.r_[np.zeros(36, int), 1, 1, 1, 3],
            class_names=["cat", "dog", "emu", "fox"],
        )
    assert str(caught.value) == (
        "A coverage of 0.9 in each class needs 9 calibration images answered as that class, but "
        "too few are so answered for 'dog' (3), 'emu' (0), 'fox' (1); add images, ask for less, "
        "or take one margin for all classes."
    )


def test_many_classes_with_too_few_images_are_counted() -> None:
    true, pred, _ = answers(40)
    with pytest.raises(TrustError, match=r"'e' \(0\) and 2 more; add"):
        fit_boxes(
            true,
            pred,
            coverage=0.9,
            classes_pred=np.full(40, 7),
            class_names=list("abcdefgh"),
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coverage": 0.99}, "needs 99 calibration images or more, but there are 40"),
        ({"scaling": "spread"}, "does not give"),
        ({"boxes": np.full((40, 4), np.nan)}, "160 of 160 coordinates are not finite"),
    ],
)
def test_what_cannot_be_fitted(changes: dict, words: str) -> None:
    true, pred, _ = answers(40)
    with pytest.raises(TrustError, match=words):
        fit_boxes(**{"boxes": true, "boxes_pred": pred, "coverage": 0.9} | changes)


def test_margins_are_plain_numbers() -> None:
    true, pred, _ = answers(40)
    fitted = fit_boxes(true, pred, coverage=0.9)
    assert json.loads(json.dumps([fitted.outer, fitted.inner])) == [
        list(fitted.outer),
        list(fitted.inner),
    ]
    assert isinstance(fitted, BoxMargins)
