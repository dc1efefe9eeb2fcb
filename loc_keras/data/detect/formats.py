"""Which annotation format a folder holds, told from names and the beginnings of files."""

import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from loc_keras.data import files
from loc_keras.data.annotations import SPLITS, Split
from loc_keras.data.detect.csv import csv
from loc_keras.data.detect.listing import (
    MOST_NAMES,
    Guess,
    Listing,
    by_split,
    common_folder,
    depth_of,
    image_folders,
    is_above,
    list_folder,
    matches_only,
    shared_folder,
)
from loc_keras.data.formats.parsing import IMAGE_ENDINGS, folder_of, is_image_name, number
from loc_keras.errors import DataError

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


_LISTS = re.compile(r'"(?:images|annotations|categories)"\s*:\s*\[')
_FILE_NAME = re.compile(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_OBJECTS = re.compile(r'"bbox"\s*:')


def coco(listing: Listing) -> Iterator[Guess]:
    """Readings as COCO, one JSON file a split.

    Files called `instances...` go before others, since beside them lie captions and key points of
    the same images. Where several of one split are left, the first by name is read.
    """
    found = [name for name in listing.files(".json") if _is_coco(listing, name)]
    instances = [name for name in found if posixpath.basename(name).startswith("instances")]
    groups = by_split(instances or found)
    splits: dict[Split, dict[str, str]] = {}
    notes = []
    for split, names in groups.items():
        name = names[0]
        if names[1:]:
            notes.append(f"of {len(names)} COCO files for {split}, {name} is read")
        splits[split] = {"annotations": name, "images": _images(listing, name)}
    if "train" in splits:
        why = f"JSON with images, annotations and categories: {splits['train']['annotations']}"
        yield Guess("coco", listing.root, {"splits": splits}, why=why, notes=tuple(notes))


def _is_coco(listing: Listing, name: str) -> bool:
    head = listing.head(name)
    if not head.lstrip().startswith("{") or not _LISTS.search(head):
        return False
    # The published test images come with a file of the same form that holds no boxes.
    return bool(_OBJECTS.search(head) or _OBJECTS.search(listing.head(name, tail=True)))


def _images(listing: Listing, name: str) -> str:
    """The folder of the images of a COCO file; that of the file itself where none is found."""
    beside = posixpath.dirname(name) or "."
    match = _FILE_NAME.search(listing.head(name)) or _FILE_NAME.search(
        listing.head(name, tail=True)
    )
    if match is None:
        return beside
    try:
        image = json.loads(match[1])
    except ValueError:
        return beside
    folders = image_folders(listing, image, annotation=name)
    return (folders[0] or ".") if folders else beside


_ELEMENT = re.compile(r"<annotation[\s>]")
_FILE_NAME_detect_voc = re.compile(r"<filename>\s*([^<]+?)\s*</filename>")
_CHALLENGE = re.compile(r"<database>\s*The VOC\d{4} Database")
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp", ".gif")
_LISTS_detect_voc = "ImageSets/Main"


def voc(listing: Listing) -> Iterator[Guess]:
    """Readings as Pascal VOC: by the lists of `ImageSets/Main`, or else by folders."""
    annotated = [
        path
        for path, folder in listing.folders.items()
        if folder.names.get(".xml")
        and _ELEMENT.search(listing.head(posixpath.join(path, folder.names[".xml"][0])))
    ]
    if not annotated:
        return
    for path in annotated:
        parent, last = posixpath.split(path)
        lists = posixpath.join(parent, _LISTS_detect_voc)
        if last == "Annotations" and lists in listing.folders:
            guess = _by_lists(listing, path, lists)
            if guess is not None:
                yield guess
    groups = by_split(annotated)
    splits: dict[str, Any] = {}
    for split in SPLITS:
        if split in groups:
            splits[split] = _by_folder(listing, groups[split], inside=annotated)
    why = f"XML files with annotations in {', '.join(path or '.' for path in annotated[:3])}"
    notes = [
        f"XML files in {path} are not read, since its parent folder has some, too"
        for path in annotated
        if path and any(is_above(other, path) for other in annotated)
    ]
    options = {"splits": splits, **_first_pixel(listing, annotated[0])}
    yield Guess("voc", listing.root, options, why=why, notes=tuple(notes))


def _by_lists(listing: Listing, annotations: str, lists: str) -> Guess | None:
    names = {posixpath.splitext(name)[0] for name in listing.folders[lists].names.get(".txt", ())}
    chosen: dict[str, str] = {split: split for split in SPLITS if split in names}
    if "train" not in chosen:
        whole = next((one for one in ("trainval", "val", "test") if one in names), None)
        if whole is None:
            return None
        chosen = {"train": whole} | {
            split: name for split, name in chosen.items() if whole not in (name, "trainval")
        }
    images = _image_folder(listing, annotations)
    splits = {
        split: {"annotations": annotations, **images, "list": f"{lists}/{name}.txt"}
        for split, name in chosen.items()
    }
    listed = ", ".join(chosen.values())
    options = {"splits": splits, **_first_pixel(listing, annotations)}
    return Guess("voc", listing.root, options, why=f"{annotations} and the lists {listed}")


def _by_folder(listing: Listing, folders: list[str], *, inside: list[str]) -> dict[str, str]:
    """Settings of a split whose XML files lie in some folders."""
    # The reader looks into subfolders where the folder itself has no XML files.
    shared = common_folder(folders)
    if shared not in folders:
        shared = shared_folder(folders, inside)
    settings = {} if not shared else {"annotations": shared}
    return settings | (_image_folder(listing, folders[0]) if len(folders) == 1 else {})


def _image_folder(listing: Listing, annotations: str) -> dict[str, str]:
    """`{"images": folder}`, or nothing where the images lie beside the XML files."""
    name = posixpath.join(annotations, listing.folders[annotations].names[".xml"][0])
    match = _FILE_NAME_detect_voc.search(listing.head(name))
    written = match[1].replace("\\", "/") if match else ""
    stem = posixpath.splitext(posixpath.basename(name))[0]
    tried = [written, posixpath.basename(written), *(stem + ending for ending in _IMAGE_ENDINGS)]
    for image in dict.fromkeys(one for one in tried if one and is_image_name(one)):
        folders = image_folders(listing, image, annotation=name)
        if annotations in folders:
            return {}
        if folders:
            return {"images": folders[0] or "."}
    return {}


def _first_pixel(listing: Listing, annotations: str) -> dict[str, int]:
    """`{"first_pixel": 1}` for the files of the challenges."""
    names = listing.folders[annotations].names[".xml"]
    text = listing.head(posixpath.join(annotations, names[0]))
    return {"first_pixel": 1} if _CHALLENGE.search(text) else {}


DETECTORS: tuple[Callable[[Listing], Iterator[Guess]], ...] = (
    published_layouts,
    tfds,
    coco,
    yolo,
    voc,
    csv,
    tfrecord,
)
"""In order of preference. What has names of its own goes first; XML goes before CSV, since tables
are often made from XML files and lie beside them."""

NEEDED = (
    "csv needs a table with file, class and four numbers a row, voc XML files, coco a JSON file "
    "with images, annotations and categories, yolo a data.yaml with train and names, tfrecord "
    "shards named .tfrecord"
)
_MOST_ENDINGS = 6
_MOST_SHOWN = 3


def look_through(root: str) -> Listing:
    """Lists a data folder for `guesses`.

    Raises:
        DataError: If it is missing, a file, or empty.
    """
    if files.is_file(root):
        raise DataError(f"{root} is a file; --data takes the folder that holds images and labels.")
    if not files.is_folder(root):
        raise DataError(f"data folder {root} does not exist; mend --data.")
    listing = list_folder(root)
    if not listing.endings():
        raise DataError(f"data folder {root} is empty; --data takes one with images and labels.")
    return listing


def guesses(listing: Listing) -> Iterator[Guess]:
    """Possible readings of a folder, the likeliest first; each has still to be tried."""
    for detector in DETECTORS:
        yield from detector(listing)


def nothing_found(listing: Listing) -> str:
    """A sentence for a folder that no reading fits: what is there, and what would be needed."""
    counts = listing.endings()
    images = sum(count for ending, count in counts.items() if ending in IMAGE_ENDINGS)
    held = [path for path, folder in listing.folders.items() if folder.images and path]
    if images and not _may_be_annotations(counts):
        where = ""
        if len(held) > 1:
            shown = ", ".join(held[:_MOST_SHOWN]) + (", ..." if held[_MOST_SHOWN:] else "")
            where = f" in {len(held)} folders ({shown})"
        return (
            f"{listing.root} holds {images:,} images{where} but no boxes: a localizer learns where "
            "an object is from one box an image, so draw them with a labelling tool and save them "
            "beside the images as VOC, COCO, YOLO or CSV."
        )
    return (
        f"{listing.root} holds {_counted(counts)}, but no annotations that are recognised: "
        f"{NEEDED}; or name format and files in a config (docs/data.md) and give it to --config."
    )


def bounded_note(listing: Listing) -> str:
    """A sentence where the folder was too large to be looked through; else `""`."""
    if listing.complete:
        return ""
    return (
        f"only the first {MOST_NAMES:,} names of {listing.root} were looked at to tell its format."
    )


def _may_be_annotations(counts: Counter[str]) -> bool:
    others = set(counts) - IMAGE_ENDINGS - {".md", ".pdf", ".html", ".py", ".ipynb", ".zip"}
    return bool(others)


def _counted(counts: Counter[str]) -> str:
    parts = [f"{count:,} {ending or 'without ending'}" for ending, count in counts.most_common()]
    rest = len(parts) - _MOST_ENDINGS
    return ", ".join(parts[:_MOST_ENDINGS]) + (f" and {rest} more kinds" if rest > 0 else "")
