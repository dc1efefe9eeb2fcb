"""Tables of figures on the terminal."""

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
