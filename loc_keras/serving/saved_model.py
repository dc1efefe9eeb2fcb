"""Writes a localizer as a SavedModel in the layout that TF Serving watches: NAME/VERSION/."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from loc_keras.atomic_file import write_text
from loc_keras.serving.bundle import (
    EXTRA_FOLDER,
    Bundle,
    folder_aside,
    put_in_place,
    refuse_version,
)
from loc_keras.serving.live_check import check_copy, requests_for
from loc_keras.serving.signatures import ServedModel
from loc_keras.training.run_folder import CARD_FILE

WARMUP_FILE = "tf_serving_warmup_requests"
"""The name that TF Serving looks for below `assets.extra`."""

_PREDICT_LOG = 6  # PredictionLog.predict_log
_REQUEST = 1  # PredictLog.request
_MODEL_SPEC, _INPUTS = 1, 2  # PredictRequest
_SIGNATURE_NAME = 3  # ModelSpec
_KEY, _VALUE = 1, 2  # An entry of a map.
_LENGTH_DELIMITED = 2

Requests = Mapping[str, Mapping[str, np.ndarray]]  # For each signature its inputs by name.


def write_warmup(path: Path, requests: Requests) -> None:
    """Writes one record for each signature."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            writer.write(prediction_log(signature, inputs))


def prediction_log(signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """A serialized `PredictionLog` of one request; texts are arrays of `object`."""
    request = _field(_MODEL_SPEC, _field(_SIGNATURE_NAME, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(_INPUTS, _field(_KEY, name.encode()) + _field(_VALUE, tensor))
    return _field(_PREDICT_LOG, _field(_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content.append(value)
    return bytes(content)


ASSETS_FOLDER = "assets"  # Where a SavedModel keeps the files of its vocabulary.

CLASSES_FILE = f"{EXTRA_FOLDER}/classes.txt"
LABELS_FILE = f"{ASSETS_FOLDER}/labels.txt"
"""Where an exported version names its classes, one a line, in label order."""


def export_saved_model(bundle: Bundle, base: Path, version: int | None = None) -> Path:
    """Writes a version of a served model and proves that it answers like the live one.

    The copy is written aside, run in a process of its own that has neither Keras nor our code, and
    only then renamed to its number; None for one more than the highest. So a server that watches
    `base` never sees a half-written version; no version is ever overwritten. It gives the new
    folder.

    Raises:
        ExportError: If the folder cannot be written, the version exists, or the copy differs.
    """
    if version is not None:
        refuse_version(base, version)
    with folder_aside(base) as aside:
        written = aside / "model"
        write_saved_model(bundle, written)
        check_copy(bundle, written)
        return put_in_place(written, base, version)


def write_saved_model(bundle: Bundle, folder: Path) -> None:
    """Writes the SavedModel with everything that comes with it, unchecked."""
    served = ServedModel(bundle.localizer, bundle.class_names, bundle.form)
    try:
        tf.saved_model.save(served, str(folder), signatures=served.signatures)
    except tf.errors.OpError as error:  # A full disk, for example.
        raise OSError(error.message) from error
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
