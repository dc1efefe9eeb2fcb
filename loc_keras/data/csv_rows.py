"""One row of a CSV data set: its fields, checked one by one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 1e-3
"""How far a box side may lie outside 0..1 (rounding in the file) before the row is refused."""

NEEDED_COLUMNS = ("file", "label", "x1", "y1", "x2", "y2")

# Whole numbers beyond both are identifiers (as in a data base), not class indices.
_MOST_INDEX_CLASSES = 10_000
_MOST_INDICES_PER_LABEL = 10


class RowError(Exception):
    """Why one row cannot be used; the reader adds the file and the row number."""


@dataclass(frozen=True)
class RawRow:
    """The fields of one row as written.

    Attributes:
        number: Line of the CSV file, from 1.
        file: Name of the image file.
        label: Class name or number.
        box: (x1, y1, x2, y2) in the units of the file.
    """

    number: int
    file: str
    label: str
    box: tuple[float, float, float, float]


def parse_row(number: int, fields: list[str], columns: tuple[str, ...]) -> RawRow:
    """Reads the fields of a row.

    Args:
        number: Line of the file, from 1.
        fields: The fields in order.
        columns: Their meaning; `NEEDED_COLUMNS` must occur, others are not read.

    Raises:
        RowError: If the number of fields differs, one is empty or a number is none.
    """
    if len(fields) != len(columns):
        raise RowError(f"has {len(fields)} columns, expected {len(columns)}: {','.join(columns)}")
    named = {name: field.strip() for name, field in zip(columns, fields, strict=True)}
    for name in ("file", "label"):
        if not named[name]:
            raise RowError(f"column {name} is empty")
    x1, y1, x2, y2 = (_number(name, named[name]) for name in NEEDED_COLUMNS[2:])
    return RawRow(number, named["file"], named["label"], (x1, y1, x2, y2))


def fraction_box(
    box: tuple[float, float, float, float], size: tuple[int, int] | None
) -> tuple[float, ...]:
    """Checks a box and gives it in fractions.

    Args:
        box: (x1, y1, x2, y2), fractions of the image side, or pixels if `size` is given.
        size: Width and height of the image in pixels for pixel boxes, else None.

    Returns:
        (x1, y1, x2, y2), fractions in [0, 1]; what passes an edge by less than `TOLERANCE` is
        set to the edge.

    Raises:
        RowError: If the box is inverted, without area or outside the image.
    """
    x1, y1, x2, y2 = box
    for low_name, low, high_name, high in (("x1", x1, "x2", x2), ("y1", y1, "y2", y2)):
        if high <= low:
            raise RowError(f"column {high_name}: {high:g} is not greater than {low_name} {low:g}")
    sides = (1, 1, 1, 1) if size is None else (*size, *size)
    values = [value / side for value, side in zip(box, sides, strict=True)]
    for name, given, value, side in zip(NEEDED_COLUMNS[2:], box, values, sides, strict=True):
        if not -TOLERANCE <= value <= 1 + TOLERANCE:
            hint = "; are the boxes in pixels?" if size is None else ""
            raise RowError(f"column {name}: {given:g} is outside 0..{side}{hint}")
    return tuple(min(max(value, 0.0), 1.0) for value in values)


def infer_class_names(labels: set[str]) -> list[str]:
    """Names of the classes: whole numbers in numeric order, else alphabetic order.

    Whole numbers from 0 name every number up to the largest, so that a number is its own class
    index even where some do not occur. Where the largest is above 10,000 and above 10 times the
    number of labels, they name only themselves, as numbers that do not start at 0 do.
    """
    if labels and all(_is_index(label) for label in labels):
        numbers = {int(label) for label in labels}
        largest = max(numbers)
        dense = largest <= max(_MOST_INDEX_CLASSES, _MOST_INDICES_PER_LABEL * len(numbers))
        if min(numbers) == 0 and dense:
            return [str(number) for number in range(largest + 1)]
        return [str(number) for number in sorted(numbers)]
    return sorted(labels)


def class_indices(names: Sequence[str]) -> dict[str, int]:
    """Class index of each label: of the names and, where none of them is a number, of 0..K-1."""
    named = {name: index for index, name in enumerate(names)}
    if any(map(_is_index, names)):
        return named
    return {str(index): index for index in range(len(names))} | named


def class_index(label: str, index_of: dict[str, int]) -> int:
    """Looks a label up, whole numbers with or without leading zeros.

    Args:
        label: As written in the row.
        index_of: From `class_indices`.

    Raises:
        RowError: If it belongs to no class.
    """
    if label in index_of:
        return index_of[label]
    if _is_index(label) and str(int(label)) in index_of:
        return index_of[str(int(label))]
    count = len(set(index_of.values()))
    raise RowError(f"column label: {label!r} is not one of the {count} classes")


def _is_index(label: str) -> bool:
    return label.isascii() and label.isdigit()


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise RowError(f"column {name}: {text!r} is not a number") from None
    if not math.isfinite(value):
        raise RowError(f"column {name}: {text!r} is not a finite number")
    return value
