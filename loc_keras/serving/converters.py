"""From a SavedModel of pixels alone to the files of LiteRT, ONNX Runtime and OpenVINO."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from loc_keras.errors import ExportError

SAVED_MODEL, LITERT, ONNX, OPENVINO = "saved_model", "litert", "onnx", "openvino"
FORMATS = (SAVED_MODEL, LITERT, ONNX, OPENVINO)
QUANTIZE = ("none", "float16", "int8")
FILES = {LITERT: "model.tflite", ONNX: "model.onnx", OPENVINO: "model.xml"}
"""Name of the file of each format; OpenVINO keeps the weights in `model.bin` beside it."""

_PACKAGES = {
    LITERT: {"ai_edge_litert": "ai-edge-litert"},
    ONNX: {"tf2onnx": "tf2onnx", "onnx": "onnx", "onnxruntime": "onnxruntime"},
    OPENVINO: {"openvino": "openvino"},
}
_OPSET = 18
_KEPT_EXACT = (
    *("ABS", "ADD", "BATCH_MATMUL", "CONCATENATION", "DIV", "EXP", "EXPAND_DIMS"),
    *("FULLY_CONNECTED", "GATHER", "GATHER_ND", "HARD_SWISH", "LOGISTIC", "LOG", "MAXIMUM"),
    *("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "MINIMUM", "MUL", "PACK", "PAD", "PADV2", "POW"),
    *("REDUCE_MAX", "REDUCE_PROD", "RELU", "RELU6", "RESHAPE", "RSQRT", "SELECT", "SELECT_V2"),
    *("SHAPE", "SLICE", "SOFTMAX", "SPLIT", "SQRT", "SQUARED_DIFFERENCE", "SQUEEZE"),
    *("STRIDED_SLICE", "SUB", "SUM", "TRANSPOSE", "UNPACK"),
)
"""Operations of LiteRT that stay in floats under int8. Convolutions are nearly all of the work; the
arithmetic of boxes in eight bits costs the tight ones."""

_INPUT = "images"


def refuse_format(kind: str, quantize: str) -> None:
    """Refuses what cannot be written, before anything is loaded.

    Raises:
        ExportError: If a package is missing, or the format has no such quantization.
    """
    if kind == SAVED_MODEL and quantize != "none":
        raise ExportError(
            f"--quantize {quantize} is for devices; give --format litert, onnx or openvino with it."
        )
    if kind == OPENVINO and quantize == "int8":
        raise ExportError(
            "int8 is not written for OpenVINO, whose quantizer (NNCF) fails on this network; give "
            "--format onnx --quantize int8, or --quantize float16."
        )
    missing = [
        package for module, package in _PACKAGES.get(kind, {}).items() if find_spec(module) is None
    ]
    if missing:
        raise ExportError(
            f"--format {kind} needs {', '.join(missing)}, not installed here; install by "
            "python -m pip install -r requirements-export.txt."
        )


def convert(
    call: Any, folder: Path, kind: str, quantize: str, calibration: np.ndarray | None
) -> Path:
    """Writes a file for a runtime.

    Args:
        call: Concrete function from `images` float32 (N, H, W, C) to outputs by name.
        folder: Where to.
        kind: One of `FILES`.
        quantize: One of `QUANTIZE`.
        calibration: For int8 images float32 (N, H, W, C), raw pixels, by which ranges are set.

    Returns:
        The file.

    Raises:
        ExportError: If the converter does not know a part of the network.
    """
    path = folder / FILES[kind]
    try:
        with _quiet():
            _WRITERS[kind](call, path, quantize, calibration)
    except Exception as error:  # Each converter has its own, and lets those of others through.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"the converter for {kind} fails on this network ({type(error).__name__}: {first}); "
            "choose another --format or --quantize."
        ) from error
    return path


def _write_litert(call: Any, path: Path, quantize: str, calibration: np.ndarray | None) -> None:
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(_saved(call, path.parent)), signature_keys=["serving_default"]
    )
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        path.write_bytes(_quantized_litert(converter, calibration))
    else:
        path.write_bytes(converter.convert())


def _quantized_litert(converter: Any, calibration: np.ndarray | None) -> bytes:
    """Eight bits for the convolutions alone: `_KEPT_EXACT` says why."""

    def images() -> list[list[np.ndarray]]:
        return [[one] for one in _single(calibration)]

    converter.representative_dataset = images
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_KEPT_EXACT))
    # The one public way to choose what is quantized; nothing is debugged.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=images, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())


def _write_onnx(call: Any, path: Path, quantize: str, calibration: np.ndarray | None) -> None:
    import onnx
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    # The converter itself takes constants that are captured for inputs.
    frozen = convert_variables_to_constants_v2(call)
    outputs = [tensor.name for tensor in frozen.outputs]
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[frozen.inputs[0].name],
        output_names=outputs,
        opset=_OPSET,
    )
    names = dict(zip(outputs, sorted(call.structured_outputs), strict=True))
    _rename(model.graph, {**names, frozen.inputs[0].name: _INPUT})
    if quantize == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True)
    onnx.save(model, str(path))
    if quantize == "int8":
        _quantize_onnx(path, calibration)


def _quantize_onnx(path: Path, calibration: np.ndarray | None) -> None:
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(_single(calibration))

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.left, None)
            return None if image is None else {_INPUT: image}

    plain = path.with_name("plain.onnx")
    path.rename(plain)
    # As for LiteRT, the arithmetic of boxes stays exact.
    quantization.quantize_static(
        str(plain),
        str(path),
        Images(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
    )
    plain.unlink()


def _write_openvino(call: Any, path: Path, quantize: str, calibration: np.ndarray | None) -> None:
    import openvino

    model = openvino.convert_model(str(_saved(call, path.parent)))
    openvino.save_model(model, str(path), compress_to_fp16=quantize == "float16")


_WRITERS = {LITERT: _write_litert, ONNX: _write_onnx, OPENVINO: _write_openvino}


def _saved(call: Any, folder: Path) -> Path:
    """A SavedModel of the function alone, beside the file that is made of it."""
    module = tf.Module()
    module.call = call
    module.held = list(call.variables)
    place = folder.parent / "pixels"
    tf.saved_model.save(module, str(place), signatures={"serving_default": call})
    return place


def _single(calibration: np.ndarray | None) -> list[np.ndarray]:
    if calibration is None:
        raise ExportError("int8 needs images by which ranges are set.")
    return [image[np.newaxis] for image in calibration]


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Gives inputs and outputs of an ONNX graph other names."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for place in (node.input, node.output):
            place[:] = [names.get(name, name) for name in place]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps converters from printing pages about their work."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logger.setLevel(level)
