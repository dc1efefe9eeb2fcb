"""TFRecord shards with the feature names of the TensorFlow object-detection tools."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import struct
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError
from tensorboard.summary.writer.record_writer import masked_crc32c

from loc_keras._environ import tf
from loc_keras.atomic_file import json_object, write_text, written_aside
from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef, Split
from loc_keras.data.formats.listing import Guess, Listing, by_split, matches_only
from loc_keras.data.formats.parsing import (
    Box,
    Reading,
    RowError,
    config_path,
    given_splits,
    label_problem,
    quoted,
)
from loc_keras.data.formats.writing import Job, Picture, encoded_bytes, ending_of, pictures
from loc_keras.data.resolve import Records
from loc_keras.errors import DataError, first_line

LARGEST_RECORD = 2**28  # Bytes of the largest record that is read.
SHARD_BYTES = 128 * 2**20  # Largest shard, about, where the number of shards is left to us.
_KEY = "data.source.tfrecord"
_BOX_FEATURES = ("xmin", "ymin", "xmax", "ymax")
_COPIED_FORMATS = ("JPEG", "PNG")
_JOURNAL = ".finished.json"
_HEADER = struct.Struct("<QI")
_HEADER_BYTES = 12
_FOOTER_BYTES = 4
_COMPRESSED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # gzip, zlib


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

    Each split is a pattern of shard names below `root`, such as `train-*.tfrecord`; None leaves it
    out. `label_map` is a `label_map.pbtxt` there that names the class numbers; without it classes
    go by `class/text`, or by number where there is no text.

    Returns:
        Rows are record numbers from 1, in fractions. Classes are those of the label map in the
        order of their numbers, else None.

    Raises:
        DataError: If the folder is missing, a pattern matches nothing or a shard of another
            split, a shard is compressed, or the label map cannot be read.
    """
    reading = Reading(root)
    names = None
    if label_map is not None:
        names = read_label_map(config_path(root, label_map, f"{_KEY}.label_map"))
    for split, shards in _shards(root, splits).items():
        reading.split(split)
        for shard in shards:
            _read_shard(split, shard, names, reading)
    class_names = None if names is None else list(names.values())
    return reading.annotations("fraction", class_names=class_names)


def _shards(root: str, splits: Mapping[str, str | None]) -> dict[Split, list[str]]:
    """Shards of each split."""
    found: dict[Split, list[str]] = {}
    owner: dict[str, Split] = {}
    for split, pattern in given_splits(splits, f"{_KEY}.splits"):
        try:
            paths = files.matching(root, str(pattern))
        except files.OutsideError as error:
            raise DataError(f"{_KEY}.splits.{split}: {error}.") from error
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


def _read_shard(split: Split, path: str, names: Mapping[int, str] | None, reading: Reading) -> None:
    lengths, lost = _scan_shard(path)
    if not lengths and not lost:
        reading.fault(path, 0, "is empty", "syntax")
    row = position = 0
    try:
        records = tf.data.TFRecordDataset([path]).take(len(lengths))
        for row, data in enumerate(records.as_numpy_iterator(), 1):
            try:
                _read_example(split, path, row, position + _HEADER_BYTES, data, names, reading)
            except RowError as error:
                reading.failed(path, row, error)
            position += _HEADER_BYTES + len(data) + _FOOTER_BYTES
    except tf.errors.OpError:
        others = len(lengths) - row - 1
        after = f" and the {others} records after it are" if others else " is"
        reason = f"does not match its checksum; it{after} lost"
        reading.fault(path, row + 1, reason, "syntax")
    if lost:
        reading.fault(path, len(lengths) + 1, lost, "syntax")


def _scan_shard(path: str) -> tuple[Sequence[int], str]:
    """Bytes of each record whose frame is intact, and why no more can be read, `""` at the end."""
    # TensorFlow would take a length from the file at its word and ask for that much memory.
    lengths, position = array("Q"), 0
    try:
        size = files.file_size(path)
        with files.open_binary(path) as file:
            while position < size:
                file.seek(position)
                header = file.read(_HEADER_BYTES)
                reason = _frame_fault(header, size - position)
                if reason and position == 0 and header[:2] in _COMPRESSED:
                    raise DataError(
                        f"TFRecord shard {path} is compressed; write it without compression "
                        "(images are compressed already), since they are fetched from it by byte "
                        "range."
                    )
                if reason:
                    return lengths, f"{reason}; bytes {position} to {size} of the shard are lost"
                lengths.append(_HEADER.unpack(header)[0])
                position += _HEADER_BYTES + lengths[-1] + _FOOTER_BYTES
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"TFRecord shard {path} cannot be read: {first_line(error)}.") from error
    return lengths, ""


def _frame_fault(header: bytes, left: int) -> str:
    """What is wrong with a frame of which `left` bytes are in the file; `""` for nothing."""
    if len(header) < _HEADER_BYTES:
        return "is cut off within its header"
    length, checksum = _HEADER.unpack(header)
    if checksum != masked_crc32c(header[:8]):
        return "is not a TFRecord: the checksum of its length does not match"
    if length > LARGEST_RECORD:
        return f"has {length} bytes, more than {LARGEST_RECORD >> 20} MiB"
    if _HEADER_BYTES + length + _FOOTER_BYTES > left:
        return f"is cut off: it should have {length} bytes of data"
    return ""


def _read_example(
    split: Split,
    path: str,
    row: int,
    offset: int,
    data: bytes,
    names: Mapping[int, str] | None,
    reading: Reading,
) -> None:
    """Reads a record: one image and its objects."""
    try:
        features = tf.train.Example.FromString(data).features.feature
    except DecodeError:
        raise RowError("is not a serialized tf.train.Example", "syntax") from None
    encoded = _values(features, "image/encoded", "bytes_list")
    if len(encoded) != 1 or not encoded[0]:
        raise RowError("has no image in image/encoded", "missing_image")
    # A protobuf message holds a bytes value as it is, so its place can be looked for. Should the
    # same bytes stand at an earlier place as well, that one serves as well.
    image = ImageRef(path, offset + data.find(encoded[0]), len(encoded[0]))
    boxes, texts, ids = _objects(features)
    name, size = _name(features, path, row), _size(features)
    if not boxes:
        reading.without_object(split, image, name, path, row, size=size)
    objects = reading.split(split)
    for index, box in enumerate(boxes):
        try:
            label = _label(texts, ids, index, names)
        except RowError as error:
            reading.failed(path, row, error)
        else:
            objects.append(Annotated(image, name, label, box, path, row, size))


def _objects(features: Any) -> tuple[list[Box], list[str], list[int]]:
    """Boxes (xmin, ymin, xmax, ymax) in fractions, and classes by name and by number, or none."""
    columns = [
        _values(features, f"image/object/bbox/{side}", "float_list") for side in _BOX_FEATURES
    ]
    texts = _values(features, "image/object/class/text", "bytes_list")
    ids = _values(features, "image/object/class/label", "int64_list")
    counts = [len(column) for column in columns]
    if len(set(counts)) > 1 or any(len(column) not in (0, counts[0]) for column in (texts, ids)):
        raise RowError(
            f"has {', '.join(map(str, counts))} values of {', '.join(_BOX_FEATURES)}, {len(texts)} "
            f"of class/text and {len(ids)} of class/label; they must be as many",
            "columns",
        )
    decoded = [_decoded("image/object/class/text", text) for text in texts]
    return list(zip(*columns, strict=True)), decoded, ids


def _name(features: Any, path: str, row: int) -> str:
    """The name of an image, or one made of shard and row where it leads out of any folder."""
    # Records often name the absolute path they were made from, and files may be written by it.
    features_of_name = ("image/filename", "image/source_id")
    given = (_values(features, feature, "bytes_list") for feature in features_of_name)
    names = next(filter(None, given), [])
    name = _decoded("image/filename", names[0]) if names else ""
    try:
        files.join_inside("names", name)
    except files.OutsideError:
        return f"{posixpath.basename(path)}-{row:06d}"
    return name


def _size(features: Any) -> tuple[int, int] | None:
    """(width, height) in px, or None."""
    width = _values(features, "image/width", "int64_list")
    height = _values(features, "image/height", "int64_list")
    return (width[0], height[0]) if len(width) == len(height) == 1 else None


def _values(features: Any, name: str, kind: str) -> list[Any]:
    """The values of a feature; an absent one has none."""
    if name not in features:
        return []
    feature = features[name]
    written = feature.WhichOneof("kind")
    if written not in (kind, None):
        raise RowError(f"feature {name} is a {written}, expected a {kind}", "number")
    return list(getattr(feature, kind).value)


def _decoded(feature: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        reason = f"feature {feature}: {quoted(repr(content[:40]))} is not UTF-8 text"
        raise RowError(reason, "encoding") from None


def _label(
    texts: Sequence[str], ids: Sequence[int], index: int, names: Mapping[int, str] | None
) -> str:
    """Class of an object: by number where a label map names it, else by text, else the number."""
    if names is not None and ids:
        if ids[index] not in names:
            raise RowError(f"class/label {ids[index]} is not in the label map", "label")
        return names[ids[index]]
    if texts and (text := texts[index].strip()):
        if problem := label_problem(text):
            raise RowError(f"class/text {problem}", "label")
        if names is not None and text not in names.values():
            raise RowError(f"class/text {quoted(text)} is not in the label map", "label")
        return text
    if ids:
        return str(ids[index])
    raise RowError("has neither class/text nor class/label", "label")


@cache
def _label_map_class() -> Any:
    """A message of the form of a label map, with the fields that are read and written."""
    file = descriptor_pb2.FileDescriptorProto(name="label_map.proto", syntax="proto2")
    item, whole = (file.message_type.add(name=name) for name in ("Item", "Map"))
    kinds = {"id": "INT32", "name": "STRING", "display_name": "STRING"}
    for number, (name, kind) in enumerate(kinds.items(), 1):
        item.field.add(name=name, number=number, type=f"TYPE_{kind}", label="LABEL_OPTIONAL")
    items = {"type": "TYPE_MESSAGE", "label": "LABEL_REPEATED", "type_name": ".Item"}
    whole.field.add(name="item", number=1, **items)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Map"))


def read_label_map(path: str) -> dict[int, str]:
    """Reads the classes of a label map.

    ```
    item {
      id: 1
      name: 'cat'
    }
    ```

    Other fields than `id`, `name` and, in its absence, `display_name` are not looked at; the result
    has the names by id, in the order of the ids.

    Raises:
        DataError: If it is missing, not in this form, or gives an id or a name twice.
    """
    text = files.read_text(path, what="label map")
    try:
        items = text_format.Parse(text, _label_map_class()(), allow_unknown_field=True).item
    except (text_format.ParseError, ValueError, RecursionError) as error:
        raise DataError(
            f"label map {path} is not a list of item {{ id: 1 name: 'cat' }}: {quoted(str(error))}."
        ) from error
    names: dict[int, str] = {}
    for number, item in enumerate(items, 1):
        where, name = f"label map {path}, item {number}", item.name or item.display_name
        if item.id < 1:
            raise DataError(f"{where}: its id must be a whole number from 1, not {item.id}.")
        if not name:
            raise DataError(f"{where}: the item with id {item.id} has no name.")
        if "\0" in name:
            raise DataError(f"{where}: its name {quoted(name)} holds a NUL character; mend it.")
        if item.id in names or name in names.values():
            raise DataError(f"{where}: id {item.id} or name {name!r} stands in an earlier one too.")
        names[item.id] = name
    if not names:
        raise DataError(f"label map {path} has no items; expected item {{ id: 1 name: 'cat' }}.")
    return dict(sorted(names.items()))


def detect_tfrecord(listing: Listing) -> Iterator[Guess]:
    """Guesses by the names of shards, with a label map where one is there."""
    prepared = set(listing.named("dataset_info.json"))
    shards = [
        name
        for name in listing.files(".tfrecord", ".record")
        if posixpath.dirname(name) not in prepared
    ]
    groups = {split: _pattern(listing, names) for split, names in by_split(shards).items()}
    patterns = {split: pattern for split, pattern in groups.items() if pattern}
    if "train" not in patterns:
        return
    why = f"{len(shards):,} shards such as {shards[0]}"
    notes = tuple(
        f"shards of {split} have names that no one pattern fits, so they are not read"
        for split in groups
        if split not in patterns
    )
    options: dict[str, Any] = {"splits": patterns}
    maps = [name for name in listing.files(".pbtxt") if "item" in listing.head(name)]
    for name in maps[:1]:
        with_map = {**options, "label_map": name}
        yield Guess("tfrecord", listing.root, with_map, why=f"{why}, {name}", notes=notes)
    yield Guess("tfrecord", listing.root, options, why=why, notes=notes)


def _pattern(listing: Listing, names: list[str]) -> str | None:
    """A pattern that fits these files and no others; None where there is none."""
    if len(names) == 1 and not set("*?[") & set(names[0]):
        return names[0]
    pattern, *others = {re.sub(r"\d+", "*", name) for name in names}
    return pattern if not others and matches_only(listing, pattern, names) else None


def write_tfrecord(job: Job) -> None:
    """Writes `<split>-00000-of-0000N.tfrecord` and `label_map.pbtxt`.

    Record i of a split is in shard i modulo N, so that every shard holds every class even where
    the records come class by class. Class numbers start at 1.
    """
    write_text(job.folder / "label_map.pbtxt", label_map(job.object_classes))
    journal: dict[str, Any] = json_object(job.folder / _JOURNAL) or {}
    for split, records in job.splits.items():
        wanted = job.shards or -(-encoded_bytes(records) // SHARD_BYTES)
        total = max(1, min(wanted, len(records)))
        job.counts[split] = 0
        for shard in range(total):
            name = f"{split}-{shard:05d}-of-{total:05d}.tfrecord"
            indices = range(shard, len(records), total)
            if name in journal and (job.folder / name).is_file():
                job.advance(split, len(indices))
            else:
                try:
                    journal[name] = _write_shard(job, split, name, indices)
                except tf.errors.OpError as error:  # Such as a full disk.
                    raise OSError(error.message) from error
                write_text(job.folder / _JOURNAL, json.dumps(journal))
            faults = [Fault(*fault) for fault in journal[name]]
            for fault in faults:
                job.on_fault(fault)
            job.counts[split] += len(indices) - len(faults)
    (job.folder / _JOURNAL).unlink(missing_ok=True)


def tfrecord_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    shards = {split: f"{split}-*.tfrecord" for split in splits}
    options = {"splits": shards, "label_map": "label_map.pbtxt"}
    return {"format": "tfrecord", "tfrecord": options}


def label_map(class_names: Sequence[str]) -> str:
    """The classes as a text protocol buffer of `item { id, name }`, numbers from 1."""
    items = [{"id": number, "name": name} for number, name in enumerate(class_names, 1)]
    return str(text_format.MessageToString(_label_map_class()(item=items), as_utf8=True))


def _write_shard(job: Job, split: Split, name: str, indices: range) -> list[Fault]:
    records, stems = job.splits[split], job.stems[split]
    faults = []
    with written_aside(job.folder / name) as aside, tf.io.TFRecordWriter(str(aside)) as writer:
        for index, picture in pictures(records, indices, _COPIED_FORMATS):
            if isinstance(picture, RowError):
                faults.append(records.fault(index, str(picture), picture.kind))
            else:
                file = stems[index] + ending_of(str(records.names[index]), picture.format)
                writer.write(_example(records, index, file, picture, job.class_names))
            job.advance(split, 1)
    return faults


def _example(
    records: Records, index: int, file: str, picture: Picture, class_names: Sequence[str]
) -> bytes:
    label = int(records.labels[index])
    x1, y1, x2, y2 = ([float(side)] for side in records.boxes[index])
    text, number = [class_names[label].encode()], [label + 1]
    if records.is_empty(index):
        x1, y1, x2, y2, text, number = [], [], [], [], [], []
    feature = {
        "image/height": _ints(picture.size[0]),
        "image/width": _ints(picture.size[1]),
        "image/filename": _bytes(file.encode()),
        "image/source_id": _bytes(file.encode()),
        "image/key/sha256": _bytes(hashlib.sha256(picture.content).hexdigest().encode()),
        "image/encoded": _bytes(picture.content),
        "image/format": _bytes(picture.format.lower().encode()),
        "image/object/bbox/xmin": _floats(*x1),
        "image/object/bbox/xmax": _floats(*x2),
        "image/object/bbox/ymin": _floats(*y1),
        "image/object/bbox/ymax": _floats(*y2),
        "image/object/class/text": _bytes(*text),
        "image/object/class/label": _ints(*number),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return bytes(example.SerializeToString(deterministic=True))


def _ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(*values: float | np.floating) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _bytes(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
