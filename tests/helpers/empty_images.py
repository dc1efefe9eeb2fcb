"""Small data sets on disk in which some images show no object, in each format that can say so."""

import json
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import tensorflow as tf
from PIL import Image

WIDTH, HEIGHT = 48, 40
COLOURS = {"blue": (40, 60, 230), "red": (230, 50, 40)}
FORMATS = ("csv", "voc", "coco", "yolo", "tfrecord")


class Sample(NamedTuple):
    """An image file: its name, its class or None, its box in whole px or None."""

    name: str
    label: str | None
    box: tuple[int, int, int, int] | None


def samples(objects=8, empty=4, labels=("blue", "red")):
    """Classes in turn, boxes all different, and empty images behind them."""
    found = []
    for index in range(objects):
        left, top = 2 + 3 * index % 20, 1 + 5 * index % 17
        box = (left, top, left + 16 + index % 5, top + 14 + index % 3)
        found.append(Sample(f"thing{index:02d}.png", labels[index % len(labels)], box))
    return found + [Sample(f"empty{index:02d}.png", None, None) for index in range(empty)]


def draw(folder, several):
    """Writes a PNG for each: grey noise, and the object as a square of its class's colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(several):
        pixels = np.random.default_rng(number).integers(90, 130, (HEIGHT, WIDTH, 3), np.uint8)
        if one.box is not None:
            x1, y1, x2, y2 = one.box
            pixels[y1:y2, x1:x2] = COLOURS[one.label]
        Image.fromarray(pixels).save(folder / one.name)


def fractions(box):
    """A box in px as fractions of the image's sides."""
    return [side / (WIDTH, HEIGHT)[place % 2] for place, side in enumerate(box)]


def write_set(folder, kind, several):
    """Writes a data set of one split; gives the config's `data.source`."""
    source = {"format": kind, "path": str(folder)}
    draw(Path(folder) / "images" / "train", several)
    return source | _WRITERS[kind](Path(folder), several)


def _csv(folder, several):
    rows = [
        ",".join([one.name, one.label or "", *(map(str, one.box) if one.box else ["", "", "", ""])])
        for one in several
    ]
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    files = {"train": {"csv": "boxes.csv", "images": "images/train"}, "val": None, "test": None}
    return {"csv": {"units": "pixel", "splits": files}}


def _voc(folder, several):
    for one in several:
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = one.name
        if one.box is not None:
            thing = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(thing, "name").text = one.label
            box = ElementTree.SubElement(thing, "bndbox")
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), one.box, strict=True):
                ElementTree.SubElement(box, side).text = str(value)
        path = folder / "images" / "train" / one.name.replace(".png", ".xml")
        path.write_bytes(ElementTree.tostring(root))
    return {"voc": {"splits": {"train": {"annotations": "images/train"}}}}


def _coco(folder, several):
    names = sorted({one.label for one in several if one.label})
    annotations = [
        {
            "id": number,
            "image_id": number,
            "category_id": names.index(one.label) + 1,
            "bbox": [one.box[0], one.box[1], one.box[2] - one.box[0], one.box[3] - one.box[1]],
        }
        for number, one in enumerate(several)
        if one.box is not None
    ]
    content = {
        "images": [{"id": number, "file_name": one.name} for number, one in enumerate(several)],
        "annotations": annotations,
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(names)],
    }
    (folder / "train.json").write_text(json.dumps(content))
    return {"coco": {"splits": {"train": {"annotations": "train.json", "images": "images/train"}}}}


def _yolo(folder, several):
    """The first empty image has an empty label file, the others have none."""
    names = sorted({one.label for one in several if one.label})
    labels = folder / "labels" / "train"
    labels.mkdir(parents=True)
    first_empty = next((one for one in several if one.box is None), None)
    for one in several:
        path = labels / one.name.replace(".png", ".txt")
        if one.box is not None:
            x1, y1, x2, y2 = fractions(one.box)
            numbers = (names.index(one.label), (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
            path.write_text(" ".join(map(str, numbers)) + "\n")
        elif one is first_empty:
            path.write_text("")
    listed = "".join(f"  {number}: {name}\n" for number, name in enumerate(names))
    (folder / "data.yaml").write_text(f"train: images/train\nnames:\n{listed}")
    return {}


def _tfrecord(folder, several):
    with tf.io.TFRecordWriter(str(folder / "train.tfrecord")) as writer:
        for one in several:
            content = (folder / "images" / "train" / one.name).read_bytes()
            sides = fractions(one.box) if one.box else []
            feature = {
                "image/encoded": _bytes([content]),
                "image/filename": _bytes([one.name.encode()]),
                "image/object/class/text": _bytes([one.label.encode()] if one.label else []),
            }
            for place, side in enumerate(("xmin", "ymin", "xmax", "ymax")):
                value = tf.train.FloatList(value=sides[place : place + 1])
                feature[f"image/object/bbox/{side}"] = tf.train.Feature(float_list=value)
            features = tf.train.Features(feature=feature)
            writer.write(tf.train.Example(features=features).SerializeToString())
    return {"tfrecord": {"splits": {"train": "train.tfrecord"}}}


def _bytes(values):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


_WRITERS = {"csv": _csv, "voc": _voc, "coco": _coco, "yolo": _yolo, "tfrecord": _tfrecord}
