"""Writes a localizer for LiteRT, ONNX Runtime or OpenVINO, and proves that it answers alike."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loc_keras.atomic_file import write_text
from loc_keras.errors import ExportError
from loc_keras.serving import portable_answers
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.converters import FILES, convert
from loc_keras.serving.live_check import SECONDS, live_answers, requests_for
from loc_keras.serving.model_card import CARD_FILE
from loc_keras.serving.portable_answers import Run, runner
from loc_keras.serving.signatures import IMAGES, pixel_function
from loc_keras.serving.versions import folder_aside, put_in_place, refuse_version

TOLERANCES: Mapping[str, float] = {"none": 1e-3, "float16": 1e-2, "int8": np.inf}
"""Largest difference of any output, boxes in fractions, by quantization. What eight bits cost
differs between models: the figures tell it."""

FIGURES_FILE = "figures.json"
"""What was measured before and after, beside the file."""

Measure = Callable[[Run], Mapping[str, Any]]
"""Gives the figures of a converted model, as plain values."""


def export_portable(
    bundle: Bundle,
    base: Path,
    kind: str,
    quantize: str,
    *,
    measure: Measure,
    calibration: np.ndarray | None = None,
    version: int | None = None,
) -> Path:
    """Writes a version of a model for a runtime; it takes raw pixels, as the model does.

    Args:
        bundle: The model, and what comes with it.
        base: Folder of the served model. Versions are `<base>/<kind>/<version>/`, apart from those
            of the SavedModel, since TF Serving would try to load them.
        kind: One of `converters.FILES`.
        quantize: One of `converters.QUANTIZE`.
        measure: Called with the converted model before it gets its version.
        calibration: For int8 images float32 (N, H, W, C), raw pixels, by which ranges are set.
        version: Its number; None for one more than the highest there is.

    Returns:
        The folder of the new version.

    Raises:
        ExportError: If the folder cannot be written, the version exists, the network cannot be
            converted or the file answers differently.
    """
    base = base / kind
    if version is not None:
        refuse_version(base, version)
    with folder_aside(base) as aside:
        written = aside / "model"
        written.mkdir()
        call = pixel_function(bundle.localizer, bundle.form)
        path = convert(call, written, kind, quantize, calibration)
        _check_file(bundle, path, kind, quantize)
        figures = measure(runner(kind, str(path)))
        files = {
            "labels.txt": "".join(f"{name}\n" for name in bundle.class_names),
            FIGURES_FILE: json.dumps(figures, indent=2) + "\n",
            **bundle.texts,
        }
        if bundle.card is not None:
            files[CARD_FILE] = json.dumps(bundle.card, indent=2) + "\n"
        for name, text in files.items():
            write_text(written / name, text)
        return put_in_place(written, base, version)


def answers_of_file(path: Path, kind: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Asks a file in a process that has neither TensorFlow nor Keras nor our code.

    Args:
        path: One of `converters.FILES`.
        kind: Of which kind.
        images: float32 (N, H, W, C), raw pixels.

    Returns:
        The outputs by name.

    Raises:
        ExportError: If the process fails.
    """
    source = Path(portable_answers.__file__).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        asked, written = Path(place, "asked.npz"), Path(place, "written.npz")
        np.savez(asked, images=images)
        done = subprocess.run(
            [sys.executable, "-c", source, kind, str(path.absolute()), str(asked), str(written)],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=place,
            timeout=SECONDS,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ExportError(f"{FILES[kind]} cannot be used ({last}); nothing was exported.")
        with np.load(written) as archive:
            return dict(archive)


def _check_file(bundle: Bundle, path: Path, kind: str, quantize: str) -> None:
    """Compares a file's answers about the samples with the live model's."""
    images = requests_for(bundle)[IMAGES][IMAGES]
    found, live = answers_of_file(path, kind, images), live_answers(bundle)
    expected = {name: live[name] for name in bundle.localizer.output}
    if set(found) != set(expected):
        raise ExportError(
            f"{path.name} names its outputs {sorted(found)}, not {sorted(expected)}; nothing was "
            "exported."
        )
    for name, value in expected.items():
        theirs = np.asarray(found[name], np.float64)
        difference = float(np.max(np.abs(theirs - np.asarray(value, np.float64))))
        if not np.isfinite(difference) or difference > TOLERANCES[quantize]:
            raise ExportError(
                f"the output {name} of {path.name} differs from the live model's by "
                f"{difference:.2g}, more than {TOLERANCES[quantize]:g}; nothing was exported."
            )
