"""YOLO: boxes by hand, ways to say where images and labels lie, YAML that means harm refused."""

import math
import time
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from helpers.reader_fuzz import (
    FEW_AND_MANY,
    assert_only_data_errors,
    mutated_fields,
    write_files,
)

from loc_keras.data.annotations import ImageRef
from loc_keras.data.formats.yolo import read_yolo
from loc_keras.data.formats.yolo_yaml import LARGEST_YAML, parse_yaml
from loc_keras.errors import DataError

NAMES = "names: [cat, dog]\n"


@pytest.fixture
def read(tmp_path):
    """Writes a data.yaml and files of text by name, and reads the folder."""

    def run(yaml, content=None):
        write_files(tmp_path, {"data.yaml": yaml.encode() if isinstance(yaml, str) else yaml})
        files = (content or {}).items()
        write_files(
            tmp_path, {n: text.encode() if isinstance(text, str) else text for n, text in files}
        )
        return read_yolo(str(tmp_path))

    return run


@pytest.fixture
def read_labels(read):
    """What the lines of one label file become."""

    def run(text, more=""):
        return read(f"train: images\n{NAMES}{more}", {"images/a.jpg": "", "labels/a.txt": text})

    return run


def rows(found, split="train"):
    return [one.row for one in found.objects[split]]


def test_all_that_the_files_say(read, tmp_path):
    yaml = (
        "path: .\ntrain: images/train\nval: images/val\ntest:\nnc: 2\nnames: {0: cat, 1: a dog}\n"
    )
    found = read(
        yaml,
        {
            "images/train/é b.JPG": "",
            "labels/train/é b.txt": "1 0.5 0.5 0.5 0.25\n\n0 0.25 0.75 0.5 0.5\n",
            "images/train/sub/c.png": "",
            "labels/train/sub/c.txt": "\ufeff0.0 .5 5e-1 1 1\r\n",
            "images/train/notes.txt": "",
            "images/val/a.jpg": "",
            "images/val/a.txt": "0 0.5 0.5 1 1",
        },
    )
    # Centre minus and plus half the size, by hand.
    assert [one.box for one in found.objects["train"]] == [
        (0, 0, 1, 1),
        (0.25, 0.375, 0.75, 0.625),
        (0, 0.5, 0.5, 1),
    ]
    by_name = {one.name: one for one in found.objects["train"]}
    assert by_name["images/train/é b.JPG"].row == 3
    assert by_name["images/train/é b.JPG"].label == "cat"
    assert by_name["images/train/é b.JPG"].file == str(tmp_path / "labels/train/é b.txt")
    assert by_name["images/train/é b.JPG"].image.path == str(tmp_path / "images/train/é b.JPG")
    assert {one.label for one in found.objects["train"]} == {"cat", "a dog"}
    assert list(found.objects) == ["train", "val"]
    assert found.objects["val"][0].file == str(tmp_path / "images/val/a.txt")
    assert found.class_names == ["cat", "a dog"]
    assert found.units == "fraction"
    assert found.exact
    assert found.folders == [str(tmp_path / "images/train"), str(tmp_path / "images/val")]
    assert found.faults == []


def test_polygons_become_boxes(read_labels):
    # Leftmost, topmost, rightmost and bottommost corner, read off by eye.
    found = read_labels("0 0.1 0.1 0.9 0.2 0.5 0.8\n1 0.5 0.2 0.4 0.3 0.6 0.9 0.7 0.1\n")
    assert [one.box for one in found.objects["train"]] == [
        (0.1, 0.1, 0.9, 0.8),
        (0.4, 0.1, 0.7, 0.9),
    ]


def test_key_points_are_not_read(read_labels):
    line = "0 0.5 0.5 1 1 0.1 0.2 2 0.3 0.4 1\n"
    assert read_labels(line, "kpt_shape: [2, 3]\n").objects["train"][0].box == (0, 0, 1, 1)
    assert read_labels(line).objects["train"][0].box == (0.1, 0.2, 2, 1)


LINE_FAULTS = [
    ("0 0.5 0.5 1", "has 4 numbers, expected class cx cy w h, or a class and the", "columns"),
    ("0", "has 1 numbers, expected class cx cy w h", "columns"),
    ("0 0.5 0.5 1 1 high", "has 6 numbers, expected class cx cy w h", "columns"),
    ("0 .1 .1 .2 .2 .3 .3 .4", "has 8 numbers", "columns"),
    ("0 " + "0.5 " * 30_000, "has 20002 numbers", "columns"),
    ("0 0.5 x 1 1", "'x' is not a number", "number"),
    ("0 0.5 0,5 1 1", "'0,5' is not a number", "number"),
    ("0 0.5 1_0 1 1", "'1_0' is not a number", "number"),
    ("0 0.5 0.5 1 \0", "'\\x00' is not a number", "number"),
    ("cat 0.5 0.5 1 1", "class 'cat' is not a number", "label"),
    ("2 0.5 0.5 1 1", "class '2' is none of the 2 classes 0..1", "label"),
    ("-1 0.5 0.5 1 1", "class '-1' is none of the 2 classes 0..1", "label"),
    ("0.5 0.5 0.5 1 1", "class '0.5' is none of the 2 classes 0..1", "label"),
    ("nan 0.5 0.5 1 1", "class 'nan' is none of the 2 classes 0..1", "label"),
    ("1e999 0.5 0.5 1 1", "class '1e999' is none of the 2 classes 0..1", "label"),
]


@pytest.mark.parametrize(("line", "reason", "kind"), LINE_FAULTS)
def test_a_bad_line_is_one_fault(read_labels, tmp_path, line, reason, kind):
    found = read_labels(f"0 0.5 0.5 1 1\n{line}\n1 0.5 0.5 1 1\n")
    assert rows(found) == [1, 3]
    (fault,) = found.faults
    assert (fault.file, fault.row, fault.kind) == (str(tmp_path / "labels" / "a.txt"), 2, kind)
    assert reason in fault.reason
    assert len(fault.reason) < 200


def test_a_score_behind_the_box_is_not_read(read_labels, tmp_path):
    found = read_labels("0 0.5 0.5 1 1 0.91\n1 0.5 0.5 0.5 1\n1 0.5 0.5 1 1 0.2\n")
    full = (0, 0, 1, 1)
    assert [one.box for one in found.objects["train"]] == [full, (0.25, 0, 0.75, 1), full]
    (note,) = found.faults
    assert (note.file, note.kind, note.severity) == (
        str(tmp_path / "labels" / "a.txt"),
        "score",
        "note",
    )
    assert "as 2 lines have" in note.reason


def test_labels_in_a_folder_called_annotations(read, tmp_path):
    content = {"images/a.jpg": "", "annotations/a.txt": "1 0.5 0.5 1 1", "annotations/b.txt": ""}
    found = read(f"train: images\n{NAMES}", content)
    assert [one.label for one in found.objects["train"]] == ["dog"]
    assert [(fault.file, fault.kind) for fault in found.faults] == [
        (str(tmp_path / "annotations" / "b.txt"), "missing_image")
    ]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("val: none", "val names 'none', which is not below {root}"),
        ("val: ../valid/images", "val names '../valid/images', which is not below {root}"),
        ("val: empty", "val names no image: 'empty' holds none"),
        ("val: images", "val names the images of train"),
        ("test: /content/set/test/images", "test names '/content/set/test/images', which is not"),
    ],
)
def test_an_entry_that_cannot_be_used_costs_its_split_alone(read, tmp_path, entries, reason):
    (tmp_path / "empty").mkdir()
    content = {"images/a.jpg": "", "labels/a.txt": "1 0.5 0.5 1 1"}
    found = read(f"train: images\n{entries}\n{NAMES}", content)
    assert [one.label for one in found.objects["train"]] == ["dog"]
    assert list(found.objects) == ["train"]  # The others are cut off it.
    (fault,) = found.faults
    assert (fault.kind, fault.severity) == ("unused_entry", "warning")
    assert fault.reason.startswith(reason.format(root=tmp_path))
    assert fault.reason.endswith("; the split is not read")


def test_folders_of_another_machine_are_found_by_their_last_parts(read, tmp_path):
    content = {
        f"{part}/{kind}": text
        for part in ("train", "valid")
        for kind, text in (("images/a.jpg", ""), ("labels/a.txt", "0 0.5 0.5 1 1"))
    }
    paths = {"train": "/content/set/train/images", "val": "C:\\sets\\set\\valid\\images"}
    yaml = "".join(f"{split}: {path}\n" for split, path in paths.items())
    found = read(yaml + NAMES, content)
    assert [found.objects[split][0].image.path for split in ("train", "val")] == [
        str(tmp_path / part / "images" / "a.jpg") for part in ("train", "valid")
    ]
    assert found.faults == []


def test_infinite_numbers_are_for_others_to_judge(read_labels):
    found = read_labels("0 nan 0.5 1 1\n0 0.5 0.5 1e999 1\n0 0.1 0.1 nan 0.2 0.3 0.3\n")
    first, second, third = (one.box for one in found.objects["train"])
    assert math.isnan(first[0])
    assert second == (-math.inf, 0, math.inf, 1)
    assert all(map(math.isnan, third))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_may(read_labels, end):
    assert rows(read_labels(f"0 0.5 0.5 1 1{end}{end}1\t0.5  0.5 1 1 {end}")) == [1, 3]


def test_images_without_objects(read, tmp_path):
    content = {"images/a.jpg": "", "images/b.jpg": "", "labels/b.txt": " \n", "images/c.jpg": ""}
    found = read(f"train: images\n{NAMES}", {**content, "labels/c.txt": b"\xff\xfe0"})
    assert found.objects == {"train": []}
    none, empty, other = found.faults
    assert none[:2] == (str(tmp_path / "images/a.jpg"), 0)
    assert none.reason == f"has no label file {tmp_path / 'labels/a.txt'}"
    assert empty[:3] == (str(tmp_path / "labels/b.txt"), 0, "names no object")
    assert (none.kind, empty.kind) == ("no_object", "no_object")
    assert other[:4] == (str(tmp_path / "labels/c.txt"), 0, "is not UTF-8 text", "encoding")


def test_label_files_without_an_image(read, tmp_path):
    label = "0 0.5 0.5 1 1"
    content = {f"labels/{part}/{name}.txt": label for part in ("x", "y") for name in "ab"}
    images = {
        "images/x/a.jpg": "",
        "images/y/a.jpg": "",
        "images/y/c.txt": "",
        "labels/x/classes.txt": "",
    }
    found = read(
        f"train: images/x\nval: list.txt\n{NAMES}",
        {**content, **images, "list.txt": "images/y/a.jpg"},
    )
    (fault,) = found.faults
    assert fault[:4] == (str(tmp_path / "labels/x/b.txt"), 0, "has no image", "missing_image")


def test_a_folder_called_images_above_the_data_does_not_count(tmp_path):
    root = tmp_path / "images" / "set"
    content = {"data.yaml": f"train: train\n{NAMES}".encode(), "train/a.jpg": b""}
    write_files(root, {**content, "train/a.txt": b"0 0.5 0.5 1 1"})
    assert len(read_yolo(str(root)).objects["train"]) == 1


def test_the_last_folder_called_images_counts(read, tmp_path):
    content = {"images/x/images/a.jpg": "", "images/x/labels/a.txt": "0 0.5 0.5 1 1"}
    found = read(f"train: images\n{NAMES}", {**content, "labels/x/images/a.txt": "1 0.5 0.5 1 1"})
    assert [one.label for one in found.objects["train"]] == ["cat"]


ONE_IMAGE = {"set/images/a.jpg": "", "set/labels/a.txt": "0 0.5 0.5 1 1"}


@pytest.mark.parametrize(
    "yaml",
    [
        "path: set\ntrain: images\n",
        "train: set/images\n",
        "train: [set/images, set/images]\n",
        "path: /home/me/data\ntrain: set/images\n",
        "path: ../datasets/other\ntrain: set/images\n",
        "path: not there\ntrain: set/images\n",
        "train: ../set/images\n",
        "train: ../../set/images\n",
        "path: set\ntrain: set/images/\n",
        "path: ROOT/set\ntrain: images\n",
        "path: 'ROOT'\ntrain: ROOT/set/images\n",
        "train: list.txt\n",
        "train: set/list.txt\n",
        "path: set\ntrain: list.txt\n",
    ],
)
def test_ways_to_say_where_images_lie(read, tmp_path, yaml):
    lists = {"list.txt": "\nset/images/a.jpg\r\n", "set/list.txt": "./images/a.jpg\n"}
    found = read(yaml.replace("ROOT", str(tmp_path)) + NAMES, {**ONE_IMAGE, **lists})
    (one,) = found.objects["train"]
    assert one.image.path == str(tmp_path / "set" / "images" / "a.jpg")
    assert one.name == "set/images/a.jpg"
    assert one.file == str(tmp_path / "set" / "labels" / "a.txt")
    assert found.faults == []
    assert found.folders == ([] if "list" in yaml else [str(tmp_path / "set" / "images")])


@pytest.mark.parametrize("signs", ["0123456789", "0123456789e-"])
def test_numbers_are_those_that_python_reads(read, signs):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("0123456789"), rng.integers(1, 16))) for _ in range(4000)]
    places = [rng.integers(0, len(one) + 1) for one in texts]
    texts = [f"{one[:at]}.{one[at:]}" for one, at in zip(texts, places, strict=True)]
    if "e" in signs:  # As Python writes small numbers, or more digits than are read at once.
        texts[::2] = [f"{one}0123456789e-{at}" for one, at in zip(texts, places, strict=True)][::2]
    fours = [texts[at : at + 4] for at in range(0, len(texts), 4)]
    lines = "".join(f"1 {' '.join(four)}\n" for four in fours)
    found = read(f"train: set/images\n{NAMES}", {**ONE_IMAGE, "set/labels/a.txt": lines})
    cx, cy, width, height = np.array([list(map(float, four)) for four in fours]).T
    wanted = np.stack([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], axis=1)
    np.testing.assert_array_equal(found.objects["train"].boxes, wanted)


def test_lists_of_images(read, tmp_path):
    outside = "../../etc/b.jpg\n/etc/b.jpg\nram://x/b.jpg\na\0.jpg\n"
    text = f"set/images/a.jpg\n{tmp_path}/set/images/a.jpg\nimages/none.jpg\n{outside}"
    found = read(f"train: list.txt\n{NAMES}", {**ONE_IMAGE, "list.txt": text})
    assert rows(found) == [1]
    faults = {fault.row: fault for fault in found.faults if fault.file.endswith("list.txt")}
    assert {row: fault.kind for row, fault in faults.items()} == {
        2: "duplicate_row",
        **dict.fromkeys((4, 5, 6, 7), "outside"),
    }
    (missing,) = [fault for fault in found.faults if fault.kind == "no_object"]
    assert missing.file == str(tmp_path / "images" / "none.jpg")


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    write_files(
        tmp_path,
        {
            "secret.jpg": b"",
            "data/data.yaml": f"train: images\n{NAMES}".encode(),
            "data/images/b.jpg": b"",
        },
    )
    (tmp_path / "data" / "images" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    faults = read_yolo(str(tmp_path / "data")).faults
    assert [fault.kind for fault in faults] == ["outside", "no_object"]
    (tmp_path / "data" / "images" / "b.txt").symlink_to(tmp_path / "secret.jpg")
    assert [fault.kind for fault in read_yolo(str(tmp_path / "data")).faults] == ["outside"] * 2


@pytest.mark.parametrize(
    ("yaml", "names"),
    [
        ("names: [cat, 'no', 1, 2.50]", ["cat", "no", "1", "2.50"]),
        ("names:\n- true\n- no\n- 'null'\n- 日本", ["true", "no", "null", "日本"]),
        ("names: {1: dog, 0: cat}", ["cat", "dog"]),
        ("names:\n  0: ' cat '\n  '1': dog\nnc: 2", ["cat", "dog"]),
        ("nc: 3", ["0", "1", "2"]),
    ],
)
def test_class_names(read, yaml, names):
    content = {"images/a.jpg": "", "labels/a.txt": "0 0.5 0.5 1 1"}
    assert read(f"train: images\n{yaml}\n", content).class_names == names


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML_FAULTS = [
    ("", r"data.yaml holds None, expected train, val and names"),
    ("- a", r"data.yaml holds a list of 1, expected train"),
    (NAMES, r"data.yaml has no train: name the folder of the training images"),
    ("train:\n" + NAMES, r"data.yaml has no train"),
    ("train: {a: b}\n" + NAMES, r"train must be a folder, a list file, or a list of these"),
    ("train: [[images]]\n" + NAMES, r"train must be a folder"),
    ("train: none\n" + NAMES, r"data.yaml: train names 'none', which is not below .*: mend it, or"),
    ("train: empty\n" + NAMES, r"train names no image: 'empty' holds none"),
    ("train: ../../../etc\n" + NAMES, r"train names '../../../etc', which is not below"),
    ("train: /etc\n" + NAMES, r"train names '/etc', which is not below"),
    ("train: latin.txt\n" + NAMES, r"list of images .*latin.txt is not UTF-8 text: line 1"),
    ("path: [a]\ntrain: images\n" + NAMES, r"path is a list of 1, expected a folder"),
    ("train: images\n", r"data.yaml has no names: list the classes in the order of their indices"),
    ("train: images\nnames: []", r"names is empty; list the classes"),
    ("train: images\nnames: cat", r"names is 'cat', expected a list of the classes"),
    ("train: images\nnames: [cat, [dog]]", r"the name of class 1 is a list of 1, not text"),
    ("train: images\nnames: [cat, ' ']", r"the name of class 1 is empty; mend names"),
    ("train: images\nnames: [cat, ]\nnc: 2", r"nc is 2, but names has 1 classes; mend one"),
    ("train: images\nnames: [cat, cat]", r"2 classes are called 'cat'; rename them in names"),
    ("train: images\nnames: {1: cat, 2: dog}", r"names has 2 classes but not the index 0; number"),
    ("train: images\nnames: {0: cat, x: dog}", r"names has 2 classes but not the index 1; number"),
    ("train: images\nnc: many\n" + NAMES, r"nc is 'many', expected the number of classes"),
    ("train: images\nnc: 999999999", r"nc is '999999999', expected the number of classes"),
    ('train: images\nnames: ["\\ud800"]', r"the name of class 0 .* has signs that are no text"),
    ('train: "\\ud800"\n' + NAMES, r"data.yaml"),
    ('train: "a\\0b"\n' + NAMES, r"data.yaml: train names 'a.x00b', which is not below"),
    ("train: [images\n", r"data.yaml is not YAML in line 2: "),
    ("train: a\ntrain: b\n" + NAMES, r"YAML file .*data.yaml has the key .*train.* twice"),
    ("? [a]\n: b\n", r"has a key that is not text"),
    ("---\na: b\n---\nc: d\n", r"has more than one document"),
    (BOMB, r"data.yaml uses an alias \(\*\), which is not read; write the value out"),
    ("a: &a [*a]\n", r"data.yaml uses an alias"),
    ("[" * 5000, r"data.yaml is nested too deeply"),
    ("a: " * 5000, r"data.yaml is not YAML"),
    ("%YAML 9.9\n---\na: b", r"data.yaml"),
    ("a: \0", r"data.yaml is not YAML"),
    (b"caf\xe9: x", r"data.yaml is not UTF-8 text: line 1"),
    (b"# " + b"x" * LARGEST_YAML, r"data.yaml is larger than 1 MiB; is it one?"),
]


@pytest.mark.parametrize(("yaml", "message"), YAML_FAULTS)
def test_yaml_files_that_cannot_be_used(read, tmp_path, yaml, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message) as fault:
        read(yaml, {"images/a.jpg": "", "latin.txt": b"caf\xe9"})
    assert len(str(fault.value)) < 500


def test_tags_make_no_objects():
    assert parse_yaml("a: !!python/object/apply:os.system ['x']\nb: !!int '3'") == {
        "a": ["x"],
        "b": "3",
    }


@pytest.mark.parametrize(
    "text",
    [
        "names: [" + "a, " * (LARGEST_YAML // 3 - 10) + "]",
        "a: " + "x " * (LARGEST_YAML // 2 - 10),
        "- " * (LARGEST_YAML // 2),
        "a: |\n" + " \n" * (LARGEST_YAML // 2 - 10),
        "\n".join(f"k{i}: &a{i} v" for i in range(60_000)),
    ],
)
@pytest.mark.slow
def test_the_time_for_a_yaml_file_is_bounded(read, text):
    start = time.perf_counter()
    with pytest.raises(DataError):
        read(text)
    assert time.perf_counter() - start < 300


def test_wrong_options_are_named(tmp_path):
    with pytest.raises(DataError, match=r"data.yaml does not exist: mend data.source.yolo.yaml"):
        read_yolo(str(tmp_path))
    with pytest.raises(DataError, match=r"data.source.yolo.yaml: '../x.yaml' leads out"):
        read_yolo(str(tmp_path), yaml="../x.yaml")
    with pytest.raises(DataError, match=r"data folder .* does not exist"):
        read_yolo(str(tmp_path / "none"))


def test_one_odd_line_leaves_the_others_as_they_are(read):
    # Nothing but numbers is read at once; where one is none, line by line.
    plain = {"a": "0 .5 .5 .2 .4\n1 .25 .75 .5 .5 .9\n", "b": "", "c": "1 .1 .1 .9 .2 .5 .8\n"}
    images = {f"images/{stem}.jpg": "" for stem in "abcd"}
    found = []
    for odd in ("", "0 .5 .5 .2 x\n"):
        labels = {f"labels/{stem}.txt": text for stem, text in {**plain, "d": odd}.items()}
        found.append(read(f"train: images\n{NAMES}", {**images, **labels}))
    first, second = found
    assert [(one.name, one.row) for one in first.objects["train"]] == [
        ("images/a.jpg", 1),
        ("images/a.jpg", 2),
        ("images/c.jpg", 1),
    ]
    assert list(map(repr, first.objects["train"])) == list(map(repr, second.objects["train"]))
    assert [fault.kind for fault in first.faults] == ["no_object", "no_object", "score"]
    assert [fault.kind for fault in second.faults] == ["no_object", "number", "score"]
    assert dict(second.unread) == {ImageRef(f"{second.folders[0]}/d.jpg"): 1}


def test_the_yaml_file_may_lie_in_a_subfolder(tmp_path, monkeypatch):
    content = {"in/my.yaml": f"train: images\n{NAMES}".encode(), "in/images/a.jpg": b""}
    write_files(tmp_path, {**content, "in/labels/a.txt": b"0 0.5 0.5 1 1"})
    (one,) = read_yolo(str(tmp_path), yaml="in/my.yaml").objects["train"]
    assert one.name == "in/images/a.jpg"
    monkeypatch.chdir(tmp_path)
    for root in (".", "./", "in/.."):
        (one,) = read_yolo(root, yaml="in/my.yaml").objects["train"]
        assert one.name == "in/images/a.jpg"


def test_remote_folders():
    root = "ram://read_yolo"
    content = {
        "data.yaml": f"path: sub\ntrain: images\nval: ../val.txt\n{NAMES}",
        "sub/images/x/é 1.jpg": "",
        "sub/labels/x/é 1.txt": "1 0.5 0.5 1 1\n",
        "val.txt": "images/x/é 1.jpg\nram://read_yolo/sub/images/none.jpg\n../../x.jpg\n",
    }
    for name, text in content.items():
        tf.io.gfile.makedirs(f"{root}/{name}".rpartition("/")[0])
        with tf.io.gfile.GFile(f"{root}/{name}", "w") as file:
            file.write(text)
    found = read_yolo(root)
    for split in ("train", "val"):
        (one,) = found.objects[split]
        assert one.image.path == f"{root}/sub/images/x/é 1.jpg"
        assert one.name == "sub/images/x/é 1.jpg"
        assert (one.label, one.box) == ("dog", (0, 0, 1, 1))
    assert [(fault.file, fault.kind) for fault in found.faults] == [
        (f"{root}/val.txt", "outside"),
        (f"{root}/sub/images/none.jpg", "no_object"),
    ]


# Fuzz

VALID = {
    "data.yaml": b"path: .\ntrain: images\nval: [list.txt, images/b]\n"
    b"nc: 2\nnames: {0: cat, 1: dog}\n",
    "list.txt": b"images/a.jpg\n./images/b/c.png\n",
    "images/a.jpg": b"",
    "images/b/c.png": b"",
    "labels/a.txt": b"0 0.5 0.5 1 1\n1 0.1 0.1 0.2 0.2 0.3 0.3\n",
    "labels/b/c.txt": b"1 0.25 0.5 0.25 0.5\n",
}
BY_BLANK = partial(mutated_fields, separator=" ")


@FEW_AND_MANY
def test_no_input_breaks_the_reader(tmp_path, examples):
    assert_only_data_errors(tmp_path, VALID, read_yolo, examples, BY_BLANK)
