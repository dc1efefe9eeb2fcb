"""Objects by columns: what they are joined of, taken and compared by; expected values by hand."""

import numpy as np

from loc_keras.data.annotations import Annotated, Annotations, ImageRef, Objects, Subject

A, B = ImageRef("a.png"), ImageRef("b.png")
BOX = (1.0, 2.0, 3.0, 4.0)


def one(image=A, label="cat", box=BOX, row=1, **more):
    return Annotated(image, image.path, label, box, "t.csv", row, **more)


def test_items_and_columns_are_joined_in_their_order():
    subjects = [Subject(B, "b.png", "t.csv"), Subject(A, "a.png", "t.csv")]
    # Of the subjects and labels the first of each is used by none; "dog" is named twice.
    columns = Objects.of_columns(subjects, ["ox", "dog", "dog"], [1, 1], [2, 1], [BOX, BOX], [7, 8])
    joined = Objects.joined([one(B, row=3), columns, one(row=9, size=(5, 6))])
    assert joined == [
        one(B, row=3),
        one(label="dog", row=7),
        one(label="dog", row=8),
        one(row=9, size=(5, 6)),
    ]
    assert (joined.labels, joined.label.tolist()) == (["cat", "dog"], [0, 1, 1, 0])
    assert (joined.images, joined.image.tolist()) == ({B: 0, A: 1}, [0, 1, 1, 1])
    assert joined.first.tolist() == [0, 1]
    assert joined.declared.tolist() == [[0, 0], [0, 0], [0, 0], [5, 6]]
    assert joined.label_counts() == {"cat": 2, "dog": 2}


def test_nothing_is_a_column_too():
    nothing = Objects.joined([])
    assert nothing == [] and not nothing and nothing.boxes.shape == (0, 4)
    assert nothing.images == {} and nothing.label_counts() == {}


def test_parts_know_only_what_occurs_in_them():
    joined = Objects.joined([one(), one(B, "dog", row=2), one(B, "cat", row=3)])
    part = joined.take(np.array([2, 1]))
    assert part == [one(B, "cat", row=3), one(B, "dog", row=2)]
    assert (list(part.images), part.labels) == ([B], ["cat", "dog"])
    assert joined[1:] == [one(B, "dog", row=2), one(B, "cat", row=3)] and joined[-1].row == 3
    assert joined.take(joined.rows == 1) == [one()]


def test_labels_that_become_one_are_one():
    joined = Objects.joined([one(label="a"), one(label="b"), one(label="c")])
    renamed = joined.renamed({"b": "a"})
    assert (renamed.labels, renamed.label.tolist()) == (["a", "c"], [0, 0, 1])


def test_objects_that_are_written_again():
    nan = (float("nan"), 2.0, 3.0, 4.0)
    items = [one(), one(label="dog"), one(row=5), one(B), one(box=(1, 2, 3, 5)), one(row=6)]
    items += [one(box=nan), one(box=nan), one(box=(0.0, 2, 3, 4)), one(box=(-0.0, 2, 3, 4))]
    joined = Objects.joined(items)
    assert joined.firsts().tolist() == [0, 1, 0, 3, 4, 0, 6, 7, 8, 8]
    assert joined.firsts(np.arange(10) % 2).tolist() == [0, 1, 0, 3, 4, 5, 6, 7, 8, 9]
    assert joined.distinct().tolist() == [6, 1]


def test_splits_of_all_objects():
    annotations = Annotations({"train": [one()], "test": [one(B), one(B, "dog")]}, "pixel")
    assert annotations.joined == [one(), one(B), one(B, "dog")]
    assert annotations.split.tolist() == [0, 2, 2]
