"""Files wherever they lie: local ones through the system, `scheme://` ones through TensorFlow.

Names that annotation files give are joined here, so that none leads out of the data folder. Data
sets in a zip or tar file are unpacked once, within bounds, into the cache.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, TypeVar

from loc_keras._environ import tf
from loc_keras.atomic_file import file_sha256, folder_aside
from loc_keras.errors import DataError, first_line

MOST_BYTES = 2**29
"""Bytes of the largest image that is read, 8 for each pixel of the largest that is decoded."""

LARGEST_TEXT = 2**30
"""Bytes of the largest annotation file that is read; a larger one is not an annotation file."""


_TRIED, _QUICK = 16, 1e-3  # Files, and seconds that one takes on a disk of this machine.

T = TypeVar("T")
U = TypeVar("U")

_READ: ContextVar[set[str] | None] = ContextVar("read", default=None)


class OutsideError(ValueError):
    """A name leads out of the data folder; the message says how."""


def is_remote(path: str) -> bool:
    """Whether TensorFlow's filesystems must open it, as `gs://bucket/file`."""
    return "://" in path


def join(folder: str, *names: str) -> str:
    """Joins names to a folder, local or remote, without judging them."""
    return posixpath.join(folder, *names) if is_remote(folder) else os.path.join(folder, *names)


def join_inside(folder: str, name: str, *, root: str | None = None) -> str:
    """Joins a name from an annotation file to its folder, normalised.

    Backslashes count as slashes, as Windows tools write them. OutsideError where the name is empty,
    absolute, or leads out of `root`, None: the folder, by `..` or by a link; which links the root
    itself lies behind does not matter.
    """
    clean = name.replace("\\", "/")
    if not clean.strip() or "\0" in clean or not is_encodable(clean):
        raise OutsideError(f"{name!r} names no file")
    if clean.startswith("/") or is_remote(clean) or clean[1:3] == ":/":
        raise OutsideError(f"{name!r} is absolute; names must be relative to the data folder")
    root = folder if root is None else root
    if is_remote(folder):
        scheme, _, rest = folder.partition("://")
        joined = posixpath.normpath(posixpath.join(rest, clean))
        limit = posixpath.normpath(root.partition("://")[2])
        if not (joined + "/").startswith(limit.rstrip("/") + "/"):
            raise OutsideError(f"{name!r} leads out of the data folder {root}")
        return f"{scheme}://{joined}"
    joined = os.path.normpath(os.path.join(folder, clean))
    limit = os.path.normpath(root)
    if limit == os.curdir:
        inside = joined.split(os.sep)[0] != os.pardir
    else:
        inside = joined == limit or joined.startswith(limit.rstrip(os.sep) + os.sep)
    if not inside:
        raise OutsideError(f"{name!r} leads out of the data folder {root}")
    if not _stays_inside(joined, root):
        raise OutsideError(f"{name!r} is a link that leads out of the data folder {root}")
    return joined


def is_file(path: str) -> bool:
    """Whether a file is there."""
    if is_remote(path):
        with _as_data_error(path):
            return bool(tf.io.gfile.exists(path)) and not tf.io.gfile.isdir(path)
    return os.path.isfile(path)


def absence(path: str) -> str:
    """Why `is_file` is false, as the end of a sentence that starts with the path."""
    if is_remote(path) or not os.path.exists(path):
        return "does not exist"
    return f"is no regular file but a {_kind(os.stat(path))}"


def _kind(found: os.stat_result) -> str:
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder"}
    return kinds.get(stat.S_IFMT(found.st_mode), "device")


def is_folder(path: str) -> bool:
    """Whether a folder is there."""
    if is_remote(path):
        with _as_data_error(path):
            return bool(tf.io.gfile.isdir(path))
    return os.path.isdir(path)


def file_size(path: str) -> int:
    """Bytes of a file."""
    return int(tf.io.gfile.stat(path).length) if is_remote(path) else os.path.getsize(path)


def file_state(path: str) -> tuple[int, int]:
    """Size and time of change in ns of a file; (-1, 0) where there is none."""
    try:
        if is_remote(path):
            found = tf.io.gfile.stat(path)
            return int(found.length), int(found.mtime_nsec)
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    except file_errors():
        return -1, 0


def listed(folder: str) -> list[str]:
    """Names in a folder, sorted, without hidden ones; an absent folder has none."""
    if not is_folder(folder):
        return []
    with _as_data_error(folder):
        names = tf.io.gfile.listdir(folder) if is_remote(folder) else os.listdir(folder)
    return sorted(name.rstrip("/") for name in names if not name.startswith("."))


def walk(folder: str) -> list[str]:
    """Paths of all files below a folder, sorted, without hidden ones; links are not followed."""
    walker = tf.io.gfile.walk(folder) if is_remote(folder) else os.walk(folder)
    found = []
    for parent, folders, names in walker:
        if not is_remote(folder):  # gfile's walk does not look at changes of the list.
            folders[:] = [name for name in folders if not name.startswith(".")]
        inside = join(parent, "")
        found += [inside + name for name in names if not name.startswith(".")]
    return sorted(found)


def matching(folder: str, pattern: str) -> list[str]:
    """Sorted paths of files below a folder that match a pattern of `*`, `?` and `[...]`.

    OutsideError if the pattern is absolute, leads out of the folder, or is none; DataError if a
    remote folder cannot be listed.
    """
    if is_remote(pattern) or pattern.startswith("/") or ".." in pattern.split("/"):
        raise OutsideError(f"{pattern!r} leads out of {folder}; patterns must be relative to it")
    if is_remote(folder):
        with _as_data_error(folder):
            found = list(tf.io.gfile.glob(join(folder, pattern)))
    else:
        try:
            found = [str(path) for path in Path(folder).glob(pattern)]
        # pathlib's two answers to a malformed pattern; the second is for a drive letter on Windows.
        except (ValueError, NotImplementedError) as error:
            raise OutsideError(f"{pattern!r} is no pattern: {error}") from error
    return sorted(path for path in found if is_file(path))


def op_errors() -> tuple[type[Exception], ...]:
    """What TensorFlow raises of a file; none before it is imported, which takes seconds."""
    return (tf.errors.OpError,) if "tensorflow" in sys.modules else ()


def file_errors() -> tuple[type[Exception], ...]:
    """What Python and TensorFlow raise of a file."""
    return (OSError, *op_errors())


def open_binary(path: str, most: int | None = None) -> IO[bytes]:
    """Opens a file to read bytes from, of at most so many; whatever the data name is opened here.

    OSError if that fails, or it is larger, or no file: a pipe would be waited for, a device may
    have no end (other faults of remote files are turned into it on reading).
    """
    if is_remote(path):
        if most is not None:
            _refuse_large(file_size(path), most, path)
        return tf.io.gfile.GFile(path, "rb")
    return open(path, "rb", opener=partial(_open_regular, most))


@contextmanager
def noted_reads() -> Iterator[set[str]]:
    """Collects the paths that `read_bytes` and `read_text` read meanwhile."""
    paths: set[str] = set()
    token = _READ.set(paths)
    try:
        yield paths
    finally:
        _READ.reset(token)


def read_bytes(path: str, offset: int = 0, length: int = -1, *, most: int = MOST_BYTES) -> bytes:
    """Reads a file or a range of it; OSError if it cannot, or a file has more than `most` bytes."""
    if (paths := _READ.get()) is not None:
        paths.add(path)
    try:
        _refuse_large(length, most, path)
        if not is_remote(path):
            return _read_local(path, offset, length, most)
        with open_binary(path, most if length < 0 else None) as file:
            if offset:
                file.seek(offset)
            return file.read(length)
    except op_errors() as error:
        raise OSError(getattr(error, "message", "")) from error


def _read_local(path: str, offset: int, length: int, most: int) -> bytes:
    """As `read_bytes`, without the file object, which takes longer than small files themselves."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    descriptor = _open_regular(most if length < 0 else None, path, flags)
    try:
        if offset:
            os.lseek(descriptor, offset, os.SEEK_SET)
        left = length if length >= 0 else os.fstat(descriptor).st_size - offset
        content = os.read(descriptor, max(left, 0))
        while len(content) < left and (more := os.read(descriptor, left - len(content))):
            content += more
        return content
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)


def for_each(work: Callable[[T], U], items: Sequence[T], threads: int = 8) -> list[U]:
    """Does some work for each of many files, in threads where the first few take long.

    Small files of a local disk are read sooner than threads hand the interpreter to each other.
    """
    began = time.perf_counter()
    found = [work(item) for item in items[:_TRIED]]
    if time.perf_counter() - began < _QUICK * _TRIED:
        return found + [work(item) for item in items[_TRIED:]]
    with ThreadPoolExecutor(threads) as pool:
        return found + list(pool.map(work, items[_TRIED:]))


def read_text(path: str, *, what: str = "annotation file") -> str:
    """Reads an annotation file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    DataError, about `what`, if it is missing, too large, or of another encoding.
    """
    if not (is_file(path) or os.path.exists(path)):
        raise DataError(f"{what} {path} does not exist.")
    try:
        content = read_bytes(path, most=LARGEST_TEXT)
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {first_line(error)}.") from error
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        at = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{what} {path} is not UTF-8 text: line {at} has the byte "
            f"0x{content[error.start]:02x}; save it as UTF-8."
        ) from error


ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Endings of the archives that are read, in small letters."""

MOST_FILES = 5_000_000  # Files of the largest archive that is unpacked.

LEAST_ALLOWED = 2**30
MOST_GROWTH = 100
"""An archive may unpack to so many times its own size, or to `LEAST_ALLOWED` bytes."""

_PIECE = 2**20
_LEFT_FREE = 0.9

_Member = tuple[str, int, IO[bytes]]  # Name, declared bytes and content of a file.


def unpacked(path: str, cache_dir: str) -> str:
    """The folder that a path means: itself, or what an archive holds, or a folder within one.

    Such as `photos`, `photos.zip` or `photos.zip/train`. Archives are unpacked to a folder of the
    cache that is named by their digest; DataError if one cannot be read, is too large, or a name
    leads out.
    """
    parts = Path(path).parts
    for count in range(1, len(parts) + 1):
        archive = str(Path(*parts[:count]))
        if archive.lower().endswith(ARCHIVE_ENDINGS) and os.path.isfile(archive):
            content = os.stat(archive)
            folder = _content(archive, content.st_size, content.st_mtime_ns, cache_dir)
            return os.path.join(folder, *parts[count:])
    return path


def is_encodable(name: str) -> bool:
    """Whether the name can be a file's: text from JSON may hold halves of characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stays_inside(path: str, root: str) -> bool:
    """Whether a path, with all links followed, is in the folder."""
    parent, name = os.path.split(path)
    real = os.path.join(_real_folder(parent), name)
    if os.path.islink(real):
        real = os.path.realpath(real)
    real_root = _real_folder(root)
    return os.path.commonpath([real, real_root]) == real_root


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    # A data set has few folders and many names in each; asking the system for every one is slow.
    return os.path.realpath(folder)


@contextmanager
def _as_data_error(path: str) -> Iterator[None]:
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        reason = getattr(error, "message", None) or first_line(error)
        raise DataError(f"{path} cannot be opened: {reason}.") from error


def _open_regular(most: int | None, path: str, flags: int) -> int:
    found = os.stat(path)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise OSError(errno.EINVAL, f"it is a {_kind(found)}, no file", path)
    if most is not None:
        _refuse_large(found.st_size, most, path)
    # Should a pipe have taken its place meanwhile, nothing waits either.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse_large(size: int, most: int, path: str) -> None:
    if size > most:
        raise OSError(errno.EFBIG, f"it has {size:,} bytes, and at most {most:,} are read", path)


@lru_cache(maxsize=16)
def _content(archive: str, size: int, _: int, cache_dir: str) -> str:
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
            while chunk := content.read(min(_PIECE, left + 1)):
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
