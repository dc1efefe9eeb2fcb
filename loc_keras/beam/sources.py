"""What a command line names, as the few words that the workers find the images by."""

import os
from collections.abc import Callable, Sequence
from glob import has_magic
from typing import NamedTuple

from loc_keras.bulk.inputs import Inputs
from loc_keras.bulk.names import common_root
from loc_keras.errors import DataError

LOCAL, PATTERN, FOLDER, LIST = "local", "pattern", "folder", "list"


class Source(NamedTuple):
    """Where some of the images are.

    Attributes:
        kind: `local` (a path or pattern of the machine's own file system), `pattern` (of URLs),
            `folder` (a URL with all below it) or `list` (a text file of one path a line).
        path: Absolute path or URL.
    """

    kind: str
    path: str


class Named(NamedTuple):
    """All that was named.

    Attributes:
        sources: Each by itself.
        root: Folder that names of images are relative to.
    """

    sources: list[Source]
    root: str


def sources_of(
    arguments: Sequence[str],
    lists: Sequence[str],
    exists: Callable[[str], bool],
    out: str | None = None,
) -> Named:
    """Looks at what was named, without walking through it.

    Args:
        arguments: Paths, patterns, and URLs of a file system that Beam knows.
        lists: Text files of one path a line.
        exists: Whether there is a file by the name or pattern, URL or path.
        out: Folder or URL for the answers, which must not be one of the images.

    Raises:
        DataError: If there is nothing under a name, or it is `out`.
    """
    found = [_remote(one, exists) if "://" in one else _local(one, out) for one in arguments]
    for one in lists:
        path = one if "://" in one else os.path.abspath(one)
        if not exists(path):
            raise DataError(f"{one} does not exist; give --list a text file of one path a line.")
        found.append((Source(LIST, path), folder_of(path)))
    if not found:
        raise DataError("no images are named; give files, folders, patterns, or --list FILE.")
    return Named([source for source, _ in found], common_root([folder for _, folder in found]))


def folder_of(path: str) -> str:
    """Folder of a file, or of what a pattern matches: the part before any sign of a pattern."""
    folder = path.rpartition("/")[0] if "://" in path else os.path.dirname(path)
    while has_magic(folder):
        folder = folder.rpartition("/")[0]
    return folder


def _local(given: str, out: str | None) -> tuple[Source, str]:
    inputs = Inputs([given], None if out is None or "://" in out else out)
    return Source(LOCAL, os.path.abspath(given)), inputs.root


def _remote(given: str, exists: Callable[[str], bool]) -> tuple[Source, str]:
    folder = given.rstrip("/")
    # First, since some file systems say of a folder that it is there like a file.
    if not has_magic(given) and exists(f"{folder}/**"):
        return Source(FOLDER, folder), folder
    if exists(given):
        return Source(PATTERN, given), folder_of(given)
    raise DataError(f"{given} matches no file; check the name, and that you may read it.")
