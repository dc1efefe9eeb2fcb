"""A trained model as it was opened, whatever it was opened from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from loc_keras.data.image_format import ImageFormat
from loc_keras.localizer.run_settings import Settings

Answer = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]
"""Takes raw pixels float32 (N, H, W, C), inside a graph."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A trained model with all that is known of it.

    Attributes:
        path: File or folder of the model itself.
        answer: What it answers: `softmax`, `bbox` and, where trust is fitted, what
            `statements.STATED` names.
        form: The images that it takes.
        settings: Names of classes, resize rule, class of the background.
        trusted: Whether trust is fitted.
        notes: What was not known and how it was taken instead, as sentences.
        digest: SHA-256, in hex, of the model and of what is said about its answers.
    """

    path: Path
    answer: Answer
    form: ImageFormat
    settings: Settings
    trusted: bool
    notes: tuple[str, ...]
    digest: str
