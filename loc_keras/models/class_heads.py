"""The heads that read the class from the body's feature maps, as variants of one builder."""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

from keras import layers

from loc_keras.models.backbone import basic_block, conv_norm
from loc_keras.models.region_crop import RegionCrop

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

REGION_GRID = 14
REGION_MARGIN = 0.1


def pooled_head(stem: Tensor, maps: Sequence[Tensor], box: Tensor) -> Tensor:
    """The classic: global average pooling of the last map, (N, channels)."""
    del stem, box
    return layers.GlobalAveragePooling2D(name="softmax_pool", dtype="float32")(maps[-1])


def region_head(stem: Tensor, maps: Sequence[Tensor], box: Tensor) -> Tensor:
    """Looks at what lies under the predicted box, and at the whole image as well.

    The maps of the stem and of the first stage, the finest there are, are cropped to the box, so
    that the object has the same place and size whatever it has in the image; two residual blocks
    read the crop. The class of a small object is then learned from its shape alone, not anew for
    each place on the canvas. The blocks are of the body's kind and compute in its dtype.
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


CLASS_HEADS: MappingProxyType[str, Callable[[Tensor, Sequence[Tensor], Tensor], Tensor]] = (
    MappingProxyType({"pooled": pooled_head, "region": region_head})
)
"""The builders of class features by name: stem map, stage maps and box to features (N, F)."""
