"""What a model goes by: statistics of the distributions of sides, and the mirrored look."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loc_keras
from loc_keras.models.heads import SIDES_LAYER
from loc_keras.trust.confidence import box_sides, box_signals, class_log_odds
from loc_keras.trust.observations import (
    QUANTILES,
    iou_under_distribution,
    observe,
    observer,
    side_quantiles,
    side_spread,
)

modest = settings(max_examples=20, deadline=None, derandomize=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


# Sides


@modest
@given(st.integers(0, 2**32 - 1), st.integers(5, 40))
def test_spread_is_the_standard_deviation(seed: int, bins: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (3, 4, bins)).astype(np.float32)
    shares, places = softmax(logits.astype(float)), np.linspace(0, 1, bins)
    mean = (shares * places).sum(axis=-1)
    # The textbook's other form of the variance.
    variance = (shares * places**2).sum(axis=-1) - mean**2
    found = np.asarray(side_spread(logits))
    assert found == pytest.approx(np.sqrt(variance.clip(0)), abs=1e-4)


@modest
@given(st.integers(0, 2**32 - 1), st.integers(5, 40))
def test_quantiles_invert_the_distribution_function(seed: int, bins: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, (2, 4, bins)).astype(np.float32)
    found = np.asarray(side_quantiles(logits))
    for row, side in itertools.product(range(2), range(4)):
        upto = np.concatenate([[0], softmax(logits[row, side].astype(float)).cumsum()])
        edges = np.clip((np.arange(bins + 1) - 0.5) / (bins - 1), 0, 1)  # of the bins
        exact = np.interp(QUANTILES, upto, (np.arange(bins + 1) - 0.5) / (bins - 1))
        assert found[row, side] == pytest.approx(np.clip(exact, edges[0], edges[-1]), abs=2e-4)
        assert (np.diff(found[row, side]) >= 0).all()


def test_a_certain_box_is_expected_to_be_right() -> None:
    # All the weight of each side on one bin of 101: x1 .2, y1 .3, x2 .6, y2 .8.
    logits = np.full((1, 4, 101), -50.0, np.float32)
    for side, place in enumerate((20, 30, 60, 80)):
        logits[0, side, place] = 50.0
    box = np.float32([[0.2, 0.3, 0.6, 0.8]])
    mean_iou, chance = map(np.asarray, iou_under_distribution(box, logits))
    # Quantiles lie within the bin, .01 wide: at most .004 off on each side of .4 and .5.
    assert mean_iou[0] > 0.97
    assert chance[0] > 0.999
    # The same box, said to be elsewhere.
    mean_iou, chance = map(np.asarray, iou_under_distribution(box + 0.5, logits))
    assert mean_iou[0] == 0
    assert chance[0] < 1e-3


def test_expected_overlap_against_a_loop() -> None:
    logits = np.random.default_rng(3).normal(0, 2, (1, 4, 21)).astype(np.float32)
    box = np.float32([[0.3, 0.2, 0.7, 0.9]])
    sides = np.asarray(side_quantiles(logits))[0].astype(float)
    overlaps = []
    for a, b, c, d in itertools.product(range(5), repeat=4):
        (x1, x2), (y1, y2) = (
            sorted((sides[0, a], sides[2, c])),
            sorted((sides[1, b], sides[3, d])),
        )
        wide = max(0, min(x2, 0.7) - max(x1, 0.3)) * max(0, min(y2, 0.9) - max(y1, 0.2))
        overlaps.append(wide / ((x2 - x1) * (y2 - y1) + 0.4 * 0.7 - wide))
    mean_iou, chance = map(np.asarray, iou_under_distribution(box, logits))
    assert mean_iou[0] == pytest.approx(np.mean(overlaps), abs=1e-5)
    soft = 1 / (1 + np.exp(-(np.array(overlaps) - 0.5) / 0.05))
    assert chance[0] == pytest.approx(soft.mean(), abs=1e-5)


# Signals


def test_log_odds_keep_their_digits_near_certainty() -> None:
    rows = np.float32([[1 - 2e-5, 1e-5, 1e-5], [0.5, 0.25, 0.25], [0.2, 0.7, 0.1]])
    # By hand: log(p / (1 - p)); in float32 1 - p alone would be off by 3 % in the first row.
    expected = [np.log((1 - 2e-5) / 2e-5), 0.0, np.log(0.7 / 0.3)]
    assert np.asarray(class_log_odds(rows)) == pytest.approx(expected, abs=1e-4)
    assert np.isfinite(np.asarray(class_log_odds(np.float32([[1.0, 0.0, 0.0]])))).all()


def test_sides_of_a_box() -> None:
    boxes = np.float32([[0.1, 0.2, 0.5, 0.3], [0.5, 0.5, 0.5, 0.5]])
    assert np.asarray(box_sides(boxes)) == pytest.approx(
        np.array([[0.4, 0.1, 0.4, 0.1], [1e-3] * 4]), abs=1e-6
    )


def test_signals_of_a_model_without_distribution() -> None:
    outputs = {"softmax": np.float32([[0.8, 0.2]]), "bbox": np.float32([[0, 0, 0.5, 0.5]])}
    found = {name: np.asarray(value) for name, value in box_signals(outputs).items()}
    assert set(found) == {"log_area", "class_log_odds"}
    assert found["log_area"] == pytest.approx([np.log(0.25)], abs=1e-5)
    single = box_signals({**outputs, "softmax": np.float32([[1.0]])})
    assert set(single) == {"log_area"}


# The model that tells


@pytest.fixture(scope="module")
def localizer() -> keras.Model:
    from loc_keras.models import assembly

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "RESNETS", {"resnet18": ((1, 1), "basic", "")})
        keras.utils.set_random_seed(1)
        return loc_keras.build_localizer(image_shape=(32, 40, 3), num_classes=3, width=4)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 40, 3)).astype(np.float32)


def test_observer_tells_what_the_localizer_answers(
    localizer: keras.Model, images: np.ndarray
) -> None:
    plain = {name: np.asarray(one) for name, one in localizer(images, training=False).items()}
    seen = {n: np.asarray(v) for n, v in observer(localizer, flip=True)(images).items()}
    for name in ("softmax", "bbox"):
        assert seen[name] == pytest.approx(plain[name], abs=1e-6)
    logits = keras.Model(localizer.input, localizer.get_layer(SIDES_LAYER).output)(images)
    assert seen["spread"] == pytest.approx(np.asarray(side_spread(logits)), abs=1e-6)
    assert seen["features"].shape[0] == 5
    # The mirrored look is the localizer's own answer to mirrored pixels, turned back.
    mirrored = localizer(images[:, :, ::-1], training=False)
    assert seen["softmax_mirrored"] == pytest.approx(np.asarray(mirrored["softmax"]), abs=1e-5)
    box = np.asarray(mirrored["bbox"])
    turned = np.stack([1 - box[:, 2], box[:, 1], 1 - box[:, 0], box[:, 3]], axis=1)
    assert seen["bbox_mirrored"] == pytest.approx(turned, abs=1e-5)


def test_observations_are_those_of_every_image(localizer: keras.Model, images: np.ndarray) -> None:
    boxes = np.tile(np.float32([0.1, 0.1, 0.5, 0.5]), (5, 1))
    labels = np.arange(5) % 3
    batches = [
        (
            keras.ops.convert_to_tensor(images[part]),
            {
                "softmax": keras.ops.convert_to_tensor(labels[part]),
                "bbox": keras.ops.convert_to_tensor(boxes[part]),
            },
        )
        for part in (slice(0, 2), slice(2, 5))
    ]
    seen = observe(localizer, batches, background=1)
    assert len(seen) == 5
    whole = observer(localizer)(images)
    assert seen.outputs["bbox"] == pytest.approx(np.asarray(whole["bbox"]), abs=1e-5)
    assert seen.outputs["brightness"] == pytest.approx(images.mean(axis=(1, 2, 3)), rel=1e-4)
    assert seen.outputs["contrast"] == pytest.approx(images.std(axis=(1, 2, 3)), rel=1e-3)
    assert seen.shown.tolist() == [True, False, True, True, False]
    part = seen.take(np.array([3, 0]))
    assert part.labels.tolist() == [0, 0]
    assert part.outputs["spread"] == pytest.approx(seen.outputs["spread"][[3, 0]])
