"""The ways to ask one model that `benchmarks.inference` compares."""

from dataclasses import dataclass
from typing import Literal

from loc_keras.serving.portable import FORMATS, QUANTIZE, SAVED_MODEL

Given = Literal["pixels", "bytes", "files"]


@dataclass(frozen=True)
class Way:
    """One way to ask.

    Attributes:
        name: As the table has it.
        kind: How the worker opens it, a key of `inference_worker.OPENERS`.
        given: With what it is asked: `"pixels"`, the model's images as float32; `"bytes"`, the same
            as uint8; `"files"`, encoded pictures, which it decodes and resizes.
        format: `SAVED_MODEL` or one of `portable.FORMATS`; None for the model's own file.
        quantize: One of `portable.QUANTIZE`.
    """

    name: str
    kind: str
    given: Given = "pixels"
    format: str | None = None
    quantize: str = "none"

    @property
    def exported(self) -> tuple[str, str] | None:
        """Format and quantization of its file; None for the model's own."""
        return None if self.format is None else (self.format, self.quantize)


BARE = Way("compiled call of the model", "compiled")
"""What all others are compared with."""

_RUNTIMES = {"litert": "LiteRT", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}

WAYS = (
    BARE,
    Way("Keras `predict`", "keras"),
    Way("`Localizer.predict`, array", "localizer", "bytes"),
    Way("`Localizer.predict`, file", "localizer", "files"),
    Way("SavedModel `images`", "saved_model", "pixels", SAVED_MODEL),
    Way("SavedModel `serving_default`, file", "saved_model", "files", SAVED_MODEL),
    *(
        Way(f"{runtime} {quantize.replace('none', 'float32')}", kind, "pixels", kind, quantize)
        for kind, runtime in _RUNTIMES.items()
        for quantize in QUANTIZE
        if quantize not in FORMATS[kind].refused
    ),
)
