"""Box functions: what holds for all boxes, against a second implementation, and gradients."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from helpers import reference_boxes as reference
from hypothesis import assume, given, settings

from loc_keras import boxes

NAMES = list(boxes.SIMILARITIES)
every_similarity = pytest.mark.parametrize("name", NAMES)
modest = settings(max_examples=60, deadline=None, derandomize=True)

_edges = st.floats(0, 1, width=32, allow_subnormal=False)
# Also inverted boxes and boxes without area.
any_box = st.tuples(_edges, _edges, _edges, _edges).map(lambda edges: np.array(edges, "float32"))
proper_box = any_box.map(lambda b: np.sort(b.reshape(2, 2), axis=0).reshape(4))
solid_box = proper_box.filter(lambda b: min(b[2] - b[0], b[3] - b[1]) > 1e-3)

NASTY = np.array(
    [
        [0.1, 0.1, 0.5, 0.5],
        [0.5, 0.1, 0.9, 0.5],  # touches the first along an edge
        [0.5, 0.5, 0.9, 0.9],  # and at a corner
        [0.7, 0.8, 0.9, 0.9],  # disjoint from the first
        [0.2, 0.2, 0.3, 0.3],  # inside the first
        [0.1, 0.1, 0.101, 0.101],  # side .001
        [0.9, 0.9, 0.901, 0.901],
        [0.3, 0.3, 0.3, 0.3],  # a point
        [0.0, 0.0, 0.0, 0.0],
        [0.3, 0.3, 0.3, 0.6],  # a line
        [0.2, 0.3, 0.6, 0.3],
        [0.8, 0.1, 0.2, 0.6],  # inverted along x
        [0.9, 0.9, 0.1, 0.1],  # inverted along both axes
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.0, 1e-20, 1e-20],  # sides whose squares are zero in float32
        [0.0, 0.0, 1e-8, 0.5],
        [-2.0, -3.0, 5.0, 4.0],  # beyond the image
        [0.0, 0.0, 4096.0, 1e6],  # pixels
    ],
    "float32",
)
PAIRS = np.array(list(itertools.product(NASTY, NASTY)))
NASTY_TRUE, NASTY_PRED = PAIRS[:, 0], PAIRS[:, 1]


def similarity(name: str, true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    return boxes.SIMILARITIES[name](true, pred).numpy()


def gradient(name: str, true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    pred = tf.constant(pred)
    with tf.GradientTape() as tape:
        tape.watch(pred)
        total = tf.reduce_sum(boxes.SIMILARITIES[name](true, pred))
    return tape.gradient(total, pred).numpy()


@tf.function
def every_value(true: tf.Tensor, pred: tf.Tensor) -> dict[str, tf.Tensor]:
    """All similarities at once, in one graph for each dtype: many small calls are fast."""
    return {name: function(true, pred) for name, function in boxes.SIMILARITIES.items()}


@tf.function
def every_gradient(true: tf.Tensor, pred: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: tf.gradients(value, pred)[0] for name, value in every_value(true, pred).items()}


def values(true: np.ndarray, pred: np.ndarray) -> dict[str, float]:
    return {k: float(v) for k, v in every_value(tf.constant(true), tf.constant(pred)).items()}


def random_boxes(count: int, seed: int) -> np.ndarray:
    corners = np.random.default_rng(seed).random((count, 2, 2))
    return np.sort(corners, axis=1).reshape(count, 4)


@every_similarity
def test_agrees_with_the_reference_on_random_boxes(name: str) -> None:
    true, pred = random_boxes(300, 1), random_boxes(300, 2)
    expected = reference.rowwise(reference.SIMILARITIES[name], true, pred)
    np.testing.assert_allclose(similarity(name, true, pred), expected, atol=1e-12)
    narrow = similarity(name, true.astype("float32"), pred.astype("float32"))
    np.testing.assert_allclose(narrow, expected, atol=3e-5)


@every_similarity
def test_agrees_with_the_reference_on_nasty_boxes(name: str) -> None:
    true, pred = NASTY_TRUE.astype("float64"), NASTY_PRED.astype("float64")
    expected = reference.rowwise(reference.SIMILARITIES[name], true, pred)
    result = similarity(name, true, pred)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)


@given(true=any_box, pred=any_box)
@modest
def test_agrees_with_the_reference_on_any_box(true: np.ndarray, pred: np.ndarray) -> None:
    wide_true, wide_pred = true.astype("float64"), pred.astype("float64")
    expected = {k: f(wide_true, wide_pred) for k, f in reference.SIMILARITIES.items()}
    assert values(wide_true, wide_pred) == pytest.approx(expected, abs=1e-9)


@given(true=any_box, pred=any_box)
@modest
def test_ranges_and_order(true: np.ndarray, pred: np.ndarray) -> None:
    got = values(true, pred)
    assert 0 <= got["iou"] <= 1
    assert -1 - 1e-6 <= got["giou"] <= got["iou"] + 1e-6
    assert -1 - 1e-6 <= got["diou"] <= got["iou"] + 1e-6
    # CIoU and EIoU take more off, by at most 1 and 2; SIoU at most 1 - e^-2 + (1 - 1/e)^4.
    assert got["diou"] - 1 - 1e-6 <= got["ciou"] <= got["diou"] + 1e-6
    assert got["diou"] - 2 - 1e-6 <= got["eiou"] <= got["diou"] + 1e-6
    assert got["iou"] - 1.0245 <= got["siou"] <= got["iou"] + 1e-6
    # Two corners inside a unit square lie at most its diagonal apart.
    assert got["iou"] - 2 - 1e-6 <= got["mpdiou"] <= got["iou"] + 1e-6


@given(box=solid_box)
@modest
def test_identical_boxes_score_one(box: np.ndarray) -> None:
    assert values(box, box) == pytest.approx(dict.fromkeys(NAMES, 1), abs=1e-4)


@given(true=solid_box, pred=solid_box)
@modest
def test_one_means_identical(true: np.ndarray, pred: np.ndarray) -> None:
    assume(np.abs(true - pred).max() > 1e-2)
    assert max(values(true, pred).values()) < 1 - 1e-3


@given(true=any_box, pred=any_box)
@modest
def test_symmetric(true: np.ndarray, pred: np.ndarray) -> None:
    assert values(pred, true) == pytest.approx(values(true, pred), abs=1e-5)


@given(true=any_box, pred=any_box)
@modest
def test_mirrored_and_transposed_boxes_score_alike(true: np.ndarray, pred: np.ndarray) -> None:
    true, pred = true.astype("float64"), pred.astype("float64")
    expected = pytest.approx(values(true, pred), abs=1e-6)
    assert values(_mirror(true), _mirror(pred)) == expected
    assert values(_transpose(true), _transpose(pred)) == expected


def _mirror(box: np.ndarray) -> np.ndarray:
    return np.array([1 - box[2], box[1], 1 - box[0], box[3]])


def _transpose(box: np.ndarray) -> np.ndarray:
    return box[[1, 0, 3, 2]]


@given(
    true=solid_box,
    pred=solid_box,
    scale=st.floats(0.1, 1000),
    shift=st.tuples(st.floats(-10, 10), st.floats(-10, 10)),
)
@modest
def test_translation_and_scale_do_not_matter(
    true: np.ndarray, pred: np.ndarray, scale: float, shift: tuple[float, float]
) -> None:
    true, pred = true.astype("float64"), pred.astype("float64")
    offset = np.array([*shift, *shift])
    moved_true, moved_pred = true * scale + offset, pred * scale + offset
    moved = values(moved_true, moved_pred)
    # The one that also looks at the image, whose sides scale along.
    in_image = boxes.mpdiou(moved_true, moved_pred, image_height=scale, image_width=scale)
    moved["mpdiou"] = float(in_image)
    assert moved == pytest.approx(values(true, pred), abs=1e-6)


@given(box=any_box, height=st.integers(1, 5000), width=st.integers(1, 5000))
@modest
def test_conversions_undo_each_other(box: np.ndarray, height: int, width: int) -> None:
    for there, back in (
        (boxes.xyxy_to_xywh, boxes.xywh_to_xyxy),
        (boxes.xyxy_to_cxcywh, boxes.cxcywh_to_xyxy),
    ):
        np.testing.assert_allclose(back(there(box)), box, atol=1e-6)
        np.testing.assert_allclose(there(back(box)), box, atol=1e-6)
    pixels = boxes.fractions_to_pixels(box, height=height, width=width)
    fractions = boxes.pixels_to_fractions(pixels, height=height, width=width)
    np.testing.assert_allclose(fractions, box, atol=1e-6)


@given(box=any_box.map(lambda edges: 6 * edges - 3))
@modest
def test_clip_stays_inside_and_keeps_what_is_inside(box: np.ndarray) -> None:
    clipped = boxes.clip(box).numpy()
    assert ((clipped >= 0) & (clipped <= 1)).all()
    inside = (box >= 0) & (box <= 1)
    np.testing.assert_array_equal(clipped[inside], box[inside])
    np.testing.assert_array_equal(boxes.clip(clipped), clipped)


@every_similarity
def test_gradient_is_finite_everywhere(name: str) -> None:
    assert np.isfinite(gradient(name, NASTY_TRUE, NASTY_PRED)).all()
    compiled = tf.function(
        lambda true, pred: tf.gradients(boxes.SIMILARITIES[name](true, pred), pred)[0],
        jit_compile=True,
    )
    assert np.isfinite(compiled(NASTY_TRUE, NASTY_PRED).numpy()).all()


@every_similarity
def test_gradient_for_the_true_boxes_is_finite_too(name: str) -> None:
    true = tf.constant(NASTY_TRUE)
    with tf.GradientTape() as tape:
        tape.watch(true)
        total = tf.reduce_sum(boxes.SIMILARITIES[name](true, NASTY_PRED))
    assert np.isfinite(tape.gradient(total, true).numpy()).all()


@given(true=any_box, pred=any_box)
@modest
def test_gradient_is_finite_for_any_box(true: np.ndarray, pred: np.ndarray) -> None:
    for name, slope in every_gradient(tf.constant(true), tf.constant(pred)).items():
        assert np.isfinite(slope.numpy()).all(), name


@every_similarity
def test_gradient_moves_disjoint_boxes_together(name: str) -> None:
    true = np.array([0.05, 0.1, 0.2, 0.3], "float32")
    pred = np.array(
        [[0.6, 0.5, 0.9, 0.7], [0.6, 0.12, 0.9, 0.35], [0.1, 0.8, 0.15, 0.9]], "float32"
    )
    true = np.broadcast_to(true, pred.shape)
    slope = gradient(name, true, pred)
    if name == "iou":
        np.testing.assert_array_equal(slope, 0)
        return
    assert (np.abs(slope).max(axis=-1) > 1e-3).all()
    # A small step along the gradient raises the score.
    better = similarity(name, true, pred + 1e-3 * slope)
    assert (better > similarity(name, true, pred)).all()


@every_similarity
def test_gradient_equals_differences(name: str) -> None:
    true, pred = random_boxes(40, 3), random_boxes(40, 4)
    function = reference.SIMILARITIES[name]
    slope = gradient(name, true, pred)
    for t, p, got in zip(true, pred, slope, strict=True):
        # Alpha takes no gradient, so the differences hold it at its value for this pair.
        fixed = {"alpha": reference.ciou_alpha(t, p)} if name == "ciou" else {}
        for column in range(4):
            step = 1e-6 * np.eye(4)[column]
            rise = function(t, p + step, **fixed) - function(t, p - step, **fixed)
            assert got[column] == pytest.approx(rise / 2e-6, rel=1e-4, abs=1e-6)


@every_similarity
def test_climbing_the_gradient_finds_the_true_box(name: str) -> None:
    true = tf.constant([[0.3, 0.4, 0.6, 0.8]])

    @tf.function
    def step(pred: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        slope = tf.gradients(boxes.SIMILARITIES[name](true, pred), pred)[0]
        return pred + rate * slope / (tf.norm(slope) + 1e-6)

    pred = tf.constant([[0.2, 0.3, 0.7, 0.6]])
    for index in range(300):
        pred = step(pred, tf.constant(0.01 * (1 - index / 300)))
    # Overlapping at the start, every similarity must lead to the box itself.
    assert similarity("iou", true, pred) > 0.95
