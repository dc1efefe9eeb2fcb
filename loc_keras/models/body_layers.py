"""Which layers of a localizer are its body, and in which order from the pixels to the heads."""

import re
from typing import Any

import keras

from loc_keras.models.feature_levels import network_cells

BODY_NAME = "body"
"""Name of the nested model that holds a body which is not one of our own ResNets."""

_OWN = re.compile(r"(stem|stage(?P<stage>\d+))_")


def body_groups(localizer: keras.Model) -> list[list[keras.layers.Layer]]:
    """The body's layers in groups, from the pixels to the heads.

    Groups are the stem and the stages of our ResNets. In another body a group ends where the
    feature map shrinks, see `feature_levels`.

    Args:
        localizer: A model as `build_localizer` gives it.

    Returns:
        Groups of layers, of which none holds another layer; each layer once.
    """
    nested = [layer for layer in localizer.layers if layer.name == BODY_NAME]
    if nested:
        return _groups_by_level(nested[0])
    groups: dict[int, list[keras.layers.Layer]] = {}
    for layer in localizer.layers:
        match = _OWN.match(layer.name)
        if match:
            groups.setdefault(int(match["stage"] or 0), []).append(layer)
    return [groups[stage] for stage in sorted(groups)]


def body_layers(localizer: keras.Model) -> list[keras.layers.Layer]:
    """All layers of the body, from the pixels to the heads."""
    return [layer for group in body_groups(localizer) for layer in group]


def _groups_by_level(body: keras.Model) -> list[list[keras.layers.Layer]]:
    groups: dict[int, list[keras.layers.Layer]] = {}
    for cell in network_cells(body):
        # What stands at the size of the image belongs to the first group, as our stem does.
        groups.setdefault(max(cell.level, 1), []).extend(_leaves(cell.operation))
    return [groups[level] for level in sorted(groups)]


def _leaves(operation: Any) -> list[keras.layers.Layer]:
    """The layers that a layer is made of; none for what is no layer."""
    if not isinstance(operation, keras.layers.Layer):
        return []
    if isinstance(operation, keras.Model):
        parts = operation.layers
    else:
        # Blocks of KerasHub are layers of layers, and Keras lists these nowhere in public.
        parts = list(operation._flatten_layers(include_self=False, recursive=False))
        held = {id(weight) for part in parts for weight in part.weights}
        # One that has weights of its own beside those of its parts stays whole.
        if any(id(weight) not in held for weight in operation.weights):
            parts = []
    return [leaf for part in parts for leaf in _leaves(part)] or [operation]
