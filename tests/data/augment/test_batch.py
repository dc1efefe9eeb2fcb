"""Whole-image augmentation: maps, boxes, crops and cutouts by hand, one draw at a time."""

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from loc_keras.config.data import AugmentConfig
from loc_keras.data.augment.batch import (
    augment,
    augmentation_from,
    draw_names,
)
from loc_keras.data.augment.geometry import CANDIDATES, ellipse_bounds, visible_part
from loc_keras.data.geometry import warp
from loc_keras.errors import DataError

HEIGHT, WIDTH = 80, 120
BOX = (30, 20, 90, 60)  # x1, y1, x2, y2 in pixels


def rectangle(box=BOX):
    picture = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    x1, y1, x2, y2 = box
    picture[y1:y2, x1:x2] = 255
    return picture


def beyond(**options):
    """Options outside of the ranges that a config takes."""
    return AugmentConfig.model_construct(**options)


def draws_of(options, count, rest=0.5, **values):
    """Rows of draws: the named ones as given, for all candidates; one of .5 changes nothing."""
    columns = [np.broadcast_to(values.get(name, rest), count) for name in draw_names(options)]
    return np.stack(columns, axis=-1)


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


def test_flip_mirrors_half_of_the_images_exactly():
    picture = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    options = AugmentConfig(flip=True)
    draws = draws_of(options, 2, flip=[0.49, 0.51])
    images, boxes = run(options, draws, (10, 20, 50, 60), picture)
    np.testing.assert_array_equal(images[0], picture[:, ::-1, 0])
    np.testing.assert_array_equal(images[1], picture[..., 0])
    np.testing.assert_allclose(boxes, [[70, 20, 110, 60], [10, 20, 50, 60]], atol=1e-4)


def test_vertical_flip_mirrors_half_of_the_images_exactly():
    picture = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    options = AugmentConfig(flip_vertical=True)
    images, boxes = run(
        options, draws_of(options, 2, flip_vertical=[0.49, 0.51]), (10, 0, 50, 60), picture
    )
    np.testing.assert_array_equal(images[0], picture[::-1, :, 0])
    np.testing.assert_array_equal(images[1], picture[..., 0])
    np.testing.assert_allclose(boxes, [[10, 20, 50, 80], [10, 0, 50, 60]], atol=1e-4)


@pytest.mark.parametrize("also", [{"scale": 0.3}, {"rotation": 10}], ids=["aligned", "turned"])
def test_flips_within_a_map_equal_flips_alone(also):
    picture = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    options = AugmentConfig(flip=True, flip_vertical=True, **also)
    draws = draws_of(options, 4, flip=[0, 0, 1, 1], flip_vertical=[0, 1, 0, 1])
    images, boxes = run(options, draws, (10, 0, 50, 60), picture)
    plain, plain_boxes = run(
        AugmentConfig(flip=True, flip_vertical=True), draws[:, :2], (10, 0, 50, 60), picture
    )
    np.testing.assert_array_equal(images, plain)
    np.testing.assert_allclose(boxes, plain_boxes, atol=1e-4)


@pytest.mark.parametrize("also", [{}, {"rotation": 10}], ids=["aligned", "turned"])
def test_translation_by_whole_pixels_is_exact(also):
    picture = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    options = AugmentConfig(translate=0.2, **also)
    # Half of 0.2 of 120 px to the right, half of 0.2 of 80 px up.
    draws = draws_of(options, 1, translate_x=0.75, translate_y=0.25)
    images, boxes = run(options, draws, picture=picture)
    expected = np.zeros_like(picture[..., 0])
    expected[:-8, 12:] = picture[8:, :-12, 0]
    np.testing.assert_allclose(images[0], expected, atol=1)
    np.testing.assert_allclose(boxes[0], [42, 12, 102, 52], atol=1e-4)


def test_a_box_over_the_edge_is_clipped():
    options = AugmentConfig(translate=0.4)
    images, boxes = run(options, draws_of(options, 1, translate_x=1.0))
    # 48 px to the right: 78..138 of 120, so 42 of 60 columns stay.
    np.testing.assert_allclose(boxes[0], [78, 20, 120, 60], atol=1e-3)
    np.testing.assert_allclose(pixel_extent(images[0]), [78, 20, 120, 60])


def test_an_image_whose_box_would_leave_is_only_mirrored():
    # 80 % of 120 px to the right leaves nothing of 30..90 in the picture: 126..186.
    options = beyond(translate=0.8, flip=True)
    box = (20, 20, 80, 60)
    images, boxes = run(options, draws_of(options, 2, translate_x=1.0, flip=[0, 1]), box)
    np.testing.assert_array_equal(images[0], rectangle(box)[:, ::-1, 0])
    np.testing.assert_array_equal(images[1], rectangle(box)[..., 0])
    np.testing.assert_allclose(boxes, [(40, 20, 100, 60), box], atol=1e-4)


@pytest.mark.parametrize(("share", "kept", "lost"), [(0.25, 74, 76), (0.5, 59, 61)])
def test_the_least_visible_share_is_the_limit(share, kept, lost):
    # Of the 60 columns 30..90 a shift of s px keeps 90 - s.
    options = beyond(translate=1.0, min_visible=share)
    draws = draws_of(options, 2, translate_x=(1 + np.array([kept, lost]) / 120) / 2)
    _, boxes = run(options, draws)
    np.testing.assert_allclose(boxes, [[30 + kept, 20, 120, 60], BOX], atol=1e-3)


def test_the_first_candidate_that_shows_enough_counts():
    options = beyond(translate=1.0)
    draws = draws_of(options, CANDIDATES + 1)
    x = draw_names(options).index("translate_x")
    # Row r has r candidates that leave the picture; those behind shift by 12, 24, ... px.
    for row in range(CANDIDATES + 1):
        draws[row, x : x + CANDIDATES] = (1 + 0.1 * np.arange(1, CANDIDATES + 1)) / 2
        draws[row, x : x + row] = 1.0
    _, boxes = run(options, draws)
    shifts = [12, 24, 36, 48, 0]
    np.testing.assert_allclose(boxes[:, 0], [30 + shift for shift in shifts], atol=1e-3)


def test_turned_box_from_corners_and_from_the_ellipse():
    # A square of 40 px turned by 30 degrees: its corners reach 20 (cos 30 + sin 30) px from the
    # centre, the inscribed circle 20 px as before.
    box = (40, 20, 80, 60)
    reach = 20 * (np.cos(np.pi / 6) + np.sin(np.pi / 6))
    centre = np.array([60, 40, 60, 40])
    for rule, half in (("corners", reach), ("ellipse", 20)):
        options = beyond(rotation=60, box_from=rule)
        _, boxes = run(options, draws_of(options, 1, rotation=0.75), box)
        np.testing.assert_allclose(boxes[0], centre + half * np.array([-1, -1, 1, 1]), atol=1e-3)


def test_ellipse_under_an_affine_map_has_the_half_widths_of_the_formula():
    # sqrt((a w / 2)^2 + (b h / 2)^2) with the rows (a, b) of the matrix.
    linear, shift = np.array([[0.8, -0.5], [0.6, 0.9]]), np.array([3.0, -2.0])
    full = np.eye(3)
    full[:2, :2], full[:2, 2] = linear, shift
    box = np.array([-10.0, -4.0, 20.0, 8.0])
    half = np.sqrt((linear**2) @ (np.array([30.0, 12.0]) / 2) ** 2)
    centre = linear @ [5.0, 2.0] + shift
    bounds = ellipse_bounds(tf.constant(box), tf.constant(full)).numpy()
    np.testing.assert_allclose(bounds, [*(centre - half), *(centre + half)], rtol=1e-12)


def test_bounds_under_perspective_are_those_of_many_points():
    full = np.array([[0.9, 0.2, 3], [-0.1, 1.1, -2], [0.004, -0.006, 1]])
    box = np.array([-30.0, -14.0, 20.0, 18.0])
    angle = np.linspace(0, 2 * np.pi, 20_001)
    circle = np.stack([25 * np.cos(angle) - 5, 16 * np.sin(angle) + 2, np.ones_like(angle)])
    moved = (full @ circle)[:2] / (full @ circle)[2]
    bounds = ellipse_bounds(tf.constant(box), tf.constant(full)).numpy()
    np.testing.assert_allclose(bounds, [*moved.min(1), *moved.max(1)], atol=1e-5)


def test_visible_share_and_bounds_of_a_turned_square():
    # A square of 20 px turned by 45 degrees about a corner of the picture (50 px): a quarter of it
    # shows, the right triangle from the corner to where its tips meet the picture's sides.
    cos = np.sqrt(0.5)
    turned = np.array([[cos, -cos, 25], [cos, cos, 25], [0, 0, 1]])
    box = np.array([-10.0, -10.0, 10.0, 10.0])
    share, bounds = visible_part(tf.constant(box), tf.constant(turned), (50, 50))
    assert float(share) == pytest.approx(0.25, abs=1e-6)
    reach = 10 * np.sqrt(2)
    np.testing.assert_allclose(bounds, [25 - reach, 25 - reach, 25, 25], atol=1e-5)


@pytest.mark.parametrize("mirrored", [1.0, -1.0])
def test_visible_share_of_boxes_on_the_edge_of_the_picture(mirrored):
    # Edges that coincide with the picture's must count once: whole, half and nothing.
    maps = np.stack([np.diag([mirrored, 1.0, 1.0])] * 3)
    maps[1, 0, 2], maps[2, 1, 2] = 50.0, 80.0
    boxes = np.array([[-50.0, -40, 50, 40]] * 3)
    share, bounds = visible_part(tf.constant(boxes), tf.constant(maps), (80, 100))
    np.testing.assert_allclose(share, [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(bounds[:2], [[-50, -40, 50, 40], [0, -40, 50, 40]], atol=1e-5)


def test_crop_fills_the_picture_with_its_window():
    options = AugmentConfig(crop=0.75)
    # A quarter of the area: 60 x 40 px at its rightmost and lowest place that keeps the root of
    # half of the box 30..90 x 20..60 on each axis; blown up twice.
    root = np.sqrt(0.5)
    draws = draws_of(options, 1, crop_area=1.0, crop_x=1.0, crop_y=1.0)
    _, boxes = run(options, draws)
    left, top = 90 - root * 60, min(40, 60 - root * 40)
    expected = [0, 0, (90 - left) * 2, (60 - top) * 2]
    np.testing.assert_allclose(boxes[0], expected, atol=1e-3)
    assert np.prod((boxes[0, 2:] - boxes[0, :2]) / 2) >= 0.5 * 60 * 40 - 1e-3


def test_crop_of_a_box_that_needs_more_than_the_window_is_larger():
    options = AugmentConfig(crop=0.9, min_visible=1.0)
    box = (10, 10, 110, 70)
    _, boxes = run(options, draws_of(options, 1, crop_area=1.0, crop_aspect=0.5), box)
    np.testing.assert_allclose(boxes[0], [0, 0, WIDTH, HEIGHT], atol=1e-3)


@pytest.mark.parametrize(
    ("fill", "left", "right"), [("mean", 50, 60), ("edge", 0, 99), ("reflect", 9, 60)]
)
@pytest.mark.parametrize("also", [{}, {"rotation": 10}], ids=["aligned", "turned"])
def test_fill_beside_a_shifted_picture(fill, left, right, also):
    # Column x has the value x up to 99, the mean is 49.5 (whole: 50); the shift is 10 px.
    picture = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (20, 1, 1))
    options = AugmentConfig(translate=0.2, fill=fill, **also)
    draws = draws_of(options, 2, translate_x=[0.75, 0.25]).astype(np.float32)
    targets = {"bbox": tf.constant([[0.3, 0.3, 0.7, 0.7]] * 2)}
    images, _ = augment(tf.constant(np.stack([picture] * 2)), targets, tf.constant(draws), options)
    assert int(images[0, 10, 0, 0]) == pytest.approx(left, abs=1)
    if fill != "reflect":
        assert int(images[1, 10, 99, 0]) == pytest.approx(50 if fill == "mean" else right, abs=1)


@pytest.mark.parametrize(
    ("fill", "mode"), [("black", "CONSTANT"), ("edge", "NEAREST"), ("reflect", "REFLECT")]
)
def test_resampling_agrees_with_the_op_of_tensorflow(fill, mode):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12, 40, 60, 3), np.uint8)
    maps = np.tile(np.eye(3), (12, 1, 1))
    maps[:, :2] += generator.uniform(-0.5, 0.5, (12, 2, 3)) * [1, 1, 30]
    maps[6:, 2, :2] = generator.uniform(-0.004, 0.004, (6, 2))
    found = warp(tf.constant(images), tf.constant(maps), fill=fill).numpy()
    # The op maps indices of target pixels to those of source pixels, up to a factor.
    centre = np.array([[1, 0, 29.5], [0, 1, 19.5], [0, 0, 1]])
    back = centre @ np.linalg.inv(maps) @ np.linalg.inv(centre)
    back = (back / back[:, 2:, 2:]).reshape(-1, 9)[:, :8]
    expected = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.constant(images, tf.float32),
        transforms=tf.constant(back, tf.float32),
        output_shape=[40, 60],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=mode,
    )
    off = np.abs(found - np.floor(expected.numpy() + 0.5))
    assert (off <= 1).mean() > 0.9999  # A place on the edge of a pixel may round to either.


def test_same_inside_a_graph():
    options = AugmentConfig(
        flip=True, translate=0.1, scale=0.2, rotation=10, brightness=0.1, contrast=0.1
    )
    columns = len(draw_names(options))
    draws = tf.constant(np.random.default_rng(0).random((8, columns)), tf.float32)
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


def test_cutout_covers_the_drawn_rectangle():
    options = AugmentConfig(cutout=0.5, cutout_size=0.5, cutout_hidden=1.0)
    drawn = {"cutout_x": 0.25, "cutout_y": 0.5, "cutout_width": 0.4, "cutout_height": 1.0}
    draws = draws_of(options, 2, cutout=[0.49, 0.51], **drawn)
    picture = np.full((HEIGHT, WIDTH, 1), 200, np.uint8)
    images, boxes = run(options, draws, picture=picture)
    # Around (30, 40): 0.4 of 60 px wide, 40 px high.
    expected = picture[..., 0].copy()
    expected[20:60, 18:42] = 0
    np.testing.assert_array_equal(images, [expected, picture[..., 0]])
    np.testing.assert_allclose(boxes, [BOX, BOX], atol=1e-4)


def test_cutout_hides_no_more_than_allowed():
    options = AugmentConfig(cutout=1.0, cutout_size=0.8, cutout_hidden=0.3)
    draws = np.random.default_rng(0).random((200, len(draw_names(options))))
    images, _ = run(options, draws)
    x1, y1, x2, y2 = BOX
    hidden = (images[:, y1:y2, x1:x2] == 0).mean(axis=(1, 2))
    # A pixel counts by its centre, so the border of the rectangle may add half a row each way.
    assert hidden.max() <= 0.3 + 1 / 40 + 1 / 60
    assert (hidden > 0).mean() > 0.5
    # The limit is not kept by leaving boxes alone: the largest covers come near to it.
    assert hidden.max() > 0.2


def test_options_are_checked():
    given = {"digit_scale": 0.1, "scale": 0.2, "flip": True}
    options = AugmentConfig.from_options("augment", given)
    assert options == AugmentConfig(**given)
    assert AugmentConfig.from_options("augment", options) is options
    assert augmentation_from(AugmentConfig(scale=0.0, flip=False)) is None
    with pytest.raises(DataError, match=r"augment has no 'zoom'; its keys are .*, flip, flip_vert"):
        AugmentConfig.from_options("augment", {"zoom": 1.0})
    with pytest.raises(DataError, match=r"augment.brightness: .* less than or equal to 1, got 2"):
        AugmentConfig.from_options("augment", {"brightness": 2.0})
    with pytest.raises(DataError, match=r"augment.fill: .* 'black', .*, got 'blue'"):
        AugmentConfig.from_options("augment", {"fill": "blue"})
    with pytest.raises(DataError, match=r"augment: crop_aspect .* but crop is 0"):
        AugmentConfig.from_options("augment", {"crop_aspect": 0.2})
    with pytest.raises(DataError, match=r"augment.mixup and augment.cutmix need the n"):
        augmentation_from(AugmentConfig(mixup=0.2))


def test_what_is_off_takes_no_draws():
    assert draw_names(AugmentConfig(min_visible=0.9, fill="mean", mix_probability=1.0)) == ()
    assert augmentation_from(AugmentConfig(flip=True)).columns == 1
    assert augmentation_from(AugmentConfig(scale=0.1, gray=0.5)).columns == CANDIDATES + 1


def test_every_key_that_changes_images_draws():
    settings = {"fill", "box_from", "min_visible", "crop_aspect", "cutout_size", "cutout_hidden"}
    keys = [key for key in AugmentConfig.model_fields if not key.startswith("digit_")]
    drawing = [key for key in keys if key not in settings | {"mix_probability"}]
    for key in drawing:
        names = draw_names(AugmentConfig(**{key: True if key.startswith("flip") else 0.1}))
        assert names, key
    assert augmentation_from(AugmentConfig()) is None


def test_columns_stand_in_the_order_of_the_keys():
    # The order is part of what a seed means: a run that goes on must draw as it began.
    keys = dict.fromkeys(("contrast", "posterize", "gray", "mixup", "cutmix", "cutout"), 0.1)
    options = AugmentConfig(flip=True, rotation=10, scale=0.1, **keys)
    once = ["flip", "cutout", "contrast", "gray", "posterize", "posterize_bits"]
    once += ["mix", "mix_kind", "mix_share"]
    often = ["scale", "rotation", "cutout_x", "cutout_y", "cutout_width", "cutout_height"]
    often += ["cutmix_x", "cutmix_y"]
    assert draw_names(options) == (*once, *(name for name in often for _ in range(CANDIDATES)))


def test_config_refuses_the_shape_of_no_crop():
    with pytest.raises(
        ValidationError, match=r"crop_aspect \(0.2\) shapes the crop, but crop is 0"
    ):
        AugmentConfig(crop_aspect=0.2)
