"""Files of labelling tools: exact boxes, shapes, names of images, and what is said of the rest."""

import base64
import json
import math
import os

import numpy as np
import pytest
from helpers.annotated import all_objects
from helpers.converted import drawn, save
from helpers.reader_fuzz import write_files
from helpers.tool_files import DRAWN, PUBLISHED, SIZES, TOOL_FILES, labelme

from loc_keras.cli.data_source import read_folder
from loc_keras.data.formats.detection import list_data_folder, unrecognised
from loc_keras.data.formats.registry import FORMATS, read_annotations
from loc_keras.data.formats.tools import TOOLS
from loc_keras.errors import DataError


def px(found, one):
    """The box of an object of `a` or `b` in px."""
    stem = one.image.path.rpartition("/")[2][0]
    scale = [*SIZES[stem], *SIZES[stem]] if found.units == "fraction" else [1] * 4
    return tuple(np.array(one.box) * scale)


def test_every_tool_has_files():
    assert {*TOOL_FILES, *PUBLISHED} == set(TOOLS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets_are_read_in_their_splits(tmp_path, name):
    contents, images, wanted = PUBLISHED[name]
    write_files(tmp_path, {**contents, **dict.fromkeys(images, b"")})
    found = read_annotations(name, str(tmp_path))
    assert found.faults == []
    assert {
        (split, one.image.path.rpartition("/")[2], one.label, one.box)
        for split, one in all_objects(found)
    } == wanted
    assert not any("other" in one.image.path for _, one in all_objects(found))


@pytest.mark.parametrize("name", TOOL_FILES)
def test_boxes_are_those_that_were_drawn(tmp_path, name):
    contents, images = TOOL_FILES[name]
    write_files(tmp_path, {**contents, **dict.fromkeys(images, b"")})
    found = read_annotations(name, str(tmp_path))
    assert found.faults == []
    assert sorted(found.objects) == ["train"]
    seen = {
        one.image.path.rpartition("/")[2][0]: (one.label, px(found, one))
        for one in found.objects["train"]
    }
    assert {stem: label for stem, (label, _) in seen.items()} == {"a": "cup", "b": "key"}
    for stem, (_, box) in DRAWN.items():
        np.testing.assert_allclose(seen[stem][1], box, atol=1e-6)


def read_labelme(root, **contents):
    write_files(root, {f"{name}.json": content for name, content in contents.items()})
    return FORMATS["labelme"].read(str(root), cache_dir=str(root / "cache"))


@pytest.mark.parametrize(
    ("kind", "points", "box"),
    [
        ("rectangle", [[72, 33], [50, 53]], (50, 33, 72, 53)),
        ("polygon", [[50, 40], [60, 33], [72, 53]], (50, 33, 72, 53)),
        ("oriented_rectangle", [[60, 20], [70, 30], [60, 40], [50, 30]], (50, 20, 70, 40)),
        ("mask", [[50, 33], [72, 53]], (50, 33, 72, 53)),
        # Centre and a point of the rim, 5 px away.
        ("circle", [[30, 20], [33, 24]], (25, 15, 35, 25)),
    ],
)
def test_shapes_of_labelme_count_as_their_extent(tmp_path, kind, points, box):
    shape = {"label": "cup", "points": points, "shape_type": kind}
    (tmp_path / "a.png").touch()
    (one,) = read_labelme(tmp_path, a=labelme("a", shapes=[shape])).objects["train"]
    assert one.box == box


def test_shapes_without_a_box_are_notes(tmp_path):
    (tmp_path / "a.png").touch()
    kinds = ("point", "line", "linestrip", "points")
    shapes = [{"label": "x", "points": [[1, 2], [3, 4]], "shape_type": one} for one in kinds]
    found = read_labelme(tmp_path, a=labelme("a", shapes=shapes))
    assert [(one.kind, one.row, one.severity) for one in found.faults] == [
        ("no_box", row, "note") for row in (1, 2, 3, 4)
    ]
    assert not any(found.objects.values()) and not found.unread


def test_bad_shapes_cost_one_fault_each(tmp_path):
    shapes = [
        {"label": "x", "points": [[1, 2], ["a", 4]], "shape_type": "rectangle"},
        {"points": [[1, 2], [3, 4]], "shape_type": "rectangle"},
        {"label": 5.5, "points": [[1, 2], [3, 4]]},
        {"label": "x", "points": [[1, 2]], "shape_type": "rectangle"},
        {"label": "x", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"},
    ]
    (tmp_path / "a.png").touch()
    found = read_labelme(tmp_path, a=labelme("a", shapes=shapes), c=b'{"shapes": [', d=b"{}")
    kinds = [(one.file.rpartition("/")[2], one.row, one.kind) for one in found.faults]
    assert kinds == [
        ("c.json", 0, "syntax"),
        *[("a.json", 1, "number"), ("a.json", 2, "syntax"), ("a.json", 3, "label")],
        ("a.json", 4, "no_box"),
    ]
    assert "has no 'label'" in found.faults[2].reason
    assert [one.row for one in found.objects["train"]] == [5]


def test_an_image_of_the_same_name_outranks_what_is_written(tmp_path):
    """Copies and renamed pictures keep the old name inside."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    found = read_labelme(tmp_path, a=labelme("a"), b=labelme("a"))
    names = [one.image.path.rpartition("/")[2] for one in found.objects["train"]]
    assert names == ["a.png", "b.png"]


def test_images_inside_are_used_where_none_stands_beside(tmp_path):
    content = save(tmp_path / "x" / "a.png", drawn(96, 64, (50, 33, 72, 53))).read_bytes()
    inside = base64.b64encode(content).decode()
    labels = tmp_path / "labels"
    (one,) = read_labelme(labels, c=labelme("a", imageData=inside)).objects["train"]
    with open(one.image.path, "rb") as file:
        assert file.read() == content
    assert one.image.path.startswith(str(labels / "cache")) and one.image.path.endswith(".png")
    broken = read_labelme(labels, c=labelme("a", imageData="%%%"))
    assert [one.kind for one in broken.faults] == ["syntax"]


@pytest.mark.parametrize(
    "written",
    [
        *("a", "A.PNG", "/home/me/set/a.png", "C:\\set\\a.png", "gs://bucket/set/a.png"),
        *("old/b/a.png", "https://host/1/a.png?x=1", "/data/local-files/?d=set/a.png"),
        *("/data/upload/3/0a1b2c3d-a.png", "/data/local-files/?d=i/a.png"),
    ],
)
def test_names_are_found_by_their_last_part(tmp_path, written):
    contents, _ = TOOL_FILES["createml"]
    tree = json.loads(contents["_annotations.createml.json"])
    tree[0]["image"] = written
    write_files(tmp_path, {"c/x.json": json.dumps(tree).encode(), "i/a.png": b"", "i/b.png": b""})
    found = read_annotations("createml", str(tmp_path))
    assert found.faults == []
    assert found.objects["train"][0].image.path == f"{tmp_path}/i/a.png"


def test_a_name_that_may_be_several_images_is_a_fault(tmp_path):
    contents, _ = TOOL_FILES["createml"]
    images = dict.fromkeys(("x/a.png", "y/a.png", "b.png"), b"")
    write_files(tmp_path, {**contents, **images})
    found = read_annotations("createml", str(tmp_path))
    assert [(one.kind, one.reason) for one in found.faults] == [
        ("missing_image", "image 'a.png' may be x/a.png or y/a.png")
    ]


def test_label_studio_turns_about_the_upper_left_corner(tmp_path):
    """By hand: 20 x 10 px at (40, 10) turned by 90 degrees clockwise covers (30, 10, 40, 30)."""
    contents, _ = TOOL_FILES["label_studio"]
    ((name, text),) = contents.items()
    tree = json.loads(text)
    value = tree[0]["annotations"][0]["result"][0]["value"]
    value |= {"x": 4000 / 96, "y": 1000 / 64, "width": 2000 / 96, "height": 1000 / 64}
    value["rotation"] = 90
    write_files(tmp_path, {name: json.dumps(tree).encode(), "a.png": b"", "b.png": b""})
    found = read_annotations("label_studio", str(tmp_path))
    np.testing.assert_allclose(px(found, found.objects["train"][0]), (30, 10, 40, 30), atol=1e-6)
    assert found.upright_tool == "Label Studio"


def test_tracks_of_cvat_are_read_where_frames_are_files(tmp_path):
    box = '<box frame="{}" keyframe="1" outside="{}" xtl="1" ytl="2" xbr="30" ybr="40"/>'
    boxes = "".join(box.format(*one) for one in ((0, 0), (1, 0), (2, 1)))
    track = f'<track id="0" label="car">{boxes}</track>'
    text = f"<annotations><version>1.1</version>{track}</annotations>"
    write_files(tmp_path, {"annotations.xml": text.encode(), "images/frame_000000.PNG": b""})
    found = read_annotations("cvat", str(tmp_path))
    (one,) = found.objects["train"]
    assert (one.label, one.box) == ("car", (1, 2, 30, 40))
    assert one.image.path.endswith("images/frame_000000.PNG")
    assert [(one.kind, one.severity) for one in found.faults] == [("missing_frame", "note")]


def test_turned_boxes_and_ellipses_of_cvat_count_as_their_extent(tmp_path):
    """By hand: a square of 20 px turned by 45 degrees is 20 * sqrt(2) wide."""
    shapes = (
        '<box label="x" xtl="20" ytl="20" xbr="40" ybr="40" rotation="45"/>'
        '<ellipse label="x" cx="30" cy="30" rx="20" ry="5" rotation="90"/>'
        '<points label="x" points="1,2;3,4"/>'
    )
    text = f'<annotations><image name="a.png" width="96" height="64">{shapes}</image></annotations>'
    write_files(tmp_path, {"x.xml": text.encode(), "a.png": b""})
    found = read_annotations("cvat", str(tmp_path))
    half = 10 * math.sqrt(2)
    wanted = [(30 - half, 30 - half, 30 + half, 30 + half), (25, 10, 35, 50)]
    np.testing.assert_allclose([one.box for one in found.objects["train"]], wanted, atol=1e-9)
    assert [one.kind for one in found.faults] == ["no_box"]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_images_within_shards_of_hugging_face(tmp_path, form):
    """As `datasets` 5.2.0 writes them: `to_parquet` with images embedded, and `save_to_disk`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = save(tmp_path / "x" / "a.png", drawn(96, 64, (50, 33, 72, 53))).read_bytes()
    rows = [
        {
            "image": {"bytes": content, "path": "a.png"},
            "objects": {"bbox": [[50.0, 33.0, 22.0, 20.0]], "category": [1]},
        }
    ] * 2
    category = {"feature": {"names": ["key", "cup"], "_type": "ClassLabel"}, "_type": "List"}
    features = {"image": {"_type": "Image"}, "objects": {"category": category}}
    described = json.dumps({"info": {"features": features}})
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"huggingface": described})
    folder = tmp_path / "set" / "train"
    folder.mkdir(parents=True)
    if form == "parquet":
        pq.write_table(table, folder / "train-00000-of-00001.parquet")
    else:
        file = pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb")
        with file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    cache = str(tmp_path / "cache")
    found = FORMATS["huggingface"].read(str(tmp_path / "set"), cache_dir=cache)
    assert [(one.label, one.box) for one in found.objects["train"]] == [
        ("cup", (50.0, 33.0, 72.0, 53.0))
    ] * 2
    paths = {one.image.path for one in found.objects["train"]}
    assert len(paths) == 2, "rows of the same bytes are two images"
    for path in paths:
        with open(path, "rb") as file:
            assert file.read() == content


def test_a_folder_without_such_files_is_named(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"holds no LabelMe JSON; mend data\.source\.format"):
        read_annotations("labelme", str(tmp_path))


def test_turned_boxes_of_rolabelimg_count_as_their_extent(tmp_path):
    """By hand: 20 x 10 px about (50, 30), turned by a quarter, covers (45, 20, 55, 40)."""
    box = "<cx>50</cx><cy>30</cy><w>20</w><h>10</h><angle>1.5707963267948966</angle>"
    turned = f"<object><type>robndbox</type><name>x</name><robndbox>{box}</robndbox></object>"
    text = f"<annotation><filename>a.png</filename>{turned}</annotation>"
    write_files(tmp_path, {"a.xml": text.encode(), "a.png": b""})
    found = read_annotations("voc", str(tmp_path), splits={"train": {}})
    np.testing.assert_allclose(found.objects["train"][0].box, (45, 20, 55, 40), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("md.json", '{"images": [], "detection_categories": {"1": "animal"}}', "MegaDetector"),
        ("observations.csv", "observationID,mediaID,bboxX,bboxY,bboxWidth,bboxHeight\n", "Camtrap"),
        (
            "P0001.txt",
            "imagesource:GoogleEarth\ngsd:0.1\n2753 2408 2861 2385 2888 2468 2805 2502 plane 0\n",
            "DOTA",
        ),
        ("x.geojson", '{"properties": {"bounds_imcoords": "1,2,3,4"}}', "xView"),
        (
            "wider_face_train_bbx_gt.txt",
            "0--Parade/0_Parade_1.jpg\n1\n449 330 122 149 0 0 0 0 0 0\n",
            "WIDER FACE lists, a format that is not read: datum convert",
        ),
        ("gt/gt.txt", "1,1,10,20,30,40,1,1,1.0\n", "MOT tracks"),
        ("a.json", '{"objects": [{"classTitle": "x"}]}', "Supervisely"),
        ("cars_annos.mat", "MATLAB 5.0", "MATLAB"),
        ("boxes.xlsx", "PK", "a spreadsheet, a format that is not read: save it as CSV"),
        ("boxes.json", '[{"image": "a.png", "bbox": [1, 2, 3, 4]}]', "JSON that is not known"),
    ],
)
def test_what_is_not_read_is_named_with_a_way_on(tmp_path, name, text, said):
    write_files(tmp_path, {name: text.encode(), "a.png": b""})
    sentence = unrecognised(list_data_folder(str(tmp_path)))
    assert sentence.startswith(f"{name} holds ") and said in sentence and sentence.endswith(".")


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ({"name": "circle", "cx": 30, "cy": 20, "r": 5.5}, (24.5, 14.5, 35.5, 25.5)),
        ({"name": "ellipse", "cx": 30, "cy": 20, "rx": 9, "ry": 4}, (21, 16, 39, 24)),
        # A quarter of a turn, in radians.
        (
            {"name": "ellipse", "cx": 30, "cy": 20, "rx": 9, "ry": 4, "theta": math.pi / 2},
            (26, 11, 34, 29),
        ),
        ({"name": "polygon", "all_points_x": [9, 2, 5], "all_points_y": [1, 7, 3]}, (2, 1, 9, 7)),
        ({"name": "polyline", "all_points_x": [9, 2], "all_points_y": [1, 7]}, (2, 1, 9, 7)),
    ],
)
@pytest.mark.parametrize("old", [True, False], ids=["VIA 1", "project of VIA 2"])
def test_shapes_of_via_count_as_their_extent(tmp_path, shape, box, old):
    regions = [
        {"shape_attributes": shape, "region_attributes": {"colour": "red", "type": "cup"}},
        {"shape_attributes": {"name": "point", "cx": 1, "cy": 2}, "region_attributes": {}},
        {"shape_attributes": shape, "region_attributes": {"a": "1", "b": "2"}},
    ]
    listed = {str(number): one for number, one in enumerate(regions)} if old else regions
    images = {"a.png9": {"filename": "a.png", "size": 9, "regions": listed, "file_attributes": {}}}
    tree = images if old else {"_via_settings": {}, "_via_img_metadata": images}
    write_files(tmp_path, {"x.json": json.dumps(tree).encode(), "a.png": b""})
    found = read_annotations("via", str(tmp_path))
    (one,) = found.objects["train"]
    assert one.label == "cup"
    np.testing.assert_allclose(one.box, box, atol=1e-9)
    assert [fault.kind for fault in found.faults] == ["no_box", "label"]


@pytest.mark.parametrize(
    ("value", "box"),
    [
        ({"points": [[10, 50], [20, 25]], "polygonlabels": ["x"]}, (9.6, 16, 19.2, 32)),
        (
            {"x": 50, "y": 50, "radiusX": 10, "radiusY": 25, "ellipselabels": ["x"]},
            (38.4, 16, 57.6, 48),
        ),
        ({"x": 5, "y": 5, "width": 1, "keypointlabels": ["x"]}, None),
        ({"format": "rle", "rle": [1, 2], "brushlabels": ["x"]}, None),
    ],
)
@pytest.mark.parametrize("minimal", [True, False], ids=["JSON-MIN", "JSON"])
def test_shapes_of_label_studio_count_as_their_extent(tmp_path, value, box, minimal):
    """Percent of 96 x 64 px."""
    sizes = {"original_width": 96, "original_height": 64}
    kind = next(key for key in value if key.endswith("labels"))
    if minimal:
        task = {"image": "/data/upload/1/0a1b2c3d-a.png", "id": 1, "annotator": 1}
        task["label"] = [{**value, **sizes}]
    else:
        result = [{**sizes, "id": "r", "type": kind, "value": value}]
        cancelled = {"was_cancelled": True, "result": []}
        task = {"id": 1, "annotations": [cancelled, {"result": result}]}
        task["data"] = {"photo": "/data/local-files/?d=set%2Fa.png"}
    write_files(tmp_path, {"x.json": json.dumps([task]).encode(), "a.png": b""})
    found = read_annotations("label_studio", str(tmp_path))
    if box is None:
        assert [fault.kind for fault in found.faults] == ["no_box"]
        return
    (one,) = found.objects["train"]
    np.testing.assert_allclose(px(found, one), box, atol=1e-9)
    assert found.faults == []


def test_of_several_annotators_one_counts(tmp_path):
    contents, _ = TOOL_FILES["label_studio"]
    ((name, text),) = contents.items()
    tree = json.loads(text)
    first = tree[0]["annotations"][0]
    chosen = json.loads(json.dumps(first)) | {"ground_truth": True}
    chosen["result"][0]["value"]["rectanglelabels"] = ["truth"]
    tree[0]["annotations"] = [first, chosen]
    tree[1]["annotations"] = []
    write_files(tmp_path, {name: json.dumps(tree).encode(), "a.png": b"", "b.png": b""})
    found = read_annotations("label_studio", str(tmp_path))
    assert [one.label for one in found.objects["train"]] == ["truth"]
    assert [fault.kind for fault in found.faults] == ["duplicate_row", "no_object"]


def test_images_without_an_object_are_known_as_such(tmp_path):
    (tmp_path / "a.png").touch()
    found = read_labelme(tmp_path, a=labelme("a", shapes=[]))
    assert [(one.split, one.name) for one in found.empty] == [("train", "a.png")]
    assert [one.kind for one in found.faults] == ["no_object"]


def test_of_images_of_one_name_the_one_that_belongs_to_the_file_counts(tmp_path):
    """BBox-Label-Tool numbers the folders of classes; the old version wrote no class."""
    contents = {f"Labels/{one}/1.txt": b"1\n1 2 30 40\n" for one in ("001", "002")}
    images = {f"Images/{one}/1.png": b"" for one in ("001", "002")}
    write_files(tmp_path, {**contents, **images})
    found = read_annotations("bbox_label_tool", str(tmp_path))
    assert [(one.image.path, one.label) for one in found.objects["train"]] == [
        (f"{tmp_path}/Images/{one}/1.png", one) for one in ("001", "002")
    ]


def test_files_that_were_looked_at_count_as_unused(tmp_path):
    contents, _ = TOOL_FILES["createml"]
    for stem, (_, box) in DRAWN.items():
        save(tmp_path / f"{stem}.png", drawn(*SIZES[stem], map(int, box)))
    write_files(tmp_path, {**contents, "other.json": b'{"x": 1}'})
    reading = read_folder(str(tmp_path), [], name="x")
    sentences = [one.sentence() for one in reading.source.label_files]
    assert sentences == [
        "_annotations.createml.json: used for train",
        "other.json: not used: the folder is read as createml, without it",
    ]


def test_a_line_of_sagemaker_without_a_job_is_a_fault(tmp_path):
    contents, _ = TOOL_FILES["sagemaker"]
    ((name, text),) = contents.items()
    write_files(tmp_path, {name: text + b'{"source-ref": "s3://bucket/set/b.png"}\n'})
    found = read_annotations("sagemaker", str(tmp_path))
    (fault,) = (one for one in found.faults if one.kind == "syntax")  # The images are not there.
    assert fault.row == 3 and "has no 'annotations'" in fault.reason


@pytest.mark.parametrize(
    "name", ["labelme", "createml", "via", "via3", "label_studio", "datumaro", "vott"]
)
def test_one_file_of_several_counts_alone(tmp_path, name):
    for stem, (_, box) in DRAWN.items():
        save(tmp_path / f"{stem}.png", drawn(*SIZES[stem], map(int, box)))
    contents, _ = TOOL_FILES[name]
    first, *_ = contents
    others = {f"copy{number}.json": text for number, text in enumerate(contents.values())}
    write_files(tmp_path, {first: contents[first], **others})
    reading = read_folder(str(tmp_path / first), [], name="x")
    assert reading.source.config.data.source.file == first
    assert {one.file for _, one in all_objects(reading.source.annotations)} == {
        f"{tmp_path}/{first}"
    }
    assert all(fault.kind != "duplicate_row" for fault in reading.records.faults)


def test_a_file_of_labels_that_is_a_pipe(tmp_path):
    write_files(tmp_path, {"a.png": b""})
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"is no regular file but a pipe: mend data\.source\.file"):
        read_annotations("labelme", str(tmp_path), file="a.json")
    with pytest.raises(DataError, match=r"a\.json is no regular file but a pipe: mend"):
        read_annotations("coco", str(tmp_path), splits={"train": {"annotations": "a.json"}})
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        read_annotations("coco", str(tmp_path), splits={"train": {"annotations": "none.json"}})


def test_export_of_vott_holds_all_images(tmp_path):
    # Each with one box by hand: left 4, top 5, 30 wide, 20 high.
    box = {"left": 4, "top": 5, "width": 30, "height": 20}
    regions = [{"type": "RECTANGLE", "tags": ["cup"], "boundingBox": box}]
    twice = [{"type": "RECTANGLE", "tags": ["cup", "key"], "boundingBox": box}]
    assets = {
        "1": {"asset": {"name": "a.png", "size": {"width": 96, "height": 64}}, "regions": regions},
        "2": {"asset": {"name": "b%20c.png"}, "regions": regions},
        "3": {"asset": {"name": "d.png"}, "regions": twice},
        "4": {"asset": {"name": "e.png"}, "regions": []},
    }
    text = json.dumps({"name": "p", "version": "2.2.0", "assets": assets}).encode()
    images = ("a.png", "b c.png", "d.png", "e.png")
    write_files(tmp_path, {"p-export.json": text, **dict.fromkeys(images, b"")})
    found = read_annotations("vott", str(tmp_path))
    assert [(one.name, one.label, one.box, one.size) for one in found.objects["train"]] == [
        ("a.png", "cup", (4, 5, 34, 25), (96, 64)),
        ("b c.png", "cup", (4, 5, 34, 25), None),
    ]
    assert [(fault.row, fault.kind) for fault in found.faults] == [(3, "label"), (4, "no_object")]


@pytest.mark.parametrize(
    ("xy", "box"),
    [
        ([3, 20, 30, 5], (15, 25, 25, 35)),
        ([4, 20, 30, 5, 8], (15, 22, 25, 38)),
        ([8, 1, 5, 6, 2, 9, 4, 3, 7], (1, 2, 9, 7)),
        ([1, 4, 4], None),
        ([6, 1, 1, 5, 5], None),
    ],
)
def test_shapes_of_via_3_count_as_their_extent(tmp_path, xy, box):
    contents, images = TOOL_FILES["via3"]
    ((name, text),) = contents.items()
    tree = json.loads(text)
    tree["metadata"] = {"1_y": {"vid": "1", "z": [], "xy": xy, "av": {"1": "1"}}}
    write_files(tmp_path, {name: json.dumps(tree).encode(), **dict.fromkeys(images, b"")})
    found = read_annotations("via3", str(tmp_path))
    read = [(one.label, one.box) for one in found.objects["train"]]
    assert read == ([("key", box)] if box else [])
    kinds = {fault.kind for fault in found.faults}
    assert kinds == ({"no_object"} if box else {"no_object", "no_box"})


FAR = "x" * 20_000


@pytest.mark.parametrize("name", ["labelme", "cvat", "createml"])
def test_marks_may_stand_at_the_end_of_a_file(tmp_path, name):
    # Sorted keys put an image before its shapes; a task has many labels; none is drawn at first.
    contents, images = TOOL_FILES[name]
    path = next(iter(contents))
    far = {
        "labelme": f'{{"note": "{FAR}", ' + contents[path].decode()[1:],
        "cvat": contents[path].decode().replace("<image", f"<note>{FAR}</note><image", 1),
        "createml": f'[{{"image": "{FAR}", "annotations": []}}, ' + contents[path].decode()[1:],
    }[name]
    pictures = dict.fromkeys(images, b"")
    write_files(tmp_path, {**pictures, path: far.encode()})
    (guess,) = FORMATS["labelme"].detect(list_data_folder(str(tmp_path)))
    assert guess.format == name
    assert len(read_annotations(name, str(tmp_path)).objects["train"]) == 1 + (name != "labelme")


def test_names_of_classes_may_lie_in_folders_of_their_own(tmp_path):
    boxes = b"ImageID,LabelName,XMin,XMax,YMin,YMax\na,/m/01,0.1,0.2,0.3,0.4\n"
    contents = {
        "labels/detections.csv": boxes,
        "metadata/classes.csv": b"/m/01,cup\n",
        "data/a.png": b"",
    }
    write_files(tmp_path / "fiftyone", contents)
    lines = {"train.txt": b"a.png 1,2,3,4,0\n", "model_data/my_classes.txt": b"cup\n", "a.png": b""}
    write_files(tmp_path / "keras", lines)
    for folder, name in (("fiftyone", "openimages"), ("keras", "keras_yolo")):
        (one,) = read_annotations(name, str(tmp_path / folder)).objects["train"]
        assert one.label == "cup"
