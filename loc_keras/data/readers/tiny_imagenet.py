"""The Tiny ImageNet layout."""

from functools import partial
from typing import Literal

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef, Split
from loc_keras.data.readers.imagenet_synsets import class_names, read_words
from loc_keras.data.readers.parsing import require_root, shown
from loc_keras.data.readers.text_tables import (
    RowFault,
    check_columns,
    corners,
    numbered_lines,
    parse_rows,
    path_inside,
    text_or_fault,
)

_TRAIN_COLUMNS = ("name", "x1", "y1", "x2", "y2")
_VAL_COLUMNS = ("name", "wnid", "x1", "y1", "x2", "y2")


def read_tiny_imagenet(root: str, *, val_as: Literal["test", "val"] = "test") -> Annotations:
    r"""Reads a folder in the layout of Tiny ImageNet.

    ```
    wnids.txt                        n02165456              one a line; their order is the classes'
    words.txt                        n02165456\tladybug, ladybeetle               may be absent
    train/n02165456/n02165456_boxes.txt     n02165456_0.JPEG\t16\t10\t35\t26
    train/n02165456/images/n02165456_0.JPEG
    val/val_annotations.txt          val_0.JPEG\tn02165456\t0\t32\t44\t62
    val/images/val_0.JPEG
    ```

    Boxes are (x1, y1, x2, y2) in px from 0, and the last pixel belongs to them.

    Args:
        root: The folder.
        val_as: Split that the official validation images become. The official test images have
            no labels, so these usually stand in for them.

    Returns:
        Splits `"train"` and `val_as` (absent without a `val` folder). Classes are named by the
        first of their words, or by the wnid where there is none or two classes share it.

    Raises:
        DataError: If the folder or `wnids.txt` is missing or cannot be read.
    """
    require_root(root)
    wnids, faults = _read_wnids(root)
    words_path = files.join(root, "words.txt")
    words: dict[str, str] = {}
    if files.is_file(words_path):
        words, word_faults = read_words(words_path)
        faults += word_faults
    names = class_names(wnids, words)
    label_of = dict(zip(wnids, names, strict=True))
    train, train_faults = _read_train(root, label_of)
    val, val_faults = _read_val(root, label_of)
    objects: dict[Split, list[Annotated]] = {"train": train}
    folders = [files.join(root, "train", wnid, "images") for wnid in wnids]
    if files.is_folder(files.join(root, "val")):
        objects[val_as] = val
        folders.append(files.join(root, "val", "images"))
    return Annotations(
        objects=objects,
        units="pixel",
        faults=faults + train_faults + val_faults,
        class_names=names,
        folders=folders,
        exact=False,
    )


def _read_wnids(root: str) -> tuple[list[str], list[Fault]]:
    """The classes in order; they become folder names, so each is checked to be a plain one."""
    path = files.join(root, "wnids.txt")
    seen: set[str] = set()

    def parse(row: int, line: str) -> str:
        wnid = line.strip()
        if "/" in wnid or "\\" in wnid or wnid in (".", ".."):
            raise RowFault(f"{shown(wnid)} is not the name of a folder", "outside")
        path_inside(files.join(root, "train"), wnid, root=root)
        if wnid in seen:
            raise RowFault(f"{shown(wnid)} stands here twice", "duplicate_row")
        seen.add(wnid)
        return wnid

    return parse_rows(path, numbered_lines(files.read_text(path, what="class list")), parse)


def _read_train(root: str, label_of: dict[str, str]) -> tuple[list[Annotated], list[Fault]]:
    objects: list[Annotated] = []
    folder = files.join(root, "train")
    faults = [
        Fault(files.join(folder, name), 0, "is a class folder that wnids.txt lacks", "label")
        for name in files.listed(folder)
        if name not in label_of and files.is_folder(files.join(folder, name))
    ]
    for wnid, label in label_of.items():
        path = files.join(folder, wnid, f"{wnid}_boxes.txt")
        text = text_or_fault(path)
        if isinstance(text, Fault):
            faults.append(text)
            continue
        parse = partial(_parse_train, root, files.join(folder, wnid, "images"), path, label)
        good, bad = parse_rows(path, numbered_lines(text), parse)
        objects += good
        faults += bad
    return objects, faults


def _read_val(root: str, label_of: dict[str, str]) -> tuple[list[Annotated], list[Fault]]:
    folder = files.join(root, "val")
    if not files.is_folder(folder):
        return [], []
    path = files.join(folder, "val_annotations.txt")
    text = text_or_fault(path)
    if isinstance(text, Fault):
        return [], [text]
    parse = partial(_parse_val, root, files.join(folder, "images"), path, label_of)
    return parse_rows(path, numbered_lines(text), parse)


def _parse_train(root: str, folder: str, path: str, label: str, row: int, line: str) -> Annotated:
    name, *box = check_columns(line.split("\t"), _TRAIN_COLUMNS)
    image = ImageRef(path_inside(folder, name, root=root))
    return Annotated(image, name, label, corners(box), path, row)


def _parse_val(
    root: str, folder: str, path: str, label_of: dict[str, str], row: int, line: str
) -> Annotated:
    name, wnid, *box = check_columns(line.split("\t"), _VAL_COLUMNS)
    if wnid not in label_of:
        raise RowFault(f"column wnid: {shown(wnid)} is not in wnids.txt", "label")
    image = ImageRef(path_inside(folder, name, root=root))
    return Annotated(image, name, label_of[wnid], corners(box), path, row)
