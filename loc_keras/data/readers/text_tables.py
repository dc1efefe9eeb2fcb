"""Annotation files made of lines: rows with numbers, and the faults of single rows.

A parser of one row raises `RowFault`; `parse_rows` turns it into a `Fault` with file and row, so
that one bad row never stops a reader.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from loc_keras.data import files
from loc_keras.data.annotations import Fault
from loc_keras.data.readers.parsing import number, place, shown
from loc_keras.errors import DataError

_Row = TypeVar("_Row")
_Parsed = TypeVar("_Parsed")

_MOST_DIGITS = 9


class RowFault(Exception):
    """Why one row cannot be used.

    Attributes:
        reason: What is wrong, as the end of a sentence that starts with file and row.
        kind: As in `Fault`.
    """

    def __init__(self, reason: str, kind: str):
        super().__init__(reason)
        self.reason = reason
        self.kind = kind


def text_or_fault(path: str) -> str | Fault:
    """Reads one annotation file of many, whose loss the others survive."""
    if not files.is_file(path):
        return Fault(path, 0, "does not exist", "missing_file")
    try:
        return files.read_text(path)
    except DataError as error:
        reason = str(error).removeprefix(f"annotation file {path} ").removesuffix(".")
        return Fault(path, 0, reason, "encoding")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1, as editors count them."""
    for row, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield row, line.removesuffix("\n")


def parse_rows(
    path: str, rows: Iterable[tuple[int, _Row]], parse: Callable[[int, _Row], _Parsed]
) -> tuple[list[_Parsed], list[Fault]]:
    """Parses rows one by one.

    Args:
        path: File that they are from, for faults.
        rows: Row number, from 1, and row.
        parse: Gets both and gives the result, or raises `RowFault`.

    Returns:
        The results of good rows, and a fault for each other one.
    """
    parsed, faults = [], []
    for row_number, row in rows:
        try:
            parsed.append(parse(row_number, row))
        except RowFault as fault:
            faults.append(Fault(path, row_number, fault.reason, fault.kind))
    return parsed, faults


def check_columns(fields: list[str], names: Iterable[str]) -> list[str]:
    """Checks the number of fields in a row and gives them without spaces around.

    Raises:
        RowFault: If it is not that of the names, or a field holds a NUL.
    """
    names = tuple(names)
    if any("\0" in field for field in fields):
        raise RowFault("holds a NUL character", "syntax")
    if len(fields) != len(names):
        raise RowFault(
            f"has {len(fields)} columns, expected {len(names)}: {', '.join(names)}", "columns"
        )
    return [field.strip() for field in fields]


def required_number(column: str, text: str) -> float:
    """Reads a number, finite or not.

    Raises:
        RowFault: If the text is none.
    """
    value = number(text)
    if value is None:
        raise RowFault(f"column {column}: {shown(text)} is not a number", "number")
    return value


def whole(column: str, text: str) -> int:
    """Reads a whole number from 0 of at most nine digits.

    Raises:
        RowFault: If the text is none.
    """
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise RowFault(
            f"column {column}: {shown(text)} is not a whole number from 0 to 999999999", "number"
        )
    return int(text)


def corners(
    texts: Iterable[str], columns: Iterable[str] = ("x1", "y1", "x2", "y2")
) -> tuple[float, float, float, float]:
    """Reads the four numbers of a box.

    Raises:
        RowFault: If one of them is no number.
    """
    a, b, c, d = (
        required_number(column, text) for column, text in zip(columns, texts, strict=True)
    )
    return a, b, c, d


def path_inside(folder: str, name: str, *, root: str) -> str:
    """Joins a name from an annotation file to its folder, as `files.join_inside`.

    Raises:
        RowFault: If it leads out of the root.
    """
    try:
        return place(folder, name, root)
    except files.OutsideError as error:
        raise RowFault(str(error), "outside") from None
