"""Batch normalisation in training: statistics of several devices, and TensorFlow's fused kernel."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from loc_keras.boxes import Tensor
from loc_keras.models.body import body_layers


def batch_norms(localizer: keras.Model) -> list[keras.layers.BatchNormalization]:
    """All batch normalisations of body and heads, each once."""
    layers = {id(layer): layer for layer in (*body_layers(localizer), *localizer.layers)}
    return [v for v in layers.values() if isinstance(v, keras.layers.BatchNormalization)]


def synchronize(localizer: keras.Model, wanted: bool) -> None:
    """Chooses whether batches are normalised by all devices together; a model is compiled after."""
    for layer in batch_norms(localizer):
        layer.synchronized = wanted


class AveragedStatistics(keras.callbacks.Callback):
    """Makes the moving statistics of all devices equal before they are used or saved.

    Keras lets each device move its own. So validation would measure as many models as there are
    devices, and only that of the first device would be saved.
    """

    def __init__(self, localizer: keras.Model, strategy: tf.distribute.Strategy) -> None:
        super().__init__()
        layers = batch_norms(localizer)
        self._variables = [v.value for layer in layers for v in layer.non_trainable_variables]
        self._strategy = strategy
        self._average = tf.function(self._run)

    def average(self) -> None:
        """Takes the mean over all devices; doing so twice changes nothing."""
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


class FusedCall:
    """Replaces the `call` of a layer that `can_fuse` by TensorFlow's fused kernel.

    Only steps that learn batch statistics on their own device use the kernel; all others, such as
    validation and frozen layers, use the layer's own `call`.
    """

    def __init__(self, layer: keras.layers.BatchNormalization) -> None:
        self._layer = layer
        self._keras_call = layer.call

    def __call__(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        """Normalises maps (N, H, W, C) of any float type, and moves the layer's statistics."""
        layer = self._layer
        learns = training and layer.trainable and not layer.synchronized
        if not learns or mask is not None or len(inputs.shape) != 4:
            return self._keras_call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.convert_to_tensor(layer.gamma),
            offset=ops.convert_to_tensor(layer.beta),
            # In training the kernel takes no statistics, but wants the arguments.
            mean=tf.zeros((0,)),
            variance=tf.zeros((0,)),
            epsilon=layer.epsilon,
            is_training=True,
        )
        values = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        # The kernel divides by n - 1 for the moving variance, Keras by n.
        _move(layer.moving_mean, mean, layer.momentum)
        _move(layer.moving_variance, variance * ((values - 1) / values), layer.momentum)
        return outputs


def fuse_batch_norms(localizer: keras.Model) -> int:
    """Fuses every batch normalisation that can be, before compiling; gives their number."""
    if keras.backend.backend() != "tensorflow":
        return 0
    layers = [layer for layer in batch_norms(localizer) if can_fuse(layer)]
    for layer in layers:
        if not isinstance(layer.call, FusedCall):
            layer.call = FusedCall(layer)
    return len(layers)


def can_fuse(layer: keras.layers.BatchNormalization) -> bool:
    """Whether the kernel does what the layer does: channels last, with scale and offset."""
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.built
        and layer.axis in (-1, 3)
        and layer.scale
        and layer.center
        and not getattr(layer, "renorm", False)
        and layer.gamma.dtype == "float32"
        and layer.compute_dtype in ("float32", "float16", "bfloat16")
    )


def _move(statistic: keras.Variable, value: Tensor, momentum: float) -> None:
    statistic.assign(statistic * momentum + value * (1.0 - momentum))
