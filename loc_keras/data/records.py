"""The usable objects of one split, by columns: one image, one class and one box each."""

from dataclasses import dataclass, replace

import numpy as np

from loc_keras.data.annotations import Fault

UPRIGHT = 1
"""EXIF orientation of a picture that is stored as it is looked at."""


@dataclass(frozen=True, eq=False)
class Records:
    """Objects of one split, checked and in fractions.

    The picture of a record is made in this order: decode the bytes, turn them as `orientations`
    says, cut `windows` out. Boxes are fractions of that picture.

    Attributes:
        paths: str (N,), files that hold the encoded images.
        offsets: int64 (N,), first byte of the image in its file.
        lengths: int64 (N,), its bytes, -1 for the whole file.
        orientations: uint8 (N,), EXIF orientation 1..8 to undo; 1 leaves the picture as decoded.
        windows: int32 (N, 4), (left, top, right, bottom) in px of the turned picture to cut out;
            all zero for the whole picture.
        sizes: int32 (N, 2), height and width of the resulting picture in px.
        labels: int32 (N,), class indices.
        boxes: float32 (N, 4), (x1, y1, x2, y2) in fractions of the resulting picture.
        names: str (N,), images as the annotations name them.
        files: str (N,), annotation files.
        rows: int64 (N,), line, object or record number in the annotation file, from 1.
        groups: str (N,), images with the same non-empty group must stay in one split.
        class_names: Name of each class, by index.
    """

    paths: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    orientations: np.ndarray
    windows: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    names: np.ndarray
    files: np.ndarray
    rows: np.ndarray
    groups: np.ndarray
    class_names: list[str]

    def __len__(self) -> int:
        """Number of records."""
        return len(self.labels)

    @property
    def empty(self) -> np.ndarray:
        """Whether each shows no object, bool (N,): its box is `empty_boxes.EMPTY_BOX`."""
        return np.logical_not(self.boxes.any(axis=1))

    def is_empty(self, index: int) -> bool:
        """Whether one record shows no object."""
        return not self.boxes[index].any()

    def take(self, index: np.ndarray) -> "Records":
        """The records of these indices, in this order."""
        columns = {name: getattr(self, name)[index] for name in COLUMNS}
        return replace(self, **columns)

    def fault(self, index: int, reason: str, kind: str) -> Fault:
        """A fault of one record, by its annotation."""
        return Fault(str(self.files[index]), int(self.rows[index]), reason, kind)


COLUMNS = (
    "paths",
    "offsets",
    "lengths",
    "orientations",
    "windows",
    "sizes",
    "labels",
    "boxes",
    "names",
    "files",
    "rows",
    "groups",
)
"""Attributes of `Records` that have a row a record."""
