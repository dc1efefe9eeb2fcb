"""GTSRB in its two layouts: fields by hand, tracks."""

import pytest
from helpers.annotated import all_objects
from helpers.reader_fuzz import write_files

from loc_keras.data.annotations import Annotated, Fault, ImageRef
from loc_keras.data.formats.published import read_gtsrb
from loc_keras.errors import DataError

HEADER = b"Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
PUBLISHED = {
    "Final_Training/Images/00000/GT-00000.csv": HEADER
    + b"00000_00000.ppm;29;30;5;6;24;25;0\r\n00000_00001.ppm;30;30;5;5;25;25;0\r\n",
    "Final_Training/Images/00003/GT-00003.csv": HEADER + b"00000_00000.ppm;40;41;5;6;35;36;3\n",
    "Final_Test/Images/GT-final_test.csv": HEADER + b"00000.ppm;53;54;6;5;48;49;16\n",
}
COLUMNS = b"Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path\n"
REPACKED = {
    "Train.csv": COLUMNS
    + b"27,26,5,5,22,20,20,Train/20/00020_00000_00000.png\n"
    + b"28,27,5,6,23,22,20,Train/20/00020_00000_00001.png\n"
    + b"28,27,5,6,23,22,20,Train/20/00020_00001_00000.png\n"
    + b"28,27,5,6,23,22,1,Train/1/00001_00000_00000.png\n",
    "Test.csv": COLUMNS + b"53,54,6,5,48,49,16,Test/00000.png\n",
}


@pytest.fixture
def folder(tmp_path):
    def write(contents, changes=None):
        write_files(tmp_path, {**contents, **(changes or {})})
        return str(tmp_path)

    return write


def test_published(folder):
    found = read_gtsrb(root := folder(PUBLISHED))
    train, test = f"{root}/Final_Training/Images", f"{root}/Final_Test/Images"

    def image(name):
        return ImageRef(name), name.rpartition("/")[2]

    first, third = f"{train}/00000", f"{train}/00003"
    assert found.objects == {
        "train": [
            Annotated(
                *image(f"{first}/00000_00000.ppm"),
                *("0", (5.0, 6.0, 24.0, 25.0), f"{first}/GT-00000.csv", 2, (29, 30), "0/00000"),
            ),
            Annotated(
                *image(f"{first}/00000_00001.ppm"),
                *("0", (5.0, 5.0, 25.0, 25.0), f"{first}/GT-00000.csv", 3, (30, 30), "0/00000"),
            ),
            # The first track of another class is another sign.
            Annotated(
                *image(f"{third}/00000_00000.ppm"),
                *("3", (5.0, 6.0, 35.0, 36.0), f"{third}/GT-00003.csv", 2, (40, 41), "3/00000"),
            ),
        ],
        "test": [
            Annotated(
                *image(f"{test}/00000.ppm"),
                *("16", (6.0, 5.0, 48.0, 49.0), f"{test}/GT-final_test.csv", 2, (53, 54)),
            )
        ],
    }
    assert (found.units, found.faults, found.class_names) == ("pixel", [], None)
    assert found.folders == [first, third, test]


def test_boxes_are_edges(folder):
    # The data set's readme: the border around a sign is 10 % of its size, at least 5 px. In these
    # rows, three of which are the first of published files, that holds for edges, not for
    # inclusive corners.
    found = read_gtsrb(folder(PUBLISHED))
    assert found.exact
    for _, one in all_objects(found):
        x1, y1, x2, y2 = one.box
        width, height = one.size
        assert min(x1, y1, width - x2, height - y2) == 5


@pytest.mark.parametrize("train", ["Train", "Training"])
def test_other_folders(folder, train):
    name = "Final_Training/Images/00000/GT-00000.csv"
    found = read_gtsrb(root := folder({f"{train}/00000/GT-00000.csv": PUBLISHED[name]}))
    assert found.objects["train"][0].image.path == f"{root}/{train}/00000/00000_00000.ppm"
    assert list(found.objects) == ["train"]


def test_repacked(folder):
    found = read_gtsrb(root := folder(REPACKED))
    first = found.objects["train"][0]
    assert first == Annotated(
        ImageRef(f"{root}/Train/20/00020_00000_00000.png"),
        *("Train/20/00020_00000_00000.png", "20", (5.0, 5.0, 22.0, 20.0)),
        *(f"{root}/Train.csv", 2, (27, 26), "20/00000"),
    )
    assert [one.group for one in found.objects["train"]] == [
        "20/00000",
        "20/00000",
        "20/00001",
        "1/00000",
    ]
    (test,) = found.objects["test"]
    assert (test.label, test.group, test.row) == ("16", "", 2)
    assert found.folders == [f"{root}/Train", f"{root}/Test"]


def test_unlabelled_test_images(folder):
    name = "Final_Test/Images/GT-final_test.csv"
    contents = {key: value for key, value in PUBLISHED.items() if key != name}
    contents[name.replace("test.csv", "test.test.csv")] = b"Filename;Width\n"
    found = read_gtsrb(folder(contents))
    assert list(found.objects) == ["train"]
    (fault,) = found.faults
    assert "put GT-final_test.csv of GTSRB_Final_Test_GT.zip beside it" in fault.reason


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        (b"28,27,5,6,23,22,1", "columns", "has 7 columns, expected 8: Width, Height"),
        (b"28,27,5,6,23,x,1,a.png", "number", "column Roi.Y2: 'x' is not a number"),
        (b"28,-7,5,6,23,22,1,a.png", "number", "column Height: '-7' is not a whole number"),
        (b"28,27,5,6,23,22,one,a.png", "label", "column ClassId: 'one' is not a whole number"),
        (b"28,27,5,6,23,22,1,../a.png", "outside", "leads out of the data folder"),
        (b"28,27,5,6,23,22,1,", "outside", "'' names no file"),
        (b"28,27,5,6,23,22,1,\0", "syntax", "NUL"),
    ],
)
def test_faults_of_rows(folder, row, kind, reason):
    # A stray quote in front must not swallow the rows that follow.
    good = b'"28,27,5,6,23,22,1,Test/1.png\n'
    content = COLUMNS + good + row + b"\n" + good
    found = read_gtsrb(root := folder(REPACKED, {"Test.csv": content}))
    (fault,) = found.faults
    assert (fault.file, fault.row, fault.kind) == (f"{root}/Test.csv", 3, kind)
    assert reason in fault.reason
    assert [one.row for one in found.objects["test"]] == [2, 4]


def test_one_bad_class_file_leaves_the_others(folder):
    name = "Final_Training/Images/00000/GT-00000.csv"
    changed = PUBLISHED[name].replace(b"ClassId", b"Class")
    found = read_gtsrb(root := folder(PUBLISHED, {name: changed}))
    (fault,) = found.faults
    assert (fault.file, fault.row, fault.kind) == (f"{root}/{name}", 1, "columns")
    assert "lacks ClassId" in fault.reason
    assert [one.label for one in found.objects["train"]] == ["3"]


def test_missing_class_file(folder, tmp_path):
    root = folder(PUBLISHED)
    (tmp_path / "Final_Training/Images/00007").mkdir()
    path = f"{root}/Final_Training/Images/00007/GT-00007.csv"
    assert read_gtsrb(root).faults == [Fault(path, 0, "does not exist", "missing_file")]


def test_missing(folder, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_gtsrb(str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"holds no GTSRB: expected Train.csv, or"):
        read_gtsrb(str(tmp_path))
    with pytest.raises(DataError, match=r"Train.csv is not UTF-8 text: line 1"):
        read_gtsrb(folder(REPACKED, {"Train.csv": b"\xff"}))
