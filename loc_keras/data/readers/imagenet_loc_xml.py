"""The XML file of one image of ImageNet-LOC."""

from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from loc_keras.data.readers.text_tables import RowFault, whole

LARGEST_XML = 2**20
"""Bytes of the largest file that is read; those of the data set have some kilobytes."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Some files of the data set have the place holder of the program that wrote them.
_UNFILLED_NAME = "%s"


class ImageXml(NamedTuple):
    """What is written about one image.

    Attributes:
        filename: Name without ending; `""` where none is given.
        size: (width, height) in px, or None.
        objects: Class and (xmin, ymin, xmax, ymax), as text; `""` for what is absent.
    """

    filename: str
    size: tuple[int, int] | None
    objects: list[tuple[str, tuple[str, ...]]]


def parse_xml(content: bytes) -> ImageXml:
    """Parses the file of one image.

    ```
    <annotation><filename>n01440764_10026</filename>
      <size><width>500</width><height>375</height></size>
      <object><name>n01440764</name>
        <bndbox><xmin>13</xmin><ymin>16</ymin><xmax>401</xmax><ymax>299</ymax></bndbox>
      </object></annotation>
    ```

    Raises:
        RowFault: If it is not XML, uses entities, which this format has no need of, or declares a
            size that is no number.
    """
    try:
        root = fromstring(content, forbid_dtd=True)
    except ParseError as error:
        raise RowFault(f"is not well-formed XML: {error}", "syntax") from None
    except DefusedXmlException:
        raise RowFault("declares a document type or entities, which is refused", "syntax") from None
    except (ValueError, LookupError) as error:
        raise RowFault(f"has an encoding that cannot be read: {error}", "encoding") from None
    if root.tag != "annotation":
        raise RowFault("is no annotation: its outermost element is another one", "syntax")
    filename = _text(root, "filename")
    return ImageXml(
        "" if filename == _UNFILLED_NAME else filename,
        _size(root),
        [
            (_text(one, "name"), tuple(_text(one, f"bndbox/{corner}") for corner in _CORNERS))
            for one in root.findall("object")
        ],
    )


def _size(root: Element) -> tuple[int, int] | None:
    width, height = _text(root, "size/width"), _text(root, "size/height")
    return (whole("width", width), whole("height", height)) if width or height else None


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
