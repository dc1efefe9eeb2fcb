"""CUB-200-2011: fields by hand, missing rows."""

import pytest
from helpers.annotated import all_objects
from helpers.reader_fuzz import write_files

from loc_keras.data.annotations import Annotated, Fault, ImageRef
from loc_keras.data.formats.published import read_cub
from loc_keras.errors import DataError

VALID = {
    "images.txt": b"1 001.Black_footed_Albatross/A 1.jpg\n2 002.Crow/C.jpg\n3 002.Crow/D.jpg\n",
    "bounding_boxes.txt": b"1 60.0 27.0 325.0 304.0\n2 0.5 1.0 2.0 3.0\n3 1 1 1 1\n",
    "image_class_labels.txt": b"1 1\n2 2\n3 2\n",
    "classes.txt": b"1 001.Black_footed_Albatross\n2 002.Crow\n",
    "train_test_split.txt": b"1 0\n2 1\n3 1\n",
}


@pytest.fixture
def folder(tmp_path):
    def write(**changes):
        write_files(tmp_path, VALID | {f"{name}.txt": text for name, text in changes.items()})
        return str(tmp_path)

    return write


def test_fields(folder):
    found = read_cub(root := folder())
    file = f"{root}/bounding_boxes.txt"

    def image(name):
        return ImageRef(f"{root}/images/{name}"), name

    # x + width and y + height by hand: 60 + 325, 27 + 304.
    albatross = (60.0, 27.0, 385.0, 331.0)
    assert found.objects == {
        "train": [
            Annotated(*image("002.Crow/C.jpg"), "Crow", (0.5, 1.0, 2.5, 4.0), file, 2),
            Annotated(*image("002.Crow/D.jpg"), "Crow", (1.0, 1.0, 2.0, 2.0), file, 3),
        ],
        "test": [
            Annotated(
                *image("001.Black_footed_Albatross/A 1.jpg"),
                *("Black_footed_Albatross", albatross, file, 1),
            )
        ],
    }
    assert found.class_names == ["Black_footed_Albatross", "Crow"]
    assert found.folders == [f"{root}/images"]
    assert (found.units, found.exact, found.faults) == ("pixel", True, [])


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (b"1 a\n2 b\n", ["a", "b"]),
        (b"1 001.x\n2 002.x\n", ["001.x", "002.x"]),
        (b"1 x\n2 x\n", ["1", "2"]),
        (b"1 001.\n2 1.2.3\n", ["001.", "2.3"]),
    ],
)
def test_class_names_stay_distinct(folder, classes, names):
    assert read_cub(folder(classes=classes)).class_names == names


def test_missing_rows(folder):
    root = folder(
        bounding_boxes=b"1 60.0 27.0 325.0 304.0\n3 1 1 1 1\n",
        image_class_labels=b"1 1\n3 2\n9 1\n",
    )
    found = read_cub(root)
    assert found.faults == [
        Fault(f"{root}/bounding_boxes.txt", 0, "has no row for image '2'", "missing_row"),
        Fault(f"{root}/image_class_labels.txt", 0, "has no row for image '2'", "missing_row"),
        Fault(f"{root}/image_class_labels.txt", 3, "image '9' is not in images.txt", "missing_row"),
    ]
    assert [one.row for _, one in all_objects(found)] == [2, 1]


@pytest.mark.parametrize(
    ("change", "file", "row", "kind", "reason"),
    [
        ({"images": b"1 a.jpg\n2\n3 b.jpg"}, "images", 2, "columns", "has 1 columns, expected 2"),
        ({"images": b"1 a.jpg\n1 b.jpg\n3 c.jpg"}, "images", 2, "duplicate_row", "row 1 is used"),
        ({"images": b"1 ../../up.jpg\n2 b\n3 c"}, "images", 1, "outside", "leads out of the data"),
        ({"images": b"1 /up.jpg\n2 b\n3 c"}, "images", 1, "outside", "is absolute"),
        ({"images": b"1 a\0.jpg\n2 b\n3 c"}, "images", 1, "syntax", "NUL"),
        (
            {"bounding_boxes": b"1 1 1 1 1\n2 1 1 1 wide\n3 1 1 1 1"},
            *("bounding_boxes", 2, "number", "column height: 'wide' is not a number"),
        ),
        (
            {"image_class_labels": b"1 1\n2 7\n3 2"},
            *("image_class_labels", 2, "label", "column class: '7' is not in classes.txt"),
        ),
        (
            {"train_test_split": b"1 1\n2 yes\n3 1"},
            *("train_test_split", 2, "split", "'yes' is neither 0 (test) nor 1 (train)"),
        ),
    ],
)
def test_faults_of_rows(folder, change, file, row, kind, reason):
    found = read_cub(root := folder(**change))
    fault = found.faults[0]
    assert (fault.file, fault.row, fault.kind) == (f"{root}/{file}.txt", row, kind)
    assert reason in fault.reason
    assert sum(map(len, found.objects.values())) == 2


def test_links_that_lead_out_are_refused(folder, tmp_path, tmp_path_factory):
    root = folder()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "002.Crow").symlink_to(tmp_path_factory.mktemp("other"))
    assert [fault.kind for fault in read_cub(root).faults] == ["outside", "outside"]


def test_missing_files(folder, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_cub(str(tmp_path / "none"))
    root = folder()
    for name in VALID:
        (tmp_path / name).rename(tmp_path / "aside")
        with pytest.raises(DataError, match=rf"{name} does not exist"):
            read_cub(root)
        (tmp_path / "aside").rename(tmp_path / name)
