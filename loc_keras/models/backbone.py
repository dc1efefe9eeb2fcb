"""The ResNet bodies (He et al. 2016, "Deep Residual Learning for Image Recognition").

Their arithmetic is that of the widely shared PyTorch weights: the stride on the first convolution
of a basic block and on the 3x3 one of a bottleneck ("v1.5"), symmetric zero padding before strided
convolutions (Keras's own "same" padding is asymmetric there), no convolution bias, batch
normalisation with epsilon 1e-5 and momentum 0.9. With three input channels and width 64, ResNet18
has 11,176,512 trainable parameters, ResNet34 21,284,672 and ResNet50 23,508,032.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
from keras import layers, ops

from loc_keras.boxes import Tensor


@keras.saving.register_keras_serializable(package="loc_keras")
class StochasticDepth(layers.Layer):
    """Leaves a residual branch out for some images of a batch (Huang et al. 2016, equation 2).

    In training each image's branch (N, h, w, C) is multiplied by 0 with probability `rate`, above 0
    and below 1, else by 1 / (1 - rate), so that its mean stays. Otherwise the branch passes
    unchanged. The paper scales at inference instead; the two train the same network up to a
    constant. Without a `seed` Keras's global one is taken.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < rate < 1:
            raise ValueError(f"rate must be above 0 and below 1, not {rate!r}")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, branch: Tensor, training: bool = False) -> Tensor:
        """Draws for each image whether its branch counts."""
        if not training:
            return branch
        shape = (ops.shape(branch)[0], *(1,) * (len(branch.shape) - 1))
        # Drawn in float32: half precision would round the rate.
        drawn = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        kept = ops.cast(drawn >= self.rate, branch.dtype)
        return branch * kept / (1 - self.rate)

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


class ResNet(NamedTuple):
    """One of the bodies: blocks in each stage, key of `BLOCKS`, KerasHub's name of its weights."""

    stage_sizes: tuple[int, ...]
    block_kind: str
    preset: str


RESNETS = MappingProxyType(
    {
        "resnet18": ResNet((2, 2, 2, 2), "basic", "resnet_18_imagenet"),
        # KerasHub has no built-in ResNet34, but converts timm's.
        "resnet34": ResNet((3, 4, 6, 3), "basic", "hf://timm/resnet34.a1_in1k"),
        "resnet50": ResNet((3, 4, 6, 3), "bottleneck", "resnet_50_imagenet"),
    }
)
"""The bodies by name, as `model.backbone.name` has it."""

EXPANSION = 4  # A bottleneck gives this many times the channels of its 3x3 convolution.

STEM_KERNELS = MappingProxyType({"imagenet": 7, "small": 3})
"""Side of the stem's convolution, by the name of the stem."""


def resnet_maps(
    images: Tensor,
    *,
    stage_sizes: Sequence[int],
    width: int,
    stem: str,
    block_kind: str = "basic",
    stochastic_depth: float = 0.0,
) -> tuple[Tensor, list[Tensor]]:
    """Builds the body and gives its feature maps.

    Args:
        images: normalised images, float (N, H, W, C).
        stage_sizes: blocks in each stage, e.g. (2, 2, 2, 2) for ResNet18.
        width: channels of the first stage's 3x3 convolutions; each later stage has twice as many.
        stem: "imagenet" (7x7 convolution of stride 2, then max pooling of stride 2) or "small" (3x3
            convolution of stride 2, no pooling) for images of some 32 to 96 px.
        block_kind: a key of `BLOCKS`.
        stochastic_depth: probability that the last block is skipped for an image in training, 0 to
            below 1. That of block l of L is l / L times as much (Huang et al. 2016, equation 4).

    Returns:
        The map of the stem's convolution, (N, H / 2, W / 2, width), and that at the end of each
            stage, (N, h, w, width * 2**stage), with bottlenecks 4 times as many channels. With the
            "imagenet" stem the first stage stands at a quarter of the image side, with "small" at a
            half; each later one at half of the last.
    """
    block = BLOCKS[block_kind]
    maps = []
    x = conv_norm(images, width, STEM_KERNELS[stem], 2, "stem_conv", "stem_bn")
    x = stem_map = layers.ReLU(name="stem_relu")(x)
    if stem == "imagenet":
        # After a ReLU, padding with zeros equals the padding with -inf that max pooling asks for.
        x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    done, total = 0, sum(stage_sizes)
    for stage, count in enumerate(stage_sizes):
        for index in range(count):
            done += 1
            x = block(
                x,
                width * 2**stage,
                2 if stage > 0 and index == 0 else 1,
                f"stage{stage + 1}_block{index + 1}",
                drop=stochastic_depth * done / total,
            )
        maps.append(x)
    return stem_map, maps


def basic_block(x: Tensor, filters: int, stride: int, name: str, *, drop: float = 0.0) -> Tensor:
    """Adds two 3x3 convolutions to their input (He et al. 2016, figure 5 left; option B)."""
    branch = conv_norm(x, filters, 3, stride, f"{name}_conv1", f"{name}_bn1")
    branch = layers.ReLU(name=f"{name}_relu1")(branch)
    branch = conv_norm(branch, filters, 3, 1, f"{name}_conv2", f"{name}_bn2")
    return layers.ReLU(name=f"{name}_relu2")(_joined(x, branch, stride, name, drop))


def bottleneck_block(
    x: Tensor, filters: int, stride: int, name: str, *, drop: float = 0.0
) -> Tensor:
    """Adds 1x1, 3x3 and 1x1 convolutions to their input (He et al. 2016, figure 5 right).

    The last has 4 * filters channels. The stride is on the 3x3 convolution, as in the shared
    weights, where the paper has it on the first.
    """
    branch = conv_norm(x, filters, 1, 1, f"{name}_conv1", f"{name}_bn1")
    branch = layers.ReLU(name=f"{name}_relu1")(branch)
    branch = conv_norm(branch, filters, 3, stride, f"{name}_conv2", f"{name}_bn2")
    branch = layers.ReLU(name=f"{name}_relu2")(branch)
    branch = conv_norm(branch, EXPANSION * filters, 1, 1, f"{name}_conv3", f"{name}_bn3")
    return layers.ReLU(name=f"{name}_relu3")(_joined(x, branch, stride, name, drop))


BLOCKS: MappingProxyType[str, Callable[..., Tensor]] = MappingProxyType(
    {"basic": basic_block, "bottleneck": bottleneck_block}
)
"""The builders of residual blocks by name: map, filters, stride and layer name to a map."""


def _joined(x: Tensor, branch: Tensor, stride: int, name: str, drop: float) -> Tensor:
    """The sum of a block's branch and its input, which is projected where shapes differ."""
    filters = branch.shape[-1]
    if drop:
        branch = StochasticDepth(drop, name=f"{name}_drop")(branch)
    if stride != 1 or x.shape[-1] != filters:
        x = conv_norm(x, filters, 1, stride, f"{name}_shortcut_conv", f"{name}_shortcut_bn")
    return layers.Add(name=f"{name}_add")([branch, x])


def conv_norm(
    x: Tensor, filters: int, kernel: int, stride: int, conv_name: str, norm_name: str
) -> Tensor:
    """A convolution without bias, then batch normalisation."""
    # At stride 1 "same" is symmetric already; a separate padding layer costs memory traffic.
    pad = stride > 1 and kernel > 1
    if pad:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{conv_name}_pad")(x)
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="valid" if pad else "same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal"),
        name=conv_name,
    )(x)
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=norm_name)(x)
