"""How a run goes on from a checkpoint."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from loc_keras.training.checkpoint_files import Checkpoint, models_in, put_back
from loc_keras.training.distribution import ALONE, Distribution
from loc_keras.training.position import Place
from loc_keras.training.training_state import (
    METRICS,
    MODEL,
    OPTIMIZER,
    build_metrics,
    restore_arrays,
)

PHASE_CALLBACKS = ("AveragedWeights", "PatientStopping")
"""Callbacks that begin anew with each phase."""


def place_of(saved: Checkpoint) -> Place:
    """Where a checkpoint was taken."""
    return Place(saved.state["epoch"], saved.state["step"])


def rate_of(saved: Checkpoint | None) -> float:
    """Factor on the learning rate with which the run goes on."""
    return 1.0 if saved is None else float(saved.state["rate"])


def is_done(saved: Checkpoint, epochs: int) -> bool:
    """Whether nothing is left to train."""
    return bool(saved.state["done"]) or place_of(saved).epoch >= epochs


def restore_models(saved: Checkpoint, targets: Iterable[Path]) -> None:
    """Puts back the saved models as they were; one that there was none of then is removed."""
    models = {path.name: path for path in models_in(saved)}
    for target in targets:
        if target.name in models:
            put_back(models[target.name], target)
        else:
            target.unlink(missing_ok=True)


def restore_variables(
    model: keras.Model,
    saved: Checkpoint,
    phase: int,
    stream: tf.data.Dataset,
    devices: Distribution = ALONE,
) -> Callable[[], None]:
    """Puts all variables back but those of the measures, which `fit` resets as it begins.

    Args:
        model: Compiled, with a built optimizer.
        saved: The checkpoint. One of the phase before, at its end, gives its weights alone.
        phase: First epoch of the phase that goes on.
        stream: Of training, to build measures by; for several devices `fit` builds them first.
        devices: What trains.

    Returns:
        What puts the measures of the half-done epoch back.
    """
    half_done = saved.state["step"] > 0
    if half_done and devices.strategy is None:
        build_metrics(model, next(iter(stream)))
    same_phase = saved.state["phase"] == phase
    with devices.scope():
        restore_arrays(model, saved.arrays, (MODEL, OPTIMIZER) if same_phase else (MODEL,))

    def restore_metrics() -> None:
        with devices.scope():
            restore_arrays(model, saved.arrays, (METRICS,))

    return restore_metrics if half_done else lambda: None


def callback_values(saved: Checkpoint, phase: int) -> dict[str, Any]:
    """State of the callbacks as it goes into a phase."""
    states = dict(saved.state["callbacks"])
    if saved.state["phase"] != phase:
        for name in PHASE_CALLBACKS:
            states.pop(name, None)
    return states
