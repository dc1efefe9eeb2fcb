"""Small and odd sets: one class, two images a class, grey pictures, 16 bits a channel."""

import csv
import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.empty_images import samples, write_set
from PIL import Image

from loc_keras import evaluate, train
from loc_keras.cli.data_source import DataSource
from loc_keras.config.data import AugmentConfig
from loc_keras.config.schema import Config
from loc_keras.data.augment.batch import augment, draw_names
from loc_keras.data.check.run import check_data
from loc_keras.data.formats.yolo_yaml import to_yaml
from loc_keras.losses import ClassLoss
from loc_keras.metrics import TopKLocalization, hits_top_k
from loc_keras.report.data_report import data_page
from loc_keras.report.gallery import draw_gallery

pytestmark = pytest.mark.usefixtures("short_body")

SIDE = 40
DEEPEST = 65_535


def settings(folder, source, **changes):
    tree = {
        "name": "few",
        "data": {"source": source, "image_size": 32, **changes.pop("data", {})},
        "model": {"backbone": {"width": 4}},
        "train": {"epochs": 1, "batch_size": 8, "precision": "float32", "warmup_epochs": 0},
        "export": {"dir": str(folder / "saved"), "enabled": False},
    }
    return tree | changes


def trained(folder, tree, *more):
    path = folder / "my.yaml"
    path.write_text(to_yaml(tree))
    return train.main(["--config", str(path), "--run-dir", str(folder / "run"), *more])


# One class.


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_the_class_loss_of_one_class_is_exactly_zero(smoothing, dtype):
    loss = ClassLoss(label_smoothing=smoothing)
    logits = tf.Variable([[-3.0], [0.0], [1e4]])
    labels = tf.constant([[0], [0], [0]], dtype)

    def step():
        with tf.GradientTape() as tape:
            value = loss(labels, tf.nn.softmax(logits))
        return value, tape.gradient(value, logits)

    for run in (step, tf.function(step)):
        value, gradient = run()
        assert float(value) == 0.0
        # Zero, not None: Keras warns of weights without a gradient.
        np.testing.assert_array_equal(gradient, np.zeros([3, 1]))


def test_mixing_leaves_one_class_as_it_is():
    options = AugmentConfig(mixup=1.0, cutmix=1.0)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8))
    targets = {"softmax": tf.zeros([4], tf.int32), "bbox": tf.fill([4, 4], 0.2)}
    draws = np.random.default_rng(1).random((4, len(draw_names(options))), np.float32)
    draws[:, draw_names(options).index("mix")] = 0
    mixed, found = augment(images, targets, tf.constant(draws), options, 1)
    assert not np.array_equal(mixed, images)
    assert found["softmax"].numpy().tolist() == [0, 0, 0, 0]
    assert bool(tf.reduce_all(hits_top_k(found["softmax"], tf.ones([4, 1]), 1)))
    metric = TopKLocalization(1)
    metric.update_state(found, {"softmax": tf.ones([4, 1]), "bbox": found["bbox"]})
    assert float(metric.result()) in (0.0, 1.0)


@pytest.fixture(scope="module")
def raccoons(tmp_path_factory):
    """A run on nothing but red squares, with all that blurs labels."""
    place = tmp_path_factory.mktemp("one")
    source = write_set(place / "set", "voc", samples(objects=16, empty=0, labels=("red",)))
    tree = settings(
        place,
        source,
        data={"split": {"val": 0.25, "test": 0.25}},
        augment={"mixup": 0.5, "cutmix": 0.5, "flip": True},
        loss={"label_smoothing": 0.1},
        export={"dir": str(place / "saved"), "publish": True},
    )
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # Keras warns of every softmax over one value.
        warnings.filterwarnings("error", message="You are using a softmax")
        patch.setattr("loc_keras.models.assembly.RESNETS", {"resnet18": ((1, 1), "basic", "")})
        assert trained(place, tree) == 0
    return place


@pytest.mark.whole
def test_one_class_trains_and_says_that_its_accuracy_is_none(raccoons, capsys):
    run = raccoons / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["classes"] == 1
    assert metrics["test"]["softmax_accuracy"] == 1.0
    assert metrics["test"]["top1_loc"] == metrics["test"]["gt_known_loc"]
    with (run / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    for name in ("softmax_loss", "val_softmax_loss"):
        assert float(row[name]) == 0.0
    for name in ("softmax_accuracy", "val_softmax_accuracy"):
        assert float(row[name]) == 1.0
    assert float(row["val_score"]) == pytest.approx(float(row["val_bbox_iou"]))
    assert all(np.isfinite(float(value)) for value in row.values())
    assert (run / "classes.txt").read_text() == "red\n"
    assert evaluate.main(["--run", str(run)]) == 0
    told = capsys.readouterr().out
    assert "1 class\n" in told
    assert "red is the only class" in told
    assert "a class accuracy of 100 % is no result" in told


@pytest.mark.whole
def test_one_class_is_exported_with_its_probability_of_one(raccoons):
    served = tf.saved_model.load(str(raccoons / "saved" / "few" / "1"))
    images = tf.zeros((2, 32, 32, 3))
    answer = served.signatures["images"](images=images)
    assert answer["softmax"].numpy().tolist() == [[1.0], [1.0]]
    live = keras.saving.load_model(raccoons / "run" / "best.keras").predict(images, verbose=0)
    np.testing.assert_allclose(answer["bbox"], live["bbox"], atol=1e-5)


def test_pictures_of_one_class_speak_of_the_box_alone():
    figure = draw_gallery(
        np.full((1, 20, 20, 1), 30, np.uint8),
        {"softmax": [0], "bbox": [[0.2, 0.2, 0.6, 0.6]]},
        {"softmax": [[1.0]], "bbox": [[0.2, 0.2, 0.6, 0.6]]},
        ["raccoon"],
    )
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "raccoon · IoU 1.00" in words
    assert not any("100 %" in line or "said" in line for line in words)


def test_the_check_of_one_class_says_so(tmp_path):
    source = write_set(tmp_path, "voc", samples(objects=6, empty=0, labels=("red",)))
    config = Config.model_validate({"name": "one", "data": {"source": source}})
    data = DataSource(config)
    result = check_data(data.annotations, data.section, near=False)
    page = data_page(result, title="t", source="s")
    assert "There is one class: a model has only to find it" in page
    assert not [one for one in result.findings if one.kind.startswith("class")]


# Two images a class.


def test_too_few_images_for_the_fractions_are_told_with_the_number(tmp_path, capsys):
    source = write_set(tmp_path / "set", "csv", samples(objects=4, empty=0))
    assert trained(tmp_path, settings(tmp_path, source)) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: data.split.val 0.05 of 4 images leaves none for validation; ")
    assert "raise it (0.25 gives one image), or give more images." in told
    assert told.count("\n") == 1


@pytest.mark.whole
def test_two_images_a_class_train_where_one_is_held_back(tmp_path, capsys):
    source = write_set(tmp_path / "set", "csv", samples(objects=4, empty=0))
    for one in (tmp_path / "set" / "images" / "train").iterdir():  # 16 bits grey, as TIFF.
        grey = np.asarray(Image.open(one).convert("L"), np.uint16) * 257
        Image.fromarray(grey).save(one.with_suffix(".tif"))
        one.unlink()
    table = tmp_path / "set" / "boxes.csv"
    table.write_text(table.read_text().replace(".png", ".tif"))
    assert trained(tmp_path, settings(tmp_path, source, data={"split": {"val": 0.25}})) == 0
    told = capsys.readouterr().out
    assert "3 train, 1 val images of 32 x 32 x 1, 2 classes" in told
    assert "data.split.test 0.05 of 4 images leaves none for testing" in told


# Grey pictures, and 16 bits a channel.


def grey_set(folder, ending, deep):
    """A ramp from black to white, exact in either depth; with its config."""
    folder.mkdir(parents=True, exist_ok=True)
    ramp = np.tile(np.arange(SIDE) * 6, (SIDE, 1)).astype(np.uint8)
    rows = []
    for number in range(4):
        pixels = ramp.astype(np.uint16) * 257 if deep else ramp.copy()
        pixels[0, 0] = number  # No two files are the same.
        Image.fromarray(pixels).save(folder / f"{number}.{ending}")
        rows.append(f"{number}.{ending},{'ab'[number % 2]},0.1,0.1,0.6,0.7")
    (folder / "boxes.csv").write_text("\n".join(rows))
    files = {"train": {"csv": "boxes.csv", "images": "."}, "val": None, "test": None}
    source = {"format": "csv", "path": str(folder), "csv": {"splits": files}}
    data = {"source": source, "split": {"val": 0, "test": 0, "together": "none"}}
    return Config.model_validate({"name": "grey", "data": data, "train": {"batch_size": 4}}), ramp


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [None, 3])
def test_grey_pictures_of_any_depth_are_the_same_pixels(tmp_path, ending, deep, channels):
    config, ramp = grey_set(tmp_path, ending, deep)
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"channels": channels})}
    )
    data = DataSource(config).build()
    wanted = channels or 1
    assert data.image_shape == (SIDE, SIDE, wanted)
    images, _ = next(iter(data.train(0)))
    # 16-bit values of 257 k are k of 8 bits.
    for picture in images.numpy():
        for channel in range(wanted):
            np.testing.assert_array_equal(picture[1:, :, channel], ramp[1:])


def test_colour_of_16_bits_is_read_and_warned_of(tmp_path):
    config, ramp = grey_set(tmp_path, "png", deep=True)
    deep = np.stack([ramp, ramp[:, ::-1], ramp.T], axis=-1).astype(np.uint16) * 257
    for number in range(4):
        deep[0, 0] = number
        (tmp_path / f"{number}.png").write_bytes(tf.io.encode_png(deep).numpy())
    data = DataSource(config).build()
    assert data.image_shape == (SIDE, SIDE, 3)
    images, _ = next(iter(data.train(0)))
    np.testing.assert_array_equal(images[0, 1:], deep[1:] // 257)
    assert any("more than 8 bits a channel (4)" in note for note in data.notes)
