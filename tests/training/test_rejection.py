"""Images without an object in training and measuring: weights, losses, figures, a whole run."""

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.empty_images import samples, write_set
from helpers.training_examples import plan

import loc_keras
from loc_keras import boxes, evaluate, train
from loc_keras.config.train import LossConfig
from loc_keras.data.formats.yolo_yaml import to_yaml
from loc_keras.evaluation.figures import run_figures
from loc_keras.losses import BoxLoss
from loc_keras.report.gallery import choose_examples, draw_gallery
from loc_keras.report.style import PREDICTION, TRUTH, figure_to_array
from loc_keras.training.fit import fit_localizer
from loc_keras.training.model import (
    SIDES_OUTPUT,
    TrainingModel,
    answer_function,
    box_weights,
    collect_outcomes,
    compile_localizer,
    outcomes_from,
    with_targets,
)

EMPTY = [0.0, 0.0, 0.0, 0.0]
BACKGROUND = 2


def test_weights_leave_empty_boxes_out_of_all_but_the_class():
    given = tf.constant([[0.1, 0.1, 0.4, 0.4], EMPTY, [0.0, 0.0, 0.5, 0.5]])
    weights = box_weights(given, ["softmax", "bbox", SIDES_OUTPUT])
    assert {name: value.numpy().tolist() for name, value in weights.items()} == {
        "softmax": [1.0, 1.0, 1.0],
        "bbox": [1.0, 0.0, 1.0],
        SIDES_OUTPUT: [1.0, 0.0, 1.0],
    }


def test_without_a_background_nothing_is_weighed():
    batch = (tf.zeros([2, 4, 4, 1]), {"softmax": tf.zeros([2]), "bbox": tf.zeros([2, 4])})
    dataset = tf.data.Dataset.from_tensors(batch)
    assert len(with_targets(dataset, ["softmax", "bbox"], background=False).element_spec) == 2
    assert len(with_targets(dataset, ["softmax", "bbox"], background=True).element_spec) == 3


@pytest.mark.parametrize("similarity", sorted(boxes.SIMILARITIES))
def test_no_similarity_breaks_on_an_empty_box(similarity):
    # A weight of 0 cannot silence NaN: 0 x NaN is NaN.
    predicted = tf.constant([[0.2, 0.1, 0.7, 0.5], EMPTY, [0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]])
    loss = BoxLoss(similarity, smooth_l1_weight=1.0)
    with tf.GradientTape() as tape:
        tape.watch(predicted)
        value = loss(tf.zeros([4, 4]), predicted, sample_weight=tf.zeros([4]))
    assert float(value) == 0.0
    np.testing.assert_array_equal(tape.gradient(value, predicted), np.zeros([4, 4]))


def linear_model():
    """Two linear outputs and no batch statistics: an image's gradient is its own."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input([6])
    corners = keras.layers.Dense(4, activation="sigmoid", name="bbox")(inputs)
    classes = keras.layers.Dense(3, activation="softmax", name="softmax")(inputs)
    model = TrainingModel(inputs, {"softmax": classes, "bbox": corners})
    compile_localizer(model, keras.optimizers.SGD(), LossConfig(softmax_weight=0.0))
    return model


def box_gradient(model, images, targets):
    """Gradient of the compiled loss, whose class term has the weight 0."""
    ((x, y, weights),) = with_targets(
        tf.data.Dataset.from_tensors((images, targets)), ["softmax", "bbox"], background=True
    )
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y, model(x, training=True), weights, training=True)
    return float(loss), tape.gradient(loss, model.get_layer("bbox").trainable_variables)


def test_background_images_do_not_move_the_box_loss():
    generator = np.random.default_rng(0)
    images = generator.normal(size=(8, 6)).astype(np.float32)
    corners = np.tile(np.array([0.2, 0.3, 0.6, 0.9], np.float32), (8, 1))
    labels = np.array([0, 1, 0, 1, 0, 2, 2, 2], np.int32)
    corners[5:] = 0
    model = linear_model()
    loss, gradient = box_gradient(model, images, {"softmax": labels, "bbox": corners})
    alone, expected = box_gradient(model, images[:5], {"softmax": labels[:5], "bbox": corners[:5]})
    # The sum over the five images is the same; Keras divides it by the images of the batch.
    assert 8 * loss == pytest.approx(5 * alone, rel=1e-5)
    for found, wanted in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(8 * found.numpy(), 5 * wanted.numpy(), atol=1e-6)
    loss, gradient = box_gradient(model, images[5:], {"softmax": labels[5:], "bbox": corners[5:]})
    assert loss == 0.0
    assert all((part.numpy() == 0).all() for part in gradient)


def answers(labels, said, overlaps, background=BACKGROUND):
    """Outcomes whose boxes overlap by a half or wholly; probabilities of .8 for what was said."""
    true = np.tile(np.array([0.0, 0.0, 1.0, 1.0], np.float32), (len(labels), 1))
    true[np.array(labels) == BACKGROUND] = 0
    pred = np.stack([np.array([0.0, 0.0, 1.0, one], np.float32) for one in overlaps])
    probabilities = np.full((len(labels), 3), 0.1, np.float32)
    probabilities[np.arange(len(labels)), said] = 0.8
    outputs = {"softmax": probabilities, "bbox": pred, "bbox_true": true}
    return outcomes_from(np.array(labels), outputs, background=background)


def test_figures_tell_rejection_and_measure_boxes_of_objects_alone():
    # Five images with an object: one is called background, one another class, one box is half.
    # Three without: two are called background.
    found = run_figures(
        answers([0, 0, 1, 1, 1, 2, 2, 2], [0, 2, 0, 1, 1, 2, 2, 0], [1, 1, 1, 1, 0.4] + [1] * 3)
    )
    assert found["images"] == 8
    assert found["object_images"] == 5
    assert found["softmax_accuracy"] == pytest.approx(5 / 8)
    assert found["rejection"] == pytest.approx(2 / 3)
    assert found["false_rejection"] == pytest.approx(1 / 5)
    assert found["bbox_iou"] == pytest.approx((4 + 0.4) / 5)
    assert found["gt_known_loc"] == pytest.approx(4 / 5)
    assert found["top1_loc"] == pytest.approx(2 / 5)


def test_figures_of_no_image_are_left_out():
    found = run_figures(answers([0, 1], [0, 1], [1, 1]))
    assert "rejection" not in found
    assert found["false_rejection"] == 0
    found = run_figures(answers([2, 2], [2, 1], [1, 1]))
    assert found == {
        "images": 2,
        "softmax_accuracy": 0.5,
        "object_images": 0,
        "rejection": 0.5,
    }
    assert not {"rejection", "object_images"} & set(
        run_figures(answers([0, 1], [0, 1], [1, 1], None))
    )


def squares(count, seed=0, batch=8):
    """Squares of two classes, and every third picture black; the first batch is black alone."""
    generator = np.random.default_rng(seed)
    kinds = generator.integers(0, 2, count).astype(np.int32)
    labels = np.where(np.arange(count) % 3 == 0, BACKGROUND, kinds).astype(np.int32)
    labels[:batch] = 2
    first = generator.integers(0, 20, (count, 2))
    images = np.zeros((count, 32, 32, 1), np.uint8)
    for image, label, (x, y) in zip(images, labels, first, strict=True):
        image[y : y + 12, x : x + 12] = (120, 240, 0)[label]
    corners = np.concatenate([first, first + 12], axis=1).astype(np.float32) / 32
    corners[labels == 2] = 0
    targets = {"softmax": labels, "bbox": corners}
    return tf.data.Dataset.from_tensor_slices((images, targets)).batch(batch)


@pytest.mark.whole
@pytest.mark.usefixtures("short_body")
def test_what_fit_streams_equals_the_figures(tmp_path):
    keras.utils.set_random_seed(0)
    localizer = loc_keras.build_localizer(
        image_shape=(32, 32, 1), num_classes=3, width=4, bbox_head="distribution"
    )
    result = fit_localizer(
        localizer,
        train=lambda step: squares(24).repeat(),
        val=squares(21, seed=1),
        plan=plan(
            val_images=21,
            background=BACKGROUND,
            validate_every_steps=3,
            loss={"bbox": "ciou"},
        ),
        folder=tmp_path,
    )
    opened = keras.saving.load_model(result.last_path)
    answer = answer_function(opened)
    found = run_figures(collect_outcomes(answer, squares(21, seed=1), background=BACKGROUND))
    with (tmp_path / "history.csv").open() as file:
        last = {name: float(value) for name, value in list(csv.DictReader(file))[-1].items()}
    for name in ("softmax_accuracy", "bbox_iou", "bbox_acc50", "top1_loc", "max_box_acc_v2"):
        assert last[f"val_{name}"] == pytest.approx(found[name], abs=1e-5), name
    assert all(np.isfinite(value) for value in last.values())
    with (tmp_path / "history_steps.csv").open() as file:
        assert {"val_rejection", "val_false_rejection"} <= set(next(csv.DictReader(file)))


# A whole run.


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on CSV rows of which a third show no object; with what it printed."""
    place = tmp_path_factory.mktemp("run")
    source = write_set(place / "set", "csv", samples(objects=24, empty=12))
    settings = {
        "name": "empties",
        "data": {
            "source": {**source, "background": "nothing"},
            "image_size": 32,
            "resize": "letterbox",
            "split": {"val": 0.25, "test": 0.25},
        },
        "model": {"backbone": {"width": 4}},
        "augment": {"rotation": 10.0, "mixup": 0.5, "cutmix": 0.5},
        "train": {"epochs": 1, "batch_size": 8, "precision": "float32", "warmup_epochs": 0},
        "export": {"dir": str(place / "saved"), "publish": True},
    }
    config = place / "my.yaml"
    config.write_text(to_yaml(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loc_keras.models.assembly.RESNETS", {"resnet18": ((1, 1), "basic", "")})
        code = train.main(["--config", str(config), "--run-dir", str(place / "run")])
    assert code == 0
    return place


@pytest.mark.whole
def test_a_run_reports_rejection_and_lists_the_class(finished, capsys):
    run = finished / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    for split in ("val", "test"):
        # A quarter of 24 and of 12 images.
        assert (metrics[split]["images"], metrics[split]["object_images"]) == (9, 6)
        assert 0 <= metrics[split]["rejection"] <= 1
        assert 0 <= metrics[split]["false_rejection"] <= 1
    assert (run / "classes.txt").read_text().split() == ["blue", "red", "nothing"]
    exported = finished / "saved" / "empties" / "1" / "assets.extra" / "classes.txt"
    assert exported.read_text().split() == ["blue", "red", "nothing"]
    out = finished / "again"
    assert evaluate.main(["--run", str(run), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "background found empty" in told
    assert "object called background" in told
    again = json.loads((out / "metrics.json").read_text())["figures"]
    same = {"class_accuracy": "softmax_accuracy", "mean_iou": "bbox_iou", "top1_loc": "top1_loc"}
    same |= {"rejection": "rejection", "false_rejection": "false_rejection"}
    for name, key in same.items():
        assert again[name]["value"] == pytest.approx(metrics["test"][key], abs=1e-5)


# Pictures.


def test_a_gallery_draws_no_box_where_nothing_is():
    images = np.full((2, 20, 20, 1), 30, np.uint8)
    truth = {"softmax": np.array([2, 2]), "bbox": np.zeros((2, 4))}
    boxes_pred = np.tile([0.2, 0.2, 0.6, 0.6], (2, 1))
    right, wrong = [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]

    def cells(scores):
        answers = {"softmax": np.array(scores), "bbox": boxes_pred}
        picture = figure_to_array(draw_gallery(images, truth, answers, background=2))
        return [_count(picture[150:420, :360], colour) for colour in (TRUTH, PREDICTION)]

    assert cells([right, wrong]) == [0, 0]
    truth, prediction = cells([wrong, right])
    assert truth == 0
    assert prediction > 0


def _count(picture, colour):
    rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((np.abs(picture[..., :3].astype(int) - rgb).max(axis=-1) < 12).sum())


def test_a_gallery_shows_both_kinds_and_says_how_they_were_chosen():
    overlaps = np.array([0.9, 0.1, 0.5, 0.0, 0.0, 0.7])
    empty = np.array([False, False, False, True, True, False])
    chance = np.array([0.0, 0.0, 0.0, 0.95, 0.25, 0.0])
    choice = choose_examples(overlaps, "test", 6, background=chance, empty=empty)
    # Worst box first; of those without an object the surest false alarm.
    assert choice.indices.tolist() == [1, 2, 5, 0, 4, 3]
    assert choice.title == (
        "All 4 test images with an object, ordered by IoU, mean .55; 2 of 2 without one at even "
        "ranks of the background's probability: lowest .25"
    )
    only = choose_examples(overlaps[3:5], "val", 4, background=chance[3:5], empty=empty[3:5])
    assert only.indices.tolist() == [1, 0]
    plain = choose_examples(overlaps, "val", 2)
    assert plain.indices.tolist() == [3, 0]
    assert plain.title.startswith("2 of 6 val images at even ranks of IoU")
