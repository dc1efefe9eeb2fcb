"""What a fit is given, in one piece."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from loc_keras.data.localization_data import HeldOutShare, TrainStream
from loc_keras.training.distribution import Distribution
from loc_keras.training.interruption import Interruption
from loc_keras.training.plan import FitPlan


@dataclass(frozen=True, eq=False)
class Task:
    """What `fit_localizer` was given."""

    localizer: keras.Model
    train: TrainStream
    val: tf.data.Dataset
    plan: FitPlan
    losses: Mapping[str, Any]
    folder: Path
    extra_callbacks: Sequence[keras.callbacks.Callback]
    interruption: Interruption
    say: Callable[[str], None]
    devices: Distribution
    val_share: HeldOutShare | None
