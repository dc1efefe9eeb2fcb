"""A body that is not one of our own ResNets: network, normalisation, origin of the weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from loc_keras.errors import ModelError
from loc_keras.models.body_layers import BODY_NAME
from loc_keras.models.feature_levels import feature_maps
from loc_keras.models.origin import WeightsOrigin
from loc_keras.models.preprocessing import Preprocessing

Tensor = Any  # A Keras tensor; Keras has no public static type for it.


@dataclass(frozen=True, eq=False)
class Body:
    """A network that turns normalised pixels into feature maps.

    Attributes:
        network: One functional model named `body`, from (N, H, W, C) to the list of the stem's
            map and the maps of the stages, from fine to coarse.
        preprocessing: What the network's weights expect, or None where weights are random and
            the network does not normalise by itself: the pixels of the training images are
            measured then.
        origin: Where the weights come from.
    """

    network: keras.Model
    preprocessing: Preprocessing | None
    origin: WeightsOrigin

    def maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Gives the map of the stem and those of the stages for images that are normalised."""
        stem, *maps = self.network(images)
        return stem, maps


def cut_to_maps(network: keras.Model, name: str, pyramid: Sequence[Tensor] = ()) -> keras.Model:
    """The part of a network that gives feature maps, as the model that `Body` holds.

    Args:
        network: Functional, for images of a fixed size; its layers are shared.
        name: The body as the user has named it.
        pyramid: Maps from fine to coarse that the network offers itself; empty: they are found.

    Raises:
        ModelError: If it has no feature map.
    """
    found = feature_maps(network)
    if found is None:
        raise ModelError(
            f"{name} has no feature map that a box could be read from (a plain transformer, for "
            "example, has none); choose a convolutional body as model.backbone.name."
        )
    stem, maps = found
    if pyramid:
        # A stem's map at half the image's side is among them, or it is found as in any network.
        finer = [tensor for tensor in pyramid if tensor.shape[1] >= stem.shape[1]]
        stem = finer[-1] if finer and len(finer) < len(pyramid) else stem
        maps = [tensor for tensor in pyramid if tensor.shape[1] < stem.shape[1]] or maps
    return keras.Model(network.inputs[0], [stem, *maps], name=BODY_NAME)
