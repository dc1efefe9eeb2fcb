"""What a localizer answers over a data set, and how good the answers are."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from loc_keras.boxes import iou
from loc_keras.metrics import bbox_metrics, joint_metrics

SILENT, BAR, LINE_AN_EPOCH = 0, 1, 2


def progress_style() -> int:
    """Keras's bar on a terminal; one line an epoch in a file, which a bar would flood."""
    return BAR if sys.stdout.isatty() else LINE_AN_EPOCH


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


def collect_answers(
    answer: Answer, dataset: Iterable[tuple[tf.Tensor, Mapping[str, tf.Tensor]]]
) -> Answers:
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


def figures(answers: Answers, background: int | None = None) -> dict[str, float | int]:
    """Class accuracy, box measures and joint measures of a set of answers, and its size.

    Args:
        answers: Truth and prediction of each image.
        background: Index of the class of images without an object, or None where all show one.

    Returns:
        `images` and, each in [0, 1], `softmax_accuracy, bbox_iou, bbox_acc50, bbox_acc75,
        bbox_acc90, top1_loc, top5_loc, gt_known_loc, max_box_acc_v2`. With a single class, whose
        accuracy says nothing, also `classes`. With a background all but the class accuracy are of
        the images with an object, whose number is `object_images`; and there are `rejection`, the
        share of images without an object that are answered with the background, and
        `false_rejection`, that of the images with one. A figure of no image is left out.
    """
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    accuracy.update_state(answers.labels, answers.probabilities)
    results = {"images": len(answers.labels), "softmax_accuracy": float(accuracy.result())}
    num_classes = answers.probabilities.shape[-1]
    if num_classes == 1:
        results["classes"] = num_classes
    shown = np.ones(len(answers.labels), bool)
    if background is not None:
        shown = answers.labels != background
        results["object_images"] = int(shown.sum())
        rejected = answers.probabilities.argmax(axis=-1) == background
        for name, part in (("rejection", ~shown), ("false_rejection", shown)):
            if part.any():
                results[name] = float(rejected[part].mean())
    if not shown.any():
        return results
    truth = {"softmax": answers.labels[shown], "bbox": answers.boxes[shown]}
    said = {"softmax": answers.probabilities[shown], "bbox": answers.boxes_pred[shown]}
    for metric in bbox_metrics():
        metric.update_state(truth["bbox"], said["bbox"])
        results[f"bbox_{metric.name}"] = float(metric.result())
    for metric in joint_metrics(num_classes):
        metric.update_state(truth, said)
        results[metric.name] = float(metric.result())
    return results
