"""Finding a learning rate: the loss while the rate rises from too low to too high."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from loc_keras.errors import TrainingError
from loc_keras.training.callbacks import Logs
from loc_keras.training.compiled import compiled_training_model
from loc_keras.training.plan import FitPlan
from loc_keras.training.targets import with_targets

LOWEST, HIGHEST = 1e-6, 1.0
"""Rates between which it is searched: Adam's useful ones lie well inside."""

STEPS = 150
"""Batches of a sweep, 25 for each factor of ten."""

MEMORY = 0.9
"""How much of the running mean of the loss each batch keeps: it looks at about the last ten."""

DIVERGED = 4.0
"""The sweep ends where the loss is so many times the lowest it was."""

BELOW_LOWEST = 10.0
"""The suggested rate is the one of the lowest loss over this: at the lowest itself the loss is
about to diverge."""


@dataclass(frozen=True)
class RateSweep:
    """A sweep of rising rates.

    Attributes:
        rates: Learning rate of each step.
        losses: Loss of each step's batch before the step.
        smooth: Their running mean.
        diverged: Whether the sweep ended because the loss rose, rather than at `HIGHEST`.
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
        """The rate to train with, to two digits."""
        return two_digits(self.lowest_at / BELOW_LOWEST)


def sweep_rates(
    localizer: keras.Model,
    batches: tf.data.Dataset,
    *,
    plan: FitPlan,
    losses: Mapping[str, Any],
    steps: int = STEPS,
) -> RateSweep:
    """Trains with a rate that rises by a constant factor from batch to batch.

    The learning-rate range test of Smith 2017 ("Cyclical Learning Rates", section 3.3), with rates
    by their logarithm.

    Args:
        localizer: A fresh model; its weights are spoilt.
        batches: Endless batches of (images, targets).
        plan: How it would be trained: optimizer, decay, clipping.
        losses: Arguments of `compile_localizer`.
        steps: Batches of a whole sweep, at least 2.

    Raises:
        TrainingError: If the loss was not finite from the first batch on.
    """
    # The rate is set at each step, and an average of the weights would never be looked at.
    steady = replace(plan, schedule="constant", warmup_epochs=0.0, ema=None, accumulate=1)
    model = compiled_training_model(localizer, steady, losses)
    rising = _RisingRate(rising_rates(steps))
    model.fit(
        with_targets(batches, list(model.output), background=plan.background is not None),
        steps_per_epoch=steps,
        epochs=1,
        callbacks=[rising],
        shuffle=False,
        verbose=0,
    )
    if not rising.losses:
        raise TrainingError(
            "the loss of the very first batch is not finite, at a learning rate of "
            f"{LOWEST:g}; check the data (python -m loc_keras.check)."
        )
    return RateSweep(
        rates=tuple(rising.rates[: len(rising.losses)]),
        losses=tuple(rising.losses),
        smooth=tuple(running_mean(rising.losses)),
        diverged=rising.diverged,
    )


class _RisingRate(keras.callbacks.Callback):
    """Sets each step's rate and notes its loss."""

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


def rising_rates(steps: int) -> list[float]:
    """Rates from `LOWEST` to `HIGHEST`, each a constant factor above the one before."""
    return [float(rate) for rate in np.geomspace(LOWEST, HIGHEST, steps)]


def running_mean(values: Sequence[float]) -> list[float]:
    """Exponentially weighted mean up to each value, without the bias of its start.

    The correction is that of Kingma and Ba 2015 ("Adam", section 3).
    """
    mean, found = 0.0, []
    for count, value in enumerate(values, start=1):
        mean = MEMORY * mean + (1 - MEMORY) * value
        found.append(mean / (1 - MEMORY**count))
    return found


def has_diverged(smooth: Sequence[float]) -> bool:
    """Whether the last of the running means is `DIVERGED` times the lowest.

    Losses whose weight is learned can be negative; the distance is then measured from the lowest in
    units of what was gained since the first.
    """
    lowest = min(smooth)
    if lowest > 0:
        return smooth[-1] > DIVERGED * lowest
    return smooth[-1] > lowest + DIVERGED * (smooth[0] - lowest)


def two_digits(value: float) -> float:
    """A number rounded to two significant digits."""
    return float(f"{value:.1e}")
