"""The most probable class, in operations that the runtimes of devices know."""

from typing import Any

from keras import ops

Tensor = Any  # A Keras tensor; Keras has no public static type for it.


def most_probable(probabilities: Tensor) -> Tensor:
    """Index of the largest probability, the first of equals.

    `ops.argmax` of floats looks at their sign bits, which LiteRT, ONNX and OpenVINO cannot.

    Args:
        probabilities: float (N, K).

    Returns:
        int32 (N,).
    """
    values = ops.convert_to_tensor(probabilities)
    is_highest = ops.equal(values, ops.max(values, axis=-1, keepdims=True))
    return ops.cast(ops.argmax(ops.cast(is_highest, "int32"), axis=-1), "int32")
