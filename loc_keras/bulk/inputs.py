"""Image files that a command line names: files, folders and patterns, in an order that repeats."""

import os
import shlex
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path

from loc_keras.data.formats.parsing import IMAGE_ENDINGS
from loc_keras.errors import DataError

_VIDEOS = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg"))


def image_name(path: str, root: str) -> str:
    """Name of an image: its path relative to the root, or from / on where it lies elsewhere.

    Both are absolute paths or URLs; a URL elsewhere keeps its whole text.
    """
    if "://" in path:
        return path.removeprefix(root.rstrip("/") + "/")
    if "://" in root:
        return path.lstrip("/")
    name = os.path.relpath(path, root)
    inside = name != os.pardir and not name.startswith(os.pardir + os.sep)
    return (name if inside else path.lstrip(os.sep)).replace(os.sep, "/")


def common_root(folders: Sequence[str]) -> str:
    """The deepest folder above absolute paths and URLs, at least one; `/` where there is none."""
    if not any("://" in folder for folder in folders):
        return os.path.commonpath(folders)
    parts = [folder.rstrip("/").split("/") for folder in folders]
    same = 0
    while all(same < len(part) and part[same] == parts[0][same] for part in parts):
        same += 1
    # Of a URL the first three parts are the scheme, nothing, and the place that it names.
    return "/".join(parts[0][:same]) if same > 2 and "://" in folders[0] else "/"


def listed_path(line: str, folder: str) -> str | None:
    """What a line of a list in a folder names: a whole path or a URL; None for an empty one."""
    name = line.rstrip("\r\n")
    if not name.strip():
        return None
    if "://" in name:
        return name
    if "://" in folder:
        return name if name.startswith("/") else f"{folder.rstrip('/')}/{name}"
    return os.path.normpath(os.path.join(folder, name))


MAX_BYTES = 64 << 20  # Size of the largest file that workers of a runner read, by default.

LIST_ENCODING = "utf-8-sig"
"""Some editors begin a UTF-8 text with a mark, which is no part of the first path."""


class Inputs:
    """Walks through what was named; of one folder at a time the names are held.

    Arguments are files, folders (with all below them) and patterns of `*`, `?`, `[...]` and `**`;
    lists are text files of one path a line, relative to the list's own folder. The folder `out`,
    where answers are written, is never walked into.

    Attributes:
        left_out: Files of folders met in the last walk whose names do not end like an image's.
        barren: What was named, but gave no image in the last walk.
    """

    def __init__(
        self, arguments: Sequence[str], out: str | Path | None = None, lists: Sequence[str] = ()
    ) -> None:
        for file in lists:
            if not os.path.isfile(file):
                raise DataError(f"{file} is no file; give --list a text file of one path a line.")
        self._lists = [os.path.abspath(file) for file in lists]
        self._arguments = [os.path.abspath(given) for given in arguments]
        self._out = None if out is None else os.path.realpath(out)
        self.left_out = 0
        self.barren: list[str] = []
        for given, path in zip(arguments, self._arguments, strict=True):
            if self._out is not None and os.path.realpath(path) == self._out:
                raise DataError(
                    f"{given} is both a folder of images and --out, where answers are written; "
                    "give another folder to --out."
                )
            if "://" in given:
                raise DataError(
                    f"{given} is not a local path; copy the images to this machine "
                    f"({_fetched(given)}), or give --runner, whose workers read such names."
                )
            if os.path.splitext(given)[1].lower() in _VIDEOS:
                raise DataError(
                    f"{given} is a video; make pictures of it: mkdir frames && ffmpeg -i "
                    f"{shlex.quote(given)} frames/%06d.jpg"
                )
            if os.path.lexists(path):
                continue
            if not has_magic(path):
                raise DataError(f"{given} does not exist; give image files, folders or patterns.")
            if next(self._of(path), None) is None:
                raise DataError(f"{given} matches no file; check the pattern and its folder.")

    @property
    def root(self) -> str:
        """The deepest folder that holds all that was named."""
        folders = [_folder_of(path) for path in self._arguments]
        return os.path.commonpath([*folders, *map(os.path.dirname, self._lists)])

    def __iter__(self) -> Iterator[str]:
        """Absolute paths in the order of the arguments, within each by name."""
        self.left_out, self.barren = 0, []
        for path in self._arguments:
            yield from self._noted(path, self._of(path))
        for path in self._lists:
            yield from self._noted(path, _listed(path))

    def _noted(self, named: str, paths: Iterator[str]) -> Iterator[str]:
        first = next(paths, None)
        if first is None:
            self.barren.append(named)
            return
        yield first
        yield from paths

    def _of(self, path: str) -> Iterator[str]:
        if os.path.isdir(path):
            yield from self._walk(path)
        elif os.path.lexists(path):
            yield path
        else:
            base = _folder_of(path)
            yield from self._matching(base, os.path.relpath(path, base).split(os.sep))

    def _walk(self, folder: str) -> Iterator[str]:
        if self._out is not None and os.path.realpath(folder) == self._out:
            return
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_ENDINGS:
                yield entry.path
            elif entry.is_file():
                self.left_out += 1

    def _matching(self, folder: str, parts: Sequence[str]) -> Iterator[str]:
        first, rest = parts[0], parts[1:]
        if first == "**" and rest:
            yield from self._matching(folder, rest)
        for entry in _entries(folder, hidden=first.startswith(".")):
            if first == "**":
                if entry.is_dir(follow_symlinks=False):
                    yield from self._matching(entry.path, parts)
            elif not fnmatchcase(entry.name, first):
                continue
            elif not rest:
                yield from self._of(entry.path)
            elif entry.is_dir():
                yield from self._matching(entry.path, rest)


def _fetched(address: str) -> str:
    scheme = address.partition("://")[0].lower()
    command = {"gs": "gcloud storage cp -r {} .", "s3": "aws s3 cp --recursive {} ."}
    return command.get(scheme, "curl -LO {}").format(shlex.quote(address))


def _listed(path: str) -> Iterator[str]:
    with open(path, encoding=LIST_ENCODING, errors="surrogateescape") as lines:
        for line in lines:
            if "\0" in line:
                raise DataError(
                    f"{path} is no UTF-8 text of one path a line; save it as UTF-8, or name the "
                    "images themselves."
                )
            listed = listed_path(line, os.path.dirname(path))
            if listed:
                yield listed


def _entries(folder: str, *, hidden: bool = False) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if hidden or not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read ({error.strerror}).") from error
    return sorted(kept, key=lambda entry: entry.name)


def _folder_of(path: str) -> str:
    """The folder itself, the one of a file, or the deepest one that a pattern names outright."""
    if os.path.isdir(path):
        return path
    parent = os.path.dirname(path)
    while has_magic(parent) and not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return parent
