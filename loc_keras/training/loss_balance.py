"""Weighing the terms of the loss by their uncertainty, which is learned with the weights."""

from typing import Any

import keras

Tensor = Any  # A Keras tensor; Keras has no public static type for it.


class LogVariances(keras.layers.Layer):
    """Holds the logarithm of the noise's variance in each term: one trained number a loss.

    Args:
        terms: Names of the losses.
    """

    def __init__(self, terms: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.of = {
            term: self.add_weight(shape=(), initializer="zeros", name=f"{term}_log_variance")
            for term in terms
        }


class UncertainLoss(keras.losses.Loss):
    """A loss divided by the variance of its noise, with the price of claiming much noise.

    It is exp(-s) L + s / 2 with s = log(variance), as Kendall, Gal and Cipolla 2018 have it
    ("Multi-Task Learning Using Uncertainty to Weigh Losses", equation 10) but for their factor 1/2
    on regressions, which only shifts s. Where s follows, the term weighs 1 / (2 L): all terms pull
    alike, however large they are. At the start, with s = 0, it is the loss itself. A loss that
    reaches 0 would drive s to minus infinity; `FLOOR` is as low as it counts.

    Args:
        loss: The loss L, >= 0.
        log_variance: s, a scalar variable.
    """

    FLOOR = -5.0
    """Weights grow to e^5, about 150, at most."""

    def __init__(self, loss: keras.losses.Loss, log_variance: Any) -> None:
        super().__init__(name=loss.name, reduction=loss.reduction, dtype=loss.dtype)
        self.loss = loss
        self.log_variance = log_variance

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Tensor:
        """The loss of a batch, reduced as the inner loss is."""
        found = self.loss(y_true, y_pred, sample_weight)
        log_variance = keras.ops.maximum(self.log_variance, self.FLOOR)
        return keras.ops.exp(-log_variance) * found + log_variance / 2


def balanced(
    losses: dict[str, keras.losses.Loss], variances: LogVariances
) -> dict[str, keras.losses.Loss]:
    """Every loss with its own uncertainty."""
    return {name: UncertainLoss(loss, variances.of[name]) for name, loss in losses.items()}
