"""What a command may replace: files that it wrote, as a list beside them says, and none other."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loc_keras.atomic_file import file_sha256, write_text
from loc_keras.errors import DataError

LIST_FILE = ".loc_keras.json"
"""In a folder that commands write to: SHA-256 of each of their files; null for folders, and for
what a process is writing, or was when it was killed."""

Known = tuple[str, frozenset[str]]
"""A JSON file and its keys, by which a folder is known that has no list, as of earlier versions."""


def refuse_foreign(
    folder: Path, names: Sequence[str], instead: str, known: Known | None = None
) -> None:
    """Refuses files that are there and are not what a command wrote there last.

    Args:
        folder: Where they are to be written.
        names: Of the files and folders.
        instead: What else the user may do, as the end of a sentence.
        known: See `Known`.

    Raises:
        DataError: Naming the first such file.
    """
    listed = _object(folder / LIST_FILE)
    if (
        listed is None
        and known is not None
        and known[1] <= (_object(folder / known[0]) or {}).keys()
    ):
        return
    for name in names:
        path = folder / name
        if os.path.lexists(path) and not _is_own(path, listed or {}):
            raise DataError(
                f"{path} was not written by this command, or was changed since, and is not "
                f"replaced; move it away, or {instead}."
            )


@contextmanager
def own_files(
    folder: Path, names: Sequence[str], instead: str, known: Known | None = None
) -> Iterator[None]:
    """Lists the files that are written within, so that a later call may replace them.

    Args:
        folder: As the other arguments of `refuse_foreign`, which is called; made where missing.
        names: See there.
        instead: See there.
        known: See there.
    """
    refuse_foreign(folder, names, instead, known)
    folder.mkdir(parents=True, exist_ok=True)
    _note(folder, dict.fromkeys(names))
    try:
        yield
    finally:
        there = [folder / name for name in names if (folder / name).exists()]
        digests = {path.name: file_sha256(path) if path.is_file() else None for path in there}
        _note(folder, digests, gone=names)


def _is_own(path: Path, listed: Mapping[str, Any]) -> bool:
    if path.name not in listed:
        return False
    digest = listed[path.name]
    return digest is None or (path.is_file() and digest == file_sha256(path))


def _note(folder: Path, files: Mapping[str, str | None], gone: Sequence[str] = ()) -> None:
    listed = _object(folder / LIST_FILE) or {}
    listed = {name: digest for name, digest in listed.items() if name not in gone} | dict(files)
    if listed:
        write_text(folder / LIST_FILE, json.dumps(listed, indent=1) + "\n")
    else:
        (folder / LIST_FILE).unlink(missing_ok=True)


def _object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file, or anything else in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
