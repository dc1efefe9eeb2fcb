"""Short trials before a training: one batch learned by heart, a learning rate, a batch size."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from loc_keras.config.train import TrainConfig
from loc_keras.errors import TrainingError
from loc_keras.evaluation.figures import run_figures
from loc_keras.training.batch_norm import fuse_batch_norms
from loc_keras.training.callbacks import FiniteLossGuard, Logs, Position
from loc_keras.training.model import (
    FitPlan,
    TrainingModel,
    answer_function,
    as_batch,
    collect_outcomes,
    compile_localizer,
    compiled_training_model,
    training_model,
    with_targets,
)
from loc_keras.training.optimizer import make_optimizer
from loc_keras.training.progress import LiveLine

Batch = tuple[tf.Tensor, Mapping[str, tf.Tensor]]  # Images and targets.

NEAR_ZERO = 0.05  # Both losses must end below: class cross entropy, and 1 minus the mean IoU.

LOWEST, HIGHEST = 1e-6, 1.0
"""Learning rates between which a sweep searches: Adam's useful ones lie well inside."""

STEPS = 150  # Batches of a sweep, 25 for each factor of ten.
MEMORY = 0.9  # Share of the loss's running mean that each batch keeps: about ten count.
DIVERGED = 4.0  # A sweep ends where the loss is so many times the lowest it was.
BELOW_LOWEST = 10.0
"""The suggested rate is the one of the lowest loss over this: at the lowest itself the loss is
about to diverge."""

SMALLEST = 4  # Smallest batch that is timed.
WARM, TIMED = 2, 4  # Steps of each size that are not counted, and those of which the fastest is.
NEAR_BEST = 0.95
"""The smallest batch of this share of the best speed is suggested: larger ones buy no time, and
each of their steps sees more images for the same change."""

LONGEST_STEP_S = 20.0  # No larger batch is tried once a step takes this long.


@dataclass(frozen=True)
class OverfitResult:
    """What one batch came to: its losses and accuracy at the end, in inference mode.

    The box loss is 1 minus the mean IoU of the images with an object, `first_loss` the weighted sum
    before the first step.
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
    batch: Batch,
    *,
    plan: FitPlan,
    steps: int,
    console: Console | None = None,
) -> OverfitResult:
    """Trains on one batch alone, by Adam at a constant rate, without label smoothing or decay.

    The localizer's weights are changed. TrainingError where a step's loss is not finite. On a
    terminal the console shows the steps.
    """
    fuse_batch_norms(localizer)
    model = training_model(localizer)
    # Smoothed targets and weight decay keep a loss above zero on purpose.
    plain = TrainConfig(optimizer="adam", learning_rate=plan.train.learning_rate, weight_decay=0.0)
    optimizer = make_optimizer(plain)
    compile_localizer(model, optimizer, plan.loss.model_copy(update={"label_smoothing": 0.0}))
    data = as_batch(*batch, list(model.output), background=plan.background is not None)
    position = Position(steps)
    before = model.evaluate(data, verbose=0, return_dict=True)
    guard = FiniteLossGuard(position)
    with LiveLine(console) as line:
        shown = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: line.show(
                f"step {batch + 1}/{steps}  loss {float(logs['loss']):.3f}"
            )
        )
        _fit(model, data.repeat(), steps, position, guard, shown)
    outcomes = collect_outcomes(answer_function(localizer), [batch], background=plan.background)
    measured = run_figures(outcomes)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy()
    return OverfitResult(
        steps=steps,
        class_loss=float(cross_entropy(outcomes.labels, outcomes.probabilities)),
        box_loss=1.0 - float(measured.get("bbox_iou", 1.0)),
        accuracy=float(measured["softmax_accuracy"]),
        first_loss=float(before["loss"]),
    )


@dataclass(frozen=True)
class RateSweep:
    """A sweep of rising rates: of each step its rate, the loss before it, and the running mean.

    `diverged` tells that it ended because the loss rose, rather than at `HIGHEST`.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    diverged: bool

    @property
    def lowest_at(self) -> float:
        """Rate at which the running mean was lowest."""
        return self.rates[int(np.argmin(self.smooth))]

    @property
    def suggested(self) -> float:
        """The rate to train with, to two significant digits."""
        return float(f"{self.lowest_at / BELOW_LOWEST:.1e}")


def sweep_rates(
    localizer: keras.Model, batches: tf.data.Dataset, *, plan: FitPlan, steps: int = STEPS
) -> RateSweep:
    """Trains with a rate that rises by a constant factor from batch to batch, 2 or more.

    The learning-rate range test of Smith 2017 ("Cyclical Learning Rates", section 3.3), with rates
    by their logarithm. The weights of the localizer are spoilt; batches are endless.

    Raises:
        TrainingError: If the loss was not finite from the first batch on.
    """
    # The rate is set at each step, and an average of the weights would never be used.
    steady = plan.with_train(schedule="constant", warmup_epochs=0.0, ema=None, accumulate=1)
    model = compiled_training_model(localizer, steady)
    data = with_targets(batches, list(model.output), background=plan.background is not None)
    rates = np.geomspace(LOWEST, HIGHEST, steps).tolist()
    rising = _RisingRate(rates)
    _fit(model, data, steps, rising)
    losses = rising.losses
    if not losses:
        raise TrainingError(
            "the loss of the very first batch is not finite, at a learning rate of "
            f"{LOWEST:g}; check the data (python -m loc_keras.check)."
        )
    return RateSweep(
        tuple(rates[: len(losses)]), tuple(losses), tuple(running_mean(losses)), rising.diverged
    )


class _RisingRate(keras.callbacks.Callback):
    def __init__(self, rates: Sequence[float]) -> None:
        super().__init__()
        self.rates = rates
        self.losses: list[float] = []
        self.diverged = False

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self.model.optimizer.learning_rate = self.rates[batch]
        # Else the loss in the logs is the mean since the first batch.
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        loss = float((logs or {})["loss"])
        if math.isfinite(loss):
            self.losses.append(loss)
        self.diverged = not math.isfinite(loss) or has_diverged(running_mean(self.losses))
        self.model.stop_training = self.diverged


def running_mean(values: Sequence[float]) -> list[float]:
    """Exponentially weighted means, corrected as by Kingma and Ba 2015 ("Adam", section 3)."""
    mean, means = 0.0, []
    for count, value in enumerate(values, start=1):
        mean = MEMORY * mean + (1 - MEMORY) * value
        means.append(mean / (1 - MEMORY**count))
    return means


def has_diverged(smooth: Sequence[float]) -> bool:
    """Whether the last of the running means is `DIVERGED` times the lowest.

    Losses whose weight is learned can be negative; the distance is then measured from the lowest in
    units of what was gained since the first.
    """
    lowest = min(smooth)
    if lowest > 0:
        return smooth[-1] > DIVERGED * lowest
    return smooth[-1] > lowest + DIVERGED * (smooth[0] - lowest)


@dataclass(frozen=True)
class BatchSpeed:
    """Speed of the fastest timed step with one batch size; 0 images a second: it did not fit."""

    batch_size: int
    images_per_second: float
    step_seconds: float

    @property
    def fits(self) -> bool:
        """Whether the device's memory held it."""
        return self.images_per_second > 0


def batch_speeds(
    localizer: keras.Model, batch: Batch, *, plan: FitPlan, largest: int
) -> list[BatchSpeed]:
    """Times the step, without reading and augmenting, at sizes that double up to the largest.

    A row a size; the last may say that it did not fit, TrainingError where the smallest does not.
    The localizer's weights are spoilt; the batch is repeated to each size.
    """
    steady = plan.with_train(schedule="constant", warmup_epochs=0.0)
    model = compiled_training_model(localizer, steady)
    step = _timed_step(model, batch, background=plan.background is not None)
    speeds: list[BatchSpeed] = []
    for size in batch_sizes(largest):
        try:
            seconds = step(size)
        except tf.errors.ResourceExhaustedError as error:
            if not speeds:
                raise TrainingError(
                    f"not even {size} images a step fit the device's memory; lower data.image_size "
                    "or model.backbone.width."
                ) from error
            return [*speeds, BatchSpeed(size, 0.0, 0.0)]
        speeds.append(BatchSpeed(size, size / seconds, seconds))
        if seconds > LONGEST_STEP_S:
            break
    return speeds


def _timed_step(model: TrainingModel, batch: Batch, *, background: bool) -> Callable[[int], float]:
    images, targets = batch
    rows = tf.data.Dataset.from_tensor_slices((images, dict(targets))).cache().repeat()

    def step(size: int) -> float:
        clock = _StepClock()
        # The size is no part of the data set's type, so that the step is traced once for all.
        batches = rows.batch(size).prefetch(1)
        data = with_targets(batches, list(model.output), background=background)
        _fit(model, data, WARM + TIMED, clock)
        return min(clock.seconds[WARM:])

    return step


class _StepClock(keras.callbacks.Callback):
    """Notes how long each step takes, up to its loss, for which the device has to be done."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._began = 0.0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        float((logs or {})["loss"])
        self.seconds.append(time.perf_counter() - self._began)


def batch_sizes(largest: int) -> list[int]:
    """Powers of two from `SMALLEST` to the largest allowed; never none."""
    sizes = [SMALLEST]
    while sizes[-1] * 2 <= largest:
        sizes.append(sizes[-1] * 2)
    return sizes


def suggested_batch(speeds: Sequence[BatchSpeed]) -> int:
    """The smallest batch that is nearly as fast as any, by images a second."""
    best = max(speed.images_per_second for speed in speeds)
    near = [speed for speed in speeds if speed.images_per_second >= NEAR_BEST * best]
    return min(speed.batch_size for speed in near)


def _fit(
    model: TrainingModel, data: tf.data.Dataset, steps: int, *callbacks: keras.callbacks.Callback
) -> None:
    model.fit(
        data, steps_per_epoch=steps, epochs=1, callbacks=list(callbacks), shuffle=False, verbose=0
    )
