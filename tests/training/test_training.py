"""The step and what stands beside it: targets, losses, callbacks, precision, run folders."""

import csv
import json
import math
from datetime import datetime

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.training_examples import plan, squares, tiny

from loc_keras.config.train import TrainConfig
from loc_keras.errors import TrainingError
from loc_keras.evaluation.figures import run_figures
from loc_keras.training import callbacks, precision, run_folder
from loc_keras.training.checkpointing import collect_arrays
from loc_keras.training.fit import fit_localizer
from loc_keras.training.model import (
    SIDES_OUTPUT,
    answer_function,
    collect_outcomes,
    compiled_training_model,
    outcomes_from,
    training_model,
    with_training_targets,
)
from loc_keras.training.optimizer import learning_rate_schedule, make_optimizer
from loc_keras.training.trials import overfit_batch

pytestmark = pytest.mark.usefixtures("short_body")


@pytest.fixture(autouse=True)
def _weights_start_alike():
    keras.utils.set_random_seed(0)


def test_training_model_shares_its_layers_and_adds_the_distribution():
    localizer = tiny("distribution")
    model = training_model(localizer)
    assert set(model.output) == {"softmax", "bbox", SIDES_OUTPUT}
    assert {id(w) for w in model.weights} == {id(w) for w in localizer.weights}
    assert set(localizer.output) == {"softmax", "bbox"}
    assert set(training_model(tiny("spatial")).output) == {"softmax", "bbox"}


def test_extra_output_learns_from_the_box():
    targets = {"softmax": "labels", "bbox": "boxes"}
    named = with_training_targets(targets, ["softmax", "bbox", SIDES_OUTPUT])
    assert named == {"softmax": "labels", "bbox": "boxes", SIDES_OUTPUT: "boxes"}


def test_fit_reports_every_measure_for_validation(tmp_path):
    result = fit_localizer(
        tiny("distribution", "region"),
        train=lambda step: squares(24).repeat(),
        val=squares(11, seed=1),
        plan=plan(
            validate_every_steps=2,
            warmup_epochs=0.5,
            profile_steps=(2, 3),
            loss={"bbox": "giou", "distribution_weight": 0.5},
        ),
        folder=tmp_path,
    )
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    measures = {
        *("loss", "softmax_loss", "bbox_loss", f"{SIDES_OUTPUT}_loss", "softmax_accuracy"),
        *("bbox_iou", "bbox_acc50", "bbox_acc75", "bbox_acc90"),
        *("top1_loc", "top5_loc", "gt_known_loc", "max_box_acc_v2"),
    }
    assert measures <= set(rows[0])
    assert {f"val_{name}" for name in measures} <= set(rows[0])
    assert {"learning_rate", "images_per_second", "val_score"} <= set(rows[0])
    last = {name: float(value) for name, value in rows[-1].items()}
    assert last["val_score"] == pytest.approx(last["val_softmax_accuracy"] * last["val_bbox_iou"])
    # What fit streamed over batches of 8 and 3 equals one pass over the saved model's answers.
    opened = keras.saving.load_model(result.last_path)
    found = run_figures(collect_outcomes(answer_function(opened), squares(11, seed=1)))
    for name in ("softmax_accuracy", "bbox_iou", "bbox_acc50", "top1_loc", "max_box_acc_v2"):
        assert last[f"val_{name}"] == pytest.approx(found[name], abs=1e-5), name
    with (tmp_path / "history_steps.csv").open() as file:
        steps = list(csv.DictReader(file))
    assert [row["step"] for row in steps] == ["2", "4", "6"]
    # What TensorBoard's page of profiles reads.
    assert len(list((tmp_path / "tensorboard").rglob("*.xplane.pb"))) == 1
    # The last of them falls on the end of the last epoch.
    assert float(steps[-1]["val_bbox_iou"]) == pytest.approx(last["val_bbox_iou"], abs=1e-5)


def test_best_checkpoint_is_the_newest_within_a_standard_error(tmp_path):
    saver = callbacks.Checkpoints(tiny(), tmp_path, "val_score", val_images=100)
    # .90 of 100 right is (90 + 1) / 102 = .8922 after Laplace, with a standard error of
    # sqrt(.8922 * .1078 / 100) = .031: .78 is within it of .80, .76 is not.
    scores = [0.5, 0.8, 0.78, 0.76, float("nan")]
    for epoch, value in enumerate(scores):
        saver.localizer.get_layer("softmax_logits").bias.assign([float(epoch)] * 3)
        logs = {"val_score": value, "val_softmax_accuracy": 0.9, "val_loss": 1.0}
        saver.on_epoch_end(epoch, logs)
    assert saver.best_epoch == 2
    for path, epoch in ((saver.best_path, 2), (saver.last_path, 4)):
        bias = keras.saving.load_model(path).get_layer("softmax_logits").bias
        np.testing.assert_array_equal(bias, [epoch] * 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.keras", "last.keras"]


def test_slow_decline_does_not_drag_the_best_checkpoint_along(tmp_path):
    saver = callbacks.Checkpoints(tiny(), tmp_path, "val_score", val_images=100)
    for epoch, value in enumerate([0.80, 0.78, 0.76, 0.74, 0.72]):
        saver.offer({"val_score": value, "val_softmax_accuracy": 0.9}, epoch)
    assert saver.best_epoch == 1


def test_standard_error_by_hand():
    logs = {"val_softmax_accuracy": 1.0, "val_top1_loc": 0.5}
    # All 98 right: 99 / 100 after Laplace; half of 98 right: 50 / 100.
    assert callbacks.standard_error("val_score", logs, 98) == pytest.approx((0.0099 / 98) ** 0.5)
    assert callbacks.standard_error("val_top1_loc", logs, 98) == pytest.approx((0.25 / 98) ** 0.5)
    assert callbacks.standard_error("val_loss", logs, 98) == 0


def test_best_checkpoint_of_a_loss_is_the_smallest(tmp_path):
    saver = callbacks.Checkpoints(tiny(), tmp_path, "val_loss", val_images=8)
    for epoch, value in enumerate([2.0, 1.0, 1.5]):
        saver.on_epoch_end(epoch, {"val_loss": value})
    assert saver.best_epoch == 1


def test_not_a_number_goes_back_once_then_says_what_was_in_the_batch(tmp_path):
    good = squares(24, batch=8)
    bad = good.take(1).map(lambda images, t: (images, {**t, "bbox": t["bbox"] * float("nan")}))
    train = good.concatenate(bad).repeat()
    said = []
    with pytest.raises(TrainingError) as caught:
        fit_localizer(
            tiny(),
            train=train.skip,
            val=squares(8),
            plan=plan(epochs=3),
            folder=tmp_path,
            sources=lambda step: [f"picture {step}.{place}.png" for place in range(8)],
            say=said.append,
        )
    # Three good steps fill the first epoch; the fourth step has the bad batch, which is number 3.
    checkpoint = str(tmp_path / "checkpoints" / "step-00000003-epoch-end")
    sentence, going_on = said
    assert "going on from step-00000003-epoch-end: 1 epochs and 0 of 3 steps" in going_on
    assert "at step 4 (epoch 2, step 1 of the epoch; bbox_loss)" in sentence
    assert checkpoint in sentence
    assert "rate times 0.5" in sentence
    message = str(caught.value)
    assert "again not finite at step 4 (epoch 2, step 1 of the epoch; bbox_loss)" in message
    assert "picture 3.0.png, picture 3.1.png" in message
    assert checkpoint in message
    assert "train.learning_rate" in message
    told = json.loads((tmp_path / "not_finite.json").read_text())
    assert told["step"] == 4
    assert told["files"] == [f"picture 3.{place}.png" for place in range(8)]
    keras.saving.load_model(tmp_path / "last.keras")


def test_early_stopping_stops(tmp_path):
    result = fit_localizer(
        tiny(),
        train=lambda step: squares(24).repeat(),
        val=squares(8),
        # At such a rate the weights stay as they are, and no box comes near IoU .9: the monitor is
        # 0 in the first epoch and in the two that are waited for.
        plan=plan(epochs=9, learning_rate=1e-12, early_stopping_patience=2).with_train(
            monitor="val_bbox_acc90"
        ),
        folder=tmp_path,
    )
    assert len(result.history) == 3


def test_moving_average_is_what_is_validated_and_saved(tmp_path):
    result = fit_localizer(
        tiny(),
        train=lambda step: squares(24).repeat(),
        val=squares(11, seed=1),
        plan=plan(ema=0.9, learning_rate=1e-2),
        folder=tmp_path,
    )
    opened = keras.saving.load_model(result.last_path)
    found = run_figures(collect_outcomes(answer_function(opened), squares(11, seed=1)))
    assert result.history[-1]["val_bbox_iou"] == pytest.approx(found["bbox_iou"], abs=1e-5)


@pytest.mark.whole
def test_overfitting_one_batch_is_told_from_failing_to():
    batch = next(iter(squares(8)))
    learned = overfit_batch(tiny("distribution"), batch, steps=150, plan=plan(learning_rate=1e-2))
    assert learned.passed
    assert learned.accuracy == 1.0
    failed = overfit_batch(tiny(), batch, steps=2, plan=plan(learning_rate=1e-6))
    assert not failed.passed
    assert failed.box_loss > 0.05


def test_figures_by_hand():
    # Of four images: right class with IoU 1, right class with IoU 0, wrong class with IoU 1/3
    # (boxes [0, .2] and [.1, .3] along x overlap in .1 of .3), right class with IoU .8.
    boxes = np.array([[0, 0, 0.2, 0.2]] * 4, np.float32)
    said = np.array(
        [[0, 0, 0.2, 0.2], [0.5, 0.5, 0.7, 0.7], [0.1, 0, 0.3, 0.2], [0, 0, 0.2, 0.16]],
        np.float32,
    )
    probabilities = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    outputs = {"softmax": probabilities, "bbox": said, "bbox_true": boxes}
    found = run_figures(outcomes_from(np.array([0, 1, 0, 1]), outputs))
    expected = {
        "images": 4,
        "softmax_accuracy": 3 / 4,
        "bbox_iou": (1 + 0 + 1 / 3 + 0.8) / 4,
        "bbox_acc50": 2 / 4,
        "bbox_acc75": 2 / 4,
        "bbox_acc90": 1 / 4,
        "top1_loc": 2 / 4,
        # With 3 classes every class is among the top 5.
        "top5_loc": 2 / 4,
        "gt_known_loc": 2 / 4,
        "max_box_acc_v2": (3 / 4 + 2 / 4 + 2 / 4) / 3,
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_collected_answers_hold_every_image_in_order():
    answers = collect_outcomes(answer_function(tiny()), squares(11))
    truth = [targets for _, targets in squares(11).unbatch()]
    np.testing.assert_array_equal(answers.labels, [t["softmax"] for t in truth])
    np.testing.assert_array_equal(answers.boxes_px, [t["bbox"] for t in truth])
    assert answers.probabilities.shape == (11, 3)


def test_cosine_rises_then_falls_to_zero():
    rate = learning_rate_schedule(peak=0.4, schedule="cosine", warmup_steps=4, total_steps=12)
    # A linear rise over 4 steps from 0.1, and a half cosine over the 8 steps that remain:
    # at its middle half the peak is left.
    assert float(rate(0)) == pytest.approx(0.1)
    assert float(rate(2)) == pytest.approx(0.25)
    assert float(rate(4)) == pytest.approx(0.4)
    assert float(rate(8)) == pytest.approx(0.2)
    assert float(rate(12)) == pytest.approx(0.0, abs=1e-8)
    flat = learning_rate_schedule(peak=0.4, schedule="constant", warmup_steps=4, total_steps=12)
    assert float(flat(4)) == float(flat(11)) == pytest.approx(0.4)
    assert learning_rate_schedule(
        peak=0.4, schedule="constant", warmup_steps=0, total_steps=12
    ) == pytest.approx(0.4)


def test_weight_decay_leaves_offsets_and_scales_alone():
    model = training_model(tiny())
    optimizer = make_optimizer(TrainConfig(learning_rate=0.1, weight_decay=0.5))
    for weight in model.trainable_variables:
        weight.assign(np.ones(weight.shape))
    optimizer.build(model.trainable_variables)
    optimizer.apply([keras.ops.zeros(w.shape) for w in model.trainable_variables])
    for weight in model.trainable_variables:
        spared = weight.name in ("bias", "gamma", "beta")
        # AdamW subtracts rate * decay * weight: 1 - 0.1 * 0.5.
        np.testing.assert_allclose(weight, 1.0 if spared else 0.95, rtol=1e-5)


def test_decay_of_adam_is_part_of_its_gradient():
    # Adam's first step is rate * g / (|g| + epsilon), whatever the size of g: a decay inside the
    # gradient therefore moves a weight with zero gradient by the whole rate, where decay apart
    # from it would move it by rate * decay.
    weight = keras.Variable([2.0, -3.0])
    optimizer = make_optimizer(TrainConfig(optimizer="adam", learning_rate=0.1, weight_decay=1e-3))
    optimizer.build([weight])
    optimizer.apply([keras.ops.zeros((2,))])
    np.testing.assert_allclose(weight, [1.9, -2.9], atol=1e-3)


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [
        ([], "float32"),
        ([(9, 0)], "mixed_bfloat16"),
        ([(8, 0), (7, 5)], "mixed_float16"),
        ([(6, 1)], "float32"),
        ([(0, 0)], "float32"),
    ],
)
def test_precision_follows_the_weakest_gpu(capabilities, policy):
    assert precision.pick_precision(capabilities) == policy


def test_precision_is_set():
    assert precision.set_precision("mixed_bfloat16") == "mixed_bfloat16"
    assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.whole)]
)
def test_a_step_in_mixed_precision_stays_finite(policy):
    keras.mixed_precision.set_global_policy(policy)
    model = compiled_training_model(tiny("distribution", "region"), plan(loss={"bbox": "ciou"}))
    data = squares(8).map(lambda i, t: (i, with_training_targets(t, list(model.output))))
    logs = model.fit(data.repeat(), steps_per_epoch=3, epochs=1, verbose=0).history
    assert all(math.isfinite(value) for values in logs.values() for value in values)
    assert model.output["softmax"].dtype == model.output["bbox"].dtype == "float32"


def test_masked_images_count_in_no_measure():
    model = compiled_training_model(tiny(), plan())
    images, targets = next(iter(squares(8)))
    boxes = targets["bbox"].numpy()
    wild = boxes.copy()
    wild[4:] = 1 - wild[4:]
    weights = {"softmax": np.ones(8), "bbox": np.array([1.0] * 4 + [0.0] * 4)}
    labels = targets["softmax"]

    def measured(truth):
        model.reset_metrics()
        data = tf.data.Dataset.from_tensors((images, {"softmax": labels, "bbox": truth}, weights))
        return model.evaluate(data, return_dict=True, verbose=0)

    assert measured(boxes) == pytest.approx(measured(wild), abs=1e-6)


def test_weights_without_a_finite_loss_are_not_saved(tmp_path):
    saver = callbacks.Checkpoints(tiny(), tmp_path, "val_score", val_images=8)
    saver.on_epoch_end(0, {"val_score": 0.5, "val_loss": 1.0})
    kept = (tmp_path / "last.keras").read_bytes()
    saver.on_epoch_end(1, {"val_score": float("nan"), "val_loss": float("nan")})
    assert (tmp_path / "last.keras").read_bytes() == kept


def test_run_folders_never_collide(tmp_path):
    now = datetime(2026, 1, 2, 3, 4, 5)
    first = run_folder.new_run_folder(tmp_path, "base", now)
    second = run_folder.new_run_folder(tmp_path, "base", now)
    assert first == tmp_path / "base" / "20260102-030405"
    assert second == tmp_path / "base" / "20260102-030405-2"


def test_given_run_folder_must_be_empty(tmp_path):
    assert run_folder.given_run_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "a" / "b" / "x").touch()
    with pytest.raises(TrainingError, match=r"not empty.*new --run-dir"):
        run_folder.given_run_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="not empty"):
        run_folder.given_run_folder(tmp_path / "file")
    with pytest.raises(TrainingError, match="cannot be made"):
        run_folder.given_run_folder(tmp_path / "file" / "below")


def test_environment_names_versions():
    facts = json.loads(json.dumps(run_folder.environment({"gpus": []}, seed=3)))
    assert facts["packages"]["keras"] == keras.__version__
    assert facts["packages"]["tensorflow"] == tf.__version__
    assert facts["seed"] == 3


@pytest.mark.parametrize("xla", ["off", pytest.param("on", marks=pytest.mark.whole)])
def test_what_was_collected_stays_while_training_goes_on(xla):
    model = compiled_training_model(tiny(), plan(ema=0.9, xla=xla))
    names = list(model.output)
    data = squares(8).map(lambda x, y: (x, with_training_targets(y, names)))
    model.fit(data, verbose=0)
    collected = collect_arrays(model)
    copies = {name: array.copy() for name, array in collected.items()}
    model.fit(data.repeat(3), verbose=0)
    moved = [name for name, now in collect_arrays(model).items() if (now != copies[name]).any()]
    assert len(moved) > len(copies) / 2
    for name, array in copies.items():
        assert np.array_equal(collected[name], array), name
