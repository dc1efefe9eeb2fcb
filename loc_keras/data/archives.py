"""Data sets in a zip or tar file: unpacked once, within bounds, into the cache."""

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO

from loc_keras.atomic_file import file_sha256, folder_aside
from loc_keras.data.files import OutsideError, join_inside
from loc_keras.errors import DataError

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Endings of the archives that are read, in small letters."""

MOST_FILES = 5_000_000
"""Files of the largest archive that is unpacked."""

LEAST_ALLOWED = 2**30
MOST_GROWTH = 100
"""An archive may unpack to so many times its own size, or to `LEAST_ALLOWED` bytes."""

_CHUNK = 2**20
_LEFT_FREE = 0.9

_Member = tuple[str, int, IO[bytes]]
"""Name, declared bytes and content of a file."""


def is_archive(path: str) -> bool:
    """Whether a path is that of an archive, by its ending."""
    return path.lower().endswith(ENDINGS) and os.path.isfile(path)


def unpacked(path: str, cache_dir: str) -> str:
    """The folder that a path means: itself, or what an archive holds, or a folder within one.

    Args:
        path: `photos`, `photos.zip` or `photos.zip/train`.
        cache_dir: Where archives are unpacked, to a folder named by their digest.

    Raises:
        DataError: If the archive cannot be read, is too large, or a name leads out of it.
    """
    parts = Path(path).parts
    for count in range(1, len(parts) + 1):
        archive = str(Path(*parts[:count]))
        if is_archive(archive):
            content = os.stat(archive)
            folder = _content(archive, content.st_size, content.st_mtime_ns, cache_dir)
            return os.path.join(folder, *parts[count:])
    return path


@lru_cache(maxsize=16)
def _content(archive: str, size: int, _: int, cache_dir: str) -> str:
    """The folder with the content of an archive; it is unpacked where it was not yet."""
    path = Path(archive)
    stem = path.name.split(".")[0]
    try:
        folder = Path(cache_dir, "archives", f"{stem}-{file_sha256(path)[:16]}")
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            free = int(shutil.disk_usage(folder.parent).free * _LEFT_FREE)
            with folder_aside(folder) as aside:
                _unpack(path, aside, min(max(LEAST_ALLOWED, MOST_GROWTH * size), free))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise DataError(
            f"archive {archive} cannot be read: {reason}; unpack it yourself."
        ) from None
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"archive {archive} cannot be unpacked to {cache_dir}: {why}.") from None
    return str(folder)


def _unpack(path: Path, folder: Path, most: int) -> None:
    """Writes the files of an archive to a folder, at most so many bytes."""
    left = most
    for count, (name, size, content) in enumerate(_members(path)):
        if size > left or count >= MOST_FILES:
            raise DataError(
                f"archive {path} holds more than {most:,} bytes or {MOST_FILES:,} files; unpack it "
                "yourself, and give the folder."
            )
        try:
            target = Path(join_inside(str(folder), name))
        except OutsideError as error:
            raise DataError(f"archive {path} is not unpacked: {error}.") from None
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while chunk := content.read(min(_CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:  # What is declared may be wrong.
                    raise DataError(f"archive {path} holds more than {most:,} bytes; unpack it.")
                file.write(chunk)


def _members(path: Path) -> Iterator[_Member]:
    """The plain files of an archive, without hidden ones; links are none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            for one in file.infolist():
                link = stat.S_ISLNK(one.external_attr >> 16)
                if not one.is_dir() and not link and _is_wanted(one.filename):
                    with file.open(one) as content:
                        yield one.filename, one.file_size, content
        return
    with tarfile.open(path) as tar:
        for entry in tar:
            stream = tar.extractfile(entry) if entry.isreg() else None
            if stream is not None and _is_wanted(entry.name):
                yield entry.name, entry.size, stream


def _is_wanted(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return not hidden and "__MACOSX" not in parts
