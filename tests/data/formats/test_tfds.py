"""TFDS data sets: a small real one, TFDS's own mock data, and the blobs of their images."""

import io
import socket

import numpy as np
import pytest
from helpers.annotated import all_objects
from PIL import Image

from loc_keras.data import files
from loc_keras.data.annotations import ImageRef
from loc_keras.data.formats.tfds import INDEX_ENDING, find_layout, read_blob, read_tfds, write_blob
from loc_keras.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")

# What the small data set holds: for each split file names, boxes as (ymin, xmin, ymax, xmax) and
# classes. Sides are sums of powers of two, so float32 holds them exactly.
CONTENTS = {
    "train": [
        ("a.png", [(0.25, 0.5, 0.75, 1.0)], [1]),
        ("b.png", [(0.0, 0.0, 0.5, 0.25), (0.5, 0.5, 1.0, 1.0)], [0, 1]),
        ("c.png", [], []),
    ],
    "validation": [("d.png", [(0.0, 0.125, 0.5, 0.25)], [0])],
}


def png(name):
    """A picture that its name tells from the others: 16 px high and 10 to 13 px wide."""
    buffer = io.BytesIO()
    number = ord(name[0]) - ord("a")
    Image.new("RGB", (10 + number, 16), (number * 60, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


class SmallBoxes(tfds.core.GeneratorBasedBuilder):
    """Images with a list of objects, as `voc` has them, and what must not be taken for it."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="png"),
                    "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
                    "image/filename": tfds.features.Text(),
                    "scene": tfds.features.ClassLabel(names=["in", "out"]),
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                            "pose": tfds.features.ClassLabel(names=["left", "right", "front"]),
                        }
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in CONTENTS}

    def _generate_examples(self, split):
        for number, (name, boxes, labels) in enumerate(CONTENTS[split]):
            yield (
                number,
                {
                    "image": io.BytesIO(png(name)),
                    "segmentation_mask": np.zeros((16, 10, 1), np.uint8),
                    "image/filename": name,
                    "scene": 1,
                    "objects": [
                        {"bbox": tfds.features.BBox(*box), "label": label, "pose": 2}
                        for box, label in zip(boxes, labels, strict=True)
                    ],
                },
            )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """The data set, prepared without any look at TFDS's bucket."""
    root = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorflow_datasets.core.utils.gcs_utils._is_gcs_disabled", True)
        builder = tfds.builder("small_boxes", data_dir=str(root))
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    return str(root)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


SPLITS = {"train": "train", "val": None, "test": "validation"}


def test_fields(prepared, tmp_path, no_network):
    found = read_tfds(prepared, name="small_boxes", splits=SPLITS, cache_dir=str(tmp_path))
    written = {
        (split, one.name, one.label, one.box)
        for split, objects in found.objects.items()
        for one in objects
    }
    # TFDS's (ymin, xmin, ymax, xmax) turned into (x1, y1, x2, y2) by hand.
    assert written == {
        ("train", "a.png", "dog", (0.5, 0.25, 1.0, 0.75)),
        ("train", "b.png", "cat", (0.0, 0.0, 0.25, 0.5)),
        ("train", "b.png", "dog", (0.5, 0.5, 1.0, 1.0)),
        ("test", "d.png", "cat", (0.125, 0.0, 0.25, 0.5)),
    }
    assert found.class_names == ["cat", "dog"]
    assert (found.units, found.exact) == ("fraction", True)
    (empty,) = found.faults
    assert (empty.kind, empty.reason) == ("no_object", "names no object")
    assert [(one.split, one.name, one.fault) for one in found.empty] == [("train", "c.png", empty)]
    shard = f"{prepared}/small_boxes/1.2.0/small_boxes-train.tfrecord-00000-of-00001"
    rows = {one.name: one.row for one in found.objects["train"]}
    assert {*rows.values(), empty.row} == {1, 2, 3}
    assert {one.file for one in found.objects["train"]} == {shard} == {empty.file}
    for _, one in all_objects(found):
        assert {type(side) for side in one.box} == {float}
        assert type(one.row) is int
        # TFDS keeps the bytes of the file that it was given.
        assert files.read_bytes(*one.image) == png(one.name)


def test_blobs_are_used_again(prepared, tmp_path, monkeypatch):
    options = {"name": "small_boxes", "splits": SPLITS, "cache_dir": str(tmp_path)}
    first = read_tfds(prepared, **options)
    blobs = sorted(tmp_path.rglob("*.blob"))
    assert len(blobs) == 2
    times = [path.stat().st_mtime_ns for path in blobs]
    assert read_tfds(prepared, **options) == first
    assert [path.stat().st_mtime_ns for path in blobs] == times
    # One that was cut off is written again.
    blobs[0].write_bytes(blobs[0].read_bytes()[:-1])
    assert read_tfds(prepared, **options) == first
    assert blobs[0].stat().st_mtime_ns != times[0]
    assert all(files.read_bytes(*one.image) == png(one.name) for _, one in all_objects(first))


def test_blobs_lie_beside_the_data_by_default(prepared):
    found = read_tfds(prepared, name="small_boxes", splits={"train": "validation"})
    (one,) = found.objects["train"]
    assert one.image.path.startswith(f"{prepared}/loc_keras_blobs/small_boxes/1.2.0/validation-")


def test_parts_of_splits(prepared, tmp_path):
    splits = {"train": "train[:2]", "val": "train[2:]", "test": "train+validation"}
    found = read_tfds(prepared, name="small_boxes", splits=splits, cache_dir=str(tmp_path))
    images = {
        split: {(one.file, one.row) for one in objects} for split, objects in found.objects.items()
    }
    assert not images["train"] & images["val"]
    assert images["train"] | images["val"] < images["test"]
    assert len(found.faults) == 2  # c.png, in a part of train and in test.


def test_named_features(prepared, tmp_path):
    options = {"name": "small_boxes", "splits": {"train": "train"}, "cache_dir": str(tmp_path)}
    found = read_tfds(prepared, label="scene", box="objects/bbox", image="image", **options)
    assert [one.label for one in found.objects["train"]] == ["out"] * 3
    assert found.class_names == ["in", "out"]
    found = read_tfds(prepared, label="image/filename", **options)
    assert {one.label for one in found.objects["train"]} == {"a.png", "b.png"}
    assert found.class_names is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": {"train": "train", "test": "test"}}, "no split 'test'; it has train, valid"),
        ({"splits": {"train": "train[:x%]"}}, r"split 'train\[:x%\]' of the TFDS data set"),
        ({"splits": {"train": None}}, "splits.train is missing"),
        ({"box": "bbox"}, "'bbox' is not one of the box features: objects/bbox"),
        ({"image": "scene"}, "'scene' is not one of the image features: image, segmentation_mask"),
        ({"label": "nothing"}, "'nothing' is not one of the label features: "),
        ({"name": "small_boxes:9.9.9"}, "small_boxes:9.9.9 is not prepared below"),
        ({"name": "no_such_set"}, "not prepared below .* data.source.tfds.download to true"),
        ({"name": "no_such_set", "download": True}, "could not be prepared"),
        ({"name": "two words"}, "two words"),
        ({"cache_dir": "gs://bucket/cache"}, "set data.cache_dir to a local folder"),
    ],
)
def test_mistakes(prepared, tmp_path, no_network, options, message):
    given = {"name": "small_boxes", "splits": SPLITS, "cache_dir": str(tmp_path), **options}
    with pytest.raises(DataError, match=message) as raised:
        read_tfds(prepared, **given)
    assert "\n" not in str(raised.value)


def test_absent_data_set_is_not_downloaded(tmp_path, no_network):
    with pytest.raises(DataError, match="cars196 is not prepared below"):
        read_tfds(str(tmp_path), name="cars196")
    assert list(tmp_path.iterdir()) == []


def test_changed_record_is_named(prepared, tmp_path):
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(f"{prepared}/small_boxes", root / "small_boxes")
    (shard,) = root.rglob("*train.tfrecord*")
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"split 'train' of the TFDS data set small_boxes cannot"):
        read_tfds(str(root), name="small_boxes", splits=SPLITS)
    assert not list(root.rglob("*.blob*"))


# TFDS's own data sets, with its mock data: random boxes and pictures in their features.


@pytest.mark.parametrize(
    ("name", "features", "box", "label", "classes"),
    [
        ("caltech_birds2011", ("bbox", "label", "image/filename"), "bbox", "label", 200),
        ("cars196", ("bbox", "label"), "bbox", "label", 196),
        ("oxford_iiit_pet", ("head_bbox", "label", "file_name"), "head_bbox", "label", 37),
        ("stanford_dogs", ("objects", "label", "image/filename"), "objects/bbox", "label", 120),
        ("voc", ("objects",), "objects/bbox", "objects/label", 20),
    ],
)
def test_mock_data(tmp_path, name, features, box, label, classes):
    options = {"name": name, "splits": {"train": "train"}, "download": True}
    with tfds.testing.mock_data(num_examples=2):
        builder = tfds.builder(name, data_dir=str(tmp_path))
        found = read_tfds(str(tmp_path), **options)
        # The mock's values depend on the set of features that is read.
        wanted = tfds.decode.PartialDecoding(dict.fromkeys(features, True))
        examples = list(tfds.as_numpy(builder.as_dataset(split="train", decoders=wanted)))
    layout = find_layout(builder.info.features)
    assert (layout.box.name, layout.label.name) == (box, label)
    assert len(found.class_names) == classes
    objects = found.objects["train"]
    if name == "voc":
        # The mock makes lists of boxes and of classes that are not as long.
        assert objects == []
        assert [fault.kind for fault in found.faults] == ["columns"] * 2
        return
    expected = []
    for example in examples:
        boxes = example["objects"]["bbox"] if "objects" in features else [example[box]]
        text = found.class_names[example["label"]]
        expected += [(text, (x1, y1, x2, y2)) for y1, x1, y2, x2 in np.asarray(boxes).tolist()]
    assert [(one.label, one.box) for one in objects] == expected
    assert found.faults == []
    assert len({one.image for one in objects}) == 2
    picture = Image.open(io.BytesIO(files.read_bytes(*objects[0].image)))
    picture.load()
    assert picture.mode == "RGB"


# Features by type.


def features(**parts):
    usual = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=3)}
    return tfds.features.FeaturesDict(usual | parts)


def test_layout_of_one_box():
    layout = find_layout(features(head_bbox=tfds.features.BBoxFeature()))
    assert (layout.box.name, layout.box.depth, layout.filename) == ("head_bbox", 0, None)
    assert layout.class_names == ["0", "1", "2"]


def test_layout_of_a_list_of_boxes():
    layout = find_layout(features(boxes=tfds.features.Sequence(tfds.features.BBoxFeature())))
    assert (layout.box.name, layout.box.depth, layout.label.depth) == ("boxes", 1, 0)


def test_layout_passes_images_of_floats():
    depth = tfds.features.Image(shape=(None, None, 1), dtype=np.float32)
    parts = {"image": depth, "photograph": tfds.features.Image()}
    layout = find_layout(features(bbox=tfds.features.BBoxFeature(), **parts))
    assert layout.image.name == "photograph"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, r"has 0 box features \(none\) where one was expected; it cannot serve"),
        (
            {"head": tfds.features.BBoxFeature(), "body": tfds.features.BBoxFeature()},
            r"has 2 box features \(body, head\) .* name it by data.source.tfds.box",
        ),
        (
            {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.Text()},
            r"has 0 label features \(none\)",
        ),
        ({"bbox": tfds.features.BBoxFeature(bbox_format="XYWH")}, "format XYWH; only REL_YXYX"),
    ],
)
def test_layouts_that_do_not_serve(parts, message):
    with pytest.raises(DataError, match=message):
        find_layout(features(**parts))


# Blobs.


def test_blob(tmp_path):
    path = tmp_path / "folder" / "x.blob"
    contents = {"a": b"123", "b é\n": b"", "c": bytes(range(256))}
    written = write_blob(path, contents.items(), stamp="v1")
    # Offsets by hand: 0, 0 + 3, 3 + 0.
    assert written == {
        "a": ImageRef(str(path), 0, 3),
        "b é\n": ImageRef(str(path), 3, 0),
        "c": ImageRef(str(path), 3, 256),
    }
    assert read_blob(path, stamp="v1") == written
    assert {key: files.read_bytes(*ref) for key, ref in written.items()} == contents
    assert read_blob(path, stamp="v2") is None
    assert read_blob(tmp_path / "none.blob", stamp="v1") is None


@pytest.mark.parametrize(
    "index",
    ["", "not json", "[]", "{}", '{"stamp": "v", "bytes": 3, "count": 1}', "3\n", '[1]\n["a"]'],
)
def test_broken_index(tmp_path, index):
    path = tmp_path / "x.blob"
    write_blob(path, [("a", b"123")], stamp="v")
    (tmp_path / f"x.blob{INDEX_ENDING}").write_text(index)
    assert read_blob(path, stamp="v") is None


def test_interrupted_blob_leaves_nothing(tmp_path):
    path = tmp_path / "x.blob"
    write_blob(path, [("a", b"old")], stamp="v")

    def interrupted():
        yield "a", b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_blob(path, interrupted(), stamp="v")
    assert [one.name for one in tmp_path.iterdir()] == ["x.blob"]
    assert read_blob(path, stamp="v") is None
    with pytest.raises(ValueError, match="the key 'a' comes twice"):
        write_blob(path, [("a", b""), ("a", b"")], stamp="v")
