"""The phases of fine-tuning: heads first, then all, with lower rates towards the pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import keras

from loc_keras.models.body_layers import body_groups, body_layers

SMALL_BATCH = 16
"""Below this many images batch statistics get noisy and batch normalisation loses accuracy (Wu and
He 2018, "Group Normalization", figure 1)."""


@dataclass(frozen=True)
class FineTune:
    """How a body that knows something already is trained on.

    Attributes:
        freeze_epochs: epochs in which only the heads learn.
        body_rate: learning rate of the body's last stage as a share of the heads'.
        layer_decay: factor on the rate from each stage of the body to the one before it.
        batch_norm: "frozen" keeps the body's batch normalisation as it came, "train" adapts it.
    """

    freeze_epochs: int = 0
    body_rate: float = 1.0
    layer_decay: float = 1.0
    batch_norm: Literal["train", "frozen"] = "train"


@dataclass(frozen=True)
class Phase:
    """Epochs with one set of trainable layers.

    Attributes:
        first: first epoch, from 0.
        end: epoch after the last one.
        body_learns: whether the body is trained, too.
    """

    first: int
    end: int
    body_learns: bool

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.end - self.first


def training_phases(epochs: int, freeze_epochs: int) -> list[Phase]:
    """Splits a training into the epochs with a resting body and those in which all learns."""
    rest = min(freeze_epochs, epochs)
    phases = [Phase(0, rest, body_learns=False), Phase(rest, epochs, body_learns=True)]
    return [phase for phase in phases if phase.epochs]


def set_trainable(localizer: keras.Model, *, body_learns: bool, batch_norm: str) -> None:
    """Chooses which of the body's layers learn; a model must be compiled anew after it.

    A batch normalisation that does not learn also takes its stored statistics instead of those of
    the batch, and leaves them as they are: Keras's rule for `trainable = False`.
    """
    for layer in body_layers(localizer):
        frozen = batch_norm == "frozen" and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = body_learns and not frozen


@contextmanager
def all_trainable(localizer: keras.Model) -> Iterator[None]:
    """Shows every layer of the body as trainable for a while, such as to save the model.

    What is saved carries the mark, and a layer that rested here would silently rest in whatever the
    next user trains.
    """
    marks = [(layer, layer.trainable) for layer in body_layers(localizer)]
    for layer, _ in marks:
        layer.trainable = True
    try:
        yield
    finally:
        for layer, mark in marks:
            layer.trainable = mark


def rate_factors(
    localizer: keras.Model, *, body_rate: float, layer_decay: float
) -> dict[str, float]:
    """Factors on the learning rate of the body's variables, by variable path.

    The last stage has `body_rate`, each stage before it `layer_decay` times that of the next
    (Howard and Ruder 2018, "Universal Language Model Fine-tuning", section 3.2, discriminative
    fine-tuning). Factors of 1 are left out.
    """
    factors: dict[str, float] = {}
    for depth, group in enumerate(reversed(body_groups(localizer))):
        factor = body_rate * layer_decay**depth
        for layer in group:
            factors |= {variable.path: factor for variable in layer.trainable_variables}
    return {path: factor for path, factor in factors.items() if factor != 1.0}


def small_batch_warning(batch_size: int, fine_tune: FineTune) -> str | None:
    """One sentence where a small batch would spoil the statistics that came with the weights."""
    if batch_size >= SMALL_BATCH or fine_tune.batch_norm == "frozen":
        return None
    return (
        f"train.batch_size {batch_size} gives noisy batch statistics, which overwrite those that "
        f"came with the weights; set train.fine_tune.batch_norm to frozen, or batch_size to "
        f"{SMALL_BATCH} or more."
    )
