"""CSV and TSV: one row for each object."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from posixpath import basename, dirname, splitext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import csv_text, write_text
from loc_keras.config.data import BOX_COLUMNS, CSV_COLUMNS, CSV_FILES
from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    ImageRef,
    Objects,
    Split,
    Subject,
    Units,
)
from loc_keras.data.formats.parsing import (
    LARGEST_SIDE,
    SPLIT_NAMES,
    Box,
    Reading,
    RowError,
    below,
    box_numbers,
    config_path,
    corners,
    corners_of_all,
    folder_of,
    given_splits,
    label_problem,
    number,
    place,
    quoted,
)
from loc_keras.data.formats.writing import COPIED, Job, box_cells, write_images
from loc_keras.data.resolve import Records
from loc_keras.errors import DataError

GROUPED_COLUMNS = (*CSV_COLUMNS, "group")
"""Columns where there are groups, as `data.source.csv.columns` names them."""

UNASSIGNED = "unassigned"  # What tables of AutoML call rows of no split.
AT_ONCE = 200
"""Rows from which on they are read at once; to begin with that takes some milliseconds a file."""

_KEY = "data.source.csv"
_BETWEEN = str.maketrans(dict.fromkeys("[](){},;", " "))
_MORE_COLUMNS = ("width", "height", "group", "split")
_MOST_QUOTED = 200
_BOX = 4

LONGEST_ROW = 65_536  # Characters of the longest row that is read.
_MOST_LINES = 8  # Of a row whose quoted fields hold line breaks.

Columns = Sequence[str] | Mapping[str, str | None]
_Texts = tuple[npt.NDArray[Any], list[str]]  # Of a column: values by row, as indices, and values.


def read_csv(
    root: str,
    *,
    splits: Mapping[str, Mapping[str, str] | None] | None = None,
    header: bool = False,
    delimiter: str = ",",
    columns: Columns = CSV_COLUMNS,
    box: str = "xyxy",
    units: Units = "fraction",
    label_from: str = "column",
) -> Annotations:
    """Reads a folder with CSV files of one object a row, such as `1.png,cat,0.1,0.25,0.8,0.95`.

    Text is UTF-8 or, with a byte order mark, UTF-16. Lines may end in CR, LF or both, blank ones
    do not count, and fields may be quoted as RFC 4180 says.

    Args:
        root: The folder, on any filesystem that TensorFlow opens.
        splits: `{"train" | "val" | "test": {"csv": file or pattern, "images": folder}}`, relative
            to `root`. In `images`, `{label}` stands for the label of the row and `{stem}` for
            the CSV file's name without ending; where the first row's image is not there but
            beside the CSV file, that folder is used. None is `CSV_FILES`, whose validation
            and test files may be missing.
        header: Whether the first line holds names.
        delimiter: The character between two fields.
        columns: Meaning of the columns by position, those of unknown names not being read, or
            `{meaning: name in the header}`. Meanings are `file`, `label`, those of the box,
            `bbox` for a field that holds all four numbers of the box, `width` and `height` of
            the image in px, `group`, and `split` (train, val or test), which goes before the split
            that the file stands for.
        box: `"xyxy"` for the columns x1 y1 x2 y2, `"xywh"` for x1 y1 w h, or `"cxcywh"` for
            cx cy w h, the centre and the size.
        units: `"fraction"` of the image side, or `"pixel"`.
        label_from: `"column"`, or `"folder"`: the name of the folder that holds the image.

    Returns:
        The rows in the order of the files; row numbers are line numbers.

    Raises:
        DataError: If a file is missing, has no rows or is not text, or an option is wrong.
    """
    reading = Reading(root)
    _check_options(header, delimiter, columns, box, units, label_from)
    reader = _CsvReader(reading, header, delimiter, columns, box, label_from)
    for split, entry in given_splits(CSV_FILES if splits is None else splits, f"{_KEY}.splits"):
        paths = _csv_files(root, split, entry["csv"])
        images = entry["images"]
        plain = images.replace("{label}", "x").replace("{stem}", "x")
        config_path(root, plain, f"{_KEY}.splits.{split}.images")
        empty = [path for path in paths if not reader.read_file(path, split, images)]
        if paths and empty == paths:
            names = columns.values() if isinstance(columns, Mapping) else columns
            expected = ",".join(name for name in names if name is not None)
            raise DataError(f"{paths[0]} has no rows: expected one row per image, {expected}.")
        for path in empty:
            reading.fault(path, 0, "has no rows", "empty_file")
    return reading.annotations(units)


def _check_options(
    header: bool, delimiter: str, columns: Columns, box: str, units: str, label_from: str
) -> None:
    printable = delimiter.isprintable() or delimiter == "\t"
    if len(delimiter) != 1 or delimiter == '"' or not printable:
        raise DataError(
            f"{_KEY}.delimiter is {quoted(delimiter)}; it must be one character, such as , ; or "
            "tab."
        )
    if isinstance(columns, Mapping) and not header:
        raise DataError(f"{_KEY}.names looks columns up in the header: set {_KEY}.header to true.")
    for name, value, known in (
        ("box", box, tuple(BOX_COLUMNS)),
        ("units", units, ("fraction", "pixel")),
        ("label_from", label_from, ("column", "folder")),
    ):
        if value not in known:
            raise DataError(f"{_KEY}.{name} is {quoted(value)}; it must be {' or '.join(known)}.")


def _csv_files(root: str, split: str, name: str) -> list[str]:
    """The files of a split; none where it may be left out and is."""
    key = f"{_KEY}.splits.{split}.csv"
    path = config_path(root, name, key)
    if files.is_file(path):
        return [path]
    if any(sign in name for sign in "*?["):
        try:
            paths = files.matching(root, name)
        except files.OutsideError as error:
            raise DataError(f"{key}: {error}.") from error
        if paths:
            return [config_path(root, below(root, path), key) for path in paths]
        raise DataError(f"no CSV file below {root} matches {quoted(name)}: mend {key}.")
    if split == "train":
        raise DataError(f"CSV file {path} {files.absence(path)}: mend {key}.")
    if name != CSV_FILES[split]["csv"]:
        raise DataError(
            f"CSV file {path} {files.absence(path)}: mend {key}, or leave it out to cut the split "
            "off the training file."
        )
    return []


class Lines:
    """The lines of a CSV text; a quote that stays open swallows no lines after its own."""

    def __init__(self, text: str, delimiter: str) -> None:
        self.delimiter = delimiter
        text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        self.content = text.encode()
        self.signs = np.frombuffer(self.content, np.uint8)
        ends = np.flatnonzero(self.signs == ord("\n")) + 1
        if not self.content.endswith(b"\n"):
            ends = np.append(ends, len(self.content))
        self.bounds = np.concatenate([[0], ends])
        self.count = len(ends)

    def __getitem__(self, line: int) -> str:
        return self.content[self.bounds[line] : self.bounds[line + 1]].decode()

    def regular(self, width: int, first: int) -> npt.NDArray[np.bool_]:
        """Which lines, from the first one that counts, hold `width` fields and no quote."""
        found = np.zeros(self.count, bool)
        if self.delimiter.isascii() and self.count > first:
            marks = np.flatnonzero(self.signs == ord(self.delimiter))
            counts = np.diff(np.searchsorted(marks, self.bounds))
            found = (counts == width - 1) & (np.diff(self.bounds) <= LONGEST_ROW)
        for sign in b'"\0':
            if sign in self.content:
                places = np.flatnonzero(self.signs == sign)
                found[np.searchsorted(self.bounds, places, "right") - 1] = False
        found[:first] = False
        return found

    def content_of(self, chosen: npt.NDArray[np.bool_]) -> bytes:
        """The text of some lines."""
        lines = np.flatnonzero(chosen)
        if len(lines) and chosen[lines[0] :].all():
            return self.content[self.bounds[lines[0]] :]
        return self.signs[np.repeat(chosen, np.diff(self.bounds))].tobytes()

    def rows(
        self, first: int = 0, end: int | None = None, but: npt.NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, list[str] | RowError, int]]:
        """Number from 1, fields or why there are none, and the line behind it, of each row.

        Blank rows are left out, and blanks around fields.
        Lines of the mask `but` are passed over; it loses those that belong to a row of several.
        """
        lines: Iterable[int] = range(first, self.count if end is None else end)
        if but is not None:
            lines = (first + np.flatnonzero(~but[first:end])).tolist()
        behind = first
        for line in lines:
            if line < behind or not self[line].strip():
                continue
            behind = line + 1
            try:
                fields, behind = self._fields(line)
            except RowError as error:
                yield line + 1, error, behind
            else:
                if but is not None:
                    but[line:behind] = False
                yield line + 1, [one.strip() for one in fields], behind

    def _fields(self, line: int) -> tuple[list[str], int]:
        """The fields of the row that begins in a line, and the line after it."""
        row, end = self[line], line + 1
        while row.count('"') % 2:
            if end == min(self.count, line + 1 + _MOST_LINES) or len(row) > LONGEST_ROW:
                raise RowError("has a quote that is not closed", "syntax")
            row += self[end]
            end += 1
        if len(row) > LONGEST_ROW:
            raise RowError(f"is longer than {LONGEST_ROW:,} characters", "syntax")
        if '"' not in row:
            return row.split(self.delimiter), end
        # Blanks before a quote are skipped, unless they are what parts the fields.
        skips = self.delimiter != " "
        reader = csv.reader([row], delimiter=self.delimiter, strict=True, skipinitialspace=skips)
        try:
            return next(reader), end
        except (csv.Error, StopIteration):
            what = "a quote that is not closed" if end > line + 1 else "a stray quote"
            raise RowError(f"has {what}", "syntax") from None


class _Row(NamedTuple):
    """The fields of one row: the box, or why there is none, and (width, height) in px."""

    file: str
    label: str
    box: Box | RowError
    size: tuple[int, int] | None
    group: str
    split: Split | None


@dataclass
class _CsvReader:
    """Reads CSV files that are written alike; attributes as the arguments of `read_csv`."""

    reading: Reading
    header: bool
    delimiter: str
    columns: Columns
    box: str
    label_from: str
    _with_splits: set[str] = field(default_factory=set)

    def read_file(self, path: str, split: Split, images: str) -> bool:
        """Reads one file, whose images lie in the folder `images`; returns whether it has rows."""
        lines = Lines(files.read_text(path, what="CSV file"), self.delimiter)
        at, header = 0, []
        if self.header:
            first = next(lines.rows(), None)
            if first is None:
                self.reading.split(split)
                return False
            _, fields, at = first
            if isinstance(fields, RowError):
                raise DataError(f"CSV file {path}: the header {fields}; mend it.")
            header = fields
        layout = self._layout(path, header)
        if "split" in layout.places:
            # All rows of the file are read at its first mention: they name their splits themselves.
            if path in self._with_splits:
                return True
            self._with_splits.add(path)
        if "{label}" in images and "label" not in layout.places:
            raise DataError(
                f"{_KEY}.splits.{split}.images has {{label}}, but no column holds the label."
            )
        part = _Part(self, path, split, images, layout)
        self.reading.split(split)
        regular = lines.regular(layout.width, at)
        odd = list(lines.rows(at, but=regular))
        rows = np.flatnonzero(regular)
        if part.find_folder(lines, at) and len(rows) >= AT_ONCE:
            rows = rows[part.add_table(lines.content_of(regular), rows + 1)]
        odd += [row for line in rows.tolist() for row in lines.rows(line, line + 1)]
        odd.sort(key=lambda one: one[0])
        for row_number, fields, _ in odd:
            part.add_row(row_number, fields)
        part.put()
        return bool(odd) or bool(regular.any())

    def _layout(self, path: str, header: list[str]) -> "_Layout":
        """Where the rows of a file have what; DataError where a needed column is not there once."""
        label = ("label",) if self.label_from == "column" else ()
        given = self.columns.keys() if isinstance(self.columns, Mapping) else self.columns
        sides = ("bbox",) if "bbox" in given else BOX_COLUMNS[self.box]
        needed = ("file", *label, *sides)
        known = {"label", *needed, *_MORE_COLUMNS}
        if isinstance(self.columns, Mapping):
            key, names = "names", header
            places = {
                meaning: _place_in(header, name, meaning, path)
                for meaning, name in self.columns.items()
                if name is not None and meaning in known
            }
        else:
            key, names = "columns", list(self.columns)
            for name, count in Counter(names).items():
                if count > 1 and name in known:
                    raise DataError(f"{_KEY}.columns has {name} twice.")
            places = {name: index for index, name in enumerate(names) if name in known}
        missing = [name for name in needed if name not in places]
        if missing:
            raise DataError(
                f"{_KEY}.{key} lacks {', '.join(missing)}; needed are {', '.join(needed)}."
            )
        return _Layout(places, len(names), _listed(names), self.box)


@dataclass
class _Part:
    """The rows of one file while they are read."""

    reader: _CsvReader
    path: str
    split: Split
    images: str
    layout: "_Layout"
    folder_of_label: Callable[[str], str] | None = None
    parts: dict[Split, list[Annotated | Objects]] = field(default_factory=lambda: defaultdict(list))

    def find_folder(self, lines: Lines, at: int) -> bool:
        """Looks for the folder of the images by the first row that names one.

        Where its image is not there but beside the file, the folder of that is meant.
        """
        root, stem = self.reader.reading.root, splitext(basename(self.path))[0]
        pattern, own = self.images.replace("{stem}", stem), folder_of(self.path)

        def is_there(folder: str) -> bool:
            with suppress(RowError):
                return files.is_file(place(place(root, folder, root), row.file, root))
            return False

        for _, fields, _ in lines.rows(at):
            with suppress(RowError):
                row = self.layout.row(fields)
                if row.label or "{label}" not in self.images:
                    self.folder_of_label = cache(
                        lambda label: place(root, pattern.replace("{label}", label), root)
                    )
                    named = pattern.replace("{label}", row.label)
                    if not is_there(named) and is_there(below(root, own)):
                        self.folder_of_label = lambda _: own
                    return True
        return False

    def image(self, file: str, label: str) -> tuple[str, ImageRef]:
        """The name and the place of an image."""
        assert self.folder_of_label is not None
        folder = self.folder_of_label(label)
        self.reader.reading.folders[folder] = None
        name, path = self.reader.reading.finder.named(folder, file)
        return name, ImageRef(path)

    def label(self, label: str, file: str, image: ImageRef) -> str:
        """The class of an object that has the label in its row."""
        if self.reader.label_from == "column":
            return label
        return basename(dirname(file.replace("\\", "/")) or dirname(image.path))

    def add_table(self, content: bytes, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Adds the objects of rows without quotes; returns which have to be looked at one by one.

        `content` are whole lines with the right number of fields, and `rows` their numbers.
        """
        import pandas as pd

        table = self.layout.table(content, self.reader.delimiter)
        if table is None or not len(rows):
            return np.ones(len(rows), bool)
        texts, boxes = table
        plain = np.isfinite(boxes).all(axis=1)
        label, labels = texts.get("label", (np.zeros(len(rows), np.int8), [""]))
        if "label" in texts:
            plain &= np.array([not label_problem(one) for one in labels], bool)[label]
        if "{label}" not in self.images:
            texts.pop("label", None)
        (subject, _), *others = texts.values()
        for index, values in others:
            subject = pd.factorize(subject * len(values) + index)[0]
        first = pd.Series(subject).drop_duplicates().index.to_numpy()
        named_by = {
            name: [values[one] for one in index[first].tolist()]
            for name, (index, values) in texts.items()
        }
        count = len(named_by["file"])
        subjects, known = [Subject(ImageRef(""), "", self.path)] * count, np.zeros(count, bool)
        classes, of_split = [""] * count, [self.split] * count
        by_folder = self.reader.label_from == "folder"
        base, there, reading = "", frozenset[str](), self.reader.reading
        if "{label}" not in self.images and self.folder_of_label is not None:
            folder = self.folder_of_label("")
            base, there = reading.finder.plain(folder)
            reading.folders[folder] = None
        more = {name: values for name, values in named_by.items() if name != "file"}
        for own, file in enumerate(named_by["file"]):
            named = {name: values[own] for name, values in more.items()}
            try:
                size, of_split[own] = _size(named), _split(named) or self.split
                if file:
                    if file in there:  # As most are; `image` would say the same.
                        name, image = file, ImageRef(f"{base}/{file}")
                    else:
                        name, image = self.image(file, named.get("label", ""))
                    group, known[own] = named.get("group", ""), True
                    subjects[own] = Subject(image, name, self.path, size, group)
                    if by_folder:
                        classes[own] = self.label("", file, image)
            except RowError:
                continue
        plain &= known[subject]
        if by_folder:
            label, labels = subject, classes
        boxes = corners_of_all(boxes, self.reader.box)
        for split in dict.fromkeys(of_split):
            mine = plain & np.array([one == split for one in of_split], bool)[subject]
            columns = (one if mine.all() else one[mine] for one in (subject, label, boxes, rows))
            self.parts[split].append(Objects.of_columns(subjects, labels, *columns))
        return ~plain

    def add_row(self, number: int, fields: list[str] | RowError) -> None:
        """Adds the object or the empty image of a row, or what is wrong with it."""
        reading = self.reader.reading
        try:
            row = self.layout.row(fields)
        except RowError as error:
            reading.failed(self.path, number, error)
            return
        nothing = None
        if isinstance(row.box, RowError):
            nothing = reading.fault(self.path, number, str(row.box), row.box.kind)
        if "{label}" in self.images and not row.label:
            return
        try:
            name, image = self.image(row.file, row.label)
        except RowError as error:
            if nothing is None:
                reading.fault(self.path, number, f"column file: {error}", error.kind)
            return
        more, split = (row.size, row.group), row.split or self.split
        if nothing is not None:
            reading.empty.append(EmptyImage(split, image, name, nothing, row.label, *more))
        elif not isinstance(row.box, RowError):
            label = self.label(row.label, row.file, image)
            one = Annotated(image, name, label, row.box, self.path, number, *more)
            self.parts[split].append(one)

    def put(self) -> None:
        """Gives the reading all objects, in the order of their rows."""
        joined = [(split, Objects.joined(parts)) for split, parts in self.parts.items()]
        held = [(split, one) for split, one in joined if len(one)]
        for split, one in sorted(held, key=lambda item: item[1].rows.min()):
            in_order = (one.rows[1:] >= one.rows[:-1]).all()
            objects = one if in_order else one.take(np.argsort(one.rows, kind="stable"))
            self.reader.reading.split(split).append(objects)


def _place_in(header: list[str], name: str, meaning: str, path: str) -> int:
    if header.count(name) != 1:
        problem = "the header has twice" if name in header else "is not in the header"
        raise DataError(
            f"{path}: {_KEY}.names.{meaning} names the column {quoted(name)}, which {problem}; it "
            f"has {_listed(header)}."
        )
    return header.index(name)


def _listed(names: Sequence[str]) -> str:
    """Names of columns for a message, whatever a file may call them."""
    text = ",".join(names)
    text = "".join(sign if sign.isprintable() else "?" for sign in text[:_MOST_QUOTED])
    return text + "..." * (len(text) == _MOST_QUOTED)


class _Layout(NamedTuple):
    """Where a row has what: index, and number, of fields."""

    places: Mapping[str, int]
    width: int
    names: str
    box: str

    def table(
        self, content: bytes, delimiter: str
    ) -> tuple[dict[str, _Texts], npt.NDArray[np.float64]] | None:
        """Rows without quotes, by columns; None where they have to be read one by one.

        Returns:
            The columns of text, and the four numbers of the boxes, float64 (N, 4), not finite
            where a text is no number.
        """
        import pandas as pd

        columns = BOX_COLUMNS[self.box]
        if "bbox" in self.places or not content:
            return None
        places = sorted(self.places, key=self.places.__getitem__)
        texts = [name for name in places if name not in columns]
        try:
            # To say that a column is text takes longer than to let pandas find that out.
            for dtype in (None, {self.places[name]: str for name in texts}):
                table = pd.read_csv(
                    io.BytesIO(content),
                    sep=delimiter,
                    header=None,
                    usecols=[self.places[name] for name in places],
                    dtype=dtype,
                    keep_default_na=False,
                    na_values={self.places[name]: [""] for name in columns},
                    quoting=csv.QUOTE_NONE,
                    skip_blank_lines=False,
                    low_memory=False,
                ).set_axis(places, axis=1)
                if all(table[name].dtype.kind == "O" for name in texts):
                    break
        except ValueError:
            return None
        boxes = np.empty((len(table), _BOX))
        for side, name in enumerate(columns):
            own = table[name]
            if own.dtype.kind not in "iuf":
                own = pd.to_numeric(own.astype(str), errors="coerce")
            boxes[:, side] = own
        found = {name: pd.factorize(table[name].array) for name in texts}
        return {
            name: (index, [text.strip() for text in values.tolist()])
            for name, (index, values) in found.items()
        }, boxes

    def row(self, fields: Sequence[str] | RowError) -> _Row:
        """Reads the fields of a row, without blanks around them."""
        if isinstance(fields, RowError):
            raise fields
        if len(fields) != self.width:
            found = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            hint = _delimiter_hint(fields)
            raise RowError(f"has {found}, expected {self.width}: {self.names}{hint}", "columns")
        box: Box | RowError
        named = {name: fields[index] for name, index in self.places.items()}
        columns: Sequence[str] = BOX_COLUMNS[self.box]
        if text := named.get("bbox", ""):
            numbers = box_field(text)
            if numbers is None:
                raise RowError(f"column bbox: {quoted(text)} is not four numbers", "number")
            named |= dict(zip(columns, numbers, strict=True))
        elif "bbox" in named:
            columns = ("bbox",)
        file, label = named["file"], named.get("label", "")
        if not file:
            raise RowError("column file is empty", "columns")
        has_box = any(named[name] for name in columns)
        is_labelled = label or (has_box and "label" in named)
        if is_labelled and (problem := label_problem(label)):
            raise RowError(f"column label {problem}", "label")
        if has_box:
            box = corners(box_numbers((named[name] for name in columns), columns), self.box)
        elif label:
            box = RowError(f"column {columns[0]} is empty", "number")
        else:
            box = RowError(f"names no object in {quoted(file)}", "no_object")
        return _Row(file, label, box, _size(named), named.get("group", ""), _split(named))


def _delimiter_hint(fields: Sequence[str]) -> str:
    """A question where one field holds what looks like another delimiter."""
    for delimiter, name in ((";", "';'"), ("\t", "a tab"), ("|", "'|'")):
        if len(fields) == 1 and delimiter in fields[0]:
            return f"; is {_KEY}.delimiter {name}?"
    return ""


def box_field(text: str) -> list[str] | None:
    """The four numbers of a box in one field, as `[1, 2, 3, 4]`, `1 2 3 4`, `(1, 2), (3, 4)`."""
    parts = text.translate(_BETWEEN).split()
    is_box = len(parts) == _BOX and all(number(part) is not None for part in parts)
    return parts if is_box else None


def _size(named: Mapping[str, str]) -> tuple[int, int] | None:
    """The declared size; 0 or nothing in a column says that it is not known."""
    if "width" not in named and "height" not in named:
        return None
    sides = []
    for name in ("width", "height"):
        text = named.get(name, "")
        side = number(text) if text else 0.0
        if side is None or not 0 <= side <= LARGEST_SIDE or side != int(side):
            raise RowError(f"column {name}: {quoted(text)} is not a number of px", "number")
        sides.append(int(side))
    return (sides[0], sides[1]) if all(sides) else None


def _split(named: Mapping[str, str]) -> Split | None:
    text = named.get("split", "")
    if not text:
        return None
    if text.lower() not in (*SPLIT_NAMES, UNASSIGNED):
        raise RowError(f"column split: {quoted(text)} is not train, val or test", "split")
    return SPLIT_NAMES.get(text.lower())


def write_csv(job: Job) -> None:
    """Writes one CSV file and one image folder for each split.

    Labels are class names; boxes are fractions of the image side with as many digits as give
    the same float32 back, and nothing where there is no object.
    """
    grouped = any_group(job.splits)
    for split, records in job.splits.items():
        paths = {kind: job.folder / name for kind, name in CSV_FILES[split].items()}
        names = write_images(job, split, paths["images"], formats=(*COPIED, "GIF"))
        columns = (names, records.labels, records.boxes, records.empty, records.groups)
        rows = [
            [name, job.class_names[label], *box_cells(box, empty), *[group] * grouped]
            for name, label, box, empty, group in zip(*columns, strict=True)
            if name
        ]
        write_text(paths["csv"], csv_text(rows))


def csv_source(class_names: Sequence[str], splits: Mapping[Split, Records]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    columns = {"csv": {"columns": list(GROUPED_COLUMNS)}} if any_group(splits) else {}
    return {"format": "csv", "class_names": list(class_names), **columns}


def any_group(splits: Mapping[Split, Records]) -> bool:
    """Whether any record is in a group that a split must not part."""
    return any(records.groups.astype(bool).any() for records in splits.values())
