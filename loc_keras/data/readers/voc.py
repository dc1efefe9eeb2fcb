"""Reader of Pascal VOC data sets: one XML file for each image."""

from collections.abc import Mapping
from posixpath import basename, splitext
from typing import Any

from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    Fault,
    ImageRef,
    Split,
)
from loc_keras.data.readers.parsing import (
    below,
    config_path,
    folder_of,
    given_splits,
    place,
    require_root,
    shown,
)
from loc_keras.data.readers.voc_images import ImageFinder
from loc_keras.data.readers.voc_xml import LARGEST_XML, VocError, VocFile, parse_voc
from loc_keras.errors import DataError

_KEY = "data.source.voc.splits"


def read_voc(
    root: str, *, splits: Mapping[str, Mapping[str, Any] | None], first_pixel: int = 0
) -> Annotations:
    """Reads folders of Pascal VOC annotations.

    One XML file an image; `size` and what else tools write may be absent::

        <annotation>
          <filename>0001.jpg</filename>
          <size><width>640</width><height>480</height></size>
          <object>
            <name>cat</name>
            <bndbox><xmin>64</xmin><ymin>48</ymin><xmax>512</xmax><ymax>456</ymax></bndbox>
          </object>
        </annotation>

    The image is the file that `filename` names in the image folder, by its last part if the whole
    is not there, or else an image named as the XML file.

    Args:
        root: Folder of the data set, on any filesystem that TensorFlow opens.
        splits: `{"train" | "val" | "test": {"annotations": folder, "images": folder, "list":
            file}}`, relative to `root`. Without `annotations`, the XML files lie in `root`;
            without `images`, the images lie beside them. Files in subfolders are read where
            the folder itself has none. `list` is a file such as `ImageSets/Main/train.txt`
            whose lines begin with the names (without ending) that belong to the split;
            without it, all do.
        first_pixel: Number of the first pixel; 1 in the files of the challenges, whose `xmax`
            and `ymax` name the last pixel of the box.

    Returns:
        The objects in the order of the file names or of the list, boxes in px; rows are
        positions of objects in their file.

    Raises:
        DataError: If a folder or list is missing, or a folder has no XML file.
    """
    require_root(root)
    finder = ImageFinder(root)
    objects: dict[Split, list[Annotated]] = {}
    faults: list[Fault] = []
    unread: dict[ImageRef, int] = {}
    empty: list[EmptyImage] = []
    folders: dict[str, None] = {}
    for split, entry in given_splits(splits, _KEY):
        key = f"{_KEY}.{split}"
        folder = config_path(root, entry.get("annotations") or ".", f"{key}.annotations")
        paths = _xml_files(folder, f"{key}.annotations")
        if entry.get("list"):
            list_file = config_path(root, entry["list"], f"{key}.list")
            paths = _listed_files(folder, list_file, paths, faults)
        images = entry.get("images")
        image_folder = None if images is None else config_path(root, images, f"{key}.images")
        objects[split] = []
        for path in paths:
            where = image_folder or folder_of(path)
            folders[where] = None
            nothing = _read_file(root, path, where, finder, objects[split], faults, unread)
            if nothing is not None:
                image, name, fault, size = nothing
                empty.append(EmptyImage(split, image, name, fault, size=size))
    if first_pixel:
        objects = {split: [_from_zero(one) for one in found] for split, found in objects.items()}
    return Annotations(
        objects,
        "pixel",
        faults,
        folders=list(folders),
        exact=not first_pixel,
        unread=unread,
        empty=empty,
    )


def _from_zero(one: Annotated) -> Annotated:
    """The object with the first pixel counted as 0, where it was 1."""
    x1, y1, x2, y2 = one.box
    return one._replace(box=(x1 - 1, y1 - 1, x2 - 1, y2 - 1))


def _xml_files(folder: str, key: str) -> list[str]:
    if not files.is_folder(folder):
        raise DataError(f"annotation folder {folder} does not exist: mend {key}.")
    paths = [files.join(folder, name) for name in files.listed(folder) if _is_xml(name)]
    paths = paths or [path for path in files.walk(folder) if _is_xml(path)]
    if not paths:
        raise DataError(f"annotation folder {folder} has no XML files: mend {key}.")
    return paths


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


def _listed_files(folder: str, list_file: str, paths: list[str], faults: list[Fault]) -> list[str]:
    """The files that a list names; a name may hold blanks where its file does."""
    by_name = {splitext(path[len(folder) :].lstrip("/"))[0]: path for path in paths}
    found: dict[str, None] = {}
    lines = files.read_text(list_file, what="list of images").split("\n")
    for row, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        candidates = [line.strip(), words[0], splitext(words[0])[0]]
        path = next((by_name[name] for name in candidates if name in by_name), None)
        if path is None:
            reason = f"names {shown(words[0])}, which has no XML file in {folder}"
            faults.append(Fault(list_file, row, reason, "missing_annotation"))
        elif path in found:
            faults.append(Fault(list_file, row, f"repeats {shown(words[0])}", "duplicate_row"))
        else:
            found[path] = None
    return list(found)


def _read_file(
    root: str,
    path: str,
    folder: str,
    finder: ImageFinder,
    objects: list[Annotated],
    faults: list[Fault],
    unread: dict[ImageRef, int],
) -> tuple[ImageRef, str, Fault, tuple[int, int] | None] | None:
    """Adds the objects of one XML file, and what is wrong in it.

    Returns:
        The image, its name, the fault and the declared size where it is one without an object.
    """
    voc = _parsed(root, path)
    if isinstance(voc, Fault):
        faults.append(voc)
        return None
    faults += [Fault(path, row, f"(object) {reason}", kind) for row, reason, kind in voc.faults]
    nothing = None
    if not voc.objects and not voc.faults:
        nothing = Fault(path, 0, "names no object", "no_object")
        faults.append(nothing)
    stem = splitext(basename(path))[0]
    try:
        image, name = finder.find(folder, voc.filename, stem)
    except (files.OutsideError, FileNotFoundError) as fault:
        outside = isinstance(fault, files.OutsideError)
        reason, kind = (f"filename: {fault}", "outside") if outside else (fault, "missing_image")
        if nothing is None:
            faults.append(Fault(path, 0, str(reason), kind))
        return None
    if nothing is not None:
        return ImageRef(image), name, nothing, voc.size
    if voc.faults:
        unread[ImageRef(image)] = len(voc.faults)
    objects += [
        Annotated(ImageRef(image), name, one.label, one.box, path, one.row, voc.size)
        for one in voc.objects
    ]
    return None


def _parsed(root: str, path: str) -> VocFile | Fault:
    try:
        place(root, below(root, path), root)
        if files.file_size(path) > LARGEST_XML:
            return Fault(path, 0, f"is larger than {LARGEST_XML >> 20} MiB", "syntax")
        return parse_voc(files.read_bytes(path))
    except files.OutsideError as error:
        return Fault(path, 0, str(error), "outside")
    except OSError as error:
        return Fault(path, 0, f"cannot be read: {error}", "unreadable_file")
    except VocError as error:
        return Fault(path, 0, str(error), "syntax")
