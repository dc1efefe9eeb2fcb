"""All that decides how a training goes on: collected as arrays and plain values, and put back."""

import random
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from loc_keras.training.checkpoint_files import CheckpointError

MODEL, OPTIMIZER, METRICS = "model", "optimizer", "metrics"
"""Groups of variables: weights, statistics, seeds; slots, averages, scales, the step; sums."""


@runtime_checkable
class Stateful(Protocol):
    """A callback whose values decide how a run goes on."""

    def state(self) -> dict[str, Any]:
        """Its values, which JSON can hold."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes such values back."""
        ...


def variables_of(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """Every variable of a compiled model, by group, in an order that its construction fixes."""
    return {
        MODEL: model.variables,
        OPTIMIZER: model.optimizer.variables,
        METRICS: [variable for metric in model.metrics for variable in metric.variables],
    }


def build_optimizer(model: keras.Model) -> None:
    """Makes the optimizer's variables, which Keras would make at the first step."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def build_metrics(model: keras.Model, batch: tuple[Any, ...]) -> None:
    """Makes the variables of losses and measures by measuring a batch once, without a step.

    Args:
        model: Compiled.
        batch: Images, targets and perhaps weights.
    """
    images, targets, weights = (*batch, None)[:3]
    outputs = model(images, training=False)
    model.compute_loss(x=images, y=targets, y_pred=outputs, sample_weight=weights, training=True)
    model.compute_metrics(images, targets, outputs, weights)
    model.reset_metrics()


def collect_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Values of all variables as they are now, by names such as `model/0003/stem/kernel`.

    The arrays are read-only where that spares a copy, and stay as they are while training goes on.
    """
    return {
        f"{group}/{index:04d}/{variable.path}": _value_of(variable)
        for group, variables in variables_of(model).items()
        for index, variable in enumerate(variables)
    }


def _value_of(variable: keras.Variable) -> np.ndarray:
    """The value of a variable, without a copy where one device holds it.

    Whoever reads such a variable shares its buffer, and TensorFlow copies a shared buffer before it
    writes to it. Training then waits for no copy, but for one call a variable.
    """
    value = variable.value
    if isinstance(value, tf.distribute.DistributedValues):
        return np.asarray(keras.ops.convert_to_numpy(variable))
    return np.asarray(tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype))


def restore_arrays(
    model: keras.Model, arrays: Mapping[str, np.ndarray], groups: Iterable[str]
) -> None:
    """Puts copies back into the variables of some groups, matched by their order.

    Paths are for readers: Keras numbers unnamed layers through a whole process.

    Raises:
        CheckpointError: If number, shape or type of the variables differ.
    """
    for group in groups:
        variables = variables_of(model)[group]
        names = sorted(name for name in arrays if name.startswith(f"{group}/"))
        if len(names) != len(variables):
            raise CheckpointError(
                f"the checkpoint holds {len(names)} {group} variables, but there are "
                f"{len(variables)}; it was made by another version of the program."
            )
        for name, variable in zip(names, variables, strict=True):
            array = arrays[name]
            if array.shape != tuple(variable.shape) or str(array.dtype) != variable.dtype:
                raise CheckpointError(
                    f"the checkpoint's {name} is {array.dtype} {array.shape}, but {variable.path} "
                    f"is {variable.dtype} {tuple(variable.shape)}; it was made by another version "
                    "of the program."
                )
            variable.assign(array)


def are_finite(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether all weights and all of the optimizer's variables are numbers."""
    return all(
        bool(np.isfinite(array).all())
        for name, array in arrays.items()
        if not name.startswith(METRICS) and np.issubdtype(array.dtype, np.floating)
    )


def random_state() -> dict[str, Any]:
    """State of the generators of Python, NumPy and TensorFlow; layers' seeds are variables."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    generator = tf.random.get_global_generator()
    inner = numpy_state["state"]
    return {
        "python": [version, list(words), gauss],
        "numpy": {
            **numpy_state,
            "state": {"key": inner["key"].tolist(), "pos": int(inner["pos"])},
        },
        "tensorflow": {"state": generator.state.numpy().tolist(), "alg": int(generator.algorithm)},
    }


def restore_random(state: Mapping[str, Any]) -> None:
    """Puts the generators back to where `random_state` found them."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    inner = state["numpy"]["state"]
    key = np.asarray(inner["key"], np.uint32)
    np.random.set_state({**state["numpy"], "state": {**inner, "key": key}})
    saved = state["tensorflow"]
    tf.random.set_global_generator(
        tf.random.Generator.from_state(
            np.asarray(saved["state"], np.int64), _algorithm(saved["alg"])
        )
    )


def _algorithm(number: int) -> str:
    """TensorFlow's name of a generator's algorithm."""
    return {1: "philox", 2: "threefry"}[number]


def callback_states(callbacks: Iterable[keras.callbacks.Callback]) -> dict[str, Any]:
    """Values of all callbacks that have some, by the name of their class."""
    return {type(one).__name__: one.state() for one in callbacks if isinstance(one, Stateful)}


def restore_callbacks(
    callbacks: Iterable[keras.callbacks.Callback], states: Mapping[str, Any]
) -> None:
    """Gives callbacks their values back; one that had none begins anew."""
    for one in callbacks:
        if isinstance(one, Stateful) and type(one).__name__ in states:
            one.restore(states[type(one).__name__])
