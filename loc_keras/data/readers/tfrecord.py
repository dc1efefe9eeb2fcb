"""TFRecord shards with the feature names of the TensorFlow object-detection tools."""

import posixpath
from collections.abc import Mapping, Sequence

from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    Fault,
    ImageRef,
    Split,
)
from loc_keras.data.readers.parsing import config_path, given_splits, require_root, shown
from loc_keras.data.readers.text_tables import RowFault
from loc_keras.data.readers.tfrecord_example import Example, parse_example
from loc_keras.data.readers.tfrecord_index import LostError, read_records, scan_shard
from loc_keras.data.readers.tfrecord_label_map import read_label_map
from loc_keras.errors import DataError


def read_tfrecord(
    root: str, *, splits: Mapping[str, str | None], label_map: str | None = None
) -> Annotations:
    """Reads TFRecord shards; images stay in them and are fetched by byte range.

    Features of a record, one record an image:

    ```
    image/encoded                          bytes    the JPEG, PNG, ... file
    image/filename, image/source_id        bytes    name, may be absent
    image/height, image/width              int64    may be absent
    image/object/bbox/{xmin,ymin,xmax,ymax}  float list, fractions of the image side
    image/object/class/text                bytes list, class names
    image/object/class/label               int64 list, numbers from 1
    ```

    Every record is read once, and its checksum verified.

    Args:
        root: Folder of the shards.
        splits: For each split a pattern of shard names below the folder, such as
            `{"train": "train-*.tfrecord"}`; None leaves a split out.
        label_map: Name of a `label_map.pbtxt` below the folder, that names the class numbers.
            Without it classes go by `class/text`, or by number where there is no text.

    Returns:
        Rows are record numbers from 1, in fractions. Classes are those of the label map in the
        order of their numbers, else None.

    Raises:
        DataError: If the folder is missing, a pattern matches nothing or a shard of another
            split, a shard is compressed, or the label map cannot be read.
    """
    require_root(root)
    names = (
        None
        if label_map is None
        else read_label_map(config_path(root, label_map, "data.source.tfrecord.label_map"))
    )
    faults: list[Fault] = []
    objects: dict[Split, list[Annotated]] = {}
    empty: list[EmptyImage] = []
    for split, shards in _shards(root, splits).items():
        objects[split] = []
        for shard in shards:
            objects[split] += _read_shard(split, shard, names, faults, empty)
    class_names = None if names is None else list(names.values())
    return Annotations(
        objects=objects, units="fraction", faults=faults, class_names=class_names, empty=empty
    )


def _shards(root: str, splits: Mapping[str, str | None]) -> dict[Split, list[str]]:
    """Shards of each split."""
    found: dict[Split, list[str]] = {}
    owner: dict[str, Split] = {}
    for split, pattern in given_splits(splits, "data.source.tfrecord.splits"):
        try:
            paths = files.matching(root, str(pattern))
        except files.OutsideError as error:
            raise DataError(f"data.source.tfrecord.splits.{split}: {error}.") from error
        if not paths:
            raise DataError(f"pattern {pattern!r} of split {split} matches no file below {root}.")
        for path in paths:
            if path in owner:
                raise DataError(
                    f"TFRecord shard {path} belongs to {owner[path]} and to {split}; their "
                    "patterns must not match the same file."
                )
            owner[path] = split
        found[split] = paths
    return found


def _read_shard(
    split: Split,
    path: str,
    names: Mapping[int, str] | None,
    faults: list[Fault],
    empty: list[EmptyImage],
) -> list[Annotated]:
    """The objects of a shard; adds its faults, and its records without an object."""
    shard = scan_shard(path)
    if not shard.lengths and not shard.lost:
        faults.append(Fault(path, 0, "is empty", "syntax"))
    objects: list[Annotated] = []
    try:
        for row, offset, data in read_records(shard):
            try:
                example = parse_example(data)
                image = ImageRef(path, offset + example.offset, example.length)
                name = _plain_name(path, row, example.name)
                if not example.boxes:
                    nothing = Fault(path, row, "names no object", "no_object")
                    faults.append(nothing)
                    empty.append(EmptyImage(split, image, name, nothing, size=example.size))
                objects += _record_objects(path, row, image, name, example, names, faults)
            except RowFault as fault:
                faults.append(Fault(path, row, fault.reason, fault.kind))
    except LostError as error:
        faults.append(Fault(path, error.row, str(error), "syntax"))
    if shard.lost:
        faults.append(Fault(path, len(shard.lengths) + 1, shard.lost, "syntax"))
    return objects


def _record_objects(
    path: str,
    row: int,
    image: ImageRef,
    name: str,
    example: Example,
    names: Mapping[int, str] | None,
    faults: list[Fault],
) -> list[Annotated]:
    objects = []
    for index, box in enumerate(example.boxes):
        try:
            label = _label(example.texts, example.ids, index, names)
        except RowFault as fault:
            faults.append(Fault(path, row, fault.reason, fault.kind))
        else:
            objects.append(Annotated(image, name, label, box, path, row, example.size))
    return objects


def _label(
    texts: Sequence[str], ids: Sequence[int], index: int, names: Mapping[int, str] | None
) -> str:
    """Class of an object: by number where a label map names it, else by text, else the number."""
    if names is not None and ids:
        if ids[index] not in names:
            raise RowFault(f"class/label {ids[index]} is not in the label map", "label")
        return names[ids[index]]
    if texts and (text := texts[index].strip()):
        if "\0" in text:
            raise RowFault("class/text holds a NUL character", "label")
        if names is not None and text not in names.values():
            raise RowFault(f"class/text {shown(text)} is not in the label map", "label")
        return text
    if ids:
        return str(ids[index])
    raise RowFault("has neither class/text nor class/label", "label")


def _plain_name(path: str, row: int, name: str) -> str:
    """The name of an image, or one made of shard and row where it leads out of any folder.

    Nothing is opened by it, and records often name the absolute path they were made from; but a
    data set written from these may use it for files.
    """
    try:
        files.join_inside("names", name)
    except files.OutsideError:
        return f"{posixpath.basename(path)}-{row:06d}"
    return name
