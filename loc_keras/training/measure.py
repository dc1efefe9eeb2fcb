"""Asks a model for its answers over a data set."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from loc_keras.evaluation.outcomes import Outcomes

if TYPE_CHECKING:
    from loc_keras.data.dataset import SplitPictures

Answer = Callable[[tf.Tensor], Mapping[str, Any]]
"""Gives the outputs of a localizer for images, at least `softmax` and `bbox`."""


def answer_function(localizer: keras.Model) -> Answer:
    """A compiled call of the localizer in inference mode, traced once for batches of any size."""
    images = tf.TensorSpec((None, *localizer.input_shape[1:]), tf.float32)
    return tf.function(lambda x: localizer(x, training=False), input_signature=[images])


def collect_outcomes(
    answer: Answer,
    dataset: Iterable[tuple[tf.Tensor, Mapping[str, tf.Tensor]]],
    pictures: "SplitPictures | None" = None,
    background: int | None = None,
) -> Outcomes:
    """Asks for every image of a finite data set of at least one batch (images, targets).

    Raw pixels float32 (B, H, W, C) go to `answer`; all outputs that it gives are kept. See
    `outcomes_from` for the rest.
    """
    parts: list[dict[str, np.ndarray]] = []
    for images, targets in dataset:
        outputs = answer(tf.cast(images, tf.float32))
        columns = {**outputs, "labels": targets["softmax"], "bbox_true": targets["bbox"]}
        parts.append({key: keras.ops.convert_to_numpy(value) for key, value in columns.items()})
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return outcomes_from(whole.pop("labels"), whole, pictures, background)


def outcomes_from(
    labels: npt.NDArray[np.integer],
    outputs: Mapping[str, npt.NDArray[Any]],
    pictures: "SplitPictures | None" = None,
    background: int | None = None,
) -> Outcomes:
    """Outcomes of what a model gave, its boxes brought back to the original pictures.

    Outputs hold `softmax` (N, K), `bbox` and `bbox_true` (N, 4); `pictures` are the same images in
    the same order. Without them a px is a side of the model's image, which makes a difference for
    corner errors, and under letterbox for IoUs. `background` is as in `Outcomes`.
    """
    boxes, boxes_pred = outputs["bbox_true"], outputs["bbox"]
    if pictures is None:
        sizes = np.ones((len(labels), 2), np.int32)
        boxes_px, boxes_pred_px = boxes.astype(np.float64), boxes_pred.astype(np.float64)
    else:
        sizes, boxes_pred_px = pictures.sizes, pictures.to_px(boxes_pred)
        if pictures.boxes is None:
            boxes_px = pictures.to_px(boxes)
        else:
            # From the annotations: through a letterbox and back a digit would be lost.
            boxes_px = pictures.boxes.astype(np.float64) * np.tile(sizes[:, ::-1], 2)
    if background is not None:
        boxes_px = np.where((labels != background)[:, None], boxes_px, 0.0)
    return Outcomes(
        labels=labels.astype(np.int32),
        probabilities=outputs["softmax"],
        boxes_px=boxes_px,
        boxes_pred_px=boxes_pred_px,
        sizes=sizes,
        background=background,
        outputs=outputs,
    )
