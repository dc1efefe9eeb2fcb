"""Whole-image augmentation: the pixels of a drawn rectangle against the box that came out."""

import numpy as np
import pytest
import tensorflow as tf

from loc_keras.data.augment import (
    ImageAugment,
    augment,
    augmentation_from,
    split_augment_options,
)
from loc_keras.errors import DataError

HEIGHT, WIDTH = 80, 120
BOX = (30, 20, 90, 60)  # x1, y1, x2, y2 in pixels


def rectangle(box=BOX):
    picture = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    x1, y1, x2, y2 = box
    picture[y1:y2, x1:x2] = 255
    return picture


def run(options, draws, box=BOX, picture=None):
    """Augments copies of one picture; images (B, H, W) and boxes in pixels (B, 4)."""
    draws = np.asarray(draws, np.float32)
    images = np.repeat((rectangle(box) if picture is None else picture)[None], len(draws), axis=0)
    sides = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    boxes = np.repeat((np.array(box, np.float32) / sides)[None], len(draws), axis=0)
    targets = {"softmax": tf.zeros(len(draws), tf.int32), "bbox": tf.constant(boxes)}
    images, targets = augment(tf.constant(images), targets, tf.constant(draws), options)
    return images.numpy()[..., 0], targets["bbox"].numpy() * sides


def pixel_extent(image):
    rows, columns = np.flatnonzero((image >= 128).any(1)), np.flatnonzero((image >= 128).any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def iou(a, b):
    side = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inter = np.prod(np.maximum(side, 0))
    return inter / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inter)


def random_draws(count=40, seed=0):
    return np.random.default_rng(seed).random((count, 7))


@pytest.mark.parametrize(
    ("knobs", "least"),
    [
        ({"flip": True}, 1.0),
        ({"translate": 0.2}, 0.97),
        ({"scale": 0.5}, 0.97),
        ({"rotation": 20}, 0.97),
        ({"flip": True, "translate": 0.1, "scale": 0.3, "rotation": 15}, 0.96),
    ],
)
def test_box_moves_with_the_pixels(knobs, least):
    box = (16, 20, 76, 60)
    images, boxes = run(ImageAugment(**knobs), random_draws(), box)
    scores = [iou(pixel_extent(i), b) for i, b in zip(images, boxes, strict=True)]
    assert np.mean(scores) >= least - 1e-6
    # And something did move, away from where it was.
    assert np.mean([iou(np.array(box, float), b) for b in boxes]) < 0.95


def test_flip_mirrors_half_of_the_images_exactly():
    picture = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    draws = np.full((2, 7), 0.5)
    draws[:, 0] = 0.49, 0.51
    images, boxes = run(ImageAugment(flip=True), draws, (10, 20, 50, 60), picture)
    np.testing.assert_array_equal(images[0], picture[:, ::-1, 0])
    np.testing.assert_array_equal(images[1], picture[..., 0])
    np.testing.assert_allclose(boxes, [[70, 20, 110, 60], [10, 20, 50, 60]], atol=1e-4)


def test_translation_by_whole_pixels_is_exact():
    picture = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    draws = np.full((1, 7), 0.5)
    draws[0, 1:3] = 0.75, 0.25  # half of 0.2 of 120 px to the right, half of 0.2 of 80 px up
    images, boxes = run(ImageAugment(translate=0.2), draws, picture=picture)
    expected = np.zeros_like(picture[..., 0])
    expected[:-8, 12:] = picture[8:, :-12, 0]
    np.testing.assert_allclose(images[0], expected, atol=1)
    np.testing.assert_allclose(boxes[0], [42, 12, 102, 52], atol=1e-4)


def test_a_box_over_the_edge_is_clipped():
    draws = np.full((1, 7), 0.5)
    draws[0, 1] = 1.0
    images, boxes = run(ImageAugment(translate=0.4), draws)
    # 48 px to the right: 78..138 of 120, so 42 of 60 columns stay.
    np.testing.assert_allclose(boxes[0], [78, 20, 120, 60], atol=1e-3)
    np.testing.assert_allclose(pixel_extent(images[0]), [78, 20, 120, 60])


def test_an_image_whose_box_would_leave_is_not_moved():
    draws = np.full((2, 7), 0.5)
    draws[:, 1] = 1.0
    # 80 % of 120 px to the right leaves nothing of 30..90 in the picture: 126..186.
    images, boxes = run(ImageAugment(translate=0.8), draws)
    np.testing.assert_array_equal(images[0], rectangle()[..., 0])
    np.testing.assert_allclose(boxes[0], BOX, atol=1e-4)


def test_a_quarter_of_the_box_is_the_limit():
    draws = np.full((2, 7), 0.5)
    # Of the 60 columns 30..90 a shift of 74 px keeps 16 (27 %), one of 76 px keeps 14 (23 %).
    draws[:, 1] = (1 + np.array([74, 76]) / 120) / 2
    _, boxes = run(ImageAugment(translate=1.0), draws)
    np.testing.assert_allclose(boxes, [[104, 20, 120, 60], BOX], atol=1e-3)


def test_brightness_adds_a_fraction_of_the_range():
    picture = np.full((HEIGHT, WIDTH, 1), 100, np.uint8)
    draws = np.full((3, 7), 0.5)
    draws[:, 5] = 0.0, 0.75, 1.0
    images, _ = run(ImageAugment(brightness=0.8), draws, picture=picture)
    # -204, +102 and +204 on 100, within 0..255.
    assert [int(image[0, 0]) for image in images] == [0, 202, 255]
    assert all((image == image[0, 0]).all() for image in images)


def test_contrast_scales_the_distance_to_the_mean():
    picture = np.full((HEIGHT, WIDTH, 1), 80, np.uint8)
    picture[:40] = 120
    draws = np.full((2, 7), 0.5)
    draws[:, 6] = 0.0, 1.0
    images, boxes = run(ImageAugment(contrast=0.5), draws, picture=picture)
    # The mean is 100, so 100 +- 20 becomes 100 +- 10 and 100 +- 30.
    assert [[int(i[0, 0]), int(i[-1, 0])] for i in images] == [[110, 90], [130, 70]]
    np.testing.assert_allclose(boxes, [BOX, BOX], atol=1e-4)


def test_same_inside_a_graph():
    options = ImageAugment(
        flip=True, translate=0.1, scale=0.2, rotation=10, brightness=0.1, contrast=0.1
    )
    draws = tf.constant(random_draws(8), tf.float32)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (8, 40, 60, 3), np.uint8))
    targets = {"bbox": tf.constant([[0.2, 0.3, 0.6, 0.7]] * 8)}
    stage = lambda images, targets, draws: augment(images, targets, draws, options)  # noqa: E731
    eager = stage(images, targets, draws)
    graph = tf.function(stage)(images, targets, draws)
    rows = tf.data.Dataset.from_tensors((images, targets, draws)).map(stage)
    for other in (graph, next(iter(rows))):
        np.testing.assert_array_equal(eager[1]["bbox"], other[1]["bbox"])
        # Brightness and contrast are float32, where a graph may turn a rounding.
        np.testing.assert_allclose(eager[0].numpy().astype(int), other[0].numpy(), atol=1)


def test_options_are_parted_and_checked():
    digit, image = split_augment_options({"digit_scale": 0.1, "scale": 0.2, "flip": True})
    assert digit == {"scale": 0.1}
    assert image == {"scale": 0.2, "flip": True}
    assert augmentation_from({"scale": 0.0, "flip": False}) is None
    with pytest.raises(DataError, match="augment has no 'zoom'; its names are flip, translate"):
        split_augment_options({"zoom": 1.0})
    with pytest.raises(DataError, match=r"augment.brightness must be in 0..1, got 2"):
        augmentation_from({"brightness": 2.0})
