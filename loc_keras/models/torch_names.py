"""Which tensor of a PyTorch ResNet belongs to which weight of ours.

Names and shapes are those of torchvision's `resnet18`, `resnet34` and `resnet50`; timm has the
same ones for its networks of these names.
"""

from dataclasses import dataclass

from loc_keras.models.backbone import BLOCK_KINDS, EXPANSION, STAGE_SIZES

SHARED_WIDTH = 64
"""Width of the networks whose weights are shared."""

SHARED_STEM = "imagenet"
"""Their stem."""

SHARED_CHANNELS = 3
"""Channels of the images they take: red, green, blue."""

_NORM_SLOTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class TorchTensor:
    """One tensor of a state dict, and its place in our network.

    Attributes:
        layer: name of our layer.
        slot: index among that layer's weights.
        shape: shape in PyTorch; of a convolution (out, in, height, width), which is (height,
            width, in, out) in Keras.
    """

    layer: str
    slot: int
    shape: tuple[int, ...]


def torch_tensors(body: str) -> dict[str, TorchTensor]:
    """All tensors of a body by their PyTorch name, without the classifier `fc`.

    Args:
        body: a key of `backbone.STAGE_SIZES`.
    """
    found = _conv("conv1", "stem_conv", (SHARED_WIDTH, SHARED_CHANNELS, 7, 7))
    found |= _norm("bn1", "stem_bn", SHARED_WIDTH)
    channels = SHARED_WIDTH
    for stage, blocks in enumerate(STAGE_SIZES[body]):
        filters = SHARED_WIDTH * 2**stage
        for block in range(blocks):
            theirs = f"layer{stage + 1}.{block}"
            ours = f"stage{stage + 1}_block{block + 1}"
            shapes = _block_shapes(BLOCK_KINDS[body], channels, filters)
            for index, shape in enumerate(shapes, start=1):
                found |= _conv(f"{theirs}.conv{index}", f"{ours}_conv{index}", shape)
                found |= _norm(f"{theirs}.bn{index}", f"{ours}_bn{index}", shape[0])
            out = shapes[-1][0]
            if block == 0 and (stage > 0 or out != channels):
                shortcut = (out, channels, 1, 1)
                found |= _conv(f"{theirs}.downsample.0", f"{ours}_shortcut_conv", shortcut)
                found |= _norm(f"{theirs}.downsample.1", f"{ours}_shortcut_bn", out)
            channels = out
    return found


def _block_shapes(kind: str, channels: int, filters: int) -> list[tuple[int, ...]]:
    """Shapes of a block's convolutions in PyTorch's order."""
    if kind == "bottleneck":
        return [
            (filters, channels, 1, 1),
            (filters, filters, 3, 3),
            (EXPANSION * filters, filters, 1, 1),
        ]
    return [(filters, channels, 3, 3), (filters, filters, 3, 3)]


def _conv(theirs: str, ours: str, shape: tuple[int, ...]) -> dict[str, TorchTensor]:
    return {f"{theirs}.weight": TorchTensor(ours, 0, shape)}


def _norm(theirs: str, ours: str, channels: int) -> dict[str, TorchTensor]:
    return {
        f"{theirs}.{name}": TorchTensor(ours, slot, (channels,))
        for slot, name in enumerate(_NORM_SLOTS)
    }
