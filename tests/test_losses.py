"""The losses: values by hand, reductions and weights against NumPy, precision, saving."""

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import reference_boxes as reference

from loc_keras import boxes, losses
from loc_keras.errors import ConfigError, DataError

TRUE = np.array(
    [[0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.2], [0.0, 0.0, 0.2, 0.2], [0.1, 0.2, 0.5, 0.9]],
    "float32",
)
PRED = np.array(
    [[0.2, 0.2, 0.6, 0.6], [0.0, 0.0, 0.2, 0.4], [0.6, 0.0, 0.8, 0.2], [0.1, 0.2, 0.5, 0.9]],
    "float32",
)
LABELS = np.array([0, 2, 1, 2])
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.5, 0.25, 0.25], [0.6, 0.3, 0.1]], "float32"
)
LOGITS = np.random.default_rng(0).normal(size=(4, 4, 9)).astype("float32")
WEIGHTS = np.array([1.0, 0.0, 2.0, 0.5], "float32")

# Each loss with inputs for it.
CASES: dict[str, tuple[Any, dict, np.ndarray, np.ndarray]] = {
    "box": (losses.BoxLoss, {"similarity": "siou", "smooth_l1_weight": 2.0}, TRUE, PRED),
    "class": (losses.ClassLoss, {"label_smoothing": 0.1}, LABELS, PROBABILITIES),
    "distribution": (losses.DistributionFocalLoss, {}, TRUE, LOGITS),
}
every_loss = pytest.mark.parametrize("case", CASES)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


# Box loss.


@pytest.mark.parametrize("name", boxes.SIMILARITIES)
def test_box_loss_is_the_mean_of_one_minus_similarity(name: str) -> None:
    expected = 1 - reference.rowwise(reference.SIMILARITIES[name], TRUE, PRED)
    rows = losses.BoxLoss(name, reduction="none")(TRUE, PRED)
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert float(losses.BoxLoss(name)(TRUE, PRED)) == pytest.approx(expected.mean(), abs=1e-6)
    assert float(rows[3]) == pytest.approx(0, abs=1e-6)  # identical boxes cost nothing


def test_smooth_l1_by_hand() -> None:
    # With delta .1: .05^2 / .2 = .0125; at the joint .1 - .05 = .05; .3 - .05; .5 - .05.
    distance = losses.smooth_l1([[0.0, 0.5, 0.5, 0.2]], [[0.05, 0.4, 0.8, 0.7]], delta=0.1)
    assert distance.numpy() == pytest.approx([0.0125 + 0.05 + 0.25 + 0.45])


def test_smooth_l1_slope_is_continuous_and_at_most_one() -> None:
    errors = np.array([0.0, 0.05, 0.0999, 0.1001, 0.7, -0.7], "float32")
    pred = tf.Variable(np.stack([errors] + [np.zeros_like(errors)] * 3, axis=-1))
    with tf.GradientTape() as tape:
        distance = losses.smooth_l1(np.zeros((6, 4), "float32"), pred, delta=0.1)
    slope = tape.gradient(distance, pred).numpy()[:, 0]
    np.testing.assert_allclose(slope, [0, 0.5, 0.999, 1, 1, -1], atol=1e-5)


def test_box_loss_adds_the_weighted_smooth_l1() -> None:
    plain = losses.BoxLoss("giou", reduction=None)(TRUE, PRED).numpy()
    both = losses.BoxLoss("giou", 0.5, 0.2, reduction=None)(TRUE, PRED).numpy()
    # Row 0: four errors of .2, each .2 - .1; row 1: two of .2; row 2: two of .6, each .6 - .1.
    np.testing.assert_allclose(both - plain, 0.5 * np.array([0.4, 0.2, 1.0, 0]), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"similarity": "c_iou"}, r"no box similarity 'c_iou'; did you mean 'ciou'\?.*iou, giou"),
        ({"similarity": "GIoU"}, "did you mean 'giou'"),
        ({"similarity": ""}, f"The names are {', '.join(boxes.SIMILARITIES)}"),
        ({"smooth_l1_weight": -1}, "smooth_l1_weight must be 0 or more, but is -1"),
        ({"smooth_l1_delta": 0}, "smooth_l1_delta must be above 0, but is 0"),
        ({"smooth_l1_delta": math.nan}, "smooth_l1_delta must be above 0, but is nan"),
    ],
)
def test_box_loss_names_a_wrong_argument(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        losses.BoxLoss(**arguments)


def test_box_loss_refuses_shapes_that_would_broadcast() -> None:
    with pytest.raises(DataError, match="same shape"):
        losses.BoxLoss()(TRUE, PRED[:, None])
    with pytest.raises(DataError, match="same shape"):
        losses.smooth_l1(TRUE, PRED[:, None], delta=0.1)


def test_box_loss_takes_one_box_in_a_row_of_its_own() -> None:
    loss = losses.BoxLoss("ciou", reduction="sum")
    alone = loss(TRUE[:, None], PRED[:, None], sample_weight=WEIGHTS)
    assert float(alone) == pytest.approx(float(loss(TRUE, PRED, sample_weight=WEIGHTS)))


# Class loss.


def test_class_loss_by_hand() -> None:
    rows = losses.ClassLoss(reduction="none")(LABELS, PROBABILITIES)
    np.testing.assert_allclose(rows, -np.log([0.7, 0.8, 0.25, 0.1]), rtol=1e-5)


def test_class_loss_with_smoothed_labels_by_hand() -> None:
    # Smoothing .3 over 3 classes: the target is .8 for the label and .1 for each other class.
    rows = losses.ClassLoss(0.3, reduction="none")(LABELS[:2], PROBABILITIES[:2])
    log = math.log
    expected = [
        -(0.8 * log(0.7) + 0.1 * log(0.2) + 0.1 * log(0.1)),
        -(0.1 * log(0.1) + 0.1 * log(0.1) + 0.8 * log(0.8)),
    ]
    np.testing.assert_allclose(rows, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_class_loss_takes_labels_as_a_column_and_of_any_type(dtype: str) -> None:
    loss = losses.ClassLoss(0.1, reduction="none")
    rows = loss(LABELS[:, None].astype(dtype), PROBABILITIES)
    assert rows.shape == (4,)
    np.testing.assert_array_equal(rows, loss(LABELS, PROBABILITIES))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_class_loss_takes_shares_of_classes(smoothing: float) -> None:
    loss = losses.ClassLoss(smoothing, reduction="none")
    one_hot = np.eye(3, dtype="float32")[LABELS]
    np.testing.assert_allclose(loss(one_hot, PROBABILITIES), loss(LABELS, PROBABILITIES), rtol=1e-6)
    # The loss is linear in the target, so that of a mixture is the mixture of the losses.
    mixed = 0.7 * one_hot + 0.3 * np.roll(one_hot, 1, axis=1)
    other = loss((LABELS + 1) % 3, PROBABILITIES)
    expected = 0.7 * np.array(loss(LABELS, PROBABILITIES)) + 0.3 * np.array(other)
    np.testing.assert_allclose(loss(mixed, PROBABILITIES), expected, rtol=1e-5)


def test_class_loss_refuses_labels_of_another_shape() -> None:
    with pytest.raises(DataError, match=r"shape \(4,\).*full shape \(4, 3\), but have.*\(4, 2\)"):
        losses.ClassLoss()(np.eye(3)[LABELS][:, :2], PROBABILITIES)


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, math.nan])
def test_class_loss_names_a_wrong_smoothing(smoothing: float) -> None:
    with pytest.raises(ConfigError, match="label_smoothing must be between 0 and 1"):
        losses.ClassLoss(smoothing)


def test_confidently_wrong_class_keeps_its_gradient() -> None:
    # Softmax of (60, 0) is 1 and 1e-26: clipped probabilities alone would have no slope.
    logits = keras.Input((2,))
    model = keras.Model(logits, keras.layers.Softmax(dtype="float32")(logits))
    given = tf.constant([[60.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(given)
        loss = losses.ClassLoss()(np.array([1]), model(given))
    # Cross entropy of logits: loss 60, slope softmax - target.
    assert float(loss) == pytest.approx(60, rel=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, given), [[1, -1]], atol=1e-5)


# Distribution focal loss.

# Bins at 0, .25, .5, .75 and 1.
BIN_PROBABILITIES = np.array([0.1, 0.4, 0.3, 0.15, 0.05])


@pytest.mark.parametrize(
    ("edge", "expected"),
    [
        # .3 lies .2 of the way from bin 1 to bin 2.
        (0.3, -(0.8 * math.log(0.4) + 0.2 * math.log(0.3))),
        (0.875, -(0.5 * math.log(0.15) + 0.5 * math.log(0.05))),
        (0.0, -math.log(0.1)),
        (0.5, -math.log(0.3)),
        (1.0, -math.log(0.05)),
        # Outside the image: as at its border.
        (-0.4, -math.log(0.1)),
        (1.7, -math.log(0.05)),
    ],
)
def test_distribution_focal_by_hand(edge: float, expected: float) -> None:
    logits = np.broadcast_to(np.log(BIN_PROBABILITIES) + 3, (1, 4, 5)).astype("float32")
    loss = losses.distribution_focal(np.full((1, 4), edge, "float32"), logits)
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


def test_distribution_focal_averages_the_four_edges() -> None:
    logits = np.zeros((1, 4, 3), "float32")
    logits[0, 2] = np.log([0.5, 0.25, 0.25])
    # Uniform over 3 bins for three edges, -ln(.25) for the edge at the last bin.
    loss = losses.distribution_focal(np.array([[0.2, 0.3, 1.0, 0.7]], "float32"), logits)
    np.testing.assert_allclose(loss, [(3 * math.log(3) + math.log(4)) / 4], rtol=1e-6)


def test_distribution_focal_equals_the_equation_by_index() -> None:
    bins = LOGITS.shape[-1]
    expected = np.zeros(4)
    for row, column in np.ndindex(4, 4):
        place = float(TRUE[row, column]) * (bins - 1)
        left = min(int(place), bins - 2)
        share = softmax(LOGITS[row, column].astype("float64"))
        term = (left + 1 - place) * np.log(share[left]) + (place - left) * np.log(share[left + 1])
        expected[row] -= term / 4
    np.testing.assert_allclose(losses.distribution_focal(TRUE, LOGITS), expected, rtol=1e-5)


def test_distribution_focal_gradient_is_least_at_the_two_bins() -> None:
    # Gradient of a cross entropy: softmax minus target, over the 4 edges; .3 of 5 bins as above.
    logits = tf.Variable(np.tile(np.log(BIN_PROBABILITIES), (1, 4, 1)))
    with tf.GradientTape() as tape:
        loss = losses.distribution_focal(np.full((1, 4), 0.3), logits)
    target = np.array([0, 0.8, 0.2, 0, 0])
    slope = tape.gradient(loss, logits)
    np.testing.assert_allclose(slope[0, 0], (BIN_PROBABILITIES - target) / 4, atol=1e-9)


def test_distribution_focal_stands_extreme_logits() -> None:
    logits = np.zeros((1, 4, 5), "float32")
    logits[..., 0] = 1e6
    loss = losses.DistributionFocalLoss()(np.ones((1, 4)), logits)
    assert float(loss) == pytest.approx(1e6)


@pytest.mark.parametrize(
    ("box_shape", "logits_shape"), [((3, 4), (3, 4, 1)), ((3, 4), (3, 5)), ((3, 4), (2, 4, 9))]
)
def test_distribution_focal_refuses_wrong_shapes(box_shape: tuple, logits_shape: tuple) -> None:
    with pytest.raises(DataError, match=r"boxes \(..., 4\) and logits \(..., 4, bins\)"):
        losses.distribution_focal(np.zeros(box_shape), np.zeros(logits_shape))


# All losses.


@every_loss
@pytest.mark.parametrize("weights", [None, WEIGHTS, WEIGHTS[:, None]], ids=["no", "flat", "column"])
def test_reductions_and_weights_as_numpy(case: str, weights: np.ndarray | None) -> None:
    loss_class, arguments, true, pred = CASES[case]
    rows = loss_class(**arguments, reduction="none")(true, pred).numpy().astype("float64")
    assert rows.shape == (4,)
    factors = np.ones(4) if weights is None else weights.reshape(-1)
    total = (rows * factors).sum()
    expected = {
        "sum_over_batch_size": total / 4,
        "mean": total / 4,
        "sum": total,
        "mean_with_sample_weight": total / factors.sum(),
    }
    for reduction, value in expected.items():
        loss = loss_class(**arguments, reduction=reduction)(true, pred, sample_weight=weights)
        assert float(loss) == pytest.approx(value, rel=1e-5), reduction
    for unreduced in ("none", None):
        loss = loss_class(**arguments, reduction=unreduced)(true, pred, sample_weight=weights)
        np.testing.assert_allclose(np.reshape(loss, -1), rows * factors, rtol=1e-5)


@every_loss
@pytest.mark.parametrize("floatx", ["float16", "bfloat16", "float64"])
def test_float32_whatever_the_policy(case: str, floatx: str) -> None:
    loss_class, arguments, true, pred = CASES[case]
    expected = loss_class(**arguments)(true, pred)
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy("mixed_float16")
    # In float16 these would round to 3 digits, so equal inputs must give equal losses.
    loss = loss_class(**arguments)(true, pred)
    assert loss.dtype == tf.float32
    assert float(loss) == float(expected)
    half = loss_class(**arguments)(true, tf.cast(pred, tf.float16))
    assert half.dtype == tf.float32
    assert float(half) == pytest.approx(float(expected), rel=1e-2)


@every_loss
def test_graph_gives_what_eager_gives_for_any_batch(case: str) -> None:
    loss_class, arguments, true, pred = CASES[case]
    loss = loss_class(**arguments)
    graph = tf.function(
        loss,
        input_signature=[
            tf.TensorSpec((None, *true.shape[1:]), true.dtype),
            tf.TensorSpec((None, *pred.shape[1:]), pred.dtype),
        ],
    )
    for size in (1, 4):
        eager = float(loss(true[:size], pred[:size]))
        assert float(graph(true[:size], pred[:size])) == pytest.approx(eager, rel=1e-5)


@every_loss
def test_saved_with_every_argument(case: str) -> None:
    loss_class, arguments, true, pred = CASES[case]
    loss = loss_class(**arguments, reduction="sum", name="given")
    config = loss.get_config()
    assert config == {**config, **arguments, "reduction": "sum", "name": "given"}
    stored = keras.saving.serialize_keras_object(loss)
    assert stored["registered_name"] == f"loc_keras>{loss_class.__name__}"
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is loss_class
    assert again.get_config() == config
    assert float(again(true, pred)) == float(loss(true, pred))


def test_box_loss_keeps_all_its_arguments() -> None:
    loss = losses.BoxLoss("mpdiou", 0.5, 0.02, reduction="none", name="x")
    assert loss.get_config() == {
        "name": "x",
        "reduction": "none",
        "similarity": "mpdiou",
        "smooth_l1_weight": 0.5,
        "smooth_l1_delta": 0.02,
    }


def localizer() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    features = keras.layers.Dense(8, activation="relu")(inputs)
    scores = keras.layers.Dense(3, dtype="float32")(features)
    softmax_head = keras.layers.Softmax(name="softmax", dtype="float32")(scores)
    bbox_head = keras.layers.Dense(4, activation="sigmoid", name="bbox", dtype="float32")(features)
    return keras.Model(inputs, {"softmax": softmax_head, "bbox": bbox_head})


def test_compiled_model_trains_with_weights_and_is_saved(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    model = localizer()
    model.compile(
        optimizer=keras.optimizers.Adam(0.05),
        loss={"softmax": losses.ClassLoss(0.1), "bbox": losses.BoxLoss("ciou", 1.0)},
        loss_weights={"softmax": 1.0, "bbox": 5.0},
    )
    images = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    targets = {"softmax": LABELS.astype("int32"), "bbox": TRUE}
    data = tf.data.Dataset.from_tensor_slices((images, targets, WEIGHTS)).batch(3)
    history = model.fit(data, epochs=30, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["bbox_loss"][-1] < history["bbox_loss"][0] / 2
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    before = model.evaluate(data, return_dict=True, verbose=0)
    assert again.evaluate(data, return_dict=True, verbose=0) == pytest.approx(before, rel=1e-4)
