"""What each output of the training model learns from, and from which images."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from loc_keras.data.empty_boxes import are_empty
from loc_keras.training.model import with_training_targets

CLASS_OUTPUT = "softmax"


def with_targets(
    dataset: tf.data.Dataset, names: Sequence[str], *, background: bool
) -> tf.data.Dataset:
    """Gives every output its target, and its weights where some images show no object.

    Args:
        dataset: Batches of (images, targets), perhaps with the weight of each image for a third.
        names: Outputs of the training model.
        background: Whether images without an object are a class.

    Returns:
        Batches of (images, targets), with weights for a third where images have some, or where
        there is a background: `box_weights`, times those of the images.
    """

    def ask(
        images: tf.Tensor, targets: Mapping[str, tf.Tensor], weights: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, ...]:
        asked = with_training_targets(targets, names)
        if background:
            shown = box_weights(targets["bbox"], names)
            if weights is not None:
                shown = {name: value * weights for name, value in shown.items()}
            return images, asked, shown
        if weights is not None:
            return images, asked, dict.fromkeys(names, weights)
        return images, asked

    return dataset.map(ask)


def box_weights(boxes: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
    """Weight of each image in each output: 0 in those of the box where the box is empty, else 1.

    Keras divides the weighted sum of a batch by its number of images, not by its weights. So an
    image with an object counts as much as it does among as many images that all show one, and the
    box loss of a batch without any object is 0.

    Args:
        boxes: float32 (B, 4).
        names: Outputs of the training model.

    Returns:
        float32 (B,) for each output.
    """
    shown = 1.0 - tf.cast(are_empty(boxes), tf.float32)
    return {name: tf.ones_like(shown) if name == CLASS_OUTPUT else shown for name in names}


def as_batch(
    images: tf.Tensor, targets: Mapping[str, tf.Tensor], names: Sequence[str], *, background: bool
) -> tf.data.Dataset:
    """One batch as a data set of that batch alone, as `with_targets`."""
    one = tf.data.Dataset.from_tensors((images, dict(targets)))
    return with_targets(one, names, background=background).cache()
