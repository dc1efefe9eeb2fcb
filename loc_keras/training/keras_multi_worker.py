"""What Keras 3 needs to `fit` with several workers: a mend for keras issue 20585.

After each step Keras takes the mean of every measure over the workers by `reduce("MEAN", v,
axis=0)`; the measures are scalars, which have no axis 0, so that it fails. And to build a model it
takes the mean over whole batches, of integers as well, of which it only wants to know the shapes.

The strategy here answers these two calls, which fail otherwise, and leaves all others as they are.
Keras itself is not touched. `strategy_for_keras` gives TensorFlow's own strategy as soon as Keras
does without: a test looks at its behaviour, and fails then, so that this module can go.
"""

from typing import Any

import keras
import tensorflow as tf
from packaging.version import Version

SEEN_WITH = "3.15"
"""The newest minor version of Keras in which the fault was seen."""


class MendedMultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's strategy for several workers, with `reduce` as Keras 3 calls it."""

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        """Reduces over all replicas, as the method of TensorFlow does.

        Args:
            reduce_op: "SUM", "MEAN" or a `tf.distribute.ReduceOp`.
            value: Values of the replicas; a structure of them is answered by those of the first
                replica here, since Keras asks so for shapes alone.
            axis: Axis to reduce too; None for scalars, and taken as None where they are scalars.
        """
        if tf.nest.is_nested(value):
            return tf.nest.map_structure(lambda one: self.experimental_local_results(one)[0], value)
        if axis == 0 and self.experimental_local_results(value)[0].shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis=axis)


def strategy_for_keras(**arguments: Any) -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy for the workers in TF_CONFIG, mended where this Keras needs it.

    Args:
        **arguments: Of `tf.distribute.MultiWorkerMirroredStrategy`.
    """
    if keras_needs_the_mend():
        return MendedMultiWorkerStrategy(**arguments)
    return tf.distribute.MultiWorkerMirroredStrategy(**arguments)


def keras_needs_the_mend() -> bool:
    """Whether Keras still reduces scalars along axis 0, or is a version known to.

    Looked at by asking Keras to reduce a scalar with a strategy that only takes notes; it is no
    tensor, since several workers must be set up before the first operation.
    """
    if Version(keras.__version__) < Version(SEEN_WITH):
        return True
    try:
        from keras.src.backend.tensorflow.trainer import reduce_per_replica
    except ImportError:  # Keras was rearranged; the mend changes no call that works.
        return True
    noted: list[int | None] = []
    reduce_per_replica(1.0, _note_taker(noted), "mean")
    return noted == [0]


def _note_taker(noted: list[int | None]) -> tf.distribute.MultiWorkerMirroredStrategy:
    """What Keras takes for a strategy of several workers, without a cluster."""

    class NoteTaker(tf.distribute.MultiWorkerMirroredStrategy):
        extended = type("Extended", (), {"_in_multi_worker_mode": staticmethod(lambda: True)})()

        def __init__(self) -> None:
            """Begins nothing."""

        def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
            noted.append(axis)
            return value

    return NoteTaker()
