"""Pascal VOC: boxes and sizes as written, images found by name, XML that means harm refused."""

import copy
import math
import time
from xml.etree import ElementTree

import pytest
import tensorflow as tf
from helpers.reader_fuzz import FEW_AND_MANY, assert_only_data_errors, write_files
from hypothesis import strategies as st

from loc_keras.data.formats.csv_file import read_csv
from loc_keras.data.formats.voc import LARGEST_XML, read_voc
from loc_keras.errors import DataError

SIZE = "<size><width>640</width><height>480</height><depth>3</depth></size>"


def thing(name="cat", box=(64, 48, 512, 456)):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"


def document(*things, filename="a.jpg", size=SIZE):
    named = "" if filename is None else f"<filename>{filename}</filename>"
    return f"<annotation>{named}{size}{''.join(things)}</annotation>".encode()


@pytest.fixture
def read(tmp_path):
    """Writes files by name and reads the folder's training split."""

    def run(content, **entry):
        write_files(tmp_path, content)
        return read_voc(str(tmp_path), splits={"train": entry})

    return run


def one_fault(found):
    assert found.objects == {"train": []}
    (fault,) = found.faults
    return fault


def test_all_that_a_file_says(read, tmp_path):
    # A part has a box of its own, which is no object.
    part = thing("head", (1, 2, 3, 4)).replace("object", "part")
    first = thing().replace("</object>", part + "<difficult>1</difficult></object>")
    found = read({"a.xml": document(first, thing("dog", (1.5, 0, "2e2", -3))), "a.jpg": b""})
    one, other = found.objects["train"]
    assert one.box == (64, 48, 512, 456)
    assert other.box == (1.5, 0, 200, -3)
    assert (one.label, one.row, other.label, other.row) == ("cat", 1, "dog", 2)
    assert one.size == (640, 480)
    assert one.file == str(tmp_path / "a.xml")
    assert one.image.path == str(tmp_path / "a.jpg")
    assert one.name == "a.jpg"
    assert found.units == "pixel"
    assert found.exact
    assert found.class_names is None
    assert found.folders == [str(tmp_path)]
    assert found.faults == []


def test_pixels_counted_from_one_are_counted_from_zero(tmp_path):
    # A box over all of a 50 x 30 px picture is 1, 1, 50, 30 in the challenges' files: pixels 0..49
    # and 0..29, the last one included.
    write_files(tmp_path, {"a.xml": document(thing(box=(1, 1, 50, 30)), size=""), "a.jpg": b""})
    found = read_voc(str(tmp_path), splits={"train": {}}, first_pixel=1)
    assert found.objects["train"][0].box == (0, 0, 49, 29)
    assert not found.exact


@pytest.mark.parametrize(
    ("filename", "files", "name"),
    [
        ("a.jpg", ("a.jpg", "b.jpg"), "a.jpg"),
        ("sub/a.jpg", ("sub/a.jpg", "a.jpg"), "sub/a.jpg"),
        ("other/a.jpg", ("a.jpg",), "a.jpg"),
        ("C:\\Users\\me\\a.jpg", ("a.jpg",), "a.jpg"),
        ("/home/me/a.jpg", ("a.jpg",), "a.jpg"),
        ("../../a.jpg", ("a.jpg",), "a.jpg"),
        ("old.jpg", ("note.JPG", "note.txt"), "note.JPG"),
        ("old.jpg", ("note.webp", "note.bmp"), "note.bmp"),
        (None, ("note.png",), "note.png"),
        ("  ", ("note.png",), "note.png"),
        ("é ' &quot; 日本.jpg", ("é ' \" 日本.jpg",), "é ' \" 日本.jpg"),
        # Nothing is there: the name as written, which is then found to be missing.
        ("old.jpg", (), "old.jpg"),
    ],
)
def test_the_image_is_found(read, tmp_path, filename, files, name):
    content = {"xml/note.xml": document(thing(), filename=filename)}
    images = {f"images/{file}": b"" for file in files}
    found = read({**content, **images}, annotations="xml", images="images")
    (one,) = found.objects["train"]
    assert one.name == name
    assert one.image.path == str(tmp_path / "images" / name)
    assert found.folders == [str(tmp_path / "images")]
    assert found.faults == []


def test_a_copy_has_the_box_of_its_own_file(read, tmp_path):
    # Augmented copies keep the filename of what they are copies of.
    found = read(
        {
            "a.xml": document(thing(box=(1, 2, 3, 4)), filename="a.jpg"),
            "a_flip.xml": document(thing(box=(5, 6, 7, 8)), filename="a.jpg"),
            **{"a.jpg": b"", "a_flip.jpg": b"", "b.xml": document(thing(), filename="c.jpg")},
            "c.jpg": b"",
        }
    )
    assert [(one.name, one.box) for one in found.objects["train"][:2]] == [
        ("a.jpg", (1, 2, 3, 4)),
        ("a_flip.jpg", (5, 6, 7, 8)),
    ]
    # No image is called b.
    assert found.objects["train"][2].name == "c.jpg"
    (fault,) = found.faults
    assert (fault.file, fault.kind, fault.severity) == (
        str(tmp_path / "a_flip.xml"),
        "stale_name",
        "warning",
    )
    assert fault.reason == "names 'a.jpg', but a_flip.jpg, which is called as it is, is taken"


def test_files_without_ending_in_a_folder_for_each_class(read, tmp_path):
    # Stanford Dogs; some of its files say %s for their image.
    content = {
        f"Annotation/{folder}/n_1": document(thing(folder), filename="%s") for folder in "pq"
    }
    images = {f"Images/{folder}/n_1.jpg": b"" for folder in "pq"}
    found = read({**content, **images}, annotations="Annotation", images="Images")
    assert [(one.label, one.image.path) for one in found.objects["train"]] == [
        (folder, str(tmp_path / "Images" / folder / "n_1.jpg")) for folder in "pq"
    ]
    assert found.faults == []


def test_an_image_that_is_named_nowhere(read):
    fault = one_fault(read({"note.xml": document(thing(), filename=None)}))
    assert fault.kind == "missing_image"
    assert fault.reason.startswith("names no image, and none is called note in ")


@pytest.mark.parametrize("filename", ["../../secret.jpg", "/etc/secret.jpg", "ram://x/y.jpg"])
def test_names_that_lead_out_are_refused(read, filename):
    fault = one_fault(read({"in/a.xml": document(thing(), filename=filename)}, annotations="in"))
    assert (fault.row, fault.kind) == (0, "outside")
    assert fault.reason.startswith(f"filename: '{filename}' ")


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    write_files(tmp_path, {"secret.jpg": b"", "data/a.xml": document(thing())})
    (tmp_path / "data" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    fault = one_fault(read_voc(str(tmp_path / "data"), splits={"train": {}}))
    assert "is a link that leads out" in fault.reason
    (tmp_path / "data" / "a.xml").rename(tmp_path / "a.xml")
    (tmp_path / "data" / "b.xml").symlink_to(tmp_path / "a.xml")
    fault = one_fault(read_voc(str(tmp_path / "data"), splits={"train": {}}))
    assert fault.reason.startswith("'b.xml' is a link that leads out")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("", None),
        ("<size/>", None),
        ("<size><width>0</width><height>0</height></size>", None),
        ("<size><width>640</width><height>0</height></size>", None),
        ("<size><width>wide</width><height>nan</height></size>", None),
        ("<size><width>1e99</width><height>5</height></size>", None),
        ("<size><width> 640.0 </width><height>480</height></size>", (640, 480)),
    ],
)
def test_sizes_that_are_not_known(read, size, expected):
    (one,) = read({"a.xml": document(thing(), size=size)}).objects["train"]
    assert one.size == expected


OBJECT_FAULTS = [
    ("<object/>", "(object) name is empty", "label"),
    (thing(" "), "(object) name is empty", "label"),
    (thing("c" * 257), "(object) name is longer than 256 characters", "label"),
    ("<object><name>cat</name></object>", "(object) has no bndbox", "number"),
    (thing().replace("<xmax>512</xmax>", ""), "(object) has no xmax", "number"),
    (thing(box=(1, "x", 3, 4)), "(object) ymin: 'x' is not a number", "number"),
    (thing(box=(1, "1_0", 3, 4)), "(object) ymin: '1_0' is not a number", "number"),
]


@pytest.mark.parametrize(("bad", "reason", "kind"), OBJECT_FAULTS)
def test_a_bad_object_does_not_stop_the_others(read, tmp_path, bad, reason, kind):
    found = read({"a.xml": document(thing(), bad, thing("dog"))})
    assert [(one.label, one.row) for one in found.objects["train"]] == [("cat", 1), ("dog", 3)]
    assert [fault[:4] for fault in found.faults] == [(str(tmp_path / "a.xml"), 2, reason, kind)]


def test_infinite_numbers_are_for_others_to_judge(read):
    (one,) = read({"a.xml": document(thing(box=("nan", "-inf", "1e999", 0)))}).objects["train"]
    assert math.isnan(one.box[0])
    assert one.box[1:] == (-math.inf, math.inf, 0)


def test_files_without_objects(read):
    assert one_fault(read({"a.xml": document()}))[1:4] == (0, "names no object", "no_object")


BOMB = (
    "<!DOCTYPE a [<!ENTITY l0 'lol'>"
    + "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>" for i in range(1, 12))
    + "]><annotation>&l11;</annotation>"
)
EXTERNAL = (
    "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
    "<annotation><filename>&x;</filename></annotation>"
)
SYNTAX_FAULTS = [
    (BOMB.encode(), "has a document type (DTD) or entities"),
    (EXTERNAL.encode(), "has a document type (DTD) or entities"),
    (b"<!DOCTYPE annotation SYSTEM 'http://x/y.dtd'><annotation/>", "has a document type (DTD)"),
    (b"<annotation>&undefined;</annotation>", "is not XML that can be read: undefined entity"),
    (document(thing())[:-20], "is not XML that can be read: "),
    (b"", "is not XML that can be read: no element found"),
    (b"\xff\xd8\xff\xe0 a JPEG", "is not XML that can be read: "),
    (b"<?xml version='1.0' encoding='klingon'?><annotation/>", "is not XML that can be read: "),
    (b"<?xml version='1.0' encoding='utf-7'?><annotation/>", "is not XML that can be read: "),
    (b"\0" * 100, "is not XML that can be read: "),
    (document(thing("caf\xe9")).decode().encode("latin-1"), "is not XML that can be read: "),
    (b"<html><annotation/></html>", "is no such annotation: it begins with <html>"),
    (b"<" + b"a" * 9999 + b"/>", "is no such annotation: it begins with <aaaa"),
    (
        b"<annotation>" + b" " * LARGEST_XML + b"</annotation>",
        "cannot be read: it has 1,048,601 bytes, and",
    ),
]


@pytest.mark.parametrize(("content", "reason"), SYNTAX_FAULTS)
def test_files_that_are_no_annotations(read, tmp_path, content, reason):
    found = read({"a.xml": content, "b.xml": document(thing(), filename="b.jpg")})
    assert [one.name for one in found.objects["train"]] == ["b.jpg"]
    (fault,) = found.faults
    # Where a declared encoding is none, its remedy is to save the file as UTF-8.
    kind = "encoding" if b"encoding=" in content else "syntax"
    assert (fault.file, fault.row, fault.kind) == (str(tmp_path / "a.xml"), 0, kind)
    assert fault.reason.startswith(reason)
    assert len(fault.reason) < 200


@pytest.mark.parametrize(
    "content",
    [
        b"<annotation>" * (LARGEST_XML // 12),
        b"<annotation>" + b"<a>" * 140_000 + b"</a>" * 140_000 + b"</annotation>",
        b"<annotation " + b" ".join(b"a%d='1'" % i for i in range(80_000)) + b"/>",
        b"<annotation>" + b"<object/>" * 100_000 + b"</annotation>",
    ],
)
def test_the_time_for_a_file_is_bounded(read, content):
    start = time.perf_counter()
    assert read({"a.xml": content}).faults
    assert time.perf_counter() - start < 60


def test_other_encodings_that_the_file_declares(read):
    text = "<?xml version='1.0' encoding='{}'?>" + document(thing("café")).decode()
    content = {
        f"{name}.xml": text.format(name).encode(name)
        for name in ("utf-8", "utf-8-sig", "latin-1", "utf-16")
    }
    content["utf-8-sig.xml"] = text.format("utf-8").encode("utf-8-sig")
    found = read(content)
    assert [one.label for one in found.objects["train"]] == ["café"] * 4


def test_subfolders_are_read_where_the_folder_has_none(read, tmp_path):
    content = {f"{part}/a.xml": document(thing()) for part in ("p1", "p2")}
    found = read({**content, "p2/a.jpg": b""})
    paths = [str(tmp_path / part / "a.jpg") for part in ("p1", "p2")]
    assert [one.image.path for one in found.objects["train"]] == paths
    assert found.folders == [str(tmp_path / part) for part in ("p1", "p2")]
    found = read({"b.XML": document(thing())})
    assert [one.file for one in found.objects["train"]] == [str(tmp_path / "b.XML")]


def test_lists_say_which_files_belong_to_a_split(tmp_path):
    names = ["a", "b b", "c", "d"]
    content = {f"Annotations/{name}.xml": document(thing(name)) for name in names}
    lists = {
        "Main/train.txt": b"\xef\xbb\xbfc\r\n\r\nb b\r\na -1\nnone\nc 1\n",
        "Main/test.txt": b"d.jpg",
    }
    write_files(tmp_path, {**content, **lists, "JPEGImages/a.jpg": b""})
    folders = {"annotations": "Annotations", "images": "JPEGImages"}
    splits = {name: {**folders, "list": f"Main/{name}.txt"} for name in ("train", "test")}
    found = read_voc(str(tmp_path), splits={**splits, "val": None})
    labels = {split: [one.label for one in part] for split, part in found.objects.items()}
    assert labels == {"train": ["c", "b b", "a"], "test": ["d"]}
    path = str(tmp_path / "Main" / "train.txt")
    assert [fault[:2] for fault in found.faults] == [(path, 5), (path, 6)]
    assert [fault.kind for fault in found.faults] == ["missing_annotation", "duplicate_row"]
    assert found.faults[0].reason.startswith("names 'none', which has no XML file in ")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": {"annotations": "none"}}, r"none does not exist: mend data.source.voc.splits.t"),
        ({"train": {"annotations": "empty"}}, r"empty has no XML files: mend data.source.voc.spl"),
        ({"train": {"list": "none.txt"}}, r"list of images .*none.txt does not exist"),
        ({"train": {"list": "latin.txt"}}, r"latin.txt is not UTF-8 text"),
        ({"train": {"annotations": "../x"}}, r"train.annotations: '../x' leads out of the data"),
        ({"train": {"images": "/etc"}}, r"data.source.voc.splits.train.images: '/etc' is absolute"),
        ({"train": {"list": "../x"}}, r"data.source.voc.splits.train.list: '../x' leads out"),
        ({"val": {}}, r"data.source.voc.splits.train is missing"),
    ],
)
def test_wrong_options_are_named(tmp_path, splits, message):
    write_files(tmp_path, {"a.xml": document(thing()), "latin.txt": b"caf\xe9"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        read_voc(str(tmp_path), splits=splits)


def test_remote_folders():
    root = "ram://read_voc"
    content = {
        "x/1 é.xml": document(thing(), filename="old.png"),
        "i/1 é.PNG": b"",
        "l.txt": b"1 \xc3\xa9",
    }
    for name, data in content.items():
        tf.io.gfile.makedirs(f"{root}/{name}".rpartition("/")[0])
        with tf.io.gfile.GFile(f"{root}/{name}", "wb") as file:
            file.write(data)
    splits = {"train": {"annotations": "x", "images": "i", "list": "l.txt"}, "val": {}}
    found = read_voc(root, splits=splits)
    assert found.faults == []
    assert [one.image.path for one in found.objects["train"]] == [f"{root}/i/1 é.PNG"]
    # Without a folder, the file below the root is found, and its image is not beside it.
    assert [one.image.path for one in found.objects["val"]] == [f"{root}/x/old.png"]


def test_real_files_agree_with_their_table(optional_data):
    folder = next((optional_data / "microcontrollers").rglob("train_labels.csv")).parent
    names = {"file": "filename", "label": "class", "width": "width", "height": "height"}
    corners = zip(("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), strict=True)
    by_table = read_csv(
        str(folder),
        splits={part: {"csv": f"{part}_labels.csv", "images": part} for part in ("train", "test")},
        header=True,
        columns={**names, **dict(corners)},
        units="pixel",
    )
    by_xml = read_voc(
        str(folder), splits={part: {"annotations": part} for part in ("train", "test")}
    )
    assert not by_table.faults
    assert not by_xml.faults
    for split, count in (("train", 170), ("test", 7)):
        parts = (by_table.objects[split], by_xml.objects[split])
        one, other = (
            sorted((it.name, it.label, it.box, it.size, it.image) for it in part) for part in parts
        )
        assert one == other
        assert len(one) == count


# Fuzz

VALID = {
    "xml/a.xml": document(thing(), thing("dog", (1.5, 2, 30, 40))),
    "xml/b.xml": document(thing(), filename="sub/b.jpg"),
    "images/a.jpg": b"",
    "list.txt": b"a 1\nb -1\n",
}
TAGS = ["annotation", "object", "name", "bndbox", "xmin", "size", "width", "filename", "a"]
TEXTS = ["", " ", "640", "nan", "-inf", "1e999", "x", "../../a.jpg", "/etc/passwd", "a\nb", "é"]


@st.composite
def mutated_elements(draw, valid):
    """A valid XML tree with elements renamed, moved, doubled or left out, and texts exchanged."""
    if not valid.startswith(b"<"):
        return valid
    root = ElementTree.fromstring(valid)
    for _ in range(draw(st.integers(1, 4))):
        parent = draw(st.sampled_from(list(root.iter())))
        action = draw(st.sampled_from(["rename", "text", "remove", "double", "nest"]))
        if action == "rename":
            parent.tag = draw(st.sampled_from(TAGS)) if parent is not root else root.tag
        elif action == "text":
            parent.text = draw(st.sampled_from(TEXTS) | st.text("\u2028\u00a0a\t<&", max_size=3))
        elif len(parent):
            child = draw(st.sampled_from(list(parent)))
            if action == "remove":
                parent.remove(child)
            elif action == "double":
                parent.append(child)
            else:
                parent.append(copy.deepcopy(root))
    return ElementTree.tostring(root)


LISTED = st.sampled_from([None, "list.txt"]).map(lambda name: {"list": name})


@FEW_AND_MANY
def test_no_input_breaks_the_reader(tmp_path, examples):
    def read(root, **entry):
        entry = {"annotations": "xml", "images": "images", **entry}
        return read_voc(root, splits={"train": entry})

    assert_only_data_errors(tmp_path, VALID, read, examples, mutated_elements, options=LISTED)


def test_an_object_without_a_number_counts_for_its_image(read, tmp_path):
    found = read({"a.xml": document(thing(), thing("dog", (1, 2, "x", 4))), "a.jpg": b""})
    assert len(found.objects["train"]) == len(found.faults) == 1
    assert {ref.path: n for ref, n in found.unread.items()} == {str(tmp_path / "a.jpg"): 1}
