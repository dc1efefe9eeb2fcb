"""Stratified splits: sizes and proportions worked out by hand."""

import numpy as np
import pytest

from loc_keras.data.load_records import empty_part, stratified_split
from loc_keras.errors import DataError

# Three classes of 50, 30 and 20 items.
LABELS = np.repeat([0, 1, 2], [50, 30, 20])


def test_every_class_is_cut_in_proportion():
    parts = stratified_split(LABELS, {"val": 0.1, "test": 0.2}, seed=3)
    # 10 % of 50, 30, 20 and 20 % of the same, by hand.
    assert np.bincount(LABELS[parts["val"]]).tolist() == [5, 3, 2]
    assert np.bincount(LABELS[parts["test"]]).tolist() == [10, 6, 4]
    assert np.bincount(LABELS[parts["train"]]).tolist() == [35, 21, 14]


def test_the_parts_share_nothing_and_lose_nothing():
    parts = stratified_split(LABELS, {"val": 0.13, "test": 0.21}, seed=0)
    together = np.concatenate(list(parts.values()))
    assert sorted(together.tolist()) == list(range(100))


def test_largest_remainders_fill_the_rounded_total():
    # 7 % of 50, 30, 20 is 3.5, 2.1, 1.4: floors 3, 2, 1 and the seventh goes to the .5.
    parts = stratified_split(LABELS, {"val": 0.07}, seed=0)
    assert np.bincount(LABELS[parts["val"]]).tolist() == [4, 2, 1]


def test_seed_decides_alone():
    first, again, other = (stratified_split(LABELS, {"val": 0.2}, seed=s)["val"] for s in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert set(first.tolist()) != set(other.tolist())


def test_fraction_zero_gives_an_empty_part():
    parts = stratified_split(LABELS, {"val": 0.0}, seed=0)
    assert parts["val"].size == 0
    assert parts["train"].size == 100


def test_a_class_that_is_too_small_is_named():
    labels = np.repeat([0, 7], [100, 4])
    with pytest.raises(DataError, match=r"class 7 has 4 images, which leaves 0 for the val split"):
        stratified_split(labels, {"val": 0.05}, seed=0)
    parts = stratified_split(labels, {"val": 0.05}, seed=0, min_per_class=0)
    assert np.bincount(labels[parts["train"]])[7] == 4


@pytest.mark.parametrize(("total", "least"), [(2, 0.5), (7, 0.15), (12, 0.084), (999, 0.0011)])
def test_the_sentence_about_an_empty_part_says_what_gives_one(total, least):
    # One of 2, 7, 12, 999 is 0.5, 0.1429, 0.0833, 0.001001, rounded up to the next place.
    sentence = empty_part("val", 0.0001, total)
    assert f"data.split.val 0.0001 of {total} images leaves none for validation" in sentence
    assert f"({least} gives one image)" in sentence
    parts = stratified_split(np.zeros(total), {"val": least}, seed=0, min_per_class=0)
    assert len(parts["val"]) == 1


def test_one_image_cannot_be_cut():
    assert empty_part("test", 0.3, 1) == (
        "data.split.test 0.3 of 1 images leaves none for testing; give more images."
    )


@pytest.mark.parametrize("fractions", [{"val": 1.0}, {"val": -0.1}, {"val": 0.5, "test": 0.5}])
def test_fractions_out_of_range(fractions):
    with pytest.raises(DataError, match="split fractions"):
        stratified_split(LABELS, fractions, seed=0)
