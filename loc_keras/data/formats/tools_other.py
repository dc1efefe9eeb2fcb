"""Text, tables and XML of labelling tools, and of sets that were published with them."""

import csv
import io
import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from xml.etree.ElementTree import Element  # The type alone; text is parsed by defusedxml.

from PIL import Image

from loc_keras.data import files
from loc_keras.data.annotations import SPLITS, Split
from loc_keras.data.formats.listing import split_of
from loc_keras.data.formats.parsing import (
    Box,
    RowError,
    below,
    corners,
    folder_of,
    numbered_lines,
    quoted,
    read_small,
)
from loc_keras.data.formats.tools import (
    Document,
    Picture,
    box_of,
    ellipse,
    extent,
    floats,
    parsed_json,
    rotated,
    size_of,
)
from loc_keras.data.formats.tools_json import (
    JSON_READERS,
    studio_object,
    studio_picture,
    via_object,
)
from loc_keras.data.formats.voc import text_of, xml_root
from loc_keras.errors import DataError

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
    folder = folder_of(document.path)
    held = [f"model_data/{one}" for one in files.listed(files.join(folder, "model_data"))]
    held = [one for one in (*files.listed(folder), *held) if one.endswith("classes.txt")]
    known = [one for one in _CLASS_FILES if one in held]
    for file in known[:1] or held * (len(held) == 1):
        names = [line.strip() for line in document.text(file).strip().split("\n")]

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
    """Oxford-IIIT Pet: `list.txt`, lists of the splits, and trimaps; a breed is a class."""
    splits: dict[str, Split] = {}
    for file, split in _PET_SPLITS.items():
        splits |= {line.split()[0]: split for _, line in numbered_lines(document.text(file))}

    def picture(row: int, line: str) -> Picture:
        name = line.split(maxsplit=1)[0]
        trimap = files.join(folder_of(document.path), "trimaps", f"{name}.png")
        objects = [(row, (trimap, document.reading.root))]
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


_BOXES = ("bbox", "bboxes", "box", "boxes")
_LABELS = (
    *("categories", "category", "labels", "label", "classes", "class", "names", "name"),
    *("category_id", "label_id", "class_id"),
)
_IMAGES = ("image", "img", "jpg", "png", "picture")
_BATCH = 64

_Rows = Iterator[tuple[int, dict[str, Any]]]


def _huggingface(document: Document) -> Iterator[Picture]:
    """`file_name` and `objects: {bbox: [[x, y, w, h]], categories}` a row, or one plain box."""
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
    folder = folder_of(document.path)
    beside = files.listed(folder)
    if below(document.reading.root, folder) != ".":  # FiftyOne parts labels/ and metadata/.
        other = files.listed(files.join(folder_of(folder), "metadata"))
        beside += [f"../metadata/{file}" for file in other]
    for file in beside:
        if "class-descriptions" in file or posixpath.basename(file) == "classes.csv":
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


_NO_BOX = ("points", "polyline", "tag", "skeleton")


def _cvat(document: Document) -> Iterator[Picture]:
    """`<image name width height><box label xtl ytl xbr ybr/>`, or tracks of boxes by frame.

    Frames of a video have no names; they are looked for as CVAT calls those it exports.
    """
    root = xml_root(document.content(), "annotations")
    for row, image in enumerate(root.findall("image"), 1):
        shapes = [(row, one) for one in image if one.get("label") is not None]
        name, size = image.attrib["name"], size_of(image.get("width"), image.get("height"))
        yield Picture(name, shapes, row, size, split_of(image.get("subset", "")))
    size = size_of(
        root.findtext(".//original_size/width"), root.findtext(".//original_size/height")
    )
    frames: dict[str, list[tuple[int, Element]]] = {}
    for row, track in enumerate(root.findall("track"), 1):
        for shape in track:
            if shape.get("outside") != "1":
                shape.set("label", track.get("label", ""))
                frames.setdefault(f"frame_{int(shape.attrib['frame']):06d}", []).append(
                    (row, shape)
                )
    for name, shapes in sorted(frames.items()):
        yield Picture(name, shapes, shapes[0][0], size, frame=True)


def _cvat_object(shape: Element, _: Picture) -> tuple[str, Box]:
    label, of = shape.attrib["label"], shape.attrib
    if shape.tag in _NO_BOX:
        raise RowError(f"is of the kind {shape.tag}, which has no box", "no_box")
    (turned,) = floats(of.get("rotation", "0"))
    if shape.tag == "ellipse":
        x, y, half_width, half_height = floats(*(of[key] for key in ("cx", "cy", "rx", "ry")))
        return label, ellipse(x, y, half_width, half_height, math.radians(turned))
    if shape.tag == "mask":
        return label, corners(box_of(of[key] for key in ("left", "top", "width", "height")), "xywh")
    if shape.tag == "cuboid":
        corner = ("tl", "bl", "tr", "br")
        points = [(of[f"x{one}{side}"], of[f"y{one}{side}"]) for one in corner for side in (1, 2)]
        return label, extent(points)
    if "points" in of:
        return label, extent(point.split(",") for point in of["points"].split(";"))
    return label, rotated(box_of(of[key] for key in ("xtl", "ytl", "xbr", "ybr")), turned)


def _labelme_web(document: Document) -> Iterator[Picture]:
    """`<filename>`, and an `<object>` with `<polygon><pt><x/><y/></pt>` for each; one an image."""
    root = xml_root(document.content(), "annotation")
    objects = list(enumerate(root.findall("object"), 1))
    size = size_of(text_of(root, "imagesize/ncols"), text_of(root, "imagesize/nrows"))
    yield Picture(text_of(root, "filename") or document.stem, objects, size=size)


def _labelme_web_object(element: Element, _: Picture) -> tuple[str, Box]:
    if text_of(element, "deleted") == "1":
        raise RowError("was deleted in the tool", "no_box")
    points = [(text_of(point, "x"), text_of(point, "y")) for point in element.iter("pt")]
    if not points:
        sides = [text_of(element, f"segm/box/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        return text_of(element, "name"), box_of(sides)
    return text_of(element, "name"), extent(points)


def _dlib(document: Document) -> Iterator[Picture]:
    """`<image file><box top left width height><label>name</label></box>`; some are ignored."""
    root = xml_root(document.content(), "dataset")
    for row, image in enumerate(root.iter("image"), 1):
        boxes = [(row, box) for box in image.findall("box")]
        size = size_of(image.get("width"), image.get("height"))
        yield Picture(image.attrib["file"], boxes, row, size)


def _dlib_object(box: Element, _: Picture) -> tuple[str, Box]:
    if box.get("ignore") == "1":
        raise RowError("is a box that dlib ignores", "no_box")
    sides = box_of(box.attrib[key] for key in ("left", "top", "width", "height"))
    return text_of(box, "label") or "object", corners(sides, "xywh")


READERS: dict[str, Any] = JSON_READERS | {
    "kitti": (_kitti, _kitti_object),
    "bbox_label_tool": (_bbox_label_tool, _bbox_label_tool_object),
    "oxford_pet": (_pet, _pet_object),
    "aircraft": (_aircraft, _aircraft_object),
    "celeba": (_celeba, lambda sides, _: ("face", corners(box_of(sides), "xywh"))),
    "keras_yolo": (_keras_yolo, _keras_yolo_object),
    "huggingface": (_huggingface, _huggingface_object),
    "via_csv": (_via_csv, _via_csv_object),
    "openimages": (_openimages, _openimages_object),
    "label_studio_csv": (_studio_csv, studio_object),
    "cvat": (_cvat, _cvat_object),
    "labelme_web": (_labelme_web, _labelme_web_object),
    "dlib": (_dlib, _dlib_object),
}
