"""Stochastic depth: residual branches that are left out at random while training."""

from typing import Any

import keras
from keras import layers, ops

Tensor = Any  # A Keras tensor; Keras has no public static type for it.


@keras.saving.register_keras_serializable(package="loc_keras")
class StochasticDepth(layers.Layer):
    """Leaves a residual branch out for some images of a batch (Huang et al. 2016, equation 2).

    In training each image's branch (N, h, w, C) is multiplied by 0 with probability `rate`, else by
    1 / (1 - rate), so that its mean stays. Otherwise the branch passes unchanged. The paper scales
    at inference instead; the two train the same network up to a constant.

    Args:
        rate: probability of leaving out, above 0 and below 1.
        seed: of the draws; None takes one from Keras's global seed.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        """Stores the rate; see the class."""
        super().__init__(**kwargs)
        if not 0 < rate < 1:
            raise ValueError(f"rate must be above 0 and below 1, not {rate!r}")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, branch: Tensor, training: bool = False) -> Tensor:
        """Draws for each image whether its branch counts."""
        if not training:
            return branch
        shape = (ops.shape(branch)[0], *(1,) * (len(branch.shape) - 1))
        # Drawn in float32: half precision would round the rate.
        drawn = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        kept = ops.cast(drawn >= self.rate, branch.dtype)
        return branch * kept / (1 - self.rate)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Keeps the shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Gives the arguments that rebuild the layer."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
