"""The readers by format name; a new format is one more line here and one section of the config."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loc_keras.data.annotations import Annotations, Split
from loc_keras.data.files import is_folder
from loc_keras.data.formats.coco import coco_source, read_coco, write_coco
from loc_keras.data.formats.csv_file import csv_source, read_csv, write_csv
from loc_keras.data.formats.cub import read_cub
from loc_keras.data.formats.gtsrb import read_gtsrb
from loc_keras.data.formats.imagenet import read_imagenet_loc, read_tiny_imagenet
from loc_keras.data.formats.tfds import read_tfds
from loc_keras.data.formats.tfrecord import read_tfrecord, tfrecord_source, write_tfrecord
from loc_keras.data.formats.voc import read_voc, voc_source, write_voc
from loc_keras.data.formats.writing import Job
from loc_keras.data.formats.yolo import read_yolo, write_yolo, yolo_source
from loc_keras.data.records import Records
from loc_keras.errors import DataError

READERS: dict[str, Callable[..., Annotations]] = {
    "csv": read_csv,
    "voc": read_voc,
    "coco": read_coco,
    "yolo": read_yolo,
    "tiny_imagenet": read_tiny_imagenet,
    "imagenet_loc": read_imagenet_loc,
    "cub": read_cub,
    "gtsrb": read_gtsrb,
    "tfrecord": read_tfrecord,
    "tfds": read_tfds,
}
"""Reader of each `data.source.format`: root folder and the format's own options in, annotations
out."""

_MADE_BY_READER = frozenset({"tfds"})  # Its folder may be made by the download.


def read_annotations(format_name: str, root: str, **options: Any) -> Annotations:
    """Reads a data set.

    Args:
        format_name: A key of `READERS`.
        root: The data set's folder, local or remote.
        **options: Of that reader.

    Raises:
        DataError: If the folder or a file that the format needs is missing or unreadable, or if
            nothing at all was found.
    """
    if format_name not in _MADE_BY_READER and not is_folder(root):
        raise DataError(f"data folder {root} does not exist: data.source.path must name it.")
    found = READERS[format_name](root, **options)
    if not any(found.objects.values()) and not found.faults:
        raise DataError(
            f"{root} holds no objects that the format {format_name} finds; check "
            "data.source.format and data.source.path."
        )
    return found


WRITERS: dict[str, Callable[[Job], dict[Split, int]]] = {
    "csv": write_csv,
    "voc": write_voc,
    "coco": write_coco,
    "yolo": write_yolo,
    "tfrecord": write_tfrecord,
}
"""The writer of each format: fills the job's folder and returns the images of each split."""


SOURCES: dict[str, Callable[[Sequence[str], Mapping[Split, Records]], dict[str, Any]]] = {
    "csv": csv_source,
    "voc": voc_source,
    "coco": coco_source,
    "yolo": yolo_source,
    "tfrecord": tfrecord_source,
}
"""For each format, from class names and what was written to the settings (of `data.source`) that
read it."""
