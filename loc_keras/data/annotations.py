"""What every annotation format is read into, before anything is judged.

A reader parses and nothing more: boxes are as the file gives them, perhaps inverted, not finite
or outside the image, and images may be missing. `records.resolve` decides what can be used, and
`check` tells the user what is wrong, both from the same objects.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from loc_keras.data.files import OutsideError, join_inside, read_text
from loc_keras.data.resize import EMPTY_BOX
from loc_keras.errors import DataError

# Whole numbers beyond both are identifiers (as in a data base), not class indices.
_MOST_INDEX_CLASSES = 10_000
_MOST_INDICES_PER_LABEL = 10


def infer_class_names(labels: set[str], background: str | None = None) -> list[str]:
    """Names of the classes: whole numbers in numeric order, else alphabetic order.

    Whole numbers from 0 name every number up to the largest, so that a number is its own class
    index even where some do not occur. Where the largest is above 10,000 and above 10 times the
    number of labels, they name only themselves, as numbers that do not start at 0 do. The class
    `background`, where it is given, comes last, whether labels name it or not.
    """
    if background is not None:
        return [*infer_class_names(labels - {background}), background]
    if labels and all(_is_index(label) for label in labels):
        numbers = {int(label) for label in labels}
        largest = max(numbers)
        dense = largest <= max(_MOST_INDEX_CLASSES, _MOST_INDICES_PER_LABEL * len(numbers))
        if min(numbers) == 0 and dense:
            return [str(number) for number in range(largest + 1)]
        return [str(number) for number in sorted(numbers)]
    return sorted(labels)


def with_class(names: Sequence[str], name: str) -> list[str]:
    """Class names that hold `name`: at its place, or else after the others."""
    return list(names) if name in names else [*names, name]


def class_indices(names: Sequence[str]) -> dict[str, int]:
    """Class index of each label: of the names and, where none of them is a number, of 0..K-1."""
    named = {name: index for index, name in enumerate(names)}
    if any(map(_is_index, names)):
        return named
    return {str(index): index for index in range(len(names))} | named


def class_index(label: str, index_of: dict[str, int]) -> int | None:
    """Looks a label up, whole numbers with or without leading zeros; None for no class."""
    if label in index_of:
        return index_of[label]
    if _is_index(label):
        return index_of.get(str(int(label)))
    return None


def read_class_names(root: str, name: str) -> list[str]:
    """Reads a file with one class name a line; blank lines do not count.

    Args:
        root: Folder of the data set.
        name: The file, relative to it.

    Raises:
        DataError: If it cannot be read, is empty, or names a class twice.
    """
    try:
        path = join_inside(root, name)
    except OutsideError as fault:
        raise DataError(f"data.source.class_names_file: {fault}.") from fault
    lines = read_text(path, what="class name file").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"class name file {path} is empty; write one class name a line.")
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise DataError(f"class name file {path} names {', '.join(twice)} more than once.")
    return names


def _is_index(label: str) -> bool:
    # Python refuses to turn thousands of digits into a number.
    return label.isascii() and label.isdigit() and len(label) <= 18


Split = Literal["train", "val", "test", "calibration"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""Those that a data set's own files may give; images for calibration are always cut off."""

CALIBRATION: Split = "calibration"
"""Images that no choice was made by: what is promised of single answers is fitted on them."""

ALL_SPLITS: tuple[Split, ...] = (*SPLITS, CALIBRATION)

Units = Literal["fraction", "pixel"]

WHOLE_FILE = -1
"""Length of an `ImageRef` that stands for all of its file."""


class ImageRef(NamedTuple):
    """Where the encoded bytes of one image lie.

    Attributes:
        path: File, on any filesystem that `loc_keras.data.files` opens.
        offset: First byte within the file.
        length: Number of bytes; `WHOLE_FILE` for the file as it is.
    """

    path: str
    offset: int = 0
    length: int = WHOLE_FILE


class Fault(NamedTuple):
    """Something that cannot be used.

    Attributes:
        file: The annotation or image file at fault.
        row: Line, object or record number within it, from 1; 0 for the file as a whole.
        reason: What is wrong, as the end of a sentence that starts with file and row.
        kind: Short name of the sort of fault, such as `"number"`; the same for all faults that
            are mended alike.
    """

    file: str
    row: int
    reason: str
    kind: str


class Annotated(NamedTuple):
    """One labelled object as an annotation file gives it.

    Attributes:
        image: The image it is in.
        name: The image as the annotation names it, for messages and for writing it again.
        label: Class as written: a name, or a number as text.
        box: (x1, y1, x2, y2) in `Annotations.units`; any four floats.
        file: Annotation file.
        row: Line, object or record number within it, from 1.
        size: (width, height) in px that the annotation declares for the image, or None.
        group: Images that must not be parted by a split share it, beside what their bytes say;
            `""` for none.
        empty: Whether it stands for an image without an object: then the box is `EMPTY_BOX` and
            the label that of the background.
    """

    image: ImageRef
    name: str
    label: str
    box: tuple[float, float, float, float]
    file: str
    row: int
    size: tuple[int, int] | None = None
    group: str = ""
    empty: bool = False


class EmptyImage(NamedTuple):
    """An image of which the annotations say that it shows no object.

    Attributes:
        split: The split it stands in.
        image: The image.
        name: The image as the annotation names it.
        fault: How it is told where such images are left out; it is among the faults as well.
        label: Class as written, or `""` where none is: only an image without a class, or of the
            class of the background, can be one of the background.
        size: (width, height) in px that the annotation declares, or None.
        group: As in `Annotated`.
    """

    split: Split
    image: ImageRef
    name: str
    fault: Fault
    label: str = ""
    size: tuple[int, int] | None = None
    group: str = ""


@dataclass(frozen=True)
class Annotations:
    """All that the annotation files of a data set say.

    Attributes:
        objects: Objects of each split that the data set gives, in the order of its files. A data
            set without splits has `"train"` alone, from which others may be cut.
        units: Of every box: fractions of the image side, or pixels.
        faults: What could not be parsed, and images that name no object (kind `"no_object"`).
        class_names: Classes in the order of their indices where the data set fixes them, or None.
        folders: Folders that hold images and nothing else but annotations, so that an image
            there which no annotation names is an orphan.
        exact: Whether boxes are continuous edges (a box over the pixels 0..63 is 0..64); False
            where the last pixel belongs to the box and the format itself says so.
        unread: Objects of an image, by their number, that could not be parsed; an image with one
            such and a good one still shows two. CSV rows that cannot be parsed are not known here.
        empty: Images that the annotations name as having no object; each has its fault, too.
    """

    objects: dict[Split, list[Annotated]]
    units: Units
    faults: list[Fault] = field(default_factory=list)
    class_names: list[str] | None = None
    folders: Sequence[str] = ()
    exact: bool = True
    unread: Mapping[ImageRef, int] = field(default_factory=dict)
    empty: Sequence[EmptyImage] = ()

    def all_objects(self) -> Iterator[tuple[Split, Annotated]]:
        """Every object with its split."""
        for split, objects in self.objects.items():
            for one in objects:
                yield split, one


FAULT_KIND = "background_box"


def with_background(
    annotations: Annotations, name: str, class_names: Sequence[str] | None = None
) -> Annotations:
    """Makes images without an object records of a class.

    An image that is named as empty but has an object as well, read or not, is none: what is said
    of it stays a fault.

    Args:
        annotations: As read.
        name: Class of images without an object. Where the data set fixes its classes and this is
            none of them, it comes after them.
        class_names: Classes by index where the config fixes them.

    Returns:
        Annotations without `empty`, whose faults of these images are gone. Objects that have the
        class of the background and a box are faults.
    """
    given = class_names or annotations.class_names
    if given:
        names = with_class(given, name)
    else:
        train = annotations.objects.get("train", [])
        names = infer_class_names({one.label for one in train}, name)
    index_of = class_indices(names)

    def is_background(label: str) -> bool:
        return class_index(label, index_of) == index_of[name]

    faults: list[Fault] = []
    objects: dict[Split, list[Annotated]] = {}
    unread = Counter(annotations.unread)
    for split, several in annotations.objects.items():
        objects[split] = []
        for one in several:
            if not is_background(one.label):
                objects[split].append(one)
            elif one.box == EMPTY_BOX:
                objects[split].append(one._replace(label=name, empty=True))
            else:
                faults.append(_boxed(one, name))
                unread[one.image] += 1
    showing = {(split, one.image) for split, part in objects.items() for one in part}
    used: set[Fault] = set()
    for nothing in annotations.empty:
        fits = not nothing.label or is_background(nothing.label)
        if fits and nothing.image not in unread and (nothing.split, nothing.image) not in showing:
            used.add(nothing.fault)
            objects.setdefault(nothing.split, []).append(_annotated(nothing, name))
    return replace(
        annotations,
        objects=objects,
        faults=[fault for fault in annotations.faults if fault not in used] + faults,
        class_names=with_class(annotations.class_names, name) if annotations.class_names else None,
        unread=dict[ImageRef, int](unread),
        empty=(),
    )


def _annotated(nothing: EmptyImage, label: str) -> Annotated:
    return Annotated(
        nothing.image,
        nothing.name,
        label,
        EMPTY_BOX,
        nothing.fault.file,
        nothing.fault.row,
        nothing.size,
        nothing.group,
        empty=True,
    )


def _boxed(one: Annotated, name: str) -> Fault:
    reason = f"has a box of the class {name!r}, which data.source.background keeps for images "
    return Fault(one.file, one.row, reason + "without an object", FAULT_KIND)
