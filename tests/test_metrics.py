"""The metrics: values by hand, streaming and weights against one pass in NumPy, saving."""

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import reference_boxes as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from loc_keras import metrics
from loc_keras.errors import ConfigError, DataError

# Predictions that cover the left part of the unit square, so their IoU with it is that part.
OVERLAPS = [1.0, 0.8, 0.5, 0.4, 0.2]
WHOLE = np.tile(np.array([0, 0, 1, 1], "float32"), (5, 1))
PARTS = np.array([[0, 0, overlap, 1] for overlap in OVERLAPS], "float32")
LABELS = np.array([0, 1, 2, 3, 0])
# The true class comes 1st, 2nd, 1st, 1st and 3rd of 4.
PROBABILITIES = np.array(
    [
        [0.7, 0.1, 0.1, 0.1],
        [0.5, 0.3, 0.1, 0.1],
        [0.1, 0.2, 0.4, 0.3],
        [0.0, 0.1, 0.2, 0.7],
        [0.2, 0.4, 0.3, 0.1],
    ],
    "float32",
)
TRUE = {"softmax": LABELS, "bbox": WHOLE}
PRED = {"softmax": PROBABILITIES, "bbox": PARTS}
WEIGHTS = np.array([1.0, 2.0, 0.0, 0.5, 1.5], "float32")

# Every metric with its value for each row of the sets above.
BBOX_CASES: dict[str, tuple[Any, dict, list[float]]] = {
    "iou": (metrics.MeanIoU, {}, [1, 0.8, 0.5, 0.4, 0.2]),
    "acc50": (metrics.IoUAccuracy, {"threshold": 0.5}, [1, 1, 1, 0, 0]),
    "acc75": (metrics.IoUAccuracy, {"threshold": 0.75}, [1, 1, 0, 0, 0]),
    "acc90": (metrics.IoUAccuracy, {"threshold": 0.9}, [1, 0, 0, 0, 0]),
}
JOINT_CASES: dict[str, tuple[Any, dict, list[float]]] = {
    "top1_loc": (metrics.TopKLocalization, {"k": 1}, [1, 0, 1, 0, 0]),
    "top2_loc": (metrics.TopKLocalization, {"k": 2}, [1, 1, 1, 0, 0]),
    "top3_loc": (metrics.TopKLocalization, {"k": 3, "threshold": 0.2}, [1, 1, 1, 1, 1]),
    "gt_known_loc": (metrics.GTKnownLocalization, {}, [1, 1, 1, 0, 0]),
    "max_box_acc_v2": (metrics.MaxBoxAccV2, {}, [1, 1, 2 / 3, 1 / 3, 0]),
    "strict": (metrics.MaxBoxAccV2, {"thresholds": (0.45, 0.9)}, [1, 0.5, 0.5, 0, 0]),
}
CASES = {**BBOX_CASES, **JOINT_CASES}
every_metric = pytest.mark.parametrize("case", CASES)


def build(case: str) -> keras.metrics.Metric:
    metric_class, arguments, _ = CASES[case]
    return metric_class(**arguments)


def rows(case: str, where: Any) -> tuple:
    """The targets and predictions of some rows, as the metric of this case takes them."""
    if case in BBOX_CASES:
        return WHOLE[where], PARTS[where]
    return {k: v[where] for k, v in TRUE.items()}, {k: v[where] for k, v in PRED.items()}


@every_metric
def test_value_by_hand(case: str) -> None:
    metric = build(case)
    metric.update_state(*rows(case, slice(None)))
    assert float(metric.result()) == pytest.approx(np.mean(CASES[case][2]), abs=1e-6)


@every_metric
def test_weighted_value_by_hand(case: str) -> None:
    for weights in (WEIGHTS, WEIGHTS[:, None], list(WEIGHTS)):
        metric = build(case)
        metric.update_state(*rows(case, slice(None)), sample_weight=weights)
        expected = np.dot(CASES[case][2], WEIGHTS) / WEIGHTS.sum()
        assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


@every_metric
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_uneven_batches_give_what_one_pass_gives(case: str, weights: np.ndarray | None) -> None:
    whole, streamed = build(case), build(case)
    whole.update_state(*rows(case, slice(None)), sample_weight=weights)
    for batch in (slice(0, 1), slice(1, 4), slice(4, 5)):
        part = None if weights is None else weights[batch]
        streamed.update_state(*rows(case, batch), sample_weight=part)
    assert float(streamed.result()) == pytest.approx(float(whole.result()), abs=1e-6)


@every_metric
def test_rows_without_weight_do_not_count_whatever_they_hold(case: str) -> None:
    true, pred = rows(case, slice(None))
    spoiled = np.array([1, 0, 1, 0, 1], "float32")
    broken = PARTS.copy()
    broken[[1, 3]] = np.nan
    pred = broken if case in BBOX_CASES else {**pred, "bbox": broken}
    metric = build(case)
    metric.update_state(true, pred, sample_weight=spoiled)
    assert float(metric.result()) == pytest.approx(np.mean(CASES[case][2][::2]), abs=1e-6)


@every_metric
def test_nothing_seen_or_no_weight_gives_zero(case: str) -> None:
    metric = build(case)
    assert float(metric.result()) == 0
    metric.update_state(*rows(case, slice(None)), sample_weight=np.zeros(5))
    assert float(metric.result()) == 0


@every_metric
def test_reset_forgets(case: str) -> None:
    metric = build(case)
    metric.update_state(*rows(case, slice(0, 2)))
    metric.reset_state()
    metric.update_state(*rows(case, slice(2, 5)))
    assert float(metric.result()) == pytest.approx(np.mean(CASES[case][2][2:]), abs=1e-6)


@every_metric
def test_state_and_result_are_float32_whatever_the_policy(case: str) -> None:
    keras.config.set_floatx("float16")
    keras.config.set_dtype_policy("mixed_float16")
    metric = build(case)
    # In float16 a count stops at 2048; 3000 images of which the first row repeats.
    true, pred = rows(case, np.zeros(3000, int))
    metric.update_state(true, pred)
    metric.update_state(*rows(case, [4] * 1000))
    assert {variable.dtype for variable in metric.variables} == {"float32"}
    assert metric.result().dtype == tf.float32
    first, last = CASES[case][2][0], CASES[case][2][4]
    assert float(metric.result()) == pytest.approx((3 * first + last) / 4, abs=1e-4)


@every_metric
def test_graph_takes_batches_of_any_size(case: str) -> None:
    metric = build(case)

    def spec(array: np.ndarray) -> tf.TensorSpec:
        return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

    true, pred = rows(case, slice(None))
    signature = [tf.nest.map_structure(spec, part) for part in (true, pred)]
    update = tf.function(metric.update_state, input_signature=signature)
    for batch in (slice(0, 3), slice(3, 5)):
        update(*rows(case, batch))
    assert float(metric.result()) == pytest.approx(np.mean(CASES[case][2]), abs=1e-6)


@every_metric
def test_saved_with_every_argument(case: str) -> None:
    metric_class, arguments, _ = CASES[case]
    metric = metric_class(**arguments, name="given")
    stored = keras.saving.serialize_keras_object(metric)
    assert stored["registered_name"] == f"loc_keras>{metric_class.__name__}"
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is metric_class
    assert again.name == "given"
    assert again.get_config() == metric.get_config()
    for name, value in arguments.items():
        assert getattr(again, name) == value


def test_names_and_their_order() -> None:
    assert [m.name for m in metrics.bbox_metrics()] == ["iou", "acc50", "acc75", "acc90"]
    assert [m.name for m in metrics.joint_metrics(10)] == [
        "top1_loc",
        "top5_loc",
        "gt_known_loc",
        "max_box_acc_v2",
    ]
    assert [m.threshold for m in metrics.bbox_metrics()[1:]] == [0.5, 0.75, 0.9]
    assert metrics.joint_metrics(10)[1].k == 5
    # Each call gives metrics with a state of their own.
    assert metrics.bbox_metrics()[0] is not metrics.bbox_metrics()[0]


def test_top5_of_fewer_than_five_classes_is_gt_known() -> None:
    top1, top5, known, _ = metrics.joint_metrics(4)
    for metric in (top1, top5, known):
        metric.update_state(TRUE, PRED)
    assert float(top5.result()) == float(known.result()) == pytest.approx(3 / 5)
    assert float(top1.result()) == pytest.approx(2 / 5)


def test_mean_iou_agrees_with_the_reference() -> None:
    corners = np.sort(np.random.default_rng(5).random((2, 200, 2, 2)), axis=2)
    true, pred = corners.reshape(2, 200, 4).astype("float32")
    metric = metrics.MeanIoU()
    metric.update_state(true, pred)
    expected = reference.rowwise(reference.iou, true, pred).mean()
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


def test_mean_iou_shows_nan_and_accuracy_counts_it_as_a_miss() -> None:
    broken = PARTS.copy()
    broken[0] = np.nan
    mean, accuracy = metrics.MeanIoU(), metrics.IoUAccuracy(0.5)
    for metric in (mean, accuracy):
        metric.update_state(WHOLE, broken)
    assert math.isnan(float(mean.result()))
    assert float(accuracy.result()) == pytest.approx(2 / 5)


# Weights of the joint metrics.


def test_joint_metrics_take_the_weight_of_the_box() -> None:
    metric = metrics.TopKLocalization()
    metric.update_state(TRUE, PRED, sample_weight={"softmax": np.ones(5), "bbox": WEIGHTS})
    # Right are rows 0 and 2, of weight 1 and 0, of 5 in all.
    assert float(metric.result()) == pytest.approx(1 / 5)


def test_joint_metrics_need_the_weight_of_the_box() -> None:
    with pytest.raises(DataError, match=r"top1_loc need the key 'bbox', but have only \['softm"):
        metrics.TopKLocalization().update_state(TRUE, PRED, sample_weight={"softmax": WEIGHTS})


def test_joint_metrics_do_not_broadcast_a_column_against_a_row() -> None:
    true = {"softmax": LABELS[:, None], "bbox": WHOLE[:, None]}
    pred = {"softmax": PROBABILITIES, "bbox": PARTS[:, None]}
    for metric in metrics.joint_metrics(4):
        metric.update_state(true, pred)
        assert float(metric.weight.value) == 5
    assert float(metrics.joint_metrics(4)[0](true, pred)) == pytest.approx(2 / 5)


# Top k.


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [1, 0, 1, 1, 0]), (2, [1, 1, 1, 1, 0]), (3, [1] * 5), (99, [1] * 5)]
)
def test_hits_top_k_by_hand(k: int, expected: list[int]) -> None:
    for labels in (LABELS, LABELS[:, None], LABELS.astype("float32")):
        np.testing.assert_array_equal(metrics.hits_top_k(labels, PROBABILITIES, k), expected)


def test_constant_prediction_is_right_for_k_classes_only() -> None:
    labels, uniform = np.arange(10), np.full((10, 10), 0.1, "float32")
    for k in (1, 5, 10):
        hits = metrics.hits_top_k(labels, uniform, k).numpy()
        np.testing.assert_array_equal(hits, labels < k)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), classes=st.integers(1, 8), k=st.integers(1, 10))
def test_hits_top_k_is_a_stable_sort(seed: int, classes: int, k: int) -> None:
    # Few distinct values, so ties abound; a stable sort puts the smaller index first.
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, (16, classes)).astype("float32") / 4
    labels = generator.integers(0, classes, 16)
    best = np.argsort(-scores, axis=-1, kind="stable")[:, :k]
    expected = (best == labels[:, None]).any(axis=-1)
    np.testing.assert_array_equal(metrics.hits_top_k(labels, scores, k), expected)


def test_top_1_is_argmax() -> None:
    scores = np.random.default_rng(1).integers(0, 3, (50, 6)).astype("float32")
    labels = np.random.default_rng(2).integers(0, 6, 50)
    hits = metrics.hits_top_k(labels, scores, 1).numpy()
    np.testing.assert_array_equal(hits, scores.argmax(axis=-1) == labels)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_nan_and_unknown_labels_are_never_hits(k: int) -> None:
    broken = np.full((2, 3), np.nan, "float32")
    assert not metrics.hits_top_k(np.array([0, 2]), broken, k).numpy().any()
    for sound in ([1 / 3, 1 / 3, 1 / 3], [1, 0, 0], [0, 0, 1]):
        twice = np.array([sound, sound], "float32")
        assert not metrics.hits_top_k(np.array([-1, 3]), twice, k).numpy().any()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_shares_of_classes_stand_for_the_largest(k: int) -> None:
    shares = 0.6 * np.eye(4)[LABELS] + 0.4 * np.eye(4)[(LABELS + 1) % 4]
    expected = metrics.hits_top_k(LABELS, PROBABILITIES, k)
    np.testing.assert_array_equal(metrics.hits_top_k(shares, PROBABILITIES, k), expected)


def test_hits_top_k_refuses_labels_of_another_shape() -> None:
    with pytest.raises(DataError, match=r"but have the shape \(5, 3\)"):
        metrics.hits_top_k(np.eye(3)[LABELS % 3], PROBABILITIES, 1)


def test_class_accuracy_takes_numbers_and_shares() -> None:
    # The true class is the most probable one in rows 0, 2 and 3, of weight 1, 0 and .5 out of 5.
    for labels in (LABELS, LABELS[:, None], np.eye(4, dtype="float32")[LABELS]):
        (accuracy,) = metrics.class_metrics()
        assert accuracy.name == "accuracy"
        assert float(accuracy(labels, PROBABILITIES)) == pytest.approx(3 / 5)
        accuracy.reset_state()
        assert float(accuracy(labels, PROBABILITIES, WEIGHTS)) == pytest.approx(1.5 / 5)


def test_joint_metrics_take_shares_of_classes() -> None:
    shared = {"softmax": np.eye(4, dtype="float32")[LABELS], "bbox": WHOLE}
    for plain, soft in zip(metrics.joint_metrics(4), metrics.joint_metrics(4), strict=True):
        assert float(soft(shared, PRED)) == float(plain(TRUE, PRED))


# Arguments.


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, 50, math.nan])
@pytest.mark.parametrize(
    "metric_class", [metrics.IoUAccuracy, metrics.TopKLocalization, metrics.GTKnownLocalization]
)
def test_wrong_threshold_is_named(metric_class: type, threshold: float) -> None:
    with pytest.raises(ConfigError, match=f"above 0 and at most 1, but is {threshold}"):
        metric_class(threshold=threshold)


def test_other_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match=r"k must be 1 or more.*is 0"):
        metrics.TopKLocalization(k=0)
    with pytest.raises(ConfigError, match="thresholds is empty"):
        metrics.MaxBoxAccV2(())
    with pytest.raises(ConfigError, match="at most 1, but is 30"):
        metrics.MaxBoxAccV2((30, 50, 70))


def test_shown_by_a_compiled_model_with_and_without_weights() -> None:
    inputs = keras.Input((4,))
    outputs = {
        "softmax": keras.layers.Softmax(name="softmax")(inputs),
        "bbox": keras.layers.Identity(name="bbox")(inputs),
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        loss={"softmax": None, "bbox": "mae"},
        metrics={"bbox": metrics.bbox_metrics()},
        weighted_metrics={"bbox": [metrics.MeanIoU("weighted_iou")]},
    )
    data = tf.data.Dataset.from_tensor_slices((PARTS, TRUE, WEIGHTS)).batch(2)
    shown = model.evaluate(data, return_dict=True, verbose=0)
    for name in BBOX_CASES:
        assert shown[f"bbox_{name}"] == pytest.approx(np.mean(BBOX_CASES[name][2]), abs=1e-6)
    expected = np.dot(OVERLAPS, WEIGHTS) / WEIGHTS.sum()
    assert shown["bbox_weighted_iou"] == pytest.approx(expected, abs=1e-6)
