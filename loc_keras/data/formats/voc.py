"""Pascal VOC: one XML file for each image."""

import math
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from posixpath import basename, splitext
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element  # The type alone; text is parsed by defusedxml.

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from loc_keras.atomic_file import write_text
from loc_keras.data import files
from loc_keras.data.annotations import SPLITS, Annotated, Annotations, EmptyImage, ImageRef, Split
from loc_keras.data.formats.listing import (
    Folder,
    Guess,
    Listing,
    by_split,
    common_folder,
    image_folders,
    is_above,
    shared_folder,
)
from loc_keras.data.formats.parsing import (
    Box,
    ImageFinder,
    Reading,
    RowError,
    below,
    config_path,
    folder_of,
    given_splits,
    is_image_name,
    label_problem,
    number,
    quoted,
    read_small,
)
from loc_keras.data.formats.tools import around, floats, rotated, size_of
from loc_keras.data.formats.writing import (
    Job,
    Picture,
    box_px,
    decimal,
    record_stems,
    write_bytes,
    write_images,
)
from loc_keras.data.resolve import Records
from loc_keras.errors import DataError

LARGEST_XML = 2**20  # Bytes of the largest annotation that is parsed: some thousand objects.
SIDES = ("xmin", "ymin", "xmax", "ymax")

_KEY = "data.source.voc.splits"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COLOURS = 3
_ROBOFLOW = "roboflow.ai"
_SUPERVISION = "supervision"
_LEAST_ONES = 3
_SLIPS = 0.01


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

    The image is the one in the image folder that is called as the XML file, or else the one that
    `filename` names, by its last part if the whole is not there.

    Splits are `{"annotations": folder, "images": folder, "list": file}`, relative to `root`, on any
    filesystem that TensorFlow opens. Without `annotations`, the XML files lie in `root`; without
    `images`, the images lie beside them. Files in subfolders are read where the folder itself has
    none. `list` is a file such as `ImageSets/Main/train.txt` whose lines begin with the names
    (without ending) that belong to the split; without it, all do. `first_pixel` is 1 in the files
    of the challenges, whose `xmax` and `ymax` name the last pixel of the box.

    Returns:
        The objects in the order of the file names or of the list, boxes in px; rows are
        positions of objects in their file.

    Raises:
        DataError: If a folder or list is missing, or a folder has no XML file.
    """
    reading = Reading(root)
    images = _Images(root)
    origin = _Origin(first_pixel)
    for split, entry in given_splits(splits, _KEY):
        key = f"{_KEY}.{split}"
        folder = config_path(root, entry.get("annotations") or ".", f"{key}.annotations")
        paths = _xml_files(folder, f"{key}.annotations")
        if entry.get("list"):
            list_file = config_path(root, entry["list"], f"{key}.list")
            paths = _listed_files(folder, list_file, paths, reading)
        image_folder = entry.get("images")
        if image_folder is not None:
            image_folder = config_path(root, image_folder, f"{key}.images")
        reading.split(split)
        for path in paths:
            where = image_folder or folder_of(path)
            reading.folders[where] = None
            stem = splitext(below(folder if image_folder else where, path))[0]
            _read_file(split, path, where, stem, origin, images, reading)
    if doubt := origin.doubt():
        reading.fault("", 0, doubt, "first_pixel")
    return reading.annotations("pixel", exact=not first_pixel)


def _xml_files(folder: str, key: str) -> list[str]:
    if not files.is_folder(folder):
        raise DataError(f"annotation folder {folder} does not exist: mend {key}.")
    paths = [files.join(folder, name) for name in files.listed(folder) if _is_xml(name)]
    below_it = [] if paths else files.walk(folder)
    paths = paths or [path for path in below_it if _is_xml(path)]
    # Those of Stanford Dogs have no ending.
    paths = paths or [path for path in below_it if not splitext(path)[1]]
    if not paths:
        raise DataError(f"annotation folder {folder} has no XML files: mend {key}.")
    return paths


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


def _listed_files(folder: str, list_file: str, paths: list[str], reading: Reading) -> list[str]:
    """The files that a list names; a name may hold blanks where its file does."""
    by_name = {splitext(path[len(folder) :].lstrip("/"))[0]: path for path in paths}
    listed: dict[str, None] = {}
    lines = files.read_text(list_file, what="list of images").split("\n")
    for row, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        candidates = [line.strip(), fields[0], splitext(fields[0])[0]]
        path = next((by_name[name] for name in candidates if name in by_name), None)
        if path is None:
            reason = f"names {quoted(fields[0])}, which has no XML file in {folder}"
            reading.fault(list_file, row, reason, "missing_annotation")
        elif path in listed:
            reading.fault(list_file, row, f"repeats {quoted(fields[0])}", "duplicate_row")
        else:
            listed[path] = None
    return list(listed)


def _read_file(
    split: Split,
    path: str,
    folder: str,
    stem: str,
    origin: "_Origin",
    images: "_Images",
    reading: Reading,
) -> None:
    """Reads one XML file, whose image lies in `folder` and may be called `stem`."""
    try:
        root = xml_root(read_small(path, images.root, LARGEST_XML))
    except RowError as error:
        reading.failed(path, 0, error)
        return
    objects = []
    elements = root.findall("object")
    for row, element in enumerate(elements, 1):
        try:
            objects.append((row, *_object(element, origin.first_pixel)))
        except RowError as error:
            reading.fault(path, row, f"(object) {error}", error.kind)
    nothing = None if elements else reading.fault(path, 0, "names no object", "no_object")
    try:
        written = text_of(root, "filename")
        name, image_path = images.of(folder, written, stem)
    except RowError as error:
        if nothing is None:
            reading.failed(path, 0, error)
        return
    image = ImageRef(image_path)
    size = size_of(text_of(root, "size/width"), text_of(root, "size/height"))
    named = (written, basename(written.replace("\\", "/")))
    other = images.as_written(folder, named[0]) or images.as_written(folder, named[1])
    if other is not None and other != image_path:
        reason = f"names {quoted(written)}, but {name}, which is called as it is, is taken"
        reading.fault(path, 0, reason, "stale_name")
    if nothing is not None:
        reading.empty.append(EmptyImage(split, image, name, nothing, size=size))
    if len(objects) < len(elements):
        reading.unread[image] = len(elements) - len(objects)
    origin.add(root, size, [box for *_, box in objects])
    reading.split(split).extend(
        Annotated(image, name, label, box, path, row, size) for row, label, box in objects
    )


def xml_root(content: bytes, tag: str = "annotation") -> Element:
    """Parses an annotation; document types, entities and references to files are refused.

    RowError if it is no XML (kind `"syntax"`), of an unknown encoding (`"encoding"`), or does not
    begin with the tag.
    """
    try:
        root = fromstring(content, forbid_dtd=True)
    except DefusedXmlException:
        reason = "has a document type (DTD) or entities, which are not read"
        raise RowError(reason, "syntax") from None
    except (ParseError, ValueError, LookupError) as error:
        kind = "syntax" if isinstance(error, ParseError) else "encoding"
        reason = f"is not XML that can be read: {quoted(str(error))[1:-1]}"
        raise RowError(reason, kind) from None
    if root.tag != tag:
        reason = (
            f"is no such annotation: it begins with <{quoted(root.tag)[1:-1]}>, expected <{tag}>"
        )
        raise RowError(reason, "syntax")
    return root


def text_of(element: Element, path: str) -> str:
    """The text of an element below another, without blanks around; `""` where it is absent."""
    return (element.findtext(path) or "").strip()


def _object(element: Element, first_pixel: int) -> tuple[str, tuple[float, float, float, float]]:
    """Label and box of an object, with the first pixel counted as 0."""
    label = text_of(element, "name")
    if problem := label_problem(label):
        raise RowError(f"name {problem}", "label")
    if element.find("robndbox") is not None:  # Of roLabelImg, turned by radians.
        parts = [text_of(element, f"robndbox/{key}") for key in ("cx", "cy", "w", "h", "angle")]
        x, y, width, height, angle = floats(*parts)
        return label, rotated(around(x, y, width / 2, height / 2), math.degrees(angle))
    if element.find("bndbox") is None:
        raise RowError("has no bndbox", "number")
    sides = []
    for name in SIDES:
        text = text_of(element, f"bndbox/{name}")
        side = number(text)
        if side is None:
            problem = f"{name}: {quoted(text)} is not a number" if text else f"has no {name}"
            raise RowError(problem, "number")
        sides.append(side - first_pixel)
    left, top, right, bottom = sides
    return label, (left, top, right, bottom)


@dataclass
class _Origin:
    """Where boxes start and end (`gaps` before the far edge): where the count of pixels starts."""

    first_pixel: int
    starts: Counter[float] = field(default_factory=Counter)
    gaps: Counter[float] = field(default_factory=Counter)
    makers: Counter[str] = field(default_factory=Counter)

    def add(self, root: Element, size: tuple[int, int] | None, boxes: Sequence[Box]) -> None:
        """Counts the boxes of a file."""
        maker = text_of(root, "source/database")
        # Roboflow's own exports say the same, but name no folder.
        is_supervision = maker == _ROBOFLOW and text_of(root, "folder") == "VOC"
        self.makers[_SUPERVISION if is_supervision else maker] += 1
        first = self.first_pixel
        for x1, y1, x2, y2 in boxes:
            self.starts.update((x1 + first, y1 + first))
            if size is not None:
                self.gaps.update((size[0] - x2 - first, size[1] - y2 - first))

    def doubt(self) -> str:
        """Why the first pixel has another number than is read; `""` for no reason."""
        zeros, ones, ends = self.starts[0], self.starts[1], self.gaps[0]
        if self.first_pixel:
            many = zeros > _SLIPS * self.starts.total()
            return f"{zeros} sides start at 0" if many else ""
        if zeros or not self.starts:
            return ""
        maker = self.makers.most_common(1)[0][0]
        if maker == _SUPERVISION:
            return "supervision wrote the files, which counts xmin and ymin from 1"
        # labelImg, whose files say Unknown, counts from 0 and writes 1 for 0.
        if maker == "Unknown" or ones < max(_LEAST_ONES, 2 * self.starts[2]) or not ends:
            return ""
        if min(self.gaps) < 0 or any(value % 1 for value in self.starts):
            return ""
        return f"{ones} sides start at 1 and none at 0, and {ends} end at the far edge"


class _Images(ImageFinder):
    """Finds the image of an annotation: by its own name, else by `filename`."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._by_stem = cache(self._images_by_stem)

    def of(self, folder: str, written: str, stem: str) -> tuple[str, str]:
        """The name below `folder` and the path of the image of an annotation.

        That is the one that is called as the annotation (`stem`, with folders), since copies keep
        the `filename` of what they are copies of; else the one that is named. If none is there, as
        written. RowError if none is there and nothing is written, or it leads out of the data
        folder.
        """
        subfolder, last = posixpath.split(stem)
        named = basename(written.replace("\\", "/"))
        for inner in dict.fromkeys((subfolder, "")):
            own = self._by_stem(posixpath.join(folder, inner)).get(last, [])
            path = own and self.as_written(
                posixpath.join(folder, inner), named if named in own else own[0]
            )
            if path:
                return below(folder, path), path
        if written and (path := self.as_written(folder, written)):
            return written, path
        for name in filter(None, (written, stem)):
            if len(fitting := self.fitting(folder, name)) == 1:
                return below(folder, fitting[0]), fitting[0]
        if not written:
            reason = f"names no image, and none is called {last} in {folder}"
            raise RowError(reason, "missing_image")
        try:
            return written, self.find(folder, written)
        except RowError as error:
            raise RowError(f"filename: {error}", error.kind) from None

    def _images_by_stem(self, folder: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in sorted(self.listed(folder)):
            if is_image_name(name):
                found.setdefault(splitext(name)[0], []).append(name)
        return found


def detect_voc(listing: Listing) -> Iterator[Guess]:
    """Guesses by the lists of `ImageSets/Main`, or else by folders with XML files."""
    annotated = [
        path
        for path, folder in listing.folders.items()
        if _xml_names(folder) and _ELEMENT.search(_first_xml(listing, path))
    ]
    if not annotated:
        return
    for path in annotated:
        parent, last = posixpath.split(path)
        lists = posixpath.join(parent, "ImageSets/Main")
        if last == "Annotations" and lists in listing.folders:
            yield from _guess_by_lists(listing, path, lists)
    groups = by_split(annotated)
    splits = {
        split: _split_settings(listing, groups[split], annotated)
        for split in SPLITS
        if split in groups
    }
    why = f"XML files with annotations in {', '.join(path or '.' for path in annotated[:3])}"
    notes = [
        f"XML files in {path} are not read, since its parent folder has some, too"
        for path in annotated
        if path and any(is_above(other, path) for other in annotated)
    ]
    options = {"splits": splits, **_pixel_settings(listing, annotated[0])}
    yield Guess("voc", listing.root, options, why=why, notes=tuple(notes))


_ELEMENT = re.compile(r"<annotation[\s>]")
_FILENAME = re.compile(r"<filename>\s*([^<]+?)\s*</filename>")
_CHALLENGE = re.compile(r"<database>\s*The VOC\d{4} Database")
_TRIED_ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp", ".gif")


def _first_xml(listing: Listing, folder: str) -> str:
    """The beginning of the first XML file of a folder."""
    return listing.head(posixpath.join(folder, _xml_names(listing.folders[folder])[0]))


def _xml_names(folder: Folder) -> list[str]:
    """The annotations of a folder; those without ending count where none has one."""
    return folder.names.get(".xml") or folder.names.get("", [])


def _guess_by_lists(listing: Listing, annotations: str, lists: str) -> Iterator[Guess]:
    names = {splitext(name)[0] for name in listing.folders[lists].names.get(".txt", ())}
    chosen: dict[str, str] = {split: split for split in SPLITS if split in names}
    if "train" not in chosen:
        whole = next((name for name in ("trainval", "val", "test") if name in names), None)
        if whole is None:
            return
        chosen = {"train": whole} | {
            split: name for split, name in chosen.items() if whole not in (name, "trainval")
        }
    images = _image_settings(listing, annotations)
    splits = {
        split: {"annotations": annotations, **images, "list": f"{lists}/{name}.txt"}
        for split, name in chosen.items()
    }
    options = {"splits": splits, **_pixel_settings(listing, annotations)}
    why = f"{annotations} and the lists {', '.join(chosen.values())}"
    yield Guess("voc", listing.root, options, why=why)


def _split_settings(listing: Listing, folders: list[str], all_folders: list[str]) -> dict[str, str]:
    """Settings of a split whose XML files lie in some folders."""
    # The reader looks into subfolders where the folder itself has no XML files.
    shared = common_folder(folders)
    if shared not in folders:
        shared = shared_folder(folders, all_folders)
    settings = {} if not shared else {"annotations": shared}
    images = [_image_settings(listing, one).get("images") for one in folders]
    if len(folders) == 1 or (None not in images and shared in [common_folder(folders)]):
        where = common_folder([one for one in images if one is not None])
        settings |= {"images": where or "."} if None not in images else {}
    return settings


def _image_settings(listing: Listing, annotations: str) -> dict[str, str]:
    """`{"images": folder}`, or nothing where the images lie beside the XML files."""
    name = posixpath.join(annotations, _xml_names(listing.folders[annotations])[0])
    match = _FILENAME.search(_first_xml(listing, annotations))
    written = match[1].replace("\\", "/") if match else ""
    stem = splitext(basename(name))[0]
    tried = [*(stem + ending for ending in _TRIED_ENDINGS), written, basename(written)]
    for image in dict.fromkeys(image for image in tried if is_image_name(image)):
        folders = image_folders(listing, image, annotation=name)
        if annotations in folders:
            return {}
        if folders:
            return {"images": folders[0] or "."}
    return {}


def _pixel_settings(listing: Listing, annotations: str) -> dict[str, int]:
    """`{"first_pixel": 1}` for the files of the challenges."""
    return {"first_pixel": 1} if _CHALLENGE.search(_first_xml(listing, annotations)) else {}


def write_voc(job: Job) -> None:
    """Writes images, annotations and `ImageSets/Main/<split>.txt`.

    Boxes are px with decimals and continuous edges: a box over the pixels 0..63 is 0..64.
    """
    refuse_unwritable(job.class_names)
    lists = job.folder / "ImageSets" / "Main"
    annotations = job.folder / "Annotations"
    for folder in (lists, annotations):
        folder.mkdir(parents=True, exist_ok=True)
    stems = record_stems(job.splits, one_folder=True)

    def annotate(records: Records, index: int, name: str, picture: Picture) -> None:
        label = None if records.is_empty(index) else job.class_names[records.labels[index]]
        box = box_px(records, index)
        xml = voc_xml("JPEGImages", name, picture.size, picture.channels, label, box)
        write_bytes(annotations / f"{Path(name).stem}.xml", xml)

    for split in job.splits:
        images = job.folder / "JPEGImages"
        names = write_images(job, split, images, annotate, stems=stems[split])
        text = "".join(f"{Path(name).stem}\n" for name in names if name)
        write_text(lists / f"{split}.txt", text)


def voc_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    folders = {"annotations": "Annotations", "images": "JPEGImages"}
    entries = {split: {**folders, "list": f"ImageSets/Main/{split}.txt"} for split in splits}
    return {
        "format": "voc",
        "class_names": list(class_names),
        "inclusive_pixels": False,
        "voc": {"splits": entries},
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

    Its size is (height, width), the box (x1, y1, x2, y2) in px with continuous edges; where it
    shows no object, the label is None.
    """
    # The format knows gray and colour; transparency and the like are left out.
    depth = min(channels, _COLOURS)
    tree: dict[str, Any] = {
        "folder": folder,
        "filename": _NOT_XML.sub("_", name),
        "source": {"database": database},
        "size": {"width": str(size[1]), "height": str(size[0]), "depth": str(depth)},
        "segmented": "0",
    }
    if label is not None:
        element = {"name": label, "pose": "Unspecified", "truncated": "0", "difficult": "0"}
        tree["object"] = element | {"bndbox": dict(zip(SIDES, map(decimal, box), strict=True))}
    root = ElementTree.Element("annotation")
    _fill(root, tree)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8") + b"\n"


def _fill(parent: Element, tree: Mapping[str, Any]) -> None:
    for tag, value in tree.items():
        child = ElementTree.SubElement(parent, tag)
        if isinstance(value, str):
            child.text = value
        else:
            _fill(child, value)


def refuse_unwritable(class_names: Sequence[str]) -> None:
    """Raises DataError where a name has a sign that XML cannot hold."""
    for name in class_names:
        if _NOT_XML.search(name):
            raise DataError(f"class {name!r} has a sign that XML cannot hold; rename the class.")
