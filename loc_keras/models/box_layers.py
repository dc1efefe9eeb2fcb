"""The layers that turn features into a box that is in order and inside the image."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

Tensor = Any  # A Keras tensor; Keras has no public static type for it.


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

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Keeps the shape."""
        return input_shape


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
        # Rounding in the softmax may put the sum a hair above 1.
        return ops.clip(mean, 0.0, 1.0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Drops the axis of bins."""
        return input_shape[:-1]


@keras.saving.register_keras_serializable(package="loc_keras")
class LinearResample1D(layers.Layer):
    """Reads a sequence (N, L, C) at other positions by linear interpolation: (N, length, C).

    Element i of the input stands at the fraction (i + 0.5) / L, the centre of its cell.

    Args:
        length: number of positions read.
        at: "centres" reads at (k + 0.5) / length, "edges" at k / (length - 1); positions outside
            the outermost cell centres take the value there.
    """

    def __init__(self, length: int, at: str = "centres", **kwargs: Any) -> None:
        """Stores the geometry; see the class."""
        super().__init__(**kwargs)
        if at not in ("centres", "edges"):
            raise ValueError(f"at must be 'centres' or 'edges', not {at!r}")
        self.length = length
        self.at = at

    def call(self, sequence: Tensor) -> Tensor:
        """Multiplies by the fixed matrix of interpolation weights."""
        matrix = interpolation_matrix(self.length, sequence.shape[1], self.at)
        return ops.matmul(ops.cast(matrix, sequence.dtype), sequence)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Replaces the length."""
        return (input_shape[0], self.length, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        return {**super().get_config(), "length": self.length, "at": self.at}


@keras.saving.register_keras_serializable(package="loc_keras")
class ResampleLike1D(layers.Layer):
    """Reads a sequence (N, L, C) at the cell centres of another, (N, M, ...): (N, M, C).

    The length is that of the other sequence at each call, so that a network whose body works on
    images of several sizes can use it on each.
    """

    def call(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Interpolates the first of two sequences to the length of the second."""
        sequence, like = inputs
        length, cells = like.shape[1], sequence.shape[1]
        if length == cells:
            return sequence
        matrix = interpolation_matrix(length, cells, "centres")
        return ops.matmul(ops.cast(matrix, sequence.dtype), sequence)

    def compute_output_shape(
        self, input_shape: tuple[tuple[int | None, ...], tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Takes the length of the second."""
        sequence, like = input_shape
        return (sequence[0], like[1], sequence[2])


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

    def compute_output_shape(
        self, input_shape: tuple[tuple[int | None, ...], tuple[int | None, ...]]
    ) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
        """Gives the shapes of both profiles."""
        batch, height, width, channels = input_shape[0]
        return (batch, width, channels), (batch, height, channels)


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


def interpolation_matrix(length: int, cells: int, at: str) -> np.ndarray:
    """Weights (length, cells), float32, that read a sequence of cells by linear interpolation.

    Args:
        length: number of positions read; at least 2 for "edges".
        cells: length of the sequence; cell i has its centre at (i + 0.5) / cells.
        at: "centres" for the positions (k + 0.5) / length, "edges" for k / (length - 1).

    Returns:
        A matrix with non-negative rows that sum to 1.
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
