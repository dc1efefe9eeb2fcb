"""Strange folders: what is asked about, listed or read right, where a guess would be silent.

The folders are made by hand, each with one fault, and the expected boxes, columns and files are
those that they were made from.
"""

import json

import numpy as np
import pytest
from helpers.converted import drawn, save
from hypothesis import given
from hypothesis import strategies as st

from loc_keras.cli.data_source import read_folder
from loc_keras.data.formats import listing as detect_listing
from loc_keras.data.formats.csv_table import Doubt, Form, cut, form_of
from loc_keras.data.formats.detection import guesses, list_data_folder
from loc_keras.errors import DataError

HEADER = "filename,class,xmin,ymin,xmax,ymax"


def box_of(k):
    return k % 9, k % 7, k % 9 + 20, k % 7 + 16


def folder(root, tables, pictures=12, size=(48, 40)):
    """Images 0.png, 1.png, ... and tables by name."""
    for k in range(pictures):
        pixels = drawn(*size, box_of(k))
        pixels[-1] = k  # No two are the same.
        save(root / "images" / f"{k}.png", pixels)
    for name, rows in tables.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def rows(numbers, form="{file},{label},{0},{1},{2},{3}", box=box_of):
    return [form.format(*box(k), file=f"{k}.png", label="ab"[k % 2], k=k) for k in numbers]


def read(root, *overrides):
    return read_folder(str(root), overrides, name="x")


def boxes_px(reading, split="train"):
    """`{name: box in px}` of a split."""
    part = reading.records.splits[split]
    boxes = (part.boxes * part.sizes[:, [1, 0, 1, 0]]).round(3).tolist()
    names = [name.rpartition("/")[2] for name in part.names]
    return dict(zip(names, map(tuple, boxes), strict=True))


def made_of(reading):
    return {one.files: (one.use, one.why) for one in reading.source.label_files}


# --- one row is no evidence ---


def published(count, wrong, value):
    """Rows of the first published table: number of the digit, then fractions; one is wrong."""
    rng = np.random.default_rng(0)
    lines = []
    for k in range(count):
        x, y = rng.uniform(0, 0.72, 2).round(4).tolist()
        box = [x, y, round(x + 0.28, 4), round(y + 0.28, 4)]
        if k == wrong:
            box[2] = value
        lines.append(",".join(map(str, [f"{k:04}.png", k % 10, *box])))
    return lines


@pytest.mark.parametrize("value", [1.0001, 1.4, 14, 140])
def test_one_wrong_coordinate_does_not_drop_the_training_table(tmp_path, value):
    tables = {
        "training_data.csv": published(260, 200, value),
        "test_data.csv": published(40, -1, 0),
    }
    for name, lines in tables.items():
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    for part in ("training_images", "test_images"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "0000.png").write_bytes(b"")
    (guess,) = guesses(list_data_folder(str(tmp_path)))
    assert guess.question == ""
    assert guess.options["columns"] == ["file", "label", "x1", "y1", "x2", "y2"]
    assert guess.options["splits"] == {
        "train": {"csv": "training_data.csv", "images": "training_images"},
        "val": None,
        "test": {"csv": "test_data.csv", "images": "test_images"},
    }
    assert "units" not in guess.options


@given(
    st.integers(30, 60),
    st.sampled_from(["before", "behind"]),
    st.sampled_from([1, 100]),
    st.lists(st.tuples(st.integers(0, 59), st.integers(0, 3), st.floats(-999, 999)), max_size=2),
    st.integers(0, 2**32 - 1),
)
def test_columns_are_found_whatever_single_rows_hold(count, place, side, slips, seed):
    # At most 2 of 30 rows are wrong: fewer than a tenth.
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0.02, 0.98, (count, 2, 2)), axis=1).reshape(count, 4)
    boxes = (corners * side).round(5)
    for row, column, value in slips:
        boxes[row % count, column] = value
    lines = []
    for k, box in enumerate(boxes.tolist()):
        label = [str(k % 7)]
        numbers = label + list(map(str, box)) if place == "before" else [*map(str, box), *label]
        lines.append(",".join([f"{k}.png", *numbers]))
    form = form_of(cut("\n".join(lines), whole=True))
    assert isinstance(form, Form) and not form.question
    named = ["label", "x1", "y1", "x2", "y2"] if place == "before" else None
    assert form.settings["columns"] == ["file", *(named or ["x1", "y1", "x2", "y2", "label"])]
    assert form.pixels is (side == 100)


def test_the_only_class_behind_the_box_is_no_edge():
    # y1 < x2 < 1 and x2 < 1: the last four numbers look like corners as well.
    lines = [f"{k}.png,0.{k}1,0.{k}2,0.{k + 2}5,0.{k + 2}7,1" for k in range(1, 8)]
    form = form_of(cut("\n".join(lines), whole=True))
    assert form.settings["columns"] == ["file", "x1", "y1", "x2", "y2", "label"]


# --- what is asked ---


@pytest.mark.parametrize(
    ("form", "what"),
    [
        ("{file},{label},0.{k}1,0.{k}2,0.{k}5,0.{k}7,0.99", "a score behind the box"),
        ("{file},camera{k},{label},{0},{1},{2},{3}", "two columns of words"),
        ("{file},48,40,{k},{0},{1},{2},{3},0", "columns of numbers that may be the class"),
    ],
)
def test_rows_that_can_be_read_in_several_ways_are_asked_about(tmp_path, form, what):
    lines = [line.replace("camera1", "camera0") for line in rows([*range(1, 9)] * 2, form)]
    folder(tmp_path, {"boxes.csv": lines})
    with pytest.raises(DataError, match=r"several ways.*--set 'data\.source\.csv\.columns=\["):
        read(tmp_path)
    width = len(lines[0].split(","))
    names = ["file", "label", "x1", "y1", "x2", "y2", "score"]
    if width == 7 and "score" in what:
        reading = read(tmp_path, f"data.source.csv.columns={json.dumps(names)}")
        assert boxes_px(reading)["3.png"] == pytest.approx((0.31 * 48, 0.32 * 40, 16.8, 14.8))


def test_class_column_of_an_unknown_name_is_the_text_of_few_values(tmp_path):
    lines = ["filename,animal,xmin,ymin,xmax,ymax", *rows(range(8))]
    folder(tmp_path, {"boxes.csv": lines})
    reading = read(tmp_path)
    assert reading.records.class_names == ["a", "b"]
    assert "the class is the column 'animal', the only text with few values." in reading.notes
    by_folder = read(tmp_path, "data.source.csv.label_from=folder")
    assert by_folder.records.class_names == ["images"]


NEARLY = {
    "no header": (rows(range(6)), "written in 2 ways"),
    "other columns": (["file,label,x,y,w,h", *rows(range(6))], "written in 2 ways"),
    "fractions": (
        [HEADER, *rows(range(6), box=lambda k: (0.1, 0.2, 0.5, 0.75))],
        "written in 2 ways.* in px.* in fractions|in fractions.* in px",
    ),
    "no rows": ([HEADER], "a header and no rows"),
    "empty": ([], "nothing in it can be read"),
    "other text": (["see the wiki"], "nothing in it can be read"),
    "title": (["made by hand", HEADER, *rows(range(6))], "a line stands above its header"),
    "misspelt": (["filename,class,xmin,ymin,xmax,ymaks", *rows(range(6))], "four numbers"),
    "other names": (["shot,class,xmin,ymin,xmax,ymax", *rows(range(6))], "written in 2 ways"),
    "gone": ([HEADER, *rows(range(90, 96))], "no image that it names is found.*'90.png'"),
    "short rows": ([HEADER, *rows(range(4)), *["5.png,a,1"] * 2], "2 of 6 rows"),
    "decimal commas": (
        ["filename;class;xmin;ymin;xmax;ymax", *rows(range(6), "{file};a;0,1;0,2;0,3;0,4")],
        "decimal comma",
    ),
}


@pytest.mark.parametrize("what", NEARLY)
def test_training_table_that_nearly_fits_is_not_replaced_by_that_of_test(tmp_path, what):
    lines, told = NEARLY[what]
    folder(tmp_path, {"train.csv": lines, "test.csv": [HEADER, *rows(range(6, 12))]})
    with pytest.raises(DataError, match=told) as caught:
        read(tmp_path)
    assert "train.csv" in str(caught.value)
    # The one that can be read may be named.
    reading = read(tmp_path, "data.source.csv.splits.train.csv=test.csv")
    assert boxes_px(reading) == {f"{k}.png": box_of(k) for k in range(6, 12)}


def test_table_of_all_is_left_out_beside_those_of_the_splits(tmp_path):
    tables = {"things_labels": range(12), "train_labels": range(7), "test_labels": range(7, 10)}
    folder(tmp_path, {f"data/{name}.csv": [HEADER, *rows(k)] for name, k in tables.items()})
    reading = read(tmp_path)
    assert boxes_px(reading) == {f"{k}.png": box_of(k) for k in range(7)}
    assert boxes_px(reading, "test") == {f"{k}.png": box_of(k) for k in range(7, 10)}
    assert made_of(reading) == {
        "data/train_labels.csv": ("train", ""),
        "data/test_labels.csv": ("test", ""),
        "data/things_labels.csv": (
            "",
            "its images stand in data/test_labels.csv and data/train_labels.csv",
        ),
    }


def test_two_tables_of_the_same_objects_are_asked_about(tmp_path):
    moved = rows(range(8), box=lambda k: np.add(box_of(k), 3))
    folder(tmp_path, {"anna.csv": [HEADER, *rows(range(8))], "ben.csv": [HEADER, *moved]})
    with pytest.raises(DataError, match=r"anna\.csv and ben\.csv name the same objects"):
        read(tmp_path)
    reading = read(tmp_path, "data.source.csv.splits.train.csv=ben.csv")
    assert boxes_px(reading)["3.png"] == tuple(np.add(box_of(3), 3))


def test_tables_without_a_common_pattern_are_asked_about(tmp_path):
    folder(tmp_path, {"a/b/one.csv": [HEADER, *rows(range(6))], "two.csv": [HEADER, *rows([7])]})
    with pytest.raises(DataError, match=r"no one pattern finds two\.csv and a/b/one\.csv"):
        read(tmp_path)


def test_every_file_that_looks_like_labels_is_listed(tmp_path):
    tables = {
        "train.csv": [HEADER, *rows(range(6))],
        "test.csv": [HEADER, *rows(range(6, 12))],
        "attributes.csv": ["filename,smile,hat,beard,age", *rows(range(6), "{file},1,0,1,{0}")],
        "notes.txt": ["made in spring"],
        "old/labels.xlsx": ["?"],
        "README.md": ["no labels"],
    }
    reading = read(folder(tmp_path, tables))
    told = made_of(reading)
    assert told.pop("train.csv") == ("train", "")
    assert told.pop("test.csv") == ("test", "")
    assert "does not name the four numbers" in told.pop("attributes.csv")[1]
    assert told == {
        name: ("", "the folder is read as csv, without it")
        for name in ("notes.txt", "old/labels.xlsx")
    }


def test_files_beyond_those_whose_names_are_kept_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(detect_listing, "MOST_KEPT", 3)
    yolo(tmp_path, ["a", "b"], [0, 1] * 4)
    (tmp_path / "old").mkdir()
    for k in range(5):
        (tmp_path / "labels" / f"note{k}.txt").write_text("?")
        (tmp_path / "old" / f"{k}.json").write_text("{}")
    (tmp_path / "shard.tfrecord-00000-of-00001").write_text("")
    told = made_of(read(tmp_path, "data.on_error=skip"))
    assert told.pop("8 .txt files in labels") == ("train", "")
    assert told.pop("5 .txt files in labels") == ("", "nothing in it can be used")
    assert told.pop("data.yaml") == ("names", "")
    assert {name for name in told if ".json, " not in name} == {
        "2 more .json files in old",
        "shard.tfrecord-00000-of-00001",
    }


# --- units and origins ---


def coco(boxes):
    images = [{"id": k, "file_name": f"{k}.png"} for k in range(len(boxes))]
    objects = [
        {"id": k, "image_id": k, "category_id": 1, "bbox": list(map(float, box))}
        for k, box in enumerate(boxes)
    ]
    return [json.dumps({"images": images, "annotations": objects, "categories": [CAT]})]


CAT = {"id": 1, "name": "cat"}


def test_coco_boxes_in_fractions_are_asked_about(tmp_path):
    boxes = [(0.25, 0.5, 0.5, 0.25)] * 7 + [(0.25, 0.5, 0.5, 0.5001)]
    folder(tmp_path, {"boxes.json": coco(boxes)}, pictures=8)
    told = r"8 of 8 boxes lie within 0\.\.1, .* 48 x 40 px: set data\.source\.box_units to fraction"
    with pytest.raises(DataError, match=told):
        read(tmp_path)
    # By hand: a quarter to three quarters of 48, and a half to three quarters of 40 px.
    assert boxes_px(read(tmp_path, "data.source.box_units=fraction"))["0.png"] == (12, 20, 36, 30)


def test_csv_in_percent_is_asked_about(tmp_path):
    lines = rows(range(8), box=lambda k: (10 + k, 20, 60 + k, 95.5))
    folder(tmp_path, {"boxes.csv": [HEADER, *lines]}, pictures=8, size=(400, 200))
    with pytest.raises(DataError, match=r"within 0\.\.100, .*box_units to percent, or to pix"):
        read(tmp_path)
    assert boxes_px(read(tmp_path, "data.source.box_units=percent"))["2.png"] == (48, 40, 248, 191)
    assert boxes_px(read(tmp_path, "data.source.box_units=pixel"))["2.png"] == (12, 20, 62, 95.5)


def test_fractions_among_px_are_told(tmp_path):
    some = rows(range(9, 12), box=lambda k: (0.1, 0.2, 0.6, 0.7))
    folder(tmp_path, {"boxes.csv": [HEADER, *rows(range(9)), *some]})
    with pytest.raises(DataError, match=r"3 of 12 boxes lie within 0\.\.1, .*write all boxes al"):
        read(tmp_path)
    # Zeros where a box is missing are faults of their rows.
    some = rows(range(11, 12), box=lambda k: (0, 0, 0, 0))
    folder(tmp_path, {"boxes.csv": [HEADER, *rows(range(11)), *some]})
    assert read(tmp_path).refused == 1


def test_px_of_small_images_are_not_taken_for_percent(tmp_path):
    folder(tmp_path, {"boxes.csv": [HEADER, *rows(range(12))]}, size=(99, 120))
    assert boxes_px(read(tmp_path))["3.png"] == box_of(3)


def test_centres_that_are_called_x_and_y_are_told_by_where_they_lie(tmp_path):
    # Boxes near the right edge of 48 px: centre 36, width 20 is 26..46, but as a corner 36..56.
    lines = rows(range(10), box=lambda k: (36 - k % 2, 20, 20, 16))
    folder(tmp_path, {"boxes.csv": ["file,label,x,y,w,h", *lines]})
    reading = read(tmp_path)
    assert boxes_px(reading)["0.png"] == (26, 12, 46, 28)
    assert "boxes are cxcywh: so they lie in their images." in reading.notes


def test_corners_that_may_be_sizes_are_asked_about(tmp_path):
    # Large objects in the middle: as corners they would all lie up and left of the middle.
    lines = rows(range(24), box=lambda k: (2 + k % 3, 1 + k % 5, 40 - k % 4, 30 - k % 7))
    folder(tmp_path, {"boxes.csv": lines}, pictures=24)
    with pytest.raises(
        DataError, match=r"csv\.box=xyxy, or .*columns=\[file, label, x1, y1, w, h\]"
    ):
        read(tmp_path)
    assert boxes_px(read(tmp_path, "data.source.csv.box=xyxy"))["0.png"] == (2, 1, 40, 30)
    columns = "data.source.csv.columns=[file, label, x1, y1, w, h]"
    reading = read(tmp_path, "data.source.csv.box=xywh", columns)
    assert boxes_px(reading)["0.png"] == (2, 1, 42, 31)


XML = """<annotation>{folder}<filename>{k}.png</filename><source><database>{maker}</database>
</source><size><width>48</width><height>40</height></size><object><name>cat</name><bndbox>
<xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object></annotation>"""


def voc(root, maker, boxes, where=""):
    named = f"<folder>{where}</folder>" if where else ""
    tables = {
        f"labels/{k}.xml": [XML.format(*box, k=k, maker=maker, folder=named)]
        for k, box in enumerate(boxes)
    }
    return folder(root, tables, pictures=len(boxes))


@pytest.mark.parametrize("first", [(10, 8, 30, 24), (1, 1, 48, 40)])
def test_supervision_counts_two_sides_from_one(tmp_path, first):
    # Its writer adds 1 to xmin and ymin alone, so that these and the last pixel are inclusive.
    boxes = [first, (12, 8, 30, 24), (5, 5, 48, 20)]
    reading = read(voc(tmp_path, "roboflow.ai", boxes, "VOC"))
    x1, y1, x2, y2 = first
    assert boxes_px(reading)["0.png"] == (x1 - 1, y1 - 1, x2, y2)
    assert any("first_pixel is 1, since supervision" in note for note in reading.notes)
    kept = read(tmp_path, "data.source.voc.first_pixel=0")
    assert boxes_px(kept)["0.png"] == first
    # Where the setting is given, the check says that it does not fit.
    assert "first_pixel" in {one.kind for one in kept.source.checked.findings}
    assert "first_pixel" not in {one.kind for one in reading.source.checked.findings}


AT_ONE = [(1, 9, 30, 24), (12, 1, 30, 40), (1, 5, 48, 20), (7, 6, 20, 20)]


@pytest.mark.parametrize(
    ("maker", "boxes", "first"),
    [
        ("Pets", AT_ONE, 1),
        # labelImg writes 1 where the edge is 0.
        ("Unknown", AT_ONE, 0),
        ("Pets", [*AT_ONE, (0, 5, 20, 20)], 0),
        ("Pets", [(1, 9, 30, 24), *AT_ONE[2:]], 0),
        ("The VOC2012 Database", AT_ONE[2:], 1),
        ("The VOC2012 Database", [*AT_ONE, (0, 0, 20, 20)], 0),
        ("roboflow.ai", AT_ONE[3:], 0),
    ],
)
def test_first_pixel_is_told_from_where_all_boxes_start_and_end(tmp_path, maker, boxes, first):
    reading = read(voc(tmp_path, maker, boxes))
    x1, y1, x2, y2 = boxes[-1]
    assert boxes_px(reading)[f"{len(boxes) - 1}.png"] == (x1 - first, y1 - first, x2, y2)


# --- names ---


def test_a_class_in_two_unicode_forms_is_one(tmp_path):
    # U+00E4, and a with U+0308.
    lines = [line.replace(",b,", ",B\u00e4r,") for line in rows(range(6))]
    lines += [line.replace(",b,", ",Ba\u0308r,") for line in rows(range(6, 12))]
    reading = read(folder(tmp_path, {"boxes.csv": [HEADER, *lines]}))
    assert reading.records.class_names == ["B\u00e4r", "a"]
    assert sum(reading.records.splits["train"].labels == 0) == 6
    assert any("composed" in note for note in reading.records.notes)
    given = read(tmp_path, 'data.source.class_names=["Ba\u0308r", "a"]')
    assert given.refused == 0


def test_labels_as_written_for_missing_ones_are_warned_of(tmp_path):
    lines = [line.replace("3.png,b", "3.png,nan") for line in rows(range(12))]
    reading = read(folder(tmp_path, {"val.csv": [HEADER, *lines]}))
    found = [one.reason for one in reading.source.checked.findings if one.kind == "class_spelling"]
    assert found == ["1 objects have the class 'nan', as where a label is missing"]
    assert "nothing is called train, so val.csv is trained on." in reading.notes


def test_label_with_a_byte_order_mark_is_refused(tmp_path):
    lines = rows(range(11))
    lines[5] = lines[5].replace(",b,", ",\ufeffb,")
    reading = read(folder(tmp_path, {"boxes.csv": [HEADER, *lines]}))
    (fault,) = reading.records.errors
    assert fault.row == 7 and "U+FEFF" in fault.reason


def yolo(root, names, indices):
    for k, index in enumerate(indices):
        path = root / "labels" / f"{k}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{index} 0.5 0.5 0.25 0.25\n", encoding="utf-8")
    lines = ["train: images", f"names: {json.dumps(names)}"]
    return folder(root, {"data.yaml": lines}, pictures=len(indices))


def test_classes_counted_from_one_are_not_shifted(tmp_path):
    with pytest.raises(DataError, match=r"number the 2 classes from 1 to 2 and never 0"):
        read(yolo(tmp_path / "one", ["a", "b"], [1] * 11 + [2]))
    (tmp_path / "two").mkdir()
    lines = [line.replace(",a,", ",1,").replace(",b,", ",2,") for line in rows(range(8))]
    folder(tmp_path / "two", {"boxes.csv": [HEADER, *lines]})
    with pytest.raises(DataError, match=r"number the 2 classes from 1 to 2 and never 0"):
        read(tmp_path / "two", "data.source.class_names=[cat, dog]")
    assert read(tmp_path / "two").records.class_names == ["1", "2"]


def test_one_of_several_descriptions_is_asked_for(tmp_path):
    yolo(tmp_path / "yolo", ["a", "b"], [0, 1, 1, 0])
    (tmp_path / "yolo" / "new.yaml").write_text("train: images\nnames: [c, d]\n")
    with pytest.raises(DataError, match=r"data\.yaml and new\.yaml both name .*yolo\.yaml=data"):
        read(tmp_path / "yolo")
    assert read(tmp_path / "yolo", "data.source.yolo.yaml=new.yaml").records.class_names == [
        *("c", "d")
    ]
    for name, text in (("classes.txt", "a\nb\n"), ("obj.names", "x\ny\n")):
        (tmp_path / "yolo" / name).write_text(text)
    for one in ("data.yaml", "new.yaml"):
        (tmp_path / "yolo" / one).unlink()
    with pytest.raises(DataError, match=r"classes\.txt and obj\.names differ"):
        read(tmp_path / "yolo")
    reading = read(tmp_path / "yolo", "data.source.class_names_file=obj.names")
    assert reading.records.class_names == ["x", "y"]
    assert made_of(reading)["obj.names"] == ("names", "")
    halves = {f"half{k}.json": coco([(2 + k, 3, 20, 20)] * 6) for k in (1, 2)}
    folder(tmp_path / "coco", halves, pictures=6)
    with pytest.raises(DataError, match=r"half1\.json and half2\.json are both for train"):
        read(tmp_path / "coco")
    answer = "data.source.coco.splits.train.annotations=half2.json"
    assert boxes_px(read(tmp_path / "coco", answer))["0.png"] == (4, 3, 24, 23)


@pytest.mark.parametrize("name", ["classes.txt", "obj.names", "labels.txt"])
def test_a_byte_order_mark_before_the_names_is_told(tmp_path, name):
    yolo(tmp_path, ["a", "b"], [0, 1, 1, 0])
    (tmp_path / "data.yaml").unlink()
    (tmp_path / name).write_bytes(b"\xef\xbb\xbfa\nb\n")  # U+FEFF in UTF-8: Unicode, table 23-6.
    reading = read(tmp_path)
    assert reading.records.class_names == ["a", "b"]
    (found,) = [one for one in reading.source.checked.findings if one.kind == "byte_order_mark"]
    assert (found.severity, found.file, found.row) == ("warning", str(tmp_path / name), 1)
    (tmp_path / name).write_bytes(b"a\nb\n")
    found = [one.kind for one in read(tmp_path).source.checked.findings]
    assert "byte_order_mark" not in found


def test_names_of_a_yaml_file_whose_folders_were_moved_are_used(tmp_path):
    yolo(tmp_path, ["a", "b"], [0, 1, 1, 0])
    text = (tmp_path / "data.yaml").read_text().replace("images", "/content/set/images")
    (tmp_path / "data.yaml").write_text(text)
    reading = read(tmp_path)
    assert reading.records.class_names == ["a", "b"]
    assert any("named by data.yaml, whose folders" in note for note in reading.notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("_darknet.labels", "a\nb\n"),
        ("darknet.labels", "a\nb\n"),
        ("classes.yaml", "names: [a, b]\n"),
        ("notes.json", '{"categories": [{"id": 1, "name": "b"}, {"id": 0, "name": "a"}]}'),
    ],
)
def test_files_that_name_the_classes_of_label_files(tmp_path, name, text):
    yolo(tmp_path, ["a", "b"], [0, 1, 1, 0])
    (tmp_path / "data.yaml").unlink()
    for path in (tmp_path / "labels").glob("*.txt"):  # As numpy.savetxt writes them.
        path.write_text(path.read_text().replace("0 ", "0.0 ", 1).replace("1 ", "1.0 ", 1))
    (tmp_path / name).write_text(text)
    assert read(tmp_path).records.class_names == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["B\u00e4r", "Ba\u0308r"], "2 classes are called 'B\u00e4r'"),
        (["a", " "], "the name of class 1 is empty"),
        (["a", "\ufeffb"], r"a sign that does not show \(U\+FEFF\)"),
    ],
)
def test_names_of_a_yaml_file_are_whole_and_distinct(tmp_path, names, told):
    yolo(tmp_path, names, [0, 1, 1, 0])
    with pytest.raises(DataError, match=told):
        read(tmp_path, "data.source.format=yolo", "data.source.yolo.yaml=data.yaml")


def test_listed_classes_that_differ_in_case_or_blanks_are_warned_of(tmp_path):
    reading = read(yolo(tmp_path, ["Cat", "cat ", "ca t", "dog"], [0, 1, 2, 3]))
    found = [one for one in reading.source.checked.findings if one.kind == "class_spelling"]
    assert [one.reason for one in found] == [
        "the classes 'Cat' and 'ca t' differ in case or blanks alone",
        "the classes 'Cat' and 'cat' differ in case or blanks alone",
    ]


def test_two_categories_of_one_name_are_told(tmp_path):
    content = json.loads(coco([(2, 3, 20, 20)] * 6)[0])
    content["categories"] = [{"id": 0, "name": "cat"}, CAT]
    reading = read(folder(tmp_path, {"boxes.json": [json.dumps(content)]}, pictures=6))
    assert reading.records.class_names == ["cat"]
    (found,) = [one for one in reading.source.checked.findings if one.kind == "class_repeated"]
    assert found.reason == f"'cat', again in row 2 of the categories of {tmp_path}/boxes.json"
    assert reading.records.faults == []


def test_words_and_numbers_that_name_no_image_are_no_doubt():
    # The iris table: a word and four numbers.
    text = "5.1,3.5,1.4,0.2,setosa\n4.9,3.0,1.4,0.2,setosa\n"
    assert form_of(cut(text, whole=True)) is None
    assert isinstance(form_of(cut("a.png,x,9,2,1\nb.png,7,8,z,0\n", whole=True)), Doubt | None)
