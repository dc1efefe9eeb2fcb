"""What the columns of a CSV data set mean, and one row read by them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loc_keras.data.annotations import Split
from loc_keras.data.readers.csv_lines import RowError
from loc_keras.data.readers.parsing import label_problem, number, shown
from loc_keras.errors import DataError

Box = tuple[float, float, float, float]

NEEDED_COLUMNS = ("file", "label", "x1", "y1", "x2", "y2")

BOX_COLUMNS: dict[str, tuple[str, str, str, str]] = {
    "xyxy": ("x1", "y1", "x2", "y2"),
    "xywh": ("x1", "y1", "w", "h"),
    "cxcywh": ("cx", "cy", "w", "h"),
}
"""Columns of each way to write a box: two corners, corner and size, centre and size."""

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What the column `split` may say, in large or small letters."""

_NO_BOX = (0.0, 0.0, 0.0, 0.0)
_MORE_COLUMNS = ("width", "height", "group", "split")
_LARGEST_SIDE = 10**9
_MOST_SHOWN = 200


@dataclass(frozen=True)
class Layout:
    """Where a row has what.

    Attributes:
        places: Index of the field of each column that is read.
        count: Fields of a row.
        names: All columns in order, as messages show them.
        box: Key of `BOX_COLUMNS`.
    """

    places: Mapping[str, int]
    count: int
    names: str
    box: str


class EmptyRowError(RowError):
    """A row whose fields of the box are all empty.

    Attributes:
        row: What else it says, with zeros for a box.
    """

    def __init__(self, reason: str, kind: str, row: "RawRow") -> None:
        super().__init__(reason, kind)
        self.row = row


class RawRow(NamedTuple):
    """The fields of one row.

    Attributes:
        file: Name of the image file.
        label: Class as written; `""` where no column holds it.
        box: (x1, y1, x2, y2) in the units of the file.
        size: (width, height) in px that the row declares, or None.
        group: Group as written, or `""`.
        split: Split that the row names, or None.
    """

    file: str
    label: str
    box: Box
    size: tuple[int, int] | None
    group: str
    split: Split | None


def layout_by_position(columns: Sequence[str], box: str, label_from: str) -> Layout:
    """The layout of rows whose columns are known by their order.

    Args:
        columns: Meaning of each column; those of unknown names are not read.
        box: Key of `BOX_COLUMNS`.
        label_from: `"column"` or `"folder"`.

    Raises:
        DataError: If a needed column is missing or one stands twice.
    """
    known = _known(box)
    twice = [name for name, count in Counter(columns).items() if count > 1 and name in known]
    if twice:
        raise DataError(f"data.source.csv.columns has {twice[0]} twice.")
    places = {name: index for index, name in enumerate(columns) if name in known}
    _require(places, box, label_from, "columns")
    return Layout(places, len(columns), _listed(columns), box)


def layout_by_name(
    columns: Mapping[str, str | None], header: Sequence[str], file: str, box: str, label_from: str
) -> Layout:
    """The layout of rows below a header.

    Args:
        columns: Name in the header of each meaning; None where the file has no such column.
        header: Fields of the header.
        file: The CSV file, for messages.
        box: Key of `BOX_COLUMNS`.
        label_from: `"column"` or `"folder"`.

    Raises:
        DataError: If a needed column is not named, or a name is missing in the header or stands
            there twice.
    """
    known = _known(box)
    places = {}
    for meaning, name in columns.items():
        if name is None or meaning not in known:
            continue
        if header.count(name) != 1:
            problem = "the header has twice" if name in header else "is not in the header"
            raise DataError(
                f"{file}: data.source.csv.names.{meaning} names the column {shown(name)}, which "
                f"{problem}; it has {_listed(header)}."
            )
        places[meaning] = header.index(name)
    _require(places, box, label_from, "names")
    return Layout(places, len(header), _listed(header), box)


def parse_row(fields: Sequence[str], layout: Layout) -> RawRow:
    """Reads the fields of a row.

    Args:
        fields: In order, without blanks around them.
        layout: What they mean.

    Raises:
        RowError: If their number is wrong, one that is needed is empty, a number is none or the
            split is unknown.
        EmptyRowError: If the row has no box, so that its image may show no object.
    """
    if len(fields) != layout.count:
        found = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
        hint = _delimiter_hint(fields)
        raise RowError(f"has {found}, expected {layout.count}: {layout.names}{hint}", "columns")
    named = {name: fields[index] for name, index in layout.places.items()}
    box_columns = BOX_COLUMNS[layout.box]
    if not named["file"]:
        raise RowError("column file is empty", "columns")
    label = named.get("label", "")
    if not any(named[name] for name in box_columns):
        row = RawRow(
            named["file"], label, _NO_BOX, _size(named), named.get("group", ""), _split(named)
        )
        if not label:
            raise EmptyRowError(f"names no object in {shown(named['file'])}", "no_object", row)
        if not label_problem(label):
            raise EmptyRowError(f"column {box_columns[0]} is empty", "number", row)
    if "label" in named and (problem := label_problem(label)):
        raise RowError(f"column label {problem}", "label")
    first, second, third, fourth = (_number(name, named[name]) for name in box_columns)
    box = corners((first, second, third, fourth), layout.box)
    return RawRow(named["file"], label, box, _size(named), named.get("group", ""), _split(named))


def _delimiter_hint(fields: Sequence[str]) -> str:
    """A question where one field holds what looks like another delimiter."""
    for delimiter, name in ((";", "';'"), ("\t", "a tab"), ("|", "'|'")):
        if len(fields) == 1 and delimiter in fields[0]:
            return f"; is data.source.csv.delimiter {name}?"
    return ""


def corners(box: Box, style: str) -> Box:
    """(x1, y1, x2, y2) of a box written in a style of `BOX_COLUMNS`.

    Numbers that are not finite stay so, without an error.
    """
    first, second, third, fourth = box
    if style == "xyxy":
        return box
    if style == "xywh":
        return first, second, first + third, second + fourth
    return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2


def _listed(names: Sequence[str]) -> str:
    """Names of columns for a message, whatever a file may call them."""
    text = ",".join(names)
    text = "".join(sign if sign.isprintable() else "?" for sign in text[:_MOST_SHOWN])
    return text + "..." * (len(text) == _MOST_SHOWN)


def _known(box: str) -> frozenset[str]:
    if box not in BOX_COLUMNS:
        raise DataError(
            f"data.source.csv.box is {shown(box)}; it must be one of {', '.join(BOX_COLUMNS)}."
        )
    return frozenset(("file", "label", *BOX_COLUMNS[box], *_MORE_COLUMNS))


def _require(places: Mapping[str, int], box: str, label_from: str, key: str) -> None:
    label = ("label",) if label_from == "column" else ()
    needed = ("file", *label, *BOX_COLUMNS[box])
    missing = [name for name in needed if name not in places]
    if missing:
        raise DataError(
            f"data.source.csv.{key} lacks {', '.join(missing)}; needed are {', '.join(needed)}."
        )


def _number(name: str, text: str) -> float:
    value = number(text)
    if value is None:
        problem = f": {shown(text)} is not a number" if text else " is empty"
        raise RowError(f"column {name}{problem}", "number")
    return value


def _size(named: Mapping[str, str]) -> tuple[int, int] | None:
    """The declared size; 0 or nothing in a column says that it is not known."""
    sides = []
    for name in ("width", "height"):
        text = named.get(name, "")
        side = number(text) if text else 0.0
        if side is None or not 0 <= side <= _LARGEST_SIDE or side != int(side):
            raise RowError(f"column {name}: {shown(text)} is not a number of px", "number")
        sides.append(int(side))
    return (sides[0], sides[1]) if all(sides) else None


def _split(named: Mapping[str, str]) -> Split | None:
    text = named.get("split", "")
    if not text:
        return None
    split = SPLIT_NAMES.get(text.lower())
    if split is None:
        raise RowError(f"column split: {shown(text)} is not train, val or test", "split")
    return split
