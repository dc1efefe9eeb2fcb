"""The rows of CSV and TSV text, and which of its lines a plain reader of columns can read."""

import csv
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from loc_keras.data.formats.parsing import RowError

LONGEST_ROW = 65_536
"""Characters of the longest row that is read."""

_MOST_LINES = 8  # Of a row whose quoted fields hold line breaks.


def read_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | RowError]]:
    """Cuts a CSV text into rows and these into fields, as RFC 4180 says.

    Blank lines are left out; lines may end in CR, LF or both. A quoted field may hold line breaks,
    but a quote that stays open is the fault of its line alone and does not swallow those after it.

    Yields:
        The number of the row's first line, from 1, and its fields without blanks around them,
        or why it has none.
    """
    for row, fields, _ in Lines(text, delimiter).rows():
        yield row, fields


class Lines:
    """The lines of a CSV text, which is cut where it is asked for."""

    def __init__(self, text: str, delimiter: str) -> None:
        self.delimiter = delimiter
        text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        self.content = text.encode()
        self.signs = np.frombuffer(self.content, np.uint8)
        ends = np.flatnonzero(self.signs == ord("\n")) + 1
        if not self.content.endswith(b"\n"):
            ends = np.append(ends, len(self.content))
        self.bounds = np.concatenate([[0], ends])
        self.count = len(ends)

    def __getitem__(self, line: int) -> str:
        return self.content[self.bounds[line] : self.bounds[line + 1]].decode()

    def regular(self, width: int, first: int) -> npt.NDArray[np.bool_]:
        """Which lines, from the first one that counts, hold `width` fields and no quote."""
        found = np.zeros(self.count, bool)
        if self.delimiter.isascii() and self.count > first:
            marks = np.flatnonzero(self.signs == ord(self.delimiter))
            counts = np.diff(np.searchsorted(marks, self.bounds))
            found = (counts == width - 1) & (np.diff(self.bounds) <= LONGEST_ROW)
        for sign in b'"\0':
            if sign in self.content:
                places = np.flatnonzero(self.signs == sign)
                found[np.searchsorted(self.bounds, places, "right") - 1] = False
        found[:first] = False
        return found

    def content_of(self, chosen: npt.NDArray[np.bool_]) -> bytes:
        """The text of some lines."""
        lines = np.flatnonzero(chosen)
        if len(lines) and chosen[lines[0] :].all():
            return self.content[self.bounds[lines[0]] :]
        return self.signs[np.repeat(chosen, np.diff(self.bounds))].tobytes()

    def rows(
        self, first: int = 0, end: int | None = None, but: npt.NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, list[str] | RowError, int]]:
        """Number from 1, fields, and the line behind it, of each row that begins in some lines.

        Lines of the mask `but` are passed over; it loses those that belong to a row of several.
        """
        lines: Iterable[int] = range(first, self.count if end is None else end)
        if but is not None:
            lines = (first + np.flatnonzero(~but[first:end])).tolist()
        behind = first
        for line in lines:
            if line < behind or not self[line].strip():
                continue
            behind = line + 1
            try:
                fields, behind = self._fields(line)
            except RowError as error:
                yield line + 1, error, behind
            else:
                if but is not None:
                    but[line:behind] = False
                yield line + 1, [one.strip() for one in fields], behind

    def _fields(self, line: int) -> tuple[list[str], int]:
        """The fields of the row that begins in a line, and the line after it."""
        row, end = self[line], line + 1
        if '"' not in row:
            _check_length(row)
            return row.split(self.delimiter), end
        while row.count('"') % 2:
            if end == min(self.count, line + 1 + _MOST_LINES) or len(row) > LONGEST_ROW:
                raise RowError("has a quote that is not closed", "syntax")
            row += self[end]
            end += 1
        try:
            return _split_quoted(row, self.delimiter), end
        except RowError:
            if end > line + 1:
                raise RowError("has a quote that is not closed", "syntax") from None
            raise


def _split_quoted(row: str, delimiter: str) -> list[str]:
    _check_length(row)
    # Blanks before a quote are skipped, unless they are what parts the fields.
    reader = csv.reader([row], delimiter=delimiter, strict=True, skipinitialspace=delimiter != " ")
    try:
        return next(reader)
    except (csv.Error, StopIteration):
        raise RowError("has a stray quote", "syntax") from None


def _check_length(row: str) -> None:
    if len(row) > LONGEST_ROW:
        raise RowError(f"is longer than {LONGEST_ROW:,} characters", "syntax")
