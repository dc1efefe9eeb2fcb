"""Pascal VOC: `JPEGImages/`, `Annotations/*.xml`, and a list of names for each split."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import Split
from loc_keras.data.records import Records
from loc_keras.data.writers.job import Job, box_px, decimal, write_bytes, write_images
from loc_keras.data.writers.names import record_stems
from loc_keras.data.writers.pictures import Picture
from loc_keras.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_COLOURS = 3


def write_voc(job: Job) -> dict[Split, int]:
    """Writes images, annotations and `ImageSets/Main/<split>.txt`; returns the images of each.

    Boxes are px with decimals and continuous edges: a box over the pixels 0..63 is 0..64.
    """
    refuse_unwritable(job.class_names)
    counts: dict[Split, int] = {}
    lists = job.folder / "ImageSets" / "Main"
    annotations = job.folder / "Annotations"
    for folder in (lists, annotations):
        folder.mkdir(parents=True, exist_ok=True)
    images = job.folder / "JPEGImages"
    stems = record_stems(job.splits, one_folder=True)
    for split, records in job.splits.items():

        def annotate(index: int, name: str, picture: Picture, records: Records = records) -> None:
            xml = _annotation(records, index, name, picture, job.class_names)
            write_bytes(annotations / f"{Path(name).stem}.xml", xml)

        names = write_images(job, split, images, stems[split], FORMATS, annotate)
        listed = [stem for stem, name in zip(stems[split], names, strict=True) if name]
        write_text(lists / f"{split}.txt", "".join(f"{stem}\n" for stem in listed))
        counts[split] = len(listed)
    return counts


def voc_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    files = {
        split: {
            "annotations": "Annotations",
            "images": "JPEGImages",
            "list": f"ImageSets/Main/{split}.txt",
        }
        for split in splits
    }
    return {
        "format": "voc",
        "class_names": list(class_names),
        "inclusive_pixels": False,
        "voc": {"splits": files},
    }


def voc_xml(
    folder: str,
    name: str,
    size: tuple[int, int],
    channels: int,
    label: str | None,
    box: Sequence[float] = (),
    *,
    database: str = "converted by loc_keras",
) -> bytes:
    """The annotation of one image.

    Args:
        folder: Of the images, as `folder` tells it.
        name: Of the image's file.
        size: Height and width in px.
        channels: Of the image.
        label: Class of its object; None where it shows none.
        box: (x1, y1, x2, y2) in px, continuous edges.
        database: What made it.
    """
    root = ElementTree.Element("annotation")
    _add(root, "folder", folder)
    _add(root, "filename", _NOT_XML.sub("_", name))
    _add(_add(root, "source"), "database", database)
    told = _add(root, "size")
    _add(told, "width", str(size[1]))
    _add(told, "height", str(size[0]))
    # The format knows gray and colour; transparency and the like are left out.
    _add(told, "depth", str(channels if channels < _COLOURS else _COLOURS))
    _add(root, "segmented", "0")
    if label is not None:
        one = _add(root, "object")
        _add(one, "name", label)
        _add(one, "pose", "Unspecified")
        _add(one, "truncated", "0")
        _add(one, "difficult", "0")
        corners = _add(one, "bndbox")
        for side, value in zip(_SIDES, box, strict=True):
            _add(corners, side, decimal(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8") + b"\n"


def refuse_unwritable(class_names: Sequence[str]) -> None:
    """Raises DataError where a name has a sign that XML cannot hold."""
    for name in class_names:
        if _NOT_XML.search(name):
            raise DataError(f"class {name!r} has a sign that XML cannot hold; rename the class.")


def _annotation(
    records: Records, index: int, name: str, picture: Picture, class_names: Sequence[str]
) -> bytes:
    empty = records.is_empty(index)
    label = None if empty else class_names[records.labels[index]]
    box = box_px(records, index)
    return voc_xml("JPEGImages", name, picture.size, picture.channels, label, box)


def _add(parent: ElementTree.Element, tag: str, text: str | None = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = text
    return child
