"""Bodies from KerasHub (an optional package), and its weights for our own ResNets.

A preset is a name that KerasHub knows, which it fetches, or a folder of `save_to_preset`.
"""

import inspect
import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import keras
import numpy as np

from loc_keras.atomic_file import file_sha256
from loc_keras.errors import ModelError, first_line
from loc_keras.models.backbone import RESNETS
from loc_keras.models.body import (
    IMAGENET,
    Body,
    Preprocessing,
    WeightsOrigin,
    cut_to_maps,
    random_weights,
    refuse_channels,
    scaled_and_shifted,
)
from loc_keras.models.torch_weights import SharedWeights, torch_tensors

PREFIX = "hub/"
"""What the names of these bodies begin with."""

CONFIG_FILE = "config.json"
"""Where `save_to_preset` keeps the class of the backbone and its arguments."""

CONVERTER_FILE = "image_converter.json"
"""Where `save_to_preset` keeps the normalisation of the pixels."""

# Where the numbers of a preset that fit one file stand: KerasHub's own and timm's.
_WEIGHTS_FILES = ("model.weights.h5", "model.safetensors")


def build_hub_body(name: str, image_shape: tuple[int, int, int], weights: str = "none") -> Body:
    """Builds a body from `hub/<preset>`, a name that KerasHub knows or a folder.

    Weights are "none" for random ones, or "imagenet" for those that come with the preset, whatever
    they were trained on.

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
    if pretrained:
        refuse_channels(name, image_shape[-1])
    backbone = _backbone(hub, kind, name, preset, image_shape, pretrained)
    # Maps that the backbone offers itself, from fine to coarse; often none.
    offered = (getattr(backbone, "pyramid_outputs", None) or {}).values()
    pyramid = sorted(offered, key=lambda tensor: -tensor.shape[1])
    network = cut_to_maps(backbone, name, pyramid=pyramid)
    if not pretrained:
        return Body(network, None, random_weights(name))
    where = f"the folder {Path(preset).name}" if Path(preset).is_dir() else f"its preset {preset}"
    origin = WeightsOrigin(name, weights, f"KerasHub, {where}", "unknown", _sha256(preset))
    return Body(network, _body_pixels(hub, name, preset), origin)


def find_preset(name: str) -> tuple[Any, str, type | None]:
    """Finds `hub/<preset>` without fetching anything.

    Gives the package, the preset as it takes it, and the class of its backbone; None where only a
    network can tell.

    Raises:
        ModelError: If the package is missing or the preset unknown.
    """
    hub = _keras_hub(name)
    preset = os.path.expanduser(name.removeprefix(PREFIX))
    return hub, preset, _backbone_class(hub, name, preset)


def read_hub_weights(preset: str, body: str) -> SharedWeights:
    """Reads a preset, which KerasHub fetches where it is not a folder, for a body of `RESNETS`.

    Raises:
        ModelError: if KerasHub is not installed, or the preset cannot be had or is of another body.
    """
    local = Path(preset).is_dir()
    hub = _keras_hub(f"the preset {preset}", ", or give the weights as a .safetensors file")
    try:
        network = hub.models.Backbone.from_preset(preset, dtype="float32")
    except Exception as error:  # KerasHub raises errors of many kinds, also those of its hubs.
        reason = f"({type(error).__name__}: {first_line(error)})"
        if local:
            raise ModelError(
                f"{preset} cannot be read as a KerasHub preset {reason}; write it again with "
                "save_to_preset."
            ) from error
        raise ModelError(
            f"KerasHub could not fetch the preset {preset} {reason}; connect to the network, or "
            f"put the {body} of timm or torchvision as a .safetensors file on this machine and "
            "set model.backbone.weights to its path."
        ) from error
    _refuse_other_network(network, preset, body)
    preprocessing, note = _resnet_pixels(hub, preset)
    return SharedWeights(
        by_layer=_by_layer(network, body),
        preprocessing=preprocessing,
        source=f"KerasHub preset {Path(preset).name if local else preset}{note}",
        licence="unknown",
        sha256=_sha256(preset),
    )


def _keras_hub(wanted: str, otherwise: str = "") -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise ModelError(
            f"{wanted} needs the package keras-hub, which is not installed ({first_line(error)}); "
            f"install it by python -m pip install keras-hub{otherwise}."
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
    """The class of a preset's backbone; None for an address that only a network can tell."""
    classes = [
        value
        for value in vars(hub.models).values()
        if isinstance(value, type) and issubclass(value, hub.models.Backbone)
    ]
    config = Path(preset) / CONFIG_FILE
    if config.is_file():
        try:
            wanted = json.loads(config.read_text(encoding="utf-8")).get("class_name")
        except (ValueError, AttributeError, RecursionError) as error:
            raise ModelError(
                f"model.backbone.weights: {config} holds no JSON object, as a KerasHub preset does."
            ) from error
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


def _refuse_other_network(network: Any, preset: str, body: str) -> None:
    kind = type(network).__name__
    if kind != "ResNetBackbone":
        raise ModelError(
            f"the preset {preset} holds a {kind}, which does not fit {body}; give a ResNet."
        )
    wanted = {
        "stackwise_num_blocks": list(RESNETS[body].stage_sizes),
        "block_type": f"{RESNETS[body].block_kind}_block",
        "use_pre_activation": False,
        "stackwise_num_filters": [64, 128, 256, 512],
        "stackwise_num_strides": [1, 2, 2, 2],
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
    }
    config = network.get_config()
    given = {key: list(v) if isinstance(v, tuple) else v for key, v in config.items()}
    other = [
        f"{key} {given[key]}, not {wanted[key]}" for key in wanted if given[key] != wanted[key]
    ]
    channels = config["image_shape"][-1]
    if channels != 3:
        other.append(f"images of {channels} channels, not 3")
    if other:
        raise ModelError(f"the preset {preset} does not fit {body}: it has {'; '.join(other)}.")


def _by_layer(network: Any, body: str) -> dict[str, list[np.ndarray]]:
    ours = {place.layer for place in torch_tensors(body).values()}
    return {name: network.get_layer(_hub_name(name)).get_weights() for name in ours}


def _hub_name(ours: str) -> str:
    """KerasHub's name of our layer: stage2_block1_conv1 is stack1_block0_1_conv there."""
    if ours.startswith("stem_"):
        return ours.replace("stem_", "conv1_")
    stage, block, part = ours.split("_", 2)
    if part.startswith("shortcut_"):
        part = part.replace("shortcut_", "0_")
    else:
        part = f"{part[-1]}_{part[:-1]}"
    return f"stack{int(stage[5:]) - 1}_block{int(block[5:]) - 1}_{part}"


def _body_pixels(hub: Any, name: str, preset: str) -> Preprocessing:
    """The normalisation that a preset with weights must bring."""
    try:
        converter = hub.layers.ImageConverter.from_preset(preset)
    except Exception as error:
        raise ModelError(
            f"{name} has weights, but nothing says how they want their pixels; save the image "
            f"converter of the model to the same folder, as {CONVERTER_FILE}, or set "
            "model.backbone.weights: none."
        ) from error
    return _converted_pixels(converter, name)


def _resnet_pixels(hub: Any, preset: str) -> tuple[Preprocessing, str]:
    """The normalisation of a ResNet's preset, ImageNet's where it says none; and a note on it."""
    try:
        converter = hub.layers.ImageConverter.from_preset(preset)
    except FileNotFoundError:
        return IMAGENET, ", without an image converter: ImageNet's mean and deviation are assumed"
    return _converted_pixels(converter, preset), ""


def _converted_pixels(converter: Any, preset: str) -> Preprocessing:
    found = scaled_and_shifted(converter.scale, converter.offset)
    if found is None:
        raise ModelError(
            f"the image converter of the preset {preset} has the scale {converter.scale}, which "
            "must be above 0; write the preset again."
        )
    return found


def _sha256(preset: str) -> str | None:
    """Digest of the one file that a folder keeps its weights in, in hex; else None."""
    files = [Path(preset) / name for name in _WEIGHTS_FILES]
    return next((file_sha256(file) for file in files if file.is_file()), None)
