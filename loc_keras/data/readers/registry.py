"""The readers by format name; a new format is one more line here and one section of the config."""

from collections.abc import Callable
from typing import Any

from loc_keras.data.annotations import Annotations
from loc_keras.data.files import is_folder
from loc_keras.data.readers.coco import read_coco
from loc_keras.data.readers.csv_file import read_csv
from loc_keras.data.readers.cub import read_cub
from loc_keras.data.readers.gtsrb import read_gtsrb
from loc_keras.data.readers.imagenet_loc import read_imagenet_loc
from loc_keras.data.readers.tfds_source import read_tfds
from loc_keras.data.readers.tfrecord import read_tfrecord
from loc_keras.data.readers.tiny_imagenet import read_tiny_imagenet
from loc_keras.data.readers.voc import read_voc
from loc_keras.data.readers.yolo import read_yolo
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
