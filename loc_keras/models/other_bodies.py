"""Bodies of other packages, with their own normalisation: `keras.applications` and KerasHub.

KerasHub is optional, and has weights for our own ResNets as well. A preset is a name that it knows,
which it fetches, or a folder of `save_to_preset`.
"""

import hashlib
import inspect
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import keras
import numpy as np

from loc_keras.atomic_file import file_sha256
from loc_keras.errors import ModelError, first_line
from loc_keras.models.backbone import RESNETS
from loc_keras.models.body import (
    COLOURS,
    IMAGENET,
    Body,
    Preprocessing,
    WeightsOrigin,
    cut_to_maps,
    measured_preprocessing,
    random_weights,
    raw_pixels,
    refuse_channels,
    scaled_and_shifted,
)
from loc_keras.models.torch_weights import SharedWeights, torch_tensors

APPLICATIONS = "applications/"

HUB = "hub/"  # What the names of bodies from `keras.applications` and from KerasHub begin with.

LICENCES = MappingProxyType(
    {
        "densenet": "BSD-3-Clause",
        "inception_resnet_v2": "Apache-2.0",
        "inception_v3": "Apache-2.0",
        "mobilenet": "Apache-2.0",
        "mobilenet_v2": "Apache-2.0",
        "nasnet": "Apache-2.0",
        "resnet": "MIT",
        "resnet_v2": "BSD (that of facebook/fb.resnet.torch)",
        "vgg16": "CC-BY-4.0",
        "vgg19": "CC-BY-4.0",
        "xception": "MIT",
    }
)
"""Licences of the weights by the module that builds the network, as the sections "License" of
Keras's own page on applications say (docs/templates/applications.md up to Keras 2.3). Nothing is
said about the weights that came later."""

CONFIG_FILE, CONVERTER_FILE = "config.json", "image_converter.json"
"""Where `save_to_preset` keeps the backbone's class with its arguments, and how pixels are
normalised."""

# Where the numbers of a preset that fit one file stand: KerasHub's own and timm's.
_WEIGHTS_FILES = ("model.weights.h5", "model.safetensors")

_MD5_LENGTH = 32  # Hexadecimal digits; a SHA-256 has twice as many.


def build_application(name: str, image_shape: tuple[int, int, int], weights: str = "none") -> Body:
    """Builds `applications/<name>` for images of (height, width, channels).

    Weights are "none", "imagenet", or the path of a file as Keras offers it for this body without
    its top. ModelError where the name, the size, the channels or the weights do not fit.
    """
    found, module = find_application(name)
    body = f"{APPLICATIONS}{found}"
    preprocessing = application_preprocessing(found)
    pretrained = weights != "none"
    if pretrained:
        refuse_channels(body, image_shape[-1])
    given = None if weights in ("none", "imagenet") else Path(weights).expanduser()
    with weights_files(body, given) as files:
        network = _build(found, body, image_shape, given, pretrained)
    if pretrained and not files:
        raise ModelError(
            f"this version of Keras does not say which weights it read for {body}; install the "
            "version that requirements.txt names."
        )
    normalises = preprocessing == raw_pixels(COLOURS)
    if normalises:
        preprocessing = raw_pixels(image_shape[-1])
    return Body(
        network=cut_to_maps(network, body),
        preprocessing=preprocessing if pretrained or normalises else None,
        origin=_origin(body, weights, module, files) if pretrained else random_weights(body),
    )


def find_application(name: str) -> tuple[str, ModuleType]:
    """Finds a body by its name, in any case, with or without `applications/` before it.

    Gives the name as Keras writes it, and the module that holds its `preprocess_input`; ModelError,
    with the names most like it, where there is none.
    """
    asked = name.removeprefix(APPLICATIONS)
    names = {one.lower(): one for one in application_names()}
    found = names.get(asked.lower())
    if found is None:
        near = [names[one] for one in get_close_matches(asked.lower(), names)]
        hint = (
            f"did you mean {' or '.join(APPLICATIONS + one for one in near)}?"
            if near
            else f"it has {', '.join(names.values())}."
        )
        raise ModelError(f"model.backbone.name: keras.applications has no {asked!r}; {hint}")
    # The function is at home in the private module of the same name as the public one.
    home = str(getattr(keras.applications, found).__module__).rpartition(".")[2]
    return found, getattr(keras.applications, home)


def application_names() -> list[str]:
    """The bodies that the installed Keras builds, as `keras.applications` names them."""
    return sorted(
        name
        for name, value in vars(keras.applications).items()
        if name[:1].isupper() and callable(value)
    )


def application_preprocessing(name: str) -> Preprocessing:
    """How pixels must be normalised, by trying `preprocess_input`; ModelError if not affine."""
    found, module = find_application(name)
    measured = measured_preprocessing(module.preprocess_input)
    if measured is None:
        raise ModelError(
            f"{APPLICATIONS}{found} normalises its pixels in a way that this version does not "
            "know; choose another model.backbone.name."
        )
    return measured


@dataclass(frozen=True)
class WeightsFile:
    """A file that weights were read from, and the address, or words, of where it comes from.

    `known` tells whether it is the file that Keras offers, not one given in its place.
    """

    path: Path
    source: str
    known: bool


@contextmanager
def weights_files(body: str, given: Path | None = None) -> Iterator[list[WeightsFile]]:
    """Watches the files that Keras fetches for a body while the block runs, and gives their list.

    `keras.applications` tells neither which file it read nor, without a network, which file to put
    where: so its own `get_file` is replaced for that time. A given file is taken in place of what
    Keras would fetch. ModelError where that is not there, or one cannot be fetched.
    """
    if given is not None and not given.is_file():
        raise ModelError(f"model.backbone.weights: there is no file {given}.")
    home = sys.modules[keras.utils.get_file.__module__]
    fetch = keras.utils.get_file
    files: list[WeightsFile] = []

    def get_file(fname: str, origin: str, **settings: Any) -> str:
        if given is not None:
            known = _has_digest(given, settings.get("file_hash"))
            words = origin if known else f"the file {given.name}, given by the user"
            files.append(WeightsFile(given, words, known))
            return str(given)
        cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
        try:
            path = fetch(fname, origin, cache_dir=str(cache), **settings)
        except Exception as error:  # Keras raises the bare class where an address fails.
            folder = cache / settings.get("cache_subdir", "datasets")
            raise ModelError(
                f"the weights of {body} cannot be fetched ({_reason(error, origin)}); fetch "
                f"{origin} on a machine with a network and put it to {folder / fname}, or name "
                "it as model.backbone.weights."
            ) from error
        files.append(WeightsFile(Path(path), origin, known=True))
        return str(path)

    home.get_file = get_file  # type: ignore[attr-defined]
    try:
        yield files
    finally:
        home.get_file = fetch  # type: ignore[attr-defined]


def build_hub_body(name: str, image_shape: tuple[int, int, int], weights: str = "none") -> Body:
    """Builds a body from `hub/<preset>`, a name that KerasHub knows or a folder.

    Weights are "none", or "imagenet" for those that come with the preset, whatever they were
    trained on. ModelError where the package, the preset, the images or the weights do not fit.
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
    """Finds `hub/<preset>` without fetching anything; ModelError if package or preset is unknown.

    Gives the package, the preset as it takes it, and the class of its backbone; None where only a
    network can tell.
    """
    hub = _keras_hub(name)
    preset = os.path.expanduser(name.removeprefix(HUB))
    return hub, preset, _backbone_class(hub, name, preset)


def read_hub_weights(preset: str, body: str) -> SharedWeights:
    """Reads a preset, which KerasHub fetches where it is not a folder, for a body of `RESNETS`.

    ModelError where KerasHub is not installed, or the preset cannot be had or is of another body.
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


def _has_digest(path: Path, digest: str | None) -> bool:
    """Whether a file has the digest, MD5 or SHA-256 in hex, that Keras knows of its own."""
    if digest is None:
        return False
    kind = "md5" if len(digest) == _MD5_LENGTH else "sha256"
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == digest


def _reason(error: Exception, origin: str) -> str:
    text = str(error).replace(f"URL fetch failure on {origin}: ", "").removeprefix("None -- ")
    return " ".join(text.split()) or type(error).__name__


def _build(
    found: str, body: str, image_shape: tuple[int, int, int], given: Path | None, pretrained: bool
) -> keras.Model:
    height, width, channels = image_shape
    try:
        with warnings.catch_warnings():
            # MobileNets warn that weights for 224 px are taken at other sizes: that is meant.
            warnings.simplefilter("ignore", UserWarning)
            return getattr(keras.applications, found)(
                include_top=False,
                weights="imagenet" if pretrained else None,
                input_shape=image_shape,
            )
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        smallest = re.search(r"at least (\d+)", reason)
        if smallest:
            raise ModelError(
                f"image size {height} x {width} px is too small for {body}: each side must have "
                f"at least {smallest[1]} px; raise data.image_size."
            ) from error
        if given is not None:
            raise ModelError(
                f"model.backbone.weights: {given} does not fit {body} ({reason}); give the file "
                "that Keras offers for this body without its top."
            ) from error
        raise ModelError(
            f"{body} cannot be built for images of {height} x {width} x {channels} ({reason}); "
            "choose another data.image_size, data.channels or model.backbone.name."
        ) from error


def _origin(body: str, weights: str, module: ModuleType, files: list[WeightsFile]) -> WeightsOrigin:
    home = module.__name__.rpartition(".")[2]
    file = files[-1]
    return WeightsOrigin(
        body=body,
        weights=weights,
        source=f"keras.applications, ImageNet: {file.source}" if file.known else file.source,
        licence=LICENCES.get(home, "unknown") if file.known else "unknown",
        sha256=file_sha256(file.path),
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
        f"did you mean {' or '.join(HUB + one for one in near)}?"
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
