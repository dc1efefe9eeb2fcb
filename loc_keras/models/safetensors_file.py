"""Reading a `.safetensors` file of a PyTorch network: names and numbers, no code is run."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loc_keras.errors import ModelError
from loc_keras.models.fault_words import listed

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


@dataclass(frozen=True, eq=False)
class TensorFile:
    """What a file holds.

    Attributes:
        tensors: float32 arrays by name, without the wrappers' prefixes.
        metadata: what its writer noted.
        sha256: of the file, in hex.
    """

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    sha256: str


def read_safetensors(path: Path, *, ignored: Iterable[str] = ()) -> TensorFile:
    """Reads the tensors of a file.

    Args:
        path: the file.
        ignored: beginnings and ends of names (without prefixes) that are left out.

    Raises:
        ModelError: if it is a pickle, not whole, or holds something but finite floats.
    """
    refuse_pickle(path)
    from safetensors import SafetensorError, safe_open

    ignored = tuple(ignored)
    tensors = {}
    try:
        with safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            names = list(opened.keys())
            prefix = _common_prefix(names)
            for name in names:
                short = name.removeprefix(prefix)
                if short.startswith(ignored) or short.endswith(ignored):
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
    with path.open("rb") as file:
        return TensorFile(tensors, metadata, hashlib.file_digest(file, "sha256").hexdigest())


def refuse_pickle(path: Path) -> None:
    """Refuses a file that is a pickle by its name or its first bytes.

    Raises:
        ModelError: if it is one.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if path.suffix.lower() in PICKLE_SUFFIXES or start.startswith(_PICKLE_STARTS):
        raise ModelError(
            f"{path} is a pickle, and reading a pickle can run any code that its author put "
            "there, so only safetensors files are taken; convert it where you trust it, with "
            f"PyTorch installed: {CONVERT}"
        )


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
