"""Writers of the formats of labelling tools: one folder a split, labels beside the images."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from loc_keras.atomic_file import csv_text, write_text
from loc_keras.data.annotations import Box
from loc_keras.data.formats.voc import refuse_unwritable
from loc_keras.data.formats.writing import Job, box_px, decimal, write_images

_CORNERS = ("xtl", "ytl", "xbr", "ybr")


class _Row(NamedTuple):
    """An image that was written: its file, (width, height), class and box in px; None for none."""

    path: Path
    size: tuple[int, int]
    label: str | None
    box: Box

    @property
    def sized(self) -> Box:
        """Left, top, width and height, to a millionth of a px."""
        x1, y1, x2, y2 = self.box
        return _rounded((x1, y1, x2 - x1, y2 - y1))


def write_tool(job: Job, *, format_name: str) -> None:
    """Writes images and labels to `<split>/`."""
    if format_name == "cvat":
        refuse_unwritable(job.class_names)
    for split, records in job.splits.items():
        folder = job.folder / split
        # Importers of CVAT's files look for them there.
        images = folder / "images" if format_name == "cvat" else folder
        names = write_images(job, split, images)
        rows = []
        for index, name in enumerate(names):
            if name:
                height, width = (int(side) for side in records.sizes[index])
                label = None
                if not records.is_empty(index):
                    label = str(job.class_names[records.labels[index]])
                rows.append(_Row(images / name, (width, height), label, box_px(records, index)))
        for file, text in _TEXTS[format_name](rows):
            write_text(folder / file, text)


def _rounded(box: Box) -> Box:
    first, second, third, fourth = (round(side, 6) for side in box)
    return first, second, third, fourth


def _dumped(tree: Any, indent: int | None = None) -> str:
    return json.dumps(tree, ensure_ascii=False, indent=indent) + "\n"


def _labelme(rows: Sequence[_Row]) -> Iterator[tuple[str, str]]:
    for path, (width, height), label, box in rows:
        x1, y1, x2, y2 = _rounded(box)
        shape: dict[str, Any] = {"label": label, "points": [[x1, y1], [x2, y2]], "group_id": None}
        shape |= {"description": "", "shape_type": "rectangle", "flags": {}, "mask": None}
        shapes = [] if label is None else [shape]
        tree: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": shapes}
        tree |= {"imagePath": path.name, "imageData": None}
        tree |= {"imageHeight": height, "imageWidth": width}
        yield f"{path.stem}.json", _dumped(tree, indent=2)


def _createml(rows: Sequence[_Row]) -> Iterator[tuple[str, str]]:
    tree = []
    for row in rows:
        x, y, width, height = row.sized
        centre = {"x": x + width / 2, "y": y + height / 2, "width": width, "height": height}
        objects = [] if row.label is None else [{"label": row.label, "coordinates": centre}]
        tree.append({"image": row.path.name, "annotations": objects})
    yield "_annotations.createml.json", _dumped(tree)


def _via_regions(row: _Row) -> list[dict[str, Any]]:
    shape = {"name": "rect", **dict(zip(("x", "y", "width", "height"), row.sized, strict=True))}
    region = {"shape_attributes": shape, "region_attributes": {"class": row.label}}
    return [] if row.label is None else [region]


def _via(rows: Sequence[_Row]) -> Iterator[tuple[str, str]]:
    tree = {}
    for row in rows:
        size = row.path.stat().st_size  # VIA knows an image by its name and this.
        entry = {"filename": row.path.name, "size": size, "regions": _via_regions(row)}
        tree[f"{row.path.name}{size}"] = {**entry, "file_attributes": {}}
    yield "via_region_data.json", _dumped(tree)


def _via_csv(rows: Sequence[_Row]) -> Iterator[tuple[str, str]]:
    columns = ("file_size", "file_attributes", "region_count", "region_id")
    table: list[tuple[Any, ...]] = [
        ("filename", *columns, "region_shape_attributes", "region_attributes")
    ]
    for row in rows:
        regions = _via_regions(row)
        for region in regions or [{"shape_attributes": {}, "region_attributes": {}}]:
            about = (row.path.name, row.path.stat().st_size, "{}", len(regions), 0)
            table.append((*about, *map(json.dumps, region.values())))
    yield "via_region_data.csv", csv_text(table)


def _cvat(rows: Sequence[_Row]) -> Iterator[tuple[str, str]]:
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    # Importers take the classes from here.
    labels = ElementTree.SubElement(
        ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task"), "labels"
    )
    for name in dict.fromkeys(row.label for row in rows if row.label is not None):
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = name
    for number, (path, (width, height), label, box) in enumerate(rows):
        about = {"id": str(number), "name": path.name, "width": str(width), "height": str(height)}
        image = ElementTree.SubElement(root, "image", about)
        if label is not None:
            sides = dict(zip(_CORNERS, map(decimal, box), strict=True))
            ElementTree.SubElement(
                image, "box", {"label": label, "occluded": "0", "source": "manual"} | sides
            )
    ElementTree.indent(root)
    yield "annotations.xml", ElementTree.tostring(root, encoding="unicode") + "\n"


def _huggingface(rows: Sequence[_Row]) -> Iterator[tuple[str, str]]:
    lines = []
    for row in rows:
        boxes, labels = ([], []) if row.label is None else ([row.sized], [row.label])
        objects = {"bbox": boxes, "categories": labels}
        lines.append(_dumped({"file_name": row.path.name, "objects": objects}))
    yield "metadata.jsonl", "".join(lines)


_TEXTS = {
    "labelme": _labelme,
    "createml": _createml,
    "via": _via,
    "via_csv": _via_csv,
    "cvat": _cvat,
    "huggingface": _huggingface,
}
