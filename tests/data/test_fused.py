"""Resizing and augmenting in one resampling: against both in turn, and proved by pixels."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from helpers.reference_boxes import iou, visible_extent
from PIL import Image, ImageDraw

from loc_keras.config.data import AugmentConfig
from loc_keras.data.augment.batch import augmentation_from
from loc_keras.data.geometry import (
    LARGEST_STEP,
    Kind,
    Sources,
    load_source,
    most_pixels,
    warp_sources,
)
from loc_keras.data.pipeline import train_dataset
from loc_keras.data.pixel_store import image_set, store_pixels
from loc_keras.data.resize import ImageFormat
from loc_keras.data.resolve import Records

TARGET = (48, 60)
# (height, width) of the files: smaller than the target, a little larger, decoded at a half and a
# quarter of their sides, and (PNG) too large to be read without resizing.
SIZES = [(30, 40), (60, 70), (130, 140), (300, 250), (200, 220), (48, 60)]
GEOMETRY = {"flip": True, "translate": 0.1, "scale": 0.2, "rotation": 10.0}
BOX = np.float32([0.2, 0.25, 0.8, 0.7])
FILLS = ("black", "mean", "edge", "reflect")


def smooth(height, width, seed):
    """A picture as smooth as the sky: colours that change over a quarter of its sides."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def drawn(height, width, seed):
    """A white rectangle at `BOX` on black, with smooth edges: drawn eight times as large."""
    del seed
    image = Image.new("RGB", (width * 8, height * 8))
    corners = BOX * [image.width, image.height, image.width, image.height]
    ImageDraw.Draw(image).rectangle([*np.round(corners[:2]), *(np.round(corners[2:]) - 1)], "white")
    return image.resize((width, height), Image.Resampling.BOX)


def make_records(folder, picture, sizes=SIZES):
    paths = []
    for index, (height, width) in enumerate(sizes):
        kind = "PNG" if index % 3 == 1 else "JPEG"
        buffer = io.BytesIO()
        picture(height, width, index).save(buffer, kind, quality=97)
        path = folder / f"{index}.{kind.lower()}"
        path.write_bytes(buffer.getvalue())
        paths.append(str(path))
    count = len(paths)
    return Records(
        paths=np.array(paths),
        offsets=np.zeros(count, np.int64),
        lengths=np.full(count, -1, np.int64),
        orientations=np.ones(count, np.uint8),
        windows=np.zeros((count, 4), np.int32),
        sizes=np.array(sizes, np.int32),
        labels=np.arange(count, dtype=np.int32),
        boxes=np.tile(BOX, (count, 1)),
        names=np.array(paths),
        files=np.full(count, "labels.csv"),
        rows=np.arange(1, count + 1),
        groups=np.full(count, ""),
        class_names=[str(label) for label in range(count)],
    )


STORES = {}
"""Stores by the number of their records, which they hold, and the rule: they are made once."""


def stream(records, rule="stretch", *, knobs=GEOMETRY, fused=True, batch=6, start=0):
    key = id(records), rule
    if key not in STORES:
        form = ImageFormat(TARGET, 3, rule)
        STORES[key] = records, store_pixels(records, form, keep="none")
    images = image_set(STORES[key][1])
    if not fused:
        images = replace(images, unresized=None)
    stage = augmentation_from(AugmentConfig(**knobs))
    return train_dataset(images, start, batch_size=batch, seed=3, augmentation=stage)


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("smooth"), smooth)


@pytest.mark.parametrize(
    ("rule", "fill"),
    [
        ("stretch", "black"),
        ("letterbox", "mean"),
        pytest.param("letterbox", "reflect", marks=pytest.mark.whole),
        pytest.param("stretch", "mean", marks=pytest.mark.slow),
        pytest.param("stretch", "edge", marks=pytest.mark.slow),
        pytest.param("stretch", "reflect", marks=pytest.mark.slow),
        pytest.param("letterbox", "black", marks=pytest.mark.slow),
        pytest.param("letterbox", "edge", marks=pytest.mark.slow),
    ],
)
def test_smooth_pictures_come_out_as_in_two_steps(photographs, rule, fill):
    knobs = GEOMETRY | {"fill": fill, "brightness": 0.1}
    one, two = (
        take(stream(photographs, rule, knobs=knobs, fused=fused), 3) for fused in (True, False)
    )
    for (images, targets), (others, expected) in zip(one, two, strict=True):
        assert images.shape == (6, *TARGET, 3)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(targets["bbox"], expected["bbox"])
        np.testing.assert_array_equal(targets["softmax"], expected["softmax"])
        difference = np.abs(images.astype(int) - others).mean(axis=(1, 2, 3))
        assert difference.max() < 2
    # The two ways are not the same one.
    assert any((a[0] != b[0]).any() for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("rule", "also"),
    [
        ("letterbox", {}),
        ("stretch", {"perspective": 0.2}),
        pytest.param("stretch", {}, marks=pytest.mark.slow),
        pytest.param("letterbox", {"perspective": 0.2}, marks=pytest.mark.slow),
    ],
)
def test_the_box_is_the_extent_of_the_pixels(tmp_path, rule, also):
    records = make_records(tmp_path, drawn)
    scores = []
    for images, targets in take(stream(records, rule, knobs=GEOMETRY | also), 10):
        pairs = zip(images, targets["bbox"], strict=True)
        sides = [60, 48, 60, 48]
        scores += [iou(visible_extent(i.mean(axis=-1)), box * sides) for i, box in pairs]
    assert len(scores) == 60
    assert np.mean(scores) >= 0.93
    assert np.min(scores) >= 0.8


# What is handed over


def source_of(path, rule="stretch", target=TARGET):
    form = ImageFormat(target, 3, rule)
    return load_source({"path": tf.constant(str(path))}, form), form


def test_small_pictures_are_handed_over_as_they_are(photographs):
    source, form = source_of(photographs.paths[1])
    original = np.asarray(Image.open(photographs.paths[1]))
    assert source.size.numpy().tolist() == [60, 70]
    pixels = source.pixels.numpy()
    # 72 x 90 px: one and a half times the target along each side.
    assert pixels.shape == (most_pixels(form), 3) == (72 * 90, 3)
    np.testing.assert_array_equal(pixels[: 60 * 70], original.reshape(-1, 3))
    assert not pixels[60 * 70 :].any()
    np.testing.assert_allclose(source.step, [60 / 48, 70 / 60])
    np.testing.assert_array_equal(source.first, [0, 0])
    np.testing.assert_array_equal(source.count, TARGET)


def test_a_decoded_size_that_is_rounded_up_moves_nothing(tmp_path):
    # 105 x 125 at a half are 53 x 63 px, of which 52.5 and 62.5 are the picture's.
    path = tmp_path / "odd.jpg"
    smooth(105, 125, 0).save(path)
    source, _ = source_of(path)
    assert source.size.numpy().tolist() == [53, 63]
    np.testing.assert_allclose(source.step, [52.5 / 48, 62.5 / 60])


def test_large_pictures_are_resized_first(photographs):
    # 200 x 220 px as PNG, which has no smaller decoding.
    source, form = source_of(photographs.paths[4])
    assert photographs.paths[4].endswith("png")
    assert max(200 / 48, 220 / 60) > LARGEST_STEP
    assert source.size.numpy().tolist() == list(form.size)
    expected = Image.open(photographs.paths[4]).resize((60, 48), Image.Resampling.BILINEAR)
    found = source.pixels.numpy()[: 48 * 60].reshape(48, 60, 3)
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1
    np.testing.assert_array_equal(source.step, [1, 1])


def test_letterboxed_pictures_know_their_bars(photographs):
    # 60 x 70 on 48 x 60: the factor is .8, so 56 columns are filled, from the third on.
    source, _ = source_of(photographs.paths[1], "letterbox")
    np.testing.assert_array_equal(source.first, [0, 2])
    np.testing.assert_array_equal(source.count, [48, 56])
    np.testing.assert_allclose(source.step, [1.25, 1.25])


# The resampling


@pytest.mark.parametrize("fill", FILLS)
def test_nothing_behind_a_picture_is_read(fill):
    # Gray pictures in a buffer of white: white must not show wherever the map leads.
    generator = np.random.default_rng(0)
    size = np.array([[20, 30], [9, 40], [1, 1]], np.int32)
    pixels = np.full((3, 600, 1), 255, np.uint8)
    for row, (height, width) in enumerate(size):
        pixels[row, : height * width] = 100
    sources = Sources(
        tf.constant(pixels),
        tf.constant(size),
        tf.zeros([3, 2]),
        tf.tile([[16.0, 24.0]], [3, 1]),
        tf.constant(size / [16, 24], tf.float32),
    )
    maps = np.tile(np.eye(3), (3, 1, 1))
    maps[:, :2] += generator.uniform(-0.4, 0.4, (3, 2, 3)) * [1, 1, 12]
    kind = Kind((16, 24), fill, barred=False, tilted=False)
    if fill == "mean":
        sources = sources._replace(pixels=tf.where(sources.pixels == 255, 0, sources.pixels))
    found = warp_sources(sources, tf.constant(maps), kind).numpy()
    if fill == "black":
        assert found.max() == 100
    else:
        # The mean of pixels in float32 may be a rounding off.
        assert abs(found.astype(int) - 100).max() <= 1


def test_a_picture_of_the_target_size_that_stays_keeps_its_bits():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12 * 10, 3), np.uint8)
    pair = tf.constant([[12.0, 10.0]] * 2)
    sources = Sources(
        tf.constant(pixels), tf.cast(pair, tf.int32), tf.zeros([2, 2]), pair, tf.ones([2, 2])
    )
    for fill in FILLS:
        kind = Kind((12, 10), fill, barred=False, tilted=True)
        found = warp_sources(sources, tf.eye(3, batch_shape=[2], dtype=tf.float64), kind)
        np.testing.assert_array_equal(found, pixels.reshape(2, 12, 10, 3))


# What the pipeline promises


def test_the_same_seed_gives_the_same_batches_from_any_start(photographs):
    full = take(stream(photographs, batch=2), 7)
    again = take(stream(photographs, batch=2, start=3), 4)
    for (images, targets), (others, expected) in zip(full[3:], again, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(targets["bbox"], expected["bbox"])


def test_a_batch_of_one_is_a_row_of_a_larger_one(photographs):
    def by_class(batch):
        found = {}
        for images, targets in take(stream(photographs, "letterbox", batch=batch), 6 // batch):
            for label, *row in zip(targets["softmax"], images, targets["bbox"], strict=True):
                found[int(label)] = row
        return found

    alone, together = by_class(1), by_class(6)
    assert sorted(alone) == list(range(6))
    for label, (image, box) in alone.items():
        np.testing.assert_array_equal(image, together[label][0])
        np.testing.assert_array_equal(box, together[label][1])


@pytest.mark.whole
def test_any_parallelism_gives_the_same(photographs):
    images = image_set(store_pixels(photographs, ImageFormat(TARGET, 3, "stretch"), keep="none"))
    assert images.unresized is not None
    expected = take(stream(photographs), 3)
    for threads in (1, 4):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        found = take(stream(photographs).with_options(options), 3)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("knobs", [{"flip": True}, {"brightness": 0.2}, {"cutout": 0.5}])
def test_without_resampling_nothing_changes(photographs, knobs):
    assert augmentation_from(AugmentConfig(**knobs)).apply_sources is None


def test_kept_and_demanded_pictures_are_not_handed_over(photographs):
    form = ImageFormat(TARGET, 3, "stretch")
    assert image_set(store_pixels(photographs, form, keep="memory")).unresized is None
    demanded = store_pixels(photographs, replace(form, rule=None), keep="none")
    assert image_set(demanded).unresized is None
