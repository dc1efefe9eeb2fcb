"""What the readers share: paths, numbers and boxes, each checked once, and faults collected."""

import codecs
import errno
import io
import os
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain, takewhile
from posixpath import basename, dirname, splitext
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from loc_keras.data import files
from loc_keras.data.annotations import (
    SPLITS,
    Annotated,
    Annotations,
    EmptyImage,
    Fault,
    ImageRef,
    Objects,
    Split,
    Units,
    composed,
)
from loc_keras.data.image_header import ENDINGS
from loc_keras.errors import DataError, first_line

IMAGE_ENDINGS = frozenset([*chain.from_iterable(ENDINGS.values()), ".jp2"])
"""Endings, in small letters, by which a file shows that it is meant as an image."""

LONGEST_LABEL = 256  # Characters of the longest class name.
LARGEST_SIDE = 10**9  # Largest image side in px that an annotation may declare.
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""How data sets call the splits, in small letters."""

CLASS_FILES = (
    *("classes.txt", "obj.names", "classes.names", "labels.txt", "class_names.txt"),
    *("_darknet.labels", "darknet.labels"),
)
"""How tools call lists of class names, one a line, the most usual first."""

_LONGEST_PATH = 4096
_INVISIBLE = re.compile("[\ufeff\u200b\u2060]")  # Byte order mark, and marks of no width.
_MOST_QUOTED = 60
_MOST_DIGITS = 9
_UPLOAD = re.compile("^[0-9a-f]{8}-")  # What Label Studio puts before the names of files.

Box = tuple[float, float, float, float]
_Row = TypeVar("_Row")
_Parsed = TypeVar("_Parsed")


class RowError(Exception):
    """Why one row, object or image cannot be used.

    Attributes:
        kind: As in `annotations.Fault`; the message is its reason.
    """

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass
class Reading:
    """Collects what a reader finds in a data folder; DataError where that is missing.

    Attributes:
        root: The data folder.
        unread: Number of objects of an image that cannot be parsed.
        empty: Images without an object.
        folders: Folders that hold nothing but images, as keys.
        upright_tool: As in `Annotations`.
    """

    root: str
    objects: dict[Split, list[Annotated | Objects]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unread: Counter[ImageRef] = field(default_factory=Counter)
    empty: list[EmptyImage] = field(default_factory=list)
    folders: dict[str, None] = field(default_factory=dict)
    upright_tool: str = ""

    def __post_init__(self) -> None:
        if not files.is_folder(self.root):
            raise DataError(
                f"data folder {self.root} does not exist: data.source.path must name it."
            )

    @cached_property
    def finder(self) -> "ImageFinder":
        """Finds the images that annotations name."""
        return ImageFinder(self.root)

    def split(self, name: Split) -> list[Annotated | Objects]:
        """The objects of a split, to add to: one by one, or by columns."""
        return self.objects.setdefault(name, [])

    def fault(self, file: str, row: int, reason: str, kind: str) -> Fault:
        """Adds a fault and returns it."""
        self.faults.append(Fault(file, row, reason, kind))
        return self.faults[-1]

    def without_object(
        self,
        split: Split,
        image: ImageRef,
        name: str,
        file: str,
        row: int,
        reason: str = "names no object",
        size: tuple[int, int] | None = None,
    ) -> None:
        """Adds an image that shows no object, and the fault that says so."""
        fault = self.fault(file, row, reason, "no_object")
        self.empty.append(EmptyImage(split, image, name, fault, size=size))

    def failed(self, file: str, row: int, error: RowError) -> None:
        """Adds the fault of a row that raised an error."""
        self.fault(file, row, str(error), error.kind)

    def parsed(
        self, path: str, rows: Iterable[tuple[int, _Row]], parse: Callable[[int, _Row], _Parsed]
    ) -> Iterator[_Parsed]:
        """Parses (number, row) one by one; those that raise a `RowError` become faults."""
        for number, row in rows:
            try:
                result = parse(number, row)
            except RowError as error:
                self.failed(path, number, error)
            else:
                yield result

    def text(self, path: str) -> str | None:
        """The text of one annotation file of many; None, with a fault, where it cannot be read."""
        if not files.is_file(path):
            self.fault(path, 0, files.absence(path), "missing_file")
            return None
        try:
            return text_of_file(path)
        except RowError as error:
            self.failed(path, 0, error)
            return None

    def annotations(
        self, units: Units, *, class_names: list[str] | None = None, exact: bool = True
    ) -> Annotations:
        """All of it; arguments as the attributes of `Annotations`."""
        return Annotations(
            {split: Objects.joined(parts) for split, parts in self.objects.items()},
            units,
            self.faults,
            class_names=class_names,
            folders=list(self.folders),
            exact=exact,
            unread=dict(self.unread),
            empty=self.empty,
            upright_tool=self.upright_tool,
        )


def text_of_file(path: str, beside: str = "") -> str:
    """The text of an annotation file, or of one that it names; RowError where it cannot be read."""
    try:
        return files.read_text(path)
    except DataError as error:
        reason = str(error).removeprefix(f"annotation file {beside or path} ").removesuffix(".")
        raise RowError(reason, "encoding") from None


def upright_tool(tree: Any) -> str:
    """The program in the `info` of a JSON file where it shows pictures upright, else `""`."""
    info = tree.get("info") if isinstance(tree, dict) else None
    name = info.get("contributor") if isinstance(info, dict) else None
    # It shows pictures in a browser, which turns them.
    return "Label Studio" if name == "Label Studio" else ""


def given_splits(splits: Mapping[str, Any], key: str) -> Iterator[tuple[Split, Any]]:
    """The splits that the config gives under `key`, in their order; None stands for none.

    DataError if no training split is given, or one of an unknown name.
    """
    unknown = [name for name in splits if name not in SPLITS]
    if unknown:
        raise DataError(f"{key} has {quoted(unknown[0])}; the splits are {', '.join(SPLITS)}.")
    if splits.get("train") is None:
        raise DataError(f"{key}.train is missing; say where the training data lie.")
    for split in SPLITS:
        entry = splits.get(split)
        if entry is not None:
            yield split, entry


def config_path(root: str, name: str, key: str) -> str:
    """Joins a path that the config gives under `key` to the data folder.

    DataError if it leads out of the data folder.
    """
    try:
        return place(root, name, root)
    except RowError as error:
        raise DataError(f"{key}: {error}; name what lies below data.source.path.") from error


def place(folder: str, name: str, root: str) -> str:
    """Joins a name that an annotation gives to a folder; the result lies below `root`.

    RowError if it does not, or if no file can have this name.
    """
    if not is_text(name) or len(name) > _LONGEST_PATH:
        raise RowError(f"{quoted(name)} names no file", "outside")
    try:
        return files.join_inside(folder, name, root=root)
    except files.OutsideError as error:
        raise RowError(str(error).replace(repr(name), quoted(name)), "outside") from None


def image_place(folder: str, name: str, root: str) -> str:
    """As `place`, of an image: RowError also where the name is a folder's, such as `.`."""
    path = place(folder, name, root)
    if posixpath.basename(name.replace("\\", "/")) in ("", ".", ".."):
        raise RowError(f"{quoted(name)} names a folder, expected an image", "missing_image")
    return path


class ImageFinder:
    """Finds the images that annotations name, by one rule for every format.

    An image counts as it is written, from the folder of the images or from the data folder. Where
    none is there, and the folder that the name gives is not there either (the name may be a path or
    an address of another machine), its last part counts: below the folder of the images, in letters
    of any case, and with any ending where it has none. It must fit one image alone, of which the
    folders that agree with the name decide. Every image must stay in the data folder `root`.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.listed = cache(lambda folder: frozenset(files.listed(folder)))
        self.plain = cache(self._plain_names)
        self._index = cache(self._indexed)
        self._is_folder = cache(files.is_folder)

    def find(self, folder: str, written: str) -> str:
        """The path of an image; where none is there, as it is written.

        RowError if several fit, or none is there and the name leads out of the data folder.
        """
        path = self.as_written(folder, written)
        if path is None and folder != self.root:
            path = self.as_written(self.root, written)
        if path is not None:
            return path
        fitting = self.fitting(folder, written)
        if len(fitting) > 1:
            names = " and ".join(below(self.root, path) for path in fitting[:2])
            reason = f"{quoted(written)} fits {names}; write its folder, too"
            raise RowError(reason, "missing_image")
        return fitting[0] if fitting else image_place(folder, written, self.root)

    def named(self, folder: str, written: str) -> tuple[str, str]:
        """As `find`, with the name before: as written, or what was found instead."""
        base, names = self.plain(folder)
        if written in names:
            return written, f"{base}/{written}"
        path = self.find(folder, written)
        plain = written.replace("\\", "/").removeprefix("./")
        return (written if path.endswith("/" + plain) else below(self.root, path)), path

    def inside(self, path: str) -> str:
        """A path of the data folder, normalised; RowError if it leads out of the folder."""
        folder, _, name = path.rpartition("/")
        base, names = self.plain(folder)
        return (
            f"{base}/{name}"
            if name in names
            else place(self.root, below(self.root, path), self.root)
        )

    def as_written(self, folder: str, written: str) -> str | None:
        """The path of a name in a folder; None where it is not there."""
        base, names = self.plain(folder)
        if written in names:
            return f"{base}/{written}"
        try:
            path = image_place(folder, _on_disk(written), self.root)
        except RowError:
            return None
        parent, name = posixpath.split(path)
        return path if name in self.listed(parent) else None

    def fitting(self, folder: str, written: str) -> list[str]:
        """The images below a folder that fit the last part of a name, and its folders best."""
        clean = _on_disk(written).replace("\\", "/")
        if files.is_remote(clean):
            clean = re.split("[?#]", clean)[0]
        head, last = posixpath.split(clean)
        try:
            if head and self._is_folder(place(folder, head, self.root)):
                return []
        except RowError:
            pass
        for name in dict.fromkeys((last, unquote(last), _UPLOAD.sub("", last))):
            found = self._index(folder).get(name.lower(), []) if name else []
            exact = [p for p in found if name in (basename(p), splitext(basename(p))[0])]
            if found:
                shared = {path: _shared_parts(head, dirname(path)) for path in exact or found}
                most = max(shared.values())
                best = [path for path, count in shared.items() if count == most]
                return [path for path in best if dirname(path) == folder] or best
        return []

    def _plain_names(self, folder: str) -> tuple[str, frozenset[str]]:
        """A folder, normalised, and the names in it that need no further look: no links."""
        if files.is_remote(folder):
            return folder, frozenset()
        try:
            base = place(self.root, below(self.root, folder), self.root)
            with os.scandir(base) as entries:
                names = [one.name for one in entries if not one.is_symlink()]
        except (RowError, OSError):
            return folder, frozenset()
        texts = names if is_text("".join(names)) else filter(is_text, names)
        return base, frozenset(name for name in texts if name[0] != ".")

    def _indexed(self, folder: str) -> dict[str, list[str]]:
        """Paths of the images below a folder by their names, with and without ending."""
        index: dict[str, list[str]] = defaultdict(list)
        for path in files.walk(folder):
            name = basename(path).lower()
            if is_image_name(name):
                try:
                    place(self.root, below(self.root, path), self.root)
                except RowError:
                    continue
                index[name].append(path)
                index[splitext(name)[0]].append(path)
        return index


def _on_disk(written: str) -> str:
    """The path in an address of a disk that Label Studio serves, else what is written."""
    return written.partition("?d=")[2] or written


def _shared_parts(head: str, folder: str) -> int:
    """How many last folders of two paths are the same."""
    one, other = (reversed(path.lower().split("/")) for path in (head, folder))
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def read_small(path: str, root: str, most: int) -> bytes:
    """Reads the annotation file of one image, of at most so many bytes.

    RowError if it lies elsewhere, is larger or cannot be read.
    """
    place(root, below(root, path), root)
    return read_at_most(path, most)


def read_at_most(path: str, most: int) -> bytes:
    """Reads a file of at most so many bytes; RowError if it is larger or cannot be read."""
    try:
        return files.read_bytes(path, most=most)
    except OSError as error:
        kind = "syntax" if error.errno == errno.EFBIG else "unreadable_file"
        raise RowError(f"cannot be read: {first_line(error)}", kind) from None


def below(root: str, path: str) -> str:
    """A path relative to the data folder that holds it."""
    if files.is_remote(root):
        return posixpath.relpath(path.partition("://")[2], root.partition("://")[2])
    return os.path.relpath(path, root)


def folder_of(path: str) -> str:
    """The folder that holds a file."""
    return posixpath.dirname(path) or os.curdir


def is_image_name(name: str) -> bool:
    """Whether a name has the ending of an image, in large or small letters."""
    return name[name.rfind(".") :].lower() in IMAGE_ENDINGS


def is_text(value: object) -> bool:
    """Whether a value is text that a file can hold and a terminal can show.

    JSON and YAML can write half of a surrogate pair, and NUL.
    """
    return isinstance(value, str) and "\0" not in value and files.is_encodable(value)


def label_problem(value: object) -> str:
    """Why a value can name no class, as the end of a sentence; `""` if it can."""
    if not isinstance(value, str):
        return f"is {quoted(value)}, not text"
    if not value.strip():
        return "is empty"
    # Lists of classes are written one a line, whatever their reader takes for the end of one.
    is_control = any(unicodedata.category(sign) == "Cc" for sign in value)
    if not is_text(value) or len(value.splitlines()) > 1 or is_control:
        return f"{quoted(value)} has signs that are no text"
    if sign := _INVISIBLE.search(value):
        return f"{quoted(value)} has a sign that does not show (U+{ord(sign[0]):04X})"
    return f"is longer than {LONGEST_LABEL} characters" if len(value) > LONGEST_LABEL else ""


def read_class_names(root: str, name: str) -> list[str]:
    """Reads a file with one class name a line; blank lines below the last one do not count.

    DataError if it cannot be read, is empty, or has a line that names no class or one twice.
    """
    path = config_path(root, name, "data.source.class_names_file")
    lines = files.read_text(path, what="class name file").rstrip().splitlines()
    names = [composed(line) for line in lines]
    if not names:
        raise DataError(f"class name file {path} is empty; write one class name a line.")
    for row, one in enumerate(names, 1):
        if problem := label_problem(one):
            raise DataError(
                f"class name file {path}: line {row} {problem}; write one class name a line, "
                "without gaps."
            )
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise DataError(f"class name file {path} names {', '.join(twice)} more than once.")
    return names


def marked_lists(paths: Iterable[str]) -> list[Fault]:
    """Faults of files with class names that begin with a byte order mark, which is read away."""
    reason = "begins with a byte order mark (U+FEFF), which is no part of the first name"
    mark = codecs.BOM_UTF8
    there = [path for path in sorted(paths) if files.is_file(path)]
    marked = [path for path in there if files.read_bytes(path, 0, len(mark)) == mark]
    return [Fault(path, 1, reason, "byte_order_mark") for path in marked]


def quoted(value: object) -> str:
    """A value quoted for a message, shortened where it is long."""
    # Cut first: the representation of a hostile value may be large.
    if isinstance(value, str):
        return repr(value if len(value) <= _MOST_QUOTED else value[:_MOST_QUOTED] + "...")
    if isinstance(value, bool | float) or value is None:
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= _MOST_QUOTED else "a huge number"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1, as editors count them."""
    for row, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield row, line.removesuffix("\n")


def check_columns(fields: list[str], names: Iterable[str]) -> list[str]:
    """Checks the number of fields in a row and gives them without spaces around.

    RowError if it is not that of the names, or a field holds a NUL.
    """
    names = tuple(names)
    if any("\0" in field for field in fields):
        raise RowError("holds a NUL character", "syntax")
    if len(fields) != len(names):
        raise RowError(
            f"has {len(fields)} columns, expected {len(names)}: {', '.join(names)}", "columns"
        )
    return [field.strip() for field in fields]


def number(text: str) -> float | None:
    """A decimal number, perhaps `nan` or infinite; None where the text is none."""
    # Python would read 1_000, which no annotation tool writes.
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def whole_number(column: str, text: str) -> int:
    """Reads a whole number from 0 of at most nine digits; RowError if the text is none."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise RowError(
            f"column {column}: {quoted(text)} is not a whole number from 0 to 999999999", "number"
        )
    return int(text)


def box_numbers(texts: Iterable[str], columns: Iterable[str] = ("x1", "y1", "x2", "y2")) -> Box:
    """Reads the four numbers of a box, finite or not; RowError if one of them is no number."""
    values = []
    for column, text in zip(columns, texts, strict=True):
        value = number(text)
        if value is None:
            problem = f": {quoted(text)} is not a number" if text else " is empty"
            raise RowError(f"column {column}{problem}", "number")
        values.append(value)
    first, second, third, fourth = values
    return first, second, third, fourth


def corners(box: Box, style: str) -> Box:
    """(x1, y1, x2, y2) of two corners (`"xyxy"`), corner and size (`"xywh"`), or `"cxcywh"`.

    Numbers that are not finite stay so, without an error.
    """
    (found,) = corners_of_all(np.array([box], np.float64), style).tolist()
    return found[0], found[1], found[2], found[3]


def corners_of_all(boxes: npt.NDArray[np.float64], style: str) -> npt.NDArray[np.float64]:
    """As `corners`, of boxes (N, 4)."""
    first, size = boxes[:, :2], boxes[:, 2:]
    if style == "xyxy":
        return boxes
    with np.errstate(invalid="ignore"):
        low = first if style == "xywh" else first - size / 2
        return np.hstack([low, first + (size if style == "xywh" else size / 2)]) + 0.0  # No -0.
