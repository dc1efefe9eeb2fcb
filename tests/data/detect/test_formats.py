"""What a folder is read as when no config says it: one made folder for each layout."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.converted import CLASSES, drawn, save, seen

from loc_keras import convert
from loc_keras.cli.data_source import read_folder
from loc_keras.data.formats import listing as detect_listing
from loc_keras.data.formats.csv_table import cut, form_of
from loc_keras.data.formats.detection import guesses, list_data_folder, unrecognised
from loc_keras.data.formats.listing import by_split, list_folder, split_of
from loc_keras.data.formats.registry import FORMATS
from loc_keras.data.formats.tools import TOOLS
from loc_keras.errors import ConfigError, DataError

XML = """<annotation><folder>f</folder><filename>{file}</filename>
<source><database>{database}</database></source>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>{label}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax>
</bndbox></object></annotation>"""


def box_of(k):
    """The box of image k, in px of its 40 x 30: no two are the same."""
    return k, k + 1, k + 12, k + 9


def image(path, k=0):
    return save(Path(path), drawn(40, 30, box_of(k)), quality=95)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def xml(path, k, label, file, database="Unknown"):
    write(path, XML.format(*box_of(k), label=label, file=file, database=database))


def read(folder, *overrides):
    return read_folder(str(folder), overrides, name="x")


def found(folder, *overrides):
    """`{split: {(name, class, box in whole px)}}` of a folder, as it is told."""
    records = read(folder, *overrides).records
    result = {}
    for split, part in records.splits.items():
        boxes = np.round(part.boxes * part.sizes[:, [1, 0, 1, 0]]).astype(int).tolist()
        labels = [part.class_names[label] for label in part.labels]
        names = [name.rpartition("/")[2] for name in part.names]
        result[split] = set(zip(names, labels, map(tuple, boxes), strict=True))
    return result


def expected(*numbers, label="ab", name="{}.jpg", last=0):
    return {
        (name.format(k), label[k % len(label)], tuple(np.add(box_of(k), (0, 0, last, last))))
        for k in numbers
    }


# --- what the package writes ---


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A CSV set in px without splits, with labels that are hard to write."""
    root = tmp_path_factory.mktemp("data") / "set"
    lines = []
    for k in range(12):
        image(root / "training_images" / f"p{k}.jpg", k)
        label = CLASSES[k % 3].replace('"', '""')
        lines.append(f'p{k}.jpg,"{label}",{",".join(map(str, box_of(k)))}\n')
    write(root / "training_data.csv", "".join(lines))
    config = root.parent / "mine.yaml"
    write(
        config,
        f"data: {{split: {{val: 0.25, test: 0.25}}, source: {{format: csv, path: '{root}', "
        f"class_names: {json.dumps(CLASSES)}, csv: {{units: pixel}}}}}}",
    )
    return config


@pytest.mark.parametrize("target", ["csv", "voc", "coco", "yolo", "tfrecord"])
def test_what_convert_writes_is_read_again(source, tmp_path, target):
    out = tmp_path / "out"
    assert convert.main(["--config", str(source), "--to", target, "--out", str(out)]) == 0
    names = json.dumps(CLASSES)
    reading = read(out, f"data.source.class_names={names}")
    assert reading.guess.format == target
    assert reading.refused == 0
    told = found(out)
    # Read by other libraries, without the code under test.
    wanted = {}
    for one in seen(target, out):
        box = tuple(round(side) for side in one.box)
        wanted.setdefault(one.split, set()).add((one.file, one.label, box))
    assert told == wanted


# --- CSV ---


def test_csv_of_each_class_with_names_that_repeat(tmp_path):
    for label in ("plane", "boat"):
        rows = []
        for k in range(4):
            pixels = drawn(40, 30, box_of(k))
            pixels[-1] = len(label)  # No two images are the same.
            save(tmp_path / "images" / label / f"{k}.jpg", pixels)
            rows.append(f"{k}.jpg,{','.join(map(str, box_of(k)))},{label}")
        write(tmp_path / "labels" / f"{label}.csv", "\n".join(rows))
    reading = read(tmp_path)
    assert reading.guess.options["splits"]["train"] == {
        "csv": "labels/*.csv",
        "images": "images/{label}",
    }
    told = found(tmp_path)["train"]
    assert told == expected(*range(4), label=["plane"]) | expected(*range(4), label=["boat"])
    # The pixels decide which image is meant: both classes have a file 0.jpg.
    folders = {path.split("/")[-2] for path in reading.records.splits["train"].paths}
    assert folders == {"plane", "boat"}


def test_csv_pair_of_train_and_test_with_header(tmp_path):
    for split, numbers in (("train", range(5)), ("test", range(5, 8))):
        rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for k in numbers:
            image(tmp_path / "images" / split / f"{k}.jpg", k)
            rows.append(f"{k}.jpg,40,30,{'ab'[k % 2]},{','.join(map(str, box_of(k)))}")
        write(tmp_path / f"{split}_labels.csv", "\n".join(rows))
    assert found(tmp_path) == {"train": expected(*range(5)), "test": expected(5, 6, 7)}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("units", ["fraction", "pixel"])
def test_table_by_delimiter_and_units(tmp_path, delimiter, units):
    rows = []
    for k in range(6):
        image(tmp_path / "pictures" / f"{k}.jpg", k)
        box = box_of(k)
        if units == "fraction":
            box = np.round(np.divide(box, [40, 30, 40, 30]), 5)
        rows.append(delimiter.join([f"{k}.jpg", "ab"[k % 2], *map(str, box)]))
    write(tmp_path / "labels.tsv", "\n".join(rows))
    assert found(tmp_path) == {"train": expected(*range(6))}


@pytest.mark.parametrize(
    ("header", "row", "box"),
    [
        ("image_name;label;x_min;y_min;x_max;y_max", "{file};{label};{0};{1};{2};{3}", "xyxy"),
        ("label,path,x,y,w,h", "{label},{file},{0},{1},{w},{h}", "xywh"),
        ("id,category,file,left,top,width,height", "7,{label},{file},{0},{1},{w},{h}", "xywh"),
        ("x center,y center,w,h,class,image", "{cx},{cy},{w},{h},{label},{file}", "cxcywh"),
        (None, "{file},{0},{1},{2},{3},{label}", "xyxy"),
        (None, "{label},{file},{0},{1},{w},{h}", "xywh"),
        (None, "9,{file},40,30,{label},{0},{1},{2},{3}", "xyxy"),
    ],
)
def test_order_of_columns_and_kind_of_box(tmp_path, header, row, box):
    rows = [header] if header else []
    for k in range(8):
        image(tmp_path / f"{k}.jpg", k)
        x1, y1, x2, y2 = box_of(k)
        more = {"w": x2 - x1, "h": y2 - y1, "cx": (x1 + x2) / 2, "cy": (y1 + y2) / 2}
        rows.append(row.format(*box_of(k), file=f"{k}.jpg", label="ab"[k % 2], **more))
    write(tmp_path / "table.csv", "\n".join(rows))
    assert found(tmp_path) == {"train": expected(*range(8))}
    assert read(tmp_path).source.config.data.source.csv.box == box


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("units", ["fraction", "pixel"])
def test_class_numbers_are_told_from_the_box(place, units):
    rows = []
    for k in range(30):
        box = [0.1 + k / 100, 0.2, 0.3 + k / 100, 0.5] if units == "fraction" else box_of(10 + k)
        fields = [str(k % 7), *map(str, box)] if place == "before" else [*map(str, box), str(k % 7)]
        rows.append(",".join([f"{k}.png", *fields]))
    form = form_of(cut("\n".join(rows), whole=True))
    assert form.settings["columns"].index("label") == (1 if place == "before" else 5)
    assert form.pixels is (units == "pixel")


def test_class_from_the_folder_where_no_column_has_it(tmp_path):
    rows = ["file,x1,y1,x2,y2"]
    for k in range(6):
        image(tmp_path / "pictures" / "ab"[k % 2] / f"{k}.jpg", k)
        rows.append(f"{'ab'[k % 2]}/{k}.jpg,{','.join(map(str, box_of(k)))}")
    write(tmp_path / "boxes.csv", "\n".join(rows))
    assert found(tmp_path) == {"train": expected(*range(6))}


def test_column_that_names_the_split(tmp_path):
    rows = ["file,label,x1,y1,x2,y2,split"]
    for k in range(6):
        image(tmp_path / "train_pictures" / f"{k}.jpg", k)
        part = ["train", "val", "test"][k // 2]
        rows.append(f"{k}.jpg,{'ab'[k % 2]},{','.join(map(str, box_of(k)))},{part}")
    write(tmp_path / "boxes.csv", "\n".join(rows))
    told = found(tmp_path)
    assert told == {"train": expected(0, 1), "val": expected(2, 3), "test": expected(4, 5)}


@pytest.mark.parametrize(
    "text",
    ["", "a,b,c\n", "name,age,town,x,y\nann,3,rome,1,2\n", "1,2,3,4,5\n6,7,8,9,10\n", "\0\0\0"],
)
def test_other_tables_are_no_boxes(text):
    assert form_of(cut(text, whole=True)) is None


# --- Pascal VOC ---


def test_voc_beside_the_images_by_split(tmp_path):
    for split, numbers in (("train", range(4)), ("valid", (4, 5)), ("test", (6, 7))):
        for k in numbers:
            image(tmp_path / split / f"{k}.jpg", k)
            xml(tmp_path / split / f"{k}.xml", k, "ab"[k % 2], f"{k}.jpg")
    told = found(tmp_path)
    assert told == {"train": expected(*range(4)), "val": expected(4, 5), "test": expected(6, 7)}


def test_voc_in_folders_of_their_own(tmp_path):
    for k in range(4):
        image(tmp_path / "deep" / "Images" / f"{k}.jpg", k)
        xml(tmp_path / "deep" / "Annotations" / f"{k}.xml", k, "ab"[k % 2], f"{k}.jpg")
    assert found(tmp_path) == {"train": expected(*range(4))}


def test_voc_challenge_counts_from_one_and_has_lists(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for k in range(6):
        image(root / "JPEGImages" / f"{k}.jpg", k)
        at = root / "Annotations" / f"{k}.xml"
        xml(at, k + 1, "ab"[k % 2], f"{k}.jpg", database="The VOC2007 Database")
    lists = root / "ImageSets" / "Main"
    for name, numbers in {"train": "012", "val": "34", "trainval": "01234", "test": "5"}.items():
        write(lists / f"{name}.txt", "\n".join(numbers))
    write(lists / "a_train.txt", "0 1\n1 -1\n")
    told = found(tmp_path)
    # Pixels k+2 .. of a file that counts from 1 and includes the last: one less, one more.
    shifted = {
        k: (str(k) + ".jpg", "ab"[k % 2], tuple(np.add(box_of(k + 1), (-1, -1, 0, 0))))
        for k in range(6)
    }
    assert told["train"] == {shifted[k] for k in (0, 1, 2)}
    assert told["val"] == {shifted[k] for k in (3, 4)}
    assert told["test"] == {shifted[5]}


def test_voc_without_endings_in_a_folder_for_each_class(tmp_path):
    for k in range(6):
        label = "ab"[k % 2]
        image(tmp_path / "Images" / f"n-{label}" / f"{k}.jpg", k)
        xml(tmp_path / "Annotation" / f"n-{label}" / str(k), k, label, str(k))
    assert found(tmp_path) == {"train": expected(*range(6))}


@pytest.mark.parametrize("turned", [False, True])
def test_voc_with_swapped_sides(tmp_path, turned):
    for k in range(4):
        image(tmp_path / f"{k}.jpg", k)
        xml(tmp_path / f"{k}.xml", k, "ab"[k % 2], f"{k}.jpg")
        text = (tmp_path / f"{k}.xml").read_text()
        for name, side in (("width", 40), ("height", 30)):
            text = text.replace(f"<{name}>{side}<", f"<{name}>{70 - side}<")
        if turned and k == 0:  # It fits 30 x 40 px alone.
            text = text.replace("<ymax>9<", "<ymax>38<")
        write(tmp_path / f"{k}.xml", text)
    if turned:
        with pytest.raises(DataError, match="3 of kind size_mismatch"):
            read(tmp_path)
        return
    reading = read(tmp_path)
    assert found(tmp_path) == {"train": expected(*range(4))}
    kinds = {one.kind: one for one in reading.source.checked.findings}
    assert kinds["size_swapped"].severity == "warning"
    assert kinds["size_swapped"].reason == (
        "3.jpg is 40 x 30 px but 30 x 40 px in the annotation: its sides are swapped; the box fits "
        "the picture"
    )


def test_voc_goes_before_tables_that_were_made_of_it(tmp_path):
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    for k in range(4):
        image(tmp_path / f"{k}.jpg", k)
        xml(tmp_path / f"{k}.xml", k, "ab"[k % 2], f"{k}.jpg")
        rows.append(f"{k}.jpg,{'ab'[k % 2]},{','.join(map(str, box_of(k)))}")
    write(tmp_path / "labels.csv", "\n".join(rows))
    reading = read(tmp_path)
    assert reading.guess.format == "voc"
    (note,) = [note for note in reading.notes if "also holds csv" in note]
    assert "--set data.source.format=csv" in note
    assert read(tmp_path, "data.source.format=csv").guess.format == "csv"
    assert found(tmp_path, "data.source.format=csv") == found(tmp_path)


def test_reading_whose_images_are_missing_gives_way_to_the_next(tmp_path):
    rows = ["filename,class,xmin,ymin,xmax,ymax"]
    for k in range(4):
        image(tmp_path / f"{k}.jpg", k)
        xml(tmp_path / "old" / f"q{k}.xml", k, "ab"[k % 2], f"gone{k}.jpg")
        rows.append(f"{k}.jpg,{'ab'[k % 2]},{','.join(map(str, box_of(k)))}")
    write(tmp_path / "labels.csv", "\n".join(rows))
    reading = read(tmp_path)
    assert reading.guess.format == "csv"
    assert reading.notes[0].startswith("not read as voc")
    assert "gone0.jpg" in reading.notes[0]


# --- COCO ---


def coco(path, numbers, *, first_keys=True):
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 40, "height": 30} for k in numbers]
    objects = []
    for k in numbers:
        x1, y1, x2, y2 = box_of(k)
        box = [x1, y1, x2 - x1, y2 - y1]
        objects.append({"id": k, "image_id": k, "category_id": k % 2 + 1, "bbox": box})
    kinds = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    content = {"images": images, "annotations": objects, "categories": kinds}
    keys = content if first_keys else reversed(content)
    write(path, json.dumps({"info": {}, **{key: content[key] for key in keys}}))


@pytest.mark.parametrize("first_keys", [True, False])
def test_coco_as_published(tmp_path, first_keys):
    for split, numbers in (("train", range(4)), ("val", (4, 5))):
        for k in numbers:
            image(tmp_path / f"{split}2017" / f"{k}.jpg", k)
        at = tmp_path / "annotations" / f"instances_{split}2017.json"
        coco(at, numbers, first_keys=first_keys)
        captions = {"images": [], "annotations": [{"image_id": 0, "caption": "a cat"}]}
        write(tmp_path / "annotations" / f"captions_{split}2017.json", json.dumps(captions))
    assert found(tmp_path) == {"train": expected(*range(4)), "val": expected(4, 5)}


def test_a_coco_name_that_leads_out_costs_its_own_row_alone(tmp_path):
    for k in range(4):
        image(tmp_path / "images" / f"{k}.jpg", k)
    file = tmp_path / "annotations" / "instances_train.json"
    coco(file, range(4))
    write(file, file.read_text().replace('"0.jpg"', '"../../gone.jpg"'))
    reading = read_folder(str(tmp_path), [], name="x", lenient=True)
    assert len(reading.records.splits["train"]) == 3
    # The image, and its annotation, which without it is of no use.
    told = [fault.reason for fault in reading.records.faults if fault.row == 1]
    assert len(told) == len(reading.records.faults) == 2
    assert "leads out of the data folder" in told[0]


def test_coco_with_a_file_in_each_split_folder(tmp_path):
    for split, numbers in (("train", range(4)), ("valid", (4, 5)), ("test", (6, 7))):
        for k in numbers:
            image(tmp_path / split / f"{k}.jpg", k)
        coco(tmp_path / split / "_annotations.coco.json", numbers)
    told = found(tmp_path)
    assert told == {"train": expected(*range(4)), "val": expected(4, 5), "test": expected(6, 7)}


def test_split_without_objects_is_left_out_and_told(tmp_path):
    for k in range(4):
        image(tmp_path / "images" / f"{k}.jpg", k)
    coco(tmp_path / "train.json", range(4))
    text = {"images": [], "annotations": [{"bbox": 0}], "categories": []}
    write(tmp_path / "test.json", json.dumps(text))
    reading = read(tmp_path, "data.on_error=skip")
    assert found(tmp_path, "data.on_error=skip") == {"train": expected(*range(4))}
    assert any("test: annotation files without objects" in note for note in reading.notes)
    assert reading.source.config.data.source.coco.splits.test is None


# --- YOLO ---


def yolo_line(k):
    x1, y1, x2, y2 = np.divide(box_of(k), [40, 30, 40, 30])
    return f"{k % 2} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n"


def test_yolo_by_its_yaml_file(tmp_path):
    for split, numbers in (("train", range(4)), ("valid", (4, 5))):
        for k in numbers:
            image(tmp_path / "set" / split / "images" / f"{k}.jpg", k)
            write(tmp_path / "set" / split / "labels" / f"{k}.txt", yolo_line(k))
    text = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['a', 'b']\n"
    write(tmp_path / "set" / "data.yaml", text)
    assert found(tmp_path) == {"train": expected(*range(4)), "val": expected(4, 5)}


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_yolo_without_a_yaml_file(tmp_path, named, beside):
    for split, numbers in (("train", range(4)), ("val", (4, 5))):
        for k in numbers:
            image(tmp_path / "images" / split / f"{k}.jpg", k)
            folder = tmp_path / ("images" if beside else "labels") / split
            write(folder / f"{k}.txt", yolo_line(k))
    if named:
        write(tmp_path / "classes.txt", "a\nb\n")
    label = "ab" if named else "01"
    reading = read(tmp_path)
    assert reading.guess.format == "yolo"
    assert found(tmp_path) == {
        "train": expected(*range(4), label=label),
        "val": expected(4, 5, label=label),
    }
    assert any("numbers do" in note for note in reading.notes) is not named


@pytest.mark.parametrize(
    ("images", "labels"), [("Images", "Labels"), ("img/a", "txt/a"), ("photos", "boxes")]
)
@pytest.mark.parametrize("ending", [".txt", ".TXT"])
@pytest.mark.parametrize("yaml", [True, False])
def test_yolo_in_folders_of_other_names(tmp_path, images, labels, ending, yaml):
    for k in range(4):
        image(tmp_path / images / f"{k}.jpg", k)
        write(tmp_path / labels / f"{k}{ending}", yolo_line(k))
    write(tmp_path / "classes.txt", "a\nb\n")
    if yaml:
        write(tmp_path / "data.yaml", f"train: {images}\nnames: [a, b]\n")
    assert found(tmp_path) == {"train": expected(*range(4))}


def test_yolo_that_may_be_of_two_folders_of_images_is_not_guessed(tmp_path):
    for k in range(4):
        image(tmp_path / "photos" / f"{k}.jpg", k)
        image(tmp_path / "masks" / f"{k}.jpg", k + 5)
        write(tmp_path / "txt" / f"{k}.txt", yolo_line(k))
    with pytest.raises(DataError, match="no annotations that are recognised"):
        read(tmp_path)


def test_yolo_by_lists_of_another_machine(tmp_path):
    for k in range(6):
        image(tmp_path / "images" / f"{k}.jpg", k)
        write(tmp_path / "labels" / f"{k}.txt", yolo_line(k))
    for split, numbers in (("train", range(4)), ("val", (4, 5))):
        lines = [f"/content/set/images/{k}.jpg\n" for k in numbers]
        write(tmp_path / f"{split}.txt", "".join(lines))
    text = "train: /content/set/train.txt\nval: /content/set/val.txt\nnames: [a, b]\n"
    write(tmp_path / "data.yaml", text)
    assert found(tmp_path) == {"train": expected(*range(4)), "val": expected(4, 5)}


# --- published layouts ---


def test_tiny_imagenet_in_a_folder_of_its_own(tmp_path):
    root = tmp_path / "tiny"
    write(root / "wnids.txt", "n1\nn2\n")
    write(root / "words.txt", "n1\ta\nn2\tb\n")
    for k in range(4):
        wnid = f"n{k % 2 + 1}"
        image(root / "train" / wnid / "images" / f"{k}.jpg", k)
        with (root / "train" / wnid / f"{wnid}_boxes.txt").open("a") as file:
            file.write("\t".join([f"{k}.jpg", *map(str, box_of(k))]) + "\n")
    image(root / "val" / "images" / "4.jpg", 4)
    write(root / "val" / "val_annotations.txt", "\t".join(["4.jpg", "n1", *map(str, box_of(4))]))
    reading = read(tmp_path)
    assert (reading.guess.format, reading.guess.path) == ("tiny_imagenet", str(root))
    # The last pixel belongs to the box.
    told = found(tmp_path)
    assert told == {"train": expected(*range(4), last=1), "test": expected(4, last=1)}


def test_imagenet_loc(tmp_path):
    write(tmp_path / "LOC_synset_mapping.txt", "n1 a\nn2 b\n")
    rows = ["ImageId,PredictionString"]
    for k in range(4):
        wnid = f"n{k % 2 + 1}"
        save(
            tmp_path / "ILSVRC/Data/CLS-LOC/train" / wnid / f"{wnid}_{k}.JPEG",
            drawn(40, 30, box_of(k)),
        )
        rows.append(f"{wnid}_{k},{wnid} {' '.join(map(str, box_of(k)))}")
    write(tmp_path / "LOC_train_solution.csv", "\n".join(rows))
    assert read(tmp_path).guess.format == "imagenet_loc"
    labels = sorted((name, label) for name, label, _ in found(tmp_path)["train"])
    assert labels == [("n1_0", "a"), ("n1_2", "a"), ("n2_1", "b"), ("n2_3", "b")]


def test_cub(tmp_path):
    names = [f"00{k % 2 + 1}.{'ab'[k % 2]}/{k}.jpg" for k in range(4)]
    for k, name in enumerate(names):
        image(tmp_path / "CUB" / "images" / name, k)
    tables = {
        "images": names,
        "image_class_labels": [k % 2 + 1 for k in range(4)],
        "train_test_split": [1, 1, 1, 0],
        "bounding_boxes": [
            f"{x1} {y1} {x2 - x1} {y2 - y1}" for x1, y1, x2, y2 in map(box_of, range(4))
        ],
    }
    for table, values in tables.items():
        rows = [f"{k + 1} {value}\n" for k, value in enumerate(values)]
        write(tmp_path / "CUB" / f"{table}.txt", "".join(rows))
    write(tmp_path / "CUB" / "classes.txt", "1 001.a\n2 002.b\n")
    assert read(tmp_path).guess.format == "cub"
    assert found(tmp_path) == {"train": expected(0, 1, 2), "test": expected(3)}


@pytest.mark.parametrize("published", [True, False])
def test_gtsrb(tmp_path, published):
    columns = "Width{0}Height{0}Roi.X1{0}Roi.Y1{0}Roi.X2{0}Roi.Y2{0}ClassId"
    for k in range(4):
        name = f"0000{k}_00000.png"
        numbers = [40, 30, *box_of(k), k % 2]
        if published:
            folder = tmp_path / "GTSRB" / "Final_Training" / "Images" / f"0000{k % 2}"
            table, header = folder / f"GT-0000{k % 2}.csv", "Filename;"
            row = ";".join(map(str, [name, *numbers]))
            image(folder / name, k)
            header += columns.format(";")
        else:
            table, header = tmp_path / "Train.csv", columns.format(",") + ",Path"
            row = ",".join(map(str, [*numbers, f"Train/{k % 2}/{name}"]))
            image(tmp_path / "Train" / str(k % 2) / name, k)
        if not table.exists():
            write(table, header + "\n")
        with table.open("a") as file:
            file.write(row + "\n")
    assert read(tmp_path).guess.format == "gtsrb"
    assert found(tmp_path)["train"] == expected(*range(4), label="01", name="0000{}_00000.png")


@pytest.mark.parametrize("given", ["", "birds", "birds/small", "birds/small/1.0.0"])
def test_prepared_tfds_set(tmp_path, given):
    info = {"name": "birds", "configName": "small", "version": "1.0.0"}
    folder = tmp_path / "birds" / "small" / "1.0.0"
    splits = [{"name": "train"}, {"name": "validation"}]
    write(folder / "dataset_info.json", json.dumps({**info, "splits": splits}))
    write(folder / "birds-train.tfrecord-00000-of-00001", "")
    (guess,) = guesses(list_data_folder(str(tmp_path / given)))
    assert (guess.format, guess.path.rstrip("/")) == ("tfds", str(tmp_path))
    assert guess.options == {
        "name": "birds/small:1.0.0",
        "splits": {"train": "train", "val": "validation", "test": None},
    }


# --- what is none, or too much ---


def test_images_in_class_folders_without_boxes_are_told(tmp_path):
    for k in range(6):
        image(tmp_path / "ab"[k % 2] / f"{k}.jpg", k)
    write(tmp_path / "README.md", "pictures")
    with pytest.raises(DataError, match=r"holds 6 images in 2 folders \(a, b\) but no boxes"):
        read(tmp_path)


def test_unknown_files_are_counted_by_ending(tmp_path):
    for name in ("a.pkl", "b.pkl", "c.txt", "d"):
        write(tmp_path / name, "?")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    told = str(caught.value)
    assert "2 .pkl, 1 .txt, 1 without ending" in told
    assert all(name in told for name in ("csv", "voc", "coco", "yolo", "tfrecord", "--config"))
    assert "\n" not in told


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text("x"), "no image lies in the folder of"),
        (lambda path: path.mkdir(), "is empty"),
    ],
)
def test_no_folder_is_told(tmp_path, make, told):
    path = tmp_path / "thing"
    make(path)
    with pytest.raises(DataError, match=told):
        read(path)


def test_hidden_names_and_links_are_not_followed(tmp_path):
    image(tmp_path / ".hidden" / "0.jpg")
    image(tmp_path / "seen" / "1.jpg")
    (tmp_path / "seen" / "loop").symlink_to(tmp_path)
    listing = list_folder(str(tmp_path))
    assert list(listing.folders) == ["", "seen"]


def test_huge_folder_is_looked_through_in_part(tmp_path, monkeypatch):
    # Many images deep down, a table above them; only so many names are looked at.
    monkeypatch.setattr(detect_listing, "MOST_NAMES", 20)
    rows = []
    for k in range(8):
        image(tmp_path / "images" / f"{k}.jpg", k)
        rows.append(f"{k}.jpg,{'ab'[k % 2]},{','.join(map(str, box_of(k)))}")
    for k in range(50):
        write(tmp_path / "images" / "more" / f"{k}.jpg", "")
    write(tmp_path / "table.csv", "\n".join(rows))
    listed = []
    real = detect_listing._entries
    monkeypatch.setattr(
        detect_listing,
        "_entries",
        lambda folder: (listed.append(one) or one for one in real(folder)),
    )
    listing = list_folder(str(tmp_path))
    assert not listing.complete
    assert len(listed) == 21  # One more shows that there are more.
    reading = read(tmp_path)
    assert found(tmp_path) == {"train": expected(*range(8))}
    assert any("names of" in note and "looked at" in note for note in reading.notes)


def test_kept_names_of_a_folder_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(detect_listing, "MOST_KEPT", 3)
    for k in range(20):
        write(tmp_path / f"{k:02}.xml", "<annotation/>")
    listing = list_folder(str(tmp_path))
    assert len(listing.files(".xml")) == 3
    assert listing.endings()[".xml"] == 20


def test_many_refused_objects_stop_training_but_not_the_check(tmp_path):
    rows = []
    for k in range(10):
        if k < 7:
            image(tmp_path / "images" / f"{k}.jpg", k)
        rows.append(f"{k}.jpg,{'ab'[k % 2]},{','.join(map(str, box_of(k)))}")
    write(tmp_path / "table.csv", "\n".join(rows))
    with pytest.raises(DataError, match=r"3 of 10 objects cannot be used.*row 8.*on_error=skip"):
        read(tmp_path)
    assert read(tmp_path, "data.on_error=skip").refused == 3
    assert read_folder(str(tmp_path), [], name="x", lenient=True).refused == 3


def test_few_refused_objects_are_left_out(tmp_path):
    rows = []
    for k in range(11):
        if k:
            image(tmp_path / "images" / f"{k}.jpg", k)
        rows.append(f"{k}.jpg,{'ab'[k % 2]},{','.join(map(str, box_of(k)))}")
    write(tmp_path / "table.csv", "\n".join(rows))
    assert read(tmp_path).refused == 1
    assert found(tmp_path) == {"train": expected(*range(1, 11))}


def test_path_is_not_set_beside_the_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.source\.path goes with --config"):
        read(tmp_path, "data.source.path=x")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("test_labels.csv", "test"),
        ("train/test.csv", "test"),  # The last part that speaks of one.
        ("Valid/_annotations.coco.json", "val"),
        ("training_data.csv", "train"),
        ("trainval.txt", None),
        ("contest/latest.csv", None),  # No whole word.
    ],
)
def test_split_by_name(name, split):
    assert split_of(name) == split


def test_largest_group_becomes_train_where_none_is_called_so():
    assert by_split(["val/a", "val/b", "test/c"]) == {
        "train": ["val/a", "val/b"],
        "test": ["test/c"],
    }


def test_order_of_preference_is_the_documented_one():
    published = ["tiny_imagenet", "imagenet_loc", "cub", "gtsrb"]
    tools = list(TOOLS)
    assert list(FORMATS) == [*published, "tfds", *tools, "coco", "yolo", "voc", "csv", "tfrecord"]


def test_nothing_is_written_to_the_folder(source, tmp_path):
    copy = shutil.copytree(source.parent / "set", tmp_path / "set")
    before = sorted(copy.rglob("*"))
    listing = list_data_folder(str(copy))
    assert [guess.format for guess in guesses(listing)] == ["csv"]
    assert unrecognised(listing)
    read(copy)
    assert sorted(copy.rglob("*")) == before
