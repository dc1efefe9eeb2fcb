"""Writes a localizer for LiteRT, ONNX Runtime or OpenVINO, and proves that it answers alike.

A further format is one entry of `FORMATS`: its converter here, its runtime in `runtimes`.
"""

import contextlib
import io
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from loc_keras.atomic_file import write_text
from loc_keras.errors import ExportError, first_line
from loc_keras.serving import live_check
from loc_keras.serving.bundle import Bundle, folder_aside, put_in_place, refuse_version
from loc_keras.serving.runtimes import FACTS, RUNTIMES, Facts, Run, open_file
from loc_keras.serving.signatures import IMAGES, pixel_function
from loc_keras.training.run_folder import CARD_FILE

SAVED_MODEL = "saved_model"  # The format for servers, which this module does not write.

QUANTIZE = ("none", "float16", "int8")

FIGURES_FILE = "figures.json"  # What was measured before and after, beside the file.

Converter = Callable[[Any, Path, Facts, np.ndarray | None], None]
"""Writes a concrete function, from `images` float32 (N, H, W, C) to outputs by name, into a file.

Takes the function, the file, what the file is to say of itself and, for int8, images float32 (N, H,
W, C), raw pixels, by which ranges are set.
"""

_KEPT_EXACT = (
    *("ABS", "ADD", "BATCH_MATMUL", "CONCATENATION", "DIV", "EXP", "EXPAND_DIMS"),
    *("FULLY_CONNECTED", "GATHER", "GATHER_ND", "GREATER_EQUAL", "HARD_SWISH", "LOGISTIC", "LOG"),
    *("MAXIMUM", "NEG"),
    *("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "MINIMUM", "MUL", "PACK", "PAD", "PADV2", "POW"),
    *("REDUCE_MAX", "REDUCE_PROD", "RELU", "RELU6", "RESHAPE", "RSQRT", "SELECT", "SELECT_V2"),
    *("SHAPE", "SLICE", "SOFTMAX", "SPLIT", "SQRT", "SQUARED_DIFFERENCE", "SQUEEZE"),
    *("STRIDED_SLICE", "SUB", "SUM", "TRANSPOSE", "UNPACK"),
)
"""Operations of LiteRT that stay in floats under int8. Convolutions are nearly all of the work; the
arithmetic of boxes in eight bits costs the tight ones."""

_INPUT = "images"


def export_portable(
    bundle: Bundle,
    base: Path,
    kind: str,
    quantize: str,
    *,
    measure: Callable[[Run], Mapping[str, Any]],
    calibration: np.ndarray | None = None,
    version: int | None = None,
    place: str | None = None,
    beside: Callable[[Path, Facts], None] | None = None,
) -> Path:
    """Writes a version of a model for a runtime, which takes raw pixels, and gives its folder.

    Args:
        bundle: The model, and what comes with it.
        base: Folder of the served model. Versions are `<base>/<kind>/<version>/`, apart from those
            of the SavedModel, since TF Serving would try to load them.
        kind: One of `FORMATS`.
        quantize: One of `QUANTIZE`.
        measure: Gives the figures of the converted model, before it gets its version.
        calibration: For int8 images float32 (N, H, W, C), raw pixels, by which ranges are set.
        version: Its number; None for the next.
        place: In place of `kind` in the path.
        beside: Writes further files into the version's folder, given what the file says of itself.

    Raises:
        ExportError: If the folder cannot be written, the version exists, the network cannot be
            converted or the file answers differently.
    """
    base = base / (place or kind)
    if version is not None:
        refuse_version(base, version)
    with folder_aside(base) as aside:
        written = aside / "model"
        written.mkdir()
        path = convert(bundle, written, kind, quantize, calibration)
        run, facts = open_file(path, kind)
        _check_file(bundle, path, run, live_check.TOLERANCES[kind, quantize])
        figures = measure(run)
        files = {
            "labels.txt": "".join(f"{name}\n" for name in bundle.class_names),
            FIGURES_FILE: json.dumps(figures, indent=2) + "\n",
            **bundle.texts,
        }
        if bundle.card is not None:
            files[CARD_FILE] = json.dumps(bundle.card, indent=2) + "\n"
        for name, text in files.items():
            write_text(written / name, text)
        if beside is not None:
            beside(written, facts)
        return put_in_place(written, base, version)


def refuse_format(kind: str, quantize: str) -> None:
    """Raises ExportError where a package or such a quantization is missing; loads nothing."""
    if kind == SAVED_MODEL:
        if quantize == "none":
            return
        raise ExportError(
            f"--quantize {quantize} is for devices; give --format {' or '.join(FORMATS)} with it."
        )
    if (kind, quantize) in REFUSED:
        raise ExportError(REFUSED[kind, quantize])
    missing = [name for name in CONVERTERS.get(kind, ()) if find_spec(name) is None]
    missing += [] if RUNTIMES[kind].is_installed else [RUNTIMES[kind].package]
    if missing:
        raise ExportError(
            f"--format {kind} needs {', '.join(missing)}, not installed here; install by "
            "python -m pip install -r requirements-export.txt."
        )


def convert(
    bundle: Bundle, folder: Path, kind: str, quantize: str, calibration: np.ndarray | None
) -> Path:
    """Writes a file for a runtime and gives its path; ExportError if the converter fails."""
    path = folder / RUNTIMES[kind].file
    form, card = bundle.form, dict(bundle.card or {})
    facts = Facts(
        tuple(bundle.class_names),
        card.get("background"),
        form.size,
        form.channels,
        form.rule_in_use,
        quantize,
        card,
        bundle.texts,
    )
    try:
        with _quiet():
            call = pixel_function(bundle.localizer, form)
            FORMATS[kind](call, path, facts, calibration)
    except Exception as error:  # Each converter has its own, and lets those of others through.
        raise ExportError(
            f"the converter for {kind} fails on this network ({type(error).__name__}: "
            f"{first_line(error)}); choose another --format or --quantize."
        ) from error
    return path


def _check_file(bundle: Bundle, path: Path, run: Run, tolerance: float) -> None:
    found = run(live_check.requests_for(bundle)[IMAGES][IMAGES])
    live = live_check.live_answers(bundle)
    expected = {name: live[name] for name in bundle.localizer.output}
    if set(found) != set(expected):
        raise ExportError(
            f"{path.name} names its outputs {sorted(found)}, not {sorted(expected)}; nothing was "
            "exported."
        )
    live_check.refuse_differences(path.name, found, expected, tolerance)


def _convert_litert(call: Any, path: Path, facts: Facts, calibration: np.ndarray | None) -> None:
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(_saved(call, path.parent)), signature_keys=["serving_default"]
    )
    if facts.quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if facts.quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    is_int8 = facts.quantize == "int8"
    path.write_bytes(_quantized_litert(converter, calibration) if is_int8 else converter.convert())
    with zipfile.ZipFile(path, "a") as archive:  # Behind the model, where runtimes do not look.
        archive.writestr(f"{FACTS}.json", facts.as_text())


def _quantized_litert(converter: Any, calibration: np.ndarray | None) -> bytes:
    """Eight bits for the convolutions alone: `_KEPT_EXACT` says why."""

    def images() -> list[list[np.ndarray]]:
        return [[image] for image in _single(calibration)]

    converter.representative_dataset = images
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_KEPT_EXACT))
    # The one public way to choose what is quantized; nothing is debugged.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=images, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())


def _convert_onnx(call: Any, path: Path, facts: Facts, calibration: np.ndarray | None) -> None:
    import onnx
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # The converter itself takes constants that are captured for inputs.
    frozen = convert_variables_to_constants_v2(call)
    outputs = [tensor.name for tensor in frozen.outputs]
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[frozen.inputs[0].name],
        output_names=outputs,
        opset=18,
    )
    names = dict(zip(outputs, sorted(call.structured_outputs), strict=True))
    _rename(model.graph, {**names, frozen.inputs[0].name: _INPUT})
    onnx.helper.set_model_props(model, {FACTS: facts.as_text()})
    if facts.quantize == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        # Novelty compares differences of pixels that half precision has no digits for.
        exact = [node.name for node in model.graph.node if "/novelty" in node.name]
        model = convert_float_to_float16(model, keep_io_types=True, node_block_list=exact)
    onnx.save(model, str(path))
    if facts.quantize == "int8":
        _quantize_onnx(path, calibration)


def _quantize_onnx(path: Path, calibration: np.ndarray | None) -> None:
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{_INPUT: image} for image in _single(calibration)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    plain = path.rename(path.with_name("plain.onnx"))
    # As for LiteRT, the arithmetic of boxes stays exact. Weights of seven bits, since processors
    # without VNNI add two products in 16 bits, which those of eight overflow.
    quantization.quantize_static(
        str(plain),
        str(path),
        Images(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        reduce_range=True,
    )
    plain.unlink()


def _convert_openvino(call: Any, path: Path, facts: Facts, calibration: np.ndarray | None) -> None:
    import openvino

    model = openvino.convert_model(str(_saved(call, path.parent)))
    model.set_rt_info(facts.as_text(), FACTS)
    openvino.save_model(model, str(path), compress_to_fp16=facts.quantize == "float16")


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
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for place in (node.input, node.output):
            place[:] = [names.get(name, name) for name in place]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps converters from printing pages about their work, also those that are no Python."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    sys.stdout.flush()
    sys.stderr.flush()
    printed = (1, 2)  # File descriptors of standard output and standard error.
    kept = [os.dup(number) for number in printed]
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            open(os.devnull, "w") as nowhere,
        ):
            for number in printed:
                os.dup2(nowhere.fileno(), number)
            yield
    finally:
        for number, before in zip(printed, kept, strict=True):
            os.dup2(before, number)
            os.close(before)
        logger.setLevel(level)


FORMATS: dict[str, Converter] = {
    "litert": _convert_litert,
    "onnx": _convert_onnx,
    "openvino": _convert_openvino,
}
"""What writes them, by the name that `--format` takes."""

CONVERTERS = {"onnx": ("tf2onnx", "onnx")}
"""Packages that converting needs beside the runtime."""

REFUSED = {
    ("openvino", "int8"): "int8 is not written for OpenVINO, whose quantizer (NNCF) fails on this "
    "network; give --format onnx --quantize int8, or --quantize float16."
}
"""What is not written, with reason and way out."""
