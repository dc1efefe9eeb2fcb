"""The images of a YOLO split, and the label file of each."""

from collections.abc import Iterator
from os.path import abspath
from posixpath import splitext

from loc_keras.data import files
from loc_keras.data.annotations import Fault
from loc_keras.data.readers.parsing import below, folder_of, is_image_name, place, shown
from loc_keras.errors import DataError


def base_folders(root: str, yaml_path: str, written: str) -> list[str]:
    """Folders that the entries of the YAML file may be relative to.

    Args:
        root: Folder that all must lie in.
        yaml_path: The YAML file.
        written: Its `path`; what lies outside `root`, as on the machine that wrote it, or does
            not exist, does not count.

    Returns:
        The folder of `path`, if it counts, and that of the YAML file.
    """
    beside = folder_of(yaml_path)
    folder = _inside(beside, written, root) if written else None
    if folder is None or not files.is_folder(folder):
        return [beside]
    return list(dict.fromkeys((folder, beside)))


def images_of(
    bases: list[str], entries: list[str], root: str, key: str, faults: list[Fault]
) -> tuple[list[str], list[str]]:
    """The images of a split.

    Args:
        bases: From `base_folders`.
        entries: Folders of images, or text files that list images.
        root: Folder that all must lie in.
        key: Name of the entries, for messages.
        faults: Names that lead out of `root` or stand twice are added here.

    Returns:
        Paths of the images, in the order of the entries, and the folders among the entries.

    Raises:
        DataError: If an entry is missing or is neither.
    """
    images: dict[str, None] = {}
    folders = []
    for entry in entries:
        path = _entry_path(bases, entry, root)
        if path is None:
            tried = " or ".join(bases)
            raise DataError(
                f"{key} names {shown(entry)}, which is not below {tried}: mend it, or take it out."
            )
        if files.is_folder(path):
            folders.append(path)
            images |= dict.fromkeys(_folder_images(path, root, faults))
        else:
            images |= dict.fromkeys(_listed_images(path, bases[0], root, faults))
    if not images:
        raise DataError(f"{key} names no image: {shown(', '.join(entries))} holds none.")
    return list(images), folders


def label_paths(image: str, root: str) -> list[str]:
    """Where the labels of an image may lie: in `labels` in place of `images`, or beside it."""
    relative = "/" + splitext(below(root, image))[0] + ".txt"
    head, sign, tail = relative.rpartition("/images/")
    names = [f"{head}/labels/{tail}", relative] if sign else [relative]
    return [files.join(root, name.lstrip("/")) for name in names]


def _inside(folder: str, written: str, root: str) -> str | None:
    """Joins a name to a folder, or takes it as it is if it is absolute and lies in the root."""
    limit = root.rstrip("/") if files.is_remote(root) else abspath(root)
    absolute = written.startswith(limit + "/")
    try:
        return place(
            root if absolute else folder, below(limit, written) if absolute else written, root
        )
    except files.OutsideError:
        return None


def _entry_path(bases: list[str], entry: str, root: str) -> str | None:
    """The folder or list that an entry names; None where none is there."""
    name = entry
    while True:
        for base in bases:
            path = _inside(base, name, root)
            if path is not None and (files.is_folder(path) or files.is_file(path)):
                return path
        # Some tools write ../train/images for a folder that lies beside the YAML file.
        if not name.startswith("../"):
            return None
        name = name.removeprefix("../")


def _folder_images(folder: str, root: str, faults: list[Fault]) -> Iterator[str]:
    for path in files.walk(folder):
        if not is_image_name(path):
            continue
        try:
            yield place(root, below(root, path), root)
        except files.OutsideError as fault:
            faults.append(Fault(path, 0, str(fault), "outside"))


def _listed_images(path: str, base: str, root: str, faults: list[Fault]) -> Iterator[str]:
    """Images that a text file names, one a line, relative to the data set or to the file."""
    beside = folder_of(path)
    seen = set()
    for row, line in enumerate(files.read_text(path, what="list of images").split("\n"), 1):
        name = line.strip()
        if not name:
            continue
        folders = [beside, base] if name.startswith("./") else [base, beside]
        found = [one for one in (_inside(folder, name, root) for folder in folders) if one]
        if not found:
            reason = f"{shown(name)} leads out of the data folder {root}"
            faults.append(Fault(path, row, reason, "outside"))
            continue
        image = next((one for one in found if files.is_file(one)), found[0])
        if image in seen:
            faults.append(Fault(path, row, f"repeats {shown(name)}", "duplicate_row"))
        else:
            seen.add(image)
            yield image
