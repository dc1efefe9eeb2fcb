"""The whole localizer: normalisation, body, class head and box head in one functional model."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from loc_keras.boxes import Tensor
from loc_keras.errors import ModelError
from loc_keras.models import other_bodies
from loc_keras.models.backbone import RESNETS, resnet_maps
from loc_keras.models.body import Body, Preprocessing, normalised
from loc_keras.models.heads import BOX_HEADS, CLASS_HEADS, certainty

SMALLEST_SIDE = 16  # Images with a shorter side vanish in the body's strides.


# By what names begin with: what refuses an unknown name, and what builds the body.
_OTHER_BODIES: dict[str, tuple[Callable[[str], Any], Callable[..., Body]]] = {
    other_bodies.APPLICATIONS: (other_bodies.find_application, other_bodies.build_application),
    other_bodies.HUB: (other_bodies.find_preset, other_bodies.build_hub_body),
}


def build_localizer(
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    backbone: str = "resnet18",
    width: int = 64,
    stem: str = "imagenet",
    stochastic_depth: float = 0.0,
    bbox_head: str = "distribution",
    class_head: str = "region",
    dropout: float = 0.0,
    pixel_mean: Sequence[float] | None = None,
    pixel_variance: Sequence[float] | None = None,
    body: Body | None = None,
    name: str = "localizer",
) -> keras.Model:
    """Builds a model that answers `{"softmax": (N, K), "bbox": (N, 4)}`, both float32.

    Args:
        image_shape: (height, width, channels) of its images, raw pixels 0..255.
        num_classes: K, at least 1.
        backbone: A key of `backbone.RESNETS`, `applications/<name>` or `hub/<preset>`; the last two
            begin from random weights here.
        width: Of ResNets, channels of the first stage; 64 is the classic one.
        stem: Of ResNets, "imagenet" or "small", see `backbone.resnet_maps`.
        stochastic_depth: Of ResNets, see there.
        bbox_head: A key of `heads.BOX_HEADS`.
        class_head: A key of `heads.CLASS_HEADS`.
        dropout: Fraction of pooled features that is dropped before the class layer.
        pixel_mean: Of each channel, 0..255; None: 0. No effect where the body has a normalisation.
        pixel_variance: Likewise, in squared pixel values; None: 255 squared.
        body: A body by `build_body`, perhaps with trained weights, in place of `backbone`.
        name: Of the Keras model.

    Returns:
        A functional `keras.Model`. Box corners are fractions of the image side in [0, 1] with x1 <=
            x2 and y1 <= y2 by construction.

    Raises:
        ModelError: If the image is too small for the body or there is no class.
    """
    height, width_px, channels = image_shape
    if min(height, width_px) < SMALLEST_SIDE:
        raise ModelError(
            f"image size {height} x {width_px} px is too small for the body: each side must have "
            f"at least {SMALLEST_SIDE} px; raise data.image_size."
        )
    if num_classes < 1:
        raise ModelError("the data has no class: at least one is needed.")
    body = body or build_body(backbone, image_shape)
    images = keras.Input(image_shape, name="images", dtype="float32")
    measured = Preprocessing(
        mean=tuple(pixel_mean or [0.0] * channels),
        deviation=tuple(value**0.5 for value in pixel_variance or [255.0**2] * channels),
    )
    x = normalised(images, (body and body.preprocessing) or measured)
    if body:
        stem_map, maps = body.maps(x)
    else:
        stage_sizes, block_kind, _ = RESNETS[backbone]
        stem_map, maps = resnet_maps(
            x,
            stage_sizes=stage_sizes,
            block_kind=block_kind,
            width=width,
            stem=stem,
            stochastic_depth=stochastic_depth,
        )
    bbox = BOX_HEADS[bbox_head](maps, (height, width_px))
    features = CLASS_HEADS[class_head](stem_map, maps, bbox)
    softmax = _class_probabilities(features, num_classes, dropout)
    return keras.Model(images, {"softmax": softmax, "bbox": bbox}, name=name)


def refuse_unknown_body(name: str) -> None:
    """Raises ModelError for a name that no body has, with those most like it; builds nothing."""
    for prefix, (find, _) in _OTHER_BODIES.items():
        if name.startswith(prefix):
            find(name)


def build_body(name: str, image_shape: tuple[int, int, int], weights: str = "none") -> Body | None:
    """Builds a body of `other_bodies`; None for our own, flat ResNets.

    Raises:
        ModelError: If the name, the images or the weights do not fit.
    """
    for prefix, (_, build) in _OTHER_BODIES.items():
        if name.startswith(prefix):
            return build(name, image_shape, weights)
    return None


def _class_probabilities(features: Tensor, num_classes: int, dropout: float) -> Tensor:
    """Probabilities (N, K) in float32 from features (N, F)."""
    if dropout:
        features = layers.Dropout(dropout, name="softmax_dropout")(features)
    logits = layers.Dense(num_classes, name="softmax_logits", dtype="float32")(features)
    if num_classes == 1:
        return layers.Activation(certainty, name="softmax", dtype="float32")(logits)
    return layers.Softmax(name="softmax", dtype="float32")(logits)
