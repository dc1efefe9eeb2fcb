"""Opens a trained model: a run's folder, a `.keras` file, an exported SavedModel."""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from loc_keras.data.image_format import ImageFormat
from loc_keras.errors import ModelError, TrustError
from loc_keras.localizer.exported import exported_settings, signature_of, version_folder
from loc_keras.localizer.opened import Answer, Opened
from loc_keras.localizer.run_settings import Settings, run_settings
from loc_keras.models.model_file import open_model
from loc_keras.trust.statements import STATED
from loc_keras.trust.trust_file import TRUST_FILE, Trust, model_digest, read_trust
from loc_keras.trust.trusted_model import trusted_model

BEST_FILE = "best.keras"

_NEEDED = frozenset({"softmax", "bbox"})


def open_trained(path: Path) -> Opened:
    """Opens whichever it is.

    Raises:
        ModelError: If it is none, or cannot be opened.
        TrustError: If the run's trust cannot be used.
    """
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise ModelError(
                f"{path} is no .keras file; give a run's folder, a .keras file or an export. If it "
                "once was one, it is damaged."
            )
        return _open_file(path)
    if not path.is_dir():
        raise ModelError(
            f"{path} does not exist; give a run's folder, a model's file or an export."
        )
    if (path / BEST_FILE).is_file():
        return _open_file(path / BEST_FILE)
    version = version_folder(path)
    if version is None:
        _refuse_device_model(path)
        raise ModelError(
            f"{path} holds neither {BEST_FILE}, as a run's folder does, nor saved_model.pb, as an "
            "exported version does; give one of these."
        )
    return _open_export(version)


def _refuse_device_model(folder: Path) -> None:
    for name in ("model.tflite", "model.onnx", "model.xml"):
        if (folder / name).is_file():
            raise ModelError(
                f"{folder / name} is for programs on a device, which its own runtime opens; give "
                "the run it was exported from, or its SavedModel."
            )


def _open_file(path: Path) -> Opened:
    model = open_model(path)
    outputs = model.output if isinstance(model.output, dict) else {}
    if not set(outputs) >= _NEEDED:
        raise ModelError(
            f"{path} is a model without the outputs softmax and bbox; it is no localizer."
        )
    settings, notes = run_settings(path.parent)
    trust, told = _trust_beside(path)
    if trust is not None:
        model = trusted_model(model, trust.statements)
    height, width, channels = model.input_shape[1:]
    return _opened(
        path,
        lambda images: model(images, training=False),
        (height, width, channels),
        {name: value.shape for name, value in model.output.items()},
        settings,
        (*notes, *told),
        [path, *([path.parent / TRUST_FILE] if trust is not None else [])],
    )


def _trust_beside(path: Path) -> tuple[Trust | None, tuple[str, ...]]:
    """Trust of the run that a model belongs to; it is that of the best one alone."""
    file = path.parent / TRUST_FILE
    if path.name == BEST_FILE or not file.is_file():
        return read_trust(file, path), ()
    try:
        return read_trust(file, path), ()
    except TrustError:
        return None, (f"{file} was fitted to another model, so {path.name} answers without trust.",)


def _open_export(folder: Path) -> Opened:
    signature, argument = signature_of(folder)
    settings, notes = exported_settings(folder)
    outputs = signature.structured_outputs
    if not set(outputs) >= _NEEDED:
        raise ModelError(f"{folder} answers without softmax and bbox; it is no localizer.")
    _, height, width, channels = argument.shape

    def answer(images: tf.Tensor) -> Mapping[str, tf.Tensor]:
        found: Mapping[str, tf.Tensor] = signature(
            **{argument.name: tf.cast(images, argument.dtype)}
        )
        return found

    files = [folder / "saved_model.pb", *sorted((folder / "variables").glob("*"))]
    shapes = {name: value.shape for name, value in outputs.items()}
    return _opened(folder, answer, (height, width, channels), shapes, settings, notes, files)


def _opened(
    path: Path,
    answer: Answer,
    shape: tuple[int | None, int | None, int | None],
    outputs: Mapping[str, Sequence[int | None]],
    settings: Settings,
    notes: Sequence[str],
    files: Iterable[Path],
) -> Opened:
    height, width, channels = shape
    classes = int(outputs["softmax"][-1] or 0)
    if not (height and width and channels in (1, 3)):
        raise ModelError(f"{path} takes images of {shape}, not of one size with 1 or 3 channels.")
    if settings.class_names is None:
        settings = settings.named([str(index) for index in range(classes)])
    elif len(settings.class_names) != classes:
        raise ModelError(
            f"{path} knows {classes} classes, but {settings.named_by} names "
            f"{len(settings.class_names)}; put the right file there."
        )
    form = ImageFormat((height, width), channels, settings.rule)
    trusted = set(outputs) >= set(STATED)
    digest = digest_of(files, settings)
    return Opened(path, answer, form, settings, trusted, tuple(notes), digest)


def digest_of(files: Iterable[Path], settings: Settings) -> str:
    """SHA-256, in hex, of a model's files and of what is known of it, with its names."""
    digest = hashlib.sha256("".join(model_digest(file) for file in files).encode())
    digest.update(json.dumps([settings.class_names, settings.rule, settings.background]).encode())
    return digest.hexdigest()
