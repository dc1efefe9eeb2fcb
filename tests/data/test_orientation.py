"""EXIF orientation: pixels and boxes against Pillow's own transposition."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from loc_keras.data.decode import turn_boxes, turn_boxes_back, turn_image
from loc_keras.data.image_header import Header
from loc_keras.data.resolve import picture_size

ORIENTATIONS = range(1, 9)
HEIGHT, WIDTH = 30, 50


def upright(pixels, orientation):
    """What Pillow makes of stored pixels with this EXIF orientation."""
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_turn_as_in_pillow(orientation, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    expected = upright(pixels, orientation)
    turned = turn_image(tf.constant(pixels[..., :channels]), tf.constant(orientation)).numpy()
    np.testing.assert_array_equal(turned, expected[..., :channels])
    assert picture_size(Header(WIDTH, HEIGHT, orientation), "upright") == expected.shape[1::-1]


def test_in_a_dataset():
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    dataset = tf.data.Dataset.range(1, 9).map(lambda which: turn_image(pixels, which))
    for orientation, turned in zip(ORIENTATIONS, dataset.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(turned, upright(pixels, orientation))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_move_with_their_pixels(orientation):
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    drawn[6:15, 20:45] = 255
    turned = upright(drawn, orientation) > 0
    rows, columns = np.flatnonzero(turned.any(1)), np.flatnonzero(turned.any(0))
    height, width = turned.shape
    extent = [
        columns[0] / width,
        rows[0] / height,
        (columns[-1] + 1) / width,
        (rows[-1] + 1) / height,
    ]
    box = np.array([[20 / WIDTH, 6 / HEIGHT, 45 / WIDTH, 15 / HEIGHT]])
    np.testing.assert_allclose(turn_boxes(box, np.array([orientation])), [extent], atol=1e-12)


@given(
    box=st.tuples(*[st.floats(-2, 3) for _ in range(4)]), orientation=st.sampled_from(ORIENTATIONS)
)
def test_turning_back_is_the_inverse(box, orientation):
    box = np.array(box)
    back = turn_boxes_back(turn_boxes(box, np.array(orientation)), np.array(orientation))
    np.testing.assert_allclose(back, box, atol=1e-15 * 8)


def test_every_box_has_its_own_orientation():
    boxes = np.random.default_rng(0).random((8, 4)).astype(np.float32)
    together = turn_boxes(boxes, np.arange(1, 9))
    assert together.dtype == np.float32
    for index in range(8):
        alone = turn_boxes(boxes[index : index + 1], np.array([index + 1]))
        np.testing.assert_array_equal(together[index : index + 1], alone)
