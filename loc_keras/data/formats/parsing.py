"""What the readers of text formats share: paths, numbers and quotations, each checked once."""

import io
import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from loc_keras.data import files
from loc_keras.data.annotations import SPLITS, Fault, Split
from loc_keras.errors import DataError

IMAGE_ENDINGS = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp"),
        *(".tif", ".tiff", ".ppm", ".pgm", ".heic", ".avif", ".jp2", ".mpo"),
    ]
)
"""Endings, in small letters, by which a file shows that it is meant as an image."""

LONGEST_LABEL = 256
"""Characters of the longest class name."""

_LONGEST_PATH = 4096
_MOST_SHOWN = 60


def require_root(root: str) -> None:
    """Raises DataError where the data folder is missing."""
    if not files.is_folder(root):
        raise DataError(f"data folder {root} does not exist: data.source.path must name it.")


def given_splits(splits: Mapping[str, Any], key: str) -> Iterator[tuple[Split, Any]]:
    """The splits that the config gives, in their order.

    Args:
        splits: Files of each split by its name; None stands for a split that is left out.
        key: Config key of `splits`, for messages.

    Raises:
        DataError: If no training split is given, or one of an unknown name.
    """
    unknown = [name for name in splits if name not in SPLITS]
    if unknown:
        raise DataError(f"{key} has {shown(unknown[0])}; the splits are {', '.join(SPLITS)}.")
    if splits.get("train") is None:
        raise DataError(f"{key}.train is missing; say where the training data lie.")
    for split in SPLITS:
        entry = splits.get(split)
        if entry is not None:
            yield split, entry


def config_path(root: str, name: str, key: str) -> str:
    """Joins a path that the config gives to the data folder.

    Args:
        root: The data folder.
        name: Path relative to it.
        key: Config key of `name`, for the message.

    Raises:
        DataError: If it leads out of the data folder.
    """
    try:
        return place(root, name, root)
    except files.OutsideError as fault:
        raise DataError(f"{key}: {fault}; name what lies below data.source.path.") from fault


def place(folder: str, name: str, root: str) -> str:
    """Joins a name that an annotation gives to a folder; the result lies below `root`.

    Raises:
        OutsideError: If it does not, or if no file can have this name.
    """
    if not is_text(name) or len(name) > _LONGEST_PATH:
        raise files.OutsideError(f"{shown(name)} names no file")
    try:
        return files.join_inside(folder, name, root=root)
    except files.OutsideError as fault:
        raise files.OutsideError(str(fault).replace(repr(name), shown(name))) from None


def below(root: str, path: str) -> str:
    """A path relative to the data folder that holds it."""
    if files.is_remote(root):
        return posixpath.relpath(path.partition("://")[2], root.partition("://")[2])
    return os.path.relpath(path, root)


def folder_of(path: str) -> str:
    """The folder that holds a file."""
    return posixpath.dirname(path) or os.curdir


def is_image_name(name: str) -> bool:
    """Whether a name has the ending of an image, in large or small letters."""
    return name[name.rfind(".") :].lower() in IMAGE_ENDINGS


def is_text(value: object) -> bool:
    """Whether a value is text that a file can hold and a terminal can show.

    JSON and YAML can write half of a surrogate pair, and NUL.
    """
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def label_problem(value: object) -> str:
    """Why a value can name no class, as the end of a sentence; `""` if it can."""
    if not isinstance(value, str):
        return f"is {shown(value)}, not text"
    if not value.strip():
        return "is empty"
    # Lists of classes are written one a line, whatever their reader takes for the end of one.
    if not is_text(value) or len(value.splitlines()) > 1 or any(map(_is_control, value)):
        return f"{shown(value)} has signs that are no text"
    return f"is longer than {LONGEST_LABEL} characters" if len(value) > LONGEST_LABEL else ""


def _is_control(sign: str) -> bool:
    return unicodedata.category(sign) == "Cc"


def number(text: str) -> float | None:
    """A decimal number, perhaps `nan` or infinite; None where the text is none."""
    # Python would read 1_000, which no annotation tool writes.
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def shown(value: object) -> str:
    """A value quoted for a message, shortened where it is long."""
    # Cut first: the representation of a hostile value may be large.
    if isinstance(value, str):
        return repr(value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "...")
    if isinstance(value, bool | float) or value is None:
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= _MOST_SHOWN else "a huge number"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"


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
