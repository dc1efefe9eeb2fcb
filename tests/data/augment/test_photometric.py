"""Colours: every operation against Pillow or a formula, on smooth pictures of all values."""

import colorsys
import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from loc_keras.config.data import AugmentConfig
from loc_keras.data.augment import photometric
from loc_keras.data.augment.batch import augment, draw_names

COUNT, SIDE = 6, 32


@pytest.fixture(scope="module")
def pictures():
    """Smooth colour pictures that differ in range, uint8 (6, 32, 32, 3)."""
    generator = np.random.default_rng(0)
    coarse = generator.random((COUNT, 5, 5, 3)) * 255
    smooth = np.clip(tf.image.resize(coarse, (SIDE, SIDE), "bicubic").numpy(), 0, 255)
    span = np.linspace(0.3, 1, COUNT)[:, None, None, None]
    return np.round(smooth * span + 40 * (1 - span)).astype(np.uint8)


def changed(images, rest=0.5, **draws_and_knobs):
    """Augments with one knob; draws are given as `name_draw`."""
    draws = {k[:-5]: v for k, v in draws_and_knobs.items() if k.endswith("_draw")}
    knobs = {k: v for k, v in draws_and_knobs.items() if not k.endswith("_draw")}
    options = AugmentConfig(**knobs)
    rows = [np.broadcast_to(draws.get(n, rest), len(images)) for n in draw_names(options)]
    box = np.tile(np.array([0.1, 0.2, 0.7, 0.8], np.float32), (len(images), 1))
    out, targets = augment(
        tf.constant(images),
        {"bbox": tf.constant(box), "softmax": tf.range(len(images))},
        tf.constant(np.stack(rows, axis=-1), tf.float32),
        options,
    )
    assert out.dtype == tf.uint8
    # No colour moves a box.
    np.testing.assert_array_equal(targets["bbox"], box)
    return out.numpy()


def forget_what_was_built():
    photometric._hue_layer.cache_clear()
    photometric._compiled.cache_clear()


def with_pillow(images, function):
    return np.stack([np.asarray(function(Image.fromarray(i))) for i in images])


def assert_near(found, expected, atol=1):
    np.testing.assert_allclose(found.astype(int), np.asarray(expected).astype(int), atol=atol)


def test_brightness_adds_a_fraction_of_the_range():
    images = np.full((3, 8, 8, 1), 100, np.uint8)
    found = changed(images, brightness=0.8, brightness_draw=[0.0, 0.75, 1.0])
    # -204, +102 and +204 on 100, within 0..255.
    assert [int(image[0, 0, 0]) for image in found] == [0, 202, 255]
    assert all((image == image[0, 0]).all() for image in found)


def test_contrast_scales_the_distance_to_the_mean():
    images = np.full((2, 8, 8, 1), 80, np.uint8)
    images[:, :4] = 120
    found = changed(images, contrast=0.5, contrast_draw=[0.0, 1.0])
    # The mean is 100, so 100 +- 20 becomes 100 +- 10 and 100 +- 30.
    assert [[int(i[0, 0, 0]), int(i[-1, 0, 0])] for i in found] == [[110, 90], [130, 70]]


@pytest.mark.parametrize("draw", [0.0, 0.2, 0.8, 1.0])
def test_saturation_is_pillows_colour(pictures, draw):
    found = changed(pictures, saturation=1.0, saturation_draw=draw)
    assert_near(found, with_pillow(pictures, lambda p: ImageEnhance.Color(p).enhance(2 * draw)))


def test_gray_is_pillows_luminance_for_its_share_of_images(pictures):
    found = changed(pictures, gray=0.4, gray_draw=[0.39, 0.41, 0, 1, 0, 1])
    grey = with_pillow(pictures, lambda p: p.convert("L").convert("RGB"))
    assert_near(found[::2], grey[::2])
    np.testing.assert_array_equal(found[1::2], pictures[1::2])


@pytest.mark.parametrize("draw", [0.0, 0.4, 0.65, 1.0])
def test_hue_turns_the_colour_circle(pictures, draw):
    found = changed(pictures, hue=0.5, hue_draw=draw)
    turn = (2 * draw - 1) * 0.5
    pixels = pictures[0, ::4, ::4].reshape(-1, 3) / 255

    def turned(red, green, blue):
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        return colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)

    expected = np.round(np.array([turned(*pixel) for pixel in pixels]) * 255)
    assert_near(found[0, ::4, ::4].reshape(-1, 3), expected)


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.9])
def test_sharpness_is_pillows(pictures, draw):
    found = changed(pictures, sharpness=1.0, sharpness_draw=draw)
    # Draws from .5 on blend towards the smoothed image, those below away from it.
    factor = 1 - (2 * draw - 1)
    expected = with_pillow(pictures, lambda p: ImageEnhance.Sharpness(p).enhance(factor))
    # Pillow rounds the smoothed image to whole values before it blends.
    assert_near(found[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=2)


def test_blur_is_a_convolution_with_a_gaussian(pictures):
    found = changed(pictures, blur=2.0, blur_draw=[0, 0.25, 0.5, 0.75, 1.0, 1.0])
    np.testing.assert_array_equal(found[0], pictures[0])
    distance = np.arange(-6, 7)
    for image, picture, sigma in zip(found[1:], pictures[1:], [0.5, 1, 1.5, 2, 2], strict=True):
        kernel = np.exp(-(distance**2) / (2 * sigma**2))
        kernel /= kernel.sum()
        pixels = np.pad(picture.astype(float), [(6, 6), (6, 6), (0, 0)], "symmetric")
        for axis in (0, 1):
            pixels = np.apply_along_axis(np.convolve, axis, pixels, kernel, "valid")
        assert_near(image, np.round(pixels))


def test_blur_wider_than_the_picture_keeps_its_brightness():
    images = np.full((1, 8, 8, 1), 90, np.uint8)
    # Of 31 weights only 17 fit; they alone must sum to 1.
    np.testing.assert_array_equal(changed(images, blur=5.0, blur_draw=1.0), images)


def test_auto_contrast_is_pillows(pictures):
    found = changed(pictures, auto_contrast=0.5, auto_contrast_draw=0.4)
    assert_near(found, with_pillow(pictures, ImageOps.autocontrast))
    flat = np.full((1, 8, 8, 3), [10, 0, 255], np.uint8)
    np.testing.assert_array_equal(changed(flat, auto_contrast=1.0), flat)


def test_equalize_is_pillows(pictures):
    found = changed(pictures, equalize=0.5, equalize_draw=0.4)
    np.testing.assert_array_equal(found, with_pillow(pictures, ImageOps.equalize))
    flat = np.full((1, 8, 8, 3), [10, 0, 255], np.uint8)
    np.testing.assert_array_equal(changed(flat, equalize=1.0), flat)


@pytest.mark.parametrize(("draw", "bits"), [(0.0, 4), (0.3, 5), (0.6, 6), (0.99, 7)])
def test_posterize_is_pillows(pictures, draw, bits):
    found = changed(pictures, posterize=0.5, posterize_draw=0.4, posterize_bits_draw=draw)
    expected = with_pillow(pictures, lambda p: ImageOps.posterize(p, bits))
    np.testing.assert_array_equal(found, expected)


def test_gamma_is_a_power(pictures):
    found = changed(pictures, gamma=1.0, gamma_draw=[0, 0.5, 1, 0, 0.5, 1])
    exponents = np.array([0.5, 1, 2, 0.5, 1, 2])[:, None, None, None]
    np.testing.assert_array_equal(found, np.round(255 * (pictures / 255) ** exponents))


def test_tables_compose_to_one_after_the_other(pictures):
    both = changed(pictures, equalize=1.0, posterize=1.0, gamma=0.5, rest=0.1)
    steps = changed(changed(pictures, equalize=1.0), gamma=0.5, gamma_draw=0.1)
    steps = changed(steps, posterize=1.0, posterize_draw=0.1, posterize_bits_draw=0.1)
    np.testing.assert_array_equal(both, steps)


def test_colour_leaves_grey_pictures_alone(pictures):
    grey = pictures[..., :1]
    same = changed(grey, saturation=1.0, hue=0.5, gray=1.0, rest=0.1)
    np.testing.assert_array_equal(same, grey)
    for knobs in ({"sharpness": 1.0}, {"blur": 5.0}, {"equalize": 1.0}, {"auto_contrast": 1.0}):
        of_one = changed(grey, **knobs, rest=0.2)
        of_three = changed(np.repeat(grey, 3, axis=-1), **knobs, rest=0.2)
        assert_near(np.repeat(of_one, 3, axis=-1), of_three, atol=0)
        assert (of_one != grey).any()


def test_half_precision_of_the_model_does_not_reach_the_colours(pictures):
    knobs = {"hue": 0.3, "sharpness": 1.0, "rest": 0.1}
    expected = changed(pictures, **knobs)
    keras.config.set_dtype_policy("mixed_float16")
    forget_what_was_built()
    np.testing.assert_array_equal(changed(pictures, **knobs), expected)


def test_colours_need_no_global_generator(pictures, monkeypatch):
    # TensorFlow refuses to make one where operations are to be deterministic; KerasCV layers
    # without a seed ask for it.
    def refuse():
        raise RuntimeError("no global generator")

    monkeypatch.setattr(tf.random, "get_global_generator", refuse)
    forget_what_was_built()
    changed(pictures, hue=0.3, sharpness=1.0, saturation=0.5, equalize=1.0, blur=1.0, rest=0.1)
    layers = importlib.import_module("keras_cv").layers
    with pytest.raises(RuntimeError, match="no global generator"):
        layers.RandomHue(factor=1.0, value_range=(0, 255))


def test_compiled_steps_give_what_their_operations_give():
    # Guards against faults of the compiler, over many draws and pictures without any order.
    knobs = {"contrast": 0.5, "brightness": 0.3, "saturation": 0.9, "gray": 0.2, "hue": 0.5}
    options = AugmentConfig(**knobs, blur=2.0, sharpness=1.0)
    generator = np.random.default_rng(0)
    names = draw_names(options)
    draws = photometric.Draws(tf.constant(generator.random((60, len(names))), tf.float32), names)
    images = tf.constant(generator.integers(0, 256, (60, 24, 36, 3), np.uint8))
    compiled = photometric.recolour(images, draws, options).numpy()
    tf.config.run_functions_eagerly(True)
    try:
        plain = photometric.recolour(images, draws, options).numpy()
    finally:
        tf.config.run_functions_eagerly(False)
    assert_near(compiled, plain)
