"""What a localizer answers over a data set, and how good the answers are."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from loc_keras.boxes import iou
from loc_keras.metrics import bbox_metrics, joint_metrics


@dataclass(frozen=True)
class Answers:
    """Truth and prediction of every image of a data set, in its order.

    Attributes:
        labels: true classes, int32 (N,).
        boxes: true boxes, float32 (N, 4), fractions.
        probabilities: predicted, float32 (N, K).
        boxes_pred: predicted boxes, float32 (N, 4), fractions.
        ious: IoU of each pair of boxes, float32 (N,).
    """

    labels: np.ndarray
    boxes: np.ndarray
    probabilities: np.ndarray
    boxes_pred: np.ndarray
    ious: np.ndarray


Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]
"""Gives the outputs of a localizer for images."""


def answer_function(localizer: keras.Model) -> Answer:
    """A compiled call of the localizer in inference mode, traced once for batches of any size."""
    images = tf.TensorSpec((None, *localizer.input_shape[1:]), tf.float32)
    return tf.function(lambda x: localizer(x, training=False), input_signature=[images])


def collect_answers(answer: Answer, dataset: tf.data.Dataset) -> Answers:
    """Asks for every image of a finite data set of (images, targets) batches."""
    parts: list[tuple[np.ndarray, ...]] = []
    for images, targets in dataset:
        outputs = answer(tf.cast(images, tf.float32))
        row = (targets["softmax"], targets["bbox"], outputs["softmax"], outputs["bbox"])
        parts.append(tuple(keras.ops.convert_to_numpy(value) for value in row))
    labels, boxes, probabilities, boxes_pred = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    ious = keras.ops.convert_to_numpy(iou(boxes, boxes_pred))
    return Answers(labels.astype(np.int32), boxes, probabilities, boxes_pred, ious)


def figures(answers: Answers) -> dict[str, float | int]:
    """Class accuracy, box measures and joint measures of a set of answers, and its size.

    Returns:
        `images` and, each in [0, 1], `softmax_accuracy, bbox_iou, bbox_acc50, bbox_acc75,
        bbox_acc90, top1_loc, top5_loc, gt_known_loc, max_box_acc_v2`.
    """
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    accuracy.update_state(answers.labels, answers.probabilities)
    results = {"images": len(answers.labels), "softmax_accuracy": float(accuracy.result())}
    for metric in bbox_metrics():
        metric.update_state(answers.boxes, answers.boxes_pred)
        results[f"bbox_{metric.name}"] = float(metric.result())
    truth = {"softmax": answers.labels, "bbox": answers.boxes}
    said = {"softmax": answers.probabilities, "bbox": answers.boxes_pred}
    for metric in joint_metrics(answers.probabilities.shape[-1]):
        metric.update_state(truth, said)
        results[metric.name] = float(metric.result())
    return results
