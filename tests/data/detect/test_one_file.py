"""`--data` with a file, with data of which nothing can be used, and with pictures of no label."""

import json

import pytest
from helpers.converted import drawn, save

from loc_keras import check
from loc_keras.cli.data_source import read_folder
from loc_keras.errors import DataError

BOX = (4, 5, 20, 25)  # px of 40 x 30


def pictures(folder, count=6):
    for k in range(count):
        pixels = drawn(40, 30, BOX)
        pixels[-1] = 20 * k
        save(folder / f"{k}.jpg", pixels, quality=95)


def coco(labels, count=6, box=(4, 5, 16, 20)):
    things = [{"id": k, "image_id": k, "category_id": k % 2, "bbox": box} for k in range(count)]
    return json.dumps(
        {
            "images": [{"id": k, "file_name": f"{k}.jpg"} for k in range(count)],
            "annotations": things,
            "categories": [{"id": k, "name": name} for k, name in enumerate(labels)],
        }
    )


@pytest.fixture
def mixed(tmp_path):
    """One folder, labelled four times with other classes."""
    pictures(tmp_path / "images")
    table = [f"{k}.jpg,{'pq'[k % 2]},{','.join(map(str, BOX))}" for k in range(6)]
    texts = {
        "annotations.json": coco(["a", "b"]),
        "annotations/other.json": coco(["c", "d"]),
        "labels.csv": "\n".join(table),
        "data.yaml": "train: images\nnames: [x, y]\n",
        **{f"labels/{k}.txt": f"{k % 2} 0.3 0.5 0.4 0.666667\n" for k in range(6)},
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "form", "names"),
    [
        ("annotations.json", "coco", ["a", "b"]),
        ("annotations/other.json", "coco", ["c", "d"]),
        ("labels.csv", "csv", ["p", "q"]),
        ("data.yaml", "yolo", ["x", "y"]),
    ],
)
def test_a_file_of_labels_is_meant_where_it_is_named(mixed, file, form, names):
    reading = read_folder(str(mixed / file), [], name="x")
    assert (reading.guess.format, reading.records.class_names) == (form, names)
    (train,) = reading.records.splits.values()
    assert train.boxes[0] * [40, 30, 40, 30] == pytest.approx(BOX, abs=1e-4)
    assert len(train) == 6


def test_a_file_far_from_images_is_refused(tmp_path):
    path = tmp_path / "a" / "b" / "c" / "d" / "x.json"
    path.parent.mkdir(parents=True)
    path.write_text(coco(["a", "b"]))
    with pytest.raises(DataError, match=r"no image lies in the folder of .*x.json"):
        read_folder(str(path), [], name="x")


@pytest.mark.parametrize(
    ("box", "count", "words"),
    [
        ((30, 5, 12, 20), 6, "box reaches outside the image"),
        ((4, 5, 0, 20), 6, "box without area"),
        ((0.1, 0.2, 0.3, 0.4), 6, "boxes that cannot be what they are said to be"),
    ],
)
def test_check_lists_all_where_nothing_can_be_used(tmp_path, capsys, box, count, words):
    pictures(tmp_path / "images", count)
    (tmp_path / "train.json").write_text(coco(["a", "b"], count, box))
    with pytest.raises(DataError, match=r"loc_keras.check --data .* lists all; --fix DIR mends"):
        read_folder(str(tmp_path), [], name="x")
    assert check.main(["--data", str(tmp_path), "--quick"]) == 1
    printed = capsys.readouterr().out
    assert words in printed
    assert "read: train 6 objects in 6 images" in printed


def test_fix_clips_boxes_that_all_reach_over_the_edge(tmp_path, capsys):
    pictures(tmp_path / "set" / "images")
    (tmp_path / "set" / "train.json").write_text(coco(["a", "b"], 6, (30, 5, 12, 20)))
    copy = tmp_path / "copy"
    assert check.main(["--data", str(tmp_path / "set"), "--fix", str(copy)]) == 1
    rows = (copy / "training_data.csv").read_text().splitlines()
    assert len(rows) == 6
    # Left 30 of 40, top 5 of 30; the right edge is that of the picture.
    assert [float(side) for side in rows[0].split(",")[2:]] == pytest.approx(
        [0.75, 5 / 30, 1, 25 / 30]
    )


def test_pictures_without_labels_are_counted_and_named(tmp_path):
    pictures(tmp_path / "images", 9)
    (tmp_path / "train.json").write_text(coco(["a", "b"], 6))
    notes = read_folder(str(tmp_path), [], name="x").notes
    assert (
        "not used: 3 images that no annotation names: images/6.jpg, images/7.jpg, images/8.jpg."
        in notes
    )
