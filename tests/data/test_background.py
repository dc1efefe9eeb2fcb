"""Images without an object as a class: read, checked, moved and written again."""

import json

import numpy as np
import pytest
import tensorflow as tf
from helpers.empty_images import FORMATS, fractions, samples, write_set
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from loc_keras import check, convert
from loc_keras.cli.data_source import DataSource
from loc_keras.config.data import AugmentConfig, SplitConfig
from loc_keras.config.load import load_config
from loc_keras.config.schema import Config
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    Fault,
    ImageRef,
    infer_class_names,
    with_background,
)
from loc_keras.data.augment.batch import augment, draw_names
from loc_keras.data.check.run import check_data
from loc_keras.data.formats.yolo_yaml import to_yaml
from loc_keras.data.load_records import load_records
from loc_keras.data.resize import resize_boxes
from loc_keras.errors import DataError
from loc_keras.report.data_report import data_page

NOTHING = "nothing"
NO_CUT = {"val": 0, "test": 0}


def config_of(source, **data):
    settings = {"source": source, "split": NO_CUT, **data}
    return Config.model_validate({"name": "empties", "data": settings})


def described(records):
    """What stands in records: for each name its class and its box, as far as float32 tells."""
    names = [name.rsplit("/", 1)[-1].rsplit(".", 1)[0] for name in records.names]
    labels = [records.class_names[label] for label in records.labels]
    return dict(zip(names, zip(labels, records.boxes, strict=True), strict=True))


def assert_same(found, several, background=NOTHING):
    assert set(found) == {one.name.removesuffix(".png") for one in several}
    for one in several:
        label, box = found[one.name.removesuffix(".png")]
        assert label == (one.label or background)
        if one.box is None:
            assert box.tolist() == [0.0, 0.0, 0.0, 0.0]
        else:
            np.testing.assert_allclose(box, fractions(one.box), atol=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_hands_them_on(tmp_path, kind):
    several = samples(objects=6, empty=3)
    source = write_set(tmp_path, kind, several)
    without = DataSource(config_of(source)).records
    assert_same(described(without.splits["train"]), several[:6])
    assert without.background is None
    assert [fault.kind for fault in without.faults] == ["no_object"] * 3
    assert any("3 images without an object were left out" in note for note in without.notes)
    found = DataSource(config_of({**source, "background": NOTHING})).records
    assert found.class_names == ["blue", "red", NOTHING]
    assert found.background == 2
    assert found.faults == []
    assert f"Images without an object, of the class '{NOTHING}': 3." in found.notes
    assert_same(described(found.splits["train"]), several)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_check_finds_nothing_wrong_with_them(tmp_path, kind, capsys):
    source = write_set(tmp_path / "set", kind, samples(objects=10, empty=5))
    config = tmp_path / "my.yaml"
    config.write_text(to_yaml({"name": "mine", "data": {"source": source}}))
    on = ["--set", f"data.source.background={NOTHING}"]
    assert check.main(["--config", str(config), "--quick", *on]) == 0
    told = capsys.readouterr().out
    assert "train 10 objects in 15 images, 5 of them without an object; 3 classes" in told
    assert "Nothing was found" in told
    assert check.main(["--config", str(config), "--quick"]) == 0
    assert "image without objects" in capsys.readouterr().out


def test_the_report_counts_and_shows_them(tmp_path):
    source = write_set(tmp_path, "csv", samples(objects=6, empty=5))
    config = config_of({**source, "background": NOTHING})
    data = DataSource(config)
    result = check_data(data.annotations, data.section, near=False)
    page = data_page(result, title="t", source="s")
    assert "images without an object" in page
    assert page.count("<figcaption>nothing") == 5
    assert page.count("<figcaption>blue") == 3


@pytest.mark.parametrize("target", FORMATS)
def test_they_are_written_and_read_again(tmp_path, target, capsys):
    several = samples(objects=4, empty=3)
    source = write_set(tmp_path / "set", "csv", several)
    config = tmp_path / "my.yaml"
    settings = {"source": {**source, "background": NOTHING}, "split": NO_CUT, "image_size": 32}
    config.write_text(to_yaml({"name": "mine", "data": settings}))
    out = tmp_path / "out"
    assert convert.main(["--config", str(config), "--to", target, "--out", str(out)]) == 0
    assert "train: 7 images" in capsys.readouterr().out
    again = load_config(out / "loc_keras.yaml", [])
    found = DataSource(again).records
    assert found.class_names == ["blue", "red", NOTHING]
    assert_same(described(found.splits["train"]), several)
    # Other tools find what their format calls an image without an object, and no third class.
    if target == "coco":
        tree = json.loads((out / "annotations" / "instances_train.json").read_text())
        assert len(tree["images"]) == 7
        assert len(tree["annotations"]) == 4
        assert [one["name"] for one in tree["categories"]] == ["blue", "red"]
    if target == "yolo":
        texts = sorted(path.read_text() for path in (out / "labels" / "train").iterdir())
        assert texts[:3] == ["", "", ""]
        assert NOTHING not in (out / "data.yaml").read_text()
    if target == "csv":
        rows = (out / "training_data.csv").read_text().splitlines()
        assert "empty00.png,nothing,,,," in rows


def test_a_mended_copy_keeps_them(tmp_path):
    several = samples(objects=4, empty=2)
    source = write_set(tmp_path / "set", "yolo", several)
    config = tmp_path / "my.yaml"
    settings = {"source": {**source, "background": NOTHING}, "split": NO_CUT}
    config.write_text(to_yaml({"name": "mine", "data": settings}))
    fixed = tmp_path / "fixed"
    assert check.main(["--config", str(config), "--fix", str(fixed)]) == 0
    found = DataSource(load_config(fixed / "loc_keras.yaml", [])).records
    assert_same(described(found.splits["train"]), several)
    assert "6 images with 4 objects in train" in (fixed / "summary.txt").read_text()


# What the annotations may say.


def annotation(name, label, box, **more):
    return Annotated(ImageRef(name), name, label, box, "a.csv", more.pop("row", 1), **more)


def empty(name, label="", row=9):
    fault = Fault("a.csv", row, "names no object", "no_object")
    return EmptyImage("train", ImageRef(name), name, fault, label)


def merged(objects, empties, name=NOTHING, given=None, **more):
    faults = [one.fault for one in empties]
    read = Annotations({"train": objects}, "fraction", faults, empty=empties, **more)
    return with_background(read, name, given)


BOX = (0.1, 0.1, 0.5, 0.5)


def test_a_row_may_name_the_class_of_the_background():
    found = merged([annotation("a", "cat", BOX)], [empty("b", NOTHING), empty("c", "cat", 10)])
    assert [one.image.path for one in found.objects["train"]] == ["a", "b"]
    # An image of a cat whose box is missing is none without an object.
    assert [fault.row for fault in found.faults] == [10]


def test_a_box_of_zeros_with_that_class_is_the_empty_one():
    found = merged([annotation("a", "cat", BOX), annotation("b", NOTHING, (0, 0, 0, 0))], [])
    assert [one.empty for one in found.objects["train"]] == [False, True]


def test_a_real_box_of_that_class_is_refused():
    found = merged([annotation("a", "cat", BOX), annotation("b", NOTHING, BOX, row=2)], [])
    assert [one.image.path for one in found.objects["train"]] == ["a"]
    (fault,) = found.faults
    assert (fault.row, fault.kind) == (2, "background_box")
    # Nor may its number stand for it: classes cat and nothing are 0 and 1.
    found = merged([annotation("b", "1", BOX)], [], given=["cat", NOTHING])
    assert [fault.kind for fault in found.faults] == ["background_box"]


def test_an_image_with_an_object_is_not_empty_whatever_else_is_said():
    found = merged([annotation("a", "cat", BOX)], [empty("a")])
    assert [one.label for one in found.objects["train"]] == ["cat"]
    assert len(found.faults) == 1
    found = merged([], [empty("a")], unread={ImageRef("a"): 1})
    assert found.objects["train"] == []


def test_the_class_is_the_last_unless_the_names_have_it():
    objects = [annotation("a", "zebra", BOX), annotation("b", "ant", BOX)]
    assert merged(objects, [empty("c")]).class_names is None
    assert infer_class_names({"zebra", "ant", NOTHING}, NOTHING) == ["ant", "zebra", NOTHING]
    assert infer_class_names({"zebra", "ant"}, NOTHING) == ["ant", "zebra", NOTHING]
    fixed = merged(objects, [empty("c")], class_names=["zebra", "ant"])
    assert fixed.class_names == ["zebra", "ant", NOTHING]
    fixed = merged(objects, [empty("c")], class_names=["zebra", NOTHING, "ant"])
    assert fixed.class_names == ["zebra", NOTHING, "ant"]


def test_numbered_classes_keep_their_numbers(tmp_path):
    several = samples(objects=4, empty=2)
    source = write_set(tmp_path, "csv", several)
    table = tmp_path / "boxes.csv"
    table.write_text(table.read_text().replace("blue", "0").replace("red", "1"))
    found = DataSource(config_of({**source, "background": NOTHING})).records
    assert found.class_names == ["0", "1", NOTHING]
    assert found.splits["train"].labels.tolist() == [0, 1, 0, 1, 2, 2]


@pytest.mark.parametrize(("objects", "empties"), [(0, 4), (1, 9)])
def test_a_split_without_any_object_is_refused_with_a_number(tmp_path, objects, empties):
    source = write_set(tmp_path, "csv", samples(objects=objects, empty=empties))
    checked = DataSource(config_of({**source, "background": NOTHING})).checked
    with pytest.raises(DataError, match="without an object, but at least 1 must show one"):
        load_records(checked, SplitConfig(val=0.5, test=0.0, together="identical"))


def test_formats_that_cannot_tell_are_refused(tmp_path):
    path = tmp_path / "my.yaml"
    source = {"format": "cub", "path": "birds", "background": NOTHING}
    path.write_text(to_yaml({"data": {"source": source}}))
    with pytest.raises(Exception, match="format cub cannot name images without an object"):
        load_config(path, [])


# The empty box on its way to the model.


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_the_box_stays_empty_up_to_the_batch(tmp_path, cache):
    several = samples(objects=3, empty=3)
    source = write_set(tmp_path, "csv", several)
    for one in several:  # Stored on its side: boxes and pictures are turned on reading.
        path = tmp_path / "images" / "train" / one.name
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(path) as picture:
            picture.copy().save(path, exif=exif)
    source |= {"background": NOTHING, "boxes_on": "stored"}
    config = config_of(source, image_size=(32, 24), resize="letterbox")
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"cache": cache}),
            "train": config.train.model_copy(update={"batch_size": 6}),
            "augment": config.augment.model_copy(
                update={"flip": True, "scale": 0.3, "rotation": 20.0, "crop": 0.3}
            ),
        }
    )
    data = DataSource(config).build()
    for step, (_, targets) in enumerate(data.train(0).take(3)):
        labels, boxes = targets["softmax"].numpy(), targets["bbox"].numpy()
        assert (labels == data.background).sum() == 3, step
        assert (boxes[labels == data.background] == 0).all()
        assert (boxes[labels != data.background, 2:] > boxes[labels != data.background, :2]).all()


def test_letterboxing_moves_no_empty_box():
    boxes = tf.constant([[0, 0, 0, 0], [0, 0, 0.5, 1.0]], tf.float32)
    sizes = tf.constant([[20, 40], [20, 40]])
    moved = resize_boxes(boxes, sizes, (40, 40), "letterbox").numpy()
    # 20 x 40 px on 40 x 40 px: 10 black rows above and below.
    np.testing.assert_allclose(moved, [[0, 0, 0, 0], [0, 0.25, 0.5, 0.75]], atol=1e-6)


EVERYTHING = AugmentConfig(
    flip=True,
    flip_vertical=True,
    translate=0.4,
    scale=0.5,
    aspect=0.3,
    rotation=40.0,
    shear=0.2,
    perspective=0.2,
    crop=0.5,
    crop_aspect=0.3,
    cutout=1.0,
    brightness=0.2,
    mixup=0.5,
    cutmix=0.5,
)


def moved_batch(options, seed, count=6, run=augment):
    """Every second picture of a batch is without an object."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 24, 32, 3), np.uint8)
    first, sides = generator.uniform(0, 0.5, (2, count, 2))
    boxes = np.concatenate([first, first + 0.1 + 0.8 * sides], axis=1).astype(np.float32)
    boxes[::2] = 0
    labels = np.where(np.arange(count) % 2, 1, 2).astype(np.int32)
    draws = generator.random((count, len(draw_names(options))), np.float32)
    targets = {"softmax": tf.constant(labels), "bbox": tf.constant(boxes)}
    return run(tf.constant(images), targets, tf.constant(draws), options, 3)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), ellipse=st.booleans(), least=st.sampled_from([0.1, 0.9]))
def test_augmentation_keeps_the_empty_box_exactly_empty(seed, ellipse, least):
    kind = "ellipse" if ellipse else "corners"
    options = EVERYTHING.model_copy(update={"min_visible": least, "box_from": kind})
    images, targets = moved_batch(options, seed)
    boxes = targets["bbox"].numpy()
    assert (boxes[::2] == 0).all()
    assert np.isfinite(boxes).all()
    assert (boxes[1::2, 2:] > boxes[1::2, :2]).all()
    np.testing.assert_allclose(targets["softmax"].numpy().sum(axis=1), 1, atol=1e-5)
    assert images.dtype == tf.uint8


def test_graph_and_eager_agree_on_empty_boxes():
    graph = tf.function(augment, autograph=False)
    for seed in range(3):
        eager_images, eager = moved_batch(EVERYTHING, seed)
        images, targets = moved_batch(EVERYTHING, seed, run=graph)
        np.testing.assert_array_equal(targets["bbox"], eager["bbox"])
        np.testing.assert_allclose(targets["softmax"], eager["softmax"], atol=1e-6)
        difference = np.abs(images.numpy().astype(int) - eager_images.numpy().astype(int))
        assert (difference > 1).mean() < 0.01


def test_a_picture_without_an_object_moves_as_others_do():
    # It would otherwise be told from the others by its unmoved edges. A shift of up to the whole
    # side leaves black pixels in nearly every picture, where a box does not forbid it.
    options = AugmentConfig.model_construct(translate=1.0, min_visible=0.9)
    images = tf.fill([64, 16, 16, 1], tf.constant(200, tf.uint8))
    boxes = tf.zeros([64, 4])
    draws = np.random.default_rng(0).random((64, len(draw_names(options))), np.float32)
    moved, targets = augment(images, {"bbox": boxes}, tf.constant(draws), options)
    assert (moved.numpy().reshape(64, -1).min(axis=1) < 200).mean() > 0.9
    assert not targets["bbox"].numpy().any()


def test_its_crops_lie_anywhere():
    # The columns of the picture are its values; the mean tells where the window lies.
    options = AugmentConfig(crop=0.75)
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, None, :, None] * 4, (200, 64, 64, 1))
    draws = np.random.default_rng(1).random((200, len(draw_names(options))), np.float32)
    cut, _ = augment(tf.constant(ramp), {"bbox": tf.zeros([200, 4])}, tf.constant(draws), options)
    means = cut.numpy().reshape(200, -1).mean(axis=1)
    assert means.min() < 85
    assert means.max() > 165
    assert abs(means.mean() - 126) < 8


def test_the_larger_share_gives_the_box_of_a_mixture():
    options = AugmentConfig(mixup=1.0)
    images = tf.zeros([2, 8, 8, 1], tf.uint8)
    targets = {
        "softmax": tf.constant([0, 2]),
        "bbox": tf.constant([[0.1, 0.1, 0.5, 0.5], [0, 0, 0, 0]], tf.float32),
    }
    names = draw_names(options)
    draws = np.full((2, len(names)), 0.5, np.float32)
    draws[:, names.index("mix")] = 0.0
    draws[:, names.index("mix_share")] = 0.3  # With alpha 1 a share of .7 to the image itself.
    _, mixed = augment(images, targets, tf.constant(draws), options, 3)
    np.testing.assert_allclose(mixed["softmax"], [[0.7, 0, 0.3], [0.3, 0, 0.7]], atol=1e-3)
    np.testing.assert_array_equal(mixed["bbox"], targets["bbox"])
