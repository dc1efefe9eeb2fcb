"""COCO: boxes by hand and as pycocotools reads them, broken references one fault each."""

import json
import math

import pytest
import tensorflow as tf
from helpers.reader_fuzz import (
    FEW_AND_MANY,
    assert_only_data_errors,
    mutated_json,
    write_files,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loc_keras.data.formats.coco import read_coco
from loc_keras.errors import DataError

SPLITS = {"train": {"annotations": "train.json", "images": "images"}}


def tree():
    """Two images with three objects of two categories, whose ids have gaps and are not in order."""
    return {
        "info": {"description": "not read"},
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 640, "height": 480},
            {"id": 3, "file_name": "sub/é b.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 18, "bbox": [64, 48, 448, 408], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0.5, 1, 2, 3.25]},
            {"id": 9, "image_id": 7, "category_id": 18, "bbox": [1, 2, -3, 0]},
        ],
        "categories": [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 2, "name": "cat"},
        ],
    }


@pytest.fixture
def read(tmp_path):
    """Writes a tree of JSON, or bytes, and reads it as the training split."""

    def run(content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        write_files(tmp_path, {"train.json": data})
        return read_coco(str(tmp_path), splits=SPLITS)

    return run


def rows(found):
    return [one.row for one in found.objects["train"]]


def test_all_that_a_file_says(read, tmp_path):
    found = read(tree())
    # x + width and y + height, by hand.
    assert [one.box for one in found.objects["train"]] == [
        (64, 48, 512, 456),
        (0.5, 1, 2.5, 4.25),
        (1, 2, -2, 2),
    ]
    assert [one.label for one in found.objects["train"]] == ["dog", "cat", "dog"]
    assert rows(found) == [1, 2, 3]
    assert [one.name for one in found.objects["train"]] == ["sub/é b.jpg", "a.jpg", "a.jpg"]
    assert [one.size for one in found.objects["train"]] == [None, (640, 480), (640, 480)]
    first = found.objects["train"][0]
    assert first.image.path == str(tmp_path / "images" / "sub" / "é b.jpg")
    assert first.file == str(tmp_path / "train.json")
    assert found.class_names == ["cat", "dog"]
    assert found.units == "pixel"
    assert found.exact
    assert found.folders == [str(tmp_path / "images")]
    assert found.faults == []


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),
            st.integers(0, 2),
            st.lists(st.floats(0, 1000, width=32), min_size=4, max_size=4),
            st.integers(0, 1),
        ),
        max_size=12,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_pycocotools_reads_the_same(tmp_path, things):
    from pycocotools.coco import COCO

    content = {
        "images": [{"id": 10 + i, "file_name": f"{i}.jpg"} for i in range(5)],
        "categories": [{"id": 5 - i, "name": f"class {i}"} for i in range(3)],
        "annotations": [
            {
                "id": row,
                "image_id": 10 + image,
                "category_id": 5 - kind,
                "bbox": box,
                "iscrowd": crowd,
            }
            for row, (image, kind, box, crowd) in enumerate(things, 1)
        ],
    }
    write_files(tmp_path, {"train.json": json.dumps(content).encode()})
    found = read_coco(str(tmp_path), splits=SPLITS)
    theirs = COCO(str(tmp_path / "train.json"))
    expected = []
    for entry in theirs.loadAnns(theirs.getAnnIds(iscrowd=0)):
        x, y, width, height = entry["bbox"]
        name = theirs.loadImgs(entry["image_id"])[0]["file_name"]
        label = theirs.loadCats(entry["category_id"])[0]["name"]
        expected.append((entry["id"], name, label, (x, y, x + width, y + height)))
    ours = [(one.row, one.name, one.label, one.box) for one in found.objects["train"]]
    assert ours == sorted(expected)
    crowds = [fault.row for fault in found.faults if fault.kind == "crowd"]
    assert crowds == sorted(theirs.getAnnIds(iscrowd=1))
    empty = {fault.row + 9 for fault in found.faults if fault.kind == "no_object"}
    assert empty == {one for one in theirs.getImgIds() if not theirs.getAnnIds(imgIds=[one])}
    by_id = theirs.loadCats(sorted(theirs.getCatIds()))
    used = {theirs.loadCats(one["category_id"])[0]["name"] for one in theirs.dataset["annotations"]}
    assert found.class_names == [one["name"] for one in by_id if one["name"] in used]


def changed(**entry):
    """A change of the second annotation."""

    def change(content):
        content["annotations"][1].update(entry)
        for key in [key for key, value in entry.items() if value is ...]:
            del content["annotations"][1][key]

    return change


ANNOTATION_FAULTS = [
    ({"iscrowd": 1}, "is a crowd", "crowd"),
    ({"image_id": 8}, "image_id 8 is no image", "reference"),
    ({"image_id": ...}, "image_id None is no image", "reference"),
    ({"image_id": [7]}, "image_id a list of 1 is no image", "reference"),
    ({"image_id": True}, "image_id True is no image", "reference"),
    ({"image_id": "07"}, "image_id '07' is no image", "reference"),
    ({"category_id": 1}, "category_id 1 is no category", "label"),
    ({"category_id": {}}, "category_id a mapping of 0 is no category", "label"),
    ({"bbox": ...}, "bbox is None, not a list of 4 numbers", "columns"),
    ({"bbox": [1, 2, 3]}, "bbox is a list of 3, not a list of 4 numbers", "columns"),
    ({"bbox": []}, "bbox is a list of 0, not a list of 4 numbers", "columns"),
    ({"bbox": "1234"}, "bbox is '1234', not a list of 4 numbers", "columns"),
    ({"bbox": [1, 2, 3, "4_0"]}, "bbox: '4_0' is not a number", "number"),
    ({"bbox": [1, 2, 3, None]}, "bbox: None is not a number", "number"),
    ({"bbox": [True, 2, 3, 4]}, "bbox: True is not a number", "number"),
    ({"bbox": [10**400, 2, 3, 4]}, "bbox: a huge number is not a number of px", "number"),
]


@pytest.mark.parametrize(("entry", "reason", "kind"), ANNOTATION_FAULTS)
def test_a_bad_annotation_is_one_fault(read, tmp_path, entry, reason, kind):
    content = tree()
    changed(**entry)(content)
    found = read(content)
    assert rows(found) == [1, 3]
    (fault,) = [fault for fault in found.faults if fault.kind != "class_unused"]
    assert fault[:4] == (str(tmp_path / "train.json"), 2, f"of annotations: {reason}", kind)


def test_an_annotation_that_is_none(read):
    found = read({**tree(), "annotations": [*tree()["annotations"], 5, None, []]})
    assert [(fault.row, fault.kind) for fault in found.faults] == [(n, "syntax") for n in (4, 5, 6)]


def test_infinite_numbers_are_for_others_to_judge(read):
    content = tree()
    changed(bbox=[math.nan, 0, math.inf, 1])(content)
    assert "NaN" in json.dumps(content)
    box = read(content).objects["train"][1].box
    assert math.isnan(box[0])
    assert math.isnan(box[2])
    assert (box[1], box[3]) == (0, 1)


IMAGE_FAULTS = [
    ({"file_name": "../../a.jpg"}, "file_name '../../a.jpg' leads out of the data", "outside"),
    ({"file_name": "/etc/passwd"}, "file_name '/etc/passwd' is absolute", "outside"),
    ({"file_name": "a\0.jpg"}, "file_name 'a\\x00.jpg' names no file", "outside"),
    ({"file_name": "\ud800.jpg"}, "file_name '\\ud800.jpg' names no file", "outside"),
    ({"file_name": None}, "file_name is None, not text", "syntax"),
    ({"file_name": 5}, "file_name is 5, not text", "syntax"),
]


@pytest.mark.parametrize(("entry", "reason", "kind"), IMAGE_FAULTS)
def test_a_bad_image_is_a_fault_and_so_are_its_objects(read, entry, reason, kind):
    content = tree()
    content["images"][1].update(entry)
    found = read(content)
    assert rows(found) == [2, 3]
    assert [(fault.row, fault.kind) for fault in found.faults] == [(2, kind), (1, "reference")]
    assert found.faults[0].reason.startswith(f"of images: {reason}")
    assert found.faults[1].reason == "of annotations: its image 3 cannot be used"


def test_ids_that_stand_twice_or_are_none(read):
    content = tree()
    content["images"] += [{"id": 7, "file_name": "other.jpg"}, {"id": None}, {"id": 1.5}, "x"]
    content["categories"] += [{"id": 2, "name": "cow"}, {"name": "horse"}, 3]
    found = read(content)
    # What image 7 and category 2 are is not known.
    assert rows(found) == [1]
    assert found.class_names == ["dog"]
    assert [(fault.row, fault.reason.split(":")[0], fault.kind) for fault in found.faults] == [
        *[(3, "of images", "duplicate_id"), (4, "of images", "syntax")],
        *[(5, "of images", "syntax"), (6, "of images", "syntax")],
        *[(3, "of categories", "duplicate_id"), (4, "of categories", "syntax")],
        *[(5, "of categories", "syntax")],
        *[(2, "of annotations", "reference"), (3, "of annotations", "reference")],
    ]


def test_the_same_entry_twice_is_no_contradiction(read):
    content = tree()
    content["images"].append(content["images"][0])
    content["categories"].append(content["categories"][0])
    found = read(content)
    assert rows(found) == [1, 2, 3]
    assert found.faults == []


def test_ids_of_annotations_join_nothing(read, tmp_path):
    content = tree()
    for entry in content["annotations"]:
        entry["id"] = 0
    assert rows(read(content)) == [1, 2, 3]
    # Two of three have an id of their own: the third contradicts the second, of the same image.
    for entry, own in zip(content["annotations"], (1, 2, 2), strict=True):
        entry["id"] = own
    found = read(content)
    assert rows(found) == [1, 2]
    (fault,) = found.faults
    assert (fault.row, fault.kind) == (3, "duplicate_id")
    assert fault.reason == (
        "of annotations: the id 2 occurs before, with another object of the same image"
    )
    content["annotations"][1]["image_id"] = 3  # As where files were joined.
    assert rows(read(content)) == [1, 2, 3]


def test_ids_that_are_text_in_one_place_and_numbers_in_another(read):
    content = tree()
    for entry in content["annotations"]:
        entry["image_id"] = str(entry["image_id"])
        entry["category_id"] = str(entry["category_id"])
    found = read(content)
    assert [(one.name, one.label) for one in found.objects["train"]] == [
        ("sub/é b.jpg", "dog"),
        ("a.jpg", "cat"),
        ("a.jpg", "dog"),
    ]
    assert found.faults == []


# The mask of 4 x 3 px below, column by column: 5 times 0, twice 1, twice 0, once 1, twice 0.
#     . . . .
#     . X X .  rows 1..2 of column 1, row 0 of column 3 as counted here
MASK = [[0, 0, 0, 1], [0, 1, 0, 0], [0, 1, 0, 0]]


def shapes():
    """Segmentations and the box (x1, y1, x2, y2) around each, as drawn or as pycocotools says."""
    import numpy as np
    from pycocotools import mask

    rng = np.random.default_rng(0)
    yield [[3, 4, 9.5, 4, 9.5, 8]], (3, 4, 9.5, 8)
    yield [3, 4, 9.5, 4, 9.5, 8], (3, 4, 9.5, 8)
    yield [[1, 2, 3, 2, 3, 4], [7, 1, 8, 1, 8, 9]], (1, 1, 8, 9)
    pictures = [np.array(MASK), *(rng.random((30, 40)) < share for share in (0.001, 0.02, 0.6))]
    full = np.zeros((9, 7))
    full[:, 2:5] = 1
    for picture in [*pictures, full]:
        rle = mask.encode(np.asfortranarray(picture, np.uint8))
        x, y, width, height = mask.toBbox(rle)
        box = (x, y, x + width, y + height)
        yield {"counts": rle["counts"].decode(), "size": list(picture.shape)}, box
        flat = np.asarray(picture, int).flatten(order="F")
        edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
        runs = np.diff([0, *edges, len(flat)]).tolist()
        yield {"counts": runs, "size": list(picture.shape)}, box


def test_numbers_may_be_written_as_text(read):
    content = tree()
    changed(bbox=["1", "2.5", "3e0", 4])(content)
    found = read(content)
    assert found.faults == []
    assert found.objects["train"][1].box == (1, 2.5, 4, 6.5)


@pytest.mark.parametrize("bbox", [None, [], [0, 0, 0, 0], ...])
def test_boxes_around_polygons_and_masks(read, bbox):
    for shape, box in shapes():
        content = tree()
        changed(bbox=bbox, segmentation=shape)(content)
        found = read(content)
        assert found.faults == []
        assert found.objects["train"][1].box == box


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([[1, 2, 3, 4]], "segmentation: a list of 4 is not a polygon"),
        ([[1, 2, 3, 4, 5, "x"]], "segmentation: 'x' is not a number"),
        ({"counts": [5, -1], "size": [3, 4]}, "segmentation: counts are no lengths of runs"),
        ({"counts": "5", "size": [3, 4]}, "segmentation: the mask is empty or longer than"),
        ({"counts": [0, 99], "size": [3, 4]}, "segmentation: the mask is empty or longer than"),
        ({"counts": [0, 9], "size": 3}, "segmentation: size is 3, not height and width"),
        ("x", "segmentation is 'x', not polygons or a mask"),
    ],
)
def test_shapes_that_are_none(read, shape, reason):
    content = tree()
    changed(bbox=..., segmentation=shape)(content)
    found = read(content)
    assert rows(found) == [1, 3]
    (fault,) = found.faults
    assert fault.reason.startswith(f"of annotations: {reason}")


def test_a_category_without_objects_is_no_class(read):
    content = tree()
    content["categories"].append({"id": 0, "name": "things"})
    content["categories"].append({"id": 5, "name": "empty"})
    content["images"].append({"id": 4, "file_name": "bare.jpg"})
    # COCO Camera Traps: an annotation of "empty" without a box.
    content["annotations"].append({"id": 77, "image_id": 4, "category_id": 5})
    found = read(content)
    assert found.class_names == ["cat", "dog"]
    told = {fault.kind: fault for fault in found.faults}
    assert told["class_unused"].reason.startswith("has no object of 'things', 'empty': ")
    assert [(empty.name, empty.fault.kind) for empty in found.empty] == [("bare.jpg", "no_object")]


@pytest.mark.parametrize(
    "name",
    [
        "/content/set/images/a.jpg",
        "C:\\Users\\me\\a.jpg",
        "../../label-studio/data/media/upload/1/a.jpg",
        "https://host.example/files/a.jpg?token=1",
        "gs://bucket/a.jpg",
        "/data/local-files/?d=photos/a.jpg",
        "/data/local-files/?d=images/a.jpg",
        "a",
        "A.JPG",
        "elsewhere/a.jpg",
    ],
)
def test_images_are_found_by_the_last_part(read, tmp_path, name):
    write_files(tmp_path, {"images/a.jpg": b"", "images/deep/b.jpg": b""})
    content = tree()
    content["images"][0]["file_name"] = name
    found = read(content)
    assert found.objects["train"][1].image.path == str(tmp_path / "images" / "a.jpg")
    assert found.faults == []


def test_a_last_part_that_fits_two_images_is_a_fault(read, tmp_path):
    write_files(tmp_path, {"images/x/a.jpg": b"", "images/y/a.jpg": b""})
    content = tree()
    content["images"][0]["file_name"] = "/elsewhere/a.jpg"
    fault = read(content).faults[0]
    assert fault.kind == "missing_image"
    assert fault.reason == (
        "of images: file_name '/elsewhere/a.jpg' fits images/x/a.jpg and images/y/a.jpg; write its "
        "folder, too"
    )
    # Its folder decides.
    content["images"][0]["file_name"] = "/elsewhere/y/a.jpg"
    assert read(content).objects["train"][1].image.path == str(tmp_path / "images/y/a.jpg")
    # The folder that the name gives is there, but no such image in it.
    content["images"][0]["file_name"] = "y/b.jpg"
    write_files(tmp_path, {"images/x/b.jpg": b""})
    assert read(content).objects["train"][1].image.path == str(tmp_path / "images/y/b.jpg")


@pytest.mark.parametrize(
    "name", [None, 5, "", " ", "c\0t", "c\nt", "c\u2028t", "c\x85t", "\ud800", ["cat"]]
)
def test_categories_without_a_name(read, name):
    content = tree()
    content["categories"][1]["name"] = name
    found = read(content)
    assert found.class_names == ["dog"]
    assert [(fault.row, fault.kind) for fault in found.faults] == [(2, "label"), (2, "label")]


def test_ids_may_be_text_or_whole_floats(read):
    content = tree()
    content["images"][0]["id"] = "x"
    content["annotations"][1]["image_id"] = content["annotations"][2]["image_id"] = "x"
    content["annotations"][0]["category_id"] = 18.0
    found = read(content)
    assert rows(found) == [1, 2, 3]
    assert found.faults == []


@pytest.mark.parametrize("sides", [(-1, 5), ("640", 480), (1e400, 1), (math.nan, 1), ([], 2)])
def test_declared_sizes_that_are_none(read, sides):
    content = tree()
    content["images"][0].update(width=sides[0], height=sides[1])
    found = read(content)
    assert [one.size for one in found.objects["train"]] == [None] * 3
    # An empty list says nothing, as 0 does.
    expected = [] if sides == ([], 2) else [(1, "declared_size")]
    assert [(fault.row, fault.kind) for fault in found.faults] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is not JSON: Expecting value in line 1, column 1; mend it"),
        (b'{"images": [],\n"annotations": [', r"is not JSON: Expecting value in line 2, column 17"),
        (b"[]", r"holds a list of 0, expected a JSON object"),
        (b"5", r"holds 5, expected a JSON object"),
        (b"{}", r"it has no images; expected lists of images, annotations and categories"),
        (b'{"images": 5}', r"images is 5; expected lists of images, annotations and categories"),
        (b"[" * 10**6, r"is nested too deeply; mend it"),
        (b'{"a":' * 10**6, r"is nested too deeply; mend it"),
        (b'{"images": ' + b"1" * 9999 + b"}", r"has a number of too many digits"),
        (b"\xff\xd8\xff\xe0", r"is not UTF-8 text: line 1"),
    ],
)
def test_files_that_are_not_coco(read, content, message):
    with pytest.raises(DataError, match=rf"COCO file .*train.json:? {message}"):
        read(content)


def test_byte_order_marks(read):
    for encoding in ("utf-8-sig", "utf-16"):
        assert rows(read(json.dumps(tree(), ensure_ascii=False).encode(encoding))) == [1, 2, 3]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": {"annotations": "none.json"}},
            r"none.json does not exist: mend data.source.coco",
        ),
        ({"train": {}}, r"data.source.coco.splits.train.annotations is missing"),
        ({"train": {"annotations": "../a.json"}}, r"train.annotations: '../a.json' leads out"),
        ({"train": {"annotations": "a.json", "images": "/"}}, r"train.images: '/' is absolute"),
        ({}, r"data.source.coco.splits.train is missing"),
    ],
)
def test_wrong_options_are_named(tmp_path, splits, message):
    write_files(tmp_path, {"a.json": json.dumps(tree()).encode()})
    with pytest.raises(DataError, match=message):
        read_coco(str(tmp_path), splits=splits)


def test_remote_folders():
    root = "ram://read_coco"
    tf.io.gfile.makedirs(f"{root}/a é")
    with tf.io.gfile.GFile(f"{root}/a é/train.json", "w") as file:
        file.write(json.dumps(tree()))
    splits = {"train": {"annotations": "a é/train.json", "images": "images"}}
    found = read_coco(root, splits=splits)
    assert [one.image.path for one in found.objects["train"]] == [
        f"{root}/images/{name}" for name in ("sub/é b.jpg", "a.jpg", "a.jpg")
    ]
    assert found.faults == []


@pytest.mark.parametrize("value", [None, 0, "0", "", [], {}])
def test_an_object_is_no_crowd_whatever_stands_for_none(read, value):
    content = tree()
    content["annotations"][0]["iscrowd"] = value
    found = read(content)
    assert len(found.objects["train"]) == 3
    assert found.faults == []


# Fuzz

VALID = {"train.json": json.dumps(tree()).encode()}


@FEW_AND_MANY
def test_no_input_breaks_the_reader(tmp_path, examples):
    assert_only_data_errors(
        tmp_path, VALID, lambda root: read_coco(root, splits=SPLITS), examples, mutated_json
    )
