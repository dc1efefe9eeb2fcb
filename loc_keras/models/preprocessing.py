"""How raw pixels are normalised before the body sees them, and what fixes that."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

Tensor = Any  # A Keras tensor; Keras has no public static type for it.

NORMALIZATION = "normalization"
"""Name of the layer that subtracts the mean and divides by the deviation."""

COLOURS = 3
"""Channels of the images that all trained bodies take."""

BLACK_AND_WHITE = (0.0, 255.0)
"""Between these an affine normalisation is measured."""


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


def raw_pixels(channels: int) -> Preprocessing:
    """That of a body which normalises by itself: pixels 0..255 as they are."""
    return Preprocessing((0.0,) * channels, (1.0,) * channels)


def scaled_and_shifted(scale: Any, offset: Any) -> Preprocessing | None:
    """That of pixel * scale + offset, as KerasHub's image converters write it.

    Args:
        scale: one number or one a channel; None: 1.
        offset: likewise; None: 0.

    Returns:
        The normalisation, or None where a scale is not above 0.
    """
    scales = np.broadcast_to(1.0 if scale is None else scale, COLOURS)
    offsets = np.broadcast_to(0.0 if offset is None else offset, COLOURS)
    if not np.all(scales > 0):
        return None
    # From 0, so that no mean is a negative zero.
    means, deviations = 0.0 - offsets / scales, 1.0 / scales
    return Preprocessing(tuple(map(float, means)), tuple(map(float, deviations)))


@keras.saving.register_keras_serializable(package="loc_keras")
class ReverseChannels(layers.Layer):
    """Turns red, green, blue into blue, green, red: (N, H, W, C) with the last axis reversed."""

    def call(self, images: Tensor) -> Tensor:
        """Reverses the last axis."""
        return ops.flip(images, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Keeps the shape."""
        return input_shape


def normalised(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Builds the layers that normalise raw pixels (N, H, W, C), in float32 under every policy."""
    if preprocessing.reverse_channels:
        images = ReverseChannels(name="reverse_channels", dtype="float32")(images)
    return layers.Normalization(
        mean=list(preprocessing.mean),
        variance=[deviation**2 for deviation in preprocessing.deviation],
        name=NORMALIZATION,
        dtype="float32",
    )(images)


def preprocessing_of(localizer: keras.Model) -> Preprocessing:
    """Reads back how a localizer normalises its pixels."""
    config = localizer.get_layer(NORMALIZATION).get_config()
    return Preprocessing(
        mean=tuple(float(value) for value in np.ravel(config["mean"])),
        deviation=tuple(float(value) ** 0.5 for value in np.ravel(config["variance"])),
        reverse_channels=any(isinstance(layer, ReverseChannels) for layer in localizer.layers),
    )


def measured_preprocessing(function: Callable[[np.ndarray], np.ndarray]) -> Preprocessing | None:
    """Finds the normalisation that a function applies to RGB pixels, by trying it.

    Args:
        function: From float64 (N, H, W, 3), 0..255, to the same shape.

    Returns:
        The normalisation, or None where the function is of another kind: it was compared on
        colours of every mixture.
    """
    black, white = (
        np.asarray(function(np.full((1, 1, 1, 3), value)), np.float64)[0, 0, 0]
        for value in BLACK_AND_WHITE
    )
    if not np.all(white > black):
        return None
    deviation = (BLACK_AND_WHITE[1] - BLACK_AND_WHITE[0]) / (white - black)
    mean = -black * deviation
    colours = np.stack(np.meshgrid(*[np.linspace(0.0, 255.0, 6)] * 3), axis=-1).reshape(1, 6, 36, 3)
    given = np.asarray(function(colours.copy()), np.float64)
    for reverse in (False, True):
        taken = colours[..., ::-1] if reverse else colours
        if np.allclose(given, (taken - mean) / deviation, rtol=0, atol=1e-6 * np.ptp(given)):
            # Adding 0 turns the minus of a mean that is 0 into a plain 0.
            return Preprocessing(tuple((mean + 0.0).tolist()), tuple(deviation.tolist()), reverse)
    return None
