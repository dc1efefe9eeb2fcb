"""Writers: every format read back by independent readers, with the pixels under the boxes."""

import os
import unicodedata
import warnings

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from helpers.converted import (
    CLASSES,
    drawn,
    read_json,
    records,
    row,
    save,
    seen,
    stored_as,
    tree,
    visible,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from loc_keras.data.annotations import Fault
from loc_keras.data.convert import partial_of, refuse_place, write_dataset
from loc_keras.data.formats.parsing import RowError
from loc_keras.data.formats.registry import WRITERS
from loc_keras.data.formats.tfrecord import label_map
from loc_keras.data.formats.writing import distinct_stems, read_picture, safe_name
from loc_keras.data.formats.yolo_yaml import to_yaml
from loc_keras.errors import DataError

FORMATS = tuple(WRITERS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


class _KilledError(BaseException):
    """What no `except Exception` catches, as a kill."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A source folder and its records: what can befall an image, once each."""
    root = tmp_path_factory.mktemp("source")
    rows, val = [], []

    def add(to, path, box, size=(60, 40), label=0, **more):
        to.append(row(path, size, label, box, **more))

    box = (5, 7, 31, 29)
    add(rows, save(root / "a" / "photo one.JPG", drawn(60, 40, box), quality=95), box)
    box = (6, 8, 32, 30)
    add(rows, save(root / "b" / "photo one.JPG", drawn(60, 40, box), quality=95), box, label=1)
    box = (7, 9, 33, 31)
    add(rows, save(root / "grau ä ü.png", drawn(60, 40, box, colour=False)), box, label=2)
    box = (8, 10, 34, 32)
    add(rows, save(root / 'it\'s "x", 1.png', drawn(60, 40, box)), box)
    box = (9, 11, 21, 33)  # On the upright picture, 40 x 60, which is stored lying.
    turned = stored_as(drawn(40, 60, box, colour=False), 6)
    path = save(root / "turned.jpg", turned, 6, quality=95)
    add(rows, path, box, size=(40, 60), orientations=6, label=1)
    box = (10, 12, 35, 30)
    whole = np.zeros((90, 100, 3), np.uint8)
    whole[20:60, 15:75] = drawn(60, 40, box)
    add(rows, save(root / "wide.png", whole), box, windows=(15, 20, 75, 60))
    box = (11, 13, 36, 31)
    whole[20:60, 15:75] = drawn(60, 40, box)
    packed = save(root / "one.png", drawn(60, 40, box)).read_bytes()
    (root / "pack.bin").write_bytes(b"x" * 11 + packed + b"y" * 5)
    add(rows, root / "pack.bin", box, offsets=11, lengths=len(packed), names="in/pack/seven.png")
    box = (12, 14, 37, 32)
    add(rows, save(root / "old.ppm", drawn(60, 40, box)), box, label=2)
    box = (13, 15, 38, 33)
    add(val, save(root / "a" / "other.bmp", drawn(60, 40, box)), box)
    box = (14, 16, 39, 34)
    add(val, save(root / "a" / "photo one.png", drawn(60, 40, box)), box, label=1)
    return root, {"train": records(rows), "val": records(val)}


@pytest.mark.parametrize("target", FORMATS)
def test_boxes_labels_and_pixels_come_back(made, tmp_path, target):
    root, splits = made
    before = tree(root)
    result = write_dataset(tmp_path / "out", target, splits, CLASSES)
    assert result.counts == {"train": 8, "val": 2}
    assert result.faults == []
    assert tree(root) == before
    assert not partial_of(tmp_path / "out").exists()
    found = seen(target, tmp_path / "out")
    # Box k begins at (5 + k, 7 + k): the order of `made` and of the sorted boxes is the same.
    labels = [0, 1, 2, 0, 1, 0, 0, 2, 0, 1]
    assert [one.label for one in found] == [CLASSES[label] for label in labels]
    assert [one.split for one in found] == ["train"] * 8 + ["val"] * 2
    wanted = [
        *((5, 7, 31, 29), (6, 8, 32, 30), (7, 9, 33, 31), (8, 10, 34, 32), (9, 11, 21, 33)),
        *((10, 12, 35, 30), (11, 13, 36, 31), (12, 14, 37, 32)),
        *((13, 15, 38, 33), (14, 16, 39, 34)),
    ]
    np.testing.assert_allclose([one.box for one in found], wanted, atol=1e-3)
    # What the annotations say is where the pixels are, whatever was turned or cut.
    assert [visible(one.pixels) for one in found] == wanted
    assert found[2].pixels.squeeze().ndim == 2, "gray stays gray"


@pytest.mark.parametrize("target", FORMATS)
def test_file_names_are_safe_and_recognisable(made, tmp_path, target):
    root, splits = made
    folder = root.name
    write_dataset(tmp_path / "out", target, splits, CLASSES)
    names = [one.file for one in seen(target, tmp_path / "out")]
    # Two files of one split are called "photo one", so all names begin with the image's folder. In
    # VOC the splits share a folder, so that the third "photo one" needs another name there.
    first = ["a_photo_one.JPG", "b_photo_one.JPG"]
    last = "a_photo_one_2.png" if target == "voc" else "a_photo_one.png"
    other = "a_other.png" if target == "tfrecord" else "a_other.bmp"
    safe = ["grau_ä_ü.png", "it_s__x___1.png", "turned.png", "wide.png"]
    safe = [*(f"{folder}_{name}" for name in safe), "pack_seven.png", f"{folder}_old.png"]
    assert names == [*first, *safe, other, last]


def test_bytes_are_copied_where_they_can_be(made):
    root, splits = made
    copied = [read_picture(splits["train"], index, ("JPEG", "PNG")) for index in range(8)]
    assert [one.copied for one in copied] == [True] * 4 + [False] * 2 + [True, False]
    assert copied[0].content == (root / "a" / "photo one.JPG").read_bytes()
    assert copied[6].content == (root / "one.png").read_bytes()
    assert [one.format for one in copied] == ["JPEG", "JPEG"] + ["PNG"] * 6


@pytest.mark.parametrize("target", FORMATS)
def test_ending_follows_the_content(tmp_path, target):
    """A PNG file called .jpg, and one with no ending, whose name is not UTF-8."""
    mislabelled = save(tmp_path / "a.png", drawn(60, 40, (5, 7, 31, 29)))
    mislabelled = mislabelled.rename(tmp_path / "a.jpg")
    bare = save(tmp_path / "b.png", drawn(60, 40, (6, 7, 31, 29)))
    bare = bare.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    rows = [row(path, (60, 40), 0, (k, 7, 31, 29)) for path, k in ((mislabelled, 5), (bare, 6))]
    rows.append(row(os.fsdecode(b"gone\xe9.png"), (60, 40), 0, (7, 7, 31, 29)))
    rows[2]["files"] = rows[2]["paths"]
    out = tmp_path / "out"
    write_dataset(out, target, {"train": records(rows)}, CLASSES)
    assert [one.file for one in seen(target, out)] == ["a.png", "caf_.png"]
    assert read_json(out / "skipped.json")[0]["file"] == rows[2]["paths"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_turning_undoes_every_orientation(tmp_path, orientation, ending):
    pixels = np.random.default_rng(orientation).integers(0, 256, (5, 7), np.uint8)
    path = save(tmp_path / f"x.{ending}", stored_as(pixels, orientation), orientation)
    # Decoders turn TIFF files by themselves, so their records say that nothing is left to do.
    recorded = 1 if ending == "tif" else orientation
    one = records([row(path, (7, 5), 0, (1, 1, 4, 4), orientations=recorded)])
    picture = read_picture(one, 0, ("PNG",))
    (tmp_path / "y.png").write_bytes(picture.content)
    with Image.open(tmp_path / "y.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
        assert image.getexif().get(0x0112, 1) == 1


def test_ignored_orientation_stays_ignored_for_other_readers(tmp_path):
    """A record takes the pixels as stored: a copy with its EXIF block would be turned."""
    pixels = drawn(30, 20, (3, 4, 9, 10))
    path = save(tmp_path / "x.jpg", pixels, 6, quality=95)
    picture = read_picture(records([row(path, (30, 20), 0, (3, 4, 9, 10))]), 0, ("JPEG",))
    assert (picture.format, picture.copied, picture.size) == ("PNG", False, (20, 30))
    (tmp_path / "y.png").write_bytes(picture.content)
    with Image.open(tmp_path / "y.png") as image:
        assert visible(np.asarray(image)) == (3, 4, 9, 10)
        assert image.getexif() == {}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_every_mode_is_cut_without_loss(tmp_path, mode):
    rng = np.random.default_rng(3)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (12, 10), np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    window = (2, 3, 9, 11)
    one = records([row(path, (7, 8), 0, (1, 1, 4, 4), windows=window)])
    picture = read_picture(one, 0, ("PNG",))
    (tmp_path / "y.png").write_bytes(picture.content)
    wanted = image.crop(window)
    with Image.open(tmp_path / "y.png") as found:
        wanted = wanted.convert("RGB") if mode == "CMYK" else wanted
        np.testing.assert_array_equal(
            np.asarray(found.convert(wanted.mode) if mode == "P" else found), np.asarray(wanted)
        )
    assert picture.channels == len(wanted.getbands())


@pytest.mark.parametrize(
    ("content", "kind"),
    [(None, "missing_image"), (b"", "empty"), (b"no image", "not_image"), ("cut", "undecodable")],
)
def test_unreadable_image_is_told(tmp_path, content, kind):
    path = tmp_path / "x.png"
    if content == "cut":
        noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
        content = save(path, noise).read_bytes()[:900]
    if content is not None:
        path.write_bytes(content)
    one = records([row(path, (30, 20), 0, (3, 4, 9, 10), windows=(5, 5, 35, 25))])
    with pytest.raises(RowError, match=r"image .*x\.png") as caught:
        read_picture(one, 0, ("JPEG",))
    assert caught.value.kind == kind


def test_image_of_another_size_is_told(tmp_path):
    path = save(tmp_path / "x.png", drawn(30, 20, (3, 4, 9, 10)))
    with pytest.raises(RowError, match="is 30 x 20 px, but was 31 x 20 px") as caught:
        read_picture(records([row(path, (31, 20), 0, (3, 4, 9, 10))]), 0, ("PNG",))
    assert caught.value.kind == "size"


@pytest.mark.parametrize("target", FORMATS)
def test_bad_image_is_left_out_and_listed(made, tmp_path, target):
    _, splits = made
    gone = splits["train"].take(np.arange(8))
    gone.paths[3] = "/nowhere/x.png"
    earlier = Fault("labels.csv", 99, "has 3 columns", "columns")
    out = tmp_path / "out"
    result = write_dataset(out, target, {**splits, "train": gone}, CLASSES, faults=[earlier])
    assert result.counts == {"train": 7, "val": 2}
    assert len(seen(target, out)) == 9
    listed = read_json(out / "skipped.json")
    assert [(one["file"], one["row"], one["kind"]) for one in listed] == [
        ("labels.csv", 99, "columns"),
        ("labels.csv", 4, "missing_image"),
    ]
    with pytest.raises(DataError, match=r"labels.csv, row 4: image .* does not exist; mend it"):
        write_dataset(
            tmp_path / "b", target, {**splits, "train": gone}, CLASSES, stop_at_faults=True
        )


def test_split_of_bad_images_alone_is_refused(made, tmp_path):
    _, splits = made
    gone = splits["val"].take(np.arange(2))
    gone.paths[:] = "/nowhere/x.png"
    with pytest.raises(DataError, match="no image of val can be written"):
        write_dataset(tmp_path / "out", "csv", {**splits, "val": gone}, CLASSES)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("after", [0, 3, 9])
def test_interrupted_conversion_goes_on(made, tmp_path, target, after):
    _, splits = made
    out, whole = tmp_path / "out", tmp_path / "whole"
    write_dataset(whole, target, splits, CLASSES, shards=3 if target == "tfrecord" else None)
    done = 0

    def kill(split, count):
        nonlocal done
        done += count
        if done > after:
            raise _KilledError

    shards = 3 if target == "tfrecord" else None
    with pytest.raises(_KilledError):
        write_dataset(out, target, splits, CLASSES, shards=shards, advance=kill)
    assert not out.exists()
    partial = partial_of(out)
    (partial / ".77-writing-x.png").write_bytes(b"half")  # As a kill by the system leaves it.
    there = {path: path.stat().st_ino for path in partial.rglob("*") if _is_result(path)}
    assert bool(there) or after == 0 or target == "tfrecord"
    counted = {"train": 0, "val": 0}

    def count_up(split, count):
        counted[split] += count

    write_dataset(out, target, splits, CLASSES, shards=shards, advance=count_up)
    assert counted == {"train": 8, "val": 2}
    assert tree(out) == tree(whole)
    kept = {path: (out / path.relative_to(partial)).stat().st_ino for path in there}
    assert kept == there, "finished files were written again"


def _is_result(path):
    return path.suffix.lower() in (".jpg", ".png", ".bmp", ".tfrecord") and path.name[0] != "."


def test_shards_keep_faults_over_an_interruption(made, tmp_path):
    _, splits = made
    train = splits["train"].take(np.arange(8))
    train.paths[0] = "/nowhere/x.png"
    done = 0

    def kill(split, count):
        nonlocal done
        done += count
        if done == 6:
            raise _KilledError

    out = tmp_path / "out"
    with pytest.raises(_KilledError):
        write_dataset(out, "tfrecord", {"train": train}, CLASSES, shards=2, advance=kill)
    result = write_dataset(out, "tfrecord", {"train": train}, CLASSES, shards=2)
    assert result.counts == {"train": 7}
    assert [fault.kind for fault in result.faults] == ["missing_image"]
    assert sorted(path.name for path in out.glob("*.tfrecord")) == [
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]
    assert len(seen("tfrecord", out)) == 7


@pytest.mark.parametrize("target", FORMATS)
def test_full_disk_is_told_and_mended(made, tmp_path, target, monkeypatch):
    _, splits = made
    out = tmp_path / "out"

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    def full_file(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.TFRecordWriter, "write", full)
        patch.setattr(type(tmp_path), "write_bytes", full_file)
        with pytest.raises(DataError, match=r"cannot be written to .*No space left on device"):
            write_dataset(out, target, splits, CLASSES)
    assert not out.exists()
    assert write_dataset(out, target, splits, CLASSES).counts == {"train": 8, "val": 2}


def test_finished_conversion_is_not_repeated(made, tmp_path):
    _, splits = made
    out = tmp_path / "out"
    write_dataset(out, "yolo", splits, CLASSES)
    inodes = {path: path.stat().st_ino for path in out.rglob("*")}
    again = write_dataset(out, "yolo", splits, CLASSES)
    assert again.done_before
    assert again.counts == {"train": 8, "val": 2}
    assert {path: path.stat().st_ino for path in out.rglob("*")} == inodes


@pytest.mark.parametrize("finish", [True, False])
def test_other_source_is_refused(made, tmp_path, finish):
    root, _ = made
    out = tmp_path / "out"
    copied = tmp_path / "x.png"
    copied.write_bytes((root / "one.png").read_bytes())
    one = records([row(copied, (60, 40), 0, (1, 2, 30, 40))])

    def kill(split, count):
        if not finish:
            raise _KilledError

    try:
        write_dataset(out, "csv", {"train": one}, CLASSES, advance=kill)
    except _KilledError:
        assert not finish
    held = tree(tmp_path)
    with pytest.raises(DataError, match="another format"):
        write_dataset(out, "voc", {"train": one}, CLASSES)
    moved = one.take(np.arange(1))
    moved.boxes[0, 0] += 0.25
    with pytest.raises(DataError, match="holds a conversion of another source"):
        write_dataset(out, "csv", {"train": moved}, CLASSES)
    with pytest.raises(DataError, match="another source"):
        write_dataset(out, "csv", {"train": one}, ["a", "b", "c"])
    os.utime(copied, ns=(1, 1))  # An image that was saved again.
    with pytest.raises(DataError, match="another source"):
        write_dataset(out, "csv", {"train": one}, CLASSES)
    assert tree(tmp_path) == held


def test_used_folder_is_refused(made, tmp_path):
    _, splits = made
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="is not empty: give a new folder"):
        write_dataset(tmp_path / "out", "csv", splits, CLASSES)
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "b.partial" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="is in the way"):
        write_dataset(tmp_path / "b", "csv", splits, CLASSES)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is not empty"):
        write_dataset(tmp_path / "file", "csv", splits, CLASSES)
    with pytest.raises(DataError, match="cannot be written to"):
        write_dataset(tmp_path / "file" / "below", "csv", splits, CLASSES)


def test_empty_folder_is_filled_and_may_be_the_working_one(made, tmp_path, monkeypatch):
    _, splits = made
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    write_dataset(tmp_path / "a", "coco", splits, CLASSES)
    monkeypatch.chdir(tmp_path / "b")
    write_dataset(tmp_path / "b", "coco", splits, CLASSES)
    assert tree(".") == tree(tmp_path / "a")
    assert not (tmp_path / "b.partial").exists()


def test_pillow_is_silenced_once_around_the_threads(made, tmp_path, monkeypatch):
    _, splits = made
    before, seen_filters = list(warnings.filters), []

    def watched(*arguments):
        seen_filters.append(warnings.filters[0][0])
        return read_picture(*arguments)

    monkeypatch.setattr("loc_keras.data.formats.writing.read_picture", watched)
    write_dataset(tmp_path / "out", "csv", splits, CLASSES)
    assert seen_filters == ["ignore"] * 10
    assert warnings.filters == before


def test_place_in_or_around_the_source_is_refused(tmp_path):
    source = tmp_path / "data" / "set"
    source.mkdir(parents=True)
    (tmp_path / "link").symlink_to(source)
    for out in (source, source / "new" / "deep", tmp_path / "link", tmp_path / "link" / "new"):
        with pytest.raises(DataError, match="lies in the source"):
            refuse_place(out, [str(source)])
    with pytest.raises(DataError, match="lies in the source"):
        refuse_place(source / "x", [str(tmp_path / "link")])
    with pytest.raises(DataError, match="holds the source"):
        refuse_place(tmp_path / "data", [str(source)])
    refuse_place(type(tmp_path)("C:/out"), [str(source)])
    for out in (tmp_path / "data" / "settled", tmp_path / "out"):
        refuse_place(out, [str(source), "gs://bucket/set"])
    with pytest.raises(DataError, match="must be a local folder"):
        refuse_place(type(tmp_path)("gs://bucket/out"), [str(source)])


def test_label_map_is_a_protocol_buffer():
    """Parsed by protobuf's own reader, through a message of the same shape."""
    pytest.importorskip("google.protobuf")
    names = [*CLASSES, "a\\b", "tab\there\n"]
    message = _label_map_message()
    text_format.Parse(label_map(names), message)
    assert [(item.id, item.name) for item in message.item] == list(enumerate(names, 1))


def _label_map_message():
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="map.proto", package="t", syntax="proto2")
    item = file.message_type.add(name="Item")
    item.field.add(name="id", number=2, type=5, label=1)
    item.field.add(name="name", number=1, type=9, label=1)
    whole = file.message_type.add(name="Map")
    whole.field.add(name="item", number=1, type=11, label=3, type_name=".t.Item")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Map"))()


def test_class_that_xml_cannot_hold_is_refused(made, tmp_path):
    _, splits = made
    with pytest.raises(DataError, match="XML cannot hold"):
        write_dataset(tmp_path / "out", "voc", splits, ["a", "b\x01", "c"])


@pytest.fixture(scope="module")
def one_image(tmp_path_factory):
    return save(tmp_path_factory.mktemp("one") / "x.png", drawn(641, 479, (1, 1, 2, 2)))


@settings(max_examples=15, deadline=None)
@given(
    corners=st.lists(
        st.tuples(*[st.floats(0, 1, width=32)] * 4).filter(
            lambda box: box[0] < box[2] and box[1] < box[3]
        ),
        min_size=1,
        max_size=12,
        unique=True,
    )
)
@pytest.mark.parametrize("target", FORMATS)
def test_any_box_comes_back(one_image, tmp_path_factory, target, corners):
    rows = [row(one_image, (641, 479), 0, (0, 0, 1, 1), boxes=box) for box in corners]
    out = tmp_path_factory.mktemp("any") / "out"
    write_dataset(out, target, {"train": records(rows)}, CLASSES)
    found = [one.box for one in seen(target, out)]
    wanted = sorted(tuple(np.array(box) * [641, 479, 641, 479]) for box in corners)
    distance = np.abs(np.array(sorted(found))[:, None] - np.array(wanted)[None]).max(-1)
    # Equal boxes may swap places in the order, so each is compared with its nearest.
    assert distance.min(0).max() < 1e-3 and distance.min(1).max() < 1e-3
    assert len(found) == len(corners)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=12))
def test_names_are_distinct_and_safe(origins):
    half = len(origins) // 2
    for folder in distinct_stems([origins[:half], origins[half:]]):
        assert len({stem.casefold() for stem in folder}) == len(folder)
    (stems,) = distinct_stems([origins])
    assert len(stems) == len(origins)
    assert len({stem.casefold() for stem in stems}) == len(stems)
    for stem in stems:
        assert stem and len(stem.encode()) < 200
        assert not set(stem) & set("/\\:*?\"'<>| \t\n\0,;#&$`") and stem[0] != "."
        assert all(unicodedata.category(sign)[0] != "C" for sign in stem)


@pytest.mark.parametrize(
    ("folders", "stems"),
    [
        ([["r/1.jpg", "r/2.jpg"]], [["1", "2"]]),
        # One clash, and all names of all folders tell where they are from.
        (
            [["r/a/1.jpg", "r/b/1.jpg", "r/b/2.jpg"], ["r/b/3.jpg"]],
            [["a_1", "b_1", "b_2"], ["b_3"]],
        ),
        # The same name in two folders is no clash.
        ([["train/1.png"], ["test/1.png"]], [["1"], ["1"]]),
        ([["train/1.png", "test/1.png"]], [["train_1", "test_1"]]),
        ([["x/a/1.jpg", "y/a/1.jpg"]], [["x_a_1", "y_a_1"]]),
        # What folders do not part is numbered; a number that is a name already is passed over.
        ([["r/i.jpg", "r/i.jpg", "r/i_2.jpg", "r/I.png"]], [["i", "i_3", "i_2", "I_4"]]),
        ([["photo 1.5 m wide", "x.tar.gz"]], [["photo_1.5_m_wide", "x.tar"]]),
        ([[], ["a.png"]], [[], ["a"]]),
        ([], []),
    ],
)
def test_names_by_hand(folders, stems):
    assert distinct_stems(folders) == stems


@pytest.mark.parametrize(
    ("name", "safe"), [("CON", "_CON"), ("u\u0308ber", "über"), ("...", "image"), (".x y", "x_y")]
)
def test_safe_name_by_hand(name, safe):
    assert safe_name(name) == safe


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "path"]),
        st.one_of(
            TEXTS,
            st.integers(),
            st.booleans(),
            st.none(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.lists(TEXTS, max_size=14),
            st.dictionaries(st.integers(0, 99), TEXTS, max_size=4),
        ),
        min_size=1,
    )
)
def test_yaml_reads_back_in_both_versions(tree_):
    text = to_yaml(tree_)
    assert YAML(typ="safe", pure=True).load(text) == tree_
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(text) == tree_
