"""Which weights file `keras.applications` reads: watched, replaced by a given one, or missed."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from loc_keras.errors import ModelError

MD5_LENGTH = 32
"""Hexadecimal digits of an MD5; a SHA-256 has twice as many."""


@dataclass(frozen=True)
class WeightsFile:
    """A file that weights were read from.

    Attributes:
        path: Where it lies.
        source: Address that it comes from, or in words that it was given.
        known: Whether it is the file that Keras offers, and not one that was given in its place.
    """

    path: Path
    source: str
    known: bool

    def sha256(self) -> str:
        """Digest of the file, in hex."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def weights_files(body: str, given: Path | None = None) -> Iterator[list[WeightsFile]]:
    """Watches the files that Keras fetches for a body while the block runs.

    `keras.applications` tells neither which file it read nor, without a network, which file to
    put where. So its own function `get_file` is replaced for that time by one that asks it and
    takes notes.

    Args:
        body: Name of the body, for messages.
        given: A file that is taken in place of what Keras would fetch; None: none.

    Yields:
        The files so far, in order.

    Raises:
        ModelError: If the given file is not there, or one cannot be fetched.
    """
    if given is not None and not given.is_file():
        raise ModelError(f"model.backbone.weights: there is no file {given}.")
    home = sys.modules[keras.utils.get_file.__module__]
    fetch = keras.utils.get_file
    files: list[WeightsFile] = []

    def get_file(fname: str, origin: str, **settings: Any) -> str:
        if given is not None:
            known = _has_digest(given, settings.get("file_hash"))
            words = origin if known else f"the file {given.name}, given by the user"
            files.append(WeightsFile(given, words, known))
            return str(given)
        cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
        try:
            path = fetch(fname, origin, cache_dir=str(cache), **settings)
        except Exception as error:  # Keras raises the bare class where an address fails.
            folder = cache / settings.get("cache_subdir", "datasets")
            raise ModelError(
                f"the weights of {body} cannot be fetched ({_reason(error, origin)}); fetch "
                f"{origin} on a machine with a network and put it to {folder / fname}, or name "
                "it as model.backbone.weights."
            ) from error
        files.append(WeightsFile(Path(path), origin, known=True))
        return str(path)

    home.get_file = get_file  # type: ignore[attr-defined]
    try:
        yield files
    finally:
        home.get_file = fetch  # type: ignore[attr-defined]


def _has_digest(path: Path, digest: str | None) -> bool:
    """Whether a file has the digest, MD5 or SHA-256 in hex, that Keras knows of its own."""
    if digest is None:
        return False
    kind = "md5" if len(digest) == MD5_LENGTH else "sha256"
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == digest


def _reason(error: Exception, origin: str) -> str:
    """What went wrong, without the address, which the sentence names anyway."""
    text = str(error).replace(f"URL fetch failure on {origin}: ", "").removeprefix("None -- ")
    return " ".join(text.split()) or type(error).__name__
