"""XML of labelling tools other than VOC: CVAT, the web LabelMe, dlib."""

import math
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element  # The type alone; text is parsed by defusedxml.

from loc_keras.data.formats.listing import split_of
from loc_keras.data.formats.parsing import Box, RowError, corners
from loc_keras.data.formats.tools import (
    Document,
    Picture,
    box_of,
    ellipse,
    extent,
    floats,
    rotated,
    size_of,
)
from loc_keras.data.formats.voc import text_of, xml_root

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


READERS: dict[str, Any] = {
    "cvat": (_cvat, _cvat_object),
    "labelme_web": (_labelme_web, _labelme_web_object),
    "dlib": (_dlib, _dlib_object),
}
