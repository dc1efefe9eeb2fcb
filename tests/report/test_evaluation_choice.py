"""Which images the page of an evaluation shows: rules checked on rows made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.evaluation_sample import probabilities_of, sample_outcomes, sample_page
from hypothesis import given, settings
from hypothesis import strategies as st

from loc_keras.evaluation.figures import position_places, size_places
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.report.evaluation_content import (
    BEST,
    MISTAKES,
    OF_A_POSITION,
    OF_A_SIZE,
    WORST,
    Pixels,
    choose_best,
    choose_false_alarms,
    choose_pictures,
    choose_suspects,
    choose_worst,
    choose_wrong_classes,
    suspect_words,
    wanted_pictures,
)
from loc_keras.report.evaluation_report import evaluation_page


def rows_of(
    ious: list[float],
    labels: list[int] | None = None,
    predicted: list[int] | None = None,
    confidence: list[float] | None = None,
    background: int | None = None,
) -> Outcomes:
    """Outcomes with these IoUs: a predicted box of full height and as wide as the IoU says."""
    count = len(ious)
    truth = np.tile([0.0, 0.0, 100.0, 100.0], (count, 1))
    answers = truth.copy()
    answers[:, 2] = np.array(ious) * 100
    classes = 10
    sure = np.array(confidence or [0.5] * count)
    return Outcomes(
        labels=np.array(labels or [0] * count),
        probabilities=probabilities_of(np.array(predicted or labels or [0] * count), sure, classes),
        boxes_px=truth,
        boxes_pred_px=answers,
        sizes=np.full((count, 2), 100),
        background=background,
    )


def test_worst_has_least_iou_first_and_of_equal_ones_the_surest() -> None:
    rows = rows_of([0.5, 0.0, 0.9, 0.0, 0.1], confidence=[0.5, 0.6, 0.7, 0.8, 0.9])
    assert choose_worst(rows, rows.confidences).tolist() == [3, 1, 4, 0, 2]
    assert choose_worst(rows, rows.confidences, 2).tolist() == [3, 1]


def test_iou_that_is_no_number_counts_as_none() -> None:
    rows = rows_of([0.1, float("nan")])
    assert choose_worst(rows, rows.confidences).tolist() == [1, 0]


def test_best_needs_the_right_class_and_half_an_iou() -> None:
    rows = rows_of([0.9, 0.95, 0.49, 0.5, 0.9], [0] * 5, [0, 1, 0, 0, 0], [0.5, 0.9, 0.9, 0.9, 0.8])
    assert choose_best(rows, rows.confidences).tolist() == [4, 0, 3]
    assert choose_best(rows, rows.confidences, without=[4]).tolist() == [0, 3]


def test_images_without_an_object_are_in_galleries_of_their_own() -> None:
    rows = rows_of([0.0, 0.9, 0.0, 0.0], [2, 0, 2, 1], [1, 0, 2, 0], [0.6, 0.9, 0.8, 0.7], 2)
    assert choose_worst(rows, rows.confidences).tolist() == [3, 1]
    assert choose_best(rows, rows.confidences).tolist() == [1]
    assert choose_wrong_classes(rows, rows.confidences).tolist() == [3]
    assert choose_false_alarms(rows, rows.confidences).tolist() == [0]


def test_wrong_classes_are_surest_first() -> None:
    rows = rows_of([0.9] * 4, [0, 0, 1, 1], [1, 0, 0, 0], [0.3, 0.99, 0.4, 0.6])
    assert choose_wrong_classes(rows, rows.confidences, 2).tolist() == [3, 2]


def test_suspects_are_ordered_by_sureness_times_disagreement() -> None:
    # Products by hand: .95 x .6 = .57, .85 x .9 = .765, .9 x .75 = .675; the fourth is not sure
    # enough, the fifth agrees too well.
    rows = rows_of([0.4, 0.1, 0.25, 0.0, 0.5])
    chances = [0.95, 0.85, 0.9, 0.79, 0.99]
    assert choose_suspects(rows, chances).tolist() == [1, 2, 0]
    assert choose_suspects(rows, chances, 1).tolist() == [1]


def test_suspects_by_the_class_where_nothing_is_said_of_boxes() -> None:
    rows = rows_of([0.1, 0.1, 0.6], confidence=[0.89, 0.9, 1.0])
    assert choose_suspects(rows).tolist() == [1]
    # A model of one class is always sure of it, which speaks against no box.
    single = replace(rows, probabilities=np.ones((3, 1)))
    assert choose_suspects(single).tolist() == []
    assert choose_suspects(single, [0.9, 0.1, 0.9]).tolist() == [0]


def test_no_suspects_without_a_box_on_both_sides() -> None:
    rows = rows_of([0.0, 0.0, 0.0], [0, 2, 0], [2, 2, 1], [1.0, 1.0, 1.0], background=2)
    assert choose_suspects(rows).tolist() == [2]


def test_words_of_a_suspect() -> None:
    rows = rows_of([0.12], confidence=[0.97])
    assert "97 % sure of the class" in suspect_words(rows, 0)
    assert "81 % sure of the box" in suspect_words(rows, 0, [0.81])
    assert "IoU of .12" in suspect_words(rows, 0)


class Asked(dict[int, Pixels]):
    """Pictures that remember which were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: set[int] = set()

    def get(self, row: int, default: Pixels | None = None) -> Pixels | None:
        self.rows.add(row)
        return default


@pytest.mark.parametrize("background", [None, 2])
def test_wanted_pictures_are_those_that_the_page_asks_for(background: int | None) -> None:
    page = sample_page(200, ("a", "b", "c"), background=background, pictures=Asked())
    evaluation_page(page)
    wanted = wanted_pictures(page.outcomes, page.confidences, [one.index for one in page.suspects])
    assert isinstance(page.pictures, Asked)
    assert page.pictures.rows == set(wanted.tolist())


@settings(max_examples=30, deadline=None)
@given(
    images=st.integers(1, 300),
    classes=st.integers(1, 4),
    seed=st.integers(0, 1000),
    hollow=st.booleans(),
)
def test_choices_hold_together(images: int, classes: int, seed: int, hollow: bool) -> None:
    rows = sample_outcomes(images, classes, seed=seed, background=0 if hollow else None)
    choice = choose_pictures(rows, rows.confidences)
    assert set(choice.worst).isdisjoint(choice.best)
    assert rows.shown[np.concatenate([choice.worst, choice.best, choice.wrong_class])].all()
    assert not rows.shown[choice.false_alarms].any()
    assert (np.diff(rows.ious[choice.worst]) >= 0).all()
    assert (np.diff(rows.ious[choice.best]) <= 0).all()
    for groups, found, most in (
        (size_places(rows), choice.sizes, OF_A_SIZE),
        (position_places(rows), choice.positions, OF_A_POSITION),
    ):
        for place, members in found.items():
            assert (groups[members] == place).all() and 1 <= len(members) <= most
    wanted = wanted_pictures(rows, rows.confidences, choose_suspects(rows))
    assert (np.diff(wanted) > 0).all() and set(wanted) <= set(range(images))
    assert len(wanted) <= WORST + BEST + 2 * MISTAKES + 4 * OF_A_SIZE + 9 * OF_A_POSITION + 12
