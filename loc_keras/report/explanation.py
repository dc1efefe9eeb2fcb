"""Why a localizer answered so: what its class was read from, and where each side may lie."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from loc_keras.data.resize import ResizeRule, placement
from loc_keras.models.heads import SIDES_LAYER
from loc_keras.report.image_boxes import BoxStyle

CLASS_MAP = BoxStyle("bright: what the class was read from", "#ffffff", 5.0)
SIDE_BANDS = BoxStyle("bands: where each side may lie", "#35c9ff", 5.0)
"""Of legends, with the colours of the picture."""

_MAPS = ("softmax_region1", "softmax_pool")
"""Layers that read feature maps for the class, the finest map first."""

_LOGITS = "softmax_logits"
_DARKEST = 0.35
"""Brightness of what the class was not read from, as a share of the picture's."""

_BAND, _SURE = 0.75, 10.0
"""Highest opacity of a band, and from which density on it has it; over the whole image it is 1."""


class Explanation(NamedTuple):
    """Of one answer.

    Attributes:
        class_map: Share of the evidence for the answered class at each pixel of the image that the
            model was given, float32 (H, W); the largest is 1, unless all are 0.
        sides: Probability of each position of x1, y1, x2 and y2, float32 (4, B), bin k standing for
            the fraction k / (B - 1) of the image; None where the head has no distribution.
    """

    class_map: npt.NDArray[np.float32]
    sides: npt.NDArray[np.float32] | None


def is_explainable(localizer: keras.Model) -> bool:
    """Whether `explainer` knows a model's layers, as it does of all that are built here."""
    return any(layer.name in _MAPS for layer in localizer.layers)


def explainer(localizer: keras.Model) -> Callable[[npt.ArrayLike], list[Explanation]]:
    """A function that explains the answers about images (N, H, W, C) with raw pixels.

    The class map is HiResCAM (Draelos and Carin 2020, equation 4): gradient of the answered class's
    logit times activation, summed over channels, where positive, on the finest feature map that
    the class is read from. With average pooling that is Grad-CAM (Selvaraju et al. 2017).
    """
    layers = {layer.name: layer for layer in localizer.layers}
    reading = next(layers[name] for name in _MAPS if name in layers)
    given = reading.input
    outputs = {"map": given[0] if isinstance(given, list | tuple) else given}
    outputs["logits"] = layers[_LOGITS].output
    if SIDES_LAYER in layers:
        outputs["sides"] = keras.ops.softmax(layers[SIDES_LAYER].output, axis=-1)
    model = keras.Model(localizer.inputs[0], outputs)
    size = localizer.input_shape[1:3]

    @tf.function(
        input_signature=[tf.TensorSpec((None, *localizer.input_shape[1:]), tf.float32)],
        autograph=False,
    )
    def explain(images: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            answers = model(images, training=False)
            best = tf.reduce_max(answers["logits"], axis=-1)
        gradient = tape.gradient(best, answers["map"])
        evidence = tf.nn.relu(tf.reduce_sum(gradient * answers["map"], axis=-1, keepdims=True))
        evidence = tf.image.resize(tf.cast(evidence, tf.float32), size)[..., 0]
        highest = tf.reduce_max(evidence, axis=(1, 2), keepdims=True)
        found = {"class_map": tf.math.divide_no_nan(evidence, highest)}
        return found | {name: answers[name] for name in answers if name == "sides"}

    def explained(images: npt.ArrayLike) -> list[Explanation]:
        found = explain(tf.constant(np.asarray(images, np.float32)))
        maps = found["class_map"].numpy()
        sides = found["sides"].numpy() if "sides" in found else [None] * len(maps)
        return [Explanation(*pair) for pair in zip(maps, sides, strict=True)]

    return explained


def drawn_explanation(
    picture: Image.Image, explanation: Explanation, rule: ResizeRule
) -> tuple[Image.Image, Sequence[BoxStyle]]:
    """An upright RGB picture with its explanation on it, and what a legend says of that.

    What the class was not read from is darkened; over each side runs a band as opaque as the side
    is probable there. `rule` is how the picture was brought to the model's size.
    """
    width, height = picture.size
    evidence = _in_picture(explanation.class_map, (height, width), rule)
    shown = np.asarray(picture, np.float32) * (_DARKEST + (1 - _DARKEST) * evidence[..., None])
    styles = [CLASS_MAP]
    if explanation.sides is not None:
        bins = explanation.sides.shape[-1]
        planes = np.zeros((2, bins, bins), np.float32)
        x1, y1, x2, y2 = np.minimum(explanation.sides * (bins - 1) / _SURE, 1.0)
        planes[0], planes[1] = np.maximum(x1, x2)[None, :], np.maximum(y1, y2)[:, None]
        bands = _in_picture(planes.max(axis=0), (height, width), rule)[..., None] * _BAND
        colour = np.array([int(SIDE_BANDS.colour[at : at + 2], 16) for at in (1, 3, 5)], np.float32)
        shown = shown * (1 - bands) + colour * bands
        styles.append(SIDE_BANDS)
    return Image.fromarray(np.rint(shown).astype(np.uint8)), styles


def _in_picture(
    values: npt.NDArray[np.float32], size: tuple[int, int], rule: ResizeRule
) -> npt.NDArray[np.float32]:
    """Values over the model's image, cut to the picture in it and brought to its size, 0..1."""
    plane = Image.fromarray(values)
    if rule == "letterbox":
        (tall, wide), (top, left) = placement(size, values.shape)
        plane = plane.crop((left, top, left + wide, top + tall))
    resized = plane.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized), 0.0, 1.0)
