"""Answers of an exported file by its own runtime, without Keras and our code, as a server has it.

It is imported here, and run as text in a fresh process (`live_check.run_alone`), so it imports
nothing of this package. Arguments of the process: the name of a function here, a file or folder, an
archive of requests and one to write. Strings are stored as uint8 with their lengths, since archives
of objects have to be unpickled.
"""

import sys
from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]

Run = Callable[[np.ndarray], Arrays]
"""From images float32 (N, H, W, C), raw pixels, to the outputs by name."""

Opener = Callable[[str, int | None], Run]
"""Opens a file. The number says how many threads compute; None: as many as the runtime takes."""

_LENGTHS = ":lengths"


def litert(path: str, threads: int | None = None) -> Run:
    """Opens a file in LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    signature = interpreter.get_signature_runner("serving_default")
    return lambda images: dict(signature(images=images))


def onnx(path: str, threads: int | None = None) -> Run:
    """Opens a file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(None, {"images": images}), strict=True))


def openvino(path: str, threads: int | None = None) -> Run:
    """Opens a file in OpenVINO."""
    import openvino

    # By itself it may compute in bfloat16 where the processor can.
    options: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    model = openvino.Core().compile_model(path, "CPU", options)
    return lambda images: {
        output.get_any_name(): np.array(value) for output, value in model(images).items()
    }


def saved_model(folder: str, requests: Arrays) -> Arrays:
    """Outputs of each signature that requests name, as `SIGNATURE:NAME`."""
    import tensorflow as tf

    signatures = tf.saved_model.load(folder).signatures
    inputs: dict[str, dict[str, tf.Tensor]] = {}
    for name, value in requests.items():
        signature, key = name.split(":")
        inputs.setdefault(signature, {})[key] = tf.constant(value)
    return {
        f"{signature}:{key}": value.numpy()
        for signature, given in inputs.items()
        for key, value in signatures[signature](**given).items()
    }


def packed(arrays: Arrays) -> Arrays:
    """Arrays with those of strings as bytes and lengths."""
    result = dict(arrays)
    for name, value in arrays.items():
        if value.dtype == object:
            result[name + _LENGTHS] = np.array([len(text) for text in value], np.int64)
            result[name] = np.frombuffer(b"".join(value), np.uint8)
    return result


def unpacked(arrays: Arrays) -> Arrays:
    """The inverse of `packed`."""
    result = {name: value for name, value in arrays.items() if not name.endswith(_LENGTHS)}
    for name, value in result.items():
        if name + _LENGTHS in arrays:
            ends = np.cumsum(arrays[name + _LENGTHS])
            parts = zip([0, *ends[:-1]], ends, strict=True)
            result[name] = np.array([value[start:end].tobytes() for start, end in parts], object)
    return result


if __name__ == "__main__":
    runtime, file, requests_file, answers_file = sys.argv[1:]
    # Before a runtime could look for them.
    for package in ("keras", "loc_keras", *(["tensorflow"] if runtime != "saved_model" else [])):
        sys.modules[package] = None  # type: ignore[assignment]
    with np.load(requests_file) as archive:
        requests = unpacked(dict(archive))
    if runtime == "saved_model":
        answers = saved_model(file, requests)
    else:
        answers = globals()[runtime](file)(requests["images"])
    np.savez(answers_file, **packed(answers))  # type: ignore[arg-type]
