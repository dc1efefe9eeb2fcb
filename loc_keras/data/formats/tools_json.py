"""JSON of labelling tools: LabelMe, CreateML, VGG Image Annotator, VoTT, Label Studio, ..."""

import base64
import math
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from loc_keras.data.formats.listing import split_of
from loc_keras.data.formats.parsing import Box, RowError, corners, is_image_name, quoted
from loc_keras.data.formats.tools import (
    Document,
    Picture,
    around,
    box_of,
    ellipse,
    extent,
    floats,
    size_of,
)


def _numbered(entries: Any) -> list[tuple[int, Any]]:
    """Entries of a list with their rows, from 1."""
    if not isinstance(entries, list):
        raise RowError(f"holds {quoted(entries)}, expected a list", "syntax")
    return list(enumerate(entries, 1))


def _labelme(document: Document) -> Iterator[Picture]:
    """`{"shapes": [{"label", "points", "shape_type"}], "imagePath", "imageData"}`, one an image."""
    tree = document.json()
    if isinstance(tree, dict) and "shapes" not in tree:
        return  # Another file of JSON beside.
    data = tree.get("imageData")
    yield Picture(
        tree["imagePath"],
        _numbered(tree["shapes"]),
        size=size_of(tree.get("imageWidth"), tree.get("imageHeight")),
        content=(lambda: base64.b64decode(data, validate=True)) if data else None,
    )


def _labelme_object(shape: dict[str, Any], _: Picture) -> tuple[str, Box]:
    form, points = shape.get("shape_type") or "polygon", shape["points"]
    if form in ("point", "points", "line", "linestrip"):
        raise RowError(f"is a {form}, around which there is no box", "no_box")
    if form == "circle":
        (x, y), (rim_x, rim_y) = (floats(*point) for point in points)
        radius = math.hypot(rim_x - x, rim_y - y)
        return shape["label"], around(x, y, radius, radius)
    return shape["label"], extent(points)


def _createml(document: Document) -> Iterator[Picture]:
    """`[{"image", "annotations": [{"label", "coordinates": {"x", "y", "width", "height"}}]}]`."""

    def picture(row: int, entry: dict[str, Any]) -> Picture:
        name = entry["image"] if "image" in entry else entry["imagefilename"]
        objects = entry["annotations"] if "annotations" in entry else entry["annotation"]
        return Picture(name, [(row, one) for _, one in _numbered(objects)], row)

    return document.parsed(_numbered(document.json()), picture)


def _createml_object(entry: dict[str, Any], _: Picture) -> tuple[str, Box]:
    sides = entry["coordinates"]
    box = box_of([sides["x"], sides["y"], sides["width"], sides["height"]])
    return entry["label"], corners(box, "cxcywh")


_CLASS_NAMES = ("class", "label", "category", "name", "type", "object", "species", "class_name")


def _via(document: Document) -> Iterator[Picture]:
    """`{key: {"filename", "regions": [{"shape_attributes", "region_attributes"}]}}`, or project."""
    tree = document.json()
    entries = tree.get("_via_img_metadata", tree)

    def picture(row: int, entry: dict[str, Any]) -> Picture:
        regions = entry["regions"]
        # VIA 1 writes a mapping.
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        return Picture(entry["filename"], [(row, one) for _, one in _numbered(regions)], row)

    return document.parsed(enumerate(entries.values(), 1), picture)


def via_object(region: dict[str, Any], _: Picture) -> tuple[Any, Box]:
    """Class and box of a region of the VGG Image Annotator."""
    shape, form = region["shape_attributes"], region["shape_attributes"]["name"]
    if form == "point":
        raise RowError("is a point, around which there is no box", "no_box")
    if form == "rect":
        box = corners(box_of(shape[key] for key in ("x", "y", "width", "height")), "xywh")
    elif form in ("circle", "ellipse"):
        x, y = floats(shape["cx"], shape["cy"])
        radii = floats(*(shape[key] for key in (("r", "r") if form == "circle" else ("rx", "ry"))))
        box = ellipse(x, y, *radii, *floats(shape.get("theta", 0)))
    else:
        box = extent(zip(shape["all_points_x"], shape["all_points_y"], strict=True))
    given = {key: value for key, value in region["region_attributes"].items() if value}
    key = next((name for name in _CLASS_NAMES if name in given), "")
    if not key and len(given) != 1:
        raise RowError(f"has {len(given)} attributes, none of them called class", "label")
    label = given[key or next(iter(given))]
    if isinstance(label, dict):  # Boxes to tick.
        (label,) = [one for one, ticked in label.items() if ticked] or [""]
    return label, box


def _via3(document: Document) -> Iterator[Picture]:
    """`{"file": {id: {"fname"}}, "view": {id: {"fid_list"}}, "metadata": {id: {"vid", "xy"}}}`."""
    tree = document.json()
    found: dict[str, list[tuple[int, Any]]] = {vid: [] for vid in tree["view"]}
    for row, one in enumerate(tree["metadata"].values(), 1):
        if one["xy"]:  # Else it speaks of all of a file.
            found[one["vid"]].append((row, (one, tree["attribute"])))

    def picture(row: int, vid: str) -> Picture:
        file = tree["file"][tree["view"][vid]["fid_list"][0]]
        return Picture(file["fname"], found[vid], row)

    return document.parsed(enumerate(found, 1), picture)


_SHAPES = {
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
    7: ("polygon", ()),
    8: ("polygon", ()),  # Four points on the sides of the box.
}


def _via3_object(entry: tuple[dict[str, Any], dict[str, Any]], picture: Picture) -> tuple[Any, Box]:
    region, attributes = entry
    form, *numbers = floats(*region["xy"])
    if form not in _SHAPES:
        raise RowError(f"is a shape of the kind {form:g}, around which there is no box", "no_box")
    name, keys = _SHAPES[int(form)]
    shape: dict[str, Any] = {"all_points_x": numbers[::2], "all_points_y": numbers[1::2]}
    if keys:
        shape = dict(zip(keys, numbers, strict=True))
    named = {
        attributes[key]["aname"]: attributes[key]["options"].get(value, value)
        for key, value in region["av"].items()
    }
    old = {"shape_attributes": {"name": name, **shape}, "region_attributes": named}
    return via_object(old, picture)


def _vott(document: Document) -> Iterator[Picture]:
    """`{"asset": {"name", "size"}, "regions": [{"tags", "boundingBox"}]}`, or `assets` of these."""
    tree = document.json()

    def picture(row: int, entry: dict[str, Any]) -> Picture:
        size = entry["asset"].get("size") or {}
        objects = [(row, one) for _, one in _numbered(entry["regions"])]
        sides = size_of(size.get("width"), size.get("height"))
        return Picture(unquote(entry["asset"]["name"]), objects, row, sides)

    return document.parsed(
        enumerate(tree["assets"].values() if "assets" in tree else [tree], 1), picture
    )


def _vott_object(region: dict[str, Any], _: Picture) -> tuple[str, Box]:
    if len(region["tags"]) != 1:
        raise RowError(f"has {len(region['tags'])} classes, expected one", "label")
    box = region["boundingBox"]
    sides = box_of(box[key] for key in ("left", "top", "width", "height"))
    return region["tags"][0], corners(sides, "xywh")


def _studio(document: Document) -> Iterator[Picture]:
    """A list of tasks, as JSON or JSON-min."""
    tasks = document.json()
    return document.parsed(_numbered(tasks), lambda row, task: _task(document, row, task))


def _task(document: Document, row: int, task: dict[str, Any]) -> Picture:
    if "data" not in task:
        return studio_picture(row, task)
    made = [one for one in task.get("annotations", task.get("completions", ()))]
    made = [one for one in made if not one.get("was_cancelled")]
    if not made:
        raise RowError("is a task that was not labelled", "no_object")
    if len(made) > 1:
        reason = f"is a task with {len(made)} annotations, of which one is used"
        document.reading.fault(document.path, row, reason, "duplicate_row")
    chosen = next((one for one in made if one.get("ground_truth")), made[0])
    return studio_picture(row, {**task["data"], "result": chosen["result"]})


def studio_picture(row: int, task: dict[str, Any]) -> Picture:
    """The image of a task of Label Studio and its regions, whatever the columns are called."""
    texts = [value for value in task.values() if isinstance(value, str)]
    named = task.get("image") or next(filter(_names_image, texts), None)
    if named and "?d=" in named:  # A file of the disk that it serves.
        named = unquote(named)
    regions = [one for value in task.values() if isinstance(value, list) for one in value]
    regions = [{**one, **one.get("value", {})} for one in regions if isinstance(one, dict)]
    # Controls that are parted from their labels write each region twice.
    labelled = {one.get("id") for one in regions if _label_keys(one)}
    regions = [one for one in regions if _label_keys(one) or one.get("id") not in labelled]
    regions = [one for one in regions if {"x", "points", "rle"} & one.keys()]
    first = regions[0] if regions else {}
    size = size_of(first.get("original_width"), first.get("original_height"))
    return Picture(named, [(row, one) for one in regions], row, size)


def _names_image(text: str) -> bool:
    return is_image_name(text.partition("?")[0]) or is_image_name(text)


def _label_keys(region: dict[str, Any]) -> list[str]:
    return [key for key in region if key.endswith("labels") and isinstance(region[key], list)]


def studio_object(region: dict[str, Any], _: Picture) -> tuple[Any, Box]:
    """Class and box, in fractions, of a region of Label Studio, whose numbers are percent."""
    labels = [label for key in _label_keys(region) for label in region[key]]
    if len(labels) != 1:
        raise RowError(f"has {len(labels)} classes, expected one", "label")
    width, height = floats(region["original_width"], region["original_height"])
    if "points" in region:
        box = extent(region["points"])
        return labels[0], (box[0] / 100, box[1] / 100, box[2] / 100, box[3] / 100)
    if not {"height", "radiusX"} & region.keys() or "rle" in region:
        raise RowError(f"is of the kind {quoted(region.get('type'))}, which has no box", "no_box")
    x, y = floats(region["x"], region["y"])
    x, y = x / 100 * width, y / 100 * height
    turned = math.radians(*floats(region.get("rotation", 0)))
    if "radiusX" in region:
        radius_x, radius_y = floats(region["radiusX"], region["radiusY"])
        box = ellipse(x, y, radius_x / 100 * width, radius_y / 100 * height, turned)
    else:
        # It is turned about its upper left corner.
        across, down = floats(region["width"], region["height"])
        across, down = across / 100 * width, down / 100 * height
        cos, sin = math.cos(turned), math.sin(turned)
        ends = ((0, 0), (across, 0), (0, down), (across, down))
        box = extent((x + dx * cos - dy * sin, y + dx * sin + dy * cos) for dx, dy in ends)
    return labels[0], (box[0] / width, box[1] / height, box[2] / width, box[3] / height)


def _datumaro(document: Document) -> Iterator[Picture]:
    """`{"categories": {"label": {"labels"}}, "items": [{"id", "annotations", "image"}]}`."""
    tree = document.json()
    names = [one["name"] for one in tree["categories"]["label"]["labels"]]

    def picture(row: int, item: dict[str, Any]) -> Picture:
        image = item.get("image", {})
        height, width = image.get("size") or (0, 0)
        objects = [(row, (one, names)) for one in item["annotations"]]
        # An id holds the folders, and a path those that the images had once.
        return Picture(item["id"], objects, row, size_of(width, height))

    return document.parsed(_numbered(tree["items"]), picture)


def _datumaro_object(entry: tuple[dict[str, Any], list[str]], _: Picture) -> tuple[str, Box]:
    one, names = entry
    if one["type"] in ("bbox", "ellipse"):
        box = corners(box_of(one["bbox"]), "xywh") if "bbox" in one else box_of(one["points"])
    elif one["type"] == "polygon":
        box = extent(zip(one["points"][::2], one["points"][1::2], strict=True))
    else:
        raise RowError(f"is of the kind {quoted(one['type'])}, which is not read", "no_box")
    return names[one["label_id"]], box


def _panoptic(document: Document) -> Iterator[Picture]:
    """COCO whose annotations are of whole images: `"segments_info": [{"category_id", "bbox"}]`."""
    tree = document.json()
    images = {one["id"]: one for one in tree["images"]}
    categories = {one["id"]: one for one in tree["categories"]}
    # datumaro calls every category stuff.
    some = any(one.get("isthing", 1) for one in categories.values())
    stuff = {key for key, one in categories.items() if some and not one.get("isthing", 1)}

    def picture(row: int, entry: dict[str, Any]) -> Picture:
        image = images[entry["image_id"]]
        size = size_of(image.get("width"), image.get("height"))
        objects = [(row, (one, categories, stuff)) for one in entry["segments_info"]]
        return Picture(image["file_name"], objects, row, size)

    return document.parsed(_numbered(tree["annotations"]), picture)


def _panoptic_object(entry: Any, _: Picture) -> tuple[str, Box]:
    segment, categories, stuff = entry
    if segment.get("iscrowd"):
        raise RowError("is a crowd", "crowd")
    name = categories[segment["category_id"]]["name"]
    if segment["category_id"] in stuff:
        raise RowError(f"is of {quoted(name)}, which is stuff and no thing", "no_box")
    return name, corners(box_of(segment["bbox"]), "xywh")


def _automl(document: Document) -> Iterator[Picture]:
    """`{"imageGcsUri", "boundingBoxAnnotations": [{"displayName", "xMin", ...}]}` a line."""

    def picture(row: int, entry: dict[str, Any]) -> Picture:
        use = entry.get("dataItemResourceLabels", {}).get("aiplatform.googleapis.com/ml_use", "")
        objects = [(row, one) for one in entry.get("boundingBoxAnnotations", ())]
        return Picture(entry["imageGcsUri"], objects, row, split=split_of(use))

    return document.parsed(document.json_lines(), picture)


def _automl_object(entry: dict[str, Any], _: Picture) -> tuple[str, Box]:
    # A side at 0 is left out.
    sides = (entry.get(key, 0) for key in ("xMin", "yMin", "xMax", "yMax"))
    return entry["displayName"], box_of(sides)


def _sagemaker(document: Document) -> Iterator[Picture]:
    """`{"source-ref", NAME: {"annotations", "image_size"}, "NAME-metadata": {"class-map"}}`."""

    def picture(row: int, entry: dict[str, Any]) -> Picture:
        jobs = [key for key, one in entry.items() if isinstance(one, dict) and "annotations" in one]
        if not jobs:
            raise KeyError("annotations")
        key = jobs[0]
        names = entry[f"{key}-metadata"]["class-map"]
        size = (entry[key].get("image_size") or [{}])[0]
        objects = [(row, (one, names)) for one in entry[key]["annotations"]]
        return Picture(
            entry["source-ref"], objects, row, size_of(size.get("width"), size.get("height"))
        )

    return document.parsed(document.json_lines(), picture)


def _sagemaker_object(entry: tuple[dict[str, Any], dict[str, str]], _: Picture) -> tuple[str, Box]:
    one, names = entry
    box = box_of(one[key] for key in ("left", "top", "width", "height"))
    return names[str(one["class_id"])], corners(box, "xywh")


def _darwin(document: Document) -> Iterator[Picture]:
    """Darwin 2.0: `{"item": {"name", "slots"}, "annotations": [{"name", "bounding_box"}]}`."""
    tree = document.json()
    if isinstance(tree, dict) and "item" not in tree:
        return  # Another file of JSON beside.
    item = tree["item"]
    slot = (item.get("slots") or [{}])[0]
    size = size_of(slot.get("width"), slot.get("height"))
    yield Picture(item["name"], _numbered(tree["annotations"]), size=size)


def _darwin_object(entry: dict[str, Any], _: Picture) -> tuple[str, Box]:
    if "bounding_box" not in entry:
        raise RowError("has no bounding_box", "no_box")
    box = box_of(entry["bounding_box"][key] for key in ("x", "y", "w", "h"))
    return entry["name"], corners(box, "xywh")


JSON_READERS: dict[str, Any] = {
    "labelme": (_labelme, _labelme_object),
    "createml": (_createml, _createml_object),
    "via": (_via, via_object),
    "via3": (_via3, _via3_object),
    "vott": (_vott, _vott_object),
    "label_studio": (_studio, studio_object),
    "datumaro": (_datumaro, _datumaro_object),
    "coco_panoptic": (_panoptic, _panoptic_object),
    "darwin": (_darwin, _darwin_object),
    "automl": (_automl, _automl_object),
    "sagemaker": (_sagemaker, _sagemaker_object),
}
