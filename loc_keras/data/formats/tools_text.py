"""Lists of boxes in text files: KITTI, BBox-Label-Tool, keras-yolo3."""

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from loc_keras.data import files
from loc_keras.data.formats.parsing import Box, RowError, folder_of, numbered_lines, quoted
from loc_keras.data.formats.tools import Document, Picture, box_of

_KITTI_FIELDS = (15, 16)
_KERAS_YOLO = re.compile(r"(.*?)((?:\s+[^\s,]+(?:,[^\s,]+){4})*)\s*")
_CLASS_FILES = ("_classes.txt", "classes.txt", "model_data/classes.txt")


def _kitti(document: Document) -> Iterator[Picture]:
    """`type truncated occluded alpha x1 y1 x2 y2 ...` a line; a sixteenth field is a score."""
    rows = [(row, line.split()) for row, line in numbered_lines(document.text())]
    # The right camera's pictures have the same names, and boxes of their own nowhere.
    yield Picture(f"image_2/{document.stem}", rows)


def _kitti_object(fields: list[str], _: Picture) -> tuple[str, Box]:
    if len(fields) not in _KITTI_FIELDS:
        raise RowError(f"has {len(fields)} fields, expected 15 or 16", "columns")
    if fields[0] == "DontCare":
        raise RowError("is DontCare, a region that was not labelled", "no_box")
    return fields[0], box_of(fields[4:8])


def _bbox_label_tool(document: Document) -> Iterator[Picture]:
    """The number of boxes, then `x1 y1 x2 y2 class` a line, or no class and a folder for each."""
    (first, count), *rows = [*numbered_lines(document.text())] or [(1, "0")]
    if not count.strip().isdigit() or int(count[:9]) != len(rows):
        reason = f"says {quoted(count.strip())} boxes and holds {len(rows)}"
        document.reading.fault(document.path, first, reason, "columns")
    label = posixpath.basename(folder_of(document.path))
    yield Picture(document.stem, [(row, line.split(maxsplit=4)) for row, line in rows], label=label)


def _bbox_label_tool_object(fields: list[str], picture: Picture) -> tuple[str, Box]:
    return (fields[4] if fields[4:] else picture.label), box_of(fields[:4])


def _keras_yolo(document: Document) -> Iterator[Picture]:
    """`image x1,y1,x2,y2,class x1,...` a line; names of classes are in a file beside."""
    names: list[str] = []
    for file in _CLASS_FILES:
        if files.is_file(files.join(folder_of(document.path), file)):
            names = [line.strip() for line in document.text(file).strip().split("\n")]
            break

    def picture(row: int, line: str) -> Picture:
        match = _KERAS_YOLO.fullmatch(line)
        if match is None:
            raise RowError("holds no image", "columns")
        return Picture(
            match[1], [(row, (text.split(","), names)) for text in match[2].split()], row
        )

    return document.parsed(numbered_lines(document.text()), picture)


def _keras_yolo_object(entry: tuple[list[str], list[str]], _: Picture) -> tuple[str, Box]:
    (*sides, index), names = entry
    if names and (not index.isdigit() or int(index[:9]) >= len(names)):
        raise RowError(f"class {quoted(index)} is none of {len(names)}", "label")
    return (names[int(index)] if names else index), box_of(sides)


READERS: dict[str, Any] = {
    "kitti": (_kitti, _kitti_object),
    "bbox_label_tool": (_bbox_label_tool, _bbox_label_tool_object),
    "keras_yolo": (_keras_yolo, _keras_yolo_object),
}
