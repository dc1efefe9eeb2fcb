"""The heads that read a box from the body's feature maps, as variants of one builder."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from keras import layers

from loc_keras.models.box_layers import (
    AttendedProfiles,
    LinearResample1D,
    OrderedBox,
    ResampleLike1D,
    SideIntegral,
)

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

SIDES_LAYER = "bbox_sides"
"""Name of the layer whose output holds the logits of the four sides, float32 (N, 4, bins)."""

HEAD_DTYPE = "float32"
"""Heads compute in float32 under every policy: half precision cannot tell neighbouring pixels of a
large image apart (bfloat16 has 1/256 between 1/2 and 1)."""

MOST_BINS = 128
"""A side is never divided into more steps than this."""


def gap_mlp_head(maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """The head that the project began with: pooled features through 128, 64 and 32 units.

    Global average pooling forgets where a feature was, so it learns position slowly.
    """
    del image_size
    x = layers.GlobalAveragePooling2D(name="bbox_pool", dtype=HEAD_DTYPE)(maps[-1])
    for units in (128, 64, 32):
        x = layers.Dense(units, activation="relu", name=f"bbox_dense{units}", dtype=HEAD_DTYPE)(x)
    return _box_from_points(x)


def spatial_head(maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """Keeps the last feature map: 1x1 convolution to 64 channels, flattened, 128 units."""
    del image_size
    x = layers.Conv2D(64, 1, activation="relu", name="bbox_reduce", dtype=HEAD_DTYPE)(maps[-1])
    x = layers.Flatten(name="bbox_flatten", dtype=HEAD_DTYPE)(x)
    x = layers.Dense(128, activation="relu", name="bbox_dense128", dtype=HEAD_DTYPE)(x)
    return _box_from_points(x)


def distribution_head(maps: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """Reads a distribution over positions for each side, and from it the expected box.

    Every stage's map is summed along its rows and its columns, weighted by attention; the profiles
    of all stages meet at the finest resolution, and 1-D convolutions give logits over positions.
    Convolutions move with the object, so one learned edge serves every place in the image.
    The integral over bins follows Li et al. 2020 ("Generalized Focal Loss").

    No weight depends on the image's size, and no layer but the last resampling: it gives as many
    bins for a smaller image, so that training may begin on smaller ones.
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
    # Each cell speaks for several bins: their values stand in its channels, side by side.
    steps = max(1, -(-(bins - 1) // cells))
    x = layers.Conv1D(steps * 8, 3, padding="same", name=f"{name}_conv2", dtype=HEAD_DTYPE)(x)
    x = layers.Reshape((-1, 8), name=f"{name}_unfold", dtype=HEAD_DTYPE)(x)
    x = LinearResample1D(bins, at="edges", name=f"{name}_bins", dtype=HEAD_DTYPE)(x)
    x = layers.ReLU(name=f"{name}_bins_relu", dtype=HEAD_DTYPE)(x)
    return layers.Conv1D(2, 5, padding="same", name=f"{name}_logits", dtype=HEAD_DTYPE)(x)


def _box_from_points(features: Tensor) -> Tensor:
    points = layers.Dense(4, activation="sigmoid", name="bbox_points", dtype=HEAD_DTYPE)(features)
    return OrderedBox(name="bbox", dtype=HEAD_DTYPE)(points)


BOX_HEADS: MappingProxyType[str, Callable[[Sequence[Tensor], tuple[int, int]], Tensor]] = (
    MappingProxyType(
        {"gap_mlp": gap_mlp_head, "spatial": spatial_head, "distribution": distribution_head}
    )
)
"""The builders of box heads by name: feature maps and image (height, width) to boxes (N, 4)."""
