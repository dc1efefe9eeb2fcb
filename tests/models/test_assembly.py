"""The networks: one battery for every head and body, sizes, and the heads' layers by hand."""

import functools
from typing import get_args

import keras
import numpy as np
import pytest
from keras import ops

import loc_keras
from loc_keras.config import schema as config_model
from loc_keras.errors import ModelError
from loc_keras.models import assembly
from loc_keras.models.backbone import RESNETS, resnet_maps
from loc_keras.models.body import BODY_NAME, body_layers
from loc_keras.models.heads import (
    BOX_HEADS,
    CLASS_HEADS,
    SIDES_LAYER,
    AttendedProfiles,
    LinearResample1D,
    OrderedBox,
    RegionCrop,
    SideIntegral,
    distribution_head,
    interpolation_matrix,
)

# Every head on a small ResNet18, and every body under the usual heads.
HEADS = {f"box {name}": {"bbox_head": name} for name in BOX_HEADS} | {
    f"class {name}": {"bbox_head": "gap_mlp", "class_head": name} for name in CLASS_HEADS
}
BODIES = {name: {"backbone": name} for name in RESNETS if name != "resnet18"} | {
    "small stem": {"stem": "small", "stochastic_depth": 0.2},
    "applications": {"backbone": "applications/MobileNetV3Small", "image_shape": (64, 64, 1)},
}
CASES = HEADS | BODIES
every_case = pytest.mark.parametrize("case", CASES)


def small(**changes):
    settings = {"image_shape": (40, 48, 1), "num_classes": 3, "width": 4, **changes}
    return loc_keras.build_localizer(**settings)


@functools.cache
def usual(case):
    """The float32 model of a case, for tests that leave its weights as they are."""
    return small(**CASES[case])


def pictures(model, count, seed=0):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def answers(model, images):
    """The outputs without `predict`, whose tracing would take most of this file's time."""
    outputs = model(np.asarray(images, np.float32), training=False)
    return {name: ops.convert_to_numpy(value) for name, value in outputs.items()}


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_the_config_names_every_head_and_kind_of_body():
    # The config may not import them: it is read without Keras.
    keys = config_model.ModelConfig.model_fields
    assert set(get_args(keys["bbox_head"].annotation)) == set(BOX_HEADS)
    assert set(get_args(keys["class_head"].annotation)) == set(CLASS_HEADS)
    assert {f"{kind}/" for kind in config_model.OTHER_BODIES} == set(assembly._OTHER_BODIES)


def test_classic_body_has_the_known_number_of_parameters():
    # torchvision's resnet18 has 11,689,512 parameters, of which its last layer has 512 * 1000
    # weights and 1000 biases; batch statistics are not parameters there.
    images = keras.Input((224, 224, 3))
    _, maps = resnet_maps(images, stage_sizes=(2, 2, 2, 2), width=64, stem="imagenet")
    assert trainable(keras.Model(images, maps)) == 11_689_512 - 513_000 == 11_176_512


def test_original_network_adds_the_known_heads():
    model = loc_keras.build_localizer(
        image_shape=(224, 224, 3),
        num_classes=10,
        bbox_head="gap_mlp",
        class_head="pooled",
    )
    # Weights and biases of 512-128-64-32-4 and of 512-10, by hand.
    box = (512 * 128 + 128) + (128 * 64 + 64) + (64 * 32 + 32) + (32 * 4 + 4)
    assert trainable(model) == 11_176_512 + box + (512 * 10 + 10)


@pytest.mark.parametrize(
    ("stem", "sizes"),
    # Halving with symmetric padding rounds up: 100 -> 50 -> 25 -> 13 -> 7 -> 4.
    [("imagenet", [25, 13, 7, 4]), ("small", [50, 25, 13, 7])],
)
def test_maps_shrink_by_halves(stem, sizes):
    images = keras.Input((100, 100, 1))
    stem_map, maps = resnet_maps(images, stage_sizes=(2, 2, 2, 2), width=4, stem=stem)
    assert stem_map.shape[1:] == (50, 50, 4)
    assert [m.shape[1] for m in maps] == sizes
    assert [m.shape[-1] for m in maps] == [4, 8, 16, 32]


def test_strided_convolution_is_padded_symmetrically():
    # With all weights 1 and a single 1 in the image, a 3x3 convolution of stride 2 and padding 1
    # reads rows -1..1, 1..3, ...: the pixel (0, 0) is seen by output (0, 0) only, and pixel
    # (1, 1) by the outputs (0, 0), (0, 1), (1, 0), (1, 1). "same" padding of an even side would
    # start at row 0 instead and show pixel (1, 1) to output (0, 0) alone.
    images = keras.Input((8, 8, 1))
    stem_map, _ = resnet_maps(images, stage_sizes=(1,), width=1, stem="small")
    model = keras.Model(images, stem_map)
    model.get_layer("stem_conv").set_weights([np.ones((3, 3, 1, 1), np.float32)])
    picture = np.zeros((2, 8, 8, 1), np.float32)
    picture[0, 0, 0] = picture[1, 1, 1] = 1
    seen = ops.convert_to_numpy(model(picture, training=False))[..., 0] > 0.5
    assert np.argwhere(seen[0]).tolist() == [[0, 0]]
    assert np.argwhere(seen[1]).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("policy", "case"),
    [
        *((policy, case) for policy in ("float32", "mixed_float16") for case in HEADS),
        *(("mixed_bfloat16", case) for case in CASES),
    ],
)
def test_outputs_are_named_float32_and_in_order(policy, case):
    keras.mixed_precision.set_global_policy(policy)
    model = usual(case) if policy == "float32" else small(**CASES[case])
    answer = answers(model, pictures(model, 5))
    assert set(answer) == {"softmax", "bbox"}
    assert answer["softmax"].shape == (5, 3)
    assert answer["bbox"].shape == (5, 4)
    assert answer["softmax"].dtype == answer["bbox"].dtype == np.float32
    np.testing.assert_allclose(answer["softmax"].sum(-1), 1, atol=1e-5)
    x1, y1, x2, y2 = answer["bbox"].T
    assert np.all((x1 >= 0) & (x1 <= x2) & (x2 <= 1))
    assert np.all((y1 >= 0) & (y1 <= y2) & (y2 <= 1))
    convolutions = [one for one in body_layers(model) if isinstance(one, keras.layers.Conv2D)]
    assert {one.compute_dtype for one in convolutions} == {policy.removeprefix("mixed_")}
    heads = [layer for layer in model.layers if layer.name.startswith("bbox")]
    assert {layer.compute_dtype for layer in heads} == {"float32"}


@every_case
def test_layers_have_names_of_their_own(case):
    # Files of weights, frozen layers and the first weights find layers by name.
    model = usual(case)
    known = ("stem_", "stage", "bbox", "softmax", "images", "normalization", BODY_NAME)
    assert all(layer.name.startswith(known) for layer in model.layers)


@every_case
def test_every_weight_learns(case):
    tf = pytest.importorskip("tensorflow")
    model = usual(case)
    images = pictures(model, 4).astype(np.float32)
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.reduce_sum(outputs["softmax"][:, 0]) + tf.reduce_sum(outputs["bbox"] ** 2)
    weights = model.trainable_variables
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.all(np.isfinite(ops.convert_to_numpy(gradient))), weight.path


@pytest.mark.parametrize("bbox_head", BOX_HEADS)
def test_box_is_valid_even_with_absurd_weights(bbox_head):
    model = small(bbox_head=bbox_head)
    generator = np.random.default_rng(1)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(0, 3, weight.shape))
    images = generator.integers(0, 256, (16, 40, 48, 1))
    boxes = answers(model, images)["bbox"]
    assert np.all(np.isfinite(boxes))
    assert np.all((boxes >= 0) & (boxes <= 1))
    assert np.all(boxes[:, :2] <= boxes[:, 2:])


@every_case
def test_saved_model_answers_like_the_live_one(tmp_path, case):
    model = small(**CASES[case], dropout=0.2, pixel_mean=[30.0])
    images = pictures(model, 4, seed=2)
    before = answers(model, images)
    model.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras")
    after = answers(opened, images)
    for name in ("softmax", "bbox"):
        np.testing.assert_array_equal(before[name], after[name])


def test_normalisation_stands_inside_the_model():
    model = small(pixel_mean=[100.0], pixel_variance=[25.0])
    inner = keras.Model(model.input, model.get_layer("normalization").output)
    # (110 - 100) / sqrt(25) = 2.
    np.testing.assert_allclose(inner(np.full((1, 40, 48, 1), 110)), 2.0, rtol=1e-6)


def test_predict_takes_any_numeric_dtype():
    model = small(bbox_head="gap_mlp", class_head="pooled")
    images = np.random.default_rng(9).integers(0, 256, (3, 40, 48, 1))
    direct = answers(model, images)
    for dtype in (np.uint8, np.int64, np.float64):
        predicted = model.predict(images.astype(dtype), verbose=0)
        for name in ("softmax", "bbox"):
            np.testing.assert_allclose(predicted[name], direct[name], atol=1e-6)


def test_batch_answers_like_single_images():
    model = small()
    images = np.random.default_rng(3).integers(0, 256, (6, 40, 48, 1)).astype(np.float32)
    together = model(images, training=False)
    for i in range(6):
        alone = model(images[i : i + 1], training=False)
        for name in ("softmax", "bbox"):
            np.testing.assert_allclose(together[name][i], alone[name][0], atol=1e-5)


def test_distribution_head_gives_logits_for_each_side():
    sides = small().get_layer(SIDES_LAYER).output
    # One bin for each pixel edge of the longer side: 48 px have 49 edges.
    assert sides.shape == (None, 4, 49)
    assert sides.dtype == "float32"


def test_distribution_head_follows_a_shift():
    """One step of the coarsest map, away from the border, moves the logits as far in bins."""
    keras.utils.set_random_seed(4)
    # Maps as a body would give them for 256 px: at strides 8 and 16.
    maps = [keras.Input((32, 32, 6)), keras.Input((16, 16, 8))]
    box = distribution_head(maps, (256, 128))
    head = keras.Model(maps, box)
    # Attention with zero weights is even, so that profiles are plain means.
    attention = head.get_layer("bbox_attention")
    attention.set_weights([np.zeros_like(weight) for weight in attention.get_weights()])
    sides = keras.Model(maps, head.get_layer(SIDES_LAYER).output)
    generator = np.random.default_rng(4)
    fine, coarse = np.zeros((2, 32, 32, 6)), np.zeros((2, 16, 16, 8))
    fine[0, 10:14, 12:16] = generator.normal(0, 9, (4, 4, 6))
    coarse[0, 5:7, 6:8] = generator.normal(0, 9, (2, 2, 8))
    fine[1], coarse[1] = np.roll(fine[0], 2, axis=1), np.roll(coarse[0], 1, axis=1)
    logits = ops.convert_to_numpy(sides([fine, coarse], training=False))
    # 1 of 16 cells is 8 of the 128 steps between the 129 bins. x1 and x2 follow, y1 and y2 stay.
    np.testing.assert_allclose(logits[0, 0::2, 30:80], logits[1, 0::2, 38:88], atol=1e-3)
    np.testing.assert_allclose(logits[0, 1::2], logits[1, 1::2], atol=1e-3)
    assert np.ptp(logits[0, 0, 30:80]) > 0.1


def test_side_integral_is_the_expectation():
    # Bins at 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4 and with all mass on the last.
    logits = np.log([[[0.25, 0.5, 0.25]] * 4, [[1e-9, 1e-9, 1.0]] * 4]).astype(np.float32)
    np.testing.assert_allclose(SideIntegral()(logits), [[0.5] * 4, [1.0] * 4], atol=1e-6)


def test_ordered_box_sorts_each_axis_by_itself():
    points = np.array([[0.7, 0.1, 0.2, 0.9]], np.float32)
    np.testing.assert_allclose(OrderedBox()(points), [[0.2, 0.1, 0.7, 0.9]])


def test_interpolation_matrix_agrees_with_numpy():
    # numpy.interp is an independent linear interpolation that also holds the end values.
    values = np.random.default_rng(5).normal(size=7)
    centres = (np.arange(7) + 0.5) / 7
    for at, points in (("centres", (np.arange(12) + 0.5) / 12), ("edges", np.arange(12) / 11)):
        matrix = interpolation_matrix(12, 7, at)
        np.testing.assert_allclose(matrix @ values, np.interp(points, centres, values), atol=1e-6)
    layer = LinearResample1D(12)(np.tile(values[None, :, None], (2, 1, 3)).astype(np.float32))
    assert layer.shape == (2, 12, 3)
    with pytest.raises(ValueError, match="centres"):
        LinearResample1D(3, at="middle")


def test_attended_profiles_are_means_where_attention_is_even():
    features = np.random.default_rng(6).normal(size=(2, 6, 4, 3)).astype(np.float32)
    along_x, along_y = AttendedProfiles()([features, np.zeros((2, 3, 2, 1), np.float32)])
    np.testing.assert_allclose(along_x, features.mean(1), atol=1e-6)
    np.testing.assert_allclose(along_y, features.mean(2), atol=1e-6)


def test_attended_profiles_look_where_attention_points():
    features = np.random.default_rng(7).normal(size=(1, 4, 4, 2)).astype(np.float32)
    attention = np.full((1, 4, 4, 1), -1e4, np.float32)
    attention[0, 2, 1] = 0
    along_x, along_y = AttendedProfiles()([features, attention])
    np.testing.assert_allclose(along_x[0], features[0, 2], atol=1e-6)
    np.testing.assert_allclose(along_y[0], features[0, :, 1], atol=1e-6)


def test_region_crop_reads_whole_cells_exactly():
    # Over 4 x 4 cells, a box from cell edge to cell edge with a grid of its size is a slice.
    features = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8, 1)
    boxes = np.array([[2 / 8, 1 / 8, 6 / 8, 5 / 8], [0, 4 / 8, 4 / 8, 1]], np.float32)
    crops = RegionCrop(4)([features, boxes])
    np.testing.assert_allclose(crops[0], features[0, 1:5, 2:6], atol=1e-4)
    np.testing.assert_allclose(crops[1], features[1, 4:8, 0:4], atol=1e-4)


def test_region_crop_averages_where_its_grid_is_coarser():
    # One grid step over the whole map: the kernel is widened so that every cell counts. On a map
    # of ones the weights of a grid point inside sum to 1.
    ones = np.ones((1, 16, 16, 1), np.float32)
    inner = RegionCrop(4)([ones, np.array([[0, 0, 1, 1]], np.float32)])[0, 1:3, 1:3]
    np.testing.assert_allclose(inner, 1.0, atol=0.02)
    spike = np.zeros((1, 16, 16, 1), np.float32)
    spike[0, 7, 7] = 1
    whole = RegionCrop(4)([spike, np.array([[0, 0, 1, 1]], np.float32)])
    assert float(np.max(whole)) > 0


def test_region_crop_counts_outside_as_nothing_and_survives_an_empty_box():
    ones = np.ones((2, 8, 8, 1), np.float32)
    boxes = np.array([[0.5, 0.5, 0.5, 0.5], [0.9, 0.9, 1.0, 1.0]], np.float32)
    crops = ops.convert_to_numpy(RegionCrop(3, margin=4.0)([ones, boxes]))
    assert np.all(np.isfinite(crops))
    assert crops[1, 2, 2, 0] == 0.0


def test_region_crop_keeps_the_box_exact_under_half_precision():
    # bfloat16 would round .7012 by up to 1/512, which is 0.06 of these 32 cells.
    ramp = np.tile(np.arange(32, dtype=np.float32)[None, None, :, None], (1, 32, 1, 1))
    box = np.array([[0.2012, 0.2, 0.7012, 0.7]], np.float32)
    exact = RegionCrop(4)([ramp, box])
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    rounded = RegionCrop(4)([ramp, box])
    np.testing.assert_allclose(rounded, exact, atol=1e-4)


def test_class_head_sends_no_gradient_into_the_box():
    model = small(bbox_head="spatial")
    tf = pytest.importorskip("tensorflow")
    images = np.random.default_rng(8).integers(0, 256, (2, 40, 48, 1)).astype(np.float32)
    points = model.get_layer("bbox_points").trainable_variables[0].value
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.reduce_sum(outputs["softmax"][:, 0])
    assert tape.gradient(loss, points) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_shape": (12, 48, 1)}, "12 x 48 px is too small.*data.image_size"),
        ({"num_classes": 0}, "no class"),
    ],
)
def test_impossible_models_are_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        small(**changes)
