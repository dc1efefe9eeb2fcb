"""The ResNet bodies: parameters that are known, shapes, and stochastic depth."""

import keras
import numpy as np
import pytest
from keras import ops

import loc_keras
from loc_keras.config import schema as config_model
from loc_keras.models.backbone import RESNETS, StochasticDepth, resnet_maps


def body(name: str, side: int = 64, width: int = 64, **changes) -> keras.Model:
    images = keras.Input((side, side, 3))
    _, maps = resnet_maps(
        images,
        stage_sizes=RESNETS[name].stage_sizes,
        width=width,
        stem="imagenet",
        block_kind=RESNETS[name].block_kind,
        **changes,
    )
    return keras.Model(images, maps)


def test_the_config_names_every_body():
    assert set(RESNETS) == set(config_model.RESNETS)


@pytest.mark.parametrize(
    ("name", "whole", "features"),
    # Parameters of torchvision's networks as its documentation gives them, with their last layer
    # of 1000 classes: a weight for each feature and a bias.
    [("resnet34", 21_797_672, 512), ("resnet50", 25_557_032, 2048)],
)
def test_bodies_have_the_known_number_of_parameters(name, whole, features):
    found = sum(int(np.prod(weight.shape)) for weight in body(name).trainable_weights)
    assert found == whole - (features * 1000 + 1000)


def test_bottlenecks_widen_four_times_and_keep_the_sides():
    # 100 -> 50 -> 25 -> 13 -> 7 -> 4 with symmetric padding, as in the other bodies.
    maps = body("resnet50", side=100, width=4).outputs
    assert [m.shape[1] for m in maps] == [25, 13, 7, 4]
    assert [m.shape[-1] for m in maps] == [16, 32, 64, 128]


def test_a_bottleneck_has_its_stride_on_the_3x3_convolution():
    # "v1.5": the first 1x1 convolution sees every pixel.
    model = body("resnet50", width=4)
    strides = [model.get_layer(f"stage2_block1_conv{part}").strides[0] for part in (1, 2, 3)]
    assert strides == [1, 2, 1]


def test_stochastic_depth_rises_with_depth_and_is_absent_when_off():
    # Of 8 blocks, block l is left out with probability 0.4 * l / 8 (Huang et al. 2016, eq. 4).
    names = [f"stage{s}_block{b}_drop" for s in (1, 2, 3, 4) for b in (1, 2)]
    on = body("resnet18", width=4, stochastic_depth=0.4)
    rates = [on.get_layer(name).rate for name in names]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
    off = body("resnet18", width=4)
    assert not [layer for layer in off.layers if isinstance(layer, StochasticDepth)]


def test_stochastic_depth_leaves_out_whole_images_and_keeps_the_mean():
    layer = StochasticDepth(0.25, seed=0)
    branch = np.random.default_rng(1).normal(size=(4000, 2, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(layer(branch), branch)
    drawn = ops.convert_to_numpy(layer(branch, training=True))
    left_out = (drawn == 0).all(axis=(1, 2, 3))
    np.testing.assert_allclose(drawn[~left_out], branch[~left_out] / 0.75, rtol=1e-6)
    # The share of 4000 draws has a standard deviation of 0.007.
    assert left_out.mean() == pytest.approx(0.25, abs=0.03)
    other = ops.convert_to_numpy(layer(branch, training=True))
    assert (left_out != (other == 0).all(axis=(1, 2, 3))).any()


def test_stochastic_depth_is_saved_with_the_model(tmp_path):
    model = loc_keras.build_localizer(
        image_shape=(32, 32, 1),
        num_classes=2,
        width=4,
        stem="small",
        bbox_head="gap_mlp",
        class_head="pooled",
        stochastic_depth=0.2,
    )
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_layer("stage4_block2_drop").rate == pytest.approx(0.2)
    images = np.full((1, 32, 32, 1), 99, np.float32)
    one, other = model(images, training=False), again(images, training=False)
    np.testing.assert_allclose(one["softmax"], other["softmax"], atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_rates_that_are_no_probability_are_refused(rate):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        StochasticDepth(rate)
