"""Reader of YOLO data sets: a YAML file, and one text file for each image."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from os.path import abspath
from pathlib import Path
from posixpath import basename, dirname, splitext
from typing import Any, NamedTuple

from loc_keras.atomic_file import write_text
from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, EmptyImage, Fault, ImageRef, Split
from loc_keras.data.formats.parsing import (
    below,
    config_path,
    folder_of,
    given_splits,
    is_image_name,
    number,
    place,
    require_root,
    shown,
)
from loc_keras.data.formats.writing import Job, Picture, record_stems, write_images
from loc_keras.data.formats.yolo_yaml import MOST_CLASSES, YoloConfig, read_yolo_config, to_yaml
from loc_keras.data.records import Records
from loc_keras.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


def write_yolo(job: Job) -> dict[Split, int]:
    """Writes images, labels and `data.yaml`; returns the images of each split.

    A label is `class centre-x centre-y width height` in fractions of the image sides; the file of
    an image without an object is empty.
    """
    counts: dict[Split, int] = {}
    stems = record_stems(job.splits)
    for split, records in job.splits.items():
        labels = job.folder / "labels" / split
        labels.mkdir(parents=True, exist_ok=True)

        def describe(
            index: int,
            name: str,
            picture: Picture,
            records: Records = records,
            labels: Path = labels,
        ) -> None:
            write_text(labels / f"{Path(name).stem}.txt", _line(records, index))

        names = write_images(
            job, split, job.folder / "images" / split, stems[split], FORMATS, describe
        )
        counts[split] = sum(map(bool, names))
    write_text(
        job.folder / "data.yaml",
        yolo_yaml({split: f"images/{split}" for split in job.splits}, job.object_classes),
    )
    return counts


def yolo_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    return {"format": "yolo"}


def _line(records: Records, index: int) -> str:
    if records.is_empty(index):
        return ""
    return yolo_line(int(records.labels[index]), records.boxes[index].tolist())


def yolo_line(label: int, box: Sequence[float]) -> str:
    """The line of one object.

    Args:
        label: Index of its class.
        box: (x1, y1, x2, y2) in fractions of the image.
    """
    x1, y1, x2, y2 = box
    values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return f"{label} " + " ".join(f"{value:.9f}" for value in values) + "\n"


def yolo_yaml(folders: Mapping[str, str], names: Sequence[str]) -> str:
    """The file `data.yaml`.

    Args:
        folders: Of the images of each split, relative to the file itself, which is where tools look
            without a `path`.
        names: Of the classes that objects have.
    """
    return to_yaml({**folders, "nc": len(names), "names": dict(enumerate(names))})


def base_folders(root: str, yaml_path: str, written: str) -> list[str]:
    """Folders that the entries of the YAML file may be relative to.

    Args:
        root: Folder that all must lie in.
        yaml_path: The YAML file.
        written: Its `path`; what lies outside `root`, as on the machine that wrote it, or does
            not exist, does not count.

    Returns:
        The folder of `path`, if it counts, and that of the YAML file.
    """
    beside = folder_of(yaml_path)
    folder = _inside(beside, written, root) if written else None
    if folder is None or not files.is_folder(folder):
        return [beside]
    return list(dict.fromkeys((folder, beside)))


def images_of(
    bases: list[str], entries: list[str], root: str, key: str, faults: list[Fault]
) -> tuple[list[str], list[str]]:
    """The images of a split.

    Args:
        bases: From `base_folders`.
        entries: Folders of images, or text files that list images.
        root: Folder that all must lie in.
        key: Name of the entries, for messages.
        faults: Names that lead out of `root` or stand twice are added here.

    Returns:
        Paths of the images, in the order of the entries, and the folders among the entries.

    Raises:
        DataError: If an entry is missing or is neither.
    """
    images: dict[str, None] = {}
    folders = []
    for entry in entries:
        path = _entry_path(bases, entry, root)
        if path is None:
            tried = " or ".join(bases)
            raise DataError(
                f"{key} names {shown(entry)}, which is not below {tried}: mend it, or take it out."
            )
        if files.is_folder(path):
            folders.append(path)
            images |= dict.fromkeys(_folder_images(path, root, faults))
        else:
            images |= dict.fromkeys(_listed_images(path, bases[0], root, faults))
    if not images:
        raise DataError(f"{key} names no image: {shown(', '.join(entries))} holds none.")
    return list(images), folders


def label_paths(image: str, root: str) -> list[str]:
    """Where the labels of an image may lie: in `labels` in place of `images`, or beside it."""
    relative = "/" + splitext(below(root, image))[0] + ".txt"
    head, sign, tail = relative.rpartition("/images/")
    names = [f"{head}/labels/{tail}", relative] if sign else [relative]
    return [files.join(root, name.lstrip("/")) for name in names]


def _inside(folder: str, written: str, root: str) -> str | None:
    """Joins a name to a folder, or takes it as it is if it is absolute and lies in the root."""
    limit = root.rstrip("/") if files.is_remote(root) else abspath(root)
    absolute = written.startswith(limit + "/")
    try:
        return place(
            root if absolute else folder, below(limit, written) if absolute else written, root
        )
    except files.OutsideError:
        return None


def _entry_path(bases: list[str], entry: str, root: str) -> str | None:
    """The folder or list that an entry names; None where none is there."""
    name = entry
    while True:
        for base in bases:
            path = _inside(base, name, root)
            if path is not None and (files.is_folder(path) or files.is_file(path)):
                return path
        # Some tools write ../train/images for a folder that lies beside the YAML file.
        if not name.startswith("../"):
            return None
        name = name.removeprefix("../")


def _folder_images(folder: str, root: str, faults: list[Fault]) -> Iterator[str]:
    for path in files.walk(folder):
        if not is_image_name(path):
            continue
        try:
            yield place(root, below(root, path), root)
        except files.OutsideError as fault:
            faults.append(Fault(path, 0, str(fault), "outside"))


def _listed_images(path: str, base: str, root: str, faults: list[Fault]) -> Iterator[str]:
    """Images that a text file names, one a line, relative to the data set or to the file."""
    beside = folder_of(path)
    seen = set()
    for row, line in enumerate(files.read_text(path, what="list of images").split("\n"), 1):
        name = line.strip()
        if not name:
            continue
        folders = [beside, base] if name.startswith("./") else [base, beside]
        found = [one for one in (_inside(folder, name, root) for folder in folders) if one]
        if not found:
            reason = f"{shown(name)} leads out of the data folder {root}"
            faults.append(Fault(path, row, reason, "outside"))
            continue
        image = next((one for one in found if files.is_file(one)), found[0])
        if image in seen:
            faults.append(Fault(path, row, f"repeats {shown(name)}", "duplicate_row"))
        else:
            seen.add(image)
            yield image


LARGEST_LABELS = 16 * 2**20
"""Bytes of the largest label file that is read."""

_BOX_FIELDS = 5
_LEAST_POLYGON_FIELDS = 7
_MOST_FIELDS = 20_001


class YoloObject(NamedTuple):
    """One object.

    Attributes:
        row: Line, from 1.
        label: Class index.
        box: (x1, y1, x2, y2) in fractions of the image side.
    """

    row: int
    label: int
    box: tuple[float, float, float, float]


class LineError(Exception):
    """Why a line cannot be used, and the kind of fault that this is."""

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def parse_labels(
    text: str, class_count: int, *, keypoints: bool = False
) -> tuple[list[YoloObject], list[tuple[int, str, str]]]:
    """Parses a label file.

    A line is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...`, whose box is that of the
    polygon.

    Args:
        text: The file.
        class_count: Number of classes.
        keypoints: Whether what stands behind the box is key points, which are not read.

    Returns:
        The objects, and (line, reason, kind) of lines that cannot be used.
    """
    objects, faults = [], []
    for row, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        fields = line.split(maxsplit=_MOST_FIELDS)
        if not fields:
            continue
        try:
            label = _class_index(fields[0], class_count)
            objects.append(YoloObject(row, label, _box(fields, keypoints)))
        except LineError as fault:
            faults.append((row, str(fault), fault.kind))
    return objects, faults


def _class_index(text: str, class_count: int) -> int:
    index = number(text)
    if index is None:
        raise LineError(f"class {shown(text)} is not a number", "label")
    if not 0 <= index < class_count or index != int(index):
        raise LineError(
            f"class {shown(text)} is none of the {class_count} classes 0..{class_count - 1}",
            "label",
        )
    return int(index)


def _box(fields: list[str], keypoints: bool) -> tuple[float, float, float, float]:
    count = len(fields)
    boxes_only = count == _BOX_FIELDS or (keypoints and count > _BOX_FIELDS)
    polygon = _LEAST_POLYGON_FIELDS <= count <= _MOST_FIELDS and count % 2 == 1
    if not boxes_only and not polygon:
        hint = "; is the last one a score?" if count == _BOX_FIELDS + 1 else ""
        raise LineError(
            f"has {count} numbers, expected class cx cy w h, or a class and the corners of a "
            f"polygon{hint}",
            "columns",
        )
    numbers = []
    for text in fields[1 : _BOX_FIELDS if boxes_only else None]:
        value = number(text)
        if value is None:
            raise LineError(f"{shown(text)} is not a number", "number")
        numbers.append(value)
    if boxes_only:
        cx, cy, width, height = numbers
        return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
    return _around(numbers[::2], numbers[1::2])


def _around(xs: list[float], ys: list[float]) -> tuple[float, float, float, float]:
    """The box around points; not a number where one is none, whatever its place."""
    undefined = [value for value in (*xs, *ys) if value != value]
    if undefined:
        return (undefined[0],) * 4
    return min(xs), min(ys), max(xs), max(ys)


_NO_LABELS = frozenset({"classes.txt", "notes.txt"})  # What labelling tools add.


def read_yolo(
    root: str, *, yaml: str = "data.yaml", splits: Mapping[str, str] | None = None
) -> Annotations:
    """Reads a data set in the layout of Ultralytics.

    A YAML file says where the images are, and what the classes are called::

        path: .
        train: images/train
        val: images/val
        names: {0: cat, 1: dog}

    The labels of `images/train/0001.jpg` are in `labels/train/0001.txt`, or beside it: one line
    an object with the index of its class and its box as centre, width and height in fractions of
    the image, or the corners of a polygon, around which the box is drawn::

        0 0.450 0.525 0.700 0.850
        1 0.1 0.1 0.9 0.2 0.5 0.8

    `train`, `val` and `test` are folders, text files that list images, or lists of these. The
    scalars of the file are read as text, aliases are refused.

    Args:
        root: Folder of the data set, on any filesystem that TensorFlow opens.
        yaml: The YAML file, relative to `root`. If its `path` is not there, or not below `root`,
            the folder of the YAML file is meant.
        splits: Image folder of each split, relative to `root`, in place of the YAML file; the
            classes are then numbers, as written.

    Returns:
        The objects in the order of the image names or lists, boxes in fractions, classes by
        name; row numbers are line numbers of the label files.

    Raises:
        DataError: If the YAML file is missing or wrong, or names what is not there.
    """
    require_root(root)
    path = config_path(root, yaml, "data.source.yolo.yaml")
    config = read_yolo_config(path) if splits is None else _without_yaml(splits)
    bases = base_folders(root, path, config.base)
    faults: list[Fault] = []
    unread: dict[ImageRef, int] = {}
    folders: dict[str, None] = {}
    objects: dict[Split, list[Annotated]] = {}
    empty: list[EmptyImage] = []
    in_folders: list[str] = []
    labels = _LabelFiles(root)
    for split, entries in config.splits.items():
        images, image_folders = images_of(bases, entries, root, f"{path}: {split}", faults)
        folders |= dict.fromkeys(image_folders)
        in_folders += images if len(image_folders) == len(entries) else []
        objects[split] = []
        for image in images:
            found, nothing = _objects(image, root, config, labels, faults, unread)
            objects[split] += found
            if nothing is not None:
                faults.append(nothing)
                empty.append(EmptyImage(split, ImageRef(image), below(root, image), nothing))
    faults += labels.without_images(in_folders)
    return Annotations(
        objects,
        "fraction",
        faults,
        class_names=config.class_names or None,
        folders=list(folders),
        unread=unread,
        empty=empty,
    )


def _without_yaml(splits: Mapping[str, str]) -> YoloConfig:
    """What a YAML file would say of these folders, but for the names of the classes."""
    given = {split: [folder] for split, folder in given_splits(splits, "data.source.yolo.splits")}
    return YoloConfig("", given, [], has_keypoints=False)


class _LabelFiles:
    """Finds label files; each folder is listed once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: dict[str, set[str]] = {}
        self._used: set[str] = set()

    def find(self, image: str) -> str | None:
        """The label file of an image, or None."""
        found = next((path for path in label_paths(image, self._root) if self._has(path)), None)
        if found is not None:
            self._used.add(found)
        return found

    def without_images(self, images: Iterable[str]) -> Iterator[Fault]:
        """Faults of the label files that no image was found for.

        Args:
            images: All images of some folders, whose label folders are looked through. Label
                files beside images do not count, as other text may lie there.
        """
        places = [label_paths(image, self._root) for image in images]
        for folder in sorted({folder_of(paths[0]) for paths in places if len(paths) > 1}):
            for name in sorted(self._names.get(folder, ())):
                path = files.join(folder, name)
                is_label = name.endswith(".txt") and name not in _NO_LABELS
                if is_label and path not in self._used:
                    yield Fault(path, 0, "has no image", "missing_image")

    def _has(self, path: str) -> bool:
        folder = dirname(path)
        if folder not in self._names:
            self._names[folder] = set(files.listed(folder))
        return basename(path) in self._names[folder]


def _objects(
    image: str,
    root: str,
    config: YoloConfig,
    labels: _LabelFiles,
    faults: list[Fault],
    unread: dict[ImageRef, int],
) -> tuple[list[Annotated], Fault | None]:
    """The objects of one image, or how it is told that it has none.

    What is wrong with its label file is added to the faults.
    """
    path = labels.find(image)
    if path is None:
        reason = f"has no label file {label_paths(image, root)[0]}"
        return [], Fault(image, 0, reason, "no_object")
    text = _text(path, root)
    if isinstance(text, Fault):
        faults.append(text)
        return [], None
    classes = config.class_names
    found, wrong = parse_labels(text, len(classes) or MOST_CLASSES, keypoints=config.has_keypoints)
    faults += [Fault(path, row, reason, kind) for row, reason, kind in wrong]
    if wrong:
        unread[ImageRef(image)] = len(wrong)
    if not found and not wrong:
        return [], Fault(path, 0, "names no object", "no_object")
    name = below(root, image)
    return [
        Annotated(
            ImageRef(image),
            name,
            classes[one.label] if classes else str(one.label),
            one.box,
            path,
            one.row,
        )
        for one in found
    ], None


def _text(path: str, root: str) -> str | Fault:
    """The text of a label file, or why it has none."""
    try:
        place(root, below(root, path), root)
        if files.file_size(path) > LARGEST_LABELS:
            return Fault(path, 0, f"is larger than {LARGEST_LABELS >> 20} MiB", "syntax")
        return files.read_bytes(path).decode("utf-8-sig")
    except files.OutsideError as error:
        return Fault(path, 0, str(error), "outside")
    except OSError as error:
        return Fault(path, 0, f"cannot be read: {error}", "unreadable_file")
    except UnicodeDecodeError:
        return Fault(path, 0, "is not UTF-8 text", "encoding")
