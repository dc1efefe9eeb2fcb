"""Finds the feature maps of any convolutional network from the graph of its layers."""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

SAME_LEVEL = 0.7
"""A map whose side is more than this share of the one before stands on the same level: halving
gives at most 2/3 (3 cells become 2), an unpadded 3x3 convolution at least 5/7 (7 become 5)."""

HALF = 3
"""A first level is at half the image's side where the side shrinks less than this many times."""


@dataclass(frozen=True)
class Cell:
    """One operation of a network.

    Attributes:
        operation: The layer or operation.
        size: Height and width of its feature map; None where it gives none of its own: no map, a
            map that is only padded or cut, or one that is later spread over a larger map, as the
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
    """Reads the operations of a functional network in topological order.

    Args:
        network: Takes one batch of images of a fixed size, (N, H, W, C).
    """
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


def feature_maps(network: keras.Model) -> tuple[Tensor, list[Tensor]] | None:
    """The map of the stem and the last map before each shrinking, from fine to coarse.

    On each level it is the last tensor that all that follows is computed from; where branches run
    past every tensor of a level, it is the deepest of those with the most channels.

    Args:
        network: Takes one batch of images of a fixed size, (N, H, W, C).

    Returns:
        The stem's map, at half the image's side where the network has such a level and else the
        first one of its finest level, and the maps of the coarser levels. Maps at the size of the
        image are left out. None where the network has no map at all.
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


def _last_map(cells: list[Cell]) -> Tensor:
    necks = [cell for cell in cells if cell.bottleneck]
    if necks:
        return necks[-1].operation.output
    # As in NASNet, whose cells also take what the cell before them took.
    return max(
        cells, key=lambda cell: (cell.operation.output.shape[-1], cell.depth)
    ).operation.output


def _sources(operations: list[Any]) -> list[list[int]]:
    """For each operation the places of those whose tensors it takes."""
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
