"""`Localizer`: the pipeline's very pixels, the evaluation's answers, errors in one sentence."""

import base64
import csv
import html
import io
import json
import re
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.hostile_images import png_of_size
from helpers.localizer_run import (
    CLASSES,
    SIZE,
    encoded,
    kinds,
    photograph,
    write_images,
    write_made_up_trust,
    write_novelty_of_photographs,
    write_run,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from loc_keras import Localizer, evaluate
from loc_keras.data.annotations import ImageRef
from loc_keras.data.image_header import read_header
from loc_keras.data.record_images import loader
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import DataError, ImageError, ModelError, TrustError
from loc_keras.localizer.answers import Opened
from loc_keras.localizer.opening import GraphReader, version_folder
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.saved_model import export_saved_model
from loc_keras.training.run_folder import NOVELTY_FILE, TRUST_FILE
from loc_keras.trust.novelty import read_novelty, with_novelty
from loc_keras.trust.statements import (
    read_trust,
    trusted_model,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run with made-up trust, letterboxed; the images it is evaluated on; their paths."""
    folder = tmp_path_factory.mktemp("localizer")
    paths = write_images(folder / "set" / "test_images")
    rows = [f"{path.name},{CLASSES[at % 3]},2,3,20,25" for at, path in enumerate(paths)]
    (folder / "set" / "test_data.csv").write_text("\n".join(rows) + "\n")
    (folder / "set" / "training_images").mkdir()
    for number in range(4):
        photograph(100 + number).save(folder / "set" / "training_images" / f"{number}.png")
    rows = [f"{number}.png,{CLASSES[number % 3]},2,3,20,25" for number in range(4)]
    (folder / "set" / "training_data.csv").write_text("\n".join(rows) + "\n")
    run = write_run(folder / "run", "letterbox", path=folder / "set")
    write_made_up_trust(run)
    write_novelty_of_photographs(run)
    return SimpleNamespace(folder=folder, run=run, paths=paths)


@pytest.fixture(scope="module")
def localizer(place):
    return Localizer.load(place.run)


@pytest.fixture(scope="module")
def answers(localizer, place):
    return localizer.predict(place.paths)


# Pixels


@pytest.mark.parametrize("rule", ["stretch", "letterbox"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_the_very_bits_of_the_pipeline(tmp_path, rule, channels):
    form = ImageFormat(SIZE, channels, rule)
    reader = GraphReader(form)
    load = loader(form, frozenset({"path", "orientation"}))  # What a pixel store calls.
    for path in write_images(tmp_path):
        header = read_header(ImageRef(str(path)))
        row = {"path": tf.constant(str(path)), "orientation": tf.constant(header.orientation)}
        expected = load(row)[0].numpy()
        for image in (path, str(path), path.read_bytes(), memoryview(path.read_bytes())):
            found = reader.read(image)
            np.testing.assert_array_equal(found.pixels, expected, err_msg=path.name)
            # Pillow's own turning tells the size of what is looked at.
            assert found.size == ImageOps.exif_transpose(Image.open(path)).size[::-1], path.name


@pytest.mark.parametrize("rule", ["stretch", "letterbox"])
def test_arrays_and_pillow_images_are_resized_like_files(rule):
    reader = GraphReader(ImageFormat(SIZE, 3, rule))
    files = kinds()
    # What Pillow decodes without loss, it decodes like the pipeline.
    for name in ("tall.png", "alpha.png", "palette.png", "turned5.png", "still.gif", "page.tif"):
        expected = reader.read(files[name])
        opened = Image.open(io.BytesIO(files[name]))
        for image in (opened, np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))):
            found = reader.read(image)
            np.testing.assert_array_equal(found.pixels, expected.pixels, err_msg=name)
            assert found.size == expected.size
    sixteen = np.asarray(Image.open(io.BytesIO(files["sixteen.png"])))
    assert sixteen.dtype == np.uint16
    expected = reader.read(files["sixteen.png"]).pixels
    np.testing.assert_array_equal(reader.read(sixteen).pixels, expected)
    eight = (sixteen >> 8).astype(np.float32)
    np.testing.assert_array_equal(reader.read(eight).pixels, expected)
    np.testing.assert_array_equal(reader.read(eight[..., None].astype(np.int64)).pixels, expected)


# Answers


def test_answers_are_those_of_the_evaluation(place, localizer, answers, tmp_path):
    assert localizer.trusted
    assert localizer.tells_novelty
    assert evaluate.main(["--run", str(place.run), "--out", str(tmp_path)]) == 0
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == [path.name for path in place.paths]
    spread = np.std([answer.box_fraction for answer in answers], axis=0)
    assert spread.max() > 0.01  # Else a wrong picture would have the right answer.
    for path, answer in zip(place.paths, answers, strict=True):
        row = rows[path.name]
        assert answer.label == row["pred_label"]
        assert answer.score == pytest.approx(float(row["probability"]), abs=2e-5)
        assert answer.p_iou50 == pytest.approx(float(row["p_iou50"]), abs=2e-4)
        assert answer.novelty == pytest.approx(float(row["novelty"]), abs=5e-3)
        assert "|".join(sorted(answer.label_set)) == "|".join(sorted(row["label_set"].split("|")))
        for name, box in (("pred", answer.box), ("outer", answer.box_outer)):
            told = [float(row[f"{name}_{side}_px"]) for side in ("x1", "y1", "x2", "y2")]
            assert box == pytest.approx(told, abs=0.02), path.name
        if answer.box_inner is not None:
            told = [float(row[f"inner_{side}_px"]) for side in ("x1", "y1", "x2", "y2")]
            assert answer.box_inner == pytest.approx(told, abs=0.02)


@pytest.mark.whole
def test_a_folder_without_splits_is_measured_whole_beside_the_training_of_the_run(
    place, answers, tmp_path, capsys
):
    chosen = place.paths[:3]
    for path in chosen:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = [f"{path.name},{CLASSES[1]},2,3,20,25" for path in chosen]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,x1,y1,x2,y2", *rows]) + "\n")
    out = tmp_path / "out"
    asked = ["--run", str(place.run), "--data", str(tmp_path), "--out", str(out)]
    assert evaluate.main([*asked, "--set", "data.source.boxes_on=stored"]) == 0
    with (out / "predictions.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == [path.name for path in chosen]
    for path, answer in zip(chosen, answers, strict=False):
        assert rows[path.name]["pred_label"] == answer.label
        assert rows[path.name]["true_label"] == CLASSES[1]
    told = capsys.readouterr().out
    assert f"measured on 3 images of {tmp_path}." in told
    assert "4 train" in told


@pytest.mark.whole
def test_stretched_answers_are_those_of_the_evaluation(place, tmp_path):
    run = write_run(tmp_path / "run", "stretch", path=place.folder / "set")
    found = Localizer.load(run).predict(place.paths, batch_size=4)
    assert evaluate.main(["--run", str(run), "--out", str(tmp_path)]) == 0
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    for path, answer in zip(place.paths, found, strict=True):
        told = [float(rows[path.name][f"pred_{side}_px"]) for side in ("x1", "y1", "x2", "y2")]
        assert answer.box == pytest.approx(told, abs=0.02), path.name
        assert answer.label == rows[path.name]["pred_label"]
        assert answer.p_iou50 is answer.box_outer is answer.box_inner is answer.label_set is None
        assert answer.novelty is answer.known is None
        assert not {"novelty", "known", "p_iou50"} & set(answer.as_dict())


def test_a_picture_is_known_from_the_level_on(localizer):
    usual = [photograph(seed, *SIZE[::-1]) for seed in range(220, 260)]
    found = localizer.predict([np.zeros((90, 60, 3), np.uint8), *usual])
    for one in found:
        assert one.known == (one.novelty >= 0.04)
        assert one.as_dict()["known"] is one.known
        assert one.as_dict()["novelty"] == round(one.novelty, 6)
    # The p-values of twenty of them rest on these very photographs: the least is 2 of 21, but for
    # the digits that are kept.
    assert all(one.known for one in found[21:])


def test_one_and_many_are_answered_alike(localizer, place, answers):
    for path, answer in list(zip(place.paths, answers, strict=True))[:3]:
        alone = localizer.predict(path)
        assert alone.box == pytest.approx(answer.box, abs=0.01)
        assert (alone.label, alone.size) == (answer.label, answer.size)
    for several in (tuple(place.paths[:3]), iter(place.paths[:3])):
        found = localizer.predict(several, batch_size=2)
        assert [one.label for one in found] == [one.label for one in answers[:3]]
    stack = np.zeros((3, 30, 20, 3), np.uint8)
    assert [one.size for one in localizer.predict(stack)] == [(30, 20)] * 3
    assert localizer.predict([]) == []


def test_top_k_is_sorted_and_begins_with_the_answer(localizer, place):
    found = localizer.predict(place.paths[0], top_k=2)
    assert len(found.top_k) == 2
    assert found.top_k[0].score >= found.top_k[1].score
    assert (found.top_k[0].label, found.top_k[0].index) == (found.label, found.index)
    everything = localizer.predict(place.paths[0], top_k=9).top_k
    assert sorted(one.label for one in everything) == CLASSES
    assert sum(one.score for one in everything) == pytest.approx(1, abs=1e-5)
    for name in ("top_k", "batch_size"):
        with pytest.raises(ValueError, match=name):
            localizer.predict(place.paths[0], **{name: 0})


def fixed(outputs, rule="stretch", background=None):
    """A model that says the same of every image."""

    def answer(images):
        return {name: np.array([value] * len(images)) for name, value in outputs.items()}

    reader = GraphReader(ImageFormat((100, 100), 1, rule))
    return Opened(None, answer, reader, ("a", "b"), background, len(outputs) > 2, (), "")


def picture_of(height, width):
    return SimpleNamespace(pixels=np.zeros((100, 100, 1), np.uint8), size=(height, width))


def test_a_letterbox_is_undone_by_hand():
    # 50 x 200 px in 100 x 100: scaled by 1/2 to 25 x 100, 37 rows of black above. The model's box
    # 10..60, 37..49.5 in px of its image is 20..120, 0..25 in px of the original.
    answerer = fixed({"softmax": [0.3, 0.7], "bbox": [0.1, 0.37, 0.6, 0.495]}, "letterbox")
    (found,) = answerer.ask([picture_of(50, 200)], 1)
    assert found.box == pytest.approx((20, 0, 120, 25), abs=1e-4)
    assert found.box_fraction == pytest.approx((0.1, 0, 0.6, 0.5), abs=1e-6)
    assert (found.label, found.index, found.size, found.found) == ("b", 1, (50, 200), True)
    # A box that begins in the black above is clipped to the picture.
    answerer = fixed({"softmax": [0.3, 0.7], "bbox": [0.0, 0.0, 1.0, 0.495]}, "letterbox")
    assert answerer.ask([picture_of(50, 200)], 1)[0].box == pytest.approx((0, 0, 200, 25), abs=1e-4)


TRUSTED = {
    "softmax": [0.3, 0.7],
    "softmax_calibrated": [0.4, 0.6],
    "bbox": [0.1, 0.2, 0.6, 0.8],
    "p_iou50": 0.25,
    "box_outer": [0.0, 0.1, 0.7, 0.9],
    "box_inner": [0.0, 0.0, 0.0, 0.0],
    "label_set": [True, True],
    "novelty": 0.25,
    "known": False,
}


def test_trust_is_told_and_an_empty_inner_box_is_none():
    (found,) = fixed(TRUSTED).ask([picture_of(10, 20)], 2)
    assert found.score == pytest.approx(0.6)
    assert found.p_iou50 == 0.25
    assert found.box_inner is None
    assert found.box_outer == pytest.approx((0, 1, 14, 9), abs=1e-5)
    assert found.label_set == ("b", "a")
    assert (found.novelty, found.known) == (0.25, False)
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["box"] == [2, 2, 12, 8]
    assert (plain["height"], plain["width"], plain["box_inner"]) == (10, 20, None)


def test_of_the_background_no_box_is_told():
    (found,) = fixed(TRUSTED, background=1).ask([picture_of(10, 20)], 2)
    assert not found.found
    assert (found.label, found.label_set) == ("b", ("b", "a"))
    assert found.box is found.box_fraction is found.box_outer is found.p_iou50 is None
    assert fixed(TRUSTED, background=0).ask([picture_of(10, 20)], 2)[0].found


@settings(deadline=None, max_examples=30)
@given(
    corners=st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4),
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
)
def test_no_box_leaves_its_picture(corners, height, width):
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    answerer = fixed({"softmax": [0.5, 0.5], "bbox": [x1, y1, x2, y2]}, "letterbox")
    (found,) = answerer.ask([picture_of(height, width)], 1)
    assert 0 <= found.box[0] <= found.box[2] <= width
    assert 0 <= found.box[1] <= found.box[3] <= height


# What cannot be used


def test_bad_images_are_told_in_a_sentence(localizer, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes(kinds()["photo.jpg"][:700])
    (tmp_path / "text.jpg").write_text("no image")
    bad = {
        tmp_path / "none.jpg": r"none\.jpg does not exist\.$",
        tmp_path: "is a folder",
        tmp_path / "empty.jpg": r"empty\.jpg is empty\.$",
        tmp_path / "cut.jpg": r"cut\.jpg cannot be decoded: its JPEG data is damaged",
        tmp_path / "text.jpg": r"text\.jpg is not an image of a known format",
        b"": "the image given as bytes is empty",
        png_of_size(20_000, 20_000): "declares .*; at most 64 million are read",
    }
    for image, words in bad.items():
        with pytest.raises(ImageError, match=words) as caught:
            localizer.predict(image)
        assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"has the shape \(4, 4, 2\); give \(height, width\)"),
        (np.zeros((0, 4, 3), np.uint8), "has the shape"),
        (np.full((4, 4), 300), "values from 300 to 300; give 0..255"),
        (np.full((4, 4), -1), "values from -1"),
        (np.full((4, 4), np.nan), "values from nan"),
        (np.full((4, 4), 0.5), "floats up to 0.5; pixels are 0..255 here, so multiply by 255"),
        (np.full((4, 4), 1.2), "floats up to 1.2"),
        (np.full((4, 4), np.inf, np.float16), "values from inf"),
        (np.full((4, 4), 255, np.uint16), "uint16.*up to 255; give 0..255 as uint8"),
        (np.full((4, 4), 255, ">u2"), "uint16.*up to 255; give 0..255 as uint8"),
        (Image.fromarray(np.full((4, 4), 255, np.uint16)), "uint16.*up to 255"),
        (np.full((4, 4), -1, np.int64), "values from -1"),
        (np.full((4, 4), 1j), "is of type complex128"),
        (np.zeros((4, 4), bool), "is of type bool"),
        (np.array([["a"]]), "is of type <U1"),
        (17, "is of type int; give a path"),
    ],
)
def test_bad_arrays_are_told_in_a_sentence(localizer, array, words):
    with pytest.raises(ImageError, match=words):
        localizer.predict(array)


def test_of_several_the_bad_one_is_named_and_stream_goes_on(localizer, place):
    images = [place.paths[0], b"no image", np.zeros((9, 9), np.uint8), "missing.png"]
    with pytest.raises(ImageError, match=r"image 1 \(image given as bytes\) is not an image"):
        localizer.predict(images)
    found = list(localizer.stream(images, batch_size=2))
    assert [isinstance(one, ImageError) for one in found] == [False, True, False, True]
    assert found[2].size == (9, 9)
    assert found[3].reason == "does not exist"


def test_stream_holds_two_batches_at_most(localizer, place):
    taken = 0

    def images():
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield place.paths[-1]

    stream = localizer.stream(images(), batch_size=4)
    next(stream)
    assert taken <= 12  # A batch that is answered, and two ahead.
    stream.close()


# What is opened


def test_a_file_without_a_run_is_stretched_and_numbered(place, tmp_path):
    file = tmp_path / "model.keras"
    file.write_bytes((place.run / "best.keras").read_bytes())
    with pytest.warns(UserWarning) as told:
        found = Localizer.load(file)
    assert "classes are shown by number" in str(told[0].message)
    assert "images are stretched" in str(told[1].message)
    assert found.class_names == ("0", "1", "2")
    assert found.form == ImageFormat(SIZE, 3, "stretch")
    assert not found.trusted
    assert len(found.notes) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Localizer.open(file).notes == found.notes


def test_files_of_absurd_content_are_told_in_a_sentence(place, tmp_path):
    for name in ("best.keras", "config.yaml", "classes.txt"):
        (tmp_path / name).write_bytes((place.run / name).read_bytes())
    for text in ("[" * 3000, "a: " + "{b: " * 3000, "a: 2020-13-40", "a: !!int ''"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(ModelError, match=r"config\.yaml cannot be read"):
            Localizer.load(tmp_path)
    for units in (10**14, 10**30):
        with (
            zipfile.ZipFile(place.run / "best.keras") as whole,
            zipfile.ZipFile(tmp_path / "best.keras", "w") as changed,
        ):
            for name in whole.namelist():
                content = whole.read(name)
                if name == "config.json":
                    content, count = re.subn(rb'"units": \d+', b'"units": %d' % units, content)
                    assert count
                changed.writestr(name, content)
        with pytest.raises(ModelError, match="cannot be opened as a model"):
            Localizer.load(tmp_path)


def test_trust_belongs_to_the_best_model_alone(place, tmp_path):
    for name in ("best.keras", "config.yaml", "classes.txt", TRUST_FILE):
        (tmp_path / name).write_bytes((place.run / name).read_bytes())
    other = keras.saving.load_model(tmp_path / "best.keras")
    (tmp_path / "last.keras").write_bytes((tmp_path / "best.keras").read_bytes() + b" ")
    with pytest.warns(UserWarning, match="last.keras answers without trust"):
        assert not Localizer.load(tmp_path / "last.keras").trusted
    other.save(tmp_path / "best.keras")
    with pytest.raises(TrustError, match="fitted to another model"):
        Localizer.load(tmp_path)


@pytest.mark.whole
def test_an_export_answers_like_its_run(place, localizer, answers, tmp_path):
    model = keras.saving.load_model(place.run / "best.keras")
    trust = read_trust(place.run / TRUST_FILE, place.run / "best.keras")
    card = {"preprocessing": {"resize": "letterbox"}}
    bundle = Bundle(
        localizer=with_novelty(
            trusted_model(model, trust.statements),
            read_novelty(place.run / NOVELTY_FILE, place.run / "best.keras"),
        ),
        class_names=CLASSES,
        form=ImageFormat(SIZE, 3, "letterbox"),
        samples=[Path(place.paths[0]).read_bytes()],
        card=card,
    )
    base = tmp_path / "served"
    export_saved_model(bundle, base)
    assert version_folder(base / "1") == base / "1"
    found = Localizer.load(base)
    assert found.path == base / "1"
    assert (found.class_names, found.form) == (localizer.class_names, localizer.form)
    assert found.trusted
    assert found.tells_novelty
    assert found.notes == ()
    for ours, theirs in zip(found.predict(place.paths), answers, strict=True):
        assert ours.box == pytest.approx(theirs.box, abs=0.02)
        assert ours.box_outer == pytest.approx(theirs.box_outer, abs=0.02)
        assert (ours.label, ours.label_set) == (theirs.label, theirs.label_set)
        assert ours.novelty == pytest.approx(theirs.novelty, abs=5e-3)
    (base / "1" / "assets.extra" / "classes.txt").write_text("one\n")
    with pytest.raises(ModelError, match=r"knows 3 classes, but .*classes.txt names 1"):
        Localizer.load(base)


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(ModelError, match=r"none does not exist; give a run's folder"):
        Localizer.load(tmp_path / "none")
    with pytest.raises(ModelError, match=r"holds neither best\.keras"):
        Localizer.load(tmp_path)
    (tmp_path / "best.keras").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be opened as a model"):
        Localizer.load(tmp_path)
    inputs = keras.Input([3])
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "other.keras")
    with pytest.raises(ModelError, match="without the outputs softmax and bbox"):
        Localizer.load(tmp_path / "other.keras")


# Pictures


def test_a_notebook_shows_an_answer_with_its_image(localizer, tmp_path):
    path = tmp_path / "<b>.png"
    Image.new("RGB", (40, 30), (0, 90, 0)).save(path)
    answer = localizer.predict(path)
    shown = answer._repr_html_()
    image, rows = shown.split("<table>")
    content = base64.b64decode(image.partition("base64,")[2].partition('"')[0])
    with Image.open(io.BytesIO(content)) as drawn:
        np.testing.assert_array_equal(
            np.asarray(drawn), np.asarray(localizer.annotate(path, answer))
        )
    assert f"<tr><th>label</th><td>{html.escape(answer.label)}</td></tr>" in rows
    assert f"<td>{answer.as_dict()['box']}</td>" in rows
    path.unlink()  # Then what was answered is left.
    assert answer._repr_html_() == "<table>" + rows
    assert answer == localizer.predict([np.asarray(Image.new("RGB", (40, 30), (0, 90, 0)))])[0]


def test_an_answer_is_drawn_in_the_images_own_pixels(localizer, tmp_path):
    plain = Image.new("RGB", (400, 300), (0, 90, 0))
    answer = SimpleNamespace(
        label="cat", score=0.5, box=(100, 120, 300, 250), box_outer=None, box_inner=None
    )
    drawn = localizer.annotate(plain, answer, tmp_path / "drawn.png")
    assert drawn.size == (400, 300)
    pixels = np.asarray(drawn).astype(int)
    yellow = (np.abs(pixels - (240, 228, 66)).sum(-1) == 0).nonzero()  # Of Okabe and Ito.
    assert (yellow[1].min(), yellow[0].min()) == pytest.approx((100, 120), abs=2)
    assert (yellow[1].max(), yellow[0].max()) == pytest.approx((300, 250), abs=2)
    assert (pixels[200, 200] == (0, 90, 0)).all()
    with Image.open(tmp_path / "drawn.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(drawn))
    assert np.asarray(plain).max() == 90  # The image itself stays as it was.


def test_a_picture_is_saved_in_the_place_of_our_own_alone(localizer, tmp_path):
    plain = Image.new("RGB", (40, 30))
    answer = SimpleNamespace(
        label="cat", score=0.5, box=(1, 2, 30, 25), box_outer=None, box_inner=None
    )
    for _ in range(2):
        localizer.annotate(plain, answer, tmp_path / "drawn.png")
    plain.save(tmp_path / "theirs.png")
    before = (tmp_path / "theirs.png").read_bytes()
    with pytest.raises(DataError, match=r"theirs\.png was not written .* another file to save_to"):
        localizer.annotate(plain, answer, tmp_path / "theirs.png")
    assert (tmp_path / "theirs.png").read_bytes() == before


@pytest.mark.parametrize("name", ["turned6.jpg", "turned5.png", "sixteen.png", "still.gif"])
def test_drawn_pictures_are_upright(localizer, name):
    content = kinds()[name]
    found = localizer.predict(content)
    drawn = localizer.annotate(content, found)
    assert drawn.mode == "RGB"
    height, width = found.size
    factor, rest = divmod(drawn.width, width)
    assert rest == 0
    # Below the picture stands the legend of the boxes of trust.
    assert drawn.height > factor * height
    upright = drawn.crop((0, 0, factor * width, factor * height))
    assert localizer.annotate(encoded(upright, "PNG"), found).size == drawn.size
