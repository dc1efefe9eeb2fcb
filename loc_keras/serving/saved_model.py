"""Writes a localizer as a SavedModel in the layout that TF Serving watches: NAME/VERSION/."""

import json
from pathlib import Path

import tensorflow as tf

from loc_keras.atomic_file import write_text
from loc_keras.errors import ExportError
from loc_keras.serving.bundle import Bundle
from loc_keras.serving.live_check import check_copy, requests_for
from loc_keras.serving.model_card import CARD_FILE
from loc_keras.serving.signatures import ServedModel
from loc_keras.serving.versions import folder_aside, put_in_place, refuse_version
from loc_keras.serving.warmup import WARMUP_FILE, write_warmup

ASSETS_FOLDER = "assets"
"""Where a SavedModel keeps the files of its vocabulary."""

EXTRA_FOLDER = "assets.extra"
"""TensorFlow keeps this folder of an exported version for files that come with a model."""

CLASSES_FILE = f"{EXTRA_FOLDER}/classes.txt"
LABELS_FILE = f"{ASSETS_FOLDER}/labels.txt"
"""Where an exported version names its classes, one a line, in label order."""


def export_saved_model(bundle: Bundle, base: Path, version: int | None = None) -> Path:
    """Writes a version of a served model and proves that it answers like the live one.

    The copy is written aside, asked in a process of its own that has neither Keras nor our code,
    and only then renamed to its version number. So a server that watches the folder never sees a
    half-written version; no version is ever overwritten.

    Args:
        bundle: The model, and what comes with it.
        base: Folder of the served model; versions are its numbered subfolders.
        version: Its number; None for one more than the highest there is.

    Returns:
        The folder of the new version; `signatures` says what it answers to.

    Raises:
        ExportError: If the folder cannot be written, the version exists, or the copy answers
            differently.
    """
    try:
        if version is not None:
            refuse_version(base, version)
        with folder_aside(base) as aside:
            written = aside / "model"
            write_saved_model(bundle, written)
            check_copy(bundle, written)
            return put_in_place(written, base, version)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        raise ExportError(
            f"the SavedModel cannot be written to {base} ({reason}); "
            "choose a folder that can be written, by --out or export.dir."
        ) from error


def write_saved_model(bundle: Bundle, folder: Path) -> None:
    """Writes the SavedModel with everything that comes with it, unchecked."""
    served = ServedModel(bundle.localizer, bundle.class_names, bundle.form)
    tf.saved_model.save(served, str(folder), signatures=served.signatures)
    names = "".join(f"{name}\n" for name in bundle.class_names)
    files = {LABELS_FILE: names, CLASSES_FILE: names}
    if bundle.card is not None:
        card = json.dumps(bundle.card, indent=2) + "\n"
        files |= {f"{ASSETS_FOLDER}/{CARD_FILE}": card, f"{EXTRA_FOLDER}/{CARD_FILE}": card}
    files |= {f"{EXTRA_FOLDER}/{name}": text for name, text in bundle.texts.items()}
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_text(folder / name, text)
    write_warmup(folder / EXTRA_FOLDER / WARMUP_FILE, requests_for(bundle, count=1))
