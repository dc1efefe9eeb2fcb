"""From pixels to answers: one compiled call, boxes taken back to the originals within it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from loc_keras.data.resize import restore_boxes
from loc_keras.localizer.opened import Opened
from loc_keras.localizer.pictures import Pixels
from loc_keras.localizer.results import Box, ClassScore, Localization

_BOXES = ("bbox", "box_outer", "box_inner")
_SCORES = ("softmax", "softmax_calibrated", "p_iou50", "label_set")

Arrays = dict[str, npt.NDArray]


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
        return [self._told(arrays, row, batch[row].size, top_k) for row in range(len(batch))]

    def _told(self, arrays: Arrays, row: int, size: tuple[int, int], top_k: int) -> Localization:
        # By the raw probabilities, since calibrated ones may round to ties.
        order = np.argsort(-arrays["softmax"][row], kind="stable").tolist()
        scores = arrays.get("softmax_calibrated", arrays["softmax"])[row].tolist()
        best = [ClassScore(self._names[at], at, scores[at]) for at in order[:top_k]]
        shown = order[0] != self._background
        trusted = "label_set" in arrays
        fraction = arrays["bbox"][row]
        return Localization(
            label=best[0].label,
            index=best[0].index,
            score=best[0].score,
            top_k=tuple(best),
            found=shown,
            box=_box_px(fraction, size) if shown else None,
            box_fraction=_box(fraction) if shown else None,
            size=size,
            p_iou50=float(arrays["p_iou50"][row]) if trusted and shown else None,
            box_outer=_box_px(arrays["box_outer"][row], size) if trusted and shown else None,
            box_inner=_inner_px(arrays["box_inner"][row], size) if trusted and shown else None,
            label_set=self._set(arrays["label_set"][row], order) if trusted else None,
        )

    def _set(self, members: npt.NDArray, order: list[int]) -> tuple[str, ...]:
        return tuple(self._names[at] for at in order if members[at])


def _inner_px(fraction: npt.NDArray, size: tuple[int, int]) -> Box | None:
    x1, y1, x2, y2 = fraction.tolist()
    return _box_px(fraction, size) if x2 > x1 and y2 > y1 else None


def _box_px(fraction: npt.NDArray, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = _box(fraction)
    height, width = size
    return x1 * width, y1 * height, x2 * width, y2 * height


def _box(fraction: npt.NDArray) -> Box:
    x1, y1, x2, y2 = (min(max(side, 0.0), 1.0) for side in fraction.tolist())
    return x1, y1, x2, y2
