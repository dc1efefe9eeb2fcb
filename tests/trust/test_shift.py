"""The shift monitor: how often it cries wolf, and what it must notice."""

from dataclasses import replace

import numpy as np
import pytest

from loc_keras.errors import TrustError
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.training.model import outcomes_from
from loc_keras.trust.shift import LEVEL, measure_shift, shift_reference


def seen(rng: np.random.Generator, count: int, classes: int = 4, features: int = 32) -> Outcomes:
    """Answers of a made-up model over images that are drawn alike."""
    logits = rng.normal(0, 2, (count, classes))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    low = rng.uniform(0, 0.5, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.5, (count, 2))], axis=1)
    shared = rng.normal(0, 1, (count, 1))  # Features of real networks go together.
    return outcomes_from(
        softmax.argmax(axis=1),
        {
            "softmax": softmax.astype(np.float32),
            "bbox_true": boxes.astype(np.float32),
            "bbox": boxes.astype(np.float32),
            "features": np.maximum(rng.normal(0, 1, (count, features)) + shared, 0),
            "spread": rng.gamma(2, 0.02, (count, 4)).astype(np.float32),
            "mean_iou": rng.beta(8, 2, count).astype(np.float32),
            "chance50": rng.beta(8, 1, count).astype(np.float32),
            "brightness": rng.normal(120, 20, count),
            "contrast": rng.gamma(9, 5, count),
        },
    )


@pytest.mark.whole
def test_sets_drawn_alike_are_seldom_called_different() -> None:
    # 150 pairs at the level .01: more than 6 alarms have a probability of .0007 (binomial), and
    # Bonferroni's correction only makes alarms rarer.
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(150):
        whole = seen(rng, 260)
        order = rng.permutation(260)
        reference = shift_reference(whole.take(order[:60]))
        alarms += measure_shift(reference, whole.take(order[60:])).found
    assert alarms <= 6


def changed(one: Outcomes, **parts: np.ndarray) -> Outcomes:
    return replace(one, outputs={**one.outputs, **parts})


@pytest.mark.parametrize("what", ["brightness", "features", "softmax", "spread", "bbox", "classes"])
def test_a_change_is_found_and_named(what: str) -> None:
    rng = np.random.default_rng(1)
    reference = shift_reference(seen(rng, 300))
    new = seen(rng, 300)
    names = {
        "brightness": "brightness",
        "features": "size of the features",
        "softmax": "class confidence",
        "spread": "spread of the box",
        "bbox": "place of the box, x",
        "classes": "predicted classes",
    }
    if what == "classes":
        # The same certainty, but every answer for class 0 goes to class 1.
        softmax = new.outputs["softmax"].copy()
        top = softmax.argmax(axis=1) == 0
        softmax[top] = softmax[top][:, [1, 0, 2, 3]]
        new = changed(new, softmax=softmax)
    elif what == "brightness":
        new = changed(new, brightness=new.outputs["brightness"] - 15)
    elif what == "softmax":
        new = changed(new, softmax=new.outputs["softmax"] * 0.2 + 0.2)
    elif what == "bbox":
        new = changed(new, bbox=np.clip(new.outputs["bbox"] + np.float32([0.2, 0, 0.2, 0]), 0, 1))
    else:
        new = changed(new, **{what: new.outputs[what] * 1.5})
    shift = measure_shift(reference, new)
    assert shift.found
    assert shift.p_value < LEVEL
    assert names[what] in [test.name for test in shift.tests if test.p_value < LEVEL]
    assert shift.tests[0].p_value == shift.p_value


def test_what_is_kept_is_a_sample_of_large_sets() -> None:
    reference = shift_reference(seen(np.random.default_rng(2), 5000))
    assert reference.images == 5000
    assert {len(values) for values in reference.values.values()} == {2000}
    assert sum(reference.classes) == 5000


def test_too_few_images_give_no_alarm() -> None:
    rng = np.random.default_rng(3)
    shift = measure_shift(shift_reference(seen(rng, 100)), seen(rng, 3))
    assert (shift.found, shift.p_value, list(shift.tests)) == (False, 1.0, [])


def test_answers_of_other_models_are_compared_by_what_any_model_gives_alike() -> None:
    # Other models, of the folds, have features and doubt of their own: only what an image is and
    # where its box lies is compared, and a change of the images is found all the same.
    rng = np.random.default_rng(6)
    reference = shift_reference(seen(rng, 200), by_others=True)
    assert set(reference.values) == {
        "box area", "place of the box, x", "place of the box, y", "brightness", "contrast",
    }  # fmt: skip
    new = seen(rng, 200, features=16)
    assert not measure_shift(reference, new).found
    darker = {**new.outputs, "brightness": new.outputs["brightness"] - 40}
    assert measure_shift(reference, replace(new, outputs=darker)).found


def test_another_model_is_refused() -> None:
    rng = np.random.default_rng(4)
    reference = shift_reference(seen(rng, 50))
    with pytest.raises(TrustError, match="other features, signals or classes than this model"):
        measure_shift(reference, seen(rng, 50, features=16))


def test_one_class_has_no_test_of_classes() -> None:
    rng = np.random.default_rng(5)
    shift = measure_shift(shift_reference(seen(rng, 80, classes=1)), seen(rng, 80, classes=1))
    names = [test.name for test in shift.tests]
    assert "predicted classes" not in names
    assert "class confidence" not in names


def test_a_reference_without_a_signal_or_of_other_classes_is_refused() -> None:
    one = seen(np.random.default_rng(5), 60)
    reference = shift_reference(one)
    kept = {name: value for name, value in reference.values.items() if name != "brightness"}
    with pytest.raises(TrustError, match="other features, signals or classes"):
        measure_shift(replace(reference, values=kept), one)
    with pytest.raises(TrustError, match="calibrate this model anew"):
        measure_shift(replace(reference, classes=[30, 30]), one)
