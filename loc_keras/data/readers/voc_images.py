"""Finds the image that a VOC annotation is about."""

from posixpath import basename, splitext

from loc_keras.data import files
from loc_keras.data.readers.parsing import is_image_name, place


class ImageFinder:
    """Looks images up in folders; each folder is listed once.

    Args:
        root: Folder that every image must stay in.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: dict[str, set[str]] = {}
        self._by_stem: dict[str, dict[str, str]] = {}

    def find(self, folder: str, written: str, stem: str) -> tuple[str, str]:
        """Finds an image.

        Args:
            folder: Folder of the images.
            written: Name or path that the annotation gives, or `""`.
            stem: Name of the annotation without ending.

        Returns:
            The path and the name below `folder`: as written; else the last part of what is
            written; else a file named as the annotation. If none is there, as written.

        Raises:
            OutsideError: If none is there and what is written leads out of the data folder.
            FileNotFoundError: If none is there and nothing is written.
        """
        last = basename(written.replace("\\", "/"))
        for name in dict.fromkeys((written, last)):
            path = self._path_if_there(folder, name)
            if path is not None:
                return path, name
        name = self._named_like(folder, stem)
        path = self._path_if_there(folder, name)
        if path is not None:
            return path, name
        if not written:
            raise FileNotFoundError(f"names no image, and none is called {stem} in {folder}")
        return place(folder, written, self._root), written

    def _path_if_there(self, folder: str, name: str) -> str | None:
        try:
            path = place(folder, name, self._root)
        except files.OutsideError:
            return None
        if "/" in name or "\\" in name:
            return path if files.is_file(path) else None
        return path if name in self._listed(folder) else None

    def _listed(self, folder: str) -> set[str]:
        if folder not in self._names:
            names = files.listed(folder)
            self._names[folder] = set(names)
            # The first of several by name, as for every other order here.
            self._by_stem[folder] = {
                splitext(name)[0]: name for name in reversed(names) if is_image_name(name)
            }
        return self._names[folder]

    def _named_like(self, folder: str, stem: str) -> str:
        self._listed(folder)
        return self._by_stem[folder].get(stem, "")
