"""Every reader through the same checks: what it finds, where from, and what it refuses."""

import json
from collections import Counter
from dataclasses import dataclass, field

import pytest
import tensorflow as tf
from helpers.annotated import all_objects
from helpers.reader_fuzz import (
    FEW_AND_MANY,
    assert_only_data_errors,
    assert_sensible,
    write_files,
)
from helpers.tool_files import PUBLISHED, TOOL_FILES

from loc_keras.config.data import SourceConfig
from loc_keras.data.formats.detection import guesses, list_data_folder
from loc_keras.data.formats.registry import FORMATS, read_annotations
from loc_keras.data.formats.tools import TOOLS
from loc_keras.errors import DataError


@dataclass(frozen=True)
class Case:
    """A small valid data set.

    Attributes:
        format: Key of `FORMATS`.
        files: Annotation files.
        images: Image files, which are empty here.
        objects: Number of objects of each split.
        options: Of the reader.
        outside: An annotation file, an image name in it, and how many objects that image has.
    """

    format: str
    files: dict[str, bytes]
    images: tuple[str, ...]
    objects: dict[str, int]
    options: dict[str, object] = field(default_factory=dict)
    outside: tuple[str, bytes, int] | None = None


def voc(name: str, *labels: str) -> bytes:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
    objects = "".join(f"<object><name>{label}</name>{box}</object>" for label in labels)
    return f"<annotation><filename>{name}</filename>{objects}</annotation>".encode()


def record(name: str, label: str) -> bytes:
    def of(*values):
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    sides = {f"image/object/bbox/{side}": of(0.25) for side in ("xmin", "ymin")}
    sides |= {f"image/object/bbox/{side}": of(0.5) for side in ("xmax", "ymax")}
    more = {"image/encoded": of(b"bytes"), "image/filename": of(name.encode())}
    feature = {**sides, **more, "image/object/class/text": of(label.encode())}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def shard(folder, *records: bytes) -> bytes:
    path = str(folder / "shard")
    with tf.io.TFRecordWriter(path) as writer:
        for one in records:
            writer.write(one)
    with open(path, "rb") as file:
        return file.read()


GTSRB = b"Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
REPACKED = b"Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n"
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [1, 2, 3, 4]},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}
CASES = {
    "csv": Case(
        "csv",
        {"train.csv": b"file,label,x1,y1,x2,y2\na.jpg,cat,0,0,.5,.5\nb.jpg,dog,0,.2,1,1\n"},
        ("pictures/a.jpg", "pictures/b.jpg"),
        {"train": 2},
        {
            "splits": {"train": {"csv": "train.csv", "images": "pictures"}},
            "header": True,
            "columns": {name: name for name in ("file", "label", "x1", "y1", "x2", "y2")},
        },
        ("train.csv", b"a.jpg", 1),
    ),
    "voc": Case(
        "voc",
        {"train/x.xml": voc("a.jpg", "cat", "dog"), "test/b.xml": voc("b.jpg", "cat")},
        ("train/a.jpg", "test/b.jpg"),
        {"train": 2, "test": 1},
        {"splits": {split: {"annotations": split} for split in ("train", "test")}},
        ("train/x.xml", b"a.jpg", 2),
    ),
    "coco": Case(
        "coco",
        {"train.json": json.dumps(COCO).encode(), "val.json": json.dumps(COCO).encode()},
        ("train/a.jpg", "train/b.jpg", "val/a.jpg", "val/b.jpg"),
        {"train": 2, "val": 2},
        {
            "splits": {
                split: {"annotations": f"{split}.json", "images": split}
                for split in ("train", "val")
            }
        },
        ("train.json", b"a.jpg", 1),
    ),
    "yolo": Case(
        "yolo",
        {
            "data.yaml": b"train: images\nnames: [cat, dog]\n",
            "labels/a.txt": b"0 0.5 0.5 1 1\n1 0.5 0.5 0.5 0.5\n",
            "labels/b.txt": b"1 0.5 0.5 0.5 0.5\n",
        },
        ("images/a.jpg", "images/b.jpg"),
        {"train": 3},
    ),
    "tiny_imagenet": Case(
        "tiny_imagenet",
        {
            "wnids.txt": b"n2\nn1\n",
            "train/n1/n1_boxes.txt": b"n1_0.JPEG\t16\t10\t35\t26\nn1_1.JPEG\t0\t0\t63\t63\n",
            "train/n2/n2_boxes.txt": b"n2_0.JPEG\t1\t2\t3\t4\n",
            "val/val_annotations.txt": b"val_0.JPEG\tn2\t0\t32\t44\t62\n",
        },
        ("train/n1/images/n1_0.JPEG", "val/images/val_0.JPEG"),
        {"train": 3, "test": 1},
        outside=("train/n1/n1_boxes.txt", b"n1_0.JPEG", 1),
    ),
    "imagenet_loc": Case(
        "imagenet_loc",
        {
            "LOC_synset_mapping.txt": b"n1 tench\nn2 crane\n",
            "ILSVRC/Annotations/CLS-LOC/train/n1/n1_10.xml": voc("n1_10", "n1", "n2"),
            "ILSVRC/Annotations/CLS-LOC/val/v_1.xml": voc("v_1", "n2"),
        },
        ("ILSVRC/Data/CLS-LOC/train/n1/n1_10.JPEG",),
        {"train": 2, "test": 1},
        outside=("ILSVRC/Annotations/CLS-LOC/train/n1/n1_10.xml", b"n1_10", 2),
    ),
    "imagenet_loc tables": Case(
        "imagenet_loc",
        {
            "LOC_synset_mapping.txt": b"n1 tench\nn2 crane\n",
            "LOC_train_solution.csv": b"ImageId,PredictionString\nn1_10,n1 1 2 3 4 n2 5 6 7 8\n",
        },
        ("ILSVRC/Data/CLS-LOC/train/n1/n1_10.JPEG",),
        {"train": 2},
        outside=("LOC_train_solution.csv", b"n1_10", 2),
    ),
    "cub": Case(
        "cub",
        {
            "images.txt": b"1 001.Crow/a.jpg\n2 001.Crow/b.jpg\n",
            "bounding_boxes.txt": b"1 60.0 27.0 325.0 304.0\n2 0.5 1.0 2.0 3.0\n",
            "image_class_labels.txt": b"1 1\n2 1\n",
            "classes.txt": b"1 001.Crow\n",
            "train_test_split.txt": b"1 1\n2 0\n",
        },
        ("images/001.Crow/a.jpg", "images/001.Crow/b.jpg"),
        {"train": 1, "test": 1},
        outside=("images.txt", b"001.Crow/a.jpg", 1),
    ),
    "gtsrb": Case(
        "gtsrb",
        {
            "Final_Training/Images/00003/GT-00003.csv": GTSRB + b"0_0.ppm;40;41;5;6;35;36;3\n",
            "Final_Test/Images/GT-final_test.csv": GTSRB + b"00000.ppm;53;54;6;5;48;49;16\n",
        },
        ("Final_Training/Images/00003/0_0.ppm", "Final_Test/Images/00000.ppm"),
        {"train": 1, "test": 1},
        outside=("Final_Test/Images/GT-final_test.csv", b"00000.ppm", 1),
    ),
    "gtsrb repacked": Case(
        "gtsrb",
        {
            "Train.csv": REPACKED + b"27,26,5,5,22,20,20,Train/20/00020_00000_00000.png\n",
            "Test.csv": REPACKED + b"53,54,6,5,48,49,16,Test/00000.png\n",
        },
        ("Train/20/00020_00000_00000.png", "Test/00000.png"),
        {"train": 1, "test": 1},
        outside=("Test.csv", b"Test/00000.png", 1),
    ),
    "tfrecord": Case("tfrecord", {}, (), {"train": 2}, {"splits": {"train": "train-*"}}),
}
for name, (contents, images) in TOOL_FILES.items():
    # Without names of classes their numbers are read.
    labels = {file: text for file, text in contents.items() if file != "_classes.txt"}
    # A label file's own stem names its image, too, and Datumaro's ids name it first.
    only = not TOOLS[name].beside and name != "datumaro"
    named = [file for file, text in labels.items() if only and b"a.png" in text]
    CASES[name] = Case(
        name, labels, images, {"train": 2}, outside=(named[0], b"a.png", 1) if named else None
    )
for name, (contents, images, objects) in PUBLISHED.items():
    # Without the list of its splits CelebA has none.
    labels = {file: text for file, text in contents.items() if "partition" not in file}
    counts = Counter("train" if name == "celeba" else split for split, *_ in objects)
    CASES[name] = Case(name, labels, images, dict(counts))


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """A case; TFRecord shards are made by TensorFlow."""
    one = CASES[request.param]
    if one.format == "tfrecord":
        content = shard(tmp_path, record("a.jpg", "cat"), record("b.jpg", "dog"))
        one.files["train-0.tfrecord"] = content
    return one


@pytest.fixture
def root(case, tmp_path):
    folder = tmp_path / "data"
    write_files(folder, {**case.files, **dict.fromkeys(case.images, b"")})
    return str(folder)


def read(case, root):
    return FORMATS[case.format].read(root, **case.options)


def test_every_format_has_a_case():
    # TFDS data sets are prepared by TFDS, see test_tfds.
    assert {case.format for case in CASES.values()} == set(FORMATS) - {"tfds"}


def test_a_valid_data_set_has_no_faults(case, root):
    found = read(case, root)
    assert found.faults == []
    assert {split: len(objects) for split, objects in found.objects.items()} == case.objects
    assert_sensible(found, root)
    names = {f"{root}/{name}" for name in case.files}
    assert {one.file for _, one in all_objects(found)} <= names
    assert read(case, root) == found


def test_a_missing_folder_is_named(case, root):
    with pytest.raises(DataError, match=r"data folder .*/none does not exist: data.source.path"):
        read_annotations(case.format, f"{root}/none", **case.options)
    with pytest.raises(DataError, match=r"data folder .*/none does not exist: data.source.path"):
        read(case, f"{root}/none")


def test_the_folder_is_read_as_what_it_is(case, root):
    first = next(guesses(list_data_folder(root)))
    assert first.format == case.format
    options = {first.format: first.options} if first.options else {}
    source = SourceConfig(format=first.format, path=first.path, **options)
    found = FORMATS[first.format].read(first.path, **source.reader_options())
    assert [one for _, one in all_objects(found)] == [
        one for _, one in all_objects(read(case, root))
    ]


def test_a_remote_folder_is_read_alike(case, root, tmp_path):
    remote = f"ram://every-reader-{tmp_path.name}"
    for name, content in {**case.files, **dict.fromkeys(case.images, b"")}.items():
        tf.io.gfile.makedirs(f"{remote}/{name}".rpartition("/")[0])
        with tf.io.gfile.GFile(f"{remote}/{name}", "wb") as file:
            file.write(content)
    near, far = read(case, root), read(case, remote)
    assert far.faults == []
    assert (far.class_names, far.units, far.exact) == (near.class_names, near.units, near.exact)
    assert [folder.replace(remote, root) for folder in far.folders] == list(near.folders)
    moved = [
        (split, one._replace(image=one.image._replace(path=""), file=""))
        for split, one in all_objects(far)
    ]
    assert moved == [
        (split, one._replace(image=one.image._replace(path=""), file=""))
        for split, one in all_objects(near)
    ]
    assert [one.image.path.replace(remote, root) for _, one in all_objects(far)] == [
        one.image.path for _, one in all_objects(near)
    ]


# Images of the others are not named by annotations.
@pytest.mark.parametrize("name", ["../../../../../../up", "/etc/up", "gs://bucket/up"])
@pytest.mark.parametrize("case", [name for name in CASES if CASES[name].outside], indirect=True)
def test_an_image_outside_is_one_fault(case, root, tmp_path, name):
    file, written, lost = case.outside
    content = case.files[file].replace(written, name.encode())
    write_files(tmp_path / "data", {file: content})
    found = read(case, root)
    # Objects of the image are lost, and no others. In COCO each one is a fault of its own, too.
    assert len(list(all_objects(found))) == sum(case.objects.values()) - lost
    faults = [fault for fault in found.faults if fault.kind == "outside"]
    assert [fault.file for fault in faults] == [f"{root}/{file}"]
    assert {fault.kind for fault in found.faults} <= {"outside", "reference"}
    assert_sensible(found, root)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\n\n", b"\xff\xfe\xfd", b"\0" * 40, b"\x89PNG\r\n\x1a\n", b"{", b"<" * 300],
    ids=["missing", "empty", "blank", "no text", "zeros", "png", "brace", "angles"],
)
def test_a_broken_file_is_an_error_or_faults(case, root, tmp_path, content):
    for name in case.files:
        write_files(tmp_path / "data", {name: content})
        try:
            found = read(case, root)
        except DataError as error:
            message = str(error)
            assert "\n" not in message and len(message) < 1000
        else:
            assert_sensible(found, root)
            for fault in found.faults:
                assert "\n" not in fault.reason
                assert fault.row >= 0
            kept = len(list(all_objects(found)))
            assert found.faults or found.empty or kept < sum(case.objects.values())
        write_files(tmp_path / "data", {name: case.files[name]})
    assert read(case, root).faults == []


@FEW_AND_MANY
def test_hostile_files_are_errors_or_faults(case, tmp_path, examples):
    assert_only_data_errors(tmp_path, case.files, lambda root: read(case, root), examples)
