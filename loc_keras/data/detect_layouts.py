"""Detection of published layouts, of YOLO and of TFRecord: by the names of their files."""

import json
import posixpath
import re
from collections.abc import Iterator

from loc_keras.data import files
from loc_keras.data.detect_guess import Guess
from loc_keras.data.detect_listing import Listing, by_split, depth_of, shared_folder
from loc_keras.data.readers.parsing import below, folder_of, number

_GTSRB_FOLDERS = ("Final_Training/Images", "Training", "Train")
_GTSRB_TABLE = re.compile(r"(?:^|/)(\d+)/GT-\1\.csv$")
_YOLO_KEYS = (
    re.compile(r"^train\s*:", re.MULTILINE),
    re.compile(r"^(?:names|nc)\s*:", re.MULTILINE),
)
_CLASS_FILES = ("classes.txt", "obj.names", "classes.names", "labels.txt")
_TRIED_LABELS = 20
_LABEL_FIELDS = 5
_CUB_FILES = ("bounding_boxes.txt", "images.txt", "image_class_labels.txt", "classes.txt")


def published_layouts(listing: Listing) -> Iterator[Guess]:
    """Readings as Tiny ImageNet, ImageNet-LOC, CUB-200 and GTSRB."""
    for path in listing.named("wnids.txt"):
        if posixpath.join(path, "train") in listing.folders:
            yield Guess("tiny_imagenet", listing.path(path), why="wnids.txt and a folder train")
    for path in listing.named("LOC_synset_mapping.txt"):
        yield Guess("imagenet_loc", listing.path(path), why="LOC_synset_mapping.txt")
    for path in listing.named(_CUB_FILES[0]):
        if all(path in listing.named(name) for name in _CUB_FILES[1:]):
            yield Guess("cub", listing.path(path), why=f"{_CUB_FILES[0]} and {_CUB_FILES[1]}")
    yield from _gtsrb(listing)


def _gtsrb(listing: Listing) -> Iterator[Guess]:
    for path in listing.named("Train.csv"):
        if "Roi.X1" in listing.head(posixpath.join(path, "Train.csv")):
            yield Guess("gtsrb", listing.path(path), why="Train.csv with the column Roi.X1")
    roots: dict[str, str] = {}
    for table in listing.files(".csv"):
        match = _GTSRB_TABLE.search(table)
        parent = table[: match.start()] if match else None
        if parent is not None:
            inner = next((one for one in _GTSRB_FOLDERS if f"/{parent}".endswith(f"/{one}")), None)
            if inner is not None:
                roots.setdefault(parent.removesuffix(inner).rstrip("/"), table)
    for path, table in roots.items():
        yield Guess("gtsrb", listing.path(path), why=table)


def yolo(listing: Listing) -> Iterator[Guess]:
    """Readings by a YAML file that names training images and classes, or by label files alone."""
    for name in listing.files(".yaml", ".yml"):
        text = listing.head(name)
        if all(key.search(text) for key in _YOLO_KEYS):
            yield Guess("yolo", listing.root, {"yaml": name}, why=f"{name} with train and names")
    yield from _yolo_by_labels(listing)


def _yolo_by_labels(listing: Listing) -> Iterator[Guess]:
    labelled = [path for path in listing.folders if _has_labels(listing, path)]
    images = {path: _images_of(listing, path) for path in labelled}
    folders = [path for path in images.values() if path is not None]
    groups = by_split(folders)
    if not groups:
        return
    splits = {
        split: shared_folder(found, folders) or "." for split, found in groups.items() if found
    }
    names = [
        posixpath.join(path, name)
        for name in _CLASS_FILES
        for path in sorted(listing.named(name), key=depth_of)
    ]
    source = {"class_names_file": names[0]} if names else {}
    notes = () if names else ("no file names the classes (classes.txt), so numbers do.",)
    why = f"label files in {', '.join(path or '.' for path in labelled[:3])}"
    yield Guess("yolo", listing.root, {"splits": splits}, why=why, notes=notes, source=source)


def _has_labels(listing: Listing, path: str) -> bool:
    """Whether the first text files of a folder hold a class and numbers of a box."""
    names = [one for one in listing.folders[path].names.get(".txt", ()) if one not in _CLASS_FILES]
    lines = [
        line.split()
        for name in names[:_TRIED_LABELS]
        for line in listing.head(posixpath.join(path, name)).splitlines()
    ]
    lines = [fields for fields in lines if fields]
    return bool(lines) and all(
        len(fields) >= _LABEL_FIELDS
        and fields[0].isdigit()
        and all(number(field) is not None for field in fields)
        for fields in lines
    )


def _images_of(listing: Listing, labels: str) -> str | None:
    """The folder of the images of a label folder: `images` in place of `labels`, or itself."""
    head, sign, tail = f"/{labels}/".rpartition("/labels/")
    other = f"{head}/images/{tail}".strip("/") if sign else labels
    return next((path for path in (other, labels) if _holds_images(listing, path)), None)


def _holds_images(listing: Listing, path: str) -> bool:
    return path in listing.folders and listing.folders[path].images > 0


def tfds(listing: Listing) -> Iterator[Guess]:
    """Readings as prepared sets of TensorFlow Datasets."""
    for path in listing.named("dataset_info.json"):
        try:
            info = json.loads(listing.head(posixpath.join(path, "dataset_info.json")))
            parts = [info["name"], info.get("configName"), info["version"]]
        except (ValueError, TypeError, KeyError):
            continue
        parts = [part for part in parts if part]
        folder = files.join(listing.root, path) if path else listing.root.rstrip("/")
        if not all(isinstance(part, str) for part in parts) or not folder.endswith(
            "/".join(["", *parts])
        ):
            continue
        for _ in parts:
            folder = folder_of(folder)
        splits = {one["name"] for one in info.get("splits", ()) if isinstance(one, dict)}
        wanted = {"train": "train", "test": "test" if "test" in splits else None}
        wanted["val"] = next((one for one in ("validation", "val") if one in splits), None)
        name = f"{'/'.join(parts[:-1])}:{parts[-1]}"
        yield Guess("tfds", folder, {"name": name, "splits": wanted}, why="dataset_info.json")


def tfrecord(listing: Listing) -> Iterator[Guess]:
    """Readings as TFRecord shards, with a label map where one is there."""
    prepared = set(listing.named("dataset_info.json"))
    shards = [
        name
        for name in listing.files(".tfrecord", ".record")
        if posixpath.dirname(name) not in prepared
    ]
    groups = {split: _pattern(listing, names) for split, names in by_split(shards).items()}
    if not groups:
        return
    found = {split: pattern for split, pattern in groups.items() if pattern}
    if "train" not in found:
        return
    why = f"{len(shards):,} shards such as {shards[0]}"
    notes = tuple(
        f"shards of {split} have names that no one pattern fits, so they are not read"
        for split in groups
        if split not in found
    )
    maps = [name for name in listing.files(".pbtxt") if "item" in listing.head(name)]
    for label_map in maps[:1]:
        options = {"splits": found, "label_map": label_map}
        yield Guess("tfrecord", listing.root, options, why=f"{why}, {label_map}", notes=notes)
    yield Guess("tfrecord", listing.root, {"splits": found}, why=why, notes=notes)


def _pattern(listing: Listing, names: list[str]) -> str | None:
    """A pattern that fits these files and no others; None where there is none."""
    if len(names) == 1 and not set("*?[") & set(names[0]):
        return names[0]
    patterns = {re.sub(r"\d+", "*", name) for name in names}
    if len(patterns) != 1:
        return None
    (pattern,) = patterns
    return pattern if matches_only(listing, pattern, names) else None


def matches_only(listing: Listing, pattern: str, names: list[str]) -> bool:
    """Whether a pattern fits these files below the data folder and no others."""
    found = [below(listing.root, path) for path in files.matching(listing.root, pattern)]
    return sorted(found) == sorted(names)
