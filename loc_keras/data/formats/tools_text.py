"""Lists of boxes in text files: of tools, and of sets that were published with them."""

import io
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from PIL import Image

from loc_keras.data import files
from loc_keras.data.annotations import SPLITS, Split
from loc_keras.data.formats.parsing import (
    Box,
    RowError,
    corners,
    folder_of,
    numbered_lines,
    quoted,
    read_small,
)
from loc_keras.data.formats.tools import Document, Picture, box_of

_KITTI_FIELDS = (15, 16)
_KERAS_YOLO = re.compile(r"(.*?)((?:\s+[^\s,]+(?:,[^\s,]+){4})*)\s*")
_PET_SPLITS: dict[str, Split] = {"trainval.txt": "train", "test.txt": "test"}
_LARGEST_TRIMAP = 2**24
_MOST_PIXELS = 10**8
_CLASS_FILES = ("_classes.txt", "classes.txt", "model_data/classes.txt")


def _kitti(document: Document) -> Iterator[Picture]:
    """`type truncated occluded alpha x1 y1 x2 y2 ...` a line; a sixteenth field is a score."""
    rows = [(row, line.split()) for row, line in numbered_lines(document.text())]
    yield Picture(document.stem, rows)


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


def _pet(document: Document) -> Iterator[Picture]:
    """Oxford-IIIT Pet: `list.txt`, lists of the splits, and a trimap for each image.

    The class is the breed, the box the extent of the animal.
    """
    splits: dict[str, Split] = {}
    for file, split in _PET_SPLITS.items():
        splits |= {line.split()[0]: split for _, line in numbered_lines(document.text(file))}

    def picture(row: int, line: str) -> Picture:
        name = line.split(maxsplit=1)[0]
        trimap = files.join(folder_of(document.path), "trimaps", f"{name}.png")
        objects = [(row, (trimap, document.root))]
        return Picture(f"images/{name}.jpg", objects, row, split=splits[name])

    lines = numbered_lines(document.text())
    return document.parsed([one for one in lines if not one[1].startswith("#")], picture)


def _pet_object(entry: tuple[str, str], picture: Picture) -> tuple[str, Box]:
    content = read_small(*entry, _LARGEST_TRIMAP)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as trimap:
            if trimap.width * trimap.height > _MOST_PIXELS:
                raise RowError("has a trimap of an absurd size", "syntax")
            # 1 is the animal, 2 the background, 3 the border between them.
            found = trimap.convert("L").point([0, 1, 0, 1] + [0] * 252).getbbox()
    except (OSError, SyntaxError) as error:
        reason = f"has a trimap that cannot be decoded: {quoted(str(error))[1:-1]}"
        raise RowError(reason, "syntax") from None
    if found is None:
        raise RowError("has a trimap without an animal", "no_box")
    return posixpath.basename(picture.name).rpartition("_")[0], box_of(found)


def _aircraft(document: Document) -> Iterator[Picture]:
    """FGVC-Aircraft: `images_box.txt` (`image x1 y1 x2 y2`), and the variants of each split."""
    variants: dict[str, tuple[str, Split]] = {}
    for split in SPLITS:
        for _, line in numbered_lines(document.text(f"images_variant_{split}.txt")):
            name, variant = line.split(maxsplit=1)
            variants[name] = variant.strip(), split

    def picture(row: int, line: str) -> Picture:
        name, *sides = line.split()
        variant, split = variants[name]
        return Picture(f"images/{name}.jpg", [(row, sides)], row, split=split, label=variant)

    return document.parsed(numbered_lines(document.text()), picture)


def _aircraft_object(sides: list[str], picture: Picture) -> tuple[str, Box]:
    x1, y1, x2, y2 = box_of(sides)
    # Its pixels count from 1, and the last one belongs to the box.
    return picture.label, (x1 - 1, y1 - 1, x2, y2)


def _celeba(document: Document) -> Iterator[Picture]:
    """CelebA: a count, a header, then `image x y width height`; all objects are faces."""
    splits: dict[str, Split] | None = None
    folder = folder_of(document.path)
    for beside in (folder, files.join(folder_of(folder), "Eval")):
        if "list_eval_partition.txt" in files.listed(beside):
            text = files.read_text(files.join(beside, "list_eval_partition.txt"))
            lines = (line.split() for _, line in numbered_lines(text))
            splits = {name: SPLITS[int(number)] for name, number in lines}

    def picture(row: int, line: str) -> Picture:
        name, *sides = line.split()
        split = None if splits is None else splits[name]
        return Picture(f"img_celeba/{name}", [(row, sides)], row, split=split)

    return document.parsed(list(numbered_lines(document.text()))[2:], picture)


def _celeba_object(sides: list[str], _: Picture) -> tuple[str, Box]:
    return "face", corners(box_of(sides), "xywh")


READERS: dict[str, Any] = {
    "kitti": (_kitti, _kitti_object),
    "bbox_label_tool": (_bbox_label_tool, _bbox_label_tool_object),
    "oxford_pet": (_pet, _pet_object),
    "aircraft": (_aircraft, _aircraft_object),
    "celeba": (_celeba, _celeba_object),
    "keras_yolo": (_keras_yolo, _keras_yolo_object),
}
