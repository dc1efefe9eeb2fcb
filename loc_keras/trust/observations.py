"""What a model answers over a split and what it went by, as arrays."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from loc_keras.trust.observer import observer

Array = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Observations:
    """Truth, answer and signals of every image of a split, in its order.

    Attributes:
        labels: True classes, int32 (N,).
        boxes: True boxes, float32 (N, 4), fractions; all zero without an object.
        outputs: Each (N, ...), by the names of `observed_outputs`.
        brightness: Mean pixel value of each image, float32 (N,), 0..255.
        contrast: Standard deviation of its pixel values, float32 (N,).
        background: Index of the class of images without an object, or None.
    """

    labels: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.float32]
    outputs: Mapping[str, Array] = field(repr=False)
    brightness: Array
    contrast: Array
    background: int | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Whether each image shows an object, bool (N,)."""
        if self.background is None:
            return np.ones(len(self), bool)
        return self.labels != self.background

    def take(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Observations":
        """The images of these indices, or of this mask."""
        return Observations(
            self.labels[index],
            self.boxes[index],
            {name: value[index] for name, value in self.outputs.items()},
            self.brightness[index],
            self.contrast[index],
            self.background,
        )


def observe(
    localizer: keras.Model,
    dataset: Iterable[tuple[tf.Tensor, Mapping[str, tf.Tensor]]],
    *,
    flip: bool = False,
    background: int | None = None,
) -> Observations:
    """Asks for every image of a finite data set of (images, targets) batches.

    Args:
        localizer: The model.
        dataset: At least one batch; images raw pixels (B, H, W, C), targets as for training.
        flip: Whether to look at mirrored images too.
        background: Index of the class of images without an object, or None.
    """
    model = observer(localizer, flip=flip)
    spec = tf.TensorSpec((None, *localizer.input_shape[1:]), tf.float32)

    @tf.function(input_signature=[spec])
    def look(images: tf.Tensor) -> dict[str, tf.Tensor]:
        mean, variance = tf.nn.moments(images, axes=[1, 2, 3])
        return {**model(images, training=False), "_mean": mean, "_deviation": tf.sqrt(variance)}

    parts: list[dict[str, np.ndarray]] = []
    for images, targets in dataset:
        seen = {name: value.numpy() for name, value in look(tf.cast(images, tf.float32)).items()}
        truth = {"_labels": targets["softmax"].numpy(), "_boxes": targets["bbox"].numpy()}
        parts.append({**seen, **truth})
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Observations(
        labels=whole.pop("_labels").astype(np.int32),
        boxes=whole.pop("_boxes"),
        brightness=whole.pop("_mean"),
        contrast=whole.pop("_deviation"),
        outputs=whole,
        background=background,
    )
