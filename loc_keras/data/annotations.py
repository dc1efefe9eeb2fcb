"""What every annotation format is read into, the faults of a data set, and names of classes.

A reader parses and nothing more: boxes are as the file gives them, perhaps inverted, not finite
or outside the image, and images may be missing. `resolve` decides what can be used, and `check`
reports what is wrong, both from the same objects.
"""

import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Any, Literal, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from loc_keras.data.fault_kinds import SEVERITIES, Severity, kind_of
from loc_keras.data.resize import EMPTY_BOX

Split = Literal["train", "val", "test", "calibration", "folds"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""Those that a data set's own files may give; images for calibration are always cut off."""

CALIBRATION: Split = "calibration"
"""Images that no choice was made by: what is promised of single answers is fitted on them."""

FOLDS: Split = "folds"
"""The training images, each answered by a model that was trained without it."""

ALL_SPLITS: tuple[Split, ...] = (*SPLITS, CALIBRATION)

Units = Literal["fraction", "pixel"]
Box = tuple[float, float, float, float]

WHOLE_FILE = -1  # Length of an `ImageRef` that stands for all of its file.


class ImageRef(NamedTuple):
    """Where the encoded bytes of one image lie.

    The path is on any filesystem that `loc_keras.data.files` opens; the length `WHOLE_FILE` stands
    for the file as it is.
    """

    path: str
    offset: int = 0
    length: int = WHOLE_FILE


class Annotated(NamedTuple):
    """One labelled object as an annotation file gives it.

    Attributes:
        name: The image as the annotation names it, for messages and for writing it again.
        label: Class as written: a name, or a number as text.
        box: (x1, y1, x2, y2) in `Annotations.units`; any four floats.
        row: Line, object or record number within the annotation file, from 1.
        size: (width, height) in px that the annotation declares for the image, or None.
        group: Images that must not be parted by a split share it, beside what their bytes say; `""`
            for none.
        empty: Whether it stands for an image without an object: then the box is `EMPTY_BOX` and the
            label that of the background.
    """

    image: ImageRef
    name: str
    label: str
    box: Box
    file: str
    row: int
    size: tuple[int, int] | None = None
    group: str = ""
    empty: bool = False


class Subject(NamedTuple):
    """What objects of one image in one file have in common; attributes as those of `Annotated`."""

    image: ImageRef
    name: str
    file: str
    size: tuple[int, int] | None = None
    group: str = ""
    empty: bool = False


_Entry = TypeVar("_Entry")


class Columns(Sequence[_Entry]):
    """A sequence that is kept by columns, of which `take` gives a part and iterating the items."""

    @abstractmethod
    def take(self, index: npt.NDArray[Any]) -> Self:
        """The items of these indices, or those that a mask marks."""

    def __getitem__(self, index: Any) -> Any:
        part = self.take(np.atleast_1d(np.arange(len(self))[index]))
        return part if isinstance(index, slice) else next(iter(part))


@dataclass(frozen=True, eq=False)
class Objects(Columns[Annotated]):
    """N labelled objects by columns; an item is an `Annotated`.

    Attributes:
        subjects: Subjects and labels of the objects, each once, in the order in which they occur.
        subject: int32 (N,), indices of them.
        label: int32 (N,), likewise.
        boxes: float64 (N, 4), (x1, y1, x2, y2) as annotated.
        rows: int64 (N,).
    """

    subjects: list[Subject]
    labels: list[str]
    subject: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def of_columns(
        cls, subjects: Sequence[Subject], labels: Sequence[str], *columns: npt.ArrayLike
    ) -> "Objects":
        """Objects of their four columns; subjects and labels may repeat, or not occur."""
        subject, label, boxes, rows = map(np.asarray, columns)
        used, subject = _occurring(subjects, subject.astype(np.int32))
        names, label = _occurring(labels, label.astype(np.int32))
        boxes = boxes.astype(np.float64, copy=False).reshape(-1, 4)
        return cls(used, names, subject, label, boxes, rows.astype(np.int64))

    @classmethod
    def joined(cls, parts: "Iterable[Annotated | Objects]") -> "Objects":
        """All of some objects and columns of objects."""
        blocks: list[Objects] = []
        for kind, run in groupby(parts, type):
            members: list[Any] = list(run)
            blocks += [cls._of_items(members)] if kind is Annotated else members
        if len(blocks) < 2:
            return blocks[0] if blocks else cls.of_columns((), (), (), (), (), ())
        subjects = [one for block in blocks for one in block.subjects]
        labels = [one for block in blocks for one in block.labels]
        starts = np.cumsum([[0, 0], *([len(b.subjects), len(b.labels)] for b in blocks)], axis=0)
        columns = [
            (b.subject + first, b.label + named, b.boxes, b.rows)
            for b, (first, named) in zip(blocks, starts, strict=False)
        ]
        return cls.of_columns(subjects, labels, *map(np.concatenate, zip(*columns, strict=True)))

    @classmethod
    def _of_items(cls, items: Iterable[Annotated]) -> "Objects":
        images, names, labels, boxes, files, rows, *more = zip(*items, strict=True)
        every = range(len(rows))
        subjects = list(map(Subject, images, names, files, *more))
        return cls.of_columns(subjects, labels, every, every, boxes, rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Annotated]:
        columns = (self.subject, self.label, self.boxes, self.rows)
        for subject, label, box, row in zip(*(one.tolist() for one in columns), strict=True):
            image, name, file, *more = self.subjects[subject]
            yield Annotated(image, name, self.labels[label], tuple(box), file, row, *more)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, index: npt.NDArray[Any]) -> "Objects":
        """As `Columns.take`."""
        if index.dtype == bool and index.all():
            return self
        columns = (self.subject, self.label, self.boxes, self.rows)
        return self.of_columns(self.subjects, self.labels, *(one[index] for one in columns))

    def renamed(self, new: Mapping[str, str]) -> "Objects":
        """The objects with other labels, where `new` has one."""
        labels = [new.get(label, label) for label in self.labels]
        return self.of_columns(
            self.subjects, labels, self.subject, self.label, self.boxes, self.rows
        )

    def label_counts(self) -> Counter[str]:
        """Number of objects of each label."""
        counts = np.bincount(self.label, minlength=len(self.labels))
        return Counter(dict(zip(self.labels, counts.tolist(), strict=True)))

    @cached_property
    def images(self) -> dict[ImageRef, int]:
        """The images, each with the number by which `image` means it, in order."""
        refs = dict.fromkeys(subject.image for subject in self.subjects)
        return {ref: number for number, ref in enumerate(refs)}

    @cached_property
    def image(self) -> npt.NDArray[np.int32]:
        """The image of each object, int32 (N,)."""
        return self.of_subjects([self.images[one.image] for one in self.subjects], np.int32)

    @cached_property
    def first(self) -> npt.NDArray[np.int64]:
        """The index of the first object of each image, int64."""
        found = np.zeros(len(self.images), np.int64)
        found[self.image[::-1]] = np.arange(len(self))[::-1]
        return found

    @cached_property
    def empty(self) -> npt.NDArray[np.bool_]:
        """Whether each stands for an image without an object, bool (N,)."""
        return self.of_subjects([one.empty for one in self.subjects], np.bool_)

    @cached_property
    def declared(self) -> npt.NDArray[np.int64]:
        """The declared (width, height) in px, int64 (N, 2); 0 where there is none."""
        sizes = [one.size or (0, 0) for one in self.subjects]
        return np.array(sizes, np.int64).reshape(-1, 2)[self.subject]

    def of_subjects(self, values: Sequence[Any], dtype: Any) -> npt.NDArray[Any]:
        """What is known of each subject, as a column of the objects."""
        return np.array(values, dtype)[self.subject]

    def firsts(self, *keys: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The index of the first object with the same image, label, box and further keys, each."""
        columns = [self.image, self.label, *keys, *(self.boxes + 0.0).T.view(np.uint64)]
        digest = np.zeros(len(self), np.uint64)
        for column in columns:
            digest = (digest ^ column.astype(np.uint64)) * _MIXING
            digest ^= digest >> np.uint64(29)
        order = np.argsort(digest, kind="stable")
        alike = np.zeros(len(self), bool)
        repeats = digest[order[1:]] == digest[order[:-1]]
        alike[order[1:][repeats]] = alike[order[:-1][repeats]] = True
        alike &= ~np.isnan(self.boxes).any(axis=1)
        found = np.arange(len(self))
        first: dict[tuple[Any, ...], int] = {}
        for index in np.flatnonzero(alike).tolist():
            key = tuple(column[index] for column in columns)
            found[index] = first.setdefault(key, index)
        return found

    def distinct(self) -> npt.NDArray[np.int64]:
        """Number of different objects of each image; one that is written twice is one."""
        first = self.firsts() == np.arange(len(self))
        return np.bincount(self.image[first], minlength=len(self.images))


_MIXING = np.uint64(0x9E3779B97F4A7C15)  # The golden ratio, as hashes multiply by it.


def _occurring(
    table: Sequence[_Entry], index: npt.NDArray[np.int32]
) -> tuple[list[_Entry], npt.NDArray[np.int32]]:
    """The entries that indices mean, each once in the order of their first use, and new indices."""
    every = np.arange(len(index))
    first, new = np.zeros((2, len(table)), np.int64)
    first[index[::-1]] = every[::-1]
    used = index[first[index] == every]
    numbers: dict[_Entry, int] = {}
    new[used] = [numbers.setdefault(table[place], len(numbers)) for place in used.tolist()]
    return list(numbers), new[index].astype(np.int32)


class Fault(NamedTuple):
    """Something that is wrong with a data set, or worth knowing of it.

    Attributes:
        file: Annotation or image file; `""` for the data set as a whole.
        row: Line, object or record number within it, from 1; 0 for the file as a whole.
        reason: What is wrong, as the end of a sentence that starts with file and row.
        kind: Key of `CATALOGUE`; the same for all faults that are mended alike.
        image: The image that shows it, or None.
        box: (x1, y1, x2, y2) in fractions of that image, perhaps inverted or outside, or None.
        twin: Another image that it concerns, such as the one that it repeats.
        twin_box: A box on that one, likewise.
    """

    file: str
    row: int
    reason: str
    kind: str
    image: ImageRef | None = None
    box: Box | None = None
    twin: ImageRef | None = None
    twin_box: Box | None = None

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return kind_of(self.kind).severity


def counted_from_one(count: int) -> Fault:
    """The fault of labels that are numbered 1..`count` where classes are 0..`count` - 1."""
    reason = (
        f"labels number the {count} classes from 1 to {count} and never 0, but the first class "
        "is 0: take 1 off every number, or list a class for 0"
    )
    return Fault("", 0, reason, "class_from_one")


class EmptyImage(NamedTuple):
    """An image of which the annotations say that it shows no object; see also `Annotated`.

    Attributes:
        fault: What is reported where such images are left out; it is among the faults as well.
        label: Class as written, or `""` where none is: only an image without a class, or of the
            class of the background, can be one of the background.
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
        upright_tool: The labelling program that the files name, if it is one that shows pictures
            upright by their EXIF orientation.
    """

    objects: dict[Split, Objects]
    units: Units
    faults: list[Fault] = field(default_factory=list)
    class_names: list[str] | None = None
    folders: Sequence[str] = ()
    exact: bool = True
    unread: Mapping[ImageRef, int] = field(default_factory=dict)
    empty: Sequence[EmptyImage] = ()
    upright_tool: str = ""

    def __post_init__(self) -> None:
        parts: Mapping[Split, Sequence[Annotated]] = self.objects
        columns = {
            split: Objects.joined([part] if isinstance(part, Objects) else part)
            for split, part in parts.items()
        }
        object.__setattr__(self, "objects", columns)

    @cached_property
    def joined(self) -> Objects:
        """The objects of all splits, one split after another."""
        return Objects.joined(self.objects.values())

    @cached_property
    def split(self) -> npt.NDArray[np.int8]:
        """The split of each of `joined`, as its place in `SPLITS`, int8 (N,)."""
        places = [SPLITS.index(split) for split in self.objects]
        return np.repeat(np.array(places, np.int8), [len(part) for part in self.objects.values()])


def in_units(annotations: Annotations, units: str | None) -> Annotations:
    """Takes boxes to be `"fraction"`, `"percent"` or `"pixel"`; None: as the format says."""
    if units is None:
        return annotations
    if units != "percent":
        return replace(annotations, units="pixel" if units == "pixel" else "fraction")

    objects = {
        split: replace(part, boxes=part.boxes / 100) for split, part in annotations.objects.items()
    }
    return replace(annotations, objects=objects, units="fraction")


def composed(name: str) -> str:
    """A class name without blanks around it, in composed form (NFC, Unicode Annex 15)."""
    return unicodedata.normalize("NFC", name).strip()


def with_composed_names(annotations: Annotations) -> Annotations:
    """Makes one class of labels that differ in their Unicode form alone, and notes it."""
    counts = annotations.joined.label_counts()
    counts.update(one.label for one in annotations.empty)
    given = annotations.class_names
    new = {label: composed(label) for label in {*counts, *(given or ())}}
    changed = sorted(label for label, name in new.items() if label != name)
    if not changed:
        return annotations
    notes = [
        Fault("", 0, f"{new[label]!r}, {counts[label]} times in another form", "unicode_form")
        for label in changed
    ]
    return replace(
        annotations,
        objects={split: part.renamed(new) for split, part in annotations.objects.items()},
        empty=[one._replace(label=new[one.label]) for one in annotations.empty],
        class_names=given and list(dict.fromkeys(new[name] for name in given)),
        faults=[*annotations.faults, *notes],
    )


def with_background(
    annotations: Annotations, name: str, class_names: Sequence[str] | None = None
) -> Annotations:
    """Makes images without an object records of a class, `name`, and no longer faults.

    An image that is named as empty but has an object as well, read or not, is none: what is said of
    it stays a fault, and so are objects that have this class and a box. Where neither the config
    (`class_names`) nor the data set lists the class, it comes after the others.
    """
    given = class_names or annotations.class_names
    if given:
        names = with_class(given, name)
    else:
        train = annotations.objects.get("train")
        names = infer_class_names(set(train.labels if train else ()), name)
    index_of = class_indices(names)

    def is_background(label: str) -> bool:
        return class_index(label, index_of) == index_of[name]

    faults: list[Fault] = []
    parts: dict[Split, list[Annotated | Objects]] = {}
    unread = Counter(annotations.unread)
    for split, part in annotations.objects.items():
        named = np.array([is_background(label) for label in part.labels], bool)[part.label]
        boxed = named & part.boxes.any(axis=1)
        for one in part.take(boxed):
            reason = (
                f"has a box of the class {name!r}, which data.source.background keeps for "
                "images without an object"
            )
            faults.append(Fault(one.file, one.row, reason, "background_box"))
            unread[one.image] += 1
        parts[split] = [kept := part.take(~boxed)]
        if (nothing := named[~boxed]).any():
            parts[split] = [
                one._replace(label=name, empty=True) if empty else one
                for one, empty in zip(kept, nothing.tolist(), strict=True)
            ]
    objects = {split: Objects.joined(part) for split, part in parts.items()}
    showing = {(split, image) for split, part in objects.items() for image in part.images}
    used: set[Fault] = set()
    for split, image, image_name, fault, label, size, group in annotations.empty:
        fits = not label or is_background(label)
        if fits and image not in unread and (split, image) not in showing:
            used.add(fault)
            parts.setdefault(split, []).append(
                Annotated(
                    image, image_name, name, EMPTY_BOX, fault.file, fault.row, size, group, True
                )
            )
    return replace(
        annotations,
        objects={split: Objects.joined(part) for split, part in parts.items()},
        faults=[fault for fault in annotations.faults if fault not in used] + faults,
        class_names=with_class(annotations.class_names, name) if annotations.class_names else None,
        unread=dict[ImageRef, int](unread),
        empty=(),
    )


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


def known_classes(
    given: Sequence[str] | None, train_labels: Iterable[str], background: str | None = None
) -> list[str]:
    """Classes by index: those given, or else those inferred from the training split's labels."""
    return list(given) if given else infer_class_names(set(train_labels), background)


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


def _is_index(label: str) -> bool:
    # Python refuses to turn thousands of digits into a number.
    return label.isascii() and label.isdigit() and len(label) <= 18


def count_by_kind(faults: Sequence[Fault]) -> dict[str, int]:
    """Number of faults of each kind, worst kinds first, then the most frequent."""
    counts = Counter(fault.kind for fault in faults).most_common()
    return dict(sorted(counts, key=lambda item: SEVERITIES.index(kind_of(item[0]).severity)))


def count_by_severity(faults: Sequence[Fault]) -> dict[Severity, int]:
    """Number of errors, warnings and notes."""
    counts = Counter(fault.severity for fault in faults)
    return {severity: counts[severity] for severity in SEVERITIES}
