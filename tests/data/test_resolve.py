"""From annotations to records: rules for boxes, classes, orientation, several objects, splits."""

import numpy as np
import pytest
from helpers.annotated import resolved
from PIL import Image

from loc_keras.config.data import SourceConfig, SplitConfig
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    Fault,
    ImageRef,
    class_index,
    class_indices,
    infer_class_names,
)
from loc_keras.data.check.run import quick_check
from loc_keras.data.formats.parsing import read_class_names
from loc_keras.data.load_records import load_records
from loc_keras.data.resolve import usable_boxes
from loc_keras.errors import DataError

ORIENTATION_TAG = 0x0112  # EXIF 2.3, table 4.


def make_image(path, size=(20, 10), orientation=1, value=0):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    Image.new("RGB", size, (value,) * 3).save(path, exif=exif)
    return str(path)


def annotated(path, box, label="cat", row=1, **facts):
    return Annotated(
        ImageRef(path), path.rsplit("/", 1)[-1], label, box, "labels.txt", row, **facts
    )


def annotations(*objects, units="pixel", **facts):
    return Annotations({"train": list(objects)}, units, **facts)


def checked(*objects):
    return quick_check(annotations(*objects), SourceConfig())


# Boxes


def judged(box, size):
    """The one box in fractions, and what is wrong with it or None."""
    sizes = None if size is None else np.array([size])
    usable, faults = usable_boxes(np.array([box], float), sizes)
    assert np.isnan(usable).all() == bool(faults)
    return tuple(usable[0].tolist()), faults.get(0)


def test_boxes_in_px_become_fractions():
    assert judged((2, 1, 12, 9), (20, 10)) == ((0.1, 0.1, 0.6, 0.9), None)


@pytest.mark.parametrize(
    ("box", "size", "kind"),
    [
        ((float("nan"), 0, 1, 1), None, "not_finite"),
        ((0, 0, float("inf"), 1), None, "not_finite"),
        ((0.5, 0, 0.4, 1), None, "inverted"),
        ((0, 0.3, 1, 0.3), None, "zero_area"),
        ((0, 0, 1.01, 1), None, "outside_image"),
        ((0, 0, 22, 10), (20, 10), "outside_image"),
        ((20.5, 0, 20.9, 10), (20, 10), "outside_image"),
        # Thinner than the step of float32 at .5, which is 6e-8.
        ((0.5, 0, 0.5 + 1e-11, 1), None, "zero_area"),
    ],
)
def test_boxes_that_cannot_be_used(box, size, kind):
    assert judged(box, size)[1].kind == kind


def test_a_pixel_or_a_rounding_too_far_is_clipped():
    assert judged((-1, 0, 21, 10), (20, 10)) == ((0, 0, 1, 1), None)
    assert judged((0, 0, 1.0005, 1), None) == ((0, 0, 1, 1), None)


def test_fractions_that_must_be_pixels_are_asked_about():
    assert "are the boxes in pixels" in judged((10, 10, 50, 60), None)[1].reason


# Classes


@pytest.mark.parametrize(
    ("labels", "given", "names", "indices"),
    [
        (("2", "0"), None, ["0", "1", "2"], [2, 0]),
        (("3", "11"), None, ["3", "11"], [0, 1]),
        (("b", "a"), None, ["a", "b"], [1, 0]),
        (("b", "a"), ["b", "a", "c"], ["b", "a", "c"], [0, 1]),
        (("2", "0"), ["zero", "one", "two"], ["zero", "one", "two"], [2, 0]),
        (("02", "0"), None, ["0", "1", "2"], [2, 0]),
        (("02", "1"), ["zero", "one", "two"], ["zero", "one", "two"], [2, 1]),
        # Identifiers: as indices they would make a billion classes.
        (("1000000000", "0"), None, ["0", "1000000000"], [1, 0]),
        (("10001", "0"), None, ["0", "10001"], [1, 0]),
    ],
)
def test_class_indices(labels, given, names, indices):
    found = given or infer_class_names(set(labels))
    assert found == names
    assert [class_index(label, class_indices(found)) for label in labels] == indices


@pytest.mark.parametrize("names", [("1", "3", "5"), ("cat", "7", "dog")])
def test_a_number_is_no_index_where_names_are_numbers(names):
    assert class_index("2", class_indices(names)) is None


def test_whole_numbers_are_indices_up_to_ten_thousand_or_ten_times_the_labels():
    assert len(infer_class_names({"10000", "0"})) == 10_001
    assert len(infer_class_names({str(10 * i) for i in range(2001)})) == 20_001


def test_a_number_of_thousands_of_digits_is_a_name():
    assert infer_class_names({"9" * 5000, "0"}) == ["0", "9" * 5000]


def test_class_names_from_a_file(tmp_path):
    # The mark that editors put at the beginning is no part of a name; ü is composed or not.
    content = "\ufeffeggplant\n mushroom \r\nru\u0308be\n\n"
    (tmp_path / "names.txt").write_bytes(content.encode())
    assert read_class_names(str(tmp_path), "names.txt") == ["eggplant", "mushroom", "r\xfcbe"]
    for text, told in (
        ("a\n\nb\n", "line 2 is empty"),
        ("\na\n", "line 1 is empty"),
        ("a\n\ufeffb\n", r"line 2 '\\ufeffb' has a sign that does not show \(U\+FEFF\)"),
        ("b\u00fc\nbu\u0308\n", "names b\xfc more than once"),
    ):
        (tmp_path / "wrong.txt").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=told):
            read_class_names(str(tmp_path), "wrong.txt")
    (tmp_path / "twice.txt").write_text("a\nb\na\n")
    with pytest.raises(DataError, match="names a more than once"):
        read_class_names(str(tmp_path), "twice.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        read_class_names(str(tmp_path), "empty.txt")
    with pytest.raises(DataError, match="leads out of the data folder"):
        read_class_names(str(tmp_path), "../names.txt")


# Records


def test_pixel_boxes_exact_inclusive_and_as_the_format_says(tmp_path):
    path = make_image(tmp_path / "a.png")
    one = annotated(path, (0, 0, 9, 9))
    expected = {
        (True, None): [0, 0, 0.45, 0.9],
        (False, None): [0, 0, 0.5, 1.0],
        (True, True): [0, 0, 0.5, 1.0],
        (False, False): [0, 0, 0.45, 0.9],
    }
    for (exact, inclusive), box in expected.items():
        rules = SourceConfig(inclusive_pixels=inclusive)
        found = resolved(annotations(one, exact=exact), rules).splits["train"]
        np.testing.assert_allclose(found.boxes[0], box, rtol=1e-6)
    assert found.sizes.tolist() == [[10, 20]]


def test_exif_orientation_turns_boxes_and_sizes(tmp_path):
    # Orientation 6: the stored picture must be turned clockwise, so its left edge is on top. A
    # box over the left quarter of 20 x 10 px becomes the top quarter of 10 x 20 px.
    path = make_image(tmp_path / "a.jpg", orientation=6)
    stored, upright = (0.0, 0.0, 5.0, 10.0), (0.0, 0.0, 10.0, 5.0)
    cases = [
        ("apply", "stored", stored, [0, 0, 1, 0.25], [20, 10], 6),
        ("apply", "upright", upright, [0, 0, 1, 0.25], [20, 10], 6),
        ("ignore", "stored", stored, [0, 0, 0.25, 1], [10, 20], 1),
        ("ignore", "upright", upright, [0, 0, 0.25, 1], [10, 20], 1),
    ]
    for exif, boxes_on, written, box, size, orientation in cases:
        rules = SourceConfig(exif=exif, boxes_on=boxes_on)
        found = resolved(annotations(annotated(path, written)), rules).splits["train"]
        np.testing.assert_allclose(found.boxes[0], box, atol=1e-6)
        assert found.sizes.tolist() == [size]
        assert found.orientations.tolist() == [orientation]


def test_everything_left_out_has_a_reason(tmp_path):
    good = make_image(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no picture")
    objects = [
        annotated(good, (0, 0, 5, 5), row=1),
        annotated(str(tmp_path / "none.png"), (0, 0, 5, 5), row=2),
        annotated(str(tmp_path / "text.png"), (0, 0, 5, 5), row=3),
        annotated(make_image(tmp_path / "b.png"), (5, 0, 4, 5), row=4),
        annotated(good, (0, 0, 5, 5), row=5),
    ]
    given = annotations(*objects, faults=[Fault("labels.txt", 6, "has 2 columns", "columns")])
    found = resolved(given, SourceConfig())
    assert found.splits["train"].rows.tolist() == [1]
    assert [(fault.row, fault.kind) for fault in found.faults] == [
        (2, "missing_image"),
        (3, "not_image"),
        (4, "inverted"),
        (5, "duplicate_row"),
        (6, "columns"),
    ]
    # A row written twice loses nothing.
    assert [fault.row for fault in found.errors] == [2, 3, 4, 6]


def test_labels_must_be_known(tmp_path):
    path = make_image(tmp_path / "a.png")
    given = annotations(annotated(path, (0, 0, 5, 5), label="cow"))
    found = resolved(given, SourceConfig(class_names=("cat", "dog")))
    assert found.faults[0].reason == "column label: 'cow' is not one of the 2 classes"
    # Without given names the training split decides.
    val = annotated(make_image(tmp_path / "b.png"), (0, 0, 5, 5), label="dog")
    found = resolved(
        Annotations({"train": given.objects["train"], "val": [val]}, "pixel"), SourceConfig()
    )
    assert found.class_names == ["cow"]
    assert "val" not in found.splits
    assert found.faults[0].kind == "label"


def test_several_objects_by_policy(tmp_path):
    path = make_image(tmp_path / "a.png")
    pair = [annotated(path, (0, 0, 5, 5), row=1), annotated(path, (6, 0, 20, 10), row=2)]
    sizes = {}
    for policy in ("skip", "first", "largest", "crop"):
        found = resolved(annotations(*pair), SourceConfig(several=policy))
        sizes[policy] = found.splits["train"].rows.tolist() if found.splits else []
        assert not found.errors
    assert sizes == {"skip": [], "first": [1], "largest": [2], "crop": [1, 2]}


# Splits


def many(tmp_path, count, same=0):
    """`count` pictures of two classes; the last `same` are copies of the first, of its class."""
    objects = []
    for i in range(count):
        value = 0 if i >= count - same else i
        path = make_image(tmp_path / f"{i}.png", value=value)
        objects.append(annotated(path, (0, 0, 5, 5), label="ab"[value % 2], row=i + 1))
    return objects


def test_missing_splits_are_cut_off(tmp_path):
    found = load_records(
        checked(*many(tmp_path, 40)),
        SplitConfig(val=0.2, test=0.1, together="identical"),
    )
    assert {name: len(part) for name, part in found.splits.items()} == {
        "train": 28,
        "val": 8,
        "test": 4,
    }
    rows = np.concatenate([part.rows for part in found.splits.values()])
    assert sorted(rows.tolist()) == list(range(1, 41))
    assert found.notes == ["Images for val and test were cut off the training images."]


def test_identical_images_are_never_parted(tmp_path):
    objects = many(tmp_path, 30, same=9)
    for seed in range(5):
        found = load_records(
            checked(*objects),
            SplitConfig(val=0.3, test=0.2, together="identical"),
            seed=seed,
        )
        holders = {
            name
            for name, part in found.splits.items()
            if set(part.rows.tolist()) & {1, *range(22, 31)}
        }
        assert len(holders) == 1
        assert sum(len(part) for part in found.splits.values()) == 30


def test_groups_of_the_data_are_never_parted(tmp_path):
    objects = [one._replace(group=str(one.row % 4)) for one in many(tmp_path, 24)]
    found = load_records(checked(*objects), SplitConfig(val=0.25, test=0.25, together="identical"))
    holders = [set(part.groups.tolist()) for part in found.splits.values()]
    assert len(holders) == 3
    assert sum(len(groups) for groups in holders) == 4


def test_errors_stop_or_are_left_out(tmp_path):
    objects = [*many(tmp_path, 12), annotated(str(tmp_path / "none.png"), (0, 0, 1, 1), row=13)]
    with pytest.raises(DataError, match=r"1 object cannot be used: labels.txt: row 13 image"):
        load_records(checked(*objects), SplitConfig(val=0.2, test=0.2, together="identical"))
    found = load_records(
        checked(*objects),
        SplitConfig(val=0.2, test=0.2, together="identical"),
        on_error="skip",
    )
    assert [fault.row for fault in found.faults] == [13]
    with pytest.raises(DataError, match=r"no object is left for training.*missing_image"):
        load_records(
            checked(objects[-1]),
            SplitConfig(val=0.2, test=0.2, together="identical"),
            on_error="skip",
        )


def test_a_given_split_is_never_cut_off_the_training_images(tmp_path):
    train = many(tmp_path, 20)
    pair = make_image(tmp_path / "pair.png", value=99)
    held = [annotated(pair, (0, 0, 5, 5), row=1), annotated(pair, (6, 0, 20, 10), row=2)]
    held = [one._replace(file="test.txt", label="a") for one in held]
    given = Annotations({"train": train, "test": held}, "pixel")
    found = load_records(
        quick_check(given, SourceConfig()), SplitConfig(val=0.2, test=0.2, together="identical")
    )
    assert sorted(found.splits) == ["train", "val"]
    assert any(note.startswith("no object is left for testing") for note in found.notes)
    given = Annotations({"train": train, "val": held}, "pixel")
    with pytest.raises(DataError, match=r"no object is left for validation: .* 2 of kind several"):
        load_records(
            quick_check(given, SourceConfig()), SplitConfig(val=0.2, test=0.2, together="identical")
        )


def test_a_lost_image_is_dropped_though_its_row_has_another_fault(tmp_path):
    # Two objects of one record: the second is inverted, the image stands in the test split, too.
    objects = many(tmp_path, 12)
    bad = objects[3]._replace(box=(9.0, 0.0, 1.0, 5.0))
    copy = annotated(make_image(tmp_path / "copy.png", value=3), (0, 0, 5, 5), label="b")
    given = Annotations({"train": [*objects, bad], "test": [copy._replace(file="t.txt")]}, "pixel")
    result = quick_check(given, SourceConfig(several="first"))
    found = load_records(
        result, SplitConfig(val=0.2, test=0.0, together="identical"), on_error="skip"
    )
    rows = np.concatenate([found.splits[name].rows for name in ("train", "val")])
    assert 4 not in rows
    assert sorted(fault.kind for fault in found.faults) == ["duplicate", "inverted"]


def test_an_object_that_cannot_be_parsed_still_counts_as_one_of_its_image(tmp_path):
    path = make_image(tmp_path / "a.png")
    one = annotated(path, (0, 0, 5, 5))
    found = resolved(annotations(one, unread={one.image: 1}), SourceConfig())
    assert found.splits == {}
    assert [fault.kind for fault in found.faults] == ["several"]
    assert "train" in resolved(annotations(one), SourceConfig()).splits


def test_what_a_check_read_is_not_read_again(tmp_path, monkeypatch):
    split = SplitConfig(val=0.3, test=0.2, together="identical")
    result = checked(*many(tmp_path, 30, same=9))
    expected = load_records(result, split)
    # Reading anything now would fail.
    monkeypatch.setattr("loc_keras.data.image_header._read", None)
    monkeypatch.setattr("loc_keras.data.check.labels.identical_groups", None)
    found = load_records(result, split)
    for name, part in expected.splits.items():
        assert found.splits[name].rows.tolist() == part.rows.tolist()
