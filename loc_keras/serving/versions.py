"""Numbered versions of a served model, as TF Serving finds them: NAME/VERSION/."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loc_keras.errors import ExportError

MAX_VERSION = 2**63 - 1
"""TF Serving holds a version as an int64."""

_NUMBER = re.compile(r"[1-9][0-9]*", re.ASCII)


def parse_version(text: str) -> int:
    """A version number that somebody wrote.

    Raises:
        ExportError: If TF Serving would ignore a folder of that name, or read it as another number.
    """
    if not _NUMBER.fullmatch(text) or int(text) > MAX_VERSION:
        raise ExportError(
            f"{text!r} is no version that TF Serving loads; give a whole number from 1 to "
            f"{MAX_VERSION}, without leading zeros."
        )
    return int(text)


def next_version(base: Path) -> int:
    """One more than the highest version in the folder; 1 where there is none."""
    if not base.is_dir():
        return 1
    # A name with leading zeros is a number to TF Serving, too.
    names = [child.name for child in base.iterdir()]
    numbers = [int(name) for name in names if name.isascii() and name.isdecimal()]
    highest = max((number for number in numbers if number <= MAX_VERSION), default=0)
    if highest == MAX_VERSION:
        raise ExportError(f"{base} holds the highest version that there can be; give --version.")
    return highest + 1


def refuse_version(base: Path, version: int) -> None:
    """Refuses a version that is there already.

    Raises:
        ExportError: Naming its folder.
    """
    if (base / str(version)).exists():
        raise ExportError(
            f"{base / str(version)} exists and is never overwritten; give another --version, or "
            "none for the next one."
        )


def prove_writable(base: Path) -> None:
    """Makes the folder of the served model and tries to write to it.

    Raises:
        ExportError: If that cannot be done.
    """
    try:
        base.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=base, prefix=".writing-").cleanup()
    except OSError as error:
        raise ExportError(
            f"the SavedModel cannot be written to {base} ({error.strerror or error}); "
            "set export.dir to a folder that can be written, or export.enabled to false."
        ) from error


@contextmanager
def folder_aside(base: Path) -> Iterator[Path]:
    """An empty folder beside the versions, removed at the end if it was not renamed into place.

    Two exports at once have two of them, so they do not touch each other's files.
    """
    base.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=base, prefix=".writing-"))
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def put_in_place(written: Path, base: Path, version: int | None) -> Path:
    """Renames a finished version to its number.

    Args:
        written: The finished folder.
        base: Folder of the served model, on the same disk.
        version: Its number; None for the next one.

    Raises:
        ExportError: If the version is there already.
    """
    while True:
        number = next_version(base) if version is None else version
        refuse_version(base, number)
        try:
            return written.rename(base / str(number))
        except OSError:
            # Another export may have taken the number since it was looked for.
            if not (base / str(number)).exists():
                raise
