"""Lines of JSON that are only ever appended, so that a killed process leaves all but its last."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loc_keras.errors import DataError

_CHUNK = 1 << 16


class Journal:
    """A file of one JSON object a line.

    Args:
        path: The file, made where it is not there. A last line without an end was torn by the end
            of its process; it is cut off.

    Attributes:
        path: The file.
        torn: Bytes that were cut off.
    """

    def __init__(self, path: Path) -> None:
        """Opens it; see the class."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(self._file).st_size
        whole = _end_of_last_line(self._file, size)
        self.torn = size - whole
        if self.torn:
            os.ftruncate(self._file, whole)

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds lines, in one write as long as the system takes it whole.

        Raises:
            DataError: If the system refuses, as on a full disk.
        """
        left = memoryview("".join(f"{json.dumps(one)}\n" for one in records).encode())
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written ({error.strerror}); make room, and give the same "
                "command again to go on."
            ) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Reads the lines one by one.

        Raises:
            DataError: At a line that is no JSON object, naming it.
        """
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                except ValueError:
                    record = None
                if not isinstance(record, dict):
                    raise DataError(
                        f"{self.path}, line {number}, is no answer; restore the file, or give "
                        "another --out."
                    )
                yield record

    def lock(self) -> bool:
        """Keeps other processes away until this one ends; False where one is at work already."""
        try:
            import fcntl
        except ImportError:  # There is none on Windows.
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Brings everything to the disk and closes the file."""
        os.fsync(self._file)
        os.close(self._file)


def _end_of_last_line(file: int, size: int) -> int:
    """Bytes up to and with the last line end."""
    end = size
    while end:
        start = max(0, end - _CHUNK)
        at = os.pread(file, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0
