"""MixUp and CutMix: shares of pixels, of classes and of boxes."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from loc_keras.config.data import AugmentConfig
from loc_keras.data.augment.batch import (
    augment,
    augmentation_from,
    beta_quantiles,
    draw_names,
)

SIDE = 20
CLASSES = 5


def batch(count=4):
    """Pictures of one value each, 40 apart; classes 0, 1, ...; a box in the middle."""
    values = (np.arange(count) * 40).astype(np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (count, SIDE, SIDE, 3)).copy()
    boxes = np.tile(np.array([0.25, 0.25, 0.75, 0.75], np.float32), (count, 1))
    labels = np.arange(count, dtype=np.int32) % CLASSES
    return tf.constant(images), {"bbox": tf.constant(boxes), "softmax": tf.constant(labels)}


def mixed(options, rest=0.5, count=4, **draws):
    images, targets = batch(count)
    rows = [np.broadcast_to(draws.get(name, rest), count) for name in draw_names(options)]
    draws = tf.constant(np.stack(rows, axis=-1), tf.float32)
    images, targets = augment(images, targets, draws, options, CLASSES)
    return images.numpy(), {name: value.numpy() for name, value in targets.items()}


def test_mixup_blends_pixels_and_classes_by_the_larger_share():
    # With alpha 1 the share is uniform: draws of .3 and .7 both give .7 to the image itself.
    images, targets = mixed(AugmentConfig(mixup=1.0), mix=0.0, mix_share=[0.3, 0.7, 0.3, 1.0])
    # Values 0, 40, 80, 120 with their neighbours 40, 80, 120, 0.
    assert [int(image[0, 0, 0]) for image in images] == [12, 52, 92, 120]
    expected = [[0.7, 0.3, 0, 0, 0], [0, 0.7, 0.3, 0, 0], [0, 0, 0.7, 0.3, 0], [0, 0, 0, 1, 0]]
    np.testing.assert_allclose(targets["softmax"], expected, atol=1e-3)
    np.testing.assert_array_equal(targets["bbox"], batch()[1]["bbox"])


def test_cutmix_pastes_a_patch_and_shares_classes_by_area():
    # A share of .75 leaves a patch of half the sides; at draws of 0 in the upper left corner.
    options = AugmentConfig(cutmix=1.0)
    images, targets = mixed(options, mix=0.0, mix_share=0.25, cutmix_x=0.0, cutmix_y=0.0)
    plain = batch()[0].numpy()
    expected = plain.copy()
    expected[:, :10, :10] = np.roll(plain, -1, axis=0)[:, :10, :10]
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_allclose(targets["softmax"][0], [0.75, 0.25, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(targets["softmax"][3], [0.25, 0, 0, 0.75, 0], atol=1e-6)
    np.testing.assert_array_equal(targets["bbox"], batch()[1]["bbox"])


def test_cutmix_that_would_hide_the_box_is_left_out():
    # A patch of half the picture in its middle covers the whole box, whichever candidate.
    options = AugmentConfig(cutmix=1.0)
    images, targets = mixed(options, mix=0.0, mix_share=0.5, cutmix_x=0.5, cutmix_y=0.5)
    np.testing.assert_array_equal(images, batch()[0])
    np.testing.assert_array_equal(targets["softmax"], np.eye(CLASSES)[:4])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    mixup=st.sampled_from([0.0, 0.2, 1.0]),
    cutmix=st.sampled_from([0.5, 1.0]),
    least=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)
def test_shares_sum_to_one_and_the_box_stays(seed, mixup, cutmix, least):
    options = AugmentConfig(mixup=mixup, cutmix=cutmix, min_visible=least, mix_probability=0.8)
    generator = np.random.default_rng(seed)
    count = 6
    corners = np.sort(generator.random((count, 2, 2)), axis=1).reshape(count, 4)
    images, targets = batch(count)
    targets["bbox"] = tf.constant(corners, tf.float32)
    draws = tf.constant(generator.random((count, len(draw_names(options)))), tf.float32)
    out, after = augment(images, targets, draws, options, CLASSES)
    shares = after["softmax"].numpy()
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    own = shares[np.arange(count), targets["softmax"]]
    # The patch is counted in whole pixels, which may be half a row more each way.
    assert (own >= 0.5 - 1 / SIDE).all()
    np.testing.assert_array_equal(after["bbox"], targets["bbox"])
    if not mixup:
        foreign = (out.numpy() != images.numpy()).any(axis=-1)
        for seen, box in zip(foreign, corners * SIDE, strict=True):
            x1, y1 = np.floor(box[:2]).astype(int)
            x2, y2 = np.ceil(box[2:]).astype(int)
            area = max((x2 - x1) * (y2 - y1), 1)
            slack = (2 * (x2 - x1) + 2 * (y2 - y1)) / area
            assert seen[y1:y2, x1:x2].sum() / area <= 1 - least + slack


def test_about_the_wanted_part_is_mixed_and_half_of_it_each_way():
    options = AugmentConfig(mixup=1.0, cutmix=1.0, mix_probability=0.4, min_visible=0.0)
    count = 600
    images, targets = batch(count)
    draws = np.random.default_rng(0).random((count, len(draw_names(options))))
    images = tf.random.stateless_uniform(images.shape, (1, 2), 0, 256, tf.int32)
    images = tf.cast(images, tf.uint8)
    out, after = augment(images, targets, tf.constant(draws, tf.float32), options, CLASSES)
    same = (out.numpy() == images.numpy()).all(axis=-1).mean(axis=(1, 2))
    # Three standard errors of 600 draws are .06. A blend leaves next to no pixel as it was.
    assert (after["softmax"].numpy().max(axis=1) < 1).mean() == pytest.approx(0.4, abs=0.06)
    assert (same < 0.05).mean() == pytest.approx(0.2, abs=0.06)
    assert ((same > 0.4) & (same < 1)).mean() == pytest.approx(0.2, abs=0.06)


def test_batch_of_one_mixes_with_itself():
    images, targets = mixed(AugmentConfig(mixup=1.0), count=1, mix=0.0, mix_share=0.3)
    np.testing.assert_array_equal(images, batch(1)[0])
    np.testing.assert_allclose(targets["softmax"], [[1, 0, 0, 0, 0]], atol=1e-6)


def test_beta_quantiles_against_closed_forms():
    levels = np.linspace(0, 1, 1025)
    np.testing.assert_allclose(beta_quantiles(1.0), levels, atol=1e-6)
    # With both parameters 1/2 it is the arcsine distribution.
    np.testing.assert_allclose(beta_quantiles(0.5), np.sin(np.pi / 2 * levels) ** 2, atol=1e-6)
    # With both parameters 2 the distribution function is 3 x^2 - 2 x^3.
    found = beta_quantiles(2.0).astype(float)
    np.testing.assert_allclose(3 * found**2 - 2 * found**3, levels, atol=1e-6)


def test_mixing_in_a_pipeline():
    stage = augmentation_from(AugmentConfig(mixup=0.2, flip=True), num_classes=CLASSES)
    images, targets = batch()
    draws = tf.constant(np.random.default_rng(0).random((4, stage.columns)), tf.float32)
    data = tf.data.Dataset.from_tensors((images, targets, draws)).map(stage.apply)
    assert data.element_spec[1]["softmax"] == tf.TensorSpec((4, CLASSES), tf.float32)
    assert augmentation_from(AugmentConfig(mixup=0.2, mix_probability=0.0)) is None
