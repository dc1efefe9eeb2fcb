"""Batch normalisation on several devices: statistics of the whole batch, or of each one's share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from loc_keras.models.body_layers import body_layers


def batch_norms(localizer: keras.Model) -> list[keras.layers.BatchNormalization]:
    """All batch normalisations of body and heads, each once."""
    layers = {id(layer): layer for layer in (*body_layers(localizer), *localizer.layers)}
    return [one for one in layers.values() if isinstance(one, keras.layers.BatchNormalization)]


def synchronize(localizer: keras.Model, wanted: bool) -> None:
    """Chooses whether batches are normalised by the statistics of all devices together.

    It changes what is traced from now on; a model must be compiled anew after it.
    """
    for layer in batch_norms(localizer):
        layer.synchronized = wanted


@contextmanager
def unsynchronized(localizer: keras.Model) -> Iterator[None]:
    """Shows every batch normalisation as a plain one for a while, such as to save the model.

    What is saved carries the mark, and Keras opens it with TensorFlow as the backend alone.
    """
    marks = [(layer, layer.synchronized) for layer in batch_norms(localizer)]
    synchronize(localizer, False)
    try:
        yield
    finally:
        for layer, mark in marks:
            layer.synchronized = mark


class AveragedStatistics(keras.callbacks.Callback):
    """Makes the moving statistics of all devices equal before they are used or saved.

    Keras lets each device move its own. So validation would measure as many models as there are
    devices, and the one that is saved would know the first device's share alone.

    Args:
        localizer: The model.
        strategy: Its devices.
    """

    def __init__(self, localizer: keras.Model, strategy: tf.distribute.Strategy) -> None:
        """Stores whose they are; see the class."""
        super().__init__()
        layers = batch_norms(localizer)
        self._variables = [v.value for layer in layers for v in layer.non_trainable_variables]
        self._strategy = strategy
        self._average = tf.function(self._run)

    def average(self) -> None:
        """Takes the mean over all devices; a second one changes nothing."""
        if self._variables:
            self._average()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Before a validation."""
        self.average()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Likewise where there was no validation."""
        self.average()

    def _run(self) -> None:
        def mean() -> None:
            context = tf.distribute.get_replica_context()
            # A reduction asks for a tensor's device, which what is read of a variable has not.
            values = [tf.identity(variable) for variable in self._variables]
            means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
            for variable, value in zip(self._variables, means, strict=True):
                variable.assign(value)

        self._strategy.run(mean)
