"""Figures of an evaluation: against plain loops, the training metrics, and sums done by hand."""

import math
import statistics
from dataclasses import replace

import keras
import numpy as np
import pytest
from helpers import reference_figures as reference
from helpers.outcome_examples import random_outcomes
from helpers.reference_boxes import iou as reference_iou
from helpers.reference_boxes import rowwise
from hypothesis import given, settings
from hypothesis import strategies as st

from loc_keras import boxes, metrics
from loc_keras.errors import ConfigError, DataError, ModelError
from loc_keras.evaluation.figures import (
    FIGURES,
    baseline_boxes,
    confusion,
    evaluate,
    figures_of,
    run_figures,
)
from loc_keras.evaluation.outcomes import (
    Bootstrap,
    Evaluation,
    Outcomes,
    corner_errors,
    paired_iou,
    top_k_hits,
)
from loc_keras.metrics import bbox_metrics, joint_metrics

NAMES = [f"class {index}" for index in range(8)]
BACKGROUND = 3
TRAIN_BOXES = np.sort(np.random.default_rng(5).random((31, 2, 2)), axis=1).reshape(31, 4)
CASES = (None, BACKGROUND)
FEW = 20  # Resamples, where intervals do not matter.


def evaluated(outcomes: Outcomes) -> Evaluation:
    return evaluate(outcomes, NAMES, TRAIN_BOXES, resamples=FEW)


def values(figures_by_name: object) -> dict[str, float]:
    return {name: one.value for name, one in dict(figures_by_name).items()}


# Image by image.


def test_iou_and_corner_error_by_hand() -> None:
    # (0, 0, 4, 4) and (2, 1, 6, 4): 2 x 3 = 6 shared, 16 + 12 - 6 = 22 in all. The top left
    # corners are sqrt(4 + 1) apart, the bottom right ones 2.
    truth, said = [[0, 0, 4, 4]], [[2, 1, 6, 4]]
    assert paired_iou(truth, said)[0] == pytest.approx(6 / 22)
    assert corner_errors(truth, said)[0] == pytest.approx((math.sqrt(5) + 2) / 2)


def test_boxes_without_area_or_apart_overlap_by_nothing() -> None:
    point, box, far = [1, 1, 1, 1], [0, 0, 2, 2], [5, 5, 6, 6]
    assert paired_iou([point, box, point], [point, far, box]).tolist() == [0, 0, 0]


coordinates = st.floats(-2, 2, width=32)
box_pairs = st.lists(st.lists(coordinates, min_size=8, max_size=8), min_size=1, max_size=8)


@settings(deadline=None)
@given(box_pairs)
def test_iou_is_that_of_the_training_room_and_of_the_reference(rows: list[list[float]]) -> None:
    # Inverted boxes and such without area included. Beside the threshold below which an area
    # counts as none, float32 and float64 may fall on different sides.
    pairs = np.array(rows, np.float64).reshape(-1, 2, 4)
    ours = paired_iou(pairs[:, 0], pairs[:, 1])
    np.testing.assert_allclose(ours, rowwise(reference_iou, pairs[:, 0], pairs[:, 1]), atol=1e-12)
    theirs = np.asarray(boxes.iou(pairs[:, 0], pairs[:, 1]))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=7, max_size=7), min_size=1, max_size=6),
    st.integers(1, 8),
    st.data(),
)
def test_top_k_breaks_ties_as_the_training_metric(rows, k, data) -> None:
    scores = np.array(rows, np.float32) / 4
    labels = np.array([data.draw(st.integers(0, 6)) for _ in rows])
    expected = np.asarray(metrics.hits_top_k(labels, scores, k))
    np.testing.assert_array_equal(top_k_hits(labels, scores, k), expected)
    ranked = [label in reference.ranking(row)[:k] for label, row in zip(labels, rows, strict=True)]
    assert top_k_hits(labels, scores, k).tolist() == ranked


def test_nan_never_helps_the_true_class() -> None:
    scores = np.array([[np.nan, 0.2, 0.8], [0.5, np.nan, 0.1]])
    assert top_k_hits([0, 1], scores, 1).tolist() == [False, False]


def test_outcomes_of_an_image_without_an_object() -> None:
    outcomes = random_outcomes(40, background=BACKGROUND)
    empty = outcomes.labels == BACKGROUND
    assert empty.any() and not empty.all()
    np.testing.assert_array_equal(outcomes.shown, ~empty)
    assert np.isnan(outcomes.ious[empty]).all() and np.isfinite(outcomes.ious[~empty]).all()
    assert np.isnan(outcomes.corner_errors_px[empty]).all()
    assert not outcomes.box_hits[empty].any()
    assert (outcomes.covers[empty] == 0).all()


# Against other readings.


@pytest.mark.parametrize("background", CASES)
def test_every_figure_is_that_of_plain_loops(background: int | None) -> None:
    outcomes = random_outcomes(background=background)
    found, rows = evaluated(outcomes), reference.rows_of(outcomes)
    expected = reference.figures(rows)
    if background is not None:
        empty = [row["order"][0] == background for row in rows if not row["shown"]]
        objects = [row["order"][0] == background for row in rows if row["shown"]]
        expected |= {"rejection": statistics.fmean(empty)}
        expected |= {"false_rejection": statistics.fmean(objects)}
    assert values(found.figures) == pytest.approx(expected, abs=1e-12)
    assert values(found.errors) == pytest.approx(reference.errors(rows), abs=1e-12)
    shown = [row for row in rows if row["shown"]]
    groupings = (
        (found.classes, rows, lambda row: row["label"]),
        (found.sizes, shown, reference.size_place),
        (found.positions, shown, reference.position_place),
    )
    for groups, members, place_of in groupings:
        for place, group in enumerate(groups):
            part = [row for row in members if place_of(row) == place]
            assert group.images == len(part) > 0
            expected = reference.figures(part)
            assert values(group.figures) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    table = [[0] * 8 for _ in range(8)]
    for row in rows:
        table[row["label"]][row["order"][0]] += 1
    assert found.confusion.tolist() == table
    # Medians by `statistics`, coordinate by coordinate.
    constant = [statistics.median(column) for column in TRAIN_BOXES.T.tolist()]
    wide = statistics.median((TRAIN_BOXES[:, 2] - TRAIN_BOXES[:, 0]).tolist())
    tall = statistics.median((TRAIN_BOXES[:, 3] - TRAIN_BOXES[:, 1]).tolist())
    centre = [0.5 - wide / 2, 0.5 - tall / 2, 0.5 + wide / 2, 0.5 + tall / 2]
    for name, box in (("constant box", constant), ("centre box", centre)):
        assert values(found.baselines[name]) == pytest.approx(reference.floor(rows, box), abs=1e-12)


def training_figures(outcomes: Outcomes) -> dict[str, float]:
    """What the Keras metrics of training make of the same answers, by the keys of a run."""
    scale = np.tile(outcomes.sizes[:, ::-1], 2)
    of = outcomes.take(outcomes.shown)
    truth = {"softmax": of.labels, "bbox": (of.boxes_px / scale[outcomes.shown]).astype("float32")}
    said = {
        "softmax": of.probabilities,
        "bbox": (of.boxes_pred_px / scale[outcomes.shown]).astype("float32"),
    }
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    accuracy.update_state(outcomes.labels, outcomes.probabilities)
    found = {"softmax_accuracy": float(accuracy.result())}
    for metric in bbox_metrics():
        metric.update_state(truth["bbox"], said["bbox"])
        found[f"bbox_{metric.name}"] = float(metric.result())
    for metric in joint_metrics(outcomes.probabilities.shape[1]):
        metric.update_state(truth, said)
        found[metric.name] = float(metric.result())
    if outcomes.background is not None:
        rejected = outcomes.probabilities.argmax(axis=1) == outcomes.background
        found["rejection"] = float(rejected[~outcomes.shown].mean())
        found["false_rejection"] = float(rejected[outcomes.shown].mean())
    return found


@pytest.mark.parametrize("classes", [3, 8])
@pytest.mark.parametrize("background", [None, 2])
def test_every_shared_figure_is_that_of_the_training_metrics(background, classes) -> None:
    outcomes = random_outcomes(2000, classes, background=background, seed=9)
    found, expected = run_figures(outcomes), training_figures(outcomes)
    counts = {"images": 2000}
    if background is not None:
        counts["object_images"] = int((outcomes.labels != background).sum())
    assert {name: found.pop(name) for name in counts} == counts
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("classes", [1, 3, 8])
@pytest.mark.parametrize("background", [None, 0])
def test_a_run_and_its_evaluation_have_the_same_figures_to_the_bit(background, classes) -> None:
    outcomes = random_outcomes(777, classes, background=background, seed=4)
    run = run_figures(outcomes)
    found = evaluate(outcomes, NAMES[:classes], TRAIN_BOXES, resamples=FEW).figures
    for figure in FIGURES.values():
        if figure.run_key and figure.key in found and found[figure.key].images:
            assert run[figure.run_key] == found[figure.key].value, figure.key
    assert run.get("classes") == (1 if classes == 1 else None)


# What is there, and in which order.


def test_figures_are_in_the_order_that_is_promised() -> None:
    assert list(evaluated(random_outcomes()).figures) == reference.KEYS
    rejecting = evaluated(random_outcomes(background=BACKGROUND))
    assert list(rejecting.figures) == [*reference.KEYS, "rejection", "false_rejection"]
    assert all(list(group.figures) == reference.KEYS for group in rejecting.classes)


@pytest.mark.parametrize("classes", [1, 5])
def test_top5_figures_need_more_than_five_classes(classes: int) -> None:
    found = evaluate(random_outcomes(30, classes), NAMES[:classes], TRAIN_BOXES, resamples=FEW)
    assert list(found.figures) == [name for name in reference.KEYS if not name.startswith("top5")]


def test_counts_of_images() -> None:
    outcomes = random_outcomes(background=BACKGROUND)
    found = evaluated(outcomes)
    objects = int((outcomes.labels != BACKGROUND).sum())
    assert (found.images, found.object_images) == (300, objects)
    counts = {name: one.images for name, one in found.figures.items()}
    assert counts["class_accuracy"] == counts["top5_accuracy"] == 300
    assert counts["mean_iou"] == counts["top1_loc"] == counts["false_rejection"] == objects
    assert counts["rejection"] == 300 - objects
    assert sum(group.images for group in found.sizes) == objects
    assert sum(group.images for group in found.positions) == objects
    assert sum(one.value for one in found.errors.values()) == pytest.approx(1)


def test_the_class_of_images_without_an_object_has_no_box_figures() -> None:
    group = evaluated(random_outcomes(background=BACKGROUND)).classes[BACKGROUND]
    assert group.images > 0 and group.figures["class_accuracy"].images == group.images
    assert math.isnan(group.figures["mean_iou"].value) and group.figures["mean_iou"].images == 0


def test_a_class_without_images_and_a_split_without_objects() -> None:
    outcomes = random_outcomes(background=BACKGROUND)
    some = evaluated(outcomes.take(outcomes.labels != 0))
    assert some.classes[0].images == 0
    assert math.isnan(some.classes[0].figures["class_accuracy"].value)
    none = evaluated(outcomes.take(outcomes.labels == BACKGROUND))
    assert none.object_images == 0
    for figure in (none.figures["mean_iou"], none.errors["right"], none.figures["median_iou"]):
        assert math.isnan(figure.value) and figure.images == 0
    assert math.isnan(none.baselines["constant box"]["acc50"].value)
    assert none.figures["rejection"].value == none.figures["class_accuracy"].value


def test_groups_by_size_hold_their_lower_bound() -> None:
    # In a picture of 100 x 100 px: 4.99, 5, 19.99, 20, 49.99, 50 and 100 % covered.
    heights = np.array([4.99, 5, 19.99, 20, 49.99, 50, 100])
    boxes_px = np.stack([0 * heights, 0 * heights, 0 * heights + 100, heights], axis=1)
    groups = evaluate(one_class(boxes_px, (100, 100)), ["a"], TRAIN_BOXES, resamples=FEW).sizes
    assert [group.images for group in groups] == [1, 2, 2, 2]
    assert groups[1].name == "5 to 20 % of the picture"


def test_groups_by_position_are_row_by_row() -> None:
    # Height 90, width 300: the fields are 30 high and 100 wide. Centres (x, y): (250, 10) is top
    # right, (10, 80) bottom left, (150, 45) the middle, (100, 30) lies on the lines between four.
    centres = np.array([[250, 10], [10, 80], [150, 45], [100, 30]])
    boxes_px = np.concatenate([centres - 1, centres + 1], axis=1).astype(np.float64)
    groups = evaluate(one_class(boxes_px, (90, 300)), ["a"], TRAIN_BOXES, resamples=FEW).positions
    assert [group.images for group in groups] == [0, 0, 1, 0, 2, 0, 1, 0, 0]
    assert [groups[2].name, groups[4].name, groups[6].name] == [
        "top right",
        "centre",
        "bottom left",
    ]


def one_class(boxes_px: np.ndarray, size: tuple[int, int]) -> Outcomes:
    images = len(boxes_px)
    return Outcomes(
        labels=np.zeros(images, np.int32),
        probabilities=np.ones((images, 1)),
        boxes_px=boxes_px,
        boxes_pred_px=boxes_px,
        sizes=np.tile(np.array([size], np.int32), (images, 1)),
    )


def test_confusion_by_hand() -> None:
    outcomes = replace(
        one_class(np.zeros((4, 4)), (9, 9)),
        labels=np.array([0, 0, 1, 2], np.int32),
        probabilities=np.array([[0.9, 0.1, 0], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0.5, 0.5, 0]]),
    )
    assert confusion(outcomes).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_baselines_by_hand() -> None:
    train = [[0, 0.2, 0.4, 0.6], [0.2, 0.2, 0.8, 0.8], [0.1, 0, 0.9, 0.8]]
    assert baseline_boxes(train)["constant box"] == pytest.approx([0.1, 0.2, 0.8, 0.8])
    # Widths .4, .6, .8 and heights .4, .6, .8: .6 x .6 around the middle.
    assert baseline_boxes(train)["centre box"] == pytest.approx([0.2, 0.2, 0.8, 0.8])


def test_training_images_without_an_object_do_not_count_for_the_baselines() -> None:
    outcomes = random_outcomes(60, background=BACKGROUND)
    with_empty = np.concatenate([TRAIN_BOXES, np.zeros((500, 4))])
    found = evaluate(outcomes, NAMES, with_empty, resamples=FEW)
    assert found.baselines == evaluated(outcomes.take(np.arange(60))).baselines
    assert evaluate(outcomes, NAMES, np.zeros((9, 4)), resamples=FEW).baselines == {}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_figures_keep_their_order_among_each_other(seed: int) -> None:
    outcomes = random_outcomes(40, background=BACKGROUND, seed=seed)
    found = figures_of(outcomes, Bootstrap(resamples=FEW))
    assert found["acc90"].value <= found["acc75"].value <= found["acc50"].value
    assert found["top1_loc"].value <= found["top5_loc"].value <= found["gt_known_loc"].value
    assert found["class_accuracy"].value <= found["top5_accuracy"].value
    for name, one in found.items():
        assert 0 <= one.low <= one.high <= (math.inf if FIGURES[name].unit == "px" else 1)


# What cannot be measured.


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"labels": np.full(300, 8, np.int32)}, DataError, "Image 1 has the label 8"),
        ({"boxes_px": np.zeros((299, 4))}, DataError, r"boxes_px of the shape \(300, 4\)"),
        ({"probabilities": np.ones((300, 7))}, ModelError, r"\(300, 8\), but have \(300, 7\)"),
        ({"boxes_pred_px": np.full((300, 4), np.nan)}, ModelError, "300 of 300 images"),
        ({"probabilities": np.full((300, 8), np.inf)}, ModelError, "NaN or infinity"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, error, words) -> None:
    with pytest.raises(error, match=words):
        evaluated(replace(random_outcomes(), **change))


@pytest.mark.parametrize(("level", "resamples"), [(0, 10), (1, 10), (95, 10), (0.95, 0)])
def test_intervals_out_of_range_are_refused(level: float, resamples: int) -> None:
    with pytest.raises(ConfigError):
        evaluate(random_outcomes(9), NAMES, TRAIN_BOXES, level=level, resamples=resamples)


# Near duplicates of training images.


def test_figures_without_near_duplicates_are_those_of_the_other_images() -> None:
    outcomes = random_outcomes(40, 8, background=BACKGROUND, seed=3)
    leaked = np.arange(40) % 3 == 0
    found = evaluate(outcomes, NAMES, TRAIN_BOXES, leaked=leaked, resamples=FEW)
    # By loops over rows, of the 26 images that are left.
    kept = np.flatnonzero(~leaked)
    assert found.apart is not None
    assert found.apart.images == len(kept) == 26
    hits = [int(outcomes.probabilities[row].argmax() == outcomes.labels[row]) for row in kept]
    assert found.apart.figures["class_accuracy"].value == pytest.approx(statistics.mean(hits))
    ious = [
        float(rowwise(reference_iou, outcomes.boxes_px[[row]], outcomes.boxes_pred_px[[row]])[0])
        for row in kept
        if outcomes.labels[row] != BACKGROUND
    ]
    assert found.apart.figures["mean_iou"].value == pytest.approx(statistics.mean(ious))
    assert set(found.apart.figures) == set(found.figures)
    assert values(found.figures) == values(evaluated(outcomes).figures)
    assert evaluated(outcomes).apart is None
    nothing = evaluate(outcomes, NAMES, TRAIN_BOXES, leaked=np.ones(40, bool), resamples=FEW)
    assert nothing.apart is not None
    assert nothing.apart.images == 0
    assert math.isnan(nothing.apart.figures["mean_iou"].value)
