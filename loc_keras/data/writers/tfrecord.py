"""Sharded TFRecord files with the feature names of TensorFlow's object detection models."""

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from loc_keras.atomic_file import write_text, written_aside
from loc_keras.data.annotations import Fault, Split
from loc_keras.data.records import Records
from loc_keras.data.writers.fingerprint import encoded_bytes
from loc_keras.data.writers.job import Job, pictures
from loc_keras.data.writers.names import record_stems
from loc_keras.data.writers.pictures import Picture, PictureError, ending_of

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
