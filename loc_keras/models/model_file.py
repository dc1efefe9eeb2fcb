"""A trained model from its file, or one sentence that says why not."""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import keras

from loc_keras.errors import ModelError


def open_model(path: Path) -> keras.Model:
    """Opens a `.keras` file.

    Raises:
        ModelError: If it cannot be opened.
    """
    try:
        return keras.saving.load_model(path)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        if "keras_hub" in str(error) and find_spec("keras_hub") is None:
            raise ModelError(
                f"{path} holds layers of KerasHub, which is not installed; install it by python "
                "-m pip install keras-hub."
            ) from error
        raise ModelError(
            f"{path} cannot be opened as a model ({type(error).__name__}): the file is damaged or "
            "of another version; take last.keras in its place or train anew."
        ) from error
