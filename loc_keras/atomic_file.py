"""Files that are either whole or absent, whenever the process is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and renames it to `path` at the end.

    The two share their ending, since some writers choose the format by it. After an error nothing
    is left and an earlier file of that name stays as it was.
    """
    aside = path.with_name(f".{os.getpid()}-writing-{path.name}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes text in UTF-8."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")
