"""Hand-made records, and readers of converted folders that share no code with the package."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import tensorflow as tf
from PIL import Image
from pycocotools.coco import COCO
from ruamel.yaml import YAML

from loc_keras.data.resolve import Records

CLASSES = ["Käfer", "no", 'it\'s a "dog", 2']
"""Not ASCII; a truth value in YAML 1.1; quotes and a comma."""


class Seen(NamedTuple):
    """One converted picture: file name, class name, box in px, pixels."""

    split: str
    file: str
    label: str
    box: tuple[float, float, float, float]
    pixels: np.ndarray


def drawn(width, height, box, *, colour=True):
    """uint8 (H, W[, 3]) of 40 with the box (whole px) filled with 200."""
    image = np.full((height, width, 3) if colour else (height, width), 40, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 200
    return image


def visible(pixels):
    """(x1, y1, x2, y2) of what is bright, continuous edges."""
    bright = (pixels if pixels.ndim == 2 else pixels[..., 0]) > 120
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def stored_as(upright, orientation):
    """The pixels that a file of an EXIF orientation holds for an upright picture.

    From the standard's table (TIFF 6.0, tag 274): for each value the visual side that the 0th
    row is, and the one that the 0th column is.
    """
    row, column = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    height, width = upright.shape[:2]
    swapped = row in ("left", "right")
    stored = np.empty((width, height) if swapped else (height, width), upright.dtype)
    for r in range(stored.shape[0]):
        for c in range(stored.shape[1]):
            place = {row: r, column: c}
            y = place["top"] if "top" in place else height - 1 - place["bottom"]
            x = place["left"] if "left" in place else width - 1 - place["right"]
            stored[r, c] = upright[y, x]
    return stored


def save(path, pixels, orientation=1, **options):
    """Writes pixels as a file of the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    Image.fromarray(pixels).save(path, **options)
    return path


def row(path, size, label, box, **more):
    """One record as a mapping; size is (width, height) and box px of the resulting picture."""
    return {
        "paths": str(path),
        "offsets": 0,
        "lengths": -1,
        "orientations": 1,
        "windows": (0, 0, 0, 0),
        "sizes": size[::-1],
        "labels": label,
        "boxes": np.array(box) / [*size, *size],
        "names": Path(path).name,
        "files": "labels.csv",
        "rows": 1,
        "groups": "",
        **more,
    }


def records(rows, class_names=CLASSES):
    """Records of `row` mappings, numbered from 1."""
    kinds = {
        "offsets": np.int64,
        "lengths": np.int64,
        "orientations": np.uint8,
        "windows": np.int32,
        "sizes": np.int32,
        "labels": np.int32,
        "boxes": np.float32,
        "rows": np.int64,
    }
    numbered = [{**one, "rows": number} for number, one in enumerate(rows, 1)]
    columns = {
        name: np.array([one[name] for one in numbered], kinds.get(name, object))
        for name in numbered[0]
    }
    return Records(**columns, class_names=list(class_names))


def seen(target, out):
    """Everything in a converted folder, sorted by split and box."""
    found = {"csv": _csv, "voc": _voc, "coco": _coco, "yolo": _yolo, "tfrecord": _tfrecord}
    reader = found.get(target) or partial(_tool, _TOOLS.get(target))
    return sorted(reader(Path(out)), key=lambda one: (one.split, one.box))


def _pixels(source):
    with Image.open(source) as image:
        assert image.getexif().get(0x0112, 1) == 1, "others would turn it"
        return np.asarray(image.convert("L") if image.mode not in ("L", "RGB") else image)


def _csv(out):
    names = {"train": "training", "val": "validation", "test": "test"}
    for split, name in names.items():
        table = out / f"{name}_data.csv"
        if table.exists():
            with table.open(encoding="utf-8", newline="") as file:
                for image, label, *box in csv.reader(file):
                    pixels = _pixels(out / f"{name}_images" / image)
                    height, width = pixels.shape[:2]
                    scaled = tuple(np.array(box, float) * [width, height, width, height])
                    yield Seen(split, image, label, scaled, pixels)


def _voc(out):
    for listed in (out / "ImageSets" / "Main").iterdir():
        for stem in listed.read_text(encoding="utf-8").splitlines():
            root = ElementTree.parse(out / "Annotations" / f"{stem}.xml").getroot()
            image = root.findtext("filename")
            pixels = _pixels(out / root.findtext("folder") / image)
            declared = [int(root.findtext(f"size/{side}")) for side in ("height", "width", "depth")]
            assert declared == [*pixels.shape, 1][:3]
            (one,) = root.findall("object")
            box = tuple(
                float(one.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            yield Seen(listed.stem, image, one.findtext("name"), box, pixels)


def _coco(out):
    for file in (out / "annotations").iterdir():
        split = file.stem.removeprefix("instances_")
        coco = COCO(str(file))
        names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
        assert sorted(names) == list(range(1, len(names) + 1))
        for image in coco.loadImgs(coco.getImgIds()):
            (one,) = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
            pixels = _pixels(out / "images" / split / image["file_name"])
            assert pixels.shape[:2] == (image["height"], image["width"])
            x, y, w, h = one["bbox"]
            assert abs(one["area"] - w * h) < 1e-3
            label = names[one["category_id"]]
            yield Seen(split, image["file_name"], label, (x, y, x + w, y + h), pixels)


def _yolo(out):
    described = YAML(typ="safe", pure=True).load((out / "data.yaml").read_text(encoding="utf-8"))
    for split in ("train", "val", "test"):
        if split not in described:
            continue
        for image in sorted((out / described[split]).iterdir()):
            labels = str(image.parent).replace("images", "labels")
            (line,) = (Path(labels) / f"{image.stem}.txt").read_text().splitlines()
            label, *box = line.split()
            cx, cy, w, h = map(float, box)
            pixels = _pixels(image)
            height, width = pixels.shape[:2]
            corners = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
            scaled = tuple(np.array(corners) * [width, height, width, height])
            yield Seen(split, image.name, described["names"][int(label)], scaled, pixels)


def _tfrecord(out):
    one = tf.io.FixedLenFeature
    features = {
        "image/height": one([], tf.int64),
        "image/width": one([], tf.int64),
        "image/filename": one([], tf.string),
        "image/source_id": one([], tf.string),
        "image/encoded": one([], tf.string),
        "image/format": one([], tf.string),
        "image/object/class/text": one([1], tf.string),
        "image/object/class/label": one([1], tf.int64),
        **{
            f"image/object/bbox/{side}": one([1], tf.float32)
            for side in ("xmin", "xmax", "ymin", "ymax")
        },
    }
    for file in sorted(out.glob("*.tfrecord")):
        for raw in tf.data.TFRecordDataset(str(file)):
            parsed = {
                key: value.numpy()
                for key, value in tf.io.parse_single_example(raw, features).items()
            }
            pixels = tf.io.decode_image(parsed["image/encoded"]).numpy()
            assert pixels.shape[:2] == (parsed["image/height"], parsed["image/width"])
            assert parsed["image/format"] in (b"jpeg", b"png")
            height, width = pixels.shape[:2]
            box = [
                parsed[f"image/object/bbox/{side}"][0] for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            label = parsed["image/object/class/text"][0].decode()
            assert CLASSES.index(label) + 1 == parsed["image/object/class/label"][0]
            scaled = tuple(np.array(box, float) * [width, height, width, height])
            name = parsed["image/filename"].decode()
            yield Seen(file.name.partition("-")[0], name, label, scaled, pixels)


def _tool(objects, out):
    """Folders of splits; `objects` gives image, class and box (x, y, width, height)."""
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        beside = folder / "images" if (folder / "images").exists() else folder
        images = {path.name for path in beside.iterdir() if _is_image(path)}
        for image, label, (x, y, width, height), size in objects(folder):
            pixels = _pixels(beside / image)
            assert size is None or tuple(size) == pixels.shape[1::-1]
            yield Seen(folder.name, image, label, (x, y, x + width, y + height), pixels)
            images.remove(image)
        assert not images


def _is_image(path):
    return path.suffix not in (".json", ".jsonl", ".csv", ".xml")


def _labelme(folder):
    for path in folder.glob("*.json"):
        one = read_json(path)
        (shape,) = one["shapes"]
        (x1, y1), (x2, y2) = shape["points"]
        assert shape["shape_type"] == "rectangle"
        size = one["imageWidth"], one["imageHeight"]
        yield one["imagePath"], shape["label"], (x1, y1, x2 - x1, y2 - y1), size


def _createml(folder):
    for one in read_json(folder / "_annotations.createml.json"):
        (found,) = one["annotations"]
        x, y, width, height = (found["coordinates"][key] for key in ("x", "y", "width", "height"))
        yield one["image"], found["label"], (x - width / 2, y - height / 2, width, height), None


def _via_region(shape, attributes):
    assert shape["name"] == "rect"
    (label,) = attributes.values()
    return label, tuple(shape[key] for key in ("x", "y", "width", "height")), None


def _via(folder):
    for key, one in read_json(folder / "via_region_data.json").items():
        assert key == f"{one['filename']}{(folder / one['filename']).stat().st_size}"
        (region,) = one["regions"]
        yield one["filename"], *_via_region(*region.values())


def _via_csv(folder):
    with (folder / "via_region_data.csv").open(encoding="utf-8", newline="") as file:
        for one in csv.DictReader(file):
            assert int(one["file_size"]) == (folder / one["filename"]).stat().st_size
            shapes = ("region_shape_attributes", "region_attributes")
            yield one["filename"], *_via_region(*(json.loads(one[key]) for key in shapes))


def _cvat(folder):
    for image in ElementTree.parse(folder / "annotations.xml").getroot().iter("image"):
        (box,) = image
        x1, y1, x2, y2 = (float(box.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
        size = int(image.get("width")), int(image.get("height"))
        yield image.get("name"), box.get("label"), (x1, y1, x2 - x1, y2 - y1), size


def _huggingface(folder):
    for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        (box,), (label,) = one["objects"]["bbox"], one["objects"]["categories"]
        yield one["file_name"], label, box, None


_TOOLS = {
    "labelme": _labelme,
    "createml": _createml,
    "via": _via,
    "via_csv": _via_csv,
    "cvat": _cvat,
    "huggingface": _huggingface,
}


def tree(folder):
    """Every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))
