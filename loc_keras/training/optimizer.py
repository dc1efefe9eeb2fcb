"""The optimizer and the course of its learning rate."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from loc_keras.config.train import TrainConfig

Schedule: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule

NO_DECAY = ("bias", "gamma", "beta", "log_variance")
"""Variables that weight decay leaves alone: offsets and scales do not overfit, and pulling
batch-normalisation scales to 0 only changes the effective learning rate; nor does a weight of a
loss."""

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1e-4 / 25
"""Share of the steps in which the one-cycle rate rises, and its first and last value as a share of
the peak: those of PyTorch's OneCycleLR, whose last rate is 1e-4 of the first."""


def learning_rate_schedule(
    *, peak: float, schedule: str, warmup_steps: int, total_steps: int
) -> Schedule:
    """A linear rise to the peak over the warm-up, then a half cosine to 0 or a constant rate.

    "cosine" is equation 5 of Loshchilov and Hutter 2017 with one period. "one_cycle" (Smith and
    Topin 2018, "Super-Convergence", both halves as cosines, the momentum left as it is) has a rise
    of its own in place of the warm-up (Goyal et al. 2017). `total_steps` include the rise.
    """
    if schedule == "one_cycle":
        return OneCycle(peak, total_steps)
    if schedule == "constant" and warmup_steps == 0:
        return peak
    # A constant rate is a cosine whose end is as high as its beginning (alpha 1).
    alpha = 1.0 if schedule == "constant" else 0.0
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(peak, total_steps, alpha=alpha)
    return keras.optimizers.schedules.CosineDecay(
        peak / warmup_steps,
        max(1, total_steps - warmup_steps),
        alpha=alpha,
        warmup_target=peak,
        warmup_steps=warmup_steps,
    )


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Rises by a half cosine from a low rate to the peak, then falls by another to almost 0."""

    def __init__(self, peak: float, total_steps: int) -> None:
        self.peak = peak
        self.total_steps = total_steps

    def __call__(self, step: Any) -> Any:
        """The rate of a step, counted from 0; after the cycle it stays at its end."""
        step = keras.ops.cast(step, "float32")
        last = float(max(1, self.total_steps - 1))
        turn = ONE_CYCLE_RISE * self.total_steps - 1.0
        risen = keras.ops.clip(step / max(turn, 1.0), 0.0, 1.0)
        fallen = keras.ops.clip((step - turn) / max(last - turn, 1.0), 0.0, 1.0)
        rise = _half_cosine(ONE_CYCLE_START * self.peak, self.peak, risen)
        fall = _half_cosine(self.peak, ONE_CYCLE_END * self.peak, fallen)
        return keras.ops.where(step < turn, rise, fall)

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the schedule."""
        return {"peak": self.peak, "total_steps": self.total_steps}


def _half_cosine(start: float, end: float, share: Any) -> Any:
    return end + (start - end) * 0.5 * (1.0 + keras.ops.cos(math.pi * share))


class ClippedSum(keras.optimizers.Optimizer):
    """Clips the gradient of the whole batch; stands before an optimizer as its base.

    With several devices Keras clips what each of them contributes, before it adds them up. A limit
    would then mean something else for each number of devices.
    """

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        return grads if _several_replicas() else super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> list[Any]:
        summed = super()._all_reduce_sum_gradients(grads_and_vars)
        if not _several_replicas():
            return summed
        clipped = super()._clip_gradients([gradient for gradient, _ in summed])
        return [(gradient, pair[1]) for gradient, pair in zip(clipped, summed, strict=True)]


def _several_replicas() -> bool:
    return tf.distribute.get_strategy().num_replicas_in_sync > 1


class AdamW(ClippedSum, keras.optimizers.AdamW):
    """Keras's AdamW, with the gradient clipped as a whole."""


class Adam(ClippedSum, keras.optimizers.Adam):
    """Adam (Kingma and Ba 2015) with rates by variable and weight decay of either kind.

    Keras's own `weight_decay` acts apart from the gradient in Adam too, which makes it AdamW, and
    decays every variable at the optimizer's one rate, which cannot follow rates by variable.

    Args:
        l2: decay as part of the gradient of every variable, as in PyTorch's Adam.
        decay: decay apart from the gradient, at the rate of the variable's step, but for variables
            of `NO_DECAY`: AdamW (Loshchilov and Hutter 2019, algorithm 2).
        rate_factors: factor of a variable's rate by its path; others keep 1.
    """

    def __init__(
        self,
        *args: Any,
        l2: float = 0.0,
        decay: float = 0.0,
        rate_factors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = l2
        self.decay = decay
        self.rate_factors = dict(rate_factors or {})

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decays the variable or its gradient, then steps as Keras's Adam does."""
        known = self._trainable_variables[self._get_variable_index(variable)]
        if self.rate_factors:
            learning_rate = learning_rate * self.rate_factors.get(known.path, 1.0)
        if self.decay and not re.search("|".join(NO_DECAY), known.name):
            shrunk = keras.ops.cast(learning_rate * self.decay, variable.dtype) * variable
            self.assign_sub(variable, shrunk)
        if self.l2:
            decay = keras.ops.cast(self.l2, variable.dtype) * variable
            gradient = keras.ops.cast(gradient, variable.dtype) + decay
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the optimizer."""
        own = {"l2": self.l2, "decay": self.decay, "rate_factors": self.rate_factors}
        return {**super().get_config(), **own}


def make_optimizer(
    train: TrainConfig,
    *,
    schedule: Schedule | None = None,
    rate_factors: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """Makes AdamW (Loshchilov and Hutter 2019) or Adam (Kingma and Ba 2015).

    AdamW's weight decay is apart from the gradient and scaled by the learning rate, with biases and
    scales exempt; Adam's is added to every gradient. `rate_factors` are those of `Adam`.
    """
    rate = train.learning_rate if schedule is None else schedule
    ema, accumulate = train.ema, train.accumulate
    common: dict[str, Any] = {
        "global_clipnorm": train.gradient_clip_norm,
        "use_ema": ema is not None,
        # Keras averages after every batch, also between updates, when the weights stand still.
        "ema_momentum": ema ** (1 / accumulate) if ema is not None else 0.99,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
    }
    if train.optimizer == "adam":
        return Adam(rate, l2=train.weight_decay, rate_factors=rate_factors, **common)
    if rate_factors:
        return Adam(rate, decay=train.weight_decay, rate_factors=rate_factors, **common)
    optimizer = AdamW(rate, weight_decay=train.weight_decay, **common)
    optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    return optimizer
