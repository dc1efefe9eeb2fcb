"""The weights of a PyTorch ResNet, from a `.safetensors` file into our body."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from loc_keras.errors import ModelError
from loc_keras.models.backbone import STAGE_SIZES
from loc_keras.models.fault_words import listed
from loc_keras.models.preprocessing import IMAGENET, Preprocessing
from loc_keras.models.safetensors_file import TensorFile, read_safetensors
from loc_keras.models.torch_names import TorchTensor, torch_tensors

# The classifier, which is ours to learn, and a counter that PyTorch keeps for itself.
IGNORED = ("fc.", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class TorchWeights:
    """Weights that were found to fit a body.

    Attributes:
        by_layer: for each of our layers its weights, as Keras orders and transposes them.
        preprocessing: the pixels they were trained on.
        licence: what the file says, else "unknown".
        sha256: of the file, in hex.
    """

    by_layer: dict[str, list[np.ndarray]]
    preprocessing: Preprocessing
    licence: str
    sha256: str

    def load(self, localizer: keras.Model) -> None:
        """Puts the weights into the body of a localizer."""
        for name, values in self.by_layer.items():
            localizer.get_layer(name).set_weights(values)


def read_torch_weights(path: Path, body: str) -> TorchWeights:
    """Reads a file and proves that every weight of the body is there, and nothing else.

    Args:
        path: a `.safetensors` file with the names of torchvision or timm.
        body: a key of `backbone.STAGE_SIZES`.

    Raises:
        ModelError: if the file is broken or made for another network.
    """
    file = read_safetensors(path, ignored=IGNORED)
    wanted = torch_tensors(body)
    faults = _differences(file.tensors, wanted)
    if faults:
        raise ModelError(f"{path} does not fit {body}: {'; '.join(faults)}{_advice(file, body)}.")
    return TorchWeights(
        by_layer=_by_layer(file.tensors, wanted),
        preprocessing=_preprocessing(path, file.metadata),
        licence=file.metadata.get("license", file.metadata.get("licence", "unknown")),
        sha256=file.sha256,
    )


def _differences(tensors: dict[str, np.ndarray], wanted: dict[str, TorchTensor]) -> list[str]:
    missing = [name for name in wanted if name not in tensors]
    extra = [name for name in tensors if name not in wanted]
    other = [
        f"{name} is {tensors[name].shape}, not {place.shape}"
        for name, place in wanted.items()
        if name in tensors and tensors[name].shape != place.shape
    ]
    faults = []
    if missing:
        faults.append(f"it lacks {listed(missing, 'tensor')}")
    if extra:
        faults.append(f"it has {listed(extra, 'tensor')} that the body does not know")
    if other:
        faults.append(f"it has {listed(other, 'tensor')} of another shape")
    return faults


def _advice(file: TensorFile, body: str) -> str:
    for other in STAGE_SIZES:
        if other != body and not _differences(file.tensors, torch_tensors(other)):
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
