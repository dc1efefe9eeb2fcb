"""The layout of Caltech-UCSD Birds 200 (CUB-200-2011)."""

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
    corners,
    image_place,
    label_problem,
    numbered_lines,
    quoted,
    require_root,
)

_BOX_COLUMNS = ("x", "y", "width", "height")
_SPLIT_OF_FLAG: dict[str, Split] = {"1": "train", "0": "test"}


class _Table(NamedTuple):
    """One file, by its first column: row number and the other fields of each id."""

    path: str
    rows: dict[str, tuple[int, list[str]]]


def read_cub(root: str) -> Annotations:
    """Reads a folder in the layout of CUB-200-2011.

    ```
    images.txt               1 001.Black_footed_Albatross/Albatross_0046_18.jpg
    bounding_boxes.txt       1 60.0 27.0 325.0 304.0          id, x, y, width, height in px
    image_class_labels.txt   1 1                              id, class
    classes.txt              1 001.Black_footed_Albatross
    train_test_split.txt     1 0                              id, 1 for training
    images/001.Black_footed_Albatross/Albatross_0046_18.jpg
    ```

    Returns:
        Splits `"train"` and `"test"`; file and row of an object are those of its box. Classes
        are in the order of `classes.txt` and lose a number in front, as `001.`, where they stay
        distinct without it.

    Raises:
        DataError: If the folder or one of the five files is missing or cannot be read.
    """
    require_root(root)
    reading = Reading()
    images = _read_table(root, "images.txt", ("id", "path"), reading)
    boxes = _read_table(root, "bounding_boxes.txt", ("id", *_BOX_COLUMNS), reading)
    labels = _read_table(root, "image_class_labels.txt", ("id", "class"), reading)
    classes = _read_table(root, "classes.txt", ("class", "name"), reading)
    flags = _read_table(root, "train_test_split.txt", ("id", "is_training"), reading)
    label_of = dict(zip(classes.rows, _class_names(classes), strict=True))
    folder = files.join(root, "images")
    reading.folders[folder] = None
    reading.split("train")
    reading.split("test")
    for image in images.rows:
        missing = [table for table in (boxes, labels, flags) if image not in table.rows]
        for table in missing:
            reading.fault(table.path, 0, f"has no row for image {quoted(image)}", "missing_row")
        if missing:
            continue
        table = images
        try:
            (name,) = images.rows[image][1]
            path = image_place(folder, name, root)
            table = labels
            (label,) = labels.rows[image][1]
            if label not in label_of:
                raise RowError(f"column class: {quoted(label)} is not in classes.txt", "label")
            table = flags
            (flag,) = flags.rows[image][1]
            if flag not in _SPLIT_OF_FLAG:
                reason = f"column is_training: {quoted(flag)} is neither 0 (test) nor 1 (train)"
                raise RowError(reason, "split")
            table = boxes
            row, texts = boxes.rows[image]
            box = corners(box_numbers(texts, _BOX_COLUMNS), "xywh")
        except RowError as error:
            reading.failed(table.path, table.rows[image][0], error)
        else:
            found = Annotated(ImageRef(path), name, label_of[label], box, boxes.path, row)
            reading.split(_SPLIT_OF_FLAG[flag]).append(found)
    for table in (boxes, labels, flags):
        for image, (row, _) in table.rows.items():
            if image not in images.rows:
                reason = f"image {quoted(image)} is not in images.txt"
                reading.fault(table.path, row, reason, "missing_row")
    return reading.annotations("pixel", class_names=list(label_of.values()))


def _read_table(root: str, file: str, columns: tuple[str, ...], reading: Reading) -> _Table:
    """Reads rows of fields parted by spaces; the last field may hold spaces itself."""
    path = files.join(root, file)
    rows: dict[str, tuple[int, list[str]]] = {}
    for number, line in numbered_lines(files.read_text(path)):
        try:
            key, *rest = check_columns(line.split(maxsplit=len(columns) - 1), columns)
            if "name" in columns and (problem := label_problem(rest[0])):
                raise RowError(f"column name {problem}", "label")
            if key in rows:
                raise RowError(
                    f"{columns[0]} {quoted(key)} stands here twice; row {rows[key][0]} is used",
                    "duplicate_row",
                )
            rows[key] = number, rest
        except RowError as error:
            reading.failed(path, number, error)
    return _Table(path, rows)


def _class_names(classes: _Table) -> list[str]:
    """The shortest names that are distinct: without the number in front, with it, or the ids."""
    written = [fields[0] for _, fields in classes.rows.values()]
    bare = [re.sub(r"^\d+\.(?=.)", "", name) for name in written]
    for names in (bare, written):
        if len(set(names)) == len(names):
            return names
    return list(classes.rows)


_FILES = ("bounding_boxes.txt", "images.txt", "image_class_labels.txt", "classes.txt")


def detect_cub(listing: Listing) -> Iterator[Guess]:
    """Guesses by the files of the data set."""
    for path in listing.named(_FILES[0]):
        if all(path in listing.named(name) for name in _FILES[1:]):
            yield Guess("cub", listing.path(path), why=f"{_FILES[0]} and {_FILES[1]}")
