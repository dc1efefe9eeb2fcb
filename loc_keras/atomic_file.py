"""Writing files: whole or absent whenever the process is killed; locks, digests, CSV cells.

A command replaces the files that it wrote, as a list beside them says, and none other
(`own_files`).
"""

import csv
import errno
import hashlib
import io
import json
import os
import platform
import re
import shutil
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from loc_keras.errors import DataError

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
LABEL_JOINT = "|"
LATEST = "latest"
"""Beside runs, leads to the newest."""
_LONGEST_PLACE = 4096
_LONGEST_ENDING = 16
_ASIDE = re.compile(r"\.(\d+)-writing-([0-9a-f]{8})[0-9a-f]{8}(\..*)?", re.DOTALL)
_NOTING = threading.Lock()

LIST_FILE = ".loc_keras.json"
"""In a folder that commands write to: SHA-256 of each of their files; null for folders, and for
what a process is writing, or was when it was killed."""

Known = tuple[str, frozenset[str]]
"""A JSON file and its keys, by which a folder is known that has no list, as of earlier versions."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and renames it to `path` at the end.

    The two share their ending, since some writers choose the format by it. After an error nothing
    is left and an earlier file of that name stays as it was.
    """
    aside = aside_of(path)
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(aside)):
            raise
        # On a full disk the system names no file.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


def aside_of(path: Path) -> Path:
    """A new hidden name beside a path, short whatever its length, with its ending."""
    ending = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_ENDING else ""
    name = f".{os.getpid()}-writing-{_machine()}{os.urandom(4).hex()}{ending}"
    return path.with_name(name)


def remove_halves(folder: Path) -> None:
    """Removes what processes of this machine were writing in a folder when they were killed."""
    for path in folder.glob(".*-writing-*"):
        found = _ASIDE.fullmatch(path.name)
        if found is None or found[2] != _machine() or _is_alive(int(found[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder` at the end and is removed after an error.

    Into an empty folder that exists only what it holds is moved: to replace the folder would leave
    whoever works in it in a deleted one.
    """
    folder = Path(os.path.abspath(folder))  # A name of its own also for "." and "..".
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(folder)
    try:
        aside.mkdir()
        yield aside
        if not folder.is_dir():
            aside.rename(folder)
        elif any(folder.iterdir()):
            raise FileExistsError(errno.ENOTEMPTY, "somebody put something into it", str(folder))
        else:
            for entry in aside.iterdir():
                entry.rename(folder / entry.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def point_to(link: Path, target: Path) -> bool:
    """Lets a link lead to a folder beside it or below; a text file where the system has no links.

    What this function has not made is never replaced: only a link, or a text of one line, that
    leads to a place below its own folder counts as ours.

    Returns:
        Whether it leads there now.
    """
    place = os.path.relpath(target, link.parent)
    if os.path.lexists(link) and _led_to(link) is None:
        return False
    try:
        with written_aside(link) as aside:
            try:
                aside.symlink_to(place, target_is_directory=True)
            except (OSError, NotImplementedError):  # As Python says that a system has no links.
                aside.write_text(f"{place}\n", encoding="utf-8")
    except OSError:
        return False
    return True


def followed(path: str | os.PathLike[str]) -> Path:
    """The folder that a link of `point_to` leads to; any other path as it is."""
    path = Path(path)
    place = _led_to(path) if path.name == LATEST else None
    return path if place is None else path.parent / place


def _led_to(link: Path) -> str | None:
    """Where a link of ours leads, from its own folder; None for anything else."""
    try:
        if link.is_symlink():
            place = os.readlink(link)
        elif link.stat().st_size <= _LONGEST_PLACE:
            place = link.read_text(encoding="utf-8").removesuffix("\n")
        else:
            return None
    except (OSError, ValueError):
        return None
    below = os.path.normpath(place).split(os.sep)
    is_plain = place and "\n" not in place and not os.path.isabs(place) and os.pardir not in below
    if not is_plain or not (link.is_symlink() or (link.parent / place).is_dir()):
        return None
    return place


def write_text(path: Path, text: str) -> None:
    """Writes text in UTF-8."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock_file(file: int | IO[Any], *, wait: bool = False) -> bool:
    """Locks an open file, or its descriptor, until it is closed or the process dies.

    False where another process has the lock, for which it can `wait`; True on systems that know no
    such locks. OSError if the disk knows none, as some network disks do.
    """
    try:
        import fcntl
    except ImportError:  # There is none on Windows.
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV (RFC 4180), with LF at the end of each line."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def safe_cell(text: str) -> str:
    r"""A text that no spreadsheet takes for a formula and every file can hold.

    Bytes of a file name that are no UTF-8 become `\udc..`, as Python shows them.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def label_set(names: Iterable[str]) -> str:
    r"""Names joined by `|`; a `|` inside a name is written as `\|`, and a backslash doubled."""
    escaped = (name.replace("\\", "\\\\").replace(LABEL_JOINT, "\\|") for name in names)
    return LABEL_JOINT.join(escaped)


def refuse_foreign(
    folder: Path, names: Sequence[str], instead: str, known: Known | None = None
) -> None:
    """Refuses files, or folders, that are there and are not what a command wrote there last.

    DataError names the first such file; `instead` is what else the user may do, as the end of a
    sentence.
    """
    listed = json_object(folder / LIST_FILE)
    if (
        listed is None
        and known is not None
        and known[1] <= (json_object(folder / known[0]) or {}).keys()
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

    `refuse_foreign` is called first, with these arguments; a missing folder is made.
    """
    refuse_foreign(folder, names, instead, known)
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder, *(folder / name for name in names)):
        remove_halves(place)
    _note(folder, dict.fromkeys(names))
    try:
        yield
    finally:
        there = [folder / name for name in names if (folder / name).exists()]
        digests = {path.name: file_sha256(path) if path.is_file() else None for path in there}
        _note(folder, digests, gone=names)


def json_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file, or anything else in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _machine() -> str:
    """Eight digits by which a machine knows its own processes on a disk that several share."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":  # The question would end it there.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _is_own(path: Path, listed: Mapping[str, Any]) -> bool:
    if path.name not in listed:
        return False
    digest = listed[path.name]
    return digest is None or (path.is_file() and digest == file_sha256(path))


def _note(folder: Path, files: Mapping[str, str | None], gone: Sequence[str] = ()) -> None:
    with _NOTING:
        listed = json_object(folder / LIST_FILE) or {}
        listed = {name: digest for name, digest in listed.items() if name not in gone} | dict(files)
        if listed:
            write_text(folder / LIST_FILE, json.dumps(listed, indent=1) + "\n")
        else:
            (folder / LIST_FILE).unlink(missing_ok=True)
