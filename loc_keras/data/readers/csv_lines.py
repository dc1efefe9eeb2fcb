"""The rows of a CSV text, one by one, so that a stray quote spoils its own row alone."""

import csv
import io
from collections import deque
from collections.abc import Iterator

LONGEST_ROW = 65_536
"""Characters of the longest row that is read."""

_MOST_LINES = 8  # Of a row whose quoted fields hold line breaks.


class RowError(Exception):
    """Why one row cannot be used, and the kind of fault that this is.

    Attributes:
        kind: As in `annotations.Fault`.
    """

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def read_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | RowError]]:
    """Cuts a CSV text into rows and these into fields, as RFC 4180 says.

    Blank lines are left out. A quoted field may hold line breaks, but a quote that stays open is
    the fault of its line alone and does not swallow those after it.

    Args:
        text: Whole text; lines may end in CR, LF or both.
        delimiter: One character.

    Yields:
        The number of the row's first line, from 1, and its fields without blanks around them,
        or why it has none.
    """
    lines = enumerate(io.StringIO(text, newline=None), 1)
    ahead: deque[tuple[int, str]] = deque()
    while True:
        start = ahead.popleft() if ahead else next(lines, None)
        if start is None:
            return
        line_number, line = start
        if not line.strip():
            continue
        try:
            if '"' not in line:
                _check_length(line)
                fields = line.split(delimiter)
            else:
                fields = _quoted_fields(line, delimiter, lines, ahead)
        except RowError as fault:
            yield line_number, fault
        else:
            yield line_number, [field.strip() for field in fields]


def _quoted_fields(
    line: str,
    delimiter: str,
    lines: Iterator[tuple[int, str]],
    ahead: deque[tuple[int, str]],
) -> list[str]:
    """Fields of a row with quotes; takes the lines it goes on in, or leaves them in `ahead`."""
    row, taken = line, 0
    while row.count('"') % 2:
        if taken == len(ahead):
            following = next(lines, None)
            if following is not None:
                ahead.append(following)
        if taken == min(len(ahead), _MOST_LINES) or len(row) > LONGEST_ROW:
            raise RowError("has a quote that is not closed", "syntax")
        row += ahead[taken][1]
        taken += 1
    try:
        _check_length(row)
        fields = _split_quoted(row, delimiter)
    except RowError:
        if taken:
            raise RowError("has a quote that is not closed", "syntax") from None
        raise
    for _ in range(taken):
        ahead.popleft()
    return fields


def _split_quoted(row: str, delimiter: str) -> list[str]:
    # Blanks before a quote are skipped, unless they are what parts the fields.
    reader = csv.reader([row], delimiter=delimiter, strict=True, skipinitialspace=delimiter != " ")
    try:
        return next(reader)
    except (csv.Error, StopIteration):
        raise RowError("has a stray quote", "syntax") from None


def _check_length(row: str) -> None:
    if len(row) > LONGEST_ROW:
        raise RowError(f"is longer than {LONGEST_ROW:,} characters", "syntax")
