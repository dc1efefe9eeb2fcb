"""From pixels to answers: one compiled call, boxes taken back to the originals within it."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from loc_keras.data.resize import restore_boxes
from loc_keras.localizer.opened import Opened
from loc_keras.localizer.pictures import Pixels
from loc_keras.localizer.results import Localization
from loc_keras.localizer.told import localization_of

_BOXES = ("bbox", "box_outer", "box_inner")
_SCORES = ("softmax", "softmax_calibrated", "p_iou50", "label_set")


class Answerer:
    """Asks a model about batches of images.

    Args:
        opened: The model.
    """

    def __init__(self, opened: Opened) -> None:
        """Makes the function; it is traced at its first call."""
        self._names = opened.settings.class_names or ()
        background = opened.settings.background
        self._background = self._names.index(background) if background in self._names else None
        form = opened.form

        # With a fixed signature it is traced once, whatever the number of images.
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, *form.shape], tf.uint8),
                tf.TensorSpec([None, 2], tf.int32),
            ],
            autograph=False,
        )
        def look(images: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
            found = opened.answer(tf.cast(images, tf.float32))
            boxes = {
                name: restore_boxes(found[name], sizes, form.size, form.rule or "stretch")
                for name in _BOXES
                if name in found
            }
            return {**{name: found[name] for name in _SCORES if name in found}, **boxes}

        self._look = look

    @property
    def background(self) -> int | None:
        """Index of the class of images without an object."""
        return self._background

    def ask(self, batch: Sequence[Pixels], top_k: int) -> list[Localization]:
        """Answers about some images, at least one.

        Args:
            batch: The images.
            top_k: How many classes are told of each, at least one.
        """
        images = (
            np.stack([one.pixels for one in batch]) if len(batch) > 1 else batch[0].pixels[None]
        )
        sizes = np.array([one.size for one in batch], np.int32)
        found = self._look(tf.constant(images), tf.constant(sizes))
        arrays = {name: value.numpy() for name, value in found.items()}
        return [
            localization_of(
                arrays, row, batch[row].size, self._names, background=self._background, top_k=top_k
            )
            for row in range(len(batch))
        ]
