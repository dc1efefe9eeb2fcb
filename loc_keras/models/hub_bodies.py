"""Bodies from KerasHub (an optional package): presets by name, or folders of `save_to_preset`."""

import hashlib
import inspect
import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import keras

from loc_keras.errors import ModelError
from loc_keras.models.body import Body, cut_to_maps
from loc_keras.models.hub_presets import INSTALL
from loc_keras.models.origin import WeightsOrigin, random_weights
from loc_keras.models.preprocessing import COLOURS, Preprocessing, scaled_and_shifted

PREFIX = "hub/"
"""What the names of these bodies begin with."""

WEIGHTS_FILE = "model.weights.h5"
"""Where `save_to_preset` keeps the weights that fit one file."""

CONFIG_FILE = "config.json"
"""Where `save_to_preset` keeps the class of the backbone and its arguments."""

CONVERTER_FILE = "image_converter.json"
"""Where `save_to_preset` keeps the normalisation of the pixels."""


def build_hub_body(name: str, image_shape: tuple[int, int, int], weights: str = "none") -> Body:
    """Builds a body from a preset of KerasHub.

    Args:
        name: `hub/<preset>`, where the preset is a name that KerasHub knows or a folder.
        image_shape: (height, width, channels) of the images.
        weights: "none" for random ones, or "imagenet" for those that come with the preset,
            whatever they were trained on.

    Raises:
        ModelError: If the package, the preset, the images or the weights do not fit.
    """
    if weights not in ("none", "imagenet"):
        raise ModelError(
            f"model.backbone.weights: a body from KerasHub begins with none or with the weights "
            f"of its preset (imagenet), not with {weights}."
        )
    hub, preset, kind = find_preset(name)
    pretrained = weights != "none"
    if pretrained and image_shape[-1] != COLOURS:
        raise ModelError(
            f"the weights of {name} take images of {COLOURS} channels, not {image_shape[-1]}; set "
            f"data.channels: {COLOURS}, or model.backbone.weights: none."
        )
    backbone = _backbone(hub, kind, name, preset, image_shape, pretrained)
    network = cut_to_maps(backbone, name, pyramid=_pyramid(backbone))
    if not pretrained:
        return Body(network, None, random_weights(name))
    return Body(network, _preprocessing(hub, name, preset), _origin(name, preset))


def find_preset(name: str) -> tuple[Any, str, type | None]:
    """Finds a preset by its name, without fetching anything.

    Args:
        name: `hub/<preset>`.

    Returns:
        The package, the preset as it takes it, and the class of its backbone; None where only
        a network can tell.

    Raises:
        ModelError: If the package is missing or the preset unknown.
    """
    hub = _keras_hub(name)
    preset = os.path.expanduser(name.removeprefix(PREFIX))
    return hub, preset, _backbone_class(hub, name, preset)


def _keras_hub(name: str) -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise ModelError(
            f"{name} needs the package keras-hub, which is not installed ({error}); install it by "
            f"{INSTALL}."
        ) from error
    return keras_hub


def _backbone(
    hub: Any,
    kind: type | None,
    name: str,
    preset: str,
    image_shape: tuple[int, int, int],
    pretrained: bool,
) -> keras.Model:
    # Most call it `image_shape`, EfficientNet `input_shape`; those of texts know neither.
    begin = kind.__init__ if kind else None  # type: ignore[misc]
    known = inspect.signature(begin).parameters if begin else {"image_shape": None}
    key = next((one for one in ("image_shape", "input_shape") if one in known), None)
    if key is None:
        raise ModelError(
            f"{name} is no backbone for images; choose one of an image classifier as "
            "model.backbone.name."
        )
    height, width, channels = image_shape
    settings = {key: image_shape, "dtype": keras.config.dtype_policy()}
    try:
        return hub.models.Backbone.from_preset(preset, load_weights=pretrained, **settings)
    except Exception as error:  # Files, addresses, layers and accounts fail in ways of their own.
        if isinstance(error, OSError) and not Path(preset).exists():
            raise ModelError(
                f"{name} cannot be fetched ({type(error).__name__}); on a machine with a network "
                "write the backbone and its image converter to a folder by save_to_preset, and "
                "name that folder as hub/FOLDER."
            ) from error
        reason = " ".join(str(error).split()).split(". ")[0][:200]
        raise ModelError(
            f"{name} cannot be built for images of {height} x {width} x {channels} "
            f"({type(error).__name__}: {reason}); give the preset of an image backbone that "
            "KerasHub knows, or a folder that save_to_preset has made."
        ) from error


def _backbone_class(hub: Any, name: str, preset: str) -> type | None:
    """The class of a preset's backbone; None for an address that only a network can tell.

    Raises:
        ModelError: If the preset is neither a folder nor an address nor a known name.
    """
    classes = [
        value
        for value in vars(hub.models).values()
        if isinstance(value, type) and issubclass(value, hub.models.Backbone)
    ]
    config = Path(preset) / CONFIG_FILE
    if config.is_file():
        wanted = json.loads(config.read_text(encoding="utf-8")).get("class_name")
        return next((one for one in classes if one.__name__ == wanted), None)
    # The base class lists the presets of all its subclasses, so the last match is the narrowest.
    owners = [one for one in classes if preset in getattr(one, "presets", {})]
    if owners:
        return max(owners, key=lambda one: len(one.__mro__))
    if "/" in preset and not Path(preset).is_dir() and "://" in name:
        return None
    known = sorted({one for cls in classes for one in getattr(cls, "presets", {})})
    near = get_close_matches(preset, known)
    hint = (
        f"did you mean {' or '.join(PREFIX + one for one in near)}?"
        if near
        else f"give one of those at keras.io/keras_hub/presets, or a folder with {CONFIG_FILE}."
    )
    raise ModelError(f"model.backbone.name: KerasHub has no preset {preset!r}; {hint}")


def _pyramid(backbone: keras.Model) -> list[Any]:
    """The maps that the backbone offers itself, from fine to coarse; often none."""
    outputs = getattr(backbone, "pyramid_outputs", None) or {}
    return sorted(outputs.values(), key=lambda tensor: -tensor.shape[1])


def _preprocessing(hub: Any, name: str, preset: str) -> Preprocessing:
    """That of the preset's image converter: pixels times a scale, plus an offset."""
    try:
        converter = hub.layers.ImageConverter.from_preset(preset)
    except Exception as error:
        raise ModelError(
            f"{name} has weights, but nothing says how they want their pixels; save the image "
            f"converter of the model to the same folder, as {CONVERTER_FILE}, or set "
            "model.backbone.weights: none."
        ) from error
    found = scaled_and_shifted(converter.scale, converter.offset)
    if found is None:
        raise ModelError(f"{name} has an image converter that turns pixels to 0 or less.")
    return found


def _origin(name: str, preset: str) -> WeightsOrigin:
    file = Path(preset) / WEIGHTS_FILE
    sha256 = None
    if file.is_file():
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    where = f"the folder {Path(preset).name}" if Path(preset).is_dir() else f"its preset {preset}"
    return WeightsOrigin(name, "imagenet", f"KerasHub, {where}", "unknown", sha256)
