"""Reading a feature map on a grid laid over a box."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

Tensor = Any  # A Keras tensor; Keras has no public static type for it.


@keras.saving.register_keras_serializable(package="loc_keras")
class RegionCrop(layers.Layer):
    """Resamples what lies under a box to a grid of fixed size, bilinearly.

    The idea is RoIAlign (He et al. 2017, "Mask R-CNN", section 3) for one box an image. The
    weights of a grid point factor into weights along y and along x, so the crop is two small
    matrix products. Where a grid step spans several cells of the map, the bilinear kernel is
    widened to the step, so that no cell is passed over.

    Inputs are features (N, h, w, C) and boxes (N, 4), fractions of the image side; the result is
    (N, grid, grid, C). Outside the map features count as 0. The box gets no gradient through the
    crop: where the object is, is learned from the box losses alone.

    Args:
        grid: points along each side of the grid.
        margin: by which fraction the box is widened about its centre before.
    """

    def __init__(self, grid: int, margin: float = 0.0, **kwargs: Any) -> None:
        """Stores the geometry; see the class."""
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

    def compute_output_shape(
        self, input_shape: tuple[tuple[int | None, ...], tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Gives (N, grid, grid, C)."""
        features, _ = input_shape
        return (features[0], self.grid, self.grid, features[-1])

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        return {**super().get_config(), "grid": self.grid, "margin": self.margin}
