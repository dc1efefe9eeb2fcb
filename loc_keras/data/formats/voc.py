"""Reader of Pascal VOC data sets: one XML file for each image."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from posixpath import basename, splitext
from typing import Any, NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element  # The type alone; text is parsed by defusedxml.

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from loc_keras.atomic_file import write_text
from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, EmptyImage, Fault, ImageRef, Split
from loc_keras.data.formats.parsing import (
    below,
    config_path,
    folder_of,
    given_splits,
    is_image_name,
    label_problem,
    number,
    place,
    require_root,
    shown,
)
from loc_keras.data.formats.writing import (
    Job,
    Picture,
    box_px,
    decimal,
    record_stems,
    write_bytes,
    write_images,
)
from loc_keras.data.records import Records
from loc_keras.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_COLOURS = 3


def write_voc(job: Job) -> dict[Split, int]:
    """Writes images, annotations and `ImageSets/Main/<split>.txt`; returns the images of each.

    Boxes are px with decimals and continuous edges: a box over the pixels 0..63 is 0..64.
    """
    refuse_unwritable(job.class_names)
    counts: dict[Split, int] = {}
    lists = job.folder / "ImageSets" / "Main"
    annotations = job.folder / "Annotations"
    for folder in (lists, annotations):
        folder.mkdir(parents=True, exist_ok=True)
    images = job.folder / "JPEGImages"
    stems = record_stems(job.splits, one_folder=True)
    for split, records in job.splits.items():

        def annotate(index: int, name: str, picture: Picture, records: Records = records) -> None:
            xml = _annotation(records, index, name, picture, job.class_names)
            write_bytes(annotations / f"{Path(name).stem}.xml", xml)

        names = write_images(job, split, images, stems[split], FORMATS, annotate)
        listed = [stem for stem, name in zip(stems[split], names, strict=True) if name]
        write_text(lists / f"{split}.txt", "".join(f"{stem}\n" for stem in listed))
        counts[split] = len(listed)
    return counts


def voc_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    files = {
        split: {
            "annotations": "Annotations",
            "images": "JPEGImages",
            "list": f"ImageSets/Main/{split}.txt",
        }
        for split in splits
    }
    return {
        "format": "voc",
        "class_names": list(class_names),
        "inclusive_pixels": False,
        "voc": {"splits": files},
    }


def voc_xml(
    folder: str,
    name: str,
    size: tuple[int, int],
    channels: int,
    label: str | None,
    box: Sequence[float] = (),
    *,
    database: str = "converted by loc_keras",
) -> bytes:
    """The annotation of one image.

    Args:
        folder: Of the images, as `folder` tells it.
        name: Of the image's file.
        size: Height and width in px.
        channels: Of the image.
        label: Class of its object; None where it shows none.
        box: (x1, y1, x2, y2) in px, continuous edges.
        database: What made it.
    """
    root = ElementTree.Element("annotation")
    _add(root, "folder", folder)
    _add(root, "filename", _NOT_XML.sub("_", name))
    _add(_add(root, "source"), "database", database)
    told = _add(root, "size")
    _add(told, "width", str(size[1]))
    _add(told, "height", str(size[0]))
    # The format knows gray and colour; transparency and the like are left out.
    _add(told, "depth", str(channels if channels < _COLOURS else _COLOURS))
    _add(root, "segmented", "0")
    if label is not None:
        one = _add(root, "object")
        _add(one, "name", label)
        _add(one, "pose", "Unspecified")
        _add(one, "truncated", "0")
        _add(one, "difficult", "0")
        corners = _add(one, "bndbox")
        for side, value in zip(_SIDES, box, strict=True):
            _add(corners, side, decimal(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8") + b"\n"


def refuse_unwritable(class_names: Sequence[str]) -> None:
    """Raises DataError where a name has a sign that XML cannot hold."""
    for name in class_names:
        if _NOT_XML.search(name):
            raise DataError(f"class {name!r} has a sign that XML cannot hold; rename the class.")


def _annotation(
    records: Records, index: int, name: str, picture: Picture, class_names: Sequence[str]
) -> bytes:
    empty = records.is_empty(index)
    label = None if empty else class_names[records.labels[index]]
    box = box_px(records, index)
    return voc_xml("JPEGImages", name, picture.size, picture.channels, label, box)


def _add(parent: ElementTree.Element, tag: str, text: str | None = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = text
    return child


LARGEST_XML = 2**20
"""Bytes of the largest annotation that is parsed: some thousand objects."""

_LARGEST_SIDE = 10**9


class VocError(Exception):
    """Why a file is no VOC annotation."""


class VocObject(NamedTuple):
    """One object.

    Attributes:
        row: Its position among the objects of the file, from 1.
        label: Name of its class.
        box: (xmin, ymin, xmax, ymax) in px.
    """

    row: int
    label: str
    box: tuple[float, float, float, float]


class VocFile(NamedTuple):
    """One annotation.

    Attributes:
        filename: The image as the annotation names it, or `""`.
        size: (width, height) in px that it declares, or None.
        objects: Its objects.
        faults: (position from 1, reason, kind) of the objects that cannot be read.
    """

    filename: str
    size: tuple[int, int] | None
    objects: list[VocObject]
    faults: list[tuple[int, str, str]]


def parse_voc(content: bytes) -> VocFile:
    """Parses one annotation; document types, entities and references to files are refused.

    Args:
        content: Bytes of the XML file, at most `LARGEST_XML`.

    Raises:
        VocError: If it is no XML, or not such as VOC's.
    """
    if len(content) > LARGEST_XML:
        raise VocError(f"is larger than {LARGEST_XML >> 20} MiB")
    try:
        root = fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        raise VocError("has a document type (DTD) or entities, which are not read") from None
    except (ParseError, ValueError, LookupError) as error:
        raise VocError(f"is not XML that can be read: {shown(str(error))[1:-1]}") from None
    if root.tag != "annotation":
        raise VocError(f"is not a VOC annotation: it begins with <{shown(root.tag)[1:-1]}>")
    objects, faults = [], []
    for row, element in enumerate(root.findall("object"), 1):
        label = _text(element, "name")
        if problem := label_problem(label):
            faults.append((row, f"name {problem}", "label"))
            continue
        box = _box(element)
        if isinstance(box, str):
            faults.append((row, box, "number"))
        else:
            objects.append(VocObject(row, label, box))
    return VocFile(_text(root, "filename"), _size(root), objects, faults)


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _box(element: Element) -> tuple[float, float, float, float] | str:
    """The box of an object, or what is wrong with it."""
    if element.find("bndbox") is None:
        return "has no bndbox"
    sides = []
    for name in _SIDES:
        text = _text(element, f"bndbox/{name}")
        side = number(text)
        if side is None:
            return f"{name}: {shown(text)} is not a number" if text else f"has no {name}"
        sides.append(side)
    left, top, right, bottom = sides
    return left, top, right, bottom


def _size(root: Element) -> tuple[int, int] | None:
    """The declared size; many tools write 0 where they do not know it."""
    sides = [number(_text(root, f"size/{name}")) for name in ("width", "height")]
    width, height = (int(side) if side and 1 <= side <= _LARGEST_SIDE else 0 for side in sides)
    return (width, height) if width and height else None


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
