"""The German Traffic Sign Recognition Benchmark, as published and as repacked with two tables."""

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, ImageRef, Split
from loc_keras.data.formats.listing import Guess, Listing
from loc_keras.data.formats.parsing import (
    Reading,
    RowError,
    box_numbers,
    check_columns,
    image_place,
    numbered_lines,
    quoted,
    require_root,
    whole_number,
)
from loc_keras.errors import DataError

_BOX_COLUMNS = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
_COLUMNS = ("Width", "Height", *_BOX_COLUMNS, "ClassId")
_TRAIN_FOLDERS = ("Final_Training/Images", "Training", "Train")
# CLASS_TRACK_FRAME in the repacked tables, TRACK_FRAME in the published folders of one class.
_TRACK = re.compile(r"^(?:\d+_)?(?P<track>\d+)_\d+\.[^.]+$")


class _Table(NamedTuple):
    """A file, the folder that the column `name` is relative to, and that of the images."""

    path: str
    folder: str
    images: str
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

    Returns:
        Splits `"train"` and, where its table is there, `"test"`. Classes are numbers.

    Raises:
        DataError: If the folder is missing, or holds neither layout, or a repacked table or that
            of the test images cannot be read.
    """
    require_root(root)
    reading = Reading()
    tables_of: dict[Split, list[_Table]]
    tables_of = {"train": _train_tables(root, reading), "test": _test_tables(root, reading)}
    for split, tables in tables_of.items():
        for table in tables:
            reading.folders[table.images] = None
            objects = reading.split(split)
            objects += _read_table(root, table, split == "train", reading)
    # The corner Roi.X2, Roi.Y2 lies behind the last pixel of the sign: the readme promises at
    # least 5 px of border, and the first training image, 29 x 30 px, has its box at 5, 6, 24, 25.
    # Edges give borders of 5, 6, 5 and 5 px; read as a last pixel, two of them would be 4 px.
    return reading.annotations("pixel", exact=True)


def _published(folder: str, file: str) -> _Table:
    return _Table(files.join(folder, file), folder, folder, "Filename", ";")


def _repacked(root: str, name: str) -> list[_Table]:
    """The table of a split, if the data set is repacked."""
    path = files.join(root, f"{name}.csv")
    return [_Table(path, root, files.join(root, name), "Path", ",")] if files.is_file(path) else []


def _train_tables(root: str, reading: Reading) -> list[_Table]:
    tables = _repacked(root, "Train")
    for name in _TRAIN_FOLDERS:
        if tables:
            return tables
        folder = files.join(root, name)
        for label in filter(str.isdigit, files.listed(folder)):
            table = _published(files.join(folder, label), f"GT-{label}.csv")
            if files.is_file(table.path):
                tables.append(table)
            else:
                reading.fault(table.path, 0, files.absence(table.path), "missing_file")
    if tables:
        return tables
    raise DataError(
        f"data folder {root} holds no GTSRB: expected Train.csv, or tables such as "
        "Final_Training/Images/00000/GT-00000.csv."
    )


def _test_tables(root: str, reading: Reading) -> list[_Table]:
    repacked = _repacked(root, "Test")
    published = _published(files.join(root, "Final_Test/Images"), "GT-final_test.csv")
    if repacked or files.is_file(published.path):
        return repacked or [published]
    unlabelled = files.join(published.folder, "GT-final_test.test.csv")
    if files.is_file(unlabelled):
        reason = (
            "names no classes, so the test images cannot be used; put GT-final_test.csv of "
            "GTSRB_Final_Test_GT.zip beside it"
        )
        reading.fault(unlabelled, 0, reason, "missing_file")
    return []


def _read_table(root: str, table: _Table, in_tracks: bool, reading: Reading) -> Iterator[Annotated]:
    # One published table of a class may be lost; a repacked one holds everything.
    text = files.read_text(table.path) if table.name == "Path" else reading.text(table.path)
    if text is None:
        return
    lines = numbered_lines(text)
    header = [_unquoted(field) for field in next(lines, (0, ""))[1].split(table.delimiter)]
    missing = [name for name in (table.name, *_COLUMNS) if name not in header]
    if missing:
        reason = (
            f"the header {quoted(table.delimiter.join(header))} lacks {', '.join(missing)}; "
            f"expected columns parted by {table.delimiter!r}"
        )
        reading.fault(table.path, 1, reason, "columns")
        return

    def parse(row: int, line: str) -> Annotated:
        fields = check_columns(line.split(table.delimiter), header)
        of = dict(zip(header, map(_unquoted, fields), strict=True))
        name = of[table.name]
        image = ImageRef(image_place(table.folder, name, root))
        box = box_numbers((of[column] for column in _BOX_COLUMNS), _BOX_COLUMNS)
        size = whole_number("Width", of["Width"]), whole_number("Height", of["Height"])
        try:
            label = str(whole_number("ClassId", of["ClassId"]))
        except RowError as error:
            raise RowError(str(error), "label") from None
        group = _track(name, label) if in_tracks else ""
        return Annotated(image, name, label, box, table.path, row, size, group)

    yield from reading.parsed(table.path, lines, parse)


def _track(name: str, label: str) -> str:
    """Class and track of a training image; tracks are numbered anew in each class."""
    match = _TRACK.match(name.replace("\\", "/").rpartition("/")[2])
    return f"{label}/{match['track']}" if match else ""


def _unquoted(field: str) -> str:
    # Fields hold no delimiters, so quotes carry no meaning, and a stray one swallows no lines.
    return field.strip().strip('"')


_CLASS_TABLE = re.compile(r"(?:^|/)(\d+)/GT-\1\.csv$")


def detect_gtsrb(listing: Listing) -> Iterator[Guess]:
    """Guesses by `Train.csv` with the data set's columns, or by the tables of classes."""
    for path in listing.named("Train.csv"):
        if "Roi.X1" in listing.head(posixpath.join(path, "Train.csv")):
            yield Guess("gtsrb", listing.path(path), why="Train.csv with the column Roi.X1")
    roots: dict[str, str] = {}
    for table in listing.files(".csv"):
        match = _CLASS_TABLE.search(table)
        parent = table[: match.start()] if match else ""
        inner = next((name for name in _TRAIN_FOLDERS if f"/{parent}".endswith(f"/{name}")), None)
        if inner is not None:
            roots.setdefault(parent.removesuffix(inner).rstrip("/"), table)
    for path, table in roots.items():
        yield Guess("gtsrb", listing.path(path), why=table)
