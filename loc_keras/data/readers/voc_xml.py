"""One Pascal VOC annotation: what its XML says, read so that no XML can do harm."""

from typing import NamedTuple
from xml.etree.ElementTree import Element  # The type alone; text is parsed by defusedxml.

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from loc_keras.data.readers.parsing import label_problem, number, shown

LARGEST_XML = 2**20
"""Bytes of the largest annotation that is parsed: some thousand objects."""

_SIDES = ("xmin", "ymin", "xmax", "ymax")
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
