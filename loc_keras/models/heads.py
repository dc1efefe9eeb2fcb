"""The heads: what reads the box and the class from the body's feature maps, and their layers.

A new head is a builder here with a row in `BOX_HEADS` or `CLASS_HEADS`, and its name in
`config.model`.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from loc_keras.boxes import Tensor
from loc_keras.models.backbone import basic_block, conv_norm

SIDES_LAYER = "bbox_sides"
"""Name of the layer whose output holds the logits of the four sides, float32 (N, 4, bins)."""

HEAD_DTYPE = "float32"
"""Heads compute in float32 under every policy: half precision cannot tell neighbouring pixels of a
large image apart (bfloat16 has 1/256 between 1/2 and 1)."""

MOST_BINS = 128  # A side is never divided into more steps than this.

REGION_GRID = 14
REGION_MARGIN = 0.1


def distribution_head(maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """Reads a distribution over positions for each side, and from it the expected box.

    Every stage's map is summed along its rows and its columns, weighted by attention; the profiles
    of all stages meet at the finest resolution, and 1-D convolutions, so that one learned edge
    serves every place, give logits over positions. The integral over bins follows Li et al. 2020
    ("Generalized Focal Loss"). No weight depends on the image's size, and of the layers only the
    last resampling, which gives fewer bins for the smaller images of a training's beginning.
    """
    attention = layers.Conv2D(1, 1, name="bbox_attention", dtype=HEAD_DTYPE)(maps[-1])
    profiles = [
        AttendedProfiles(name=f"bbox_profiles{stage + 1}", dtype=HEAD_DTYPE)([features, attention])
        for stage, features in enumerate(maps)
    ]
    height, width = image_size
    bins = min(max(height, width), MOST_BINS) + 1
    along_x = _side_logits([x for x, _ in profiles], bins, "bbox_x")
    along_y = _side_logits([y for _, y in profiles], bins, "bbox_y")
    # (N, bins, 2) for x1, x2 and for y1, y2 to (N, bins, 4) as x1, y1, x2, y2.
    sides = layers.Concatenate(name="bbox_axes", dtype=HEAD_DTYPE)([along_x, along_y])
    sides = layers.Reshape((-1, 2, 2), name="bbox_pairs", dtype=HEAD_DTYPE)(sides)
    sides = layers.Permute((3, 2, 1), name="bbox_order", dtype=HEAD_DTYPE)(sides)
    sides = layers.Reshape((4, -1), name=SIDES_LAYER, dtype=HEAD_DTYPE)(sides)
    points = SideIntegral(name="bbox_integral", dtype=HEAD_DTYPE)(sides)
    return OrderedBox(name="bbox", dtype=HEAD_DTYPE)(points)


def spatial_head(maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """Keeps the last feature map: 1x1 convolution to 64 channels, flattened, 128 units."""
    del image_size
    x = layers.Conv2D(64, 1, activation="relu", name="bbox_reduce", dtype=HEAD_DTYPE)(maps[-1])
    x = layers.Flatten(name="bbox_flatten", dtype=HEAD_DTYPE)(x)
    x = layers.Dense(128, activation="relu", name="bbox_dense128", dtype=HEAD_DTYPE)(x)
    return _box_from_points(x)


def gap_mlp_head(maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """The head that the project began with: pooled features through 128, 64 and 32 units.

    Global average pooling forgets where a feature was, so it learns position slowly.
    """
    del image_size
    x = layers.GlobalAveragePooling2D(name="bbox_pool", dtype=HEAD_DTYPE)(maps[-1])
    for units in (128, 64, 32):
        x = layers.Dense(units, activation="relu", name=f"bbox_dense{units}", dtype=HEAD_DTYPE)(x)
    return _box_from_points(x)


BOX_HEADS: MappingProxyType[str, Callable[[Sequence[Tensor], tuple[int, int]], Tensor]]
BOX_HEADS = MappingProxyType(
    {"gap_mlp": gap_mlp_head, "spatial": spatial_head, "distribution": distribution_head}
)
"""The builders of box heads by name: feature maps and image (height, width) to boxes (N, 4)."""


def region_head(stem: Tensor, maps: Sequence[Tensor], box: Tensor) -> Tensor:
    """Looks at what lies under the predicted box, and at the whole image as well.

    The maps of the stem and of the first stage are cropped to the box, so that the object has the
    same place and size whatever it has in the image, and its class is learned from its shape alone;
    two residual blocks, of the body's kind and dtype, read the crop.
    """
    width = stem.shape[-1]
    crops = [
        RegionCrop(REGION_GRID, REGION_MARGIN, name=f"softmax_region{level}")([features, box])
        for level, features in enumerate((stem, maps[0]))
    ]
    region = layers.Concatenate(name="softmax_regions")(crops)
    region = conv_norm(region, 2 * width, 3, 1, "softmax_region_conv", "softmax_region_bn")
    region = layers.ReLU(name="softmax_region_relu")(region)
    region = basic_block(region, 2 * width, 1, "softmax_block1")
    region = basic_block(region, 4 * width, 2, "softmax_block2")
    region = layers.Flatten(name="softmax_flatten")(region)
    whole = layers.GlobalAveragePooling2D(name="softmax_pool", dtype="float32")(maps[-1])
    return layers.Concatenate(name="softmax_features", dtype="float32")([region, whole])


def pooled_head(stem: Tensor, maps: Sequence[Tensor], box: Tensor) -> Tensor:
    """The classic: global average pooling of the last map, (N, channels)."""
    del stem, box
    return layers.GlobalAveragePooling2D(name="softmax_pool", dtype="float32")(maps[-1])


CLASS_HEADS: MappingProxyType[str, Callable[[Tensor, Sequence[Tensor], Tensor], Tensor]]
CLASS_HEADS = MappingProxyType({"pooled": pooled_head, "region": region_head})
"""The builders of class features by name: stem map, stage maps and box to features (N, F)."""


def _side_logits(profiles: Sequence[Tensor], bins: int, name: str, channels: int = 32) -> Tensor:
    """Logits (N, bins, 2) of the lower and the upper side along one axis."""
    cells = profiles[0].shape[1]
    parts = []
    for stage, profile in enumerate(profiles, start=1):
        part = layers.Dense(
            channels, use_bias=False, name=f"{name}_lateral{stage}", dtype=HEAD_DTYPE
        )(profile)
        if part.shape[1] != cells:
            like = [part, profiles[0]]
            part = ResampleLike1D(name=f"{name}_up{stage}", dtype=HEAD_DTYPE)(like)
        parts.append(part)
    x = layers.Add(name=f"{name}_sum", dtype=HEAD_DTYPE)(parts)
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{name}_bn", dtype=HEAD_DTYPE)(
        x
    )
    x = layers.ReLU(name=f"{name}_relu", dtype=HEAD_DTYPE)(x)
    x = layers.Conv1D(
        2 * channels, 5, padding="same", activation="relu", name=f"{name}_conv1", dtype=HEAD_DTYPE
    )(x)
    # Each cell holds the values of several bins, side by side in its channels.
    steps = max(1, -(-(bins - 1) // cells))
    x = layers.Conv1D(steps * 8, 3, padding="same", name=f"{name}_conv2", dtype=HEAD_DTYPE)(x)
    x = layers.Reshape((-1, 8), name=f"{name}_unfold", dtype=HEAD_DTYPE)(x)
    x = LinearResample1D(bins, at="edges", name=f"{name}_bins", dtype=HEAD_DTYPE)(x)
    x = layers.ReLU(name=f"{name}_bins_relu", dtype=HEAD_DTYPE)(x)
    return layers.Conv1D(2, 5, padding="same", name=f"{name}_logits", dtype=HEAD_DTYPE)(x)


def _box_from_points(features: Tensor) -> Tensor:
    points = layers.Dense(4, activation="sigmoid", name="bbox_points", dtype=HEAD_DTYPE)(features)
    return OrderedBox(name="bbox", dtype=HEAD_DTYPE)(points)


@keras.saving.register_keras_serializable(package="loc_keras")
def certainty(logits: Tensor) -> Tensor:
    """The softmax (N, 1) of one class, without Keras's warning: 1 with gradient 0, or NaN."""
    return 0 * logits + 1


@keras.saving.register_keras_serializable(package="loc_keras")
class OrderedBox(layers.Layer):
    """Puts two points in [0, 1] in order: (N, 4) as (a, b, c, d) becomes (x1, y1, x2, y2).

    The smaller of a and c is x1, the larger x2, and so for y: no output can be inverted, and what
    comes in from [0, 1] stays there. The gradient is passed to whichever value was chosen.
    """

    def call(self, points: Tensor) -> Tensor:
        """Sorts the points, float (N, 4), along x and y."""
        first, second = points[..., :2], points[..., 2:]
        return ops.concatenate([ops.minimum(first, second), ops.maximum(first, second)], axis=-1)


@keras.saving.register_keras_serializable(package="loc_keras")
class SideIntegral(layers.Layer):
    """The expected position of each side under its distribution (Li et al. 2020, equation 5).

    Logits (N, 4, B) become positions (N, 4) in [0, 1]: bin k stands for the fraction k / (B - 1).
    """

    def call(self, logits: Tensor) -> Tensor:
        """Averages the bins' positions with their softmax probabilities as weights."""
        bins = logits.shape[-1]
        positions = ops.cast(np.linspace(0.0, 1.0, bins), logits.dtype)
        mean = ops.sum(ops.softmax(logits, axis=-1) * positions, axis=-1)
        # Rounding in the softmax may put the sum slightly above 1.
        return ops.clip(mean, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="loc_keras")
class LinearResample1D(layers.Layer):
    """Reads a sequence (N, L, C) at other positions by linear interpolation: (N, length, C).

    `at` is "centres" or "edges", see `interpolation_matrix`; positions outside the outermost cell
    centres take the value there.
    """

    def __init__(self, length: int, at: str = "centres", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if at not in ("centres", "edges"):
            raise ValueError(f"at must be 'centres' or 'edges', not {at!r}")
        self.length = length
        self.at = at

    def call(self, sequence: Tensor) -> Tensor:
        """Multiplies by the fixed matrix of interpolation weights."""
        return _resampled(sequence, self.length, self.at)

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        return {**super().get_config(), "length": self.length, "at": self.at}


@keras.saving.register_keras_serializable(package="loc_keras")
class ResampleLike1D(layers.Layer):
    """Reads a sequence (N, L, C) at the cell centres of another, (N, M, ...): (N, M, C).

    The length is that of the other at each call, for bodies that work on images of several sizes.
    """

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Interpolates the first of two sequences to the length of the second."""
        sequence, like = inputs
        if like.shape[1] == sequence.shape[1]:
            return sequence
        return _resampled(sequence, like.shape[1], "centres")


@keras.saving.register_keras_serializable(package="loc_keras")
class AttendedProfiles(layers.Layer):
    """Sums a feature map along its rows and along its columns with weights of attention.

    Inputs are a map (N, h, w, C) and attention logits (N, a, b, 1) from a deeper, coarser map.
    The softmax over all a * b cells says where the object is; its share of each row (column),
    resampled to h (w) cells, weighs the rows (columns) of the map. Background far from the object
    therefore does not blur the profiles, at the cost of two vectors a map and not a plane.

    Returns:
        The profile along x (N, w, C) and the profile along y (N, h, C).
    """

    def call(self, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Weighs and sums; see the class."""
        features, attention = inputs
        rows, columns = attention_marginals(attention)
        height, width = features.shape[1:3]
        row_weights = _resampled_weights(rows, height, features.dtype)
        column_weights = _resampled_weights(columns, width, features.dtype)
        channels = features.shape[3]
        # Plain matrix products: an einsum would transpose the maps first, at twice the time.
        flat_rows = ops.reshape(features, (-1, height, width * channels))
        along_x = ops.matmul(row_weights[:, None, :], flat_rows)
        along_y = ops.matmul(column_weights[:, None, None, :], features)
        return (
            ops.reshape(along_x, (-1, width, channels)),
            ops.reshape(along_y, (-1, height, channels)),
        )


@keras.saving.register_keras_serializable(package="loc_keras")
class RegionCrop(layers.Layer):
    """Resamples what lies under a box to a grid of fixed size, bilinearly.

    The idea is RoIAlign (He et al. 2017, "Mask R-CNN", section 3) for one box an image. The weights
    of a grid point factor into weights along y and along x, so the crop is two small matrix
    products. Where a grid step spans several cells of the map, the bilinear kernel is widened to
    the step, so that no cell is passed over.

    Inputs are features (N, h, w, C) and boxes (N, 4), fractions of the image side, widened by the
    fraction `margin` about their centres; the result is (N, grid, grid, C). Outside the map
    features count as 0. The box gets no gradient: where the object is, is learned from the box
    losses alone.
    """

    def __init__(self, grid: int, margin: float = 0.0, **kwargs: Any) -> None:
        # Autocast would round the boxes to half precision before they arrive here.
        super().__init__(autocast=False, **kwargs)
        self.grid = grid
        self.margin = margin

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Crops; see the class."""
        features, boxes = inputs
        boxes = ops.cast(ops.stop_gradient(boxes), "float32")
        height, width = features.shape[1:3]
        along_x = self._weights(boxes[:, 0], boxes[:, 2], width)
        along_y = self._weights(boxes[:, 1], boxes[:, 3], height)
        channels, dtype = features.shape[3], features.dtype
        # Plain matrix products: an einsum would transpose the maps first, at twice the time.
        flat_rows = ops.reshape(features, (-1, height, width * channels))
        rows = ops.matmul(ops.cast(along_y, dtype), flat_rows)
        rows = ops.reshape(rows, (-1, self.grid, width, channels))
        return ops.matmul(ops.cast(along_x, dtype)[:, None], rows)

    def _weights(self, low: Tensor, high: Tensor, cells: int) -> Tensor:
        """Weights (N, grid, cells) of the cells for each grid point between two edges (N,)."""
        half = (high - low) / 2 * (1 + self.margin)
        centre = (low + high) / 2
        steps = ops.cast((np.arange(self.grid) + 0.5) / self.grid * 2 - 1, "float32")
        points = centre[:, None] + half[:, None] * steps
        # Cell i has its centre at (i + 0.5) / cells; distances are in cells, or in grid steps
        # where these are longer.
        reach = ops.maximum(1.0, 2 * half * cells / self.grid)[:, None, None]
        cell_centres = ops.cast(np.arange(cells) + 0.5, "float32")
        distance = ops.abs(points[:, :, None] * cells - cell_centres) / reach
        return ops.maximum(1.0 - distance, 0.0) / reach

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        return {**super().get_config(), "grid": self.grid, "margin": self.margin}


def attention_marginals(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax over all cells of (N, a, b, 1), summed to the rows (N, a) and the columns (N, b)."""
    height, width = logits.shape[1:3]
    weights = ops.softmax(ops.reshape(ops.cast(logits, "float32"), (-1, height * width)), axis=-1)
    weights = ops.reshape(weights, (-1, height, width))
    return ops.sum(weights, axis=2), ops.sum(weights, axis=1)


def _resampled_weights(weights: Tensor, length: int, dtype: str) -> Tensor:
    """Spreads weights (N, L) over `length` cells, (N, length), again with sum 1."""
    matrix = interpolation_matrix(length, weights.shape[1], "centres")
    spread = ops.matmul(weights, ops.cast(matrix.T, weights.dtype))
    # Every row of the matrix has a positive entry and softmax is positive: no sum is 0.
    return ops.cast(spread / ops.sum(spread, axis=1, keepdims=True), dtype)


def _resampled(sequence: Tensor, length: int, at: str) -> Tensor:
    """Reads a sequence (N, L, C) at `length` positions, see `interpolation_matrix`."""
    matrix = interpolation_matrix(length, sequence.shape[1], at)
    return ops.matmul(ops.cast(matrix, sequence.dtype), sequence)


def interpolation_matrix(length: int, cells: int, at: str) -> np.ndarray:
    """Weights (length, cells), float32, that read a sequence of cells by linear interpolation.

    Cell i has its centre at (i + 0.5) / cells. Positions are (k + 0.5) / length for "centres", and
    k / (length - 1) for "edges", of a length of 2 or more. Rows sum to 1, none is negative.
    """
    steps = np.arange(length)
    positions = (steps + 0.5) / length if at == "centres" else steps / (length - 1)
    place = np.clip(positions * cells - 0.5, 0, cells - 1)
    left = np.floor(place).astype(int)
    right = np.minimum(left + 1, cells - 1)
    share = place - left
    matrix = np.zeros((length, cells), np.float32)
    np.add.at(matrix, (steps, left), 1 - share)
    np.add.at(matrix, (steps, right), share)
    return matrix
