"""The layout of Caltech-UCSD Birds 200 (CUB-200-2011)."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef, Split
from loc_keras.data.formats.parsing import (
    RowFault,
    check_columns,
    corners,
    numbered_lines,
    path_inside,
    require_root,
    shown,
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

    Args:
        root: The folder.

    Returns:
        Splits `"train"` and `"test"`; file and row of an object are those of its box. Classes
        are in the order of `classes.txt` and lose a number in front, as `001.`, where they stay
        distinct without it.

    Raises:
        DataError: If the folder or one of the five files is missing or cannot be read.
    """
    require_root(root)
    faults: list[Fault] = []
    images = _read_table(root, "images.txt", ("id", "path"), faults)
    boxes = _read_table(root, "bounding_boxes.txt", ("id", *_BOX_COLUMNS), faults)
    labels = _read_table(root, "image_class_labels.txt", ("id", "class"), faults)
    classes = _read_table(root, "classes.txt", ("class", "name"), faults)
    flags = _read_table(root, "train_test_split.txt", ("id", "is_training"), faults)
    label_of = dict(zip(classes.rows, _class_names(classes), strict=True))
    objects: dict[Split, list[Annotated]] = {"train": [], "test": []}
    others = (boxes, labels, flags)
    for image in images.rows:
        if missing := [table for table in others if image not in table.rows]:
            faults += [
                Fault(table.path, 0, f"has no row for image {shown(image)}", "missing_row")
                for table in missing
            ]
            continue
        found = _image_object(root, image, images, boxes, labels, flags, label_of)
        if isinstance(found, Fault):
            faults.append(found)
        else:
            objects[found[0]].append(found[1])
    faults += _unknown_images(images, others)
    return Annotations(
        objects=objects,
        units="pixel",
        faults=faults,
        class_names=list(label_of.values()),
        folders=[files.join(root, "images")],
    )


def _image_object(
    root: str,
    image: str,
    images: _Table,
    boxes: _Table,
    labels: _Table,
    flags: _Table,
    label_of: dict[str, str],
) -> tuple[Split, Annotated] | Fault:
    """The object of an image that has a row in every file."""
    table = images
    try:
        (name,) = images.rows[image][1]
        path = path_inside(files.join(root, "images"), name, root=root)
        table = labels
        (label,) = labels.rows[image][1]
        if label not in label_of:
            raise RowFault(f"column class: {shown(label)} is not in classes.txt", "label")
        table = flags
        (flag,) = flags.rows[image][1]
        if flag not in _SPLIT_OF_FLAG:
            raise RowFault(
                f"column is_training: {shown(flag)} is neither 0 (test) nor 1 (train)", "split"
            )
        table = boxes
        row, texts = boxes.rows[image]
        x, y, width, height = corners(texts, _BOX_COLUMNS)
    except RowFault as fault:
        return Fault(table.path, table.rows[image][0], fault.reason, fault.kind)
    box = (x, y, x + width, y + height)
    found = Annotated(ImageRef(path), name, label_of[label], box, boxes.path, row)
    return _SPLIT_OF_FLAG[flag], found


def _unknown_images(images: _Table, others: Iterable[_Table]) -> list[Fault]:
    return [
        Fault(table.path, row, f"image {shown(image)} is not in images.txt", "missing_row")
        for table in others
        for image, (row, _) in table.rows.items()
        if image not in images.rows
    ]


def _read_table(root: str, file: str, columns: tuple[str, ...], faults: list[Fault]) -> _Table:
    """Reads rows of fields parted by spaces; the last field may hold spaces itself."""
    path = files.join(root, file)
    rows: dict[str, tuple[int, list[str]]] = {}
    for number, line in numbered_lines(files.read_text(path)):
        try:
            key, *rest = check_columns(line.split(maxsplit=len(columns) - 1), columns)
            if key in rows:
                raise RowFault(
                    f"{columns[0]} {shown(key)} stands here twice; row {rows[key][0]} is used",
                    "duplicate_row",
                )
            rows[key] = number, rest
        except RowFault as fault:
            faults.append(Fault(path, number, fault.reason, fault.kind))
    return _Table(path, rows)


def _class_names(classes: _Table) -> list[str]:
    """The shortest names that are distinct: without the number in front, with it, or the ids."""
    written = [fields[0] for _, fields in classes.rows.values()]
    bare = [re.sub(r"^\d+\.(?=.)", "", name) for name in written]
    for names in (bare, written):
        if len(set(names)) == len(names):
            return names
    return list(classes.rows)
