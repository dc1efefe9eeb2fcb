"""Writing files: whole or absent whenever the process is killed; locks, digests, CSV cells."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
LABEL_JOINT = "|"
_LONGEST_ENDING = 16


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
    finally:
        aside.unlink(missing_ok=True)


def aside_of(path: Path) -> Path:
    """A new hidden name beside a path, short whatever its length, with its ending."""
    ending = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_ENDING else ""
    return path.with_name(f".{os.getpid()}-writing-{os.urandom(4).hex()}{ending}")


def write_text(path: Path, text: str) -> None:
    """Writes text in UTF-8."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock_file(file: int | IO[Any], *, wait: bool = False) -> bool:
    """Locks an open file until it is closed; the system frees the lock when the process dies.

    Args:
        file: The file, or its descriptor.
        wait: Whether to wait for a process that has the lock.

    Returns:
        False where another process has the lock. True on systems that know no such locks, too.

    Raises:
        OSError: If the disk knows none, as some network disks do.
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
