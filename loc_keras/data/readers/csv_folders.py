"""Image folders of a CSV file: the one that the config names, one for each label, or its own."""

from posixpath import basename, splitext

from loc_keras.data import files
from loc_keras.data.readers.csv_columns import RawRow
from loc_keras.data.readers.parsing import folder_of, place


class ImageFolders:
    """Image folders of one CSV file.

    Args:
        root: Folder of the data set.
        path: The CSV file.
        images: Folder as the config names it, with `{label}` and `{stem}`.
        first: The file's first row: its image tells whether the folder of the CSV file is meant.

    Attributes:
        used: The folders that rows have asked for, as keys.
    """

    def __init__(self, root: str, path: str, images: str, first: RawRow) -> None:
        """Finds out which folder counts; see the class."""
        self._root = root
        self._pattern = images.replace("{stem}", splitext(basename(path))[0])
        self._by_label: dict[str, str] = {}
        self._fixed: str | None = None
        self.used: dict[str, None] = {}
        beside = folder_of(path)
        if not self._has(first) and _is_there(beside, first, root):
            self._fixed = beside
            self.used = {beside: None}

    def _has(self, row: RawRow) -> bool:
        try:
            return _is_there(self.of(row), row, self._root)
        except files.OutsideError:
            return False

    def of(self, row: RawRow) -> str:
        """The folder of a row's image; raises OutsideError if its label leads out."""
        if self._fixed is not None:
            return self._fixed
        label = row.label if "{label}" in self._pattern else ""
        if label not in self._by_label:
            folder = place(self._root, self._pattern.replace("{label}", label), self._root)
            self._by_label[label] = folder
            self.used[folder] = None
        return self._by_label[label]


def _is_there(folder: str, row: RawRow, root: str) -> bool:
    try:
        return files.is_file(place(folder, row.file, root))
    except files.OutsideError:
        return False
