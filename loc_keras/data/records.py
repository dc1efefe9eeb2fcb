"""The usable objects of one split, by columns: one image, one class and one box each."""

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from loc_keras.data.annotations import Annotations, Fault, ImageRef

UPRIGHT = 1  # EXIF orientation of a picture that is stored as it is looked at.

THUMBNAIL_SIDE = 32
"""Height and width in px of the grey thumbnails by which `duplicates` knows pictures."""


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
        """Whether each shows no object, bool (N,): its box is `resize.EMPTY_BOX`."""
        return np.logical_not(self.boxes.any(axis=1))

    def is_empty(self, index: int) -> bool:
        """Whether one record shows no object."""
        return not self.boxes[index].any()

    def ref(self, index: int) -> ImageRef:
        """Where the image of one record lies."""
        place = int(self.offsets[index]), int(self.lengths[index])
        return ImageRef(str(self.paths[index]), *place)

    def take(self, index: np.ndarray) -> "Records":
        """The records of these indices, in this order."""
        columns = {name: getattr(self, name)[index] for name in COLUMNS}
        return replace(self, **columns)

    def fault(self, index: int, reason: str, kind: str) -> Fault:
        """A fault of one record, by its annotation."""
        return Fault(str(self.files[index]), int(self.rows[index]), reason, kind)


COLUMNS = tuple(column.name for column in fields(Records) if column.name != "class_names")
"""Attributes of `Records` that have a row a record."""


def image_refs(records: Records) -> list[ImageRef]:
    """Where the image of each record lies."""
    columns = (records.paths.tolist(), records.offsets.tolist(), records.lengths.tolist())
    return list(map(ImageRef, *columns))


class Measures(NamedTuple):
    """Figures of some records.

    Attributes:
        side: Median of the pictures' sides in px (the root of their area).
        spread: 90th percentile of width by height divided by the 10th.
        small_side: 10th percentile of the boxes' shorter side, in fractions of the picture.
    """

    side: float
    spread: float
    small_side: float


def measure(records: Records) -> Measures:
    """Measures pictures and boxes of at least one record."""
    heights, widths = records.sizes.T.astype(float)
    x1, y1, x2, y2 = records.boxes.T.astype(float)
    narrow, wide = np.percentile(widths / heights, [10, 90])
    return Measures(
        float(np.median(np.sqrt(heights * widths))),
        float(wide / narrow),
        float(np.percentile(np.minimum(x2 - x1, y2 - y1), 10)),
    )


def count_multi_object(annotations: Annotations) -> tuple[int, int]:
    """Images with several objects, and images with any; an object that is written twice is one."""
    objects = annotations.joined
    counts = objects.distinct()
    counts += np.array([annotations.unread.get(image, 0) for image in objects.images], np.int64)
    return int((counts > 1).sum()), len(counts)


def even_sample(records: Records, limit: int | None) -> Records:
    """At most `limit` records, evenly spaced, since files are often sorted by class."""
    if limit is None or len(records) <= limit:
        return records
    return records.take(np.arange(limit) * len(records) // limit)
