"""Which layers of a localizer are its body, and in which order from the pixels to the heads."""

import re

import keras

BODY_NAME = "body"
"""Name of the nested model that holds a body which is not one of our own ResNets."""

_OWN = re.compile(r"(stem|stage(?P<stage>\d+))_")


def body_groups(localizer: keras.Model) -> list[list[keras.layers.Layer]]:
    """The body's layers in groups, from the pixels to the heads.

    Groups are the stem and the stages of our ResNets. In another body a group ends where the
    feature map shrinks.

    Args:
        localizer: A model as `build_localizer` gives it.

    Returns:
        Groups of layers, of which none holds another layer; each layer once.
    """
    nested = [layer for layer in localizer.layers if layer.name == BODY_NAME]
    if nested:
        return _groups_by_size(nested[0])
    groups: dict[int, list[keras.layers.Layer]] = {}
    for layer in localizer.layers:
        match = _OWN.match(layer.name)
        if match:
            groups.setdefault(int(match["stage"] or 0), []).append(layer)
    return [groups[stage] for stage in sorted(groups)]


def body_layers(localizer: keras.Model) -> list[keras.layers.Layer]:
    """All layers of the body, from the pixels to the heads."""
    return [layer for group in body_groups(localizer) for layer in group]


def _groups_by_size(body: keras.Model) -> list[list[keras.layers.Layer]]:
    groups: list[list[keras.layers.Layer]] = []
    smallest: int | None = None
    for layer in body.layers:
        side = _side(layer)
        if not groups or (side is not None and smallest is not None and side < smallest):
            groups.append([])
        if side is not None:
            smallest = side if smallest is None else min(side, smallest)
        groups[-1].append(layer)
    return groups


def _side(layer: keras.layers.Layer) -> int | None:
    """Height of a layer's feature map; None for one that gives no map."""
    shape: tuple[int | None, ...] = getattr(layer.output, "shape", ())
    return shape[1] if len(shape) == 4 else None
