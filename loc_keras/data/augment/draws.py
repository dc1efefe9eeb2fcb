"""The uniform random numbers behind the augmentation of a batch, by name."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import tensorflow as tf

from loc_keras.config.augment import AugmentConfig

CANDIDATES = 4
"""Draws of the geometry and of the cutout for each image, of which the first good one counts.

A draw is given up for hiding too much of the object, which is rare; the chance that four are
falls with the fourth power, and what then remains is the picture without that change.
"""


class Drawn(NamedTuple):
    """Names of what a key of the config draws for each image: once, and `CANDIDATES` times."""

    once: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()


class Draws(NamedTuple):
    """A batch of draws, float32 (B, columns) uniform in [0, 1), and the columns' names."""

    values: tf.Tensor
    names: tuple[str, ...]

    def column(self, name: str) -> tf.Tensor:
        """The draws of one name, float32 (B,)."""
        return self.values[:, self.names.index(name)]

    def candidates(self, name: str) -> tf.Tensor:
        """The draws of one name, float32 (B, CANDIDATES)."""
        first = self.names.index(name)
        return self.values[:, first : first + CANDIDATES]

    def signed(self, name: str) -> tf.Tensor:
        """The candidates of one name, spread over [-1, 1); float64 (B, CANDIDATES)."""
        return tf.cast(self.candidates(name), tf.float64) * 2.0 - 1.0


def column_names(options: AugmentConfig, drawn: Mapping[str, Drawn]) -> Iterator[str]:
    """Names of the columns of a row of draws, in the order of the config's keys that are on.

    Those of candidates come last, each `CANDIDATES` times.
    """
    keys = [key for key in AugmentConfig.model_fields if key in drawn and getattr(options, key)]
    for key in keys:
        yield from drawn[key].once
    for key in keys:
        for name in drawn[key].candidates:
            yield from [name] * CANDIDATES


def log_uniform(signed: tf.Tensor, largest: float) -> tf.Tensor:
    """Factors from 1 / (1 + largest) to 1 + largest for draws in [-1, 1); float64."""
    return tf.exp(signed * math.log1p(largest))
