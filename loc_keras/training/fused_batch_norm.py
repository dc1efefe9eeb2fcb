"""Batch normalisation by TensorFlow's one kernel, while training.

Keras 3 composes it from means, squares and products, which pass over each map many times, in
float32 whatever the policy. TensorFlow has one kernel for the forward pass and one for the
gradient (Ioffe and Szegedy 2015, algorithm 1), which also read and write half precision. The
layers stay Keras's own, so that what is saved knows nothing of this, and results differ by
rounding alone. The gain is told in `docs/performance.md`.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from loc_keras.training.batch_statistics import batch_norms

Tensor = Any  # A Keras tensor; Keras has no public static type for it.


class FusedCall:
    """Stands for the `call` of one batch normalisation.

    Only steps that learn batch statistics on their own device take the kernel; for all others,
    such as validation and frozen layers, the layer's own `call` answers.

    Args:
        layer: a layer for which `can_fuse` holds.
    """

    def __init__(self, layer: keras.layers.BatchNormalization) -> None:
        """Stores the layer; see the class."""
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
    """Lets every batch normalisation that can take the kernel do so; twice is as once.

    Args:
        localizer: the model; it must be compiled anew after this.

    Returns:
        How many do.
    """
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
    """Moves an average as Keras does."""
    statistic.assign(statistic * momentum + value * (1.0 - momentum))
