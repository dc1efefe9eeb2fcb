"""Tables of labels: Hugging Face metadata, VGG Image Annotator and Label Studio as CSV."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from loc_keras.data import files
from loc_keras.data.formats.parsing import Box, RowError, corners, folder_of, quoted
from loc_keras.data.formats.tools import Document, Picture, box_of, parsed_json, size_of
from loc_keras.data.formats.tools_json import studio_object, studio_picture, via_object
from loc_keras.errors import DataError

_BOXES = ("bbox", "bboxes", "box", "boxes")
_LABELS = (
    *("categories", "category", "labels", "label", "classes", "class", "names", "name"),
    *("category_id", "label_id", "class_id"),
)
_IMAGES = ("image", "img", "jpg", "png", "picture")
_BATCH = 64

_Rows = Iterator[tuple[int, dict[str, Any]]]


def _huggingface(document: Document) -> Iterator[Picture]:
    """`file_name` and `objects: {bbox: [[x, y, w, h]], categories}` a row, or one plain box.

    Parquet shards, and what `save_to_disk` writes, hold the images as well.
    """
    names: dict[str, list[str]] = {}
    rows: _Rows
    if document.path.lower().endswith((".parquet", ".arrow")):
        rows, names = _arrow_rows(document)
    elif document.path.lower().endswith(".csv"):
        rows = ((row, _decoded(entry)) for row, entry in _csv_rows(document))
    else:
        rows = iter(document.json_lines())

    def picture(row: int, entry: dict[str, Any]) -> Picture:
        name, file = entry.get("file_name"), ""
        held = next((entry[key] for key in _IMAGES if isinstance(entry.get(key), Mapping)), None)
        if held is not None:
            name = name or held.get("path") or f"{document.stem}-{row}"
            file = document.keep(held["bytes"], row) if held.get("bytes") else ""
        if name is None:
            raise RowError("has no file_name", "columns")
        size = entry.get("width"), entry.get("height")
        objects = [(row, (*one, names)) for one in _labelled_boxes(entry)]
        return Picture(name, objects, row, size_of(*size), file=file)

    return document.parsed(rows, picture)


def _labelled_boxes(entry: Mapping[str, Any]) -> Iterator[tuple[Any, str, Any]]:
    """Box, name of the column of the class, and class of each object of a row."""
    held = entry.get("objects", entry)
    if isinstance(held, list):
        for one in held:
            yield from _labelled_boxes(one)
        return
    box_key = next((key for key in _BOXES if key in held), _BOXES[0])
    label_key = next((key for key in _LABELS if key in held), _LABELS[0])
    boxes, labels = held[box_key], held[label_key]
    if not isinstance(labels, list):
        boxes, labels = ([boxes] if boxes else []), [labels]
    if len(boxes) != len(labels):
        raise RowError(f"has {len(boxes)} boxes and {len(labels)} classes", "columns")
    yield from ((box, label_key, label) for box, label in zip(boxes, labels, strict=True))


def _huggingface_object(entry: Any, _: Picture) -> tuple[Any, Box]:
    box, key, label, names = entry
    named = names.get(key)
    if named and isinstance(label, int):
        label = named[label]
    return label, corners(box_of(box), "xywh")


def _arrow_rows(document: Document) -> tuple[_Rows, dict[str, list[str]]]:
    """Rows of a file of Parquet or Arrow, and names of the classes of columns that number them."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DataError(
            f"{document.path} is read by pyarrow, which is not installed: pip install pyarrow."
        ) from None
    with ExitStack() as opened:
        try:
            file = opened.enter_context(files.open_binary(document.path))
            if document.path.lower().endswith(".parquet"):
                shard = pq.ParquetFile(file)
                schema, batches = shard.schema_arrow, shard.iter_batches(_BATCH)
            else:
                stream = pa.ipc.open_stream(file)
                schema, batches = stream.schema, iter(stream)
        except (pa.ArrowException, OSError) as error:
            raise RowError(f"cannot be read: {quoted(str(error))[1:-1]}", "syntax") from None
        if not {"objects", *_BOXES} & set(schema.names):
            named = ", ".join(schema.names)
            raise RowError(f"has no column objects or bbox, but {named}", "columns")
        still_open = opened.pop_all()
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = described.get("info", {}).get("features", {})
    features |= features.get("objects", {}).get("feature", features.get("objects", {}))
    names = {
        key: one.get("names") or one.get("feature", {}).get("names")
        for key, one in features.items()
        if isinstance(one, dict)
    }

    def rows() -> _Rows:
        with still_open:
            entries = (entry for batch in batches for entry in batch.to_pylist())
            yield from enumerate(entries, 1)

    return rows(), {key: given for key, given in names.items() if given}


def _csv_rows(document: Document) -> _Rows:
    """Row number and columns by name of a table of commas."""
    reader = csv.DictReader(io.StringIO(document.text(), newline=""), strict=True)
    try:
        for entry in reader:
            yield reader.line_num, {key: value or "" for key, value in entry.items() if key}
    except csv.Error as error:
        raise RowError(f"line {reader.line_num}: {error}", "syntax") from None


def _decoded(entry: Mapping[str, str]) -> dict[str, Any]:
    """The columns of a row, with lists and mappings of JSON as such."""
    return {
        key: parsed_json(text.replace("'", '"')) if text[:1] in ("[", "{") else text
        for key, text in entry.items()
    }


def _via_csv(document: Document) -> Iterator[Picture]:
    """`filename, region_shape_attributes, region_attributes` (JSON) and more; a row a region."""
    pictures: dict[str, Picture] = {}
    for row, entry in _csv_rows(document):
        name = entry["filename"]
        picture = pictures.setdefault(name, Picture(name, [], row))
        # An image without a region has a row as well.
        if entry["region_shape_attributes"].strip() not in ("", "{}"):
            picture.objects.append((row, entry))
    return iter(pictures.values())


def _via_csv_object(entry: dict[str, str], picture: Picture) -> tuple[Any, Box]:
    shape, attributes = entry["region_shape_attributes"], entry["region_attributes"] or "{}"
    region = {"shape_attributes": shape, "region_attributes": attributes}
    return via_object({key: parsed_json(text) for key, text in region.items()}, picture)


def _studio_csv(document: Document) -> Iterator[Picture]:
    """A row a task, with the regions as JSON in the column of their control."""

    def picture(row: int, entry: dict[str, str]) -> Picture:
        return studio_picture(row, _decoded(entry))

    return document.parsed(_csv_rows(document), picture)


def _openimages(document: Document) -> Iterator[Picture]:
    """`ImageID, LabelName, XMin, XMax, YMin, YMax` and more; a table beside names the classes."""
    names: dict[str, str] = {}
    for file in files.listed(folder_of(document.path)):
        if "class-descriptions" in file or file == "classes.csv":
            names |= {
                line[0]: line[1] for line in csv.reader(document.text(file).split("\n")) if line[1:]
            }
    pictures: dict[str, Picture] = {}
    for row, entry in _csv_rows(document):
        picture = pictures.setdefault(entry["ImageID"], Picture(entry["ImageID"], [], row))
        picture.objects.append((row, (entry, names)))
    return iter(pictures.values())


def _openimages_object(value: tuple[dict[str, str], dict[str, str]], _: Picture) -> tuple[str, Box]:
    entry, names = value
    if entry.get("IsGroupOf") == "1":
        raise RowError("is a group of objects", "crowd")
    label = entry["LabelName"]
    return names.get(label, label), box_of(entry[key] for key in ("XMin", "YMin", "XMax", "YMax"))


READERS: dict[str, Any] = {
    "huggingface": (_huggingface, _huggingface_object),
    "via_csv": (_via_csv, _via_csv_object),
    "openimages": (_openimages, _openimages_object),
    "label_studio_csv": (_studio_csv, studio_object),
}
