"""The optimizer and the course of its learning rate."""

from typing import Any, TypeAlias

import keras

Schedule: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule

NO_DECAY = ("bias", "gamma", "beta")
"""Variables that weight decay leaves alone: offsets and scales do not overfit, and pulling
batch-normalisation scales to 0 only changes the effective learning rate."""


def learning_rate_schedule(
    *, peak: float, schedule: str, warmup_steps: int, total_steps: int
) -> Schedule:
    """A linear rise to the peak, then a half cosine to 0 or a constant rate.

    Args:
        peak: highest learning rate, > 0.
        schedule: "cosine" (Loshchilov and Hutter 2017, equation 5, one period) or "constant".
        warmup_steps: steps of the rise (Goyal et al. 2017); 0 for none.
        total_steps: steps of the whole training, the rise included.
    """
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


class AdamWithL2(keras.optimizers.Adam):
    """Adam (Kingma and Ba 2015) whose weight decay is part of the gradient, as in PyTorch's Adam.

    Keras's own `weight_decay` acts apart from the gradient in Adam too, which makes it AdamW.
    """

    def __init__(self, *args: Any, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Adds the decay to the gradient, then steps as Adam does."""
        decay = keras.ops.cast(self.l2, variable.dtype) * variable
        super().update_step(
            keras.ops.cast(gradient, variable.dtype) + decay, variable, learning_rate
        )

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the optimizer."""
        return {**super().get_config(), "l2": self.l2}


def make_optimizer(
    name: str,
    *,
    learning_rate: Schedule,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    ema: float | None = None,
) -> keras.optimizers.Optimizer:
    """Makes AdamW (Loshchilov and Hutter 2019) or Adam (Kingma and Ba 2015).

    Args:
        name: "adamw" or "adam".
        learning_rate: a rate or a schedule.
        weight_decay: for "adamw" apart from the gradient and scaled by the learning rate, with
            biases and scales exempt; for "adam" added to the gradient of every variable.
        clip_norm: largest norm of the whole gradient; None for no limit.
        ema: momentum of the moving average of the weights; None for none.
    """
    common: dict[str, Any] = {
        "global_clipnorm": clip_norm,
        "use_ema": ema is not None,
        "ema_momentum": ema if ema is not None else 0.99,
    }
    if name == "adam":
        return AdamWithL2(learning_rate, l2=weight_decay, **common)
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, **common)
    optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    return optimizer
