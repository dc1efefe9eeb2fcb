"""Tables of figures, on the terminal and in documents."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table


def table_of(rows: list[dict[str, Any]], title: str | None = None) -> Table:
    """A row for each dictionary, a column for each key of the first."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


def markdown_of(rows: Sequence[dict[str, Any]]) -> str:
    """The same as a table of Markdown, whose first column is text and all others are figures."""
    names = list(rows[0])
    lines = [names, ["---", *("---:" for _ in names[1:])]]
    lines += [[str(value) for value in row.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
