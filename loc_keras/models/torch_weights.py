"""The weights of a PyTorch ResNet, from a `.safetensors` file into our body."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from loc_keras.atomic_file import file_sha256
from loc_keras.errors import ModelError, listed
from loc_keras.models.backbone import EXPANSION, RESNETS
from loc_keras.models.body import IMAGENET, Preprocessing

Shapes: TypeAlias = Any  # One shape, or the shapes of a layer's weights.

SHARED_WIDTH = 64  # Width of the networks whose weights are shared.
SHARED_STEM = "imagenet"  # Their stem.
SHARED_CHANNELS = 3  # Channels of the images they take: red, green, blue.

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".pkl", ".pickle", ".ckpt", ".tar")
"""Ends of the names of files that PyTorch writes by pickling."""

CONVERT = (
    'python -c "import sys, torch; from safetensors.torch import save_file; save_file({name: '
    "tensor.contiguous() for name, tensor in torch.load(sys.argv[1], weights_only=True).items()}, "
    'sys.argv[2])" FILE.pth FILE.safetensors'
)
"""The command that turns a pickled state dict into safetensors; it needs PyTorch."""


# Wrappers put these before every name: DataParallel, training frameworks, torch.compile.
_PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.")

_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_NORM_SLOTS = ("weight", "bias", "running_mean", "running_var")

# The classifier, which is ours to learn, and a counter that PyTorch keeps for itself.
IGNORED = ("fc.", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class SharedWeights:
    """Weights that were found to fit one of our ResNets.

    They are by our layers, as Keras orders and transposes them; `preprocessing` are the pixels they
    were trained on, the source is in words, the licence what their file says, else "unknown", and
    the SHA-256 that of their file in hex, None where there is no one file.
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


def read_torch_weights(path: Path, body: str) -> SharedWeights:
    """Reads a `.safetensors` file of torchvision or timm for a body of `backbone.RESNETS`.

    Every weight must be there, and nothing else: ModelError where it is broken or of another
    network.
    """
    tensors, metadata = read_safetensors(path)
    wanted = torch_tensors(body)
    faults = _differences(tensors, wanted)
    if faults:
        advice = _advice(tensors, body)
        raise ModelError(f"{path} does not fit {body}: {'; '.join(faults)}{advice}.")
    return SharedWeights(
        by_layer=_by_layer(tensors, wanted),
        preprocessing=_preprocessing(path, metadata),
        source=f"PyTorch weights in the file {path.name}",
        licence=metadata.get("license", metadata.get("licence", "unknown")),
        sha256=file_sha256(path),
    )


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads the tensors of a file but those of `IGNORED`, and what its writer noted.

    Tensors are float32, by name without wrappers' prefixes. ModelError where it is a pickle, not
    whole, or holds something but finite floats.
    """
    refuse_pickle(path)
    from safetensors import SafetensorError, safe_open

    tensors = {}
    try:
        with safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            names = list(opened.keys())
            prefix = _common_prefix(names)
            for name in names:
                short = name.removeprefix(prefix)
                if short.startswith(IGNORED) or short.endswith(IGNORED):
                    continue
                kind = opened.get_slice(name).get_dtype()
                if kind not in _FLOATS:
                    raise ModelError(
                        f"{path}: tensor {name} holds {kind} numbers, where weights must be "
                        "floats of 16 to 64 bits; take a file that is not quantised."
                    )
                tensors[short] = opened.get_tensor(name).astype(np.float32)
    except SafetensorError as error:
        raise ModelError(
            f"{path} is not a whole safetensors file ({error}); download or convert it again."
        ) from error
    broken = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if broken:
        raise ModelError(
            f"{path}: {listed(broken, 'tensor')} with values that are not finite; download or "
            "convert it again."
        )
    return tensors, metadata


def refuse_pickle(path: Path) -> None:
    """Raises ModelError for a file that is a pickle by its name or its first bytes."""
    with path.open("rb") as file:
        start = file.read(8)
    if path.suffix.lower() in PICKLE_SUFFIXES or start.startswith(_PICKLE_STARTS):
        raise ModelError(
            f"{path} is a pickle, and reading a pickle can run any code that its author put "
            "there, so only safetensors files are taken; convert it where you trust it, with "
            f"PyTorch installed: {CONVERT}"
        )


@dataclass(frozen=True)
class TorchTensor:
    """A tensor of a state dict, and its layer in our network with its place among the weights.

    The shape is PyTorch's; of a convolution (out, in, height, width), in Keras (height, width, in,
    out).
    """

    layer: str
    slot: int
    shape: tuple[int, ...]


def torch_tensors(body: str) -> dict[str, TorchTensor]:
    """All tensors of a body of `RESNETS` by their PyTorch name, without the classifier `fc`."""
    found = _conv("conv1", "stem_conv", (SHARED_WIDTH, SHARED_CHANNELS, 7, 7))
    found |= _norm("bn1", "stem_bn", SHARED_WIDTH)
    channels = SHARED_WIDTH
    for stage, blocks in enumerate(RESNETS[body].stage_sizes):
        filters = SHARED_WIDTH * 2**stage
        for block in range(blocks):
            theirs = f"layer{stage + 1}.{block}"
            ours = f"stage{stage + 1}_block{block + 1}"
            shapes = _block_shapes(RESNETS[body].block_kind, channels, filters)
            for index, shape in enumerate(shapes, start=1):
                found |= _conv(f"{theirs}.conv{index}", f"{ours}_conv{index}", shape)
                found |= _norm(f"{theirs}.bn{index}", f"{ours}_bn{index}", shape[0])
            out = shapes[-1][0]
            if block == 0 and (stage > 0 or out != channels):
                shortcut = (out, channels, 1, 1)
                found |= _conv(f"{theirs}.downsample.0", f"{ours}_shortcut_conv", shortcut)
                found |= _norm(f"{theirs}.downsample.1", f"{ours}_shortcut_bn", out)
            channels = out
    return found


def _block_shapes(kind: str, channels: int, filters: int) -> list[tuple[int, ...]]:
    if kind == "bottleneck":
        return [
            (filters, channels, 1, 1),
            (filters, filters, 3, 3),
            (EXPANSION * filters, filters, 1, 1),
        ]
    return [(filters, channels, 3, 3), (filters, filters, 3, 3)]


def _conv(theirs: str, ours: str, shape: tuple[int, ...]) -> dict[str, TorchTensor]:
    return {f"{theirs}.weight": TorchTensor(ours, 0, shape)}


def _norm(theirs: str, ours: str, channels: int) -> dict[str, TorchTensor]:
    return {
        f"{theirs}.{name}": TorchTensor(ours, slot, (channels,))
        for slot, name in enumerate(_NORM_SLOTS)
    }


def _common_prefix(names: list[str]) -> str:
    """What wrappers put before every name, such as "module."; "" where there is nothing."""
    prefix = ""
    while names:
        for one in _PREFIXES:
            if all(name.startswith(prefix + one) for name in names):
                prefix += one
                break
        else:
            break
    return prefix


def shape_differences(
    found: Mapping[str, Shapes], wanted: Mapping[str, Shapes], kind: str, *, detail: bool = False
) -> list[str]:
    """How named shapes differ, as parts of a sentence; with `detail` it names both shapes."""
    other = [name for name in wanted if name in found and found[name] != wanted[name]]
    if detail:
        other = [f"{name} is {found[name]}, not {wanted[name]}" for name in other]
    parts = (
        ("it lacks {}", [name for name in wanted if name not in found]),
        ("it has {} that the body does not have", [name for name in found if name not in wanted]),
        ("it has {} of another shape", other),
    )
    return [words.format(listed(names, kind)) for words, names in parts if names]


def _differences(tensors: dict[str, np.ndarray], wanted: dict[str, TorchTensor]) -> list[str]:
    found = {name: tensor.shape for name, tensor in tensors.items()}
    shapes = {name: place.shape for name, place in wanted.items()}
    return shape_differences(found, shapes, "tensor", detail=True)


def _advice(tensors: dict[str, np.ndarray], body: str) -> str:
    for other in RESNETS:
        if other != body and not _differences(tensors, torch_tensors(other)):
            return f"; it holds {other}, so set model.backbone.name to that"
    return f"; take the {body} of torchvision or timm"


def _by_layer(
    tensors: dict[str, np.ndarray], wanted: dict[str, TorchTensor]
) -> dict[str, list[np.ndarray]]:
    slots: dict[str, dict[int, np.ndarray]] = {}
    for name, place in wanted.items():
        tensor = tensors[name]
        if tensor.ndim == 4:
            tensor = tensor.transpose(2, 3, 1, 0)
        slots.setdefault(place.layer, {})[place.slot] = tensor
    return {layer: [found[slot] for slot in sorted(found)] for layer, found in slots.items()}


def _preprocessing(path: Path, metadata: dict[str, str]) -> Preprocessing:
    """The file's own `mean` and `std` (three numbers each, in units of 255), else ImageNet's."""
    if "mean" not in metadata and "std" not in metadata:
        return IMAGENET
    try:
        mean, std = (_three_numbers(metadata[key]) for key in ("mean", "std"))
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{path}: its metadata must give mean and std as three numbers between 0 and 1 each, "
            "the second above 0, for example 0.485,0.456,0.406; correct or remove them."
        ) from error
    if not all(0 <= m <= 1 for m in mean) or not all(0 < s <= 1 for s in std):
        raise ModelError(
            f"{path}: its metadata has mean {mean} and std {std}, which are no fractions of 255; "
            "correct or remove them."
        )
    return Preprocessing(tuple(255 * m for m in mean), tuple(255 * s for s in std))


def _three_numbers(text: str) -> tuple[float, float, float]:
    first, second, third = (float(part) for part in text.strip("[]() ").split(","))
    return first, second, third
