"""Tiny ImageNet and ImageNet-LOC: fields by hand, faults."""

import pytest
import tensorflow as tf
from helpers.reader_fuzz import write_files

from loc_keras.data.annotations import Annotated, Fault, ImageRef
from loc_keras.data.formats.published import image_name, read_imagenet_loc, read_tiny_imagenet
from loc_keras.data.formats.voc import xml_root
from loc_keras.errors import DataError

TINY = {
    "wnids.txt": b"n2\nn1\n",
    "words.txt": b"n1\tladybug, ladybeetle, lady beetle\nn3\tother\nn2\tgoldfish\n",
    "train/n1/n1_boxes.txt": b"n1_0.JPEG\t16\t10\t35\t26\nn1_1.JPEG\t0\t0\t63\t63\n",
    "train/n2/n2_boxes.txt": b"n2_0.JPEG\t1\t2\t3\t4\n",
    "val/val_annotations.txt": b"val_0.JPEG\tn2\t0\t32\t44\t62\n",
}

XML = b"""<annotation>
<folder>n1</folder><filename>n1_10</filename><size><width>500</width><height>375</height></size>
<object><name>n1</name><difficult>0</difficult>
<bndbox><xmin>13</xmin><ymin>16</ymin><xmax>401</xmax><ymax>299</ymax></bndbox></object>
<object><name>n2</name>
<bndbox><xmin>0</xmin><ymin>1</ymin><xmax>2</xmax><ymax>3</ymax></bndbox></object>
</annotation>"""

LOC = {
    "LOC_synset_mapping.txt": b"n1 tench, Tinca tinca\nn2 crane\nn3 crane\n",
    "ILSVRC/Annotations/CLS-LOC/train/n1/n1_10.xml": XML,
    "ILSVRC/Annotations/CLS-LOC/val/v_1.xml": XML.replace(b"n1_10", b"v_1"),
}

CSV = {
    "LOC_synset_mapping.txt": b"n1 tench, Tinca tinca\nn2 crane\nn3 crane\n",
    "LOC_train_solution.csv": b"ImageId,PredictionString\nn1_10,n1 13 16 401 299 \n",
    "LOC_val_solution.csv": b"ImageId,PredictionString\nv_1,n1 1 2 3 4 n2 5 6 7 8 \nv_2,\n",
}


@pytest.fixture
def folder(tmp_path):
    def write(contents, **changes):
        write_files(tmp_path, {**contents, **changes})
        return str(tmp_path)

    return write


def test_tiny_imagenet(folder):
    root = folder(TINY)
    found = read_tiny_imagenet(root)
    train, boxes = f"{root}/train", "n1/n1_boxes.txt"
    assert found.objects == {
        "train": [
            # The classes in the order of wnids.txt.
            Annotated(
                ImageRef(f"{train}/n2/images/n2_0.JPEG"),
                *("n2_0.JPEG", "goldfish", (1.0, 2.0, 3.0, 4.0), f"{train}/n2/n2_boxes.txt", 1),
            ),
            Annotated(
                ImageRef(f"{train}/n1/images/n1_0.JPEG"),
                *("n1_0.JPEG", "ladybug", (16.0, 10.0, 35.0, 26.0), f"{train}/{boxes}", 1),
            ),
            Annotated(
                ImageRef(f"{train}/n1/images/n1_1.JPEG"),
                *("n1_1.JPEG", "ladybug", (0.0, 0.0, 63.0, 63.0), f"{train}/{boxes}", 2),
            ),
        ],
        "test": [
            Annotated(
                ImageRef(f"{root}/val/images/val_0.JPEG"),
                *("val_0.JPEG", "goldfish", (0.0, 32.0, 44.0, 62.0)),
                *(f"{root}/val/val_annotations.txt", 1),
            )
        ],
    }
    assert found.class_names == ["goldfish", "ladybug"]
    assert found.faults == []
    assert (found.units, found.exact) == ("pixel", False)
    assert found.folders == [f"{train}/n2/images", f"{train}/n1/images", f"{root}/val/images"]
    assert list(read_tiny_imagenet(root, val_as="val").objects) == ["train", "val"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (None, ["n2", "n1"]),
        (b"n1\tcrane\nn2\tcrane, bird\n", ["n2", "n1"]),  # Two sorts of crane.
        (b"n1\tcrane\n", ["n2", "crane"]),
        (b"n1\tn2\nn2\tn1\n", ["n1", "n2"]),
        # The word of one class is the wnid of another, which has none: wnids throughout.
        (b"n1\tn2\n", ["n2", "n1"]),
    ],
)
def test_tiny_class_names(folder, words, names):
    found = read_tiny_imagenet(folder(TINY, **{"words.txt": words}))
    assert found.class_names == names
    assert found.objects["train"][0].label == names[0]


def test_tiny_faults(folder):
    root = folder(
        TINY,
        **{
            "wnids.txt": b"n2\nn1\nn1\n../up\n\nn7\n",
            "train/n1/n1_boxes.txt": (
                b"n1_0.JPEG\t16\t10\t35\r\n"  # A column short.
                b"\r\n"
                b"n1_1.JPEG\t0\tx\t63\t63\r\n"
                b"../../../../up.JPEG\t0\t0\t63\t63\r\n"
                b"n1_2.JPEG\tnan\t0\t63\tinf\r\n"
            ),
            "train/n2/n2_boxes.txt": b"n2_0.JPEG\t1\t2\t3\t4\nn2_\xff\t1\t2\t3\t4\n",
            "train/n9/n9_boxes.txt": b"",
            "val/val_annotations.txt": b"val_0.JPEG\tn9\t0\t32\t44\t62\n",
        },
    )
    found = read_tiny_imagenet(root)
    boxes, wnids = f"{root}/train/n1/n1_boxes.txt", f"{root}/wnids.txt"
    assert [(fault.file, fault.row, fault.kind) for fault in found.faults] == [
        (wnids, 3, "duplicate_row"),
        (wnids, 4, "outside"),
        (f"{root}/train/n9", 0, "label"),
        (f"{root}/train/n2/n2_boxes.txt", 0, "encoding"),
        (boxes, 1, "columns"),
        (boxes, 3, "number"),
        (boxes, 4, "outside"),
        (f"{root}/train/n7/n7_boxes.txt", 0, "missing_file"),
        (f"{root}/val/val_annotations.txt", 1, "label"),
    ]
    reasons = [fault.reason for fault in found.faults]
    assert reasons[3].startswith("is not UTF-8 text: line 2 has the byte 0xff")
    assert reasons[4] == "has 4 columns, expected 5: name, x1, y1, x2, y2"
    assert reasons[5] == "column y1: 'x' is not a number"
    assert reasons[8] == "column wnid: 'n9' is not in wnids.txt"
    # A number that is not finite is judged later.
    (kept,) = found.objects["train"]
    assert kept.row == 5
    assert str(kept.box) == "(nan, 0.0, 63.0, inf)"


def test_tiny_without_validation(folder):
    root = folder({name: text for name, text in TINY.items() if not name.startswith("val")})
    found = read_tiny_imagenet(root)
    assert list(found.objects) == ["train"]
    assert found.faults == []


def test_tiny_missing(tmp_path, folder):
    with pytest.raises(DataError, match="does not exist"):
        read_tiny_imagenet(str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"class list .*wnids.txt does not exist"):
        read_tiny_imagenet(str(tmp_path))
    with pytest.raises(DataError, match=r"wnids.txt is not UTF-8 text: line 2"):
        read_tiny_imagenet(folder(TINY, **{"wnids.txt": b"n1\n\x80\n"}))


def test_tiny_real_data(optional_data):
    import tarfile

    # The archive's README: 500 images a class for training, 1,000 for validation, 20 classes.
    archive = optional_data / "tiny_imagenet_20.tar"
    with tarfile.open(archive) as tar:
        names = [name for name in tar.getnames() if name.endswith(".txt")]
        contents = {name.split("/", 1)[1]: tar.extractfile(name).read() for name in names}
    for name, content in contents.items():
        with tf.io.gfile.GFile(f"ram://tiny-20/{name}", "wb") as file:
            file.write(content)
    found = read_tiny_imagenet("ram://tiny-20")
    assert {split: len(objects) for split, objects in found.objects.items()} == {
        "train": 10_000,
        "test": 1_000,
    }
    assert found.faults == []
    assert len(found.class_names) == 20


def test_loc_xml(folder):
    root = folder(LOC)
    found = read_imagenet_loc(root)
    file = f"{root}/ILSVRC/Annotations/CLS-LOC/train/n1/n1_10.xml"
    image = ImageRef(f"{root}/ILSVRC/Data/CLS-LOC/train/n1/n1_10.JPEG")
    assert found.objects["train"] == [
        Annotated(image, "n1_10", "tench", (13.0, 16.0, 401.0, 299.0), file, 1, (500, 375)),
        Annotated(image, "n1_10", "n2", (0.0, 1.0, 2.0, 3.0), file, 2, (500, 375)),
    ]
    assert {one.image.path for one in found.objects["test"]} == {
        f"{root}/ILSVRC/Data/CLS-LOC/val/v_1.JPEG"
    }
    # Two classes share the word, so their wnids name them.
    assert found.class_names == ["tench", "n2", "n3"]
    assert (found.units, found.exact, found.faults) == ("pixel", False, [])


def test_loc_tables_go_before_xml(folder):
    root = folder(LOC, **CSV)
    found = read_imagenet_loc(root, val_as="val")
    table = f"{root}/LOC_val_solution.csv"
    image = ImageRef(f"{root}/ILSVRC/Data/CLS-LOC/val/v_1.JPEG")
    assert found.objects == {
        "train": [
            Annotated(
                ImageRef(f"{root}/ILSVRC/Data/CLS-LOC/train/n1/n1_10.JPEG"),
                *("n1_10", "tench", (13.0, 16.0, 401.0, 299.0)),
                *(f"{root}/LOC_train_solution.csv", 2),
            )
        ],
        "val": [
            Annotated(image, "v_1", "tench", (1.0, 2.0, 3.0, 4.0), table, 2),
            Annotated(image, "v_1", "n2", (5.0, 6.0, 7.0, 8.0), table, 2),
        ],
    }
    assert found.faults == [Fault(table, 3, "names no object", "no_object")]


def test_loc_without_inner_folder(folder):
    root = folder({name.removeprefix("ILSVRC/"): content for name, content in LOC.items()})
    first = read_imagenet_loc(root).objects["train"][0]
    assert first.image.path == f"{root}/Data/CLS-LOC/train/n1/n1_10.JPEG"


def test_loc_table_faults(folder):
    rows = b"v_1,n1 1 2 3\n../../../../up,n1 1 2 3 4\nv_3,n9 1 2 3 4 n1 1 2 3 4\nv_4,n1 1 2 3 x\n"
    root = folder(CSV, **{"LOC_val_solution.csv": rows})
    found = read_imagenet_loc(root)
    # Without a header the first line is a row; a bad object leaves the others of its image.
    assert [(fault.row, fault.kind) for fault in found.faults] == [
        (1, "columns"),
        (2, "outside"),
        (3, "label"),
        (4, "number"),
    ]
    assert [(one.row, one.label) for one in found.objects["test"]] == [(3, "tench")]


def test_signs_that_do_not_show_are_no_class(folder):
    # 0x01 is a control sign; 0x0b would end a line of a list of classes.
    rows = b"ImageId,PredictionString\nn1_10,n1 13 16 401 299\nn2_10,n2 1 2 3 4\n"
    mapping = b"n1\t\x01\x0b\x01\nn2 cr\x01ane\nn3 crane\nn\x014 tench\n"
    names = {"LOC_synset_mapping.txt": mapping, "LOC_train_solution.csv": rows}
    found = read_imagenet_loc(folder(CSV, **names))
    assert found.class_names == ["crane"]
    assert [(fault.row, fault.kind) for fault in found.faults[:3]] == [
        (row, "label") for row in (1, 2, 4)
    ]
    assert found.faults[0].reason == r"the class '\x01\x0b\x01' has signs that are no text"
    # Their objects cannot be used either; v_2 has none.
    assert {fault.kind for fault in found.faults[3:]} == {"label", "no_object"}
    assert not any(found.objects.values())


BOMB = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;">]><annotation><filename>&c;</filename></annotation>"""
EXTERNAL = b"""<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<annotation><filename>&x;</filename></annotation>"""


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "syntax"),
        (b"not xml", "syntax"),
        (XML[:100], "syntax"),
        (BOMB, "syntax"),
        (EXTERNAL, "syntax"),
        (b"<other/>", "syntax"),
        (b'<?xml version="1.0" encoding="rot-13"?><annotation/>', "encoding"),
        (b"<annotation/>", "no_object"),
        (XML.replace(b"n1_10", b"../../../../../../up"), "outside"),
        (XML.replace(b"500", b"huge"), "number"),
        (b"<annotation>" + b"<a>" * 10_000 + b"</a>" * 10_000 + b"</annotation>", "no_object"),
        (b"<annotation>" + b"<a>" * 340_000, "syntax"),
        (b" " * (2**20 + 1), "syntax"),
    ],
)
def test_loc_bad_xml_is_one_fault(folder, content, kind):
    path = "ILSVRC/Annotations/CLS-LOC/train/n1/n1_10.xml"
    found = read_imagenet_loc(root := folder(LOC, **{path: content}))
    assert [(one.file, one.row, one.kind) for one in found.faults] == [(f"{root}/{path}", 0, kind)]
    assert found.objects["train"] == []
    assert len(found.objects["test"]) == 2


def test_loc_bad_object_leaves_the_others(folder):
    path = "ILSVRC/Annotations/CLS-LOC/train/n1/n1_10.xml"
    broken = XML.replace(b"<xmax>401</xmax>", b"")
    found = read_imagenet_loc(root := folder(LOC, **{path: broken}))
    reason = "column xmax is empty"
    assert found.faults == [Fault(f"{root}/{path}", 1, reason, "number")]
    assert [one.row for one in found.objects["train"]] == [2]


def test_loc_name_that_was_never_filled_in():
    # Some files of the data set say %s; the name of the XML file then is the image's.
    assert image_name(xml_root(XML.replace(b"n1_10", b"%s"))) == ""
    assert image_name(xml_root(XML)) == "n1_10"


def test_loc_unknown_class_folder(folder):
    path = "ILSVRC/Annotations/CLS-LOC/train/n9/n9_1.xml"
    (fault,) = read_imagenet_loc(folder(LOC, **{path: XML})).faults
    assert fault.kind == "label"
    assert fault.file.endswith("/train/n9")


def test_loc_without_annotations(folder):
    with pytest.raises(DataError, match=r"expected LOC_train_solution.csv or the XML files"):
        read_imagenet_loc(folder({"LOC_synset_mapping.txt": b"n1 tench\n"}))
