"""Finding a batch size: how fast steps of growing batches are, until memory or speed ends."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from loc_keras.errors import TrainingError
from loc_keras.training.compiled import compiled_training_model
from loc_keras.training.model import TrainingModel
from loc_keras.training.plan import FitPlan
from loc_keras.training.targets import with_targets

SMALLEST = 4
WARM, TIMED = 2, 4
"""Steps of each size that are not counted, and those of which the fastest counts."""

NEAR_BEST = 0.95
"""The smallest batch of this share of the best speed is suggested: larger ones buy no time, and
each of their steps sees more images for the same change."""

LONGEST_STEP_S = 20.0
"""No larger batch is tried once a step takes this long."""


@dataclass(frozen=True)
class BatchSpeed:
    """Speed of the step with one batch size.

    Attributes:
        batch_size: Images a step.
        images_per_second: Of the fastest of the timed steps; 0 where it did not fit the memory.
        step_seconds: Duration of that step.
    """

    batch_size: int
    images_per_second: float
    step_seconds: float

    @property
    def fits(self) -> bool:
        """Whether the device's memory held it."""
        return self.images_per_second > 0


def batch_speeds(
    localizer: keras.Model,
    batch: tuple[tf.Tensor, Mapping[str, tf.Tensor]],
    *,
    plan: FitPlan,
    losses: Mapping[str, Any],
    largest: int,
) -> list[BatchSpeed]:
    """Times the step, without reading and augmenting, at sizes that double.

    Args:
        localizer: A fresh model; its weights are spoilt.
        batch: Images and targets, that are repeated to each size.
        plan: How it would be trained.
        losses: Arguments of `compile_localizer`.
        largest: Largest size tried, such as the number of training images.

    Returns:
        A row a size. The last one may say that it did not fit.

    Raises:
        TrainingError: If the smallest size does not fit.
    """
    steady = replace(plan, schedule="constant", warmup_epochs=0.0)
    model = compiled_training_model(localizer, steady, losses)
    step = _timed_step(model, batch, background=plan.background is not None)
    found: list[BatchSpeed] = []
    for size in batch_sizes(largest):
        try:
            seconds = step(size)
        except tf.errors.ResourceExhaustedError as error:
            if not found:
                raise TrainingError(
                    f"not even {size} images a step fit the device's memory; lower data.image_size "
                    "or model.backbone.width."
                ) from error
            return [*found, BatchSpeed(size, 0.0, 0.0)]
        found.append(BatchSpeed(size, size / seconds, seconds))
        if seconds > LONGEST_STEP_S:
            break
    return found


def _timed_step(
    model: TrainingModel, batch: tuple[tf.Tensor, Mapping[str, tf.Tensor]], *, background: bool
) -> Callable[[int], float]:
    """A function that gives the seconds of the fastest step with a batch of a size."""
    names = list(model.output)

    def step(size: int) -> float:
        clock = _StepClock()
        model.fit(
            with_targets(_batches_of(batch, size), names, background=background),
            steps_per_epoch=WARM + TIMED,
            epochs=1,
            callbacks=[clock],
            shuffle=False,
            verbose=0,
        )
        return min(clock.seconds[WARM:])

    return step


class _StepClock(keras.callbacks.Callback):
    """Notes how long each step takes, up to its loss, for which the device has to be done."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._began = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        float((logs or {})["loss"])
        self.seconds.append(time.perf_counter() - self._began)


def _batches_of(batch: tuple[tf.Tensor, Mapping[str, tf.Tensor]], size: int) -> tf.data.Dataset:
    """Endless batches of one size out of the images of one batch.

    The size is no part of the data set's type, so that the step is traced once for all.
    """
    images, targets = batch
    rows = tf.data.Dataset.from_tensor_slices((images, dict(targets))).cache().repeat()
    return rows.batch(size).prefetch(1)


def batch_sizes(largest: int) -> list[int]:
    """Powers of two from `SMALLEST` to the largest allowed; never none."""
    sizes = [SMALLEST]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    return sizes


def suggested_batch(speeds: Sequence[BatchSpeed]) -> int:
    """The smallest batch that is nearly as fast as any, by images a second."""
    best = max(one.images_per_second for one in speeds)
    return min(one.batch_size for one in speeds if one.images_per_second >= NEAR_BEST * best)
