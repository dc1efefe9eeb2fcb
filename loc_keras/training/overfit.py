"""The oldest sanity check: a model that cannot learn one batch by heart has a fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from loc_keras.training.fused_batch_norm import fuse_batch_norms
from loc_keras.training.guard import FiniteLossGuard
from loc_keras.training.measure import answer_function, collect_answers, figures
from loc_keras.training.model import (
    compile_localizer,
    training_model,
)
from loc_keras.training.optimizer import make_optimizer
from loc_keras.training.position import Position
from loc_keras.training.progress import progress_style
from loc_keras.training.targets import as_batch

NEAR_ZERO = 0.05
"""Both losses must end below this: class cross entropy, and 1 minus the mean IoU."""


@dataclass(frozen=True)
class OverfitResult:
    """What one batch came to.

    Attributes:
        steps: steps on the batch.
        class_loss: cross entropy of the batch at the end, in inference mode.
        box_loss: 1 minus the mean IoU of the images with an object, likewise.
        accuracy: class accuracy at the end.
        first_loss: sum of the weighted losses before the first step, in inference mode.
    """

    steps: int
    class_loss: float
    box_loss: float
    accuracy: float
    first_loss: float

    @property
    def passed(self) -> bool:
        """Whether both losses came near zero; not-a-number never passes."""
        return self.class_loss <= NEAR_ZERO and self.box_loss <= NEAR_ZERO


def overfit_batch(
    localizer: keras.Model,
    batch: tuple[tf.Tensor, Mapping[str, tf.Tensor]],
    *,
    steps: int,
    learning_rate: float,
    losses: Mapping[str, Any],
    background: int | None = None,
) -> OverfitResult:
    """Trains on one batch alone, at a constant rate, without label smoothing or decay.

    Args:
        localizer: a fresh model; its weights are changed.
        batch: images and targets.
        steps: how often the batch is learned.
        learning_rate: rate of Adam.
        losses: arguments of `compile_localizer`.
        background: index of the class of images without an object, or None.

    Raises:
        TrainingError: if a step's loss is not finite.
    """
    fuse_batch_norms(localizer)
    model = training_model(localizer)
    # Smoothed targets and weight decay keep a loss above zero on purpose.
    optimizer = make_optimizer("adam", learning_rate=learning_rate)
    compile_localizer(model, optimizer=optimizer, **{**losses, "label_smoothing": 0.0})
    names = list(model.output)
    images, targets = batch
    one = as_batch(images, targets, names, background=background is not None)
    position = Position(steps)
    before = model.evaluate(one, verbose=0, return_dict=True)
    model.fit(
        one.repeat(),
        steps_per_epoch=steps,
        epochs=1,
        callbacks=[position, FiniteLossGuard(position)],
        shuffle=False,
        verbose=progress_style(),
    )
    answers = collect_answers(answer_function(localizer), [batch])
    found = figures(answers, background)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy()
    return OverfitResult(
        steps=steps,
        class_loss=float(cross_entropy(answers.labels, answers.probabilities)),
        box_loss=1.0 - float(found.get("bbox_iou", 1.0)),
        accuracy=float(found["softmax_accuracy"]),
        first_loss=float(before["loss"]),
    )
