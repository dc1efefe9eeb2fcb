"""A localizer that also tells what it went by: spread of the box, features, a mirrored look."""

from typing import Any

import keras
from keras import layers, ops

from loc_keras.models.box_heads import SIDES_LAYER
from loc_keras.trust.side_statistics import SideStatistics

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

FEATURES_LAYER = "softmax_pool"
"""Name of the layer whose output is the pooled last feature map, (N, F), in every localizer."""


@keras.saving.register_keras_serializable(package="loc_keras")
class Mirror(layers.Layer):
    """Mirrors images (N, H, W, C) left to right."""

    def call(self, images: Tensor) -> Tensor:
        """Turns the columns round."""
        return ops.flip(images, axis=2)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Keeps the shape."""
        return input_shape


@keras.saving.register_keras_serializable(package="loc_keras")
class MirrorBox(layers.Layer):
    """Boxes (N, 4) of mirrored images as boxes of the images themselves."""

    def call(self, boxes: Tensor) -> Tensor:
        """Exchanges left and right."""
        x1, y1, x2, y2 = ops.unstack(boxes, 4, axis=-1)
        return ops.stack([1 - x2, y1, 1 - x1, y2], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Keeps the shape."""
        return input_shape


def observed_outputs(localizer: keras.Model, *, flip: bool = False) -> dict[str, Tensor]:
    """The tensors of a localizer that trust is built on.

    Args:
        localizer: A functional model with the outputs `softmax` and `bbox`.
        flip: Whether it also looks at the mirrored image, which takes twice the time.

    Returns:
        `softmax` (N, K), `bbox` (N, 4), `features` (N, F); of a distribution head also `spread`
        (N, 4), `mean_iou` (N,) and `chance50` (N,), see `SideStatistics`; with `flip` also
        `softmax_mirrored` (N, K) and `bbox_mirrored` (N, 4), turned back.
    """
    found = {name: localizer.output[name] for name in ("softmax", "bbox")}
    names = {layer.name for layer in localizer.layers}
    found["features"] = localizer.get_layer(FEATURES_LAYER).output
    if SIDES_LAYER in names:
        logits = localizer.get_layer(SIDES_LAYER).output
        found |= SideStatistics(name="trust_sides", dtype="float32")(found["bbox"], logits)
    if flip:
        mirrored = localizer(Mirror(name="trust_mirror")(localizer.inputs[0]))
        found["softmax_mirrored"] = mirrored["softmax"]
        turned = MirrorBox(name="trust_mirror_box", dtype="float32")
        found["bbox_mirrored"] = turned(mirrored["bbox"])
    return found


def observer(localizer: keras.Model, *, flip: bool = False) -> keras.Model:
    """The model of `observed_outputs`; it shares all weights with the localizer."""
    return keras.Model(localizer.inputs[0], observed_outputs(localizer, flip=flip))
