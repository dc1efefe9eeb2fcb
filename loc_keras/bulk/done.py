"""Which files were dealt with, kept on disk: a million paths would fill the memory."""

import os
import sqlite3


class Done:
    """A set of paths, each with a name of its own for what is written about it.

    It lies in a temporary file that the system removes with the process.
    """

    def __init__(self) -> None:
        """Begins empty."""
        self._base = sqlite3.connect("")
        self._base.execute("PRAGMA journal_mode=OFF")
        self._base.execute("CREATE TABLE paths (path BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.execute("CREATE TABLE stems (stem BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.commit()

    def add(self, path: str) -> bool:
        """Adds a path; False where it was there."""
        return self._insert("paths", path)

    def __contains__(self, path: str) -> bool:
        """Whether a path was added."""
        query = "SELECT 1 FROM paths WHERE path = ?"
        return self._base.execute(query, (os.fsencode(path),)).fetchone() is not None

    def stem(self, name: str) -> str:
        """A name without its ending or, where another file has that already, with it.

        The same names in the same order give the same stems.
        """
        stem = os.path.splitext(name)[0]
        while not self._insert("stems", stem):
            stem = name if stem != name and not stem.startswith(name) else f"{stem}_"
        return stem

    def _insert(self, table: str, text: str) -> bool:
        query = f"INSERT OR IGNORE INTO {table} VALUES (?)"
        return self._base.execute(query, (os.fsencode(text),)).rowcount == 1
