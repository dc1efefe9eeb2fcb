"""How raw pixels are normalised before the body sees them, and what fixes that."""

from dataclasses import dataclass

import keras
import numpy as np

NORMALIZATION = "normalization"
"""Name of the layer that subtracts the mean and divides by the deviation."""


@dataclass(frozen=True)
class Preprocessing:
    """Normalisation of raw pixels 0..255: (pixel - mean) / deviation, channel by channel.

    Weights were trained with one of these, which must come with them: other pixels would be a
    different picture to the same network.

    Attributes:
        mean: of each channel in the order that the body takes them, 0..255.
        deviation: likewise, above 0.
        reverse_channels: whether the body takes blue, green, red; means are in that order then.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    reverse_channels: bool = False

    @property
    def variance(self) -> tuple[float, ...]:
        """Square of each deviation, in squared pixel values."""
        return tuple(deviation**2 for deviation in self.deviation)


IMAGENET = Preprocessing(
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    deviation=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)
"""Of the torchvision and timm weights: mean and deviation of ImageNet's RGB pixels, 0..255."""


def preprocessing_of(localizer: keras.Model) -> Preprocessing:
    """Reads back how a localizer normalises its pixels."""
    config = localizer.get_layer(NORMALIZATION).get_config()
    return Preprocessing(
        mean=tuple(float(value) for value in np.ravel(config["mean"])),
        deviation=tuple(float(value) ** 0.5 for value in np.ravel(config["variance"])),
    )
