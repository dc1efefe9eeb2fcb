"""Images that are the same, and splits that keep them together."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loc_keras.data.annotations import ImageRef
from loc_keras.data.duplicates import identical_groups, merged_groups
from loc_keras.data.load_records import grouped_folds, grouped_split, stratified_split
from loc_keras.errors import DataError


def test_files_of_the_same_bytes_share_a_group(tmp_path):
    contents = [b"one", b"two", b"one", b"three", b"two"]
    refs = []
    for i, content in enumerate(contents):
        (tmp_path / str(i)).write_bytes(content)
        refs.append(ImageRef(str(tmp_path / str(i))))
    assert identical_groups(refs).tolist() == [0, 1, 0, 3, 1]


def test_ranges_of_one_file_are_compared_by_their_bytes(tmp_path):
    (tmp_path / "shard").write_bytes(b"xxabcxxabcxabd")
    path = str(tmp_path / "shard")
    refs = [ImageRef(path, 2, 3), ImageRef(path, 7, 3), ImageRef(path, 11, 3)]
    assert identical_groups(refs).tolist() == [0, 0, 2]


def test_groups_are_joined_through_any_column():
    # Rows 0 and 1 by the first column, 1 and 3 by the second; None joins nothing.
    found = merged_groups(["a", "a", None, "b", None], [1, 2, None, 2, None])
    assert found.tolist() == [0, 0, 2, 0, 4]


sets = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.integers(0, max(1, n // 2)), min_size=n, max_size=n),
    )
)


@settings(deadline=None, max_examples=200)
@given(data=sets, val=st.floats(0, 0.45), test=st.floats(0, 0.45), seed=st.integers(0, 9))
def test_no_group_is_parted_and_no_item_lost(data, val, test, seed):
    labels, groups = (np.array(column) for column in data)
    assume(len(set(groups.tolist())) < len(groups))  # Otherwise it is the stratified split.
    parts = grouped_split(labels, groups, {"val": val, "test": test}, seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(labels)))
    held = [set(groups[index].tolist()) for index in parts.values()]
    assert sum(map(len, held)) == len(set(groups.tolist()))
    for name, fraction in (("val", val), ("test", test)):
        if fraction == 0:
            assert not len(parts[name])
    again = grouped_split(labels, groups, {"val": val, "test": test}, seed)
    assert all((parts[name] == again[name]).all() for name in parts)


@pytest.mark.parametrize("seed", range(3))
def test_groups_keep_the_shares_of_classes(seed):
    # 100 groups of three items; group g is of class g % 4: each class has 75 items.
    groups = np.repeat(np.arange(100), 3)
    labels = groups % 4
    parts = grouped_split(labels, groups, {"val": 0.2, "test": 0.12}, seed)
    for name, expected in (("train", 51), ("val", 15), ("test", 9)):
        counts = np.bincount(labels[parts[name]], minlength=4)
        # A group of three may go to either side of the exact share.
        assert np.abs(counts - expected).max() <= 3


def test_without_groups_it_is_the_stratified_split():
    labels = np.arange(50) % 3
    fractions = {"val": 0.2, "test": 0.1}
    one = grouped_split(labels, np.arange(50), fractions, 4)
    other = stratified_split(labels, fractions, 4, min_per_class=0)
    assert all((one[name] == other[name]).all() for name in other)


@pytest.mark.parametrize(
    ("classes", "each", "val", "test"),
    [(500, 9, 0.05, 0.0), (100, 6, 0.05, 0.05), (100, 3, 0.1, 0.1), (100, 14, 0.05, 0.0)],
)
def test_one_pair_changes_no_sizes(classes, each, val, test):
    # Small classes: a rounded quota of each would be nothing, or twice too much.
    labels = np.repeat(np.arange(classes), each)
    groups = np.arange(len(labels))
    groups[1] = groups[0]
    parts = grouped_split(labels, groups, {"val": val, "test": test}, 0)
    for name, fraction in (("val", val), ("test", test)):
        assert abs(len(parts[name]) - round(fraction * len(labels))) <= 1
        assert np.bincount(labels[parts[name]]).max(initial=0) <= max(1, np.ceil(fraction * each))


def test_many_classes_take_little_memory():
    labels = np.arange(200_000) % 1000
    groups = np.arange(200_000)
    groups[::50] = groups[1::50]
    parts = grouped_split(labels, groups, {"val": 0.1}, 0)
    assert abs(len(parts["val"]) - 20_000) <= 2


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=10, max_size=80),
    st.integers(2, 6),
    st.integers(0, 9),
)
def test_folds_share_nothing_and_part_no_group(items, folds, seed):
    labels, groups = (np.array(column) for column in zip(*items, strict=True))
    try:
        parts = grouped_folds(labels, groups, folds, seed)
    except DataError:
        assert np.bincount(groups).max() > 1  # Single images fill every fold.
        return
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(items)))
    assert len(parts) == folds and all(map(len, parts))
    held = [set(groups[part].tolist()) for part in parts]
    assert sum(map(len, held)) == len(set(groups.tolist()))


def test_single_images_of_small_classes_fill_every_fold():
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2])
    parts = grouped_folds(labels, np.array([0, 6, 7, 8, 9, 2, 3, 4, 5, 1]), 6, seed=0)
    assert sorted(map(len, parts)) == [1, 1, 2, 2, 2, 2]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(10))


def test_folds_have_their_share_of_each_class():
    labels = np.repeat([0, 1, 2], [50, 25, 10])
    for part in grouped_folds(labels, np.arange(85), 5, seed=3):
        # A fifth of each: 10, 5 and 2.
        np.testing.assert_array_equal(np.bincount(labels[part], minlength=3), [10, 5, 2])
    uneven = [len(part) for part in grouped_folds(np.zeros(13, int), np.arange(13), 5, seed=0)]
    assert sorted(uneven) == [2, 2, 3, 3, 3]
    again = grouped_folds(labels, np.arange(85), 5, seed=4)
    assert any(
        set(a) != set(b)
        for a, b in zip(again, grouped_folds(labels, np.arange(85), 5, 3), strict=True)
    )


def test_folds_that_groups_leave_empty_are_refused():
    with pytest.raises(DataError, match=r"6 images cannot be cut into 4 folds .* lower trust"):
        grouped_folds(np.zeros(6, int), np.repeat([0, 1], 3), 4, seed=0)
