"""The ResNet body (He et al. 2016, "Deep Residual Learning for Image Recognition").

Its arithmetic is that of the widely shared PyTorch weights: basic blocks with the stride on their
first convolution, symmetric zero padding before strided convolutions (Keras's own "same" padding
is asymmetric there), no convolution bias, batch normalisation with epsilon 1e-5 and momentum 0.9.
With three input channels and width 64 it has 11,176,512 trainable parameters.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import keras
from keras import layers

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

STAGE_SIZES = MappingProxyType({"resnet18": (2, 2, 2, 2)})
"""Blocks in each of the four stages, by the name of the body."""

STEM_KERNELS = MappingProxyType({"imagenet": 7, "small": 3})
"""Side of the stem's convolution, by the name of the stem."""

_BATCH_NORM = MappingProxyType({"epsilon": 1e-5, "momentum": 0.9})


def resnet_maps(
    images: Tensor, *, stage_sizes: Sequence[int], width: int, stem: str
) -> tuple[Tensor, list[Tensor]]:
    """Builds the body and gives its feature maps.

    Args:
        images: normalised images, float (N, H, W, C).
        stage_sizes: basic blocks in each stage, e.g. (2, 2, 2, 2) for ResNet18.
        width: channels of the first stage; each later stage has twice those of the one before.
        stem: "imagenet" (7x7 convolution of stride 2, then max pooling of stride 2) or "small"
            (3x3 convolution of stride 2, no pooling) for images of some 32 to 96 px.

    Returns:
        The map of the stem's convolution, (N, H / 2, W / 2, width), and that at the end of each
        stage, (N, h, w, width * 2**stage). With the "imagenet" stem the first stage stands at a
        quarter of the image side, with "small" at a half; each later one at half of the last.
    """
    maps = []
    stem_map = _stem_convolution(images, width, STEM_KERNELS[stem])
    x = _stem_pooling(stem_map) if stem == "imagenet" else stem_map
    for stage, blocks in enumerate(stage_sizes):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = basic_block(x, width * 2**stage, stride, f"stage{stage + 1}_block{block + 1}")
        maps.append(x)
    return stem_map, maps


def basic_block(x: Tensor, filters: int, stride: int, name: str) -> Tensor:
    """Adds two 3x3 convolutions to their input (He et al. 2016, figure 5 left; option B)."""
    shortcut = x
    x = conv_norm(x, filters, 3, stride, f"{name}_conv1", f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = conv_norm(x, filters, 3, 1, f"{name}_conv2", f"{name}_bn2")
    if stride != 1 or shortcut.shape[-1] != filters:
        shortcut = conv_norm(
            shortcut, filters, 1, stride, f"{name}_shortcut_conv", f"{name}_shortcut_bn"
        )
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def conv_norm(
    x: Tensor, filters: int, kernel: int, stride: int, conv_name: str, norm_name: str
) -> Tensor:
    """A convolution without bias, then batch normalisation."""
    x = _convolution(x, filters, kernel, stride, conv_name)
    return layers.BatchNormalization(**_BATCH_NORM, name=norm_name)(x)


def _convolution(x: Tensor, filters: int, kernel: int, stride: int, name: str) -> Tensor:
    # At stride 1 "same" is symmetric already; a separate padding layer costs memory traffic.
    pad = stride > 1 and kernel > 1
    if pad:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="valid" if pad else "same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal"),
        name=name,
    )(x)


def _stem_convolution(x: Tensor, width: int, kernel: int) -> Tensor:
    return layers.ReLU(name="stem_relu")(conv_norm(x, width, kernel, 2, "stem_conv", "stem_bn"))


def _stem_pooling(x: Tensor) -> Tensor:
    # After a ReLU, padding with zeros equals the padding with -inf that max pooling asks for.
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
