"""The weights of a KerasHub preset, built in or in a folder, into our ResNets.

KerasHub is optional: it fetches, verifies and caches the presets, so nothing here does.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from loc_keras.errors import ModelError
from loc_keras.models.backbone import BLOCK_KINDS, STAGE_SIZES
from loc_keras.models.fault_words import first_line
from loc_keras.models.preprocessing import IMAGENET, Preprocessing, scaled_and_shifted
from loc_keras.models.torch_names import torch_tensors

PRESETS = MappingProxyType(
    {
        "resnet18": "resnet_18_imagenet",
        # KerasHub has no built-in ResNet34, but converts timm's.
        "resnet34": "hf://timm/resnet34.a1_in1k",
        "resnet50": "resnet_50_imagenet",
    }
)
"""KerasHub's name for the ImageNet weights of a body."""

INSTALL = "python -m pip install keras-hub"

# The files in which a preset's numbers stand, KerasHub's own and timm's.
_WEIGHTS_FILES = ("model.weights.h5", "model.safetensors")


@dataclass(frozen=True, eq=False)
class HubWeights:
    """Weights of a preset that were found to fit a body.

    Attributes:
        by_layer: for each of our layers its weights.
        preprocessing: the pixels they were trained on.
        source: which preset, in words.
        licence: "unknown" where the preset does not say it.
        sha256: of the weights file of a preset folder, in hex; None elsewhere.
    """

    by_layer: dict[str, list[np.ndarray]]
    preprocessing: Preprocessing
    source: str
    licence: str
    sha256: str | None

    def load(self, localizer: keras.Model) -> None:
        """Puts the weights into the body of a localizer."""
        for name, values in self.by_layer.items():
            localizer.get_layer(name).set_weights(values)


def read_hub_weights(preset: str, body: str) -> HubWeights:
    """Reads a preset, which KerasHub fetches where it is not a folder.

    Args:
        preset: a folder, or a name that KerasHub knows.
        body: a key of `backbone.STAGE_SIZES`.

    Raises:
        ModelError: if KerasHub is not installed, or the preset cannot be had or is of another body.
    """
    local = Path(preset).is_dir()
    try:
        import keras_hub
    except ImportError as error:
        raise ModelError(
            f"model.backbone.weights: KerasHub, which reads the preset {preset}, is not there "
            f"({first_line(error)}); install it with {INSTALL}, or give the weights as a "
            ".safetensors file."
        ) from error
    try:
        network = keras_hub.models.Backbone.from_preset(preset, dtype="float32")
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
    preprocessing, note = _preprocessing(keras_hub, preset)
    return HubWeights(
        by_layer=_by_layer(network, body),
        preprocessing=preprocessing,
        source=f"KerasHub preset {Path(preset).name if local else preset}{note}",
        licence="unknown",
        sha256=_sha256(Path(preset)) if local else None,
    )


def _refuse_other_network(network: Any, preset: str, body: str) -> None:
    kind = type(network).__name__
    if kind != "ResNetBackbone":
        raise ModelError(
            f"the preset {preset} holds a {kind}, which does not fit {body}; give a ResNet."
        )
    wanted = {
        "stackwise_num_blocks": list(STAGE_SIZES[body]),
        "block_type": f"{BLOCK_KINDS[body]}_block",
        "use_pre_activation": False,
        "stackwise_num_filters": [64, 128, 256, 512],
        "stackwise_num_strides": [1, 2, 2, 2],
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
    }
    config = network.get_config()
    given = {key: _plain(config[key]) for key in wanted}
    other = [
        f"{key} {given[key]}, not {wanted[key]}" for key in wanted if given[key] != wanted[key]
    ]
    channels = config["image_shape"][-1]
    if channels != 3:
        other.append(f"images of {channels} channels, not 3")
    if other:
        raise ModelError(f"the preset {preset} does not fit {body}: it has {'; '.join(other)}.")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


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


def _preprocessing(keras_hub: Any, preset: str) -> tuple[Preprocessing, str]:
    """Mean and deviation from the preset's image converter, x * scale + offset."""
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except FileNotFoundError:
        converter = None
    if converter is None:
        return IMAGENET, ", without an image converter: ImageNet's mean and deviation are assumed"
    found = scaled_and_shifted(converter.scale, converter.offset)
    if found is None:
        raise ModelError(
            f"the image converter of the preset {preset} has the scale {converter.scale}, which "
            "must be above 0; write the preset again."
        )
    return found, ""


def _sha256(folder: Path) -> str | None:
    for name in _WEIGHTS_FILES:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return None
