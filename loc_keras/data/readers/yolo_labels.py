"""One YOLO label file: its lines, read one by one."""

from typing import NamedTuple

from loc_keras.data.readers.parsing import number, shown

LARGEST_LABELS = 16 * 2**20
"""Bytes of the largest label file that is read."""

_BOX_FIELDS = 5
_LEAST_POLYGON_FIELDS = 7
_MOST_FIELDS = 20_001


class YoloObject(NamedTuple):
    """One object.

    Attributes:
        row: Line, from 1.
        label: Class index.
        box: (x1, y1, x2, y2) in fractions of the image side.
    """

    row: int
    label: int
    box: tuple[float, float, float, float]


class LineError(Exception):
    """Why a line cannot be used, and the kind of fault that this is."""

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def parse_labels(
    text: str, class_count: int, *, keypoints: bool = False
) -> tuple[list[YoloObject], list[tuple[int, str, str]]]:
    """Parses a label file.

    A line is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...`, whose box is that of the
    polygon.

    Args:
        text: The file.
        class_count: Number of classes.
        keypoints: Whether what stands behind the box is key points, which are not read.

    Returns:
        The objects, and (line, reason, kind) of lines that cannot be used.
    """
    objects, faults = [], []
    for row, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        fields = line.split(maxsplit=_MOST_FIELDS)
        if not fields:
            continue
        try:
            label = _class_index(fields[0], class_count)
            objects.append(YoloObject(row, label, _box(fields, keypoints)))
        except LineError as fault:
            faults.append((row, str(fault), fault.kind))
    return objects, faults


def _class_index(text: str, class_count: int) -> int:
    index = number(text)
    if index is None:
        raise LineError(f"class {shown(text)} is not a number", "label")
    if not 0 <= index < class_count or index != int(index):
        raise LineError(
            f"class {shown(text)} is none of the {class_count} classes 0..{class_count - 1}",
            "label",
        )
    return int(index)


def _box(fields: list[str], keypoints: bool) -> tuple[float, float, float, float]:
    count = len(fields)
    boxes_only = count == _BOX_FIELDS or (keypoints and count > _BOX_FIELDS)
    polygon = _LEAST_POLYGON_FIELDS <= count <= _MOST_FIELDS and count % 2 == 1
    if not boxes_only and not polygon:
        hint = "; is the last one a score?" if count == _BOX_FIELDS + 1 else ""
        raise LineError(
            f"has {count} numbers, expected class cx cy w h, or a class and the corners of a "
            f"polygon{hint}",
            "columns",
        )
    numbers = []
    for text in fields[1 : _BOX_FIELDS if boxes_only else None]:
        value = number(text)
        if value is None:
            raise LineError(f"{shown(text)} is not a number", "number")
        numbers.append(value)
    if boxes_only:
        cx, cy, width, height = numbers
        return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
    return _around(numbers[::2], numbers[1::2])


def _around(xs: list[float], ys: list[float]) -> tuple[float, float, float, float]:
    """The box around points; not a number where one is none, whatever its place."""
    undefined = [value for value in (*xs, *ys) if value != value]
    if undefined:
        return (undefined[0],) * 4
    return min(xs), min(ys), max(xs), max(ys)
