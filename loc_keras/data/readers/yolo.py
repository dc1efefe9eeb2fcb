"""Reader of YOLO data sets: a YAML file, and one text file for each image."""

from collections.abc import Iterable, Iterator, Mapping
from posixpath import basename, dirname

from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    Fault,
    ImageRef,
    Split,
)
from loc_keras.data.readers.parsing import (
    below,
    config_path,
    folder_of,
    given_splits,
    place,
    require_root,
)
from loc_keras.data.readers.yolo_images import base_folders, images_of, label_paths
from loc_keras.data.readers.yolo_labels import LARGEST_LABELS, parse_labels
from loc_keras.data.readers.yolo_yaml import MOST_CLASSES, YoloConfig, read_yolo_config

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
