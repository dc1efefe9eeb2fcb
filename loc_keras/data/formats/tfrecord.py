"""TFRecord shards with the feature names of the TensorFlow object-detection tools."""

import hashlib
import json
import posixpath
import re
import struct
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from loc_keras.atomic_file import write_text, written_aside
from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, EmptyImage, Fault, ImageRef, Split
from loc_keras.data.formats.parsing import RowFault, config_path, given_splits, require_root, shown
from loc_keras.data.formats.writing import (
    Job,
    Picture,
    PictureError,
    encoded_bytes,
    ending_of,
    pictures,
    record_stems,
)
from loc_keras.data.records import Records
from loc_keras.errors import DataError

FORMATS = ("JPEG", "PNG")

SHARD_BYTES = 128 * 2**20
"""Largest shard, about, where the number of shards is left to us."""

_JOURNAL = ".finished.json"


def write_tfrecord(job: Job) -> dict[Split, int]:
    """Writes `<split>-00000-of-0000N.tfrecord` and `label_map.pbtxt`; returns the images of each.

    Record i of a split is in shard i modulo N, so that every shard holds every class even where
    the records come class by class. Class numbers start at 1.
    """
    write_text(job.folder / "label_map.pbtxt", label_map(job.object_classes))
    journal = _read_journal(job)
    counts: dict[Split, int] = {}
    stems = record_stems(job.splits)
    for split, records in job.splits.items():
        total = _shard_count(job, records)
        counts[split] = 0
        for shard in range(total):
            name = f"{split}-{shard:05d}-of-{total:05d}.tfrecord"
            indices = range(shard, len(records), total)
            if name in journal and (job.folder / name).is_file():
                job.advance(split, len(indices))
            else:
                try:
                    journal[name] = _write_shard(job, split, name, indices, stems[split])
                except tf.errors.OpError as error:  # Such as a full disk.
                    raise OSError(error.message) from error
                write_text(job.folder / _JOURNAL, json.dumps(journal))
            faults = [Fault(*fault) for fault in journal[name]]
            for fault in faults:
                job.on_fault(fault)
            counts[split] += len(indices) - len(faults)
    (job.folder / _JOURNAL).unlink(missing_ok=True)
    return counts


def tfrecord_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    shards = {split: f"{split}-*.tfrecord" for split in splits}
    return {
        "format": "tfrecord",
        "tfrecord": {"splits": shards, "label_map": "label_map.pbtxt"},
    }


def label_map(class_names: Sequence[str]) -> str:
    """The classes as a text protocol buffer of `item { id, name }`, numbers from 1."""
    items = [
        f"item {{\n  id: {index + 1}\n  name: '{_escaped(name)}'\n}}\n"
        for index, name in enumerate(class_names)
    ]
    return "\n".join(items)


def _shard_count(job: Job, records: Records) -> int:
    wanted = job.shards or -(-encoded_bytes(records) // SHARD_BYTES)
    return max(1, min(wanted, len(records)))


def _write_shard(
    job: Job, split: Split, name: str, indices: range, stems: Sequence[str]
) -> list[Fault]:
    records = job.splits[split]
    faults = []
    with (
        written_aside(job.folder / name) as aside,
        tf.io.TFRecordWriter(str(aside)) as writer,
    ):
        for index, picture in pictures(records, indices, FORMATS):
            if isinstance(picture, PictureError):
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


def _read_journal(job: Job) -> dict[str, list[Any]]:
    try:
        found = json.loads((job.folder / _JOURNAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(found)


def _escaped(name: str) -> str:
    signs = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(
        signs.get(sign, sign if sign >= " " and sign != "\x7f" else f"\\{ord(sign):03o}")
        for sign in name
    )


def _ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _floats(*values: float | np.floating) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _bytes(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


_BOX_FEATURES = ("xmin", "ymin", "xmax", "ymax")


class Example(NamedTuple):
    """What a record says.

    Attributes:
        offset: First byte of the encoded image within the record.
        length: Its bytes.
        name: File name or source id; `""` for neither.
        size: (width, height) in px, or None.
        boxes: (xmin, ymin, xmax, ymax) of each object, fractions.
        texts: Class of each object by name, or empty.
        ids: Class of each object by number, or empty.
    """

    offset: int
    length: int
    name: str
    size: tuple[int, int] | None
    boxes: list[tuple[float, float, float, float]]
    texts: list[str]
    ids: list[int]


def parse_example(data: bytes) -> Example:
    """Parses a record.

    Raises:
        RowFault: If it is no Example, holds no image, or the features of its objects disagree in
            type or number.
    """
    try:
        features = tf.train.Example.FromString(data).features.feature
    except DecodeError:
        raise RowFault("is not a serialized tf.train.Example", "syntax") from None
    encoded = _values(features, "image/encoded", "bytes_list")
    if len(encoded) != 1 or not encoded[0]:
        raise RowFault("has no image in image/encoded", "missing_image")
    columns = [
        _values(features, f"image/object/bbox/{side}", "float_list") for side in _BOX_FEATURES
    ]
    texts = _values(features, "image/object/class/text", "bytes_list")
    ids = _values(features, "image/object/class/label", "int64_list")
    counts = [len(column) for column in columns]
    if len(set(counts)) > 1 or any(len(column) not in (0, counts[0]) for column in (texts, ids)):
        raise RowFault(
            f"has {', '.join(map(str, counts))} values of {', '.join(_BOX_FEATURES)}, {len(texts)} "
            f"of class/text and {len(ids)} of class/label; they must be as many",
            "columns",
        )
    names = _values(features, "image/filename", "bytes_list") or _values(
        features, "image/source_id", "bytes_list"
    )
    # A protobuf message holds a bytes value as it is, so its place can be looked for. Should the
    # same bytes stand at an earlier place as well, that one serves as well.
    return Example(
        data.find(encoded[0]),
        len(encoded[0]),
        _text("image/filename", names[0]) if names else "",
        _size(features),
        list(zip(*columns, strict=True)),
        [_text("image/object/class/text", text) for text in texts],
        ids,
    )


def _size(features: Any) -> tuple[int, int] | None:
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
        raise RowFault(f"feature {name} is a {written}, expected a {kind}", "number")
    return list(getattr(feature, kind).value)


def _text(feature: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise RowFault(
            f"feature {feature}: {shown(repr(content[:40]))} is not UTF-8 text", "encoding"
        ) from None


LARGEST_RECORD = 2**28
"""Bytes of the largest record that is read."""

_HEADER = struct.Struct("<QI")
_HEADER_BYTES = 12
_FOOTER_BYTES = 4
_GZIP_MAGIC = b"\x1f\x8b"
_ZLIB_HEADERS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class Shard(NamedTuple):
    """The records of a shard whose frames are intact.

    Attributes:
        path: The file.
        lengths: Bytes of data of each.
        lost: Why the file cannot be read on after them; `""` at its end.
    """

    path: str
    lengths: array
    lost: str


class LostError(Exception):
    """A record and what follows it cannot be read.

    Attributes:
        row: Number of the record, from 1.
    """

    def __init__(self, row: int, reason: str):
        super().__init__(reason)
        self.row = row


def scan_shard(path: str) -> Shard:
    """Walks from frame to frame without reading the data.

    Frames are checked here before TensorFlow reads the records, since it takes a length from the
    file at its word and asks for that much memory.

    Raises:
        DataError: If the shard is compressed or cannot be opened.
    """
    lengths, position = array("Q"), 0
    try:
        size = files.file_size(path)
        with files.open_binary(path) as file:
            while position < size:
                file.seek(position)
                header = file.read(_HEADER_BYTES)
                reason = _frame_fault(header, size - position)
                if reason:
                    _refuse_compressed(path, header, position)
                    return Shard(path, lengths, f"{reason}; {_lost_bytes(position, size)}")
                lengths.append(_HEADER.unpack(header)[0])
                position += _HEADER_BYTES + lengths[-1] + _FOOTER_BYTES
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"TFRecord shard {path} cannot be read: {error}.") from error
    return Shard(path, lengths, "")


def read_records(shard: Shard) -> Iterator[tuple[int, int, bytes]]:
    """Reads the data of intact records, one at a time, and verifies their checksums.

    Yields:
        Number of the record from 1, offset of its data in the file, and the data.

    Raises:
        LostError: At a record whose data was changed; no later one is read.
    """
    row, position = 0, 0
    if not shard.lengths:
        return
    try:
        dataset = tf.data.TFRecordDataset([shard.path]).take(len(shard.lengths))
        for data in dataset.as_numpy_iterator():
            row += 1
            yield row, position + _HEADER_BYTES, data
            position += _HEADER_BYTES + len(data) + _FOOTER_BYTES
    except tf.errors.OpError:
        others = len(shard.lengths) - row - 1
        after = f" and the {others} records after it are" if others else " is"
        raise LostError(row + 1, f"does not match its checksum; it{after} lost") from None


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


def _lost_bytes(position: int, size: int) -> str:
    return f"bytes {position} to {size} of the shard are lost"


def _refuse_compressed(path: str, header: bytes, position: int) -> None:
    if position == 0 and header[:2] in (_GZIP_MAGIC, *_ZLIB_HEADERS):
        raise DataError(
            f"TFRecord shard {path} is compressed; write it without compression (images are "
            "compressed already), since they are fetched from it by byte range."
        )


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes, rotated and offset as TFRecord files do.

    Meant for the few bytes of a header: it takes some 0.1 microseconds a byte.
    """
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>[A-Za-z_][\w.]*)
    |(?P<number>[+-]?\d[\w.+-]*)
    |(?P<sign>[{}:,;<>\[\]])""",
    re.VERBOSE,
)


def read_label_map(path: str) -> dict[int, str]:
    """Reads the classes of a label map.

    ```
    item {
      id: 1
      name: 'cat'
    }
    ```

    Args:
        path: The file. Other fields than `id`, `name` and, in its absence, `display_name` are not
            looked at.

    Returns:
        Name of each id, in the order of the ids.

    Raises:
        DataError: If it is missing, not in this form, or gives an id or a name twice.
    """
    names: dict[int, str] = {}
    for line, fields in _items(path, files.read_text(path, what="label map")):
        where = f"label map {path}, line {line}"
        text = fields.get("id", "")
        name = fields.get("name") or fields.get("display_name") or ""
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
            raise DataError(f"{where}: the item's id must be a whole number from 1, not {text!r}.")
        if not name:
            raise DataError(f"{where}: the item with id {text} has no name.")
        if int(text) in names or name in names.values():
            raise DataError(f"{where}: id {text} or name {name!r} stands in an earlier item too.")
        names[int(text)] = name
    if not names:
        raise DataError(f"label map {path} has no items; expected item {{ id: 1 name: 'cat' }}.")
    return dict(sorted(names.items()))


def _items(path: str, text: str) -> list[tuple[int, dict[str, str]]]:
    """Line and plain fields of each item."""
    items: list[tuple[int, dict[str, str]]] = []
    depth, key, previous = 0, "", ""
    for line, token in _tokens(path, text):
        if token in "{<":
            if depth == 0:
                if previous.rstrip(":") != "item":
                    raise DataError(f"label map {path}, line {line}: expected item {{ ... }}.")
                items.append((line, {}))
            depth += 1
        elif token in "}>":
            depth -= 1
            if depth < 0:
                raise DataError(f"label map {path}, line {line}: {token} closes nothing.")
        elif token == ":":
            key = previous
            continue
        elif depth == 1 and key:
            items[-1][1][key] = _unquoted(token)
        elif depth == 0 and token != "item":
            raise DataError(f"label map {path}, line {line}: expected item {{ ... }}.")
        key, previous = "", token
    if depth:
        raise DataError(f"label map {path} ends within an item; a closing brace is missing.")
    return items


def _tokens(path: str, text: str) -> list[tuple[int, str]]:
    position, line, tokens = 0, 1, []
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise DataError(
                f"label map {path}, line {line}: {text[position]!r} was not expected here."
            )
        if match.lastgroup != "skip":
            tokens.append((line, match[0]))
        line += match[0].count("\n")
        position = match.end()
    return tokens


def _unquoted(token: str) -> str:
    if token[0] not in "\"'":
        return token
    return re.sub(r"\\(.)", r"\1", token[1:-1])


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
