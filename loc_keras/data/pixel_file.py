"""Decoded pictures in a file: written once, continued when broken off, and mapped into memory."""

import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tensorflow as tf

from loc_keras.atomic_file import write_text
from loc_keras.data import files
from loc_keras.data.image_format import ImageFormat
from loc_keras.data.records import Records
from loc_keras.errors import DataError

_RULE = 1
"""Number of the rule that makes pictures; another one makes files of an older rule unknown."""

_SAVED = 2048  # Pictures after which progress is written down.


def pixels_key(records: Records, form: ImageFormat) -> str:
    """Name of the pixels of these records: SHA-256 in hex of all that they depend on.

    The contents of the images stand in by the size and time of change of their files.
    """
    paths, which = np.unique(records.paths.astype(str), return_inverse=True)
    stamps = [_stamp(path) for path in paths.tolist()]
    digest = hashlib.sha256(repr((_RULE, tf.__version__, form, paths.tolist(), stamps)).encode())
    for column in (which, records.offsets, records.lengths):
        digest.update(np.asarray(column, "<i8").tobytes())
    digest.update(np.asarray(records.orientations, "<i8").tobytes())
    digest.update(np.asarray(records.windows, "<i8").tobytes())
    return digest.hexdigest()


class PixelFile:
    """A file of pictures that is being written; a context, within which no one else writes it.

    Beside the pixels, `KEY.pixels`, stands a small file, `KEY.json`, of how far they go.

    Attributes:
        done: Pictures that need not be made again: all before this index.
        seen: bool (N,), pictures that were written; False for broken ones before `done`.
    """

    def __init__(self, folder: Path, key: str, shape: tuple[int, ...]) -> None:
        self._pixels = folder / f"{key}.pixels"
        self._part = folder / f"{key}.part"
        self._notes = folder / f"{key}.json"
        self._lock_path = folder / f"{key}.lock"
        self._shape = shape
        self._map: np.memmap | None = None
        self._unsaved = 0
        self.done = 0
        self.seen = np.zeros(shape[0], bool)

    def __enter__(self) -> "PixelFile":
        """Waits for other writers, then finds what is there."""
        try:
            self._pixels.parent.mkdir(parents=True, exist_ok=True)
            self._lock = open(self._lock_path, "a")
            _wait_for(self._lock)
            self._find()
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Writes down how far it went, and lets others write."""
        if self._map is not None:
            self._save()
            self._map = None
        self._lock.close()

    def write(self, index: np.ndarray, images: np.ndarray) -> None:
        """Writes the pictures of rising indices; those that were left out are broken."""
        if self._map is None:
            raise ValueError("the file is complete")
        self._map[index] = images
        self.seen[index] = True
        self.done = int(index[-1]) + 1
        self._unsaved += len(index)
        if self._unsaved >= _SAVED:
            self._save()

    def finish(self) -> np.memmap:
        """Says that all pictures have been written, and opens them for reading.

        Returns:
            uint8 of the shape of the file.
        """
        self.done = self._shape[0]
        try:
            if self._map is not None:
                self._save()
                self._map = None
                os.replace(self._part, self._pixels)
            return np.memmap(self._pixels, np.uint8, "r", shape=self._shape)
        except OSError as error:
            raise self._failed(error) from error

    def _find(self) -> None:
        notes = self._read_notes()
        size = int(np.prod(self._shape, dtype=np.int64))
        for path in (self._pixels, self._part):
            if notes and path.is_file() and path.stat().st_size == size:
                self.done = notes["done"]
                self.seen[: self.done] = True
                self.seen[notes["broken"]] = False
                break
        if not (self._pixels.is_file() and self.done == self._shape[0]):
            self._pixels.unlink(missing_ok=True)
            if not self.done:
                self._part.unlink(missing_ok=True)
                self._part.touch()
            os.truncate(self._part, size)
            self._map = np.memmap(self._part, np.uint8, "r+", shape=self._shape)

    def _read_notes(self) -> dict[str, Any] | None:
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            broken = np.asarray(notes["broken"], np.int64)
            fits = 0 <= notes["done"] <= self._shape[0] and (broken < notes["done"]).all()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return {"done": notes["done"], "broken": broken} if fits else None

    def _save(self) -> None:
        """Pixels first, then the word that they are there."""
        if self._map is not None:
            self._map.flush()
        broken = np.flatnonzero(~self.seen[: self.done]).tolist()
        write_text(self._notes, json.dumps({"done": self.done, "broken": broken}))
        self._unsaved = 0

    def _failed(self, error: OSError) -> DataError:
        return DataError(
            f"the decoded images cannot be kept in {self._pixels.parent} ({error}); free some "
            "space or name another folder."
        )


def _stamp(path: str) -> tuple[int, int]:
    """Size and time of change in ns; (-1, 0) where there is no such file."""
    try:
        if files.is_remote(path):
            found = tf.io.gfile.stat(path)
            return int(found.length), int(found.mtime_nsec)
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    except (OSError, tf.errors.OpError):
        return -1, 0


def _wait_for(file: Any) -> None:
    """Locks an open file until it is closed, where the system knows of locks."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX)
