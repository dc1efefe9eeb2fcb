"""Tiny ImageNet, and ImageNet's localization task (ILSVRC CLS-LOC), as published and on Kaggle."""

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree.ElementTree import Element  # The type alone; text is parsed by defusedxml.

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, ImageRef, Objects, Split
from loc_keras.data.formats.listing import Guess, Listing
from loc_keras.data.formats.parsing import (
    Reading,
    RowError,
    box_numbers,
    check_columns,
    image_place,
    label_problem,
    numbered_lines,
    place,
    quoted,
    read_small,
    require_root,
    whole_number,
)
from loc_keras.data.formats.voc import LARGEST_XML, SIDES, text_of, xml_root
from loc_keras.errors import DataError

_TRAIN_COLUMNS = ("name", "x1", "y1", "x2", "y2")
_VAL_COLUMNS = ("name", "wnid", "x1", "y1", "x2", "y2")
_IMAGE_ENDING = ".JPEG"
_FIELDS_AN_OBJECT = 5


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

    The official validation images become the split `val_as`: usually the test images, since the
    official ones have no labels.

    Returns:
        Splits `"train"` and `val_as` (absent without a `val` folder). Classes are named by the
        first of their words, or by the wnid where there is none or two classes share it.

    Raises:
        DataError: If the folder or `wnids.txt` is missing or cannot be read.
    """
    require_root(root)
    reading = Reading()
    wnids = _read_wnids(root, reading)
    words_path = files.join(root, "words.txt")
    words = _read_words(words_path, reading) if files.is_file(words_path) else {}
    names = _class_names(wnids, words)
    label_of = dict(zip(wnids, names, strict=True))
    _read_tiny_train(root, label_of, reading)
    if files.is_folder(files.join(root, "val")):
        path, images = (files.join(root, "val", name) for name in ("val_annotations.txt", "images"))
        _read_tiny_table(root, path, images, val_as, label_of, reading)
    return reading.annotations("pixel", class_names=names, exact=False)


def _read_wnids(root: str, reading: Reading) -> list[str]:
    """The classes in order; they become folder names, so each is checked to be a plain one."""
    path = files.join(root, "wnids.txt")
    listed: set[str] = set()

    def parse(row: int, line: str) -> str:
        wnid = line.strip()
        if "/" in wnid or "\\" in wnid or wnid in (".", ".."):
            raise RowError(f"{quoted(wnid)} is not the name of a folder", "outside")
        place(files.join(root, "train"), wnid, root)
        if problem := label_problem(wnid):
            raise RowError(f"the class {problem}", "label")
        if wnid in listed:
            raise RowError(f"{quoted(wnid)} stands here twice", "duplicate_row")
        listed.add(wnid)
        return wnid

    lines = numbered_lines(files.read_text(path, what="class list"))
    return list(reading.parsed(path, lines, parse))


def _read_words(path: str, reading: Reading) -> dict[str, str]:
    """The first name of each wnid, from lines `wnid name, other name, ...`."""
    words: dict[str, str] = {}
    for row, line in numbered_lines(files.read_text(path)):
        wnid, *names = line.split(maxsplit=1)
        word = names[0].split(",")[0].strip() if names else ""
        if not names or "\0" in line:
            reading.fault(path, row, f"{quoted(line)} is not a wnid and its names", "columns")
        elif wnid in words:
            reading.fault(path, row, f"{quoted(wnid)} was named before", "duplicate_row")
        elif problem := label_problem(wnid) or label_problem(word or wnid):
            reading.fault(path, row, f"the class {problem}", "label")
        else:
            words[wnid] = word
    return words


def _class_names(wnids: Sequence[str], words: dict[str, str]) -> list[str]:
    """Names of classes: the word for each wnid.

    A wnid without a word, or whose word another one shares (ImageNet has two sorts of crane), is
    its own name.
    """
    named = [words.get(wnid) or wnid for wnid in wnids]
    count = Counter(named)
    unique = [name if count[name] == 1 else wnid for wnid, name in zip(wnids, named, strict=True)]
    return unique if len(set(unique)) == len(unique) else list(wnids)


def _read_tiny_train(root: str, label_of: dict[str, str], reading: Reading) -> None:
    folder = files.join(root, "train")
    for name in files.listed(folder):
        path = files.join(folder, name)
        if name not in label_of and files.is_folder(path):
            reading.fault(path, 0, "is a class folder that wnids.txt lacks", "label")
    reading.split("train")
    for wnid in label_of:
        path = files.join(folder, wnid, f"{wnid}_boxes.txt")
        images = files.join(folder, wnid, "images")
        _read_tiny_table(root, path, images, "train", label_of, reading, wnid)


def _read_tiny_table(
    root: str,
    path: str,
    images: str,
    split: Split,
    label_of: dict[str, str],
    reading: Reading,
    wnid: str = "",
) -> None:
    """Reads the table of a class, or without a `wnid` one that names it in each row."""
    reading.folders[images] = None
    objects = reading.split(split)
    columns = _TRAIN_COLUMNS if wnid else _VAL_COLUMNS

    def parse(row: int, line: str) -> Annotated:
        name, *more, x1, y1, x2, y2 = check_columns(line.split("\t"), columns)
        own = wnid or more[0]
        if own not in label_of:
            raise RowError(f"column wnid: {quoted(own)} is not in wnids.txt", "label")
        image = ImageRef(image_place(images, name, root))
        return Annotated(image, name, label_of[own], box_numbers((x1, y1, x2, y2)), path, row)

    text = reading.text(path)
    if text is not None:
        objects += reading.parsed(path, numbered_lines(text), parse)


def detect_tiny_imagenet(listing: Listing) -> Iterator[Guess]:
    """Guesses by `wnids.txt` beside a folder `train`."""
    for path in listing.named("wnids.txt"):
        if posixpath.join(path, "train") in listing.folders:
            yield Guess("tiny_imagenet", listing.path(path), why="wnids.txt and a folder train")


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

    The official validation images become the split `val_as`; the official test images have no
    labels.

    Returns:
        Splits `"train"` and `val_as`, those that are there; images may have several objects.
        Classes are in the order of `LOC_synset_mapping.txt`, named by the first of their words,
        or by the wnid where two classes share it.

    Raises:
        DataError: If the folder or `LOC_synset_mapping.txt` is missing, or there are neither
            tables nor XML files.
    """
    require_root(root)
    reading = Reading()
    words = _read_words(files.join(root, "LOC_synset_mapping.txt"), reading)
    names = _class_names(list(words), words)
    label_of = dict(zip(words, names, strict=True))
    inner = files.join(root, "ILSVRC")
    base = inner if files.is_folder(inner) else root
    splits: dict[str, Split] = {"train": "train", "val": val_as}
    for folder, split in splits.items():
        table = files.join(root, f"LOC_{folder}_solution.csv")
        annotations = files.join(base, "Annotations", "CLS-LOC", folder)
        has_table = files.is_file(table)
        if not has_table and not files.is_folder(annotations):
            continue
        images = files.join(base, "Data", "CLS-LOC", folder)
        reading.folders[images] = None
        part = _LocPart(root, folder, images, label_of, reading.split(split), reading)
        if has_table:
            part.read_table(table)
        else:
            part.read_folder(annotations)
    if not reading.objects:
        raise DataError(
            f"data folder {root} holds no annotations of ImageNet-LOC: expected "
            "LOC_train_solution.csv or the XML files in Annotations/CLS-LOC/train."
        )
    return reading.annotations("pixel", class_names=names, exact=False)


@dataclass
class _LocPart:
    """The training or validation images of ImageNet-LOC, by its name for them, while read."""

    root: str
    name: str
    images: str
    label_of: dict[str, str]
    objects: list[Annotated | Objects]
    reading: Reading

    def read_table(self, path: str) -> None:
        """Reads a CSV table, in which a row has all objects of an image."""
        for row, line in numbered_lines(files.read_text(path)):
            name, _, prediction = line.partition(",")
            name = name.strip()
            if row == 1 and name.lower() == "imageid":
                continue
            folder = f"{name.partition('_')[0]}/" if self.name == "train" else ""
            try:
                image = ImageRef(place(self.images, folder + name + _IMAGE_ENDING, self.root))
                fields = _prediction_fields(prediction)
            except RowError as error:
                self.reading.failed(path, row, error)
                continue
            for wnid, *texts in zip(*[iter(fields)] * _FIELDS_AN_OBJECT, strict=True):
                try:
                    box, label = box_numbers(texts), self._label(wnid)
                except RowError as error:
                    self.reading.failed(path, row, error)
                else:
                    self.objects.append(Annotated(image, name, label, box, path, row))

    def read_folder(self, annotations: str) -> None:
        """Reads a folder of XML files, or those of its classes."""
        if self.name == "val":
            self._read_files(annotations, self.images)
            return
        for wnid in files.listed(annotations):
            folder = files.join(annotations, wnid)
            if wnid in self.label_of and files.is_folder(folder):
                self._read_files(folder, files.join(self.images, wnid))
            else:
                reason = "is not the folder of a class in LOC_synset_mapping.txt"
                self.reading.fault(folder, 0, reason, "label")

    def _read_files(self, folder: str, images: str) -> None:
        for name in files.listed(folder):
            if name.endswith(".xml"):
                path = files.join(folder, name)
                try:
                    self._read_xml(path, name.removesuffix(".xml"), images)
                except RowError as error:
                    self.reading.failed(path, 0, error)

    def _read_xml(self, path: str, stem: str, images: str) -> None:
        """Reads the XML file of an image; rows of objects are their numbers in the file."""
        element = xml_root(read_small(path, self.root, LARGEST_XML))
        width, height = (text_of(element, f"size/{side}") for side in ("width", "height"))
        size = None
        if width or height:
            size = whole_number("width", width), whole_number("height", height)
        name = image_name(element) or stem
        image = ImageRef(place(images, name + _IMAGE_ENDING, self.root))
        rows = list(enumerate(element.findall("object"), 1))
        if not rows:
            raise RowError("names no object", "no_object")

        def parse(row: int, item: Element) -> Annotated:
            label = self._label(text_of(item, "name"))
            box = box_numbers((text_of(item, f"bndbox/{side}") for side in SIDES), SIDES)
            return Annotated(image, name, label, box, path, row, size)

        self.objects += self.reading.parsed(path, rows, parse)

    def _label(self, wnid: str) -> str:
        if wnid not in self.label_of:
            raise RowError(f"wnid {quoted(wnid)} is not in LOC_synset_mapping.txt", "label")
        return self.label_of[wnid]


def _prediction_fields(prediction: str) -> list[str]:
    """Fields `wnid x1 y1 x2 y2 wnid ...` of all objects of an image."""
    fields = prediction.strip().strip('"').split()
    if not fields:
        raise RowError("names no object", "no_object")
    if len(fields) % _FIELDS_AN_OBJECT:
        raise RowError(
            f"PredictionString has {len(fields)} fields, expected a multiple of "
            f"{_FIELDS_AN_OBJECT}: wnid x1 y1 x2 y2",
            "columns",
        )
    return fields


def image_name(annotation: Element) -> str:
    """The image that an XML file names, without ending; `""` where it names none."""
    # Some files of the data set have the place holder of the program that wrote them.
    name = text_of(annotation, "filename")
    return "" if name == "%s" else name.removesuffix(_IMAGE_ENDING)


def detect_imagenet_loc(listing: Listing) -> Iterator[Guess]:
    """Guesses by `LOC_synset_mapping.txt`."""
    for path in listing.named("LOC_synset_mapping.txt"):
        yield Guess("imagenet_loc", listing.path(path), why="LOC_synset_mapping.txt")
