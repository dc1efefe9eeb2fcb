"""What all bodies share: normalised pixels, feature maps, layers in groups, origin of weights."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from loc_keras.boxes import Tensor
from loc_keras.errors import ModelError

BODY_NAME = "body"
"""Name of the nested model that holds a body which is not one of our own ResNets."""

NORMALIZATION = "normalization"
"""Name of the layer that subtracts the mean and divides by the deviation."""

COLOURS = 3  # Channels of the images that all trained bodies take.
BLACK_AND_WHITE = (0.0, 255.0)  # Between these an affine normalisation is measured.

SAME_LEVEL = 0.7
"""A map whose side is more than this share of the one before stands on the same level: halving
gives at most 2/3 (3 cells become 2), an unpadded 3x3 convolution at least 5/7 (7 become 5)."""

HALF = 3
"""A first level is at half the image's side where the side shrinks less than this many times."""

_OWN = re.compile(r"(stem|stage(?P<stage>\d+))_")


@dataclass(frozen=True)
class WeightsOrigin:
    """Source and licence of weights that a body starts from.

    `body` and `weights` are as the config has them, `source` is in words, the licence an SPDX name
    or "unknown", the SHA-256 that of their file in hex, None where there is no one file.
    """

    body: str
    weights: str
    source: str
    licence: str
    sha256: str | None = None


@dataclass(frozen=True)
class Preprocessing:
    """Normalisation of raw pixels 0..255: (pixel - mean) / deviation, channel by channel.

    It comes with the weights: other pixels would be a different picture to the same network. Mean,
    0..255, and deviation, above 0, are in the order in which the body takes channels: blue, green,
    red with `reverse_channels`.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    reverse_channels: bool = False

    @property
    def variance(self) -> tuple[float, ...]:
        """Square of each deviation, in squared pixel values."""
        return tuple(deviation**2 for deviation in self.deviation)


@dataclass(frozen=True, eq=False)
class Body:
    """A network that turns normalised pixels into feature maps.

    Attributes:
        network: Named `body`, from (N, H, W, C) to the stem's map and those of the stages, from
            fine to coarse.
        preprocessing: What its weights expect; None where the pixels of the training images are
            measured: weights are random and the network does not normalise by itself.
    """

    network: keras.Model
    preprocessing: Preprocessing | None
    origin: WeightsOrigin

    def maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The map of the stem and those of the stages."""
        stem, *maps = self.network(images)
        return stem, maps


def cut_to_maps(network: keras.Model, name: str, pyramid: Sequence[Tensor] = ()) -> keras.Model:
    """The part of a network that gives feature maps, sharing its layers, as the model of `Body`.

    Its images have a fixed size. `pyramid` are maps from fine to coarse that it offers itself;
    without any they are found. ModelError, with `name`, where it has none.
    """
    found = feature_maps(network)
    if found is None:
        raise ModelError(
            f"{name} has no feature map that a box could be read from (a plain transformer, for "
            "example, has none); choose a convolutional body as model.backbone.name."
        )
    stem, maps = found
    if pyramid:
        # A stem's map at half the image's side is among them, or it is found as in any network.
        finer = [tensor for tensor in pyramid if tensor.shape[1] >= stem.shape[1]]
        stem = finer[-1] if finer and len(finer) < len(pyramid) else stem
        maps = [tensor for tensor in pyramid if tensor.shape[1] < stem.shape[1]] or maps
    return keras.Model(network.inputs[0], [stem, *maps], name=BODY_NAME)


def random_weights(body: str) -> WeightsOrigin:
    """The origin of a body that starts from random weights: nobody's."""
    return WeightsOrigin(body, "none", "random weights of this training", "none needed")


def refuse_channels(body: str, channels: int) -> None:
    """Raises ModelError where images have other channels than trained bodies take."""
    if channels != COLOURS:
        raise ModelError(
            f"the weights of {body} take images of {COLOURS} channels, not {channels}; set "
            f"data.channels: {COLOURS}, or model.backbone.weights: none."
        )


IMAGENET = Preprocessing(
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), deviation=(0.229 * 255, 0.224 * 255, 0.225 * 255)
)
"""Of the torchvision and timm weights: mean and deviation of ImageNet's RGB pixels, 0..255."""


def raw_pixels(channels: int) -> Preprocessing:
    """That of a body which normalises by itself: pixels 0..255 as they are."""
    return Preprocessing((0.0,) * channels, (1.0,) * channels)


def scaled_and_shifted(scale: Any, offset: Any) -> Preprocessing | None:
    """That of pixel * scale + offset (1 and 0 where None), as KerasHub's image converters have it.

    Each is one number or one a channel; None where a scale is not above 0.
    """
    scales = np.broadcast_to(1.0 if scale is None else scale, COLOURS)
    offsets = np.broadcast_to(0.0 if offset is None else offset, COLOURS)
    if not np.all(scales > 0):
        return None
    # From 0, so that no mean is a negative zero.
    means, deviations = 0.0 - offsets / scales, 1.0 / scales
    return Preprocessing(tuple(map(float, means)), tuple(map(float, deviations)))


def measured_preprocessing(function: Callable[[np.ndarray], np.ndarray]) -> Preprocessing | None:
    """How a function normalises float64 RGB pixels (N, H, W, 3), 0..255; None if not affine."""
    black, white = (
        np.asarray(function(np.full((1, 1, 1, 3), value)), np.float64)[0, 0, 0]
        for value in BLACK_AND_WHITE
    )
    if not np.all(white > black):
        return None
    deviation = (BLACK_AND_WHITE[1] - BLACK_AND_WHITE[0]) / (white - black)
    mean = -black * deviation
    colours = np.stack(np.meshgrid(*[np.linspace(0.0, 255.0, 6)] * 3), axis=-1).reshape(1, 6, 36, 3)
    given = np.asarray(function(colours.copy()), np.float64)
    for reverse in (False, True):
        taken = colours[..., ::-1] if reverse else colours
        if np.allclose(given, (taken - mean) / deviation, rtol=0, atol=1e-6 * np.ptp(given)):
            # Adding 0 turns the minus of a mean that is 0 into a plain 0.
            return Preprocessing(tuple((mean + 0.0).tolist()), tuple(deviation.tolist()), reverse)
    return None


def normalised(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Builds the layers that normalise raw pixels (N, H, W, C), in float32 under every policy."""
    if preprocessing.reverse_channels:
        images = ReverseChannels(name="reverse_channels", dtype="float32")(images)
    return layers.Normalization(
        mean=list(preprocessing.mean),
        variance=list(preprocessing.variance),
        name=NORMALIZATION,
        dtype="float32",
    )(images)


def preprocessing_of(localizer: keras.Model) -> Preprocessing:
    """Reads back how a localizer normalises its pixels."""
    config = localizer.get_layer(NORMALIZATION).get_config()
    return Preprocessing(
        mean=tuple(float(value) for value in np.ravel(config["mean"])),
        deviation=tuple(float(value) ** 0.5 for value in np.ravel(config["variance"])),
        reverse_channels=any(isinstance(layer, ReverseChannels) for layer in localizer.layers),
    )


@keras.saving.register_keras_serializable(package="loc_keras")
class ReverseChannels(layers.Layer):
    """Turns red, green, blue into blue, green, red: (N, H, W, C) with the last axis reversed."""

    def call(self, images: Tensor) -> Tensor:
        """Reverses the last axis."""
        return ops.flip(images, axis=-1)


def feature_maps(network: keras.Model) -> tuple[Tensor, list[Tensor]] | None:
    """The map of the stem and the last map before each shrinking, from fine to coarse.

    On each level it is the last tensor that all that follows is computed from; where branches run
    past every tensor of a level, it is the deepest of those with the most channels. The stem's is
    at half the image's side where there is such a level, else the first one of the finest level.
    Maps at the size of the image are left out. None where the network has no map at all.
    """
    on_level: dict[int, list[Cell]] = {}
    for cell in network_cells(network):
        if cell.size is not None and cell.level > 0:
            on_level.setdefault(cell.level, []).append(cell)
    if not on_level:
        return None
    cells = [on_level[level] for level in sorted(on_level)]
    maps = [_last_map(level) for level in cells]
    shrunk = network.input_shape[1] / cells[0][0].operation.output.shape[1]
    if shrunk < HALF and len(maps) > 1:
        return maps[0], maps[1:]
    first = next((cell for cell in cells[0] if cell.bottleneck), cells[0][0])
    return first.operation.output, maps


def body_groups(localizer: keras.Model) -> list[list[keras.layers.Layer]]:
    """The body's layers in groups, from the pixels to the heads; each layer once, none within one.

    Groups are the stem and the stages of our ResNets; in another body one ends where the map
    shrinks.
    """
    nested = [layer for layer in localizer.layers if layer.name == BODY_NAME]
    if nested:
        return _groups_by_level(nested[0])
    groups: dict[int, list[keras.layers.Layer]] = {}
    for layer in localizer.layers:
        match = _OWN.match(layer.name)
        if match:
            groups.setdefault(int(match["stage"] or 0), []).append(layer)
    return [groups[stage] for stage in sorted(groups)]


def body_layers(localizer: keras.Model) -> list[keras.layers.Layer]:
    """All layers of the body, from the pixels to the heads."""
    return [layer for group in body_groups(localizer) for layer in group]


@dataclass(frozen=True)
class Cell:
    """One operation of a network.

    Attributes:
        size: Height and width of its feature map; None where it gives none of its own: no map, one
            that is only padded or cut, or one that is later spread over a larger map, as the
            weights of "squeeze and excite" are.
        level: How often maps have shrunk up to here; 0 at the size of the image.
        depth: Length of the longest way from the image to here.
        bottleneck: Whether all that comes later is computed from this one tensor.
    """

    operation: Any
    size: tuple[int, int] | None
    level: int
    depth: int
    bottleneck: bool


def network_cells(network: keras.Model) -> list[Cell]:
    """Reads the operations of a functional network of fixed-size images in topological order."""
    operations = list(network.operations)
    sources = _sources(operations)
    sizes = _own_sizes(operations, sources)
    ranks = _ranks({size for size in sizes if size is not None})
    levels: list[int] = []
    depths: list[int] = []
    for place, size in enumerate(sizes):
        above = max((levels[source] for source in sources[place]), default=0)
        levels.append(above if size is None else ranks[size])
        depths.append(1 + max((depths[source] for source in sources[place]), default=-1))
    necks = _bottlenecks(sources)
    return [Cell(*parts) for parts in zip(operations, sizes, levels, depths, necks, strict=True)]


def _last_map(cells: list[Cell]) -> Tensor:
    necks = [cell for cell in cells if cell.bottleneck]
    if necks:
        return necks[-1].operation.output
    # As in NASNet, whose cells also take what the cell before them took.
    return max(
        cells, key=lambda cell: (cell.operation.output.shape[-1], cell.depth)
    ).operation.output


def _sources(operations: list[Any]) -> list[list[int]]:
    maker = {
        id(tensor): place
        for place, operation in enumerate(operations)
        for tensor in keras.tree.flatten(operation.output)
    }
    return [
        []
        if isinstance(operation, layers.InputLayer)
        else [maker[id(tensor)] for tensor in keras.tree.flatten(operation.input)]
        for operation in operations
    ]


def _own_sizes(operations: list[Any], sources: list[list[int]]) -> list[tuple[int, int] | None]:
    sizes = [_map_size(operation) for operation in operations]
    # From the end: the largest map that is computed from each operation's.
    reach = [0] * len(operations)
    for place in reversed(range(len(operations))):
        size = sizes[place]
        reach[place] = max(reach[place], math.prod(size) if size else 0)
        for source in sources[place]:
            reach[source] = max(reach[source], reach[place])
    return [
        size if size is not None and math.prod(size) >= most else None
        for size, most in zip(sizes, reach, strict=True)
    ]


def _map_size(operation: Any) -> tuple[int, int] | None:
    shape: tuple[int, ...] = getattr(operation.output, "shape", ())
    if len(shape) != 4 or isinstance(operation, (layers.ZeroPadding2D, layers.Cropping2D)):
        return None
    return shape[1], shape[2]


def _ranks(sizes: set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """The level of each size, with sizes that hardly differ on one level."""
    ranks: dict[tuple[int, int], int] = {}
    level, before = 0, None
    for size in sorted(sizes, key=math.prod, reverse=True):
        if before is not None:
            share = math.sqrt(math.prod(size) / math.prod(before))
            level += share <= SAME_LEVEL
        ranks[size] = level
        before = size
    return ranks


def _bottlenecks(sources: list[list[int]]) -> list[bool]:
    """Whether no connection leads past an operation, from one before it to one after it."""
    last_use = [0] * len(sources)
    for place, before in enumerate(sources):
        for source in before:
            last_use[source] = place
    necks, open_until = [], 0
    for place, use in enumerate(last_use):
        necks.append(open_until <= place)
        open_until = max(open_until, use)
    return necks


def _groups_by_level(body: keras.Model) -> list[list[keras.layers.Layer]]:
    groups: dict[int, list[keras.layers.Layer]] = {}
    for cell in network_cells(body):
        # What stands at the size of the image belongs to the first group, as our stem does.
        groups.setdefault(max(cell.level, 1), []).extend(_leaves(cell.operation))
    return [groups[level] for level in sorted(groups)]


def _leaves(operation: Any) -> list[keras.layers.Layer]:
    if not isinstance(operation, keras.layers.Layer):
        return []
    if isinstance(operation, keras.Model):
        parts = operation.layers
    else:
        # Blocks of KerasHub are layers of layers, and Keras lists these nowhere in public.
        parts = list(operation._flatten_layers(include_self=False, recursive=False))
        held = {id(weight) for part in parts for weight in part.weights}
        # One that has weights of its own beside those of its parts stays whole.
        if any(id(weight) not in held for weight in operation.weights):
            parts = []
    return [leaf for part in parts for leaf in _leaves(part)] or [operation]
