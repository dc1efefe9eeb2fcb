"""Reader of CSV data sets: one row per image with its class and its box."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from loc_keras.data.csv_rows import (
    NEEDED_COLUMNS,
    RawRow,
    RowError,
    class_index,
    class_indices,
    fraction_box,
    infer_class_names,
    parse_row,
)
from loc_keras.errors import DataError

Skipped = tuple[str, int, str]
"""A row left out: CSV file, row number (line, from 1) and reason."""

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class CsvRecords:
    """The usable rows of one CSV file, by columns.

    Attributes:
        source: The CSV file.
        paths: str (N,), image files.
        labels: int32 (N,), class indices.
        boxes: float32 (N, 4), fractions (x1, y1, x2, y2) of the image side.
        rows: int64 (N,), row numbers (lines of the file, from 1).
        class_names: Name of each class.
        skipped: Rows left out.
    """

    source: Path
    paths: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    rows: np.ndarray
    class_names: list[str]
    skipped: list[Skipped]

    def take(self, index: np.ndarray) -> "CsvRecords":
        """The rows of these indices, in this order; `skipped` stays with the first owner."""
        return replace(
            self,
            paths=self.paths[index],
            labels=self.labels[index],
            boxes=self.boxes[index],
            rows=self.rows[index],
            skipped=[],
        )


def read_csv(
    path: str | Path,
    *,
    image_folder: str | Path | None = None,
    header: bool = False,
    delimiter: str = ",",
    columns: Sequence[str] = NEEDED_COLUMNS,
    units: str = "fraction",
    class_names: Sequence[str] | None = None,
    on_error: str = "stop",
) -> CsvRecords:
    """Reads a CSV file of `file,label,x1,y1,x2,y2` rows.

    Args:
        path: The CSV file, UTF-8.
        image_folder: Folder of the images; where the first row's image is not there but beside
            the CSV file, that folder is used. None is the folder of the CSV file.
        header: Whether the first line holds names instead of an image.
        delimiter: One character between fields.
        columns: Meaning of the columns in order; others than those needed are not read.
        units: `"fraction"` of the image side, or `"pixel"` (continuous edges: a box over
            pixels 0..63 is 0..64).
        class_names: Names of the classes in the order of their indices, which labels may give
            instead if no name is a number; None takes whole numbers as indices where they
            start at 0 (see `csv_rows.infer_class_names`), and else sorts the labels found.
        on_error: `"stop"` raises at rows that cannot be used, `"skip"` leaves them out.

    Returns:
        The usable rows in the order of the file.

    Raises:
        DataError: If the file cannot be read, no row is usable, or, with `"stop"`, any row
            is unusable.
    """
    path = Path(path)
    faults: list[Skipped] = []
    rows = _raw_rows(path, header, delimiter, tuple(columns), faults)
    if not rows and not faults:
        raise DataError(f"{path} has no rows: expected one row per image, {','.join(columns)}.")
    folder = _image_folder(path, image_folder, rows)
    names = list(class_names) if class_names else infer_class_names({row.label for row in rows})
    index_of = class_indices(names)
    kept: list[tuple[str, int, tuple[float, ...], int]] = []
    for row in rows:
        image = folder / row.file
        try:
            label = class_index(row.label, index_of)
            size = _image_size(image) if units == "pixel" else None
            box = fraction_box(row.box, size)
            if size is None and not image.is_file():
                raise RowError(f"image {image} does not exist")
            kept.append((str(image), label, box, row.number))
        except RowError as fault:
            faults.append((str(path), row.number, str(fault)))
    faults.sort(key=lambda fault: fault[1])
    if faults and (on_error == "stop" or not kept):
        raise row_faults_error(path, faults, len(kept) + len(faults))
    paths, labels, boxes, numbers = zip(*kept, strict=True)
    return CsvRecords(
        path,
        np.array(paths),
        np.array(labels, np.int32),
        np.array(boxes, np.float32),
        np.array(numbers, np.int64),
        names,
        faults,
    )


def row_faults_error(path: Path, faults: list[Skipped], total: int) -> DataError:
    """One message about the rows of a file that cannot be used."""
    shown = "; ".join(f"row {number} {reason}" for _, number, reason in faults[:_SHOWN])
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    first_line = any(number == 1 for _, number, _ in faults)
    hint = "say that the file has a header if row 1 is one, " if first_line else ""
    return DataError(
        f"{path}: {len(faults)} of {total} rows cannot be used: {shown}{more}; mend them, {hint}or "
        "set data.on_error to skip to leave them out."
    )


def _raw_rows(
    path: Path, header: bool, delimiter: str, columns: tuple[str, ...], faults: list[Skipped]
) -> list[RawRow]:
    """Parses the rows; those that cannot be parsed go to `faults`."""
    rows = []
    for number, fields in _lines(path, delimiter):
        if not fields or (header and number == 1):
            continue
        try:
            rows.append(parse_row(number, fields, columns))
        except RowError as fault:
            faults.append((str(path), number, str(fault)))
    return rows


def _lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    if not path.is_file():
        raise DataError(f"CSV file {path} does not exist.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            for fields in reader:
                yield reader.line_num, fields
    except UnicodeDecodeError as error:
        raise DataError(f"CSV file {path} is not UTF-8 text: {error}.") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"CSV file {path} cannot be read: {error}.") from error


def _image_folder(path: Path, given: str | Path | None, rows: list[RawRow]) -> Path:
    folder = path.parent if given is None else Path(given)
    if rows and not (folder / rows[0].file).is_file() and (path.parent / rows[0].file).is_file():
        return path.parent
    return folder


def _image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the image's header alone."""
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        raise RowError(f"image {path} does not exist") from None
    except (OSError, ValueError):
        raise RowError(f"image {path} cannot be read as an image") from None
