"""Detection of published layouts, of YOLO and of TFRecord: by the names of their files."""

import json
import posixpath
import re
from collections.abc import Iterator

from loc_keras.data import files
from loc_keras.data.detect_guess import Guess
from loc_keras.data.detect_listing import Listing, by_split
from loc_keras.data.readers.parsing import below, folder_of

_GTSRB_FOLDERS = ("Final_Training/Images", "Training", "Train")
_GTSRB_TABLE = re.compile(r"(?:^|/)(\d+)/GT-\1\.csv$")
_YOLO_KEYS = (
    re.compile(r"^train\s*:", re.MULTILINE),
    re.compile(r"^(?:names|nc)\s*:", re.MULTILINE),
)
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
    """Readings by a YAML file that names the training images and the classes."""
    for name in listing.files(".yaml", ".yml"):
        text = listing.head(name)
        if all(key.search(text) for key in _YOLO_KEYS):
            yield Guess("yolo", listing.root, {"yaml": name}, why=f"{name} with train and names")


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
