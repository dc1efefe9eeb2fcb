"""The body of an earlier run of ours, into a localizer with other heads, classes or image size."""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from loc_keras.errors import ModelError
from loc_keras.models.backbone import BLOCK_KINDS, STAGE_SIZES, STEM_KERNELS
from loc_keras.models.body_layers import BODY_NAME, body_layers
from loc_keras.models.fault_words import first_line, listed
from loc_keras.models.preprocessing import NORMALIZATION, Preprocessing, preprocessing_of

BEST_MODEL = "best.keras"
"""The file of a run folder whose body is taken."""


@dataclass(frozen=True)
class BodyLayer:
    """A layer of a body that has weights: its name, class and values."""

    name: str
    kind: str
    values: list[np.ndarray]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each weight."""
        return [value.shape for value in self.values]


@dataclass(frozen=True, eq=False)
class RunWeights:
    """The body of a localizer that was saved.

    Attributes:
        path: the file it was read from.
        layers: its layers that have weights, from the pixels to the heads.
        description: what kind of body it is, in words of the configuration.
        preprocessing: the normalisation inside the localizer.
        source: which run it was, in words.
        licence: of the weights; nothing says it.
        sha256: of the file, in hex.
    """

    path: Path
    layers: list[BodyLayer]
    description: str
    preprocessing: Preprocessing
    source: str
    licence: str
    sha256: str

    def load(self, localizer: keras.Model) -> None:
        """Puts the weights into the body of a localizer.

        Layers are found by name, or by their order where all differ in name alone: Keras numbers
        layers without a name of their own anew in every process.

        Raises:
            ModelError: if the bodies differ.
        """
        targets = [layer for layer in body_layers(localizer) if layer.weights]
        wanted = [_body_layer(layer) for layer in targets]
        by_name = {layer.name: layer for layer in self.layers}
        if {layer.name for layer in wanted} == set(by_name):
            found = [by_name[layer.name] for layer in wanted]
        else:
            found = self.layers
        if [(one.kind, one.shapes) for one in found] != [(one.kind, one.shapes) for one in wanted]:
            raise ModelError(self._difference(wanted))
        for layer, source in zip(targets, found, strict=True):
            layer.set_weights(source.values)

    def _difference(self, wanted: list[BodyLayer]) -> str:
        mine = {layer.name: layer.shapes for layer in self.layers}
        asked = {layer.name: layer.shapes for layer in wanted}
        faults = []
        missing = [name for name in asked if name not in mine]
        extra = [name for name in mine if name not in asked]
        other = [name for name in asked if name in mine and asked[name] != mine[name]]
        if missing:
            faults.append(f"it lacks {listed(missing, 'layer')}")
        if extra:
            faults.append(f"it has {listed(extra, 'layer')} that the new body has not")
        if other:
            faults.append(f"it has {listed(other, 'layer')} of another shape")
        return (
            f"the body of {self.path} is {self.description}, and the new one is another: "
            f"{'; '.join(faults)}; give model.backbone the same name, width and stem."
        )


def read_run_weights(path: Path, channels: int) -> RunWeights:
    """Opens a saved localizer and takes its body, whatever its heads and classes.

    Args:
        path: a run folder, whose best model is taken, or a `.keras` file.
        channels: channels of the images that the body is to see.

    Raises:
        ModelError: if it cannot be opened, is no localizer, or sees images of other channels.
    """
    file = path / BEST_MODEL if path.is_dir() else path
    if not zipfile.is_zipfile(file):
        raise ModelError(
            f"{file} is not a whole .keras file; give the run folder or the .keras file of a "
            "finished training."
        )
    try:
        localizer = keras.saving.load_model(file, compile=False)
    except Exception as error:  # Keras raises errors of many kinds for a file that is broken.
        raise ModelError(
            f"{file} cannot be opened as a saved localizer ({first_line(error)}); give the run "
            "folder or the .keras file of a finished training."
        ) from error
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
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return RunWeights(
        path=file,
        layers=[_body_layer(layer) for layer in layers],
        description=_description(localizer),
        preprocessing=preprocessing_of(localizer),
        source=_source(file),
        licence="unknown",
        sha256=digest,
    )


def _body_layer(layer: keras.layers.Layer) -> BodyLayer:
    return BodyLayer(layer.name, type(layer).__name__, layer.get_weights())


def _description(localizer: keras.Model) -> str:
    """Name, width and stem of a ResNet of ours, as far as they can be told."""
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
        (body for body in STAGE_SIZES if (STAGE_SIZES[body], BLOCK_KINDS[body]) == (sizes, kind)),
        f"a ResNet of {'+'.join(map(str, sizes))} {kind} blocks",
    )
    return f"{body} of width {width} with the {stem} stem"


def _source(file: Path) -> str:
    """Which run a file is from, and what that was trained on, as far as its folder says."""
    folder = file.resolve().parent
    try:
        facts = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        images, fingerprint = int(facts["images"]["train"]), str(facts["data_fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"an earlier training, the file {file.name}"
    return (
        f"the run {folder.parent.name}/{folder.name} ({file.name}), trained on {images:,} images "
        f"(fingerprint {fingerprint[:12]})"
    )
