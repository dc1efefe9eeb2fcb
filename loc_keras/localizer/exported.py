"""An exported version: the signature that takes pixels, and the files that came with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from loc_keras.errors import ModelError
from loc_keras.localizer.run_settings import Settings, read_names, rule_of
from loc_keras.serving.model_card import CARD_FILE
from loc_keras.serving.saved_model import EXTRA_FOLDER

GRAPH_FILE = "saved_model.pb"
ASSET_FOLDERS = (EXTRA_FOLDER, "assets")
NAME_FILES = ("classes.txt", "labels.txt")
SIGNATURES = ("images", "serving_default")
"""Signatures that may take raw pixels, in the order of preference."""

_IMAGE_RANK = 4


class Argument(NamedTuple):
    """The one input of a signature."""

    name: str
    shape: tuple[int | None, ...]
    dtype: tf.DType


def version_folder(path: Path) -> Path | None:
    """The folder itself where it is a version, else its newest version; None without one."""
    if (path / GRAPH_FILE).is_file():
        return path
    numbers = [child for child in path.iterdir() if child.name.isdecimal()]
    found = [child for child in numbers if (child / GRAPH_FILE).is_file()]
    return max(found, key=lambda child: int(child.name), default=None)


def signature_of(folder: Path) -> tuple[Any, Argument]:
    """The signature of a version that takes pixels.

    Raises:
        ModelError: If it cannot be opened or has none.
    """
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ModelError(f"{folder} cannot be opened as a SavedModel ({_first(error)}).") from error
    for name in SIGNATURES:
        signature = loaded.signatures.get(name)
        if signature is None:
            continue
        arguments = list(signature.structured_input_signature[1].values())
        if len(arguments) == 1 and arguments[0].shape.rank == _IMAGE_RANK:
            # The graph's variables live as long as the object that was loaded.
            signature.loaded_from = loaded
            spec = arguments[0]
            return signature, Argument(spec.name, tuple(spec.shape), spec.dtype)
    raise ModelError(
        f"{folder} has no signature that takes pixels (number, height, width, channels) under the "
        f"names {' or '.join(SIGNATURES)}; export the run anew."
    )


def exported_settings(folder: Path) -> tuple[Settings, tuple[str, ...]]:
    """Reads class names and model card of a version.

    Returns:
        The settings, and a sentence for each file that is not there.

    Raises:
        ModelError: If the card cannot be read.
    """
    notes = []
    files = [folder / place / name for place in ASSET_FOLDERS for name in NAME_FILES]
    named_by = next((file for file in files if file.is_file()), None)
    if named_by is None:
        notes.append("the export names no classes, so they are told by number.")
    cards = [folder / place / CARD_FILE for place in ASSET_FOLDERS]
    card_file = next((file for file in cards if file.is_file()), None)
    names = None if named_by is None else read_names(named_by)
    if card_file is None:
        notes.append(f"the export holds no {CARD_FILE}, so images are stretched.")
        return Settings(names, named_by=named_by), tuple(notes)
    card = _read_card(card_file)
    preprocessing = card.get("preprocessing")
    said = preprocessing.get("resize", "stretch") if isinstance(preprocessing, Mapping) else None
    # Of drawn digits the card says that none is needed.
    plain = "stretch" if said is None or str(said).startswith("none") else said
    background = card.get("background")
    return Settings(names, rule_of(plain, card_file), background, named_by), tuple(notes)


def _read_card(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({_first(error)}).") from error
    return found if isinstance(found, Mapping) else {}


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
