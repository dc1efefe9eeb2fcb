"""Where uploads lie: one temporary folder that ends with the page, and never holds many."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER_VARIABLE = "GRADIO_TEMP_DIR"
"""Environment variable by which the page's server is told its folder, before its import."""


@contextmanager
def uploads_folder() -> Iterator[Path]:
    """A fresh folder, named in `FOLDER_VARIABLE`; it is removed at the end, with all within it."""
    before = os.environ.get(FOLDER_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="loc_keras-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        os.environ[FOLDER_VARIABLE] = str(folder)
        try:
            yield folder
        finally:
            if before is None:
                del os.environ[FOLDER_VARIABLE]
            else:
                os.environ[FOLDER_VARIABLE] = before


def keep_newest(folder: Path, count: int) -> None:
    """Removes all but the newest uploads, each a folder of its own or a file still arriving."""
    dated = []
    for entry in os.scandir(folder):
        try:
            dated.append((entry.stat().st_mtime_ns, entry.path))
        except FileNotFoundError:  # Its upload was moved to its place meanwhile.
            continue
    for _, path in sorted(dated, reverse=True)[count:]:
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)


def is_within(path: str, folder: Path) -> bool:
    """Whether a path, with its links followed, leads into a folder."""
    return Path(path).resolve().is_relative_to(folder.resolve())
