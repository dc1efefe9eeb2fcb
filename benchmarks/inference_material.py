"""What `benchmarks.inference` compares: ways to ask a model, its images, its exported files."""

import io
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from benchmarks.inference_worker import IMAGES_FILE
from benchmarks.input_pipeline import Kind, photograph
from loc_keras.cli.build import SAMPLES, bundle_of, samples_of
from loc_keras.cli.runs import load_run
from loc_keras.commands.export import CALIBRATION_IMAGES, calibration_images
from loc_keras.data.resize import ImageFormat
from loc_keras.errors import ExportError
from loc_keras.models.assembly import build_localizer
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.live_check import live_answers, requests_for
from loc_keras.serving.portable import (
    QUANTIZE,
    REFUSED,
    SAVED_MODEL,
    export_portable,
    refuse_format,
)
from loc_keras.serving.runtimes import RUNTIMES
from loc_keras.serving.saved_model import export_saved_model
from loc_keras.serving.signatures import IMAGES
from loc_keras.training.run_folder import BEST_FILE, CLASSES_FILE, CONFIG_FILE

SIDE, CLASSES = 96, 3
KEPT_OF_RUN = (BEST_FILE, CONFIG_FILE, CLASSES_FILE)
"""Without `trust.json`: quantized files come without trust, and all are to do the same work."""


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
        if (kind, quantize) not in REFUSED
    ),
)


@dataclass(frozen=True, eq=False)
class Material:
    """A model, and what is asked about.

    Attributes:
        bundle: The model with its samples, which are the images.
        run: Folder with `BEST_FILE`.
        calibration: Images float32 (N, H, W, C) by which the ranges of int8 are set.
        title: What the model and the images are.
    """

    bundle: Bundle
    run: Path
    calibration: np.ndarray
    title: str


@dataclass(frozen=True)
class Artifact:
    """An exported model.

    Attributes:
        path: What the runtime opens.
        mib: Size of the graph and its weights on disk.
    """

    path: Path
    mib: float


def material_of_run(run_folder: Path, folder: Path, count: int) -> Material:
    """A trained run with images of its validation split."""
    run = load_run(run_folder)
    bundle = replace(
        bundle_of(run_folder, run.localizer, run.data, None), samples=samples_of(run.data, count)
    )
    folder.mkdir()
    for name in KEPT_OF_RUN:
        shutil.copy(run_folder / name, folder / name)
    return Material(bundle, folder, calibration_images(run), f"run {run.name}")


def untrained_material(folder: Path, count: int, side: int = SIDE) -> Material:
    """A model that no one trained, and drawn photographs of its own size."""
    keras.utils.set_random_seed(0)
    model = build_localizer(image_shape=(side, side, 3), num_classes=CLASSES)
    folder.mkdir()
    model.save(folder / BEST_FILE)
    names = [str(number) for number in range(CLASSES)]
    form = ImageFormat((side, side), 3, "stretch")
    files = _photographs(max(count, CALIBRATION_IMAGES), side)
    calibration = requests_for(Bundle(model, names, form, files[:CALIBRATION_IMAGES]))
    bundle = Bundle(model, names, form, files[:count])
    return Material(bundle, folder, calibration[IMAGES][IMAGES], "untrained resnet18 of width 64")


def _photographs(count: int, side: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    kind = Kind(side, (side, side), "JPEG")
    found = []
    for _ in range(count):
        buffer = io.BytesIO()
        photograph(rng, kind)[0].save(buffer, kind.format, quality=92)
        found.append(buffer.getvalue())
    return found


def write_images(bundle: Bundle, folder: Path) -> None:
    """Writes the samples for the workers: pixels as training makes them, and the pictures."""
    folder.mkdir()
    np.save(folder / IMAGES_FILE, requests_for(bundle)[IMAGES][IMAGES].astype(np.uint8))
    for number, content in enumerate(bundle.samples):
        (folder / str(number)).write_bytes(content)


def live_boxes(bundle: Bundle) -> dict[str, np.ndarray]:
    """What the live model answers about the samples, in fractions.

    Returns:
        Boxes (N, 4) by what a way is given: of the model's image for `pixels`, of the whole picture
        for `bytes` and `files`.
    """
    found = live_answers(bundle)
    # The Localizer takes the model's image for a whole picture.
    return {"pixels": found["bbox"], "bytes": found["bbox"], "files": found["whole:bbox"]}


def write_artifacts(
    material: Material, folder: Path, wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Artifact | str]:
    """Exports by the export's own code, with its check of the answers.

    Args:
        material: The model.
        folder: Where to.
        wanted: Pairs of format and quantization.

    Returns:
        For each pair its files, or why there are none, as a sentence.
    """
    found: dict[tuple[str, str], Artifact | str] = {}
    for kind, quantize in dict.fromkeys(wanted):
        try:
            refuse_format(kind, quantize)
            found[kind, quantize] = _exported(material, folder / quantize, kind, quantize)
        except ExportError as error:
            found[kind, quantize] = str(error)
    return found


def _exported(material: Material, folder: Path, kind: str, quantize: str) -> Artifact:
    bundle = replace(material.bundle, samples=material.bundle.samples[:SAMPLES])
    if kind == SAVED_MODEL:
        version = export_saved_model(bundle, folder / "saved")
        return Artifact(version, mib_of(version / "saved_model.pb", version / "variables"))
    version = export_portable(
        bundle,
        folder / "portable",
        kind,
        quantize,
        measure=lambda run: {},
        calibration=material.calibration,
    )
    return Artifact(version / RUNTIMES[kind].file, mib_of(*version.glob("model.*")))


def mib_of(*paths: Path) -> float:
    """Size of files, and of all files in folders, in MiB."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file()) / 2**20
