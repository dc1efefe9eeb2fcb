"""The German Traffic Sign Recognition Benchmark, as published and as repacked with two tables."""

import re
from functools import partial
from typing import NamedTuple

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef, Split
from loc_keras.data.formats.parsing import (
    RowFault,
    check_columns,
    corners,
    numbered_lines,
    parse_rows,
    path_inside,
    require_root,
    shown,
    text_or_fault,
    whole,
)
from loc_keras.errors import DataError

_BOX_COLUMNS = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
_COLUMNS = ("Width", "Height", *_BOX_COLUMNS, "ClassId")
_TRAIN_FOLDERS = (("Final_Training", "Images"), ("Training",), ("Train",))
_TEST_FOLDER = ("Final_Test", "Images")
# CLASS_TRACK_FRAME in the repacked tables, TRACK_FRAME in the published folders of one class.
_TRACK = re.compile(r"^(?:\d+_)?(?P<track>\d+)_\d+\.[^.]+$")


class _Table(NamedTuple):
    """A file of annotations and what its names are relative to.

    Attributes:
        path: The file.
        folder: Folder of the images that it names.
        name: Column with the names.
        delimiter: Between fields.
    """

    path: str
    folder: str
    name: str
    delimiter: str


def read_gtsrb(root: str) -> Annotations:
    """Reads a folder of GTSRB in one of two layouts.

    As published, a table for each class:

    ```
    Final_Training/Images/00003/GT-00003.csv
        Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId
        00000_00000.ppm;29;30;5;6;24;25;3
    Final_Training/Images/00003/00000_00000.ppm
    Final_Test/Images/GT-final_test.csv         the same columns
    ```

    `Training/` and `Train/` may stand for `Final_Training/Images/`. Repacked, two tables:

    ```
    Train.csv                     Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path
                                  27,26,5,5,22,20,20,Train/20/00020_00000_00000.png
    Test.csv
    ```

    Training images come in tracks, frames of one physical sign as a car passes it; all frames of
    a track share `Annotated.group`, so that no split parts them.

    Args:
        root: The folder.

    Returns:
        Splits `"train"` and, where its table is there, `"test"`. Classes are numbers.

    Raises:
        DataError: If the folder is missing, or holds neither layout, or a repacked table or that
            of the test images cannot be read.
    """
    require_root(root)
    faults: list[Fault] = []
    train_tables, train_folders = _train_tables(root, faults)
    objects: dict[Split, list[Annotated]] = {"train": []}
    folders = train_folders
    for table in train_tables:
        objects["train"] += _read_table(root, table, True, faults)
    test_table = _test_table(root, faults)
    if test_table is not None:
        objects["test"] = _read_table(root, test_table, False, faults)
        folders.append(files.join(root, "Test") if test_table.name == "Path" else test_table.folder)
    # The corner Roi.X2, Roi.Y2 lies behind the last pixel of the sign: the readme promises at
    # least 5 px of border, and the first training image, 29 x 30 px, has its box at 5, 6, 24, 25.
    # Edges give borders of 5, 6, 5 and 5 px; read as a last pixel, two of them would be 4 px.
    return Annotations(objects=objects, units="pixel", faults=faults, folders=folders, exact=True)


def _train_tables(root: str, faults: list[Fault]) -> tuple[list[_Table], list[str]]:
    """Tables of training images, and the folders that hold those."""
    repacked = files.join(root, "Train.csv")
    if files.is_file(repacked):
        return [_Table(repacked, root, "Path", ",")], [files.join(root, "Train")]
    for parts in _TRAIN_FOLDERS:
        folder = files.join(root, *parts)
        classes = [name for name in files.listed(folder) if name.isdigit()]
        tables = []
        for name in classes:
            path = files.join(folder, name, f"GT-{name}.csv")
            if files.is_file(path):
                tables.append(_Table(path, files.join(folder, name), "Filename", ";"))
            else:
                faults.append(Fault(path, 0, "does not exist", "missing_file"))
        if tables:
            return tables, [table.folder for table in tables]
    raise DataError(
        f"data folder {root} holds no GTSRB: expected Train.csv, or tables such as "
        "Final_Training/Images/00000/GT-00000.csv."
    )


def _test_table(root: str, faults: list[Fault]) -> _Table | None:
    repacked = files.join(root, "Test.csv")
    if files.is_file(repacked):
        return _Table(repacked, root, "Path", ",")
    folder = files.join(root, *_TEST_FOLDER)
    path = files.join(folder, "GT-final_test.csv")
    if files.is_file(path):
        return _Table(path, folder, "Filename", ";")
    unlabelled = files.join(folder, "GT-final_test.test.csv")
    if files.is_file(unlabelled):
        reason = (
            "names no classes, so the test images cannot be used; put GT-final_test.csv of "
            "GTSRB_Final_Test_GT.zip beside it"
        )
        faults.append(Fault(unlabelled, 0, reason, "missing_file"))
    return None


def _read_table(root: str, table: _Table, in_tracks: bool, faults: list[Fault]) -> list[Annotated]:
    text = text_or_fault(table.path)
    if isinstance(text, Fault):
        if table.name == "Path":
            raise DataError(f"annotation file {table.path} {text.reason}.")
        faults.append(text)
        return []
    lines = numbered_lines(text)
    header = [_unquoted(field) for field in next(lines, (0, ""))[1].split(table.delimiter)]
    missing = [name for name in (table.name, *_COLUMNS) if name not in header]
    if missing:
        faults.append(
            Fault(
                table.path,
                1,
                f"the header {shown(table.delimiter.join(header))} lacks {', '.join(missing)}; "
                f"expected columns parted by {table.delimiter!r}",
                "columns",
            )
        )
        return []
    objects, bad = parse_rows(
        table.path, lines, partial(_parse_row, root, table, header, in_tracks)
    )
    faults += bad
    return objects


def _parse_row(
    root: str, table: _Table, header: list[str], in_tracks: bool, row: int, line: str
) -> Annotated:
    fields = check_columns(line.split(table.delimiter), header)
    of = dict(zip(header, map(_unquoted, fields), strict=True))
    name = of[table.name]
    path = path_inside(table.folder, name, root=root)
    box = corners((of[column] for column in _BOX_COLUMNS), _BOX_COLUMNS)
    size = whole("Width", of["Width"]), whole("Height", of["Height"])
    label = _class_id(of["ClassId"])
    group = _track(name, label) if in_tracks else ""
    return Annotated(ImageRef(path), name, label, box, table.path, row, size, group)


def _class_id(text: str) -> str:
    try:
        return str(whole("ClassId", text))
    except RowFault as fault:
        raise RowFault(fault.reason, "label") from None


def _track(name: str, label: str) -> str:
    """Class and track of a training image; tracks are numbered anew in each class."""
    match = _TRACK.match(name.replace("\\", "/").rpartition("/")[2])
    return f"{label}/{match['track']}" if match else ""


def _unquoted(field: str) -> str:
    # Fields hold no delimiters, so quotes carry no meaning, and a stray one swallows no lines.
    return field.strip().strip('"')
