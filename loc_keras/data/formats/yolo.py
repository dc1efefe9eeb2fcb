"""YOLO: a YAML file, and one text file of labels for each image."""

import json
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from os.path import abspath
from pathlib import Path
from posixpath import splitext
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import write_text
from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotations,
    ImageRef,
    Objects,
    Split,
    Subject,
    counted_from_one,
)
from loc_keras.data.formats.listing import Guess, Listing, by_split, depth_of, shared_folder
from loc_keras.data.formats.parsing import (
    CLASS_FILES,
    Box,
    ImageFinder,
    Reading,
    RowError,
    below,
    config_path,
    corners,
    corners_of_all,
    folder_of,
    given_splits,
    is_image_name,
    label_problem,
    number,
    place,
    quoted,
    read_at_most,
    upright_tool,
)
from loc_keras.data.formats.tools import floats
from loc_keras.data.formats.writing import Job, Picture, write_images
from loc_keras.data.formats.yolo_yaml import MOST_CLASSES, DataYaml, read_data_yaml, to_yaml
from loc_keras.data.resolve import Records
from loc_keras.errors import DataError

LARGEST_LABELS = 16 * 2**20  # Bytes of the largest label file that is read.
_Mask: TypeAlias = npt.NDArray[np.bool_]
_Places: TypeAlias = npt.NDArray[np.int64]
_BATCH = 1024  # Images whose labels are read at once.
_BOX_FIELDS = 5
_LEAST_POLYGON_FIELDS = 7
_MOST_FIELDS = 20_001
_NO_LABELS = frozenset({*CLASS_FILES, "notes.txt"})  # What labelling tools add.
_NOTES = "notes.json"  # What Label Studio writes beside the labels.
_LABEL_FOLDERS = ("labels", "annotations")
_MOST_PARTS = 20
_DECIMAL = np.isin(np.arange(256), list(b"0123456789. \t\n"))


def read_yolo(
    root: str, *, yaml: str = "data.yaml", splits: Mapping[str, str] | None = None
) -> Annotations:
    """Reads a data set in the layout of Ultralytics.

    A YAML file says where the images are, and what the classes are called::

        path: .
        train: images/train
        val: images/val
        names: {0: cat, 1: dog}

    The labels of `images/train/0001.jpg` are in `labels/train/0001.txt` (or `annotations/...`), or
    beside it: one line an object with the index of its class and its box as centre, width and
    height in fractions of the image (`0 0.45 0.525 0.7 0.85`), or the corners of a polygon, around
    which the box is drawn (`1 0.1 0.1 0.9 0.2 0.5 0.8`).

    `train`, `val` and `test` are folders, text files that list images, or lists of these. The
    scalars of the file are read as text, aliases are refused. An entry of val or test that is not
    there, or names the images of train, is left out.

    If the `path` of the YAML file is not there, or not below `root`, its own folder is meant.
    `splits` are image folders, relative to `root`, in place of that file; the classes are then
    numbers, as written.

    Returns:
        The objects in the order of the image names or lists, boxes in fractions, classes by
        name; row numbers are line numbers of the label files.

    Raises:
        DataError: If the YAML file is missing or wrong, or names what is not there.
    """
    reading = Reading(root, upright_tool=_tool(posixpath.join(root, _NOTES)))
    path = config_path(root, yaml, "data.source.yolo.yaml")
    if splits is None:
        config = read_data_yaml(path)
    else:
        given = given_splits(splits, "data.source.yolo.splits")
        config = DataYaml("", {split: [folder] for split, folder in given})
    bases = _base_folders(root, path, config.base)
    labels = _LabelFiles(reading.finder)
    in_folders: list[str] = []
    trained: set[str] = set()
    for split, entries in config.splits.items():
        try:
            images, folders = _images_of(bases, entries, f"{path}: {split}", reading)
            if split != "train" and splits is None and set(images) <= trained:
                raise DataError(f"{path}: {split} names the images of train")
        except DataError as error:
            if split == "train" or splits is not None:
                raise
            reason = str(error).removeprefix(f"{path}: ").split(": mend")[0].rstrip(".")
            reading.fault(path, 0, f"{reason}; the split is not read", "unused_entry")
            continue
        trained |= set(images)
        reading.folders |= dict.fromkeys(folders)
        in_folders += images if len(folders) == len(entries) else []
        reading.split(split)
        for start in range(0, len(images), _BATCH):
            _read_images(split, images[start : start + _BATCH], config, labels, reading)
    if labels.scored:
        count = sum(labels.scored.values())
        reason = f"has a sixth number in its lines, as {count} lines have: taken for a score"
        reading.fault(next(iter(labels.scored)), 0, f"{reason}, and not read", "score")
    last = f"class {quoted(str(len(config.class_names)))} is none"
    parts = [one for part in reading.objects.values() for one in part]
    used = {name for one in parts if isinstance(one, Objects) for name in one.labels}
    unnamed = any(fault.reason.startswith(last) for fault in reading.faults)
    if unnamed and config.class_names[0] not in used:
        reading.faults.append(counted_from_one(len(config.class_names)))
    for path in labels.without_images(in_folders):
        reading.fault(path, 0, "has no image", "missing_image")
    return reading.annotations("fraction", class_names=config.class_names or None)


def _tool(path: str) -> str:
    try:
        return upright_tool(json.loads(files.read_text(path)))
    except (DataError, ValueError, RecursionError):
        return ""  # A labelling program's own file; most data sets have none.


def _base_folders(root: str, yaml_path: str, written: str) -> list[str]:
    """Folders that the entries of the YAML file may be relative to: its `path`, and its own."""
    beside = folder_of(yaml_path)
    folder = _inside(beside, written, root) if written else None
    if folder is None or not files.is_folder(folder):
        return [beside]
    return list(dict.fromkeys((folder, beside)))


def _images_of(
    bases: list[str], entries: list[str], key: str, reading: Reading
) -> tuple[list[str], list[str]]:
    """The images of a split, and the folders among its entries; `key` is their name in messages."""
    images: dict[str, None] = {}
    folders = []
    for entry in entries:
        path = _entry_path(bases, entry, reading.root)
        if path is None:
            raise DataError(
                f"{key} names {quoted(entry)}, which is not below {' or '.join(bases)}: mend it, "
                "or take it out."
            )
        if files.is_folder(path):
            folders.append(path)
            images |= dict.fromkeys(_folder_images(path, reading))
        else:
            images |= dict.fromkeys(_listed_images(path, bases[0], reading))
    if not images:
        raise DataError(f"{key} names no image: {quoted(', '.join(entries))} holds none.")
    return list(images), folders


def _inside(folder: str, written: str, root: str) -> str | None:
    """Joins a name to a folder, or takes it as it is if it is absolute and lies in the root."""
    limit = root.rstrip("/") if files.is_remote(root) else abspath(root)
    if written.startswith(limit + "/"):
        folder, written = root, below(limit, written)
    try:
        return place(folder, written, root)
    except RowError:
        return None


def _entry_path(bases: list[str], entry: str, root: str) -> str | None:
    """The folder or list that an entry names; None where none is there."""
    plain = entry.replace("\\", "/")
    names = [plain]
    # Some tools write ../train/images for a folder that lies beside the YAML file.
    while names[-1].startswith("../"):
        names.append(names[-1].removeprefix("../"))
    if plain.startswith("/") or plain[1:3] == ":/":
        # Of a path of another machine, the last folders but not the very last alone.
        parts = [part for part in plain.split("/") if part][-_MOST_PARTS:]
        last = len(parts) - (not plain.endswith(".txt"))
        names += ["/".join(parts[start:]) for start in range(1, last)]
    for name in names:
        for base in bases:
            path = _inside(base, name, root)
            if path is not None and (files.is_folder(path) or files.is_file(path)):
                return path
    return None


def _folder_images(folder: str, reading: Reading) -> Iterator[str]:
    for path in files.walk(folder):
        if is_image_name(path):
            try:
                yield reading.finder.inside(path)
            except RowError as error:
                reading.failed(path, 0, error)


def _listed_images(path: str, base: str, reading: Reading) -> Iterator[str]:
    """Images that a text file names, one a line, relative to the data set or to the file."""
    beside, root = folder_of(path), reading.root
    listed = set()
    for row, line in enumerate(files.read_text(path, what="list of images").split("\n"), 1):
        name = line.strip()
        if not name:
            continue
        folders = [beside, base] if name.startswith("./") else [base, beside]
        candidates = list(filter(None, (_inside(folder, name, root) for folder in folders)))
        found = list(filter(files.is_file, candidates)) or reading.finder.fitting(root, name)
        image = next(iter(candidates if len(found) > 1 else [*found, *candidates]), None)
        if image is None:
            reason = f"{quoted(name)} leads out of the data folder {root}"
            reading.fault(path, row, reason, "outside")
        elif image in listed:
            reading.fault(path, row, f"repeats {quoted(name)}", "duplicate_row")
        else:
            listed.add(image)
            yield image


class _LabelFiles:
    """Finds label files; each folder is listed once."""

    def __init__(self, finder: ImageFinder) -> None:
        self.root, self.finder, self._names = finder.root, finder, finder.listed
        self._places = cache(self._places_of)
        self._used: dict[str, set[str]] = defaultdict(set)  # Names by folder.
        self.scored: Counter[str] = Counter()  # Lines with a score, by file.

    def _places_of(self, folder: str) -> tuple[str, list[str]]:
        """What names of images begin with in messages, and where labels of a folder may lie."""
        inside = below(self.root, folder)
        name = "" if inside == "." else f"{inside}/"
        head, sign, tail = f"/{name}".rpartition("/images/")
        names = [f"{head}/{other}/{tail}" for other in _LABEL_FOLDERS if sign] + [name]
        places = [files.join(self.root, one.strip("/")).rstrip("/") for one in names]
        held = any(any(map(_is_label, self._names(one))) for one in places)
        return name, places if held else places + self._siblings(inside)

    def _siblings(self, inside: str) -> list[str]:
        """Folders of labels that differ in one part from a folder of images, as txt/a of img/a."""
        parts = [] if inside == "." else inside.split("/")
        found = []
        for at in reversed(range(len(parts))):
            above = files.join(self.root, *parts[:at])
            for other in files.listed(above):
                path = files.join(above, other, *parts[at + 1 :])
                names = self._names(path) if other != parts[at] else ()
                if any(map(_is_label, names)) and not any(map(is_image_name, names)):
                    found.append(path)
        return found

    def find(self, image: str) -> tuple[str, str, bool]:
        """An image as it is called in messages, its label file, and whether that is there."""
        folder, _, name = image.rpartition("/")
        (before, places), stem = self._places(folder), splitext(name)[0]
        for own in (f"{stem}.txt", f"{stem}.TXT"):
            for one in places:
                if own in self._names(one):
                    self._used[one].add(own)
                    return before + name, f"{one}/{own}", True
        return before + name, f"{places[0]}/{stem}.txt", False

    def text(self, path: str) -> bytes:
        """The UTF-8 text of a label file, whose lines end in LF."""
        self.finder.inside(path)
        content = read_at_most(path, LARGEST_LABELS)
        if not content.isascii():
            try:
                content = content.decode("utf-8-sig").encode()
            except UnicodeDecodeError:
                raise RowError("is not UTF-8 text", "encoding") from None
        return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def without_images(self, images: Iterable[str]) -> Iterator[str]:
        """The label files that no image was found for, where labels of some images may lie.

        Label files beside images do not count, as other text may lie there.
        """
        parents = {image.rpartition("/")[0] for image in images}
        places = [self._places(folder)[1] for folder in parents]
        held = {folders[0] for folders in places if len(folders) > 1}
        beside = {one for one in self._used if "/annotations" in one} if held else set()
        for folder in sorted(held | beside):
            for name in sorted(filter(_is_label, self._names(folder) - self._used[folder])):
                yield files.join(folder, name)


def _read_images(
    split: Split, images: Sequence[str], config: DataYaml, labels: _LabelFiles, reading: Reading
) -> None:
    """Reads the objects of some images, all lines at once and only odd ones by themselves."""
    subjects, texts = [], []
    troubles: dict[int, RowError] = {}
    for index, image in enumerate(images):
        name, path, is_there = labels.find(image)
        subjects.append(Subject(ImageRef(image), name, path if is_there else image))
        try:
            texts.append(labels.text(path) if is_there else b"")
        except RowError as error:
            troubles[index] = error
            texts.append(b"")
    text = b"\n".join(texts)
    starts = np.cumsum([0, *(1 + one.count(b"\n") for one in texts)])
    image_of = np.repeat(np.arange(len(texts)), np.diff(starts))
    filled, scored, classes, boxes = _parsed(text, config)
    odd = np.flatnonzero(filled & (classes < 0))
    lines = text.decode().split("\n") if len(odd) else []
    for index in image_of[scored]:
        labels.scored[subjects[index].file] += 1
    rows_of = np.bincount(image_of[filled], minlength=len(images))
    for index in sorted({*np.flatnonzero(rows_of == 0).tolist(), *image_of[odd].tolist()}):
        ref, name, path = subjects[index][:3]
        if index in troubles:
            reading.failed(path, 0, troubles[index])
        elif path == images[index]:
            reason = f"has no label file {labels.find(path)[1]}"
            reading.without_object(split, ref, name, path, 0, reason)
        elif not rows_of[index]:
            reading.without_object(split, ref, name, path, 0)
        for line in odd[image_of[odd] == index].tolist():
            try:
                fields = _without_score(lines[line].split(maxsplit=_MOST_FIELDS), config)
                own = _class_index(fields[0], len(config.class_names) or MOST_CLASSES)
                classes[line], boxes[line] = own, _box(fields, config.has_keypoints)
            except RowError as error:
                reading.failed(path, line - int(starts[index]) + 1, error)
                reading.unread[ref] += 1
    good = np.flatnonzero(classes >= 0)
    numbers, label = np.unique(classes[good], return_inverse=True)
    names = [config.class_names[k] if config.class_names else str(k) for k in numbers]
    at = image_of[good]
    columns = (at, label, boxes[good], good - starts[at] + 1)
    reading.split(split).append(Objects.of_columns(subjects, names, *columns))


def _parsed(text: bytes, config: DataYaml) -> tuple[_Mask, _Mask, _Places, npt.NDArray[np.float64]]:
    """Of L lines: which are not blank, which have a score; class, -1 for odd ones; box (L, 4)."""
    signs = np.frombuffer(text + b"\n", np.uint8)
    blank = signs <= ord(" ")
    begins = np.flatnonzero(~blank & np.append(True, blank[:-1]))
    sizes = np.diff(np.searchsorted(begins, np.flatnonzero(signs == ord("\n"))), prepend=0)
    classes, boxes = np.full(len(sizes), -1), np.zeros((len(sizes), 4))
    numbers = _decimals(signs, begins, np.flatnonzero(blank & ~np.append(True, blank[:-1])))
    if numbers is None and b"_" not in text:  # Python would read 1_000, which no tool writes.
        with suppress(ValueError):
            numbers = np.fromiter(map(float, text.split()), np.float64)
    if numbers is None or len(numbers) != len(begins):
        rows = [line.split() for line in text.decode().split("\n")]
        scored = [_without_score(row, config) != row for row in rows]
        return np.array(list(map(bool, rows))), np.array(scored, bool), classes, boxes
    scored = (sizes == _BOX_FIELDS + 1) & (not config.has_keypoints)
    plain = (sizes == _BOX_FIELDS) | scored | ((sizes > _BOX_FIELDS) & config.has_keypoints)
    at = (np.cumsum(sizes) - sizes)[plain]
    kinds = numbers[at]
    most = len(config.class_names) or MOST_CLASSES
    known = (kinds >= 0) & (kinds < most) & (kinds == np.floor(kinds))
    classes[plain] = np.where(known, kinds, -1)
    boxes[plain] = corners_of_all(numbers[at[:, None] + np.arange(1, _BOX_FIELDS)], "cxcywh")
    return sizes > 0, scored, classes, boxes


def _decimals(
    signs: npt.NDArray[np.uint8], begins: _Places, ends: _Places
) -> npt.NDArray[np.float64] | None:
    """Numbers at some places of a text; None where one is not of digits and a point alone."""
    points = np.flatnonzero(signs == ord("."))
    own = np.searchsorted(begins, points, "right") - 1
    digits = ends - begins - np.bincount(own, minlength=len(begins))
    odd = (digits < 1) | (digits > 15)
    if odd.any() or (np.diff(own) < 1).any() or not _DECIMAL[signs].all():
        return None
    values, after = np.zeros((2, len(begins)), np.int64)
    after[own] = ends[own] - points - 1
    for at in range((ends - begins).max(initial=0)):
        digit = signs[np.minimum(begins + at, len(signs) - 1)] - np.uint8(ord("0"))
        values = np.where((digit < 10) & (begins + at < ends), 10 * values + digit, values)
    return values / 10.0**after  # Both are exact, so that this is the nearest float64.


def _without_score(fields: list[str], config: DataYaml) -> list[str]:
    scored = len(fields) == _BOX_FIELDS + 1 and not config.has_keypoints
    return fields[:_BOX_FIELDS] if scored and number(fields[-1]) is not None else fields


def _class_index(text: str, class_count: int) -> int:
    index = number(text)
    if index is None:
        raise RowError(f"class {quoted(text)} is not a number", "label")
    if not 0 <= index < class_count or index != int(index):
        raise RowError(
            f"class {quoted(text)} is none of the {class_count} classes 0..{class_count - 1}",
            "label",
        )
    return int(index)


def _box(fields: list[str], keypoints: bool) -> Box:
    """The box of a line `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` (a polygon)."""
    count = len(fields)
    boxes_only = count == _BOX_FIELDS or (keypoints and count > _BOX_FIELDS)
    polygon = _LEAST_POLYGON_FIELDS <= count <= _MOST_FIELDS and count % 2 == 1
    if not boxes_only and not polygon:
        raise RowError(
            f"has {count} numbers, expected class cx cy w h, or a class and the corners of a "
            "polygon",
            "columns",
        )
    numbers = floats(*fields[1 : _BOX_FIELDS if boxes_only else None])
    if boxes_only:
        cx, cy, width, height = numbers
        return corners((cx, cy, width, height), "cxcywh")
    # Not a number where a side of the polygon is none, whatever its place.
    undefined = [value for value in (*numbers[::2], *numbers[1::2]) if value != value]
    if undefined:
        return (undefined[0],) * 4
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _is_label(name: str) -> bool:
    return name.lower().endswith(".txt") and name not in _NO_LABELS


_TRAIN = re.compile(r"^train\s*:", re.MULTILINE)
_NAMES = re.compile(r"^(?:names|nc)\s*:", re.MULTILINE)
_TRIED_LABELS = 20


def detect_yolo(listing: Listing) -> Iterator[Guess]:
    """Guesses by a YAML file that names training images and classes, or by label files alone."""
    naming = [name for name in listing.files(".yaml", ".yml") if _NAMES.search(listing.head(name))]
    yaml = [name for name in naming if _TRAIN.search(listing.head(name))]
    question, answers = "", ("data.source.yolo.yaml",)
    if len({listing.head(name) for name in yaml}) > 1:
        question = (
            f"{yaml[0]} and {yaml[1]} both name training images: say which is read by --set "
            f"{answers[0]}={yaml[0]}"
        )
    for name in yaml:
        why, options = f"{name} with train and names", {"yaml": name}
        yield Guess("yolo", listing.root, options, why=why, question=question, answers=answers)
    labelled = [path for path in listing.folders if _has_labels(listing, path)]
    folders = [one for path in labelled if (one := _images_beside(listing, path)) is not None]
    groups = by_split(folders)
    if not groups:
        return
    splits = {split: shared_folder(found, folders) or "." for split, found in groups.items()}
    names = [
        posixpath.join(path, name)
        for name in CLASS_FILES
        for path in sorted(listing.named(name), key=depth_of)
    ]
    source: dict[str, Any] = {"class_names_file": names[0]} if names else {}
    notes = () if names else ("no file names the classes (classes.txt), so numbers do.",)
    noted = [posixpath.join(path, _NOTES) for path in listing.named(_NOTES)]
    if len({tuple(listing.head(name).split()) for name in names}) > 1:
        answers = ("data.source.class_names_file",)
        question = f"{names[0]} and {names[1]} differ: say --set {answers[0]}={names[0]}"
    if naming and not names and not question:
        # Folders may have been moved; what the numbers mean still stands there.
        try:
            told = read_data_yaml(listing.path(naming[0]), names_alone=True)
            source = {"class_names": told.class_names}
            notes = (f"the classes are named by {naming[0]}, whose folders are not read.",)
        except DataError as error:
            question = f"{error} Or name the classes by --set data.source.class_names=[...]"
            answers = ("data.source.class_names",)
    elif noted and not names and (told_by := _noted_names(listing.head(noted[0]))):
        source, notes = {"class_names": told_by}, (f"the classes are named by {noted[0]}.",)
    why = f"label files in {', '.join(path or '.' for path in labelled[:3])}"
    yield Guess(
        "yolo",
        listing.root,
        {"splits": splits},
        why=why,
        notes=notes,
        source=source,
        question=question,
        answers=answers,
    )


def _noted_names(text: str) -> list[str]:
    """Names of the classes by index in what Label Studio writes; none where they have gaps."""
    try:
        found = {one["id"]: one["name"] for one in json.loads(text)["categories"]}
        names = [found[index] for index in range(len(found))]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return [] if any(map(label_problem, names)) or len(set(names)) < len(names) else names


def _has_labels(listing: Listing, path: str) -> bool:
    """Whether the first text files of a folder hold a class and numbers of a box."""
    names = list(filter(_is_label, listing.folders[path].names.get(".txt", ())))
    lines = [
        line.split()
        for name in names[:_TRIED_LABELS]
        for line in listing.head(posixpath.join(path, name)).splitlines()
        if line.strip()
    ]
    return bool(lines) and all(
        len(fields) >= _BOX_FIELDS
        and (number(fields[0]) or 0.0) % 1 == 0
        and not fields[0].startswith("-")
        and all(number(text) is not None for text in fields)
        for fields in lines
    )


def _images_beside(listing: Listing, labels: str) -> str | None:
    """The one folder of images that differs in one part at most, best `images`; else None."""

    def apart(path: str) -> list[str]:
        return [
            one for one, own in zip(path.split("/"), labels.split("/"), strict=False) if one != own
        ]

    held = [
        path
        for path, folder in listing.folders.items()
        if folder.images and depth_of(path) == depth_of(labels) and len(apart(path)) < 2
    ]
    usual = [path for path in held if apart(path) == ["images"]]
    found = usual or [path for path in held if path == labels] or held
    return found[0] if len(found) == 1 else None


def write_yolo(job: Job) -> None:
    """Writes images, labels and `data.yaml`.

    A label is `class centre-x centre-y width height` in fractions of the image sides; the file of
    an image without an object is empty.
    """

    def label(folder: Path, records: Records, index: int, name: str, picture: Picture) -> None:
        line = yolo_line(int(records.labels[index]), records.boxes[index].tolist())
        text = "" if records.is_empty(index) else line
        write_text(folder / f"{Path(name).stem}.txt", text)

    for split in job.splits:
        images, labels = (job.folder / kind / split for kind in ("images", "labels"))
        labels.mkdir(parents=True, exist_ok=True)
        write_images(job, split, images, partial(label, labels))
    folders: dict[str, str] = {split: f"images/{split}" for split in job.splits}
    write_text(job.folder / "data.yaml", yolo_yaml(folders, job.object_classes))


def yolo_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    return {"format": "yolo"}


def yolo_line(label: int, box: Sequence[float]) -> str:
    """The line of one object: index of its class, (x1, y1, x2, y2) in fractions of the image."""
    x1, y1, x2, y2 = box
    values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return f"{label} " + " ".join(f"{value:.9f}" for value in values) + "\n"


def yolo_yaml(folders: Mapping[str, str], names: Sequence[str]) -> str:
    """The file `data.yaml` for classes that objects have and the folder of each split's images.

    Folders are relative to the file itself, which is where tools look without a `path`.
    """
    return to_yaml({**folders, "nc": len(names), "names": dict(enumerate(names))})
