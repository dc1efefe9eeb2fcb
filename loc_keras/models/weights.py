"""What a body starts from: random weights, ImageNet's, those of a file, or an earlier run's."""

import dataclasses
import json
import os
import queue
import re
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import keras
import numpy as np

from loc_keras.atomic_file import file_sha256
from loc_keras.config.schema import BackboneConfig
from loc_keras.errors import ModelError
from loc_keras.models import torch_weights
from loc_keras.models.assembly import build_body
from loc_keras.models.backbone import RESNETS, STEM_KERNELS
from loc_keras.models.body import (
    BODY_NAME,
    NORMALIZATION,
    Body,
    Preprocessing,
    WeightsOrigin,
    body_layers,
    preprocessing_of,
    random_weights,
)
from loc_keras.models.other_bodies import read_hub_weights

BEST_MODEL = "best.keras"  # The file of a run folder whose body is taken.
_CONFIG = "config.json"  # In a `.keras` file, the network.

_HALF = re.compile(rb'"(mixed_)?b?float16"')

NONE = "none"
IMAGENET_WEIGHTS = "imagenet"

WEIGHTS_FOLDER, AT_HAND = Path("saved_models", "weights"), "LOC_KERAS_WEIGHTS"
"""Where files of weights are looked for, and the variable that names another folder, or a file."""

AUTO_SECONDS = 20.0
TRIED_SIDE = 96  # Of the images for which a body is built to try its weights.


@dataclass(frozen=True, eq=False)
class Start:
    """A body and its first weights, found and checked before the localizer is built.

    `preprocessing` are the pixels that they were trained on, to build the model with (None: any);
    `load` puts them into the body of that localizer. Our own ResNets have no `body`.
    """

    origin: WeightsOrigin
    preprocessing: Preprocessing | None = None
    load: Callable[[keras.Model], None] = lambda localizer: None
    body: Body | None = None


def find_start(backbone: BackboneConfig, image_shape: tuple[int, int, int]) -> Start:
    """Finds the body and the weights of `model.backbone` for images of (height, width, channels).

    Raises:
        ModelError: If body or weights are not there, broken, or do not fit each other.
    """
    ours = backbone.name in RESNETS
    if not ours and not names_a_run(backbone.weights):
        body = build_body(backbone.name, image_shape, backbone.weights)
        assert body is not None, backbone.name  # The config and `refuse_unknown_body` saw to that.
        return Start(body.origin, body.preprocessing, body=body)
    found = initial_weights(backbone, image_shape[-1])
    body = None if ours else build_body(backbone.name, image_shape)
    if body is not None:
        body = dataclasses.replace(body, preprocessing=found.preprocessing)
    return dataclasses.replace(found, body=body)


def initial_weights(backbone: BackboneConfig, channels: int) -> Start:
    """Finds the weights that a body is to start from, without the body.

    A body that is not one of our ResNets takes "none" and runs only: its builder has ImageNet
    weights of its own. ModelError if they are not there, broken, or made for another body.
    """
    name, weights = backbone.name, backbone.weights
    if weights == NONE:
        return Start(random_weights(name))
    found: RunWeights | torch_weights.SharedWeights
    if weights == IMAGENET_WEIGHTS:
        _refuse_unshared(backbone, channels, "ImageNet weights")
        found = read_hub_weights(RESNETS[name].preset, name)
    else:
        refuse_absent(weights)
        path = Path(weights).expanduser()
        kind = _kind(path)
        if kind == "run":
            found = read_run_weights(path, channels)
        else:
            _refuse_unshared(backbone, channels, f"the weights {path}")
            read = torch_weights.read_torch_weights
            found = read_hub_weights(str(path), name) if kind == "preset" else read(path, name)
    origin = WeightsOrigin(name, weights, found.source, found.licence, found.sha256)
    return Start(origin, found.preprocessing, found.load)


def refuse_absent(weights: str) -> None:
    """Raises ModelError for weights that are a path at which nothing stands."""
    path = Path(weights).expanduser()
    if weights not in (NONE, IMAGENET_WEIGHTS) and not path.exists():
        raise ModelError(
            f"model.backbone.weights: there is no file or folder {path}; give none, imagenet, a "
            ".safetensors file, a run folder, a .keras file or a KerasHub preset folder."
        )


def names_a_run(weights: str) -> bool:
    """Whether `model.backbone.weights` names a model of ours: a run's folder or a saved file."""
    path = Path(weights).expanduser()
    return path.suffix == ".keras" or (path / BEST_MODEL).is_file()


def open_model(path: Path) -> keras.Model:
    """Opens a `.keras` file; ModelError where it cannot be opened.

    What was trained in half precision computes in float32 from here on, as every export does: a
    figure, an answer and what is fitted to answers are those of the model that is served.
    """
    try:
        with zipfile.ZipFile(path) as saved, tempfile.TemporaryDirectory() as place:
            config, changes = _HALF.subn(b'"float32"', saved.read(_CONFIG))
            if not changes:
                return keras.saving.load_model(path)
            changed = Path(place, path.name)
            with zipfile.ZipFile(changed, "w") as after:
                for name in saved.namelist():
                    after.writestr(name, config if name == _CONFIG else saved.read(name))
            return keras.saving.load_model(changed)
    except Exception as error:  # Of the backend, too, where sizes are beyond all memory.
        if "keras_hub" in str(error) and find_spec("keras_hub") is None:
            raise ModelError(
                f"{path} holds layers of KerasHub, which is not installed; install it by python "
                "-m pip install keras-hub."
            ) from error
        raise ModelError(
            f"{path} cannot be opened as a model ({type(error).__name__}): the file is damaged or "
            "of another version; take last.keras in its place or train anew."
        ) from error


def weights_at_hand(
    bodies: Sequence[str], fetched: str, seconds: float = AUTO_SECONDS
) -> tuple[str, str]:
    """ImageNet weights that can be had without asking, and their body, of those that suit.

    Tried are `.safetensors` files for `bodies`, KerasHub's for the first of these, where that
    package is there, and Keras's own for `fetched`: what they fetch they keep, and check.
    ModelError, with what to do, if there are none in that time.
    """
    place = Path(os.environ.get(AT_HAND) or WEIGHTS_FOLDER)
    files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    tried = [(body, str(file)) for file in files for body in bodies]
    tried += [(bodies[0], IMAGENET_WEIGHTS)] if find_spec("keras_hub") else []
    tried.append((fetched, IMAGENET_WEIGHTS))
    found: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
    faults = [f"none came within {seconds:g} s."]

    def look() -> None:
        for body, weights in tried:
            backbone = BackboneConfig(name=body, weights=weights)
            try:
                find_start(backbone, (TRIED_SIDE, TRIED_SIDE, 3))
            except Exception as error:  # Of networks and files, of any kind.
                faults.append(str(error))
            else:
                found.put((weights, body))
                return
        found.put(None)

    # Left alone where it takes too long: nothing can end what waits for a network.
    threading.Thread(target=look, daemon=True).start()
    with suppress(queue.Empty):
        if (result := found.get(timeout=seconds)) is not None:
            return result
    raise ModelError(faults[-1])


def _kind(path: Path) -> Literal["run", "preset", "safetensors"]:
    if path.is_dir():
        if (path / BEST_MODEL).is_file():
            return "run"
        if (path / "config.json").is_file():
            return "preset"
        raise ModelError(
            f"model.backbone.weights: the folder {path} holds neither {BEST_MODEL}, as a run does, "
            "nor config.json, as a KerasHub preset does; give another."
        )
    if path.suffix == ".keras":
        return "run"
    torch_weights.refuse_pickle(path)
    if path.suffix == ".safetensors":
        return "safetensors"
    raise ModelError(
        f"model.backbone.weights: {path} ends in neither .safetensors nor .keras, the files that "
        "are read; give one of these, a run folder or a KerasHub preset folder."
    )


def _refuse_unshared(backbone: BackboneConfig, channels: int, what: str) -> None:
    if backbone.name not in RESNETS:
        raise ModelError(
            f"model.backbone.weights: {what} cannot be put into the body {backbone.name}; they are "
            f"for {', '.join(RESNETS)}."
        )
    wrong = []
    if backbone.width != torch_weights.SHARED_WIDTH:
        wrong.append(f"model.backbone.width: {torch_weights.SHARED_WIDTH} (it is {backbone.width})")
    if backbone.stem != torch_weights.SHARED_STEM:
        wrong.append(f"model.backbone.stem: {torch_weights.SHARED_STEM} (it is {backbone.stem})")
    if channels != torch_weights.SHARED_CHANNELS:
        wrong.append(f"data.channels: {torch_weights.SHARED_CHANNELS} (the images have {channels})")
    if wrong:
        raise ModelError(f"{what} need {' and '.join(wrong)}; set that, or weights: none.")


class BodyLayer(NamedTuple):
    """A layer of a body that has weights."""

    name: str
    kind: str
    values: list[np.ndarray]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each weight."""
        return [value.shape for value in self.values]


@dataclass(frozen=True, eq=False)
class RunWeights:
    """The body of a localizer that was saved, with its kind, in words, and which run it was."""

    path: Path
    layers: list[BodyLayer]
    description: str
    preprocessing: Preprocessing
    source: str
    licence: str
    sha256: str

    def load(self, localizer: keras.Model) -> None:
        """Puts the weights into the body of a localizer; ModelError where the bodies differ.

        Layers are found by name, or by their order where all differ in name alone: Keras numbers
        layers without a name of their own anew in every process.
        """
        targets = [layer for layer in body_layers(localizer) if layer.weights]
        wanted = [_body_layer(layer) for layer in targets]
        by_name = {layer.name: layer for layer in self.layers}
        if {layer.name for layer in wanted} == set(by_name):
            matched = [by_name[layer.name] for layer in wanted]
        else:
            matched = self.layers
        kinds = [[(one.kind, one.shapes) for one in body] for body in (matched, wanted)]
        if kinds[0] != kinds[1]:
            ours, theirs = ({one.name: one.shapes for one in b} for b in (self.layers, wanted))
            faults = torch_weights.shape_differences(ours, theirs, "layer")
            raise ModelError(
                f"the body of {self.path} is {self.description}, and the new one is another: "
                f"{'; '.join(faults)}; give model.backbone the same name, width and stem."
            )
        for layer, source in zip(targets, matched, strict=True):
            layer.set_weights(source.values)


def read_run_weights(path: Path, channels: int) -> RunWeights:
    """Takes the body of a run's best model or of a `.keras` file, whatever its heads and classes.

    ModelError where it cannot be opened, is no localizer, or sees images of other channels.
    """
    file = path / BEST_MODEL if path.is_dir() else path
    localizer = open_model(file)
    layers = [layer for layer in body_layers(localizer) if layer.weights]
    if not layers or NORMALIZATION not in {layer.name for layer in localizer.layers}:
        raise ModelError(
            f"{file} is a Keras model, but no localizer of this package: it has no body whose "
            "weights could be taken; give the run folder of a localizer."
        )
    trained_on = localizer.input_shape[-1]
    if trained_on != channels:
        raise ModelError(
            f"the body of {file} was trained with data.channels: {trained_on}, and these images "
            f"have {channels}; set it to {trained_on}."
        )
    return RunWeights(
        path=file,
        layers=[_body_layer(layer) for layer in layers],
        description=_description(localizer),
        preprocessing=preprocessing_of(localizer),
        source=_source(file),
        licence="unknown",
        sha256=file_sha256(file),
    )


def _body_layer(layer: keras.layers.Layer) -> BodyLayer:
    return BodyLayer(layer.name, type(layer).__name__, layer.get_weights())


def _description(localizer: keras.Model) -> str:
    named = {layer.name: layer for layer in body_layers(localizer)}
    if "stem_conv" not in named:
        inner = next(layer for layer in localizer.layers if layer.name == BODY_NAME)
        return f"no ResNet of ours but one of {len(inner.layers)} layers"
    kernel, _, _, width = named["stem_conv"].kernel.shape
    stem = next((name for name, side in STEM_KERNELS.items() if side == kernel), f"{kernel} px")
    stages = [0] * 8
    for name in named:
        if name.startswith("stage") and name.endswith("_conv1"):
            stages[int(name[5])] += 1
    sizes = tuple(count for count in stages if count)
    kind = "bottleneck" if "stage1_block1_conv3" in named else "basic"
    body = next(
        (name for name, resnet in RESNETS.items() if resnet[:2] == (sizes, kind)),
        f"a ResNet of {'+'.join(map(str, sizes))} {kind} blocks",
    )
    return f"{body} of width {width} with the {stem} stem"


def _source(file: Path) -> str:
    folder = file.resolve().parent
    try:
        facts = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        images, fingerprint = int(facts["images"]["train"]), str(facts["data_fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"an earlier training, the file {file.name}"
    return (
        f"the run {folder.parent.name}/{folder.name} ({file.name}), trained on {images:,} images "
        f"(fingerprint {fingerprint[:12]})"
    )
