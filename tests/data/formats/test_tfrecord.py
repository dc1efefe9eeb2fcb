"""TFRecord: fields by hand, bytes found in the shard, broken shards, label maps, hostile files."""

import gzip
import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from helpers.reader_fuzz import FEW_AND_MANY, assert_only_data_errors, assert_sensible, mutated
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Fault, ImageRef
from loc_keras.data.formats.tfrecord import (
    LARGEST_RECORD,
    masked_crc32c,
    read_label_map,
    read_tfrecord,
)
from loc_keras.errors import DataError

SPLITS = {"train": "train-*", "val": None, "test": "test-*"}


def png(value=0, size=(8, 6)):
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "png")
    return buffer.getvalue()


def feature(values):
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def example(**changes):
    """A record of 8 x 6 px with one box; a change to None leaves a feature out."""
    names = {
        "encoded": "image/encoded",
        "filename": "image/filename",
        "source_id": "image/source_id",
        "height": "image/height",
        "width": "image/width",
        **{side: f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax")},
        "text": "image/object/class/text",
        "label": "image/object/class/label",
    }
    values = {
        "encoded": [png()],
        "filename": [b"a.png"],
        "height": [6],
        "width": [8],
        "xmin": [0.25],
        "ymin": [0.5],
        "xmax": [0.75],
        "ymax": [1.0],
        "text": [b"cat"],
        "label": [1],
    } | changes
    features = {names[key]: feature(value) for key, value in values.items() if value}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture
def shard(tmp_path):
    """Writes a shard with TensorFlow and returns the folder."""

    def write(*records, name="train-0.tfrecord", options=None):
        with tf.io.TFRecordWriter(str(tmp_path / name), options) as writer:
            for record in records:
                writer.write(record)
        return str(tmp_path)

    return write


def read(root, **options):
    return read_tfrecord(root, **{"splits": {"train": "train-*"}, **options})


def test_fields(shard):
    several = {
        "encoded": [png(9)],
        **{"xmin": [0.0, 0.5], "ymin": [0.25, 0.5], "xmax": [0.5, 0.75], "ymax": [0.5, 1.0]},
        **{"text": [b"cat", "hündin".encode()], "label": [1, 2]},
    }
    shard(example(filename=None, source_id=[b"7"], height=None), name="test-0.tfrecord")
    root = shard(example(), example(**several), name="train-0.tfrecord")
    found = read_tfrecord(root, splits=SPLITS)
    path = f"{root}/train-0.tfrecord"
    first, second, third = found.objects["train"]
    # The sides are sums of powers of two, so float32 holds them exactly.
    assert first == Annotated(first.image, "a.png", "cat", (0.25, 0.5, 0.75, 1.0), path, 1, (8, 6))
    assert second == Annotated(second.image, "a.png", "cat", (0.0, 0.25, 0.5, 0.5), path, 2, (8, 6))
    assert third == second._replace(label="hündin", box=(0.5, 0.5, 0.75, 1.0))
    (test,) = found.objects["test"]
    assert (test.name, test.size, test.row) == ("7", None, 1)
    assert (found.units, found.exact, found.class_names, found.faults) == (
        "fraction",
        True,
        None,
        [],
    )


def test_images_are_read_by_byte_range(shard):
    pictures = [png(value, (value + 1, 3)) for value in range(20)]
    root = shard(*(example(encoded=[picture]) for picture in pictures))
    found = read(root).objects["train"]
    assert len(found) == 20
    assert {type(one.image) for one in found} == {ImageRef}
    for index in np.random.default_rng(0).permutation(20):
        assert files.read_bytes(*found[index].image) == pictures[index]
        # And by an independent reader.
        decoded = Image.open(io.BytesIO(files.read_bytes(*found[index].image)))
        assert decoded.size == (index + 1, 3)


def test_remote(shard):
    record = example()
    with tf.io.TFRecordWriter("ram://records/train-0.tfrecord") as writer:
        writer.write(record)
    found = read("ram://records")
    (one,) = found.objects["train"]
    assert one.image.path == "ram://records/train-0.tfrecord"
    assert files.read_bytes(*one.image) == png()
    assert one.box == (0.25, 0.5, 0.75, 1.0)


def test_checksum_against_the_published_test_vectors():
    # RFC 3720, appendix B.4: CRC-32C of 32 bytes; the mask is that of the TFRecord description.
    vectors = {
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        bytes(range(31, -1, -1)): 0x113FDB5C,
    }
    for data, crc in vectors.items():
        rotated = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
        assert masked_crc32c(data) == (rotated + 0xA282EAD8) % 2**32


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"encoded": None}, "missing_image", "has no image in image/encoded"),
        ({"encoded": [b""]}, "missing_image", "has no image"),
        ({"encoded": [b"a", b"b"]}, "missing_image", "has no image"),
        ({"xmin": [0.1, 0.2]}, "columns", "has 2, 1, 1, 1 values of xmin, ymin, xmax, ymax"),
        ({"text": [b"a", b"b"]}, "columns", "2 of class/text and 1 of class/label"),
        ({"ymax": None}, "columns", "has 1, 1, 1, 0 values"),
        (
            dict.fromkeys(("xmin", "ymin", "xmax", "ymax", "text", "label")),
            "no_object",
            "no object",
        ),
        ({"xmin": [1]}, "number", "bbox/xmin is a int64_list, expected a float_list"),
        ({"text": None, "label": None}, "label", "neither class/text nor class/label"),
        ({"text": [b" "], "label": None}, "label", "neither class/text nor class/label"),
        ({"text": [b"a\0"]}, "label", r"'a\x00' has signs that are no text"),
        ({"text": [b"\xff"]}, "encoding", "is not UTF-8 text"),
    ],
)
def test_faults_of_records(shard, change, kind, reason):
    root = shard(example(), example(**change), example())
    found = read(root)
    (fault,) = found.faults
    assert (fault.file, fault.row, fault.kind) == (f"{root}/train-0.tfrecord", 2, kind)
    assert reason in fault.reason
    assert [one.row for one in found.objects["train"]] == [1, 3]


def test_record_that_is_no_example(shard):
    found = read(shard(b"not an example", example()))
    assert [(fault.row, fault.kind) for fault in found.faults] == [(1, "syntax")]
    assert [one.row for one in found.objects["train"]] == [2]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (b"sub folder/\xc3\xa9.png", "sub folder/é.png"),
        (b"/home/me/a.png", "train-0.tfrecord-000001"),
        (b"../../a.png", "train-0.tfrecord-000001"),
    ],
)
def test_names(shard, written, name):
    (one,) = read(shard(example(filename=[written]))).objects["train"]
    assert one.name == name


# Broken shards. The frames are packed here by hand, as the TFRecord description has them.


def frames(tmp_path):
    """Content and record starts of a shard of three records."""
    content = (tmp_path / "train-0.tfrecord").read_bytes()
    starts, position = [], 0
    while position < len(content):
        starts.append(position)
        (length,) = struct.unpack_from("<Q", content, position)
        position += 8 + 4 + length + 4
    return content, starts


def test_truncated_shard(shard, tmp_path):
    root = shard(*[example()] * 3)
    content, starts = frames(tmp_path)
    path = tmp_path / "train-0.tfrecord"
    for cut, reason in [
        (starts[2] + 5, "is cut off within its header"),
        (starts[2] + 40, "is cut off: it should have"),
        (len(content) - 1, "is cut off: it should have"),
    ]:
        path.write_bytes(content[:cut])
        found = read(root)
        assert [one.row for one in found.objects["train"]] == [1, 2]
        (fault,) = found.faults
        assert (fault.file, fault.row, fault.kind) == (str(path), 3, "syntax")
        assert reason in fault.reason
        assert fault.reason.endswith(f"bytes {starts[2]} to {cut} of the shard are lost")


def test_changed_data(shard, tmp_path):
    root = shard(*[example()] * 3)
    content, starts = frames(tmp_path)
    at = starts[1] + 30
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    (tmp_path / "train-0.tfrecord").write_bytes(changed)
    found = read(root)
    assert [one.row for one in found.objects["train"]] == [1]
    reason = "does not match its checksum; it and the 1 records after it are lost"
    assert found.faults == [Fault(f"{root}/train-0.tfrecord", 2, reason, "syntax")]


@pytest.mark.parametrize("length", [LARGEST_RECORD + 1, 2**40, 2**64 - 1])
def test_absurd_length_with_a_right_checksum(shard, tmp_path, length):
    # TensorFlow would ask for this much memory; the header is valid.
    root = shard(example())
    path = tmp_path / "train-0.tfrecord"
    header = struct.pack("<Q", length)
    crc = struct.pack("<I", masked_crc32c(header))
    path.write_bytes(path.read_bytes() + header + crc + b"x" * 50)
    found = read(root)
    assert len(found.objects["train"]) == 1
    (fault,) = found.faults
    assert (fault.row, fault.kind) == (2, "syntax")
    assert f"has {length} bytes, more than 256 MiB" in fault.reason


def test_empty_shard_and_other_files(shard, tmp_path):
    root = shard(example(), name="train-0.tfrecord")
    (tmp_path / "train-1.tfrecord").write_bytes(b"")
    (tmp_path / "train-2.tfrecord").write_bytes(b"\x89PNG\r\n\x1a\n, which is another format")
    found = read(root)
    assert [(one.file[-10:], one.row, one.kind) for one in found.faults] == [
        ("1.tfrecord", 0, "syntax"),
        ("2.tfrecord", 1, "syntax"),
    ]
    assert "is not a TFRecord" in found.faults[1].reason
    assert len(found.objects["train"]) == 1


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_compressed_shards_are_refused(shard, tmp_path, compress):
    root = shard(example())
    path = tmp_path / "train-0.tfrecord"
    path.write_bytes(compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-0.tfrecord is compressed; write it without"):
        read(root)


def test_length_that_looks_like_a_compressed_file(shard):
    # 0x8b1f bytes: the first two bytes of the shard are those of gzip.
    record = example(encoded=[b"x" * (0x8B1F - len(example(encoded=[b"x" * 0x8000])) + 0x8000)])
    assert len(record) == 0x8B1F
    assert len(read(shard(record)).objects["train"]) == 1


def test_patterns(shard, tmp_path):
    root = shard(example())
    for splits, message in [
        ({"train": "none-*"}, r"'none-\*' of split train matches no file"),
        ({"train": "train-*", "test": "*.tfrecord"}, "belongs to train and to test"),
        ({"train": "/etc/*"}, "must be relative"),
        ({"train": "../*/train-*"}, "leads out of"),
        ({"train": "train-*", "dev": "x"}, "the splits are train, val, test"),
        ({"train": None}, r"splits.train is missing"),
    ]:
        with pytest.raises(DataError, match=message):
            read_tfrecord(root, splits=splits)
    with pytest.raises(DataError, match="does not exist"):
        read(str(tmp_path / "none"))


LABEL_MAP = b"""# Two classes.
item {
  id: 2
  name: 'dog'
  display_name: "Dog, {tame}"  # }
}
item: { name: "ca\\"t" id: 1 }
item { id: 90 display_name: "ship" }
"""


def test_label_map(shard, tmp_path):
    (tmp_path / "map.pbtxt").write_bytes(LABEL_MAP)
    root = shard(
        example(label=[2]),
        example(label=[3]),
        example(label=None, text=[b"dog"]),
        example(label=None, text=[b"cow"]),
        example(label=[90], text=None),
    )
    found = read(root, label_map="map.pbtxt")
    assert found.class_names == ['ca"t', "dog", "ship"]
    # Numbers go before texts, which tools write in other spellings.
    assert [one.label for one in found.objects["train"]] == ["dog", "dog", "ship"]
    assert [fault[1:4] for fault in found.faults] == [
        (2, "class/label 3 is not in the label map", "label"),
        (4, "class/text 'cow' is not in the label map", "label"),
    ]
    numbers = read(shard(example(text=None), name="train-0.tfrecord"))
    assert [one.label for one in numbers.objects["train"]] == ["1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no items"),
        (b"item { id: 0 name: 'a' }", r"item 1: its id must be a whole number from 1, not 0"),
        (b"item { name: 'a' }", r"id must be a whole number from 1, not 0"),
        (b"item { id: 1 }", "the item with id 1 has no name"),
        (b"item { id: 1 name: 'a' }\nitem { id: 1 name: 'b' }", r"item 2: id 1 or name 'b' stands"),
        (b"item { id: 1 name: 'a' ", "is not a list of item"),
        (b"}", r"is not a list of item .*: .1:1 : "),
        (b"thing { id: 1 }", "expected item"),
        (b"item { id: 1 name: 'a\n' }", r"is not a list of item .*: ['\"]1:\d+ : "),
    ],
)
def test_bad_label_maps(tmp_path, content, message):
    path = tmp_path / "map.pbtxt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_label_map(str(path))


def test_label_map_outside(shard):
    with pytest.raises(DataError, match=r"data.source.tfrecord.label_map: .* leads out"):
        read(shard(example()), label_map="../map.pbtxt")


@given(st.dictionaries(st.integers(1, 999_999_999), st.text("ab\"'\\{}#é \t", min_size=1)))
def test_label_map_round_trip(tmp_path_factory, classes):
    assume(classes and len(set(classes.values())) == len(classes))
    path = tmp_path_factory.getbasetemp() / "round.pbtxt"
    quoted = {
        number: name.replace("\\", "\\\\").replace('"', '\\"') for number, name in classes.items()
    }
    items = [f'item {{\n  id: {number}\n  name: "{name}"\n}}\n' for number, name in quoted.items()]
    path.write_text("".join(items), encoding="utf-8")
    assert read_label_map(str(path)) == dict(sorted(classes.items()))


@FEW_AND_MANY
def test_fuzz(shard, tmp_path, examples):
    shard(example(), example(text=[b"dog"], label=[2]))
    record = (tmp_path / "train-0.tfrecord").read_bytes()
    valid = {"train-0.tfrecord": record, "map.pbtxt": LABEL_MAP}
    assert_only_data_errors(
        tmp_path, valid, lambda root: read(root, label_map="map.pbtxt"), examples
    )


@FEW_AND_MANY
def test_fuzz_of_records(shard, examples):
    """Changed examples in frames with right checksums, so that the change reaches the parser."""
    hostile = st.one_of(mutated(example()), mutated(example()), st.binary(max_size=60))

    # Ten cases go into one shard, since opening it takes longer than reading them.
    @settings(max_examples=examples // 10, deadline=None, database=None)
    @given(st.lists(hostile, min_size=10, max_size=10))
    def body(records):
        root = shard(*records)
        found = read(root)
        assert_sensible(found, root)
        rows = {one.row for one in found.objects["train"]} | {fault.row for fault in found.faults}
        assert rows == set(range(1, 11))

    body()
