"""Streams and pipelines: what comes when, at any start, batch size and resize rule."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from loc_keras.data import pipeline
from loc_keras.data import pipeline as memory
from loc_keras.data import pipeline as streams
from loc_keras.data.digits_data import build_digits_data
from loc_keras.data.pipeline import pixel_moments
from loc_keras.data.resize import letterbox_placement, resize_boxes, resize_images, restore_boxes
from loc_keras.errors import DataError

FIELDS = ("index", "draws")


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """60 random digits and 10 test digits in an .npz file."""
    rng = np.random.default_rng(2)
    digits = rng.integers(0, 256, (70, 28, 28), np.uint8)
    labels = np.arange(70) % 10
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, x_train=digits[:60], y_train=labels[:60], x_test=digits[60:], y_test=labels[60:])
    return path


def build(archive, **options):
    return build_digits_data(archive, **{"batch_size": 8, "val_fraction": 0.25, **options})


# Streams


def test_an_epoch_shows_each_image_at_most_once_and_epochs_differ():
    stream = streams.train_stream(10, 3, seed=1, columns=2)
    batches = take(stream, 9)
    epochs = [np.concatenate([b["index"] for b in batches[i : i + 3]]) for i in (0, 3, 6)]
    for epoch in epochs:
        assert len(set(epoch.tolist())) == 9
        assert set(epoch.tolist()) <= set(range(10))
    assert epochs[0].tolist() != epochs[1].tolist()
    # Another image stays behind in some epoch: over ten epochs all of them come.
    assert set(np.concatenate([b["index"] for b in take(stream, 30)]).tolist()) == set(range(10))


def test_draws_are_fresh_each_epoch_and_keyed_by_index():
    def by_index(batch_size):
        batches = take(streams.train_stream(12, batch_size, seed=1, columns=4), 24 // batch_size)
        index = np.concatenate([b["index"] for b in batches]).reshape(2, 12)
        draws = np.concatenate([b["draws"] for b in batches]).reshape(2, 12, 4)
        return np.take_along_axis(draws, np.argsort(index)[..., None], axis=1)

    small, large = by_index(3), by_index(6)
    np.testing.assert_array_equal(small, large)
    assert (small[0] != small[1]).all()
    assert small.min() >= 0
    assert small.max() < 1


@pytest.mark.parametrize(("size", "batch"), [(10, 3), (12, 4), (3, 8)])
def test_starting_at_a_step_equals_skipping_to_it(size, batch):
    full = take(streams.train_stream(size, batch, seed=4, columns=2), 12)
    for start in range(8):
        part = take(streams.train_stream(size, batch, seed=4, columns=2, start_step=start), 4)
        for expected, found in zip(full[start : start + 4], part, strict=True):
            for key in FIELDS:
                np.testing.assert_array_equal(expected[key], found[key])


def test_fewer_images_than_a_batch_repeat_evenly():
    # 3 images in batches of 8: 9 places, of which one stays empty.
    assert streams.steps_per_epoch(3, 8) == 1
    for batch in take(streams.train_stream(3, 8, seed=0, columns=1), 5):
        assert sorted(np.bincount(batch["index"], minlength=3).tolist()) == [2, 3, 3]
        assert len(np.unique(batch["draws"])) == 8


def test_eval_stream_is_in_order_and_keyed_by_split():
    val, again, test = (
        list(streams.eval_stream(10, 4, seed=0, split=s, columns=3).as_numpy_iterator())
        for s in (streams.VALIDATION, streams.VALIDATION, streams.TEST)
    )
    assert [len(batch["index"]) for batch in val] == [4, 4, 2]
    assert np.concatenate([batch["index"] for batch in val]).tolist() == list(range(10))
    np.testing.assert_array_equal(val[0]["draws"], again[0]["draws"])
    assert (val[0]["draws"] != test[0]["draws"]).all()


def test_seeds_of_the_full_config_range_work():
    first, second = (
        take(streams.train_stream(5, 5, seed=s, columns=1), 1)[0]["draws"]
        for s in (2**32 - 1, 2**32 - 2)
    )
    assert (first != second).all()


# Pipelines


def test_element_types_and_sizes(archive):
    data = build(archive)
    assert data.train(0).element_spec == (
        tf.TensorSpec((8, 100, 100, 1), tf.uint8),
        {"softmax": tf.TensorSpec((8,), tf.int32), "bbox": tf.TensorSpec((8, 4), tf.float32)},
    )
    assert data.sizes == {"train": 45, "val": 15, "test": 10}
    assert data.steps_per_epoch == 5
    assert len(data.val) == 2
    assert data.class_names == list("0123456789")
    assert [len(images) for images, _ in data.test] == [8, 2]


def test_training_is_fresh_and_validation_fixed(archive):
    data = build(archive, batch_size=45)
    epochs = [targets["bbox"] for _, targets in take(data.train(0), 3)]
    assert len(np.unique(np.concatenate(epochs), axis=0)) > 120
    first, second = ([images for images, _ in data.val.as_numpy_iterator()] for _ in range(2))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


def test_validation_does_not_depend_on_batch_size_or_cache(archive):
    reference = [images for images, _ in build(archive).val.as_numpy_iterator()]
    for options in ({"batch_size": 4}, {"cache": "none"}, {"cache": "memory"}):
        other = [images for images, _ in build(archive, **options).val.as_numpy_iterator()]
        np.testing.assert_array_equal(np.concatenate(reference), np.concatenate(other))


def test_train_starts_at_any_step(archive):
    mixing = {"mixup": 0.4, "cutmix": 1.0, "mix_probability": 0.8}
    data = build(
        archive, augment={"digit_rotation": 10.0, "flip": True, "brightness": 0.1, **mixing}
    )
    full = take(data.train(0), 9)
    for start in (3, 5, 7):
        for (images, targets), (other, others) in zip(
            full[start : start + 2], take(data.train(start), 2), strict=True
        ):
            np.testing.assert_array_equal(images, other)
            np.testing.assert_array_equal(targets["bbox"], others["bbox"])
            np.testing.assert_array_equal(targets["softmax"], others["softmax"])


def test_augmentation_is_for_training_alone(archive):
    knobs = {"digit_rotation": 30.0, "translate": 0.1, "contrast": 0.5}
    plain, augmented = build(archive), build(archive, augment=knobs)
    for name in ("val", "test"):
        for (images, _), (others, _) in zip(
            getattr(plain, name), getattr(augmented, name), strict=True
        ):
            np.testing.assert_array_equal(images, others)
    assert (take(plain.train(0), 1)[0][0] != take(augmented.train(0), 1)[0][0]).any()


def test_size_channels_and_limit(archive):
    data = build(archive, image_size=(50, 150), channels=3, resize="letterbox", limit=6)
    assert data.sizes == {"train": 6, "val": 6, "test": 6}
    assert data.image_shape == (50, 150, 3)
    images, targets = next(data.val.as_numpy_iterator())
    assert images.shape == (6, 50, 150, 3)
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
    # The canvas of 100 x 100 becomes 50 x 50 in the middle third.
    assert not images[:, :, :50].any()
    assert not images[:, :, 100:].any()
    whole, plain = next(build(archive, limit=6).val.as_numpy_iterator())
    del whole
    expected = plain["bbox"] * [1 / 3, 1, 1 / 3, 1] + [1 / 3, 0, 1 / 3, 0]
    np.testing.assert_allclose(targets["bbox"], expected, atol=1e-6)


def test_fingerprint_follows_task_and_seed(archive):
    prints = [
        build(archive, **options).fingerprint
        for options in ({}, {}, {"seed": 1}, {"canvas": 90}, {"box": "tight"})
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_no_validation_images(archive):
    data = build(archive, val_fraction=0.0)
    assert data.val is None
    assert data.sizes["val"] == 0


def test_builders_share_their_common_arguments(archive):
    with pytest.raises(DataError, match="augment has no 'zoom'"):
        build_digits_data(archive, batch_size=4, augment={"zoom": 1.0})


def test_cache_modes(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 400)
    assert [pipeline.use_cache("auto", n) for n in (100, 101)] == [True, False]
    assert pipeline.use_cache("memory", 10**18)
    assert not pipeline.use_cache("none", 1)


def test_free_memory_is_plausible():
    assert 2**20 < memory.free_memory() < 2**50


# Resize rule


def test_pictures_of_the_target_size_keep_their_bits():
    picture = np.random.default_rng(0).integers(0, 256, (2, 12, 18, 3), np.uint8)
    for rule in ("stretch", "letterbox"):
        np.testing.assert_array_equal(resize_images(tf.constant(picture), (12, 18), rule), picture)
        dynamic = tf.function(
            lambda x, rule=rule: resize_images(x, (12, 18), rule),
            input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)],
        )
        np.testing.assert_array_equal(dynamic(picture), picture)


def test_shrinking_averages():
    # Two columns in four are white, and those nearest to every new pixel's centre: a resampling
    # that looks at its neighbours alone would be all white, the average is gray.
    stripes = np.zeros((40, 40, 1), np.uint8)
    stripes[:, 1::4] = stripes[:, 2::4] = 255
    small = resize_images(tf.constant(stripes), (10, 10), "stretch").numpy()
    assert abs(small[2:-2, 2:-2].astype(int) - 127.5).max() <= 1


@pytest.mark.parametrize(
    ("size", "target", "scaled", "offset"),
    [
        # Height and width; by hand: the factor is the smaller ratio, the rest is halved.
        ((50, 100), (224, 224), (112, 224), (56, 0)),
        ((100, 50), (60, 90), (60, 30), (0, 30)),
        ((100, 100), (50, 150), (50, 50), (0, 50)),
        ((1000, 2), (10, 10), (10, 1), (0, 4)),
        ((7, 7), (7, 7), (7, 7), (0, 0)),
    ],
)
def test_letterbox_placement(size, target, scaled, offset):
    found = letterbox_placement(tf.constant(size), target)
    assert [part.numpy().tolist() for part in found] == [list(scaled), list(offset)]


@pytest.mark.parametrize("rule", ["stretch", "letterbox"])
def test_resize_moves_the_box_with_the_pixels_and_back(rule):
    picture = np.zeros((60, 100, 1), np.uint8)
    picture[15:45, 20:70] = 255
    box = tf.constant([0.2, 0.25, 0.7, 0.75])
    target = (80, 80)
    size = tf.constant([60, 100])
    moved = resize_boxes(box, size, target, rule).numpy()
    resized = resize_images(tf.constant(picture), target, rule).numpy()[..., 0] >= 128
    rows, columns = np.flatnonzero(resized.any(1)), np.flatnonzero(resized.any(0))
    extent = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 80
    np.testing.assert_allclose(moved, extent, atol=0.5 / 80)
    np.testing.assert_allclose(restore_boxes(moved, size, target, rule), box, atol=1e-6)


def test_restored_boxes_stay_in_the_picture():
    # A box over the black bars of a letterboxed wide picture.
    box = tf.constant([[0.0, 0.0, 1.0, 1.0]])
    restored = restore_boxes(box, tf.constant([50, 100]), (64, 64), "letterbox")
    np.testing.assert_allclose(restored, [[0, 0, 1, 1]])


# Moments


def test_pixel_moments_match_numpy_in_float64():
    images = np.random.default_rng(0).integers(200, 256, (23, 5, 7, 3), np.uint8)
    images[..., 1] //= 4
    mean, variance = pixel_moments(tf.data.Dataset.from_tensor_slices((images,)).batch(4), None)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2), dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(variance, images.var((0, 1, 2), dtype=np.float64), rtol=1e-12)


def test_pixel_moments_do_not_cancel_and_stop_after_steps():
    # 1e8 + {0, 1}: the naive mean of squares minus square of the mean loses all its digits.
    values = np.tile([1e8, 1e8 + 1], 50).reshape(10, 2, 5, 1)
    dataset = tf.data.Dataset.from_tensor_slices((values,)).batch(2).repeat()
    mean, variance = pixel_moments(dataset, steps=5)
    np.testing.assert_allclose(mean, [1e8 + 0.5], rtol=1e-15)
    np.testing.assert_allclose(variance, [0.25], rtol=1e-9)


def test_pixel_moments_of_nothing():
    with pytest.raises(ValueError, match="at least one batch"):
        pixel_moments(tf.data.Dataset.from_tensor_slices(np.zeros((0, 1, 2, 2, 1))), None)
