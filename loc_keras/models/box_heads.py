"""The heads that read a box from the body's feature maps, as variants of one builder."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from keras import layers

from loc_keras.models.box_layers import (
    AttendedProfiles,
    LinearResample1D,
    OrderedBox,
    SideIntegral,
)

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

SIDES_LAYER = "bbox_sides"
"""Name of the layer whose output holds the logits of the four sides, float32 (N, 4, bins)."""

MOST_BINS = 128
"""A side is never divided into more steps than this."""


def gap_mlp_head(maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """The head that the project began with: pooled features through 128, 64 and 32 units.

    Global average pooling forgets where a feature was, so it learns position slowly.
    """
    del image_size
    x = layers.GlobalAveragePooling2D(name="bbox_pool")(maps[-1])
    for units in (128, 64, 32):
        x = layers.Dense(units, activation="relu", name=f"bbox_dense{units}")(x)
    return _box_from_points(x)


def spatial_head(maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """Keeps the last feature map: 1x1 convolution to 64 channels, flattened, 128 units."""
    del image_size
    x = layers.Conv2D(64, 1, activation="relu", name="bbox_reduce")(maps[-1])
    x = layers.Flatten(name="bbox_flatten")(x)
    x = layers.Dense(128, activation="relu", name="bbox_dense128")(x)
    return _box_from_points(x)


def distribution_head(maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """Reads a distribution over positions for each side, and from it the expected box.

    Every stage's map is summed along its rows and its columns, weighted by attention; the profiles
    of all stages meet at the finest resolution, and 1-D convolutions give logits over positions.
    Convolutions move with the object, so one learned edge serves every place in the image.
    The integral over bins follows Li et al. 2020 ("Generalized Focal Loss").
    """
    attention = layers.Conv2D(1, 1, name="bbox_attention", dtype="float32")(maps[-1])
    profiles = [
        AttendedProfiles(name=f"bbox_profiles{stage + 1}")([features, attention])
        for stage, features in enumerate(maps)
    ]
    height, width = image_size
    bins = min(max(height, width), MOST_BINS) + 1
    along_x = _side_logits([x for x, _ in profiles], bins, "bbox_x")
    along_y = _side_logits([y for _, y in profiles], bins, "bbox_y")
    # (N, bins, 2) for x1, x2 and for y1, y2 to (N, bins, 4) as x1, y1, x2, y2.
    sides = layers.Concatenate(name="bbox_axes")([along_x, along_y])
    sides = layers.Reshape((bins, 2, 2), name="bbox_pairs", dtype="float32")(sides)
    sides = layers.Permute((3, 2, 1), name="bbox_order", dtype="float32")(sides)
    sides = layers.Reshape((4, bins), name=SIDES_LAYER, dtype="float32")(sides)
    points = SideIntegral(name="bbox_integral", dtype="float32")(sides)
    return OrderedBox(name="bbox", dtype="float32")(points)


def _side_logits(profiles: Sequence[Tensor], bins: int, name: str, channels: int = 32) -> Tensor:
    """Logits (N, bins, 2) of the lower and the upper side along one axis."""
    cells = profiles[0].shape[1]
    parts = []
    for stage, profile in enumerate(profiles, start=1):
        part = layers.Dense(channels, use_bias=False, name=f"{name}_lateral{stage}")(profile)
        if part.shape[1] != cells:
            part = LinearResample1D(cells, name=f"{name}_up{stage}")(part)
        parts.append(part)
    x = layers.Add(name=f"{name}_sum")(parts)
    x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{name}_bn")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.Conv1D(2 * channels, 5, padding="same", activation="relu", name=f"{name}_conv1")(x)
    # Each cell speaks for several bins: their values stand in its channels, side by side.
    steps = max(1, -(-(bins - 1) // cells))
    x = layers.Conv1D(steps * 8, 3, padding="same", name=f"{name}_conv2")(x)
    x = layers.Reshape((cells * steps, 8), name=f"{name}_unfold")(x)
    x = LinearResample1D(bins, at="edges", name=f"{name}_bins")(x)
    x = layers.ReLU(name=f"{name}_bins_relu")(x)
    return layers.Conv1D(2, 5, padding="same", name=f"{name}_logits")(x)


def _box_from_points(features: Tensor) -> Tensor:
    points = layers.Dense(4, activation="sigmoid", name="bbox_points", dtype="float32")(features)
    return OrderedBox(name="bbox", dtype="float32")(points)


BOX_HEADS: MappingProxyType[str, Callable[[Sequence[Tensor], tuple[int, int]], Tensor]] = (
    MappingProxyType(
        {"gap_mlp": gap_mlp_head, "spatial": spatial_head, "distribution": distribution_head}
    )
)
"""The builders of box heads by name: feature maps and image (height, width) to boxes (N, 4)."""
