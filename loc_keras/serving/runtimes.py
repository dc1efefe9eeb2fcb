"""LiteRT, ONNX Runtime and OpenVINO: opens exported files in them, with what the files say.

Nothing here imports TensorFlow or Keras. What an exported file says of itself, `Facts`, travels in
it as JSON, where its format has room for that: in LiteRT an associated file, which is a ZIP archive
behind the model, in ONNX `metadata_props`, in OpenVINO `rt_info`.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from loc_keras._environ import without_native_lines
from loc_keras.data.resize import ImageFormat, ResizeRule
from loc_keras.errors import ModelError, first_line

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""From images float32 (N, H, W, C), raw pixels, to the outputs by name."""

FACTS = "loc_keras"
"""Under this name a file holds its facts; in LiteRT with the ending .json."""

SOURCE_FILE = "source.json"
"""Comes with an export: SHA-256 of each file of the run that it was made of, null if not there."""

VERSION = 1
"""Of the facts: a file with others is refused."""


Loaded = tuple[Run, str | None]
"""An opened file, and the text of its facts; None where it has none."""


@dataclass(frozen=True)
class Runtime:
    """What opens files of a format.

    Attributes:
        title: Its name.
        file: Name of an exported file.
        module: What is imported.
        package: What is installed.
        load: Opens a file. The number says how many threads compute; None: as many as it takes.
    """

    title: str
    file: str
    module: str
    package: str
    load: Callable[[str, int | None], Loaded]

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported; loads nothing."""
        return find_spec(self.module) is not None


@dataclass(frozen=True)
class Facts:
    """What an exported file says of itself.

    Attributes:
        class_names: By index.
        background: Name of the class of images without an object; None without one.
        size: Height and width of the model's images in px.
        quantize: `"none"`, or what made its numbers smaller.
        card: The model card; empty where the run has none.
        texts: Files that came with the run, by name: constants of trust, what it was made of.
    """

    class_names: tuple[str, ...]
    background: str | None
    size: tuple[int, int]
    channels: int
    resize: ResizeRule
    quantize: str = "none"
    card: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def form(self) -> ImageFormat:
        """Of the model's images."""
        return ImageFormat(self.size, self.channels, self.resize)

    def as_text(self) -> str:
        """As JSON of ASCII letters, on one line."""
        return json.dumps({"version": VERSION, **asdict(self)})


def open_file(path: Path, kind: str, threads: int | None = None) -> tuple[Run, Facts]:
    """Opens an exported file, `kind` being one of `RUNTIMES`.

    ModelError where the runtime is not installed, cannot open it, or it says nothing of itself that
    is understood here.
    """
    runtime = RUNTIMES[kind]
    if not runtime.is_installed:
        raise ModelError(
            f"{path} needs {runtime.title}, not installed here: python -m pip install "
            f"{runtime.package}."
        )
    try:
        run, text = runtime.load(str(path), threads)
    except Exception as error:  # Each runtime has its own.
        raise ModelError(
            f"{path} cannot be opened by {runtime.title} ({first_line(error)}); export its run "
            f"anew: {_export(kind)}."
        ) from error
    facts = None if text is None else _parsed(text)
    if facts is None:
        raise ModelError(
            f"{path} does not say what its answers mean, as files do that `export` of this version "
            f"writes; export its run anew: {_export(kind)}."
        )
    return run, facts


def _parsed(text: str) -> Facts | None:
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        given = json.loads(text)
        if given.pop("version") == VERSION:
            names, (height, width) = tuple(given.pop("class_names")), given.pop("size")
            return Facts(class_names=names, size=(height, width), **given)
    return None


def _export(kind: str) -> str:
    return f"loc-keras export --run RUN --out saved_models/NAME --format {kind}"


def _litert(path: str, threads: int | None) -> Loaded:
    from ai_edge_litert.interpreter import Interpreter

    facts = None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, suppress(KeyError):
            facts = archive.read(f"{FACTS}.json").decode()
    with without_native_lines():
        interpreter = Interpreter(model_path=path, num_threads=threads)
        interpreter.allocate_tensors()
        signature = interpreter.get_signature_runner("serving_default")
    return lambda images: dict(signature(images=images)), facts


def _onnx(path: str, threads: int | None) -> Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    facts = session.get_modelmeta().custom_metadata_map.get(FACTS)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {"images": images}), strict=True))

    return run, facts


def _openvino(path: str, threads: int | None) -> Loaded:
    import openvino

    # By itself it may compute in bfloat16 where the processor can.
    options: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    model = core.read_model(path)
    facts = model.get_rt_info(FACTS).value if model.has_rt_info(FACTS) else None
    compiled = core.compile_model(model, "CPU", options)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled(images)
        return {output.get_any_name(): np.array(value) for output, value in found.items()}

    return run, facts


RUNTIMES = {
    "litert": Runtime("LiteRT", "model.tflite", "ai_edge_litert", "ai-edge-litert", _litert),
    "onnx": Runtime("ONNX Runtime", "model.onnx", "onnxruntime", "onnxruntime", _onnx),
    # The weights lie beside it, in model.bin.
    "openvino": Runtime("OpenVINO", "model.xml", "openvino", "openvino", _openvino),
}
"""By the name that `--format` takes, the fastest with single images first (`docs/speed.md`)."""
