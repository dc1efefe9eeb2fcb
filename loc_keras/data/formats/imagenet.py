"""The layout of ImageNet's localization task (ILSVRC CLS-LOC), as on its servers and Kaggle."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, Fault, ImageRef, Split
from loc_keras.data.formats.parsing import (
    RowFault,
    check_columns,
    corners,
    numbered_lines,
    parse_rows,
    path_inside,
    require_root,
    shown,
    text_or_fault,
    whole,
)
from loc_keras.errors import DataError


def read_words(path: str) -> tuple[dict[str, str], list[Fault]]:
    """Reads the names of wnids, one a line.

    Args:
        path: File with lines `wnid name, other name, ...`, the wnid ended by a tab or space.

    Returns:
        The first name of each wnid, in the order of the file, and faults.

    Raises:
        DataError: If the file is missing or not text.
    """
    parsed, faults = parse_rows(path, numbered_lines(files.read_text(path)), _parse_words)
    words: dict[str, str] = {}
    for row, wnid, name in parsed:
        if wnid in words:
            faults.append(Fault(path, row, f"{shown(wnid)} was named before", "duplicate_row"))
        else:
            words[wnid] = name
    return words, faults


def class_names(wnids: Sequence[str], words: dict[str, str]) -> list[str]:
    """Names of classes: the word for each wnid.

    A wnid without a word, or whose word another one shares (ImageNet has two sorts of crane), is
    its own name.
    """
    named = [words.get(wnid) or wnid for wnid in wnids]
    count = Counter(named)
    unique = [name if count[name] == 1 else wnid for wnid, name in zip(wnids, named, strict=True)]
    return unique if len(set(unique)) == len(unique) else list(wnids)


def _parse_words(row: int, line: str) -> tuple[int, str, str]:
    parts = line.split(maxsplit=1)
    if len(parts) != 2 or "\0" in line:
        raise RowFault(f"{shown(line)} is not a wnid and its names", "columns")
    return row, parts[0], parts[1].split(",")[0].strip()


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


_TRAIN_COLUMNS = ("name", "x1", "y1", "x2", "y2")
_VAL_COLUMNS = ("name", "wnid", "x1", "y1", "x2", "y2")


def read_tiny_imagenet(root: str, *, val_as: Literal["test", "val"] = "test") -> Annotations:
    r"""Reads a folder in the layout of Tiny ImageNet.

    ```
    wnids.txt                        n02165456              one a line; their order is the classes'
    words.txt                        n02165456\tladybug, ladybeetle               may be absent
    train/n02165456/n02165456_boxes.txt     n02165456_0.JPEG\t16\t10\t35\t26
    train/n02165456/images/n02165456_0.JPEG
    val/val_annotations.txt          val_0.JPEG\tn02165456\t0\t32\t44\t62
    val/images/val_0.JPEG
    ```

    Boxes are (x1, y1, x2, y2) in px from 0, and the last pixel belongs to them.

    Args:
        root: The folder.
        val_as: Split that the official validation images become. The official test images have
            no labels, so these usually stand in for them.

    Returns:
        Splits `"train"` and `val_as` (absent without a `val` folder). Classes are named by the
        first of their words, or by the wnid where there is none or two classes share it.

    Raises:
        DataError: If the folder or `wnids.txt` is missing or cannot be read.
    """
    require_root(root)
    wnids, faults = _read_wnids(root)
    words_path = files.join(root, "words.txt")
    words: dict[str, str] = {}
    if files.is_file(words_path):
        words, word_faults = read_words(words_path)
        faults += word_faults
    names = class_names(wnids, words)
    label_of = dict(zip(wnids, names, strict=True))
    train, train_faults = _read_train(root, label_of)
    val, val_faults = _read_val(root, label_of)
    objects: dict[Split, list[Annotated]] = {"train": train}
    folders = [files.join(root, "train", wnid, "images") for wnid in wnids]
    if files.is_folder(files.join(root, "val")):
        objects[val_as] = val
        folders.append(files.join(root, "val", "images"))
    return Annotations(
        objects=objects,
        units="pixel",
        faults=faults + train_faults + val_faults,
        class_names=names,
        folders=folders,
        exact=False,
    )


def _read_wnids(root: str) -> tuple[list[str], list[Fault]]:
    """The classes in order; they become folder names, so each is checked to be a plain one."""
    path = files.join(root, "wnids.txt")
    seen: set[str] = set()

    def parse(row: int, line: str) -> str:
        wnid = line.strip()
        if "/" in wnid or "\\" in wnid or wnid in (".", ".."):
            raise RowFault(f"{shown(wnid)} is not the name of a folder", "outside")
        path_inside(files.join(root, "train"), wnid, root=root)
        if wnid in seen:
            raise RowFault(f"{shown(wnid)} stands here twice", "duplicate_row")
        seen.add(wnid)
        return wnid

    return parse_rows(path, numbered_lines(files.read_text(path, what="class list")), parse)


def _read_train(root: str, label_of: dict[str, str]) -> tuple[list[Annotated], list[Fault]]:
    objects: list[Annotated] = []
    folder = files.join(root, "train")
    faults = [
        Fault(files.join(folder, name), 0, "is a class folder that wnids.txt lacks", "label")
        for name in files.listed(folder)
        if name not in label_of and files.is_folder(files.join(folder, name))
    ]
    for wnid, label in label_of.items():
        path = files.join(folder, wnid, f"{wnid}_boxes.txt")
        text = text_or_fault(path)
        if isinstance(text, Fault):
            faults.append(text)
            continue
        parse = partial(_parse_train, root, files.join(folder, wnid, "images"), path, label)
        good, bad = parse_rows(path, numbered_lines(text), parse)
        objects += good
        faults += bad
    return objects, faults


def _read_val(root: str, label_of: dict[str, str]) -> tuple[list[Annotated], list[Fault]]:
    folder = files.join(root, "val")
    if not files.is_folder(folder):
        return [], []
    path = files.join(folder, "val_annotations.txt")
    text = text_or_fault(path)
    if isinstance(text, Fault):
        return [], [text]
    parse = partial(_parse_val, root, files.join(folder, "images"), path, label_of)
    return parse_rows(path, numbered_lines(text), parse)


def _parse_train(root: str, folder: str, path: str, label: str, row: int, line: str) -> Annotated:
    name, *box = check_columns(line.split("\t"), _TRAIN_COLUMNS)
    image = ImageRef(path_inside(folder, name, root=root))
    return Annotated(image, name, label, corners(box), path, row)


def _parse_val(
    root: str, folder: str, path: str, label_of: dict[str, str], row: int, line: str
) -> Annotated:
    name, wnid, *box = check_columns(line.split("\t"), _VAL_COLUMNS)
    if wnid not in label_of:
        raise RowFault(f"column wnid: {shown(wnid)} is not in wnids.txt", "label")
    image = ImageRef(path_inside(folder, name, root=root))
    return Annotated(image, name, label_of[wnid], corners(box), path, row)


_IMAGE_ENDING = ".JPEG"
_FIELDS_AN_OBJECT = 5


def read_imagenet_loc(root: str, *, val_as: Literal["test", "val"] = "test") -> Annotations:
    """Reads a folder in the layout of ImageNet-LOC.

    ```
    LOC_synset_mapping.txt              n01440764 tench, Tinca tinca
    LOC_train_solution.csv              ImageId,PredictionString
                                        n01440764_10026,n01440764 13 16 401 299
    LOC_val_solution.csv                ILSVRC2012_val_00000001,n01440764 1 2 3 4 n01440764 5 6 7 8
    ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_10026.JPEG
    ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG
    ILSVRC/Annotations/CLS-LOC/train/n01440764/n01440764_10026.xml
    ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml
    ```

    The folder `ILSVRC` may be left out. A CSV table is read instead of the XML files of its split,
    half a million of them in training, which takes far longer; it declares no image sizes.

    Boxes are (x1, y1, x2, y2) in px from 0, and the last pixel belongs to them, as in the task's
    own measure of overlap.

    Args:
        root: The folder.
        val_as: Split that the official validation images become; the official test images have
            no labels.

    Returns:
        Splits `"train"` and `val_as`, those that are there; images may have several objects.
        Classes are in the order of `LOC_synset_mapping.txt`, named by the first of their words,
        or by the wnid where two classes share it.

    Raises:
        DataError: If the folder or `LOC_synset_mapping.txt` is missing, or there are neither
            tables nor XML files.
    """
    require_root(root)
    words, faults = read_words(files.join(root, "LOC_synset_mapping.txt"))
    names = class_names(list(words), words)
    label_of = dict(zip(words, names, strict=True))
    inner = files.join(root, "ILSVRC")
    base = inner if files.is_folder(inner) else root
    splits: dict[str, Split] = {"train": "train", "val": val_as}
    objects: dict[Split, list[Annotated]] = {}
    for folder, split in splits.items():
        table = files.join(root, f"LOC_{folder}_solution.csv")
        if files.is_file(table):
            objects[split] = _read_table(root, base, folder, table, label_of, faults)
        elif files.is_folder(files.join(base, "Annotations", "CLS-LOC", folder)):
            objects[split] = _read_xml_folder(root, base, folder, label_of, faults)
    if not objects:
        raise DataError(
            f"data folder {root} holds no annotations of ImageNet-LOC: expected "
            "LOC_train_solution.csv or the XML files in Annotations/CLS-LOC/train."
        )
    return Annotations(
        objects=objects,
        units="pixel",
        faults=faults,
        class_names=names,
        folders=[_images(base, folder) for folder, split in splits.items() if split in objects],
        exact=False,
    )


def _images(base: str, folder: str) -> str:
    return files.join(base, "Data", "CLS-LOC", folder)


def _read_table(
    root: str,
    base: str,
    folder: str,
    path: str,
    label_of: dict[str, str],
    faults: list[Fault],
) -> list[Annotated]:
    """Reads a CSV table, in which a row has all objects of an image."""
    text = text_or_fault(path)
    if isinstance(text, Fault):
        raise DataError(f"annotation file {path} {text.reason}.")
    objects = []
    for row, line in numbered_lines(text):
        name, _, prediction = line.partition(",")
        if row == 1 and name.strip().lower() == "imageid":
            continue
        try:
            image = _table_image(root, base, folder, name.strip())
            groups = _object_fields(prediction)
        except RowFault as fault:
            faults.append(Fault(path, row, fault.reason, fault.kind))
            continue
        for wnid, *texts in groups:
            try:
                box = corners(texts)
                objects.append(
                    Annotated(image, name.strip(), _label(wnid, label_of), box, path, row)
                )
            except RowFault as fault:
                faults.append(Fault(path, row, fault.reason, fault.kind))
    return objects


def _table_image(root: str, base: str, folder: str, name: str) -> ImageRef:
    parts = [name.partition("_")[0]] if folder == "train" else []
    relative = "/".join([*parts, name + _IMAGE_ENDING])
    return ImageRef(path_inside(_images(base, folder), relative, root=root))


def _object_fields(prediction: str) -> list[list[str]]:
    """Parts `wnid x1 y1 x2 y2 wnid ...` into objects."""
    fields = prediction.strip().strip('"').split()
    if not fields:
        raise RowFault("names no object", "no_object")
    if len(fields) % _FIELDS_AN_OBJECT:
        raise RowFault(
            f"PredictionString has {len(fields)} fields, expected a multiple of "
            f"{_FIELDS_AN_OBJECT}: wnid x1 y1 x2 y2",
            "columns",
        )
    starts = range(0, len(fields), _FIELDS_AN_OBJECT)
    return [fields[start : start + _FIELDS_AN_OBJECT] for start in starts]


def _read_xml_folder(
    root: str, base: str, folder: str, label_of: dict[str, str], faults: list[Fault]
) -> list[Annotated]:
    annotations = files.join(base, "Annotations", "CLS-LOC", folder)
    if folder == "val":
        return _read_xml_files(root, annotations, _images(base, folder), label_of, faults)
    objects = []
    for wnid in files.listed(annotations):
        inside = files.join(annotations, wnid)
        if wnid in label_of and files.is_folder(inside):
            images = files.join(_images(base, folder), wnid)
            objects += _read_xml_files(root, inside, images, label_of, faults)
        else:
            reason = "is not the folder of a class in LOC_synset_mapping.txt"
            faults.append(Fault(inside, 0, reason, "label"))
    return objects


def _read_xml_files(
    root: str,
    folder: str,
    images: str,
    label_of: dict[str, str],
    faults: list[Fault],
) -> list[Annotated]:
    """Reads the XML files of a folder; rows of objects are their numbers in the file."""
    objects: list[Annotated] = []
    for name in files.listed(folder):
        if name.endswith(".xml"):
            path = files.join(folder, name)
            read = partial(_read_xml_file, root, path, name, images, label_of)
            try:
                good, bad = read()
            except RowFault as fault:
                faults.append(Fault(path, 0, fault.reason, fault.kind))
            else:
                objects += good
                faults += bad
    return objects


def _read_xml_file(
    root: str, path: str, name: str, images: str, label_of: dict[str, str]
) -> tuple[list[Annotated], list[Fault]]:
    if files.file_size(path) > LARGEST_XML:
        raise RowFault(f"is larger than {LARGEST_XML >> 20} MiB", "syntax")
    try:
        content = files.read_bytes(path)
    except OSError as error:
        raise RowFault(f"cannot be read: {error}", "missing_file") from error
    parsed = parse_xml(content)
    image_name = (parsed.filename or name.removesuffix(".xml")).removesuffix(_IMAGE_ENDING)
    image = ImageRef(path_inside(images, image_name + _IMAGE_ENDING, root=root))
    if not parsed.objects:
        raise RowFault("names no object", "no_object")
    good, bad = [], []
    for row, (wnid, texts) in enumerate(parsed.objects, 1):
        try:
            label = _label(wnid, label_of)
            box = corners(texts, ("xmin", "ymin", "xmax", "ymax"))
        except RowFault as fault:
            bad.append(Fault(path, row, fault.reason, fault.kind))
        else:
            good.append(Annotated(image, image_name, label, box, path, row, parsed.size))
    return good, bad


def _label(wnid: str, label_of: dict[str, str]) -> str:
    if wnid not in label_of:
        raise RowFault(f"wnid {shown(wnid)} is not in LOC_synset_mapping.txt", "label")
    return label_of[wnid]
