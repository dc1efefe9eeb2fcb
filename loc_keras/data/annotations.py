"""What every annotation format is read into, before anything is judged.

A reader parses and nothing more: boxes are as the file gives them, perhaps inverted, not finite
or outside the image, and images may be missing. `records.resolve` decides what can be used, and
`check` tells the user what is wrong, both from the same objects.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

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
