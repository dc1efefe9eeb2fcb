"""Writes a localizer as a SavedModel in the layout that TF Serving watches: NAME/VERSION/."""

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from loc_keras.atomic_file import write_text
from loc_keras.errors import ExportError
from loc_keras.serving.model_card import CARD_FILE

TOLERANCES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""Largest difference that is allowed between an output of the model and of its copy, by the dtype
of the body: graphs of one model may be fused, and so rounded, differently."""


EXTRA_FOLDER = "assets.extra"
"""TensorFlow keeps this folder of an exported version for files that come with a model."""

CLASSES_FILE = f"{EXTRA_FOLDER}/classes.txt"
"""Where an exported version names its classes, one a line, in label order."""


def export_saved_model(
    localizer: keras.Model,
    base: Path,
    probe: np.ndarray,
    class_names: Sequence[str] = (),
    card: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Writes the next version of a served model and proves that it answers like the live one.

    The copy is written aside, checked and only then renamed to its version number, so a server
    that watches the folder never sees a half-written version; no version is ever overwritten.

    Args:
        localizer: the model; its outputs are named `softmax` and `bbox`, and there may be more.
        base: folder of the served model; versions are its numbered subfolders.
        probe: images (N, H, W, C), raw pixels, on which both must agree.
        class_names: Names of the classes by index, kept as `CLASSES_FILE`; empty: no such file.
        card: The model card, kept as `model_card.json` beside the classes; None: no such file.
        texts: Further files beside them, by name.

    Returns:
        The folder of the new version. Its `serving_default` signature takes `images`
        (N, H, W, C) float32, raw pixels, and gives all outputs of the model.

    Raises:
        ExportError: if the folder cannot be written or the copy answers differently.
    """
    aside = None
    try:
        base.mkdir(parents=True, exist_ok=True)
        # A folder of its own, so that two exports at once do not touch each other's files.
        aside = Path(tempfile.mkdtemp(dir=base, prefix=".writing-"))
        # Keras prints a page about the artifact, of which a user of ours needs nothing.
        with contextlib.redirect_stdout(io.StringIO()):
            localizer.export(aside / "model", format="tf_saved_model", verbose=False)
        check_copy(localizer, aside / "model", probe)
        _write_extras(aside / "model", class_names, card, texts or {})
        final = base / str(next_version(base))
        (aside / "model").rename(final)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        raise ExportError(
            f"the SavedModel cannot be written to {base} ({reason}); "
            "set export.dir to a folder that can be written."
        ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return final


def _write_extras(
    version: Path,
    class_names: Sequence[str],
    card: Mapping[str, Any] | None,
    texts: Mapping[str, str],
) -> None:
    files = dict(texts)
    if class_names:
        files[Path(CLASSES_FILE).name] = "".join(f"{name}\n" for name in class_names)
    if card is not None:
        files[CARD_FILE] = json.dumps(card, indent=2) + "\n"
    if files:
        (version / EXTRA_FOLDER).mkdir()
    for name, content in files.items():
        write_text(version / EXTRA_FOLDER / name, content)


def prove_writable(base: Path) -> None:
    """Makes the folder of the served model and tries to write to it.

    Raises:
        ExportError: if that cannot be done.
    """
    try:
        base.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=base, prefix=".writing-").cleanup()
    except OSError as error:
        raise ExportError(
            f"the SavedModel cannot be written to {base} ({error.strerror or error}); "
            "set export.dir to a folder that can be written, or export.enabled to false."
        ) from error


def next_version(base: Path) -> int:
    """One more than the highest version in the folder; 1 where there is none."""
    if not base.is_dir():
        return 1
    return 1 + max(
        (int(child.name) for child in base.iterdir() if child.name.isdecimal()), default=0
    )


def check_copy(localizer: keras.Model, folder: Path, probe: np.ndarray) -> None:
    """Compares a SavedModel with the live model on some images.

    Raises:
        ExportError: naming the output and the difference, if one exceeds `TOLERANCES`.
    """
    images = probe.astype(np.float32)
    live = tf.function(lambda x: localizer(x, training=False))(tf.constant(images))
    tolerance = TOLERANCES[lowest_dtype(localizer)]
    served = tf.saved_model.load(str(folder)).signatures["serving_default"](tf.constant(images))
    if set(served) != set(live):
        raise ExportError(f"the SavedModel names its outputs {sorted(served)}, not {sorted(live)}.")
    for name, value in live.items():
        # As float64: truth values cannot be subtracted.
        ours, theirs = (np.asarray(one, np.float64) for one in (value, served[name]))
        difference = float(np.max(np.abs(ours - theirs), initial=0.0))
        if not difference <= tolerance:
            raise ExportError(
                f"the SavedModel's output {name} differs from the live model's by "
                f"{difference:.2g}, more than {tolerance:g}; nothing was exported."
            )


def lowest_dtype(localizer: keras.Model) -> str:
    """The least precise dtype that a layer of the model computes in."""
    used = {layer.compute_dtype for layer in localizer.layers}
    return max((dtype for dtype in used if dtype in TOLERANCES), key=TOLERANCES.__getitem__)
