"""Data sets as they were published: ImageNet's localization task, Tiny ImageNet, CUB-200, GTSRB."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element  # The type alone; text is parsed by defusedxml.

from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, ImageRef, Objects, Split
from loc_keras.data.formats.listing import Guess, Listing
from loc_keras.data.formats.parsing import (
    Reading,
    RowError,
    box_numbers,
    check_columns,
    corners,
    image_place,
    label_problem,
    numbered_lines,
    place,
    quoted,
    read_small,
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
    reading = Reading(root)
    wnids = _read_wnids(reading)
    words_path = files.join(root, "words.txt")
    words = _read_words(words_path, reading) if files.is_file(words_path) else {}
    names = _class_names(wnids, words)
    label_of = dict(zip(wnids, names, strict=True))
    _read_tiny_train(label_of, reading)
    if files.is_folder(files.join(root, "val")):
        path, images = (files.join(root, "val", name) for name in ("val_annotations.txt", "images"))
        _read_tiny_table(path, images, val_as, label_of, reading)
    return reading.annotations("pixel", class_names=names, exact=False)


def _read_wnids(reading: Reading) -> list[str]:
    """The classes in order; they become folder names, so each is checked to be a plain one."""
    root = reading.root
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
    """The word for each wnid; where it has none, or shares it as the two cranes do, the wnid."""
    named = [words.get(wnid) or wnid for wnid in wnids]
    count = Counter(named)
    unique = [name if count[name] == 1 else wnid for wnid, name in zip(wnids, named, strict=True)]
    return unique if len(set(unique)) == len(unique) else list(wnids)


def _read_tiny_train(label_of: dict[str, str], reading: Reading) -> None:
    folder = files.join(reading.root, "train")
    for name in files.listed(folder):
        path = files.join(folder, name)
        if name not in label_of and files.is_folder(path):
            reading.fault(path, 0, "is a class folder that wnids.txt lacks", "label")
    reading.split("train")
    for wnid in label_of:
        path = files.join(folder, wnid, f"{wnid}_boxes.txt")
        images = files.join(folder, wnid, "images")
        _read_tiny_table(path, images, "train", label_of, reading, wnid)


def _read_tiny_table(
    path: str, images: str, split: Split, label_of: dict[str, str], reading: Reading, wnid: str = ""
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
        image = ImageRef(image_place(images, name, reading.root))
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
    reading = Reading(root)
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
        part = _LocPart(folder, images, label_of, reading.split(split), reading)
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
                image = ImageRef(
                    place(self.images, folder + name + _IMAGE_ENDING, self.reading.root)
                )
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
        element = xml_root(read_small(path, self.reading.root, LARGEST_XML))
        width, height = (text_of(element, f"size/{side}") for side in ("width", "height"))
        size = None
        if width or height:
            size = whole_number("width", width), whole_number("height", height)
        name = image_name(element) or stem
        image = ImageRef(place(images, name + _IMAGE_ENDING, self.reading.root))
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


_XYWH = ("x", "y", "width", "height")
_SPLIT_OF_FLAG: dict[str, Split] = {"1": "train", "0": "test"}


class _CubTable(NamedTuple):
    """One file, by its first column: row number and the other fields of each id."""

    path: str
    rows: dict[str, tuple[int, list[str]]]


def read_cub(root: str) -> Annotations:
    """Reads a folder in the layout of CUB-200-2011.

    ```
    images.txt               1 001.Black_footed_Albatross/Albatross_0046_18.jpg
    bounding_boxes.txt       1 60.0 27.0 325.0 304.0          id, x, y, width, height in px
    image_class_labels.txt   1 1                              id, class
    classes.txt              1 001.Black_footed_Albatross
    train_test_split.txt     1 0                              id, 1 for training
    images/001.Black_footed_Albatross/Albatross_0046_18.jpg
    ```

    Returns:
        Splits `"train"` and `"test"`; file and row of an object are those of its box. Classes
        are in the order of `classes.txt` and lose a number in front, as `001.`, where they stay
        distinct without it.

    Raises:
        DataError: If the folder or one of the five files is missing or cannot be read.
    """
    reading = Reading(root)
    images = _read_cub_table("images.txt", ("id", "path"), reading)
    boxes = _read_cub_table("bounding_boxes.txt", ("id", *_XYWH), reading)
    labels = _read_cub_table("image_class_labels.txt", ("id", "class"), reading)
    classes = _read_cub_table("classes.txt", ("class", "name"), reading)
    flags = _read_cub_table("train_test_split.txt", ("id", "is_training"), reading)
    label_of = dict(zip(classes.rows, _cub_names(classes), strict=True))
    folder = files.join(root, "images")
    reading.folders[folder] = None
    reading.split("train")
    reading.split("test")
    for image in images.rows:
        missing = [table for table in (boxes, labels, flags) if image not in table.rows]
        for table in missing:
            reading.fault(table.path, 0, f"has no row for image {quoted(image)}", "missing_row")
        if missing:
            continue
        table = images
        try:
            (name,) = images.rows[image][1]
            path = image_place(folder, name, root)
            table = labels
            (label,) = labels.rows[image][1]
            if label not in label_of:
                raise RowError(f"column class: {quoted(label)} is not in classes.txt", "label")
            table = flags
            (flag,) = flags.rows[image][1]
            if flag not in _SPLIT_OF_FLAG:
                reason = f"column is_training: {quoted(flag)} is neither 0 (test) nor 1 (train)"
                raise RowError(reason, "split")
            table = boxes
            row, texts = boxes.rows[image]
            box = corners(box_numbers(texts, _XYWH), "xywh")
        except RowError as error:
            reading.failed(table.path, table.rows[image][0], error)
        else:
            found = Annotated(ImageRef(path), name, label_of[label], box, boxes.path, row)
            reading.split(_SPLIT_OF_FLAG[flag]).append(found)
    for table in (boxes, labels, flags):
        for image, (row, _) in table.rows.items():
            if image not in images.rows:
                reason = f"image {quoted(image)} is not in images.txt"
                reading.fault(table.path, row, reason, "missing_row")
    return reading.annotations("pixel", class_names=list(label_of.values()))


def _read_cub_table(file: str, columns: tuple[str, ...], reading: Reading) -> _CubTable:
    """Reads rows of fields parted by spaces; the last field may hold spaces itself."""
    path = files.join(reading.root, file)
    rows: dict[str, tuple[int, list[str]]] = {}
    for number, line in numbered_lines(files.read_text(path)):
        try:
            key, *rest = check_columns(line.split(maxsplit=len(columns) - 1), columns)
            if "name" in columns and (problem := label_problem(rest[0])):
                raise RowError(f"column name {problem}", "label")
            if key in rows:
                raise RowError(
                    f"{columns[0]} {quoted(key)} stands here twice; row {rows[key][0]} is used",
                    "duplicate_row",
                )
            rows[key] = number, rest
        except RowError as error:
            reading.failed(path, number, error)
    return _CubTable(path, rows)


def _cub_names(classes: _CubTable) -> list[str]:
    """The shortest names that are distinct: without the number in front, with it, or the ids."""
    written = [fields[0] for _, fields in classes.rows.values()]
    bare = [re.sub(r"^\d+\.(?=.)", "", name) for name in written]
    for names in (bare, written):
        if len(set(names)) == len(names):
            return names
    return list(classes.rows)


_FILES = ("bounding_boxes.txt", "images.txt", "image_class_labels.txt", "classes.txt")


def detect_cub(listing: Listing) -> Iterator[Guess]:
    """Guesses by the files of the data set."""
    for path in listing.named(_FILES[0]):
        if all(path in listing.named(name) for name in _FILES[1:]):
            yield Guess("cub", listing.path(path), why=f"{_FILES[0]} and {_FILES[1]}")


_ROI = ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
_COLUMNS = ("Width", "Height", *_ROI, "ClassId")
_TRAIN_FOLDERS = ("Final_Training/Images", "Training", "Train")
# CLASS_TRACK_FRAME in the repacked tables, TRACK_FRAME in the published folders of one class.
_TRACK = re.compile(r"^(?:\d+_)?(?P<track>\d+)_\d+\.[^.]+$")


class _SignTable(NamedTuple):
    """A file, the folder that the column `name` is relative to, and that of the images."""

    path: str
    folder: str
    images: str
    name: str
    delimiter: str


def read_gtsrb(root: str) -> Annotations:
    """Reads a folder of GTSRB in one of two layouts.

    As published, a table for each class:

    ```
    Final_Training/Images/00003/GT-00003.csv
        Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId
        00000_00000.ppm;29;30;5;6;24;25;3
    Final_Training/Images/00003/00000_00000.ppm
    Final_Test/Images/GT-final_test.csv         the same columns
    ```

    `Training/` and `Train/` may stand for `Final_Training/Images/`. Repacked, two tables:

    ```
    Train.csv                     Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path
                                  27,26,5,5,22,20,20,Train/20/00020_00000_00000.png
    Test.csv
    ```

    Training images come in tracks, frames of one physical sign as a car passes it; all frames of
    a track share `Annotated.group`, so that no split parts them.

    Returns:
        Splits `"train"` and, where its table is there, `"test"`. Classes are numbers.

    Raises:
        DataError: If the folder is missing, or holds neither layout, or a repacked table or that
            of the test images cannot be read.
    """
    reading = Reading(root)
    tables_of: dict[Split, list[_SignTable]]
    tables_of = {"train": _train_tables(reading), "test": _test_tables(reading)}
    for split, tables in tables_of.items():
        for table in tables:
            reading.folders[table.images] = None
            objects = reading.split(split)
            objects += _read_signs(table, split == "train", reading)
    # The corner Roi.X2, Roi.Y2 lies behind the last pixel of the sign: the readme promises at
    # least 5 px of border, and the first training image, 29 x 30 px, has its box at 5, 6, 24, 25.
    # Edges give borders of 5, 6, 5 and 5 px; read as a last pixel, two of them would be 4 px.
    return reading.annotations("pixel", exact=True)


def _published(folder: str, file: str) -> _SignTable:
    return _SignTable(files.join(folder, file), folder, folder, "Filename", ";")


def _repacked(root: str, name: str) -> list[_SignTable]:
    """The table of a split, if the data set is repacked."""
    path = files.join(root, f"{name}.csv")
    return (
        [_SignTable(path, root, files.join(root, name), "Path", ",")] if files.is_file(path) else []
    )


def _train_tables(reading: Reading) -> list[_SignTable]:
    root = reading.root
    tables = _repacked(root, "Train")
    for name in _TRAIN_FOLDERS:
        if tables:
            return tables
        folder = files.join(root, name)
        for label in filter(str.isdigit, files.listed(folder)):
            table = _published(files.join(folder, label), f"GT-{label}.csv")
            if files.is_file(table.path):
                tables.append(table)
            else:
                reading.fault(table.path, 0, files.absence(table.path), "missing_file")
    if tables:
        return tables
    raise DataError(
        f"data folder {root} holds no GTSRB: expected Train.csv, or tables such as "
        "Final_Training/Images/00000/GT-00000.csv."
    )


def _test_tables(reading: Reading) -> list[_SignTable]:
    root = reading.root
    repacked = _repacked(root, "Test")
    published = _published(files.join(root, "Final_Test/Images"), "GT-final_test.csv")
    if repacked or files.is_file(published.path):
        return repacked or [published]
    unlabelled = files.join(published.folder, "GT-final_test.test.csv")
    if files.is_file(unlabelled):
        reason = (
            "names no classes, so the test images cannot be used; put GT-final_test.csv of "
            "GTSRB_Final_Test_GT.zip beside it"
        )
        reading.fault(unlabelled, 0, reason, "missing_file")
    return []


def _read_signs(table: _SignTable, in_tracks: bool, reading: Reading) -> Iterator[Annotated]:
    # One published table of a class may be lost; a repacked one holds everything.
    text = files.read_text(table.path) if table.name == "Path" else reading.text(table.path)
    if text is None:
        return
    lines = numbered_lines(text)
    header = [_unquoted(field) for field in next(lines, (0, ""))[1].split(table.delimiter)]
    missing = [name for name in (table.name, *_COLUMNS) if name not in header]
    if missing:
        reason = (
            f"the header {quoted(table.delimiter.join(header))} lacks {', '.join(missing)}; "
            f"expected columns parted by {table.delimiter!r}"
        )
        reading.fault(table.path, 1, reason, "columns")
        return

    def parse(row: int, line: str) -> Annotated:
        fields = check_columns(line.split(table.delimiter), header)
        of = dict(zip(header, map(_unquoted, fields), strict=True))
        name = of[table.name]
        image = ImageRef(image_place(table.folder, name, reading.root))
        box = box_numbers((of[column] for column in _ROI), _ROI)
        size = whole_number("Width", of["Width"]), whole_number("Height", of["Height"])
        try:
            label = str(whole_number("ClassId", of["ClassId"]))
        except RowError as error:
            raise RowError(str(error), "label") from None
        # Tracks are numbered anew in each class.
        track = _TRACK.match(posixpath.basename(name.replace("\\", "/"))) if in_tracks else None
        group = f"{label}/{track['track']}" if track else ""
        return Annotated(image, name, label, box, table.path, row, size, group)

    yield from reading.parsed(table.path, lines, parse)


def _unquoted(field: str) -> str:
    # Fields hold no delimiters, so quotes carry no meaning, and a stray one swallows no lines.
    return field.strip().strip('"')


_CLASS_TABLE = re.compile(r"(?:^|/)(\d+)/GT-\1\.csv$")


def detect_gtsrb(listing: Listing) -> Iterator[Guess]:
    """Guesses by `Train.csv` with the data set's columns, or by the tables of classes."""
    for path in listing.named("Train.csv"):
        if "Roi.X1" in listing.head(posixpath.join(path, "Train.csv")):
            yield Guess("gtsrb", listing.path(path), why="Train.csv with the column Roi.X1")
    roots: dict[str, str] = {}
    for table in listing.files(".csv"):
        match = _CLASS_TABLE.search(table)
        parent = table[: match.start()] if match else ""
        inner = next((name for name in _TRAIN_FOLDERS if f"/{parent}".endswith(f"/{name}")), None)
        if inner is not None:
            roots.setdefault(parent.removesuffix(inner).rstrip("/"), table)
    for path, table in roots.items():
        yield Guess("gtsrb", listing.path(path), why=table)
