"""CSV and TSV: boxes by hand, names and quotes as written, one fault for each bad row."""

import math
from functools import partial

import pytest
import tensorflow as tf
from helpers.reader_fuzz import (
    FEW_AND_MANY,
    assert_only_data_errors,
    mutated_fields,
    write_files,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from loc_keras.config.data import CSV_FILES
from loc_keras.data.formats import csv_file
from loc_keras.data.formats.csv_file import LONGEST_ROW, Lines, read_csv
from loc_keras.data.formats.parsing import RowError, corners
from loc_keras.errors import DataError

ONE = {"train": {"csv": "data.csv", "images": "images"}}


@pytest.fixture
def table(tmp_path):
    """Writes data.csv and returns what a reader makes of it; images are empty files."""
    for name in ("0.png", "1.png"):
        write_files(tmp_path, {f"images/{name}": b""})

    def read(*rows, content=None, **options):
        data = "\n".join(rows).encode() + b"\n" if content is None else content
        (tmp_path / "data.csv").write_bytes(data)
        return read_csv(str(tmp_path), **{"splits": ONE, **options})

    return read


def boxes(found, split="train"):
    return [one.box for one in found.objects[split]]


def rows(found, split="train"):
    return [one.row for one in found.objects[split]]


def test_published_layout(tmp_path):
    write_files(
        tmp_path,
        {
            "training_data.csv": b"0.png,1,0.1,0.2,0.3,0.4\n\n2.png,0,0,0,1,1\n",
            "validation_data.csv": b"0.png,1,0,0,1,1\n",
            "training_images/0.png": b"",
            "validation_images/0.png": b"",
        },
    )
    found = read_csv(str(tmp_path))
    assert boxes(found) == [(0.1, 0.2, 0.3, 0.4), (0, 0, 1, 1)]
    assert rows(found) == [1, 3]
    assert [one.label for one in found.objects["train"]] == ["1", "0"]
    assert [one.name for one in found.objects["train"]] == ["0.png", "2.png"]
    assert found.objects["train"][0].image.path == str(tmp_path / "training_images" / "0.png")
    assert found.objects["train"][0].file == str(tmp_path / "training_data.csv")
    assert list(found.objects) == ["train", "val"]
    assert found.units == "fraction"
    assert found.exact
    assert found.class_names is None
    assert found.faults == []
    assert found.folders == [
        str(tmp_path / name) for name in ("training_images", "validation_images")
    ]


# The corners of one box, computed by hand, in each of the ways to write it.
@pytest.mark.parametrize(
    ("box", "columns", "row"),
    [
        ("xyxy", ("file", "label", "x1", "y1", "x2", "y2"), "0.png,cat,2,1,12,9"),
        ("xyxy", ("x1", "x2", "y1", "y2", "file", "label"), "2,12,1,9,0.png,cat"),
        ("xywh", ("file", "label", "x1", "y1", "w", "h"), "0.png,cat,2,1,10,8"),
        ("cxcywh", ("file", "label", "cx", "cy", "w", "h"), "0.png,cat,7,5,10,8"),
    ],
)
def test_ways_to_write_a_box(table, box, columns, row):
    found = table(row, box=box, columns=columns, units="pixel")
    assert boxes(found) == [(2, 1, 12, 9)]
    assert found.units == "pixel"


@given(*[st.floats(allow_nan=False, allow_infinity=False, width=16)] * 4)
def test_corners_of_centre_and_size(cx, cy, w, h):
    # Both definitions of the same box agree: the corner is half a size from the centre.
    by_centre = corners((cx, cy, w, h), "cxcywh")
    by_corner = corners((cx - w / 2, cy - h / 2, w, h), "xywh")
    assert by_centre == pytest.approx(by_corner)


def test_columns_by_name(table):
    found = table(
        "\ufeffclass; note ;xmax;xmin;ymin;ymax;filename;w_px;h_px;patient",
        'cat;"a; b";12;2;1;9;0.png;20;10;p1',
        "dog;;20;0;0;10;1.png;;0;p2",
        header=True,
        delimiter=";",
        units="pixel",
        columns={
            **{"file": "filename", "label": "class", "x1": "xmin", "y1": "ymin"},
            **{"x2": "xmax", "y2": "ymax", "width": "w_px", "height": "h_px"},
            **{"group": "patient", "split": None, "cx": "not there but not needed"},
        },
    )
    assert boxes(found) == [(2, 1, 12, 9), (0, 0, 20, 10)]
    assert rows(found) == [2, 3]
    assert [one.size for one in found.objects["train"]] == [(20, 10), None]
    assert [one.group for one in found.objects["train"]] == ["p1", "p2"]


def test_header_with_columns_by_position(table):
    found = table("", "f,l,a,b,c,d", "0.png,cat,0,0,1,1", header=True)
    assert rows(found) == [3]


def test_a_column_says_the_split(table):
    columns = ("file", "label", "x1", "y1", "x2", "y2", "split")
    names = ["train", "Training", "val", "valid", "validation", "test", "", "tset"]
    both = {"train": ONE["train"], "val": ONE["train"]}
    found = table(*[f"0.png,c,0,0,1,1,{name}" for name in names], columns=columns, splits=both)
    assert {split: rows(found, split) for split in found.objects} == {
        "train": [1, 2, 7],
        "val": [3, 4, 5],
        "test": [6],
    }
    (fault,) = found.faults
    assert fault[1:4] == (8, "column split: 'tset' is not train, val or test", "split")


def test_pattern_label_and_stem_in_the_folder(tmp_path):
    content = {f"csv/{name}.csv": f"1.png,0,0,1,1,{name}".encode() for name in ("cat", "a dog")}
    write_files(tmp_path, {**content, "pictures/cat/1.png": b"", "pictures/a dog/1.png": b""})
    columns = ("file", "x1", "y1", "x2", "y2", "label")
    for folder, label_from in (("{label}", "column"), ("{stem}", "column"), ("{stem}", "folder")):
        splits = {"train": {"csv": "csv/*.csv", "images": f"pictures/{folder}"}}
        found = read_csv(str(tmp_path), splits=splits, columns=columns, label_from=label_from)
        assert [(one.image.path, one.label) for one in found.objects["train"]] == [
            (str(tmp_path / "pictures" / name / "1.png"), name) for name in ("a dog", "cat")
        ]
        assert found.folders == [str(tmp_path / "pictures" / name) for name in ("a dog", "cat")]


def test_label_from_the_folder_in_the_name(table):
    columns = ("file", "x1", "y1", "x2", "y2")
    found = table(
        "a/cat/0.png,0,0,1,1", "b\\dog\\1.png,0,0,1,1", columns=columns, label_from="folder"
    )
    assert [one.label for one in found.objects["train"]] == ["cat", "dog"]


def test_images_may_lie_beside_the_csv_file(tmp_path):
    write_files(tmp_path, {"in/data.csv": b"0.png,1,0,0,1,1\n1.png,1,0,0,1,1\n", "in/0.png": b""})
    found = read_csv(str(tmp_path), splits={"train": {"csv": "in/data.csv", "images": "none"}})
    assert [one.image.path for one in found.objects["train"]] == [
        str(tmp_path / "in" / name) for name in ("0.png", "1.png")
    ]
    assert found.folders == [str(tmp_path / "in")]


NAMES = [
    "a b.png",
    'five" pipe.png',
    "comma, name.png",
    "日本 é.png",
    "it's.png",
    "line\nbreak.png",
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_names_are_taken_as_written(table, end, encoding, delimiter):
    quoted = ['"' + name.replace('"', '""') + '"' for name in NAMES]
    lines = [delimiter.join([name, '"cat"', "0", " 0", "1 ", "1"]) for name in quoted]
    text = end.join([lines[0], "", *lines[1:]]) + end
    found = table(content=text.encode(encoding), delimiter=delimiter)
    assert [one.name for one in found.objects["train"]] == NAMES
    # The first line, then those after the blank one.
    assert rows(found) == [1, 3, 4, 5, 6, 7]
    assert {one.label for one in found.objects["train"]} == {"cat"}
    assert found.faults == []


FAULTS = [
    ("0.png,0,0,0,1", "has 5 columns, expected 6: file,label,x1,y1,x2,y2", "columns"),
    ("0.png,0,0,0,1,1,", "has 7 columns, expected 6: file,label,x1,y1,x2,y2", "columns"),
    ("0.png,0,0,oops,1,1", "column y1: 'oops' is not a number", "number"),
    ("0.png,0,0,1_0,1,1", "column y1: '1_0' is not a number", "number"),
    ("0.png,0,0,,1,1", "column y1 is empty", "number"),
    (",0,0,0,1,1", "column file is empty", "columns"),
    ("0.png,,0,0,1,1", "column label is empty", "label"),
    ("0.png,,,,,", "names no object in '0.png'", "no_object"),
    ('0.png,"cat,0,0,1,1', "has a quote that is not closed", "syntax"),
    ('0.png,cat",0,0,1,1', "has a quote that is not closed", "syntax"),
    ('0.png,"c"at",0,0,1,"1"', "has a quote that is not closed", "syntax"),
    ('0.png,"c"a"t",0,0,1,1', "has a stray quote", "syntax"),
    ("0\0.png,0,0,0,1,1", "column file: '0\\x00.png' names no file", "outside"),
    ("0.png,c\0t,0,0,1,1", "column label 'c\\x00t' has signs that are no text", "label"),
    ("0.png," + "c" * LONGEST_ROW + ",0,0,1,1", "is longer than 65,536 characters", "syntax"),
    ("0.png," + "c" * 257 + ",0,0,1,1", "column label is longer than 256 characters", "label"),
    ("0" * 9999 + ".png,c,0,0,1,1", "0...' names no file", "outside"),
    ("../0.png,0,0,0,1,1", "", ""),
    ("../../g.png,0,0,0,1,1", "column file: '../../g.png' leads out of the data folder", "outside"),
    ("/etc/passwd,0,0,0,1,1", "column file: '/etc/passwd' is absolute", "outside"),
    ("C:\\g.png,0,0,0,1,1", "is absolute", "outside"),
    ("ram://x/g.png,0,0,0,1,1", "is absolute", "outside"),
]


@pytest.mark.parametrize(("row", "reason", "kind"), FAULTS)
def test_each_bad_row_is_one_fault(table, tmp_path, row, reason, kind):
    found = table("0.png,0,0,0,1,1", row, "1.png,0,0,0,1,1")
    if not kind:
        assert (rows(found), found.faults) == ([1, 2, 3], [])
        return
    assert rows(found) == [1, 3]
    (fault,) = found.faults
    assert (fault.file, fault.row, fault.kind) == (str(tmp_path / "data.csv"), 2, kind)
    assert reason in fault.reason
    assert len(fault.reason) < 300


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    write_files(tmp_path, {"secret/0.png": b"", "data/data.csv": b"0.png,0,0,0,1,1\n"})
    (tmp_path / "data" / "images").mkdir()
    (tmp_path / "data" / "images" / "0.png").symlink_to(tmp_path / "secret" / "0.png")
    (fault,) = read_csv(str(tmp_path / "data"), splits=ONE).faults
    assert "is a link that leads out" in fault.reason
    (tmp_path / "data" / "more.csv").symlink_to(tmp_path / "secret" / "0.png")
    with pytest.raises(DataError, match=r"splits.train.csv: 'more.csv' is a link that leads out"):
        read_csv(str(tmp_path / "data"), splits={"train": {"csv": "m*.csv", "images": "images"}})
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match=r"splits.train.images: .* is a link that leads out"):
        read_csv(str(tmp_path / "data"), splits={"train": {"csv": "data.csv", "images": "linked"}})


def test_a_label_cannot_lead_out(table):
    splits = {"train": {"csv": "data.csv", "images": "images/{label}"}}
    found = table("0.png,../../x,0,0,1,1", "0.png,cat,0,0,1,1", splits=splits)
    assert rows(found) == [2]
    assert found.faults[0].kind == "outside"


def test_infinite_numbers_are_for_others_to_judge(table):
    found = table("0.png,c,nan,-inf,1e999,0", "0.png,c,1e999,0,-1e999,0", box="xyxy")
    first, second = boxes(found)
    assert math.isnan(first[0])
    assert first[1:] == (-math.inf, math.inf, 0)
    assert second == (math.inf, 0, -math.inf, 0)
    (third,) = boxes(
        table("0.png,c,inf,0,-inf,0", box="xywh", columns=("file", "label", "x1", "y1", "w", "h"))
    )
    assert math.isnan(third[2])


@pytest.mark.parametrize("size", ["-1,5", "x,5", "5,1e10", "nan,1", "1.5,2"])
def test_declared_sizes_that_are_none(table, size):
    columns = ("file", "label", "x1", "y1", "x2", "y2", "width", "height")
    (fault,) = table(f"0.png,c,0,0,1,1,{size}", columns=columns).faults
    assert fault.kind == "number"
    assert "is not a number of px" in fault.reason


def test_a_quote_that_stays_open_spoils_its_own_line_alone(table):
    good = [f"{i}.png,0,0,0,1,1" for i in range(50)]
    found = table(good[0], '"open,0,0,0,1,1', *good[1:], '"open,0,0,0,1,1', good[0])
    assert len(found.objects["train"]) == 51
    assert [fault.row for fault in found.faults] == [2, 52]


def test_quoted_line_breaks_keep_line_numbers():
    text = 'a,"1\n2",x\nb,c,d\n"open,c,d\ne,f,g\n'
    parsed = [(row, fields) for row, fields, _ in Lines(text, ",").rows()]
    assert parsed[0] == (1, ["a", "1\n2", "x"])
    assert parsed[1] == (3, ["b", "c", "d"])
    assert parsed[2][0] == 4
    assert isinstance(parsed[2][1], RowError)
    assert parsed[3] == (5, ["e", "f", "g"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ""}, "data.source.csv.delimiter is ''; it must be one character"),
        ({"delimiter": ";;"}, "data.source.csv.delimiter is ';;'"),
        ({"delimiter": '"'}, "data.source.csv.delimiter"),
        ({"delimiter": "\n"}, "data.source.csv.delimiter"),
        (
            {"columns": ("file", "label", "x1", "y1", "x2")},
            "columns lacks y2; needed are file, label",
        ),
        ({"columns": ("file", "file", "label", "x1", "y1", "x2", "y2")}, "columns has file twice"),
        ({"columns": {"file": "f"}}, "set data.source.csv.header to true"),
        (
            {"columns": {"file": "f"}, "header": True},
            "names.file names the column 'f', which is not in the header; it has 0.png,0,",
        ),
        (
            {"columns": {"file": "0"}, "header": True},
            "names.file names the column '0', which the header has twice",
        ),
        ({"columns": {"file": "0.png"}, "header": True}, "names lacks label, x1, y1, x2, y2"),
        ({"box": "yxyx"}, "data.source.csv.box is 'yxyx'; it must be xyxy or xywh or cxcywh"),
        ({"units": "cm"}, "data.source.csv.units is 'cm'; it must be fraction or pixel"),
        ({"label_from": "name"}, "data.source.csv.label_from is 'name'"),
        ({"splits": {}}, "data.source.csv.splits.train is missing"),
        ({"splits": {**ONE, "dev": ONE["train"]}}, "data.source.csv.splits has 'dev'"),
    ],
)
def test_wrong_options_are_named(table, options, message):
    with pytest.raises(DataError, match=message):
        table("0.png,0,0,0,1,1", **options)


def test_label_in_the_folder_needs_a_column(table):
    splits = {"train": {"csv": "data.csv", "images": "images/{label}"}}
    columns = ("file", "x1", "y1", "x2", "y2")
    with pytest.raises(DataError, match=r"has \{label\}, but no column holds the label"):
        table("0.png,0,0,1,1", splits=splits, columns=columns, label_from="folder")


def test_missing_files(tmp_path):
    with pytest.raises(DataError, match=r"data folder .*none does not exist: data.source.path"):
        read_csv(str(tmp_path / "none"))
    with pytest.raises(
        DataError, match=r"training_data.csv does not exist: mend data.source.csv.sp"
    ):
        read_csv(str(tmp_path))
    (tmp_path / "training_data.csv").write_text("0.png,0,0,0,1,1\n")
    assert list(read_csv(str(tmp_path)).objects) == ["train"]
    for split in ("val", "test"):
        named = {split: {**CSV_FILES[split], "csv": "valdiation.csv"}}
        with pytest.raises(DataError) as fault:
            read_csv(str(tmp_path), splits={**CSV_FILES, **named})
        assert str(fault.value) == (
            f"CSV file {tmp_path}/valdiation.csv does not exist: mend data.source.csv.splits."
            f"{split}.csv, or leave it out to cut the split off the training file."
        )
    for pattern in ("*.tsv", "a**b", "[", "**/x/*.csv"):
        with pytest.raises(DataError, match=r"splits.train.csv"):
            read_csv(str(tmp_path), splits={"train": {"csv": pattern, "images": "."}})
    for outside in ("../*.csv", "/etc/*", ""):
        with pytest.raises(DataError, match=r"splits.train.csv: .*; name what lies below"):
            read_csv(str(tmp_path), splits={"train": {"csv": outside, "images": "."}})


def test_files_without_rows(table, tmp_path):
    for content in (b"", b"\n\n", b"\xef\xbb\xbf"):
        for header in (False, True):
            with pytest.raises(
                DataError, match=r"data.csv has no rows: expected one row per image"
            ):
                table(content=content, header=header)
    write_files(tmp_path, {"many/a.csv": b"0.png,0,0,0,1,1\n", "many/b.csv": b""})
    found = read_csv(str(tmp_path), splits={"train": {"csv": "many/*.csv", "images": "images"}})
    assert [(fault.row, fault.reason, fault.kind) for fault in found.faults] == [
        (0, "has no rows", "empty_file")
    ]


def test_other_encodings_are_refused(table):
    with pytest.raises(DataError, match=r"CSV file .*data.csv is not UTF-8 text: line 2 .*0xe9"):
        table(content=b"0.png,cat,0,0,1,1\n0.png,caf\xe9,0,0,1,1\n")


def test_remote_folders():
    root = "ram://read_csv"
    for name, text in (("l/é 1.csv", '"a ""b"".png",cat,0,0,1,1\n'), ('i/é 1/a "b".png', "")):
        tf.io.gfile.makedirs(f"{root}/{name}".rpartition("/")[0])
        with tf.io.gfile.GFile(f"{root}/{name}", "w") as file:
            file.write(text)
    found = read_csv(root, splits={"train": {"csv": "l/*.csv", "images": "i/{stem}"}})
    (one,) = found.objects["train"]
    assert one.image.path == f'{root}/i/é 1/a "b".png'
    assert tf.io.gfile.exists(one.image.path)
    with pytest.raises(DataError, match="does not exist"):
        read_csv(root, splits={"train": {"csv": "none.csv", "images": "i"}})


# Fuzz

VALID = {
    "data.csv": b'f,l,x1,y1,x2,y2,s\n0.png,cat,0.1,0.2,0.3,0.4,train\n"1.png",dog,0,0,1,1,\n',
    "images/0.png": b"",
}
BY_NAME = {"file": "f", "label": "l", "x1": "x1", "y1": "y1", "x2": "x2", "y2": "y2", "split": "s"}
BY_POSITION = ("file", "label", "x1", "y1", "w", "h", "split")
OPTIONS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",,,,,,;\t "),
        "label_from": st.sampled_from(["column", "folder"]),
        "splits": st.sampled_from(
            [
                {"train": {"csv": csv, "images": f"images{folder}"}}
                for csv in ("data.csv", "*.csv")
                for folder in ("", "/{label}", "{stem}")
            ]
        ),
    },
    optional={"columns": st.just(BY_POSITION), "box": st.just("xywh"), "header": st.booleans()},
).map(
    lambda drawn: (
        {"columns": BY_NAME, **drawn} if "box" not in drawn else {**drawn, "columns": BY_POSITION}
    )
)
BY_COMMA = partial(mutated_fields, separator=",")


@pytest.mark.parametrize("name", [".", "./", "images/..", "images/."])
def test_a_name_of_a_folder_is_no_image(tmp_path, name):
    rows = f"f,l,x1,y1,x2,y2,s\n{name},c,0,0,1,1,train\na.png,c,0,0,1,1,train\n"
    write_files(tmp_path, {"data.csv": rows.encode(), "images/a.png": b""})
    found = read_csv(str(tmp_path), splits=ONE, header=True, columns=BY_NAME)
    (fault,) = found.faults
    assert (fault.row, fault.kind) == (2, "missing_image")
    assert fault.reason.endswith(f"{name!r} names a folder, expected an image")
    assert len(found.objects["train"]) == 1


@FEW_AND_MANY
def test_no_input_breaks_the_reader(tmp_path, examples):
    def read(root, **options):
        return read_csv(root, **{"splits": ONE, "header": True, "columns": BY_NAME, **options})

    assert_only_data_errors(tmp_path, VALID, read, examples, BY_COMMA, options=OPTIONS)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["0.png", "1.png", "none.png", "", " 0.png ", "../x.png"]),
            st.sampled_from(["cat", "01", "1", "", "dog ", "a\u200b"]),
            *[st.sampled_from(["1", "2.5", " 3", "1e1", "inf", "nan", "", "x", "1_0", "٣"])] * 4,
            st.sampled_from(["train", "val", "", "unassigned", "half"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_rows_mean_the_same_together_and_one_by_one(tmp_path_factory, rows):
    # Rows with quotes are read one by one, others by columns, here however few they are.
    root = tmp_path_factory.mktemp("rows")
    write_files(root, {"images/0.png": b"", "images/1.png": b""})
    found = []
    for quote in ("", '"'):
        lines = [",".join(f"{quote}{cell}{quote}" for cell in row) for row in rows]
        (root / "data.csv").write_text("\n".join(lines), encoding="utf-8")
        columns = ("file", "label", "x1", "y1", "w", "h", "split")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_file, "AT_ONCE", 0)
            read = read_csv(str(root), splits=ONE, columns=columns, box="xywh")
        objects = {split: list(map(repr, part)) for split, part in read.objects.items()}
        found.append((objects, read.faults, list(read.empty), read.folders))
    assert found[0] == found[1]
