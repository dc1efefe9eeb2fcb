"""Answers of a LiteRT, ONNX or OpenVINO file by its own runtime, without TensorFlow and our code.

It is imported here, and run as text in a fresh process (`live_check.run_alone`), so it imports
nothing of this package. Arguments of the process: the name of a function here, a file, an archive
with `images`, and one to write.
"""

import sys
from collections.abc import Callable

import numpy as np

if __name__ == "__main__":  # Before a runtime could look for them.
    for package in ("keras", "loc_keras", "tensorflow"):
        sys.modules[package] = None  # type: ignore[assignment]


Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""From images float32 (N, H, W, C), raw pixels, to the outputs by name."""

Opener = Callable[[str, int | None], Run]
"""Opens a file. The number says how many threads compute; None: as many as the runtime takes."""


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


if __name__ == "__main__":
    name, file, requests_file, answers_file = sys.argv[1:]
    with np.load(requests_file) as archive:
        outputs = globals()[name](file)(archive["images"])
    np.savez(answers_file, **outputs)
