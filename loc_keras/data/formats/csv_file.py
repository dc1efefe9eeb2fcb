"""Reader of CSV and TSV data sets: one row for each object."""

import csv
import io
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import basename, dirname, splitext
from typing import Any, NamedTuple

import numpy as np

from loc_keras.atomic_file import write_text
from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    Fault,
    ImageRef,
    Split,
    Units,
)
from loc_keras.data.formats.parsing import (
    below,
    config_path,
    folder_of,
    given_splits,
    label_problem,
    number,
    place,
    require_root,
    shown,
)
from loc_keras.data.formats.writing import Job, record_stems, write_images
from loc_keras.data.records import Records
from loc_keras.errors import DataError

LONGEST_ROW = 65_536
"""Characters of the longest row that is read."""

_MOST_LINES = 8  # Of a row whose quoted fields hold line breaks.


class RowError(Exception):
    """Why one row cannot be used, and the kind of fault that this is.

    Attributes:
        kind: As in `annotations.Fault`.
        row: What a row without a box says otherwise, with zeros for the box; else None.
    """

    def __init__(self, reason: str, kind: str, row: "RawRow | None" = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.row = row


def read_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | RowError]]:
    """Cuts a CSV text into rows and these into fields, as RFC 4180 says.

    Blank lines are left out. A quoted field may hold line breaks, but a quote that stays open is
    the fault of its line alone and does not swallow those after it.

    Args:
        text: Whole text; lines may end in CR, LF or both.
        delimiter: One character.

    Yields:
        The number of the row's first line, from 1, and its fields without blanks around them,
        or why it has none.
    """
    lines = enumerate(io.StringIO(text, newline=None), 1)
    ahead: deque[tuple[int, str]] = deque()
    while True:
        start = ahead.popleft() if ahead else next(lines, None)
        if start is None:
            return
        line_number, line = start
        if not line.strip():
            continue
        try:
            if '"' not in line:
                _check_length(line)
                fields = line.split(delimiter)
            else:
                fields = _quoted_fields(line, delimiter, lines, ahead)
        except RowError as fault:
            yield line_number, fault
        else:
            yield line_number, [field.strip() for field in fields]


def _quoted_fields(
    line: str,
    delimiter: str,
    lines: Iterator[tuple[int, str]],
    ahead: deque[tuple[int, str]],
) -> list[str]:
    """Fields of a row with quotes; takes the lines it goes on in, or leaves them in `ahead`."""
    row, taken = line, 0
    while row.count('"') % 2:
        if taken == len(ahead):
            following = next(lines, None)
            if following is not None:
                ahead.append(following)
        if taken == min(len(ahead), _MOST_LINES) or len(row) > LONGEST_ROW:
            raise RowError("has a quote that is not closed", "syntax")
        row += ahead[taken][1]
        taken += 1
    try:
        _check_length(row)
        fields = _split_quoted(row, delimiter)
    except RowError:
        if taken:
            raise RowError("has a quote that is not closed", "syntax") from None
        raise
    for _ in range(taken):
        ahead.popleft()
    return fields


def _split_quoted(row: str, delimiter: str) -> list[str]:
    # Blanks before a quote are skipped, unless they are what parts the fields.
    reader = csv.reader([row], delimiter=delimiter, strict=True, skipinitialspace=delimiter != " ")
    try:
        return next(reader)
    except (csv.Error, StopIteration):
        raise RowError("has a stray quote", "syntax") from None


def _check_length(row: str) -> None:
    if len(row) > LONGEST_ROW:
        raise RowError(f"is longer than {LONGEST_ROW:,} characters", "syntax")


Box = tuple[float, float, float, float]

NEEDED_COLUMNS = ("file", "label", "x1", "y1", "x2", "y2")

BOX_COLUMNS: dict[str, tuple[str, str, str, str]] = {
    "xyxy": ("x1", "y1", "x2", "y2"),
    "xywh": ("x1", "y1", "w", "h"),
    "cxcywh": ("cx", "cy", "w", "h"),
}
"""Columns of each way to write a box: two corners, corner and size, centre and size."""

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What the column `split` may say, in large or small letters."""

_NO_BOX = (0.0, 0.0, 0.0, 0.0)
_MORE_COLUMNS = ("width", "height", "group", "split")
_LARGEST_SIDE = 10**9
_MOST_SHOWN = 200


@dataclass(frozen=True)
class Layout:
    """Where a row has what.

    Attributes:
        places: Index of the field of each column that is read.
        count: Fields of a row.
        names: All columns in order, as messages show them.
        box: Key of `BOX_COLUMNS`.
    """

    places: Mapping[str, int]
    count: int
    names: str
    box: str


class RawRow(NamedTuple):
    """The fields of one row.

    Attributes:
        file: Name of the image file.
        label: Class as written; `""` where no column holds it.
        box: (x1, y1, x2, y2) in the units of the file.
        size: (width, height) in px that the row declares, or None.
        group: Group as written, or `""`.
        split: Split that the row names, or None.
    """

    file: str
    label: str
    box: Box
    size: tuple[int, int] | None
    group: str
    split: Split | None


def layout_by_position(columns: Sequence[str], box: str, label_from: str) -> Layout:
    """The layout of rows whose columns are known by their order.

    Args:
        columns: Meaning of each column; those of unknown names are not read.
        box: Key of `BOX_COLUMNS`.
        label_from: `"column"` or `"folder"`.

    Raises:
        DataError: If a needed column is missing or one stands twice.
    """
    known = _known(box)
    twice = [name for name, count in Counter(columns).items() if count > 1 and name in known]
    if twice:
        raise DataError(f"data.source.csv.columns has {twice[0]} twice.")
    places = {name: index for index, name in enumerate(columns) if name in known}
    _require(places, box, label_from, "columns")
    return Layout(places, len(columns), _listed(columns), box)


def layout_by_name(
    columns: Mapping[str, str | None], header: Sequence[str], file: str, box: str, label_from: str
) -> Layout:
    """The layout of rows below a header.

    Args:
        columns: Name in the header of each meaning; None where the file has no such column.
        header: Fields of the header.
        file: The CSV file, for messages.
        box: Key of `BOX_COLUMNS`.
        label_from: `"column"` or `"folder"`.

    Raises:
        DataError: If a needed column is not named, or a name is missing in the header or stands
            there twice.
    """
    known = _known(box)
    places = {}
    for meaning, name in columns.items():
        if name is None or meaning not in known:
            continue
        if header.count(name) != 1:
            problem = "the header has twice" if name in header else "is not in the header"
            raise DataError(
                f"{file}: data.source.csv.names.{meaning} names the column {shown(name)}, which "
                f"{problem}; it has {_listed(header)}."
            )
        places[meaning] = header.index(name)
    _require(places, box, label_from, "names")
    return Layout(places, len(header), _listed(header), box)


def parse_row(fields: Sequence[str], layout: Layout) -> RawRow:
    """Reads the fields of a row.

    Args:
        fields: In order, without blanks around them.
        layout: What they mean.

    Raises:
        RowError: If their number is wrong, one that is needed is empty, a number is none or the
            split is unknown. It holds the row where only the box is empty, so that its image may
            show no object.
    """
    if len(fields) != layout.count:
        found = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
        hint = _delimiter_hint(fields)
        raise RowError(f"has {found}, expected {layout.count}: {layout.names}{hint}", "columns")
    named = {name: fields[index] for name, index in layout.places.items()}
    box_columns = BOX_COLUMNS[layout.box]
    if not named["file"]:
        raise RowError("column file is empty", "columns")
    label = named.get("label", "")
    if not any(named[name] for name in box_columns):
        row = RawRow(
            named["file"], label, _NO_BOX, _size(named), named.get("group", ""), _split(named)
        )
        if not label:
            raise RowError(f"names no object in {shown(named['file'])}", "no_object", row)
        if not label_problem(label):
            raise RowError(f"column {box_columns[0]} is empty", "number", row)
    if "label" in named and (problem := label_problem(label)):
        raise RowError(f"column label {problem}", "label")
    first, second, third, fourth = (_number(name, named[name]) for name in box_columns)
    box = corners((first, second, third, fourth), layout.box)
    return RawRow(named["file"], label, box, _size(named), named.get("group", ""), _split(named))


def _delimiter_hint(fields: Sequence[str]) -> str:
    """A question where one field holds what looks like another delimiter."""
    for delimiter, name in ((";", "';'"), ("\t", "a tab"), ("|", "'|'")):
        if len(fields) == 1 and delimiter in fields[0]:
            return f"; is data.source.csv.delimiter {name}?"
    return ""


def corners(box: Box, style: str) -> Box:
    """(x1, y1, x2, y2) of a box written in a style of `BOX_COLUMNS`.

    Numbers that are not finite stay so, without an error.
    """
    first, second, third, fourth = box
    if style == "xyxy":
        return box
    if style == "xywh":
        return first, second, first + third, second + fourth
    return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2


def _listed(names: Sequence[str]) -> str:
    """Names of columns for a message, whatever a file may call them."""
    text = ",".join(names)
    text = "".join(sign if sign.isprintable() else "?" for sign in text[:_MOST_SHOWN])
    return text + "..." * (len(text) == _MOST_SHOWN)


def _known(box: str) -> frozenset[str]:
    if box not in BOX_COLUMNS:
        raise DataError(
            f"data.source.csv.box is {shown(box)}; it must be one of {', '.join(BOX_COLUMNS)}."
        )
    return frozenset(("file", "label", *BOX_COLUMNS[box], *_MORE_COLUMNS))


def _require(places: Mapping[str, int], box: str, label_from: str, key: str) -> None:
    label = ("label",) if label_from == "column" else ()
    needed = ("file", *label, *BOX_COLUMNS[box])
    missing = [name for name in needed if name not in places]
    if missing:
        raise DataError(
            f"data.source.csv.{key} lacks {', '.join(missing)}; needed are {', '.join(needed)}."
        )


def _number(name: str, text: str) -> float:
    value = number(text)
    if value is None:
        problem = f": {shown(text)} is not a number" if text else " is empty"
        raise RowError(f"column {name}{problem}", "number")
    return value


def _size(named: Mapping[str, str]) -> tuple[int, int] | None:
    """The declared size; 0 or nothing in a column says that it is not known."""
    sides = []
    for name in ("width", "height"):
        text = named.get(name, "")
        side = number(text) if text else 0.0
        if side is None or not 0 <= side <= _LARGEST_SIDE or side != int(side):
            raise RowError(f"column {name}: {shown(text)} is not a number of px", "number")
        sides.append(int(side))
    return (sides[0], sides[1]) if all(sides) else None


def _split(named: Mapping[str, str]) -> Split | None:
    text = named.get("split", "")
    if not text:
        return None
    split = SPLIT_NAMES.get(text.lower())
    if split is None:
        raise RowError(f"column split: {shown(text)} is not train, val or test", "split")
    return split


class ImageFolders:
    """Image folders of one CSV file.

    Args:
        root: Folder of the data set.
        path: The CSV file.
        images: Folder as the config names it, with `{label}` and `{stem}`.
        first: The file's first row: its image tells whether the folder of the CSV file is meant.

    Attributes:
        used: The folders that rows have asked for, as keys.
    """

    def __init__(self, root: str, path: str, images: str, first: RawRow) -> None:
        """Finds out which folder counts; see the class."""
        self._root = root
        self._pattern = images.replace("{stem}", splitext(basename(path))[0])
        self._by_label: dict[str, str] = {}
        self._fixed: str | None = None
        self.used: dict[str, None] = {}
        beside = folder_of(path)
        if not self._has(first) and _is_there(beside, first, root):
            self._fixed = beside
            self.used = {beside: None}

    def _has(self, row: RawRow) -> bool:
        try:
            return _is_there(self.of(row), row, self._root)
        except files.OutsideError:
            return False

    def of(self, row: RawRow) -> str:
        """The folder of a row's image; raises OutsideError if its label leads out."""
        if self._fixed is not None:
            return self._fixed
        label = row.label if "{label}" in self._pattern else ""
        if label not in self._by_label:
            folder = place(self._root, self._pattern.replace("{label}", label), self._root)
            self._by_label[label] = folder
            self.used[folder] = None
        return self._by_label[label]


def _is_there(folder: str, row: RawRow, root: str) -> bool:
    try:
        return files.is_file(place(folder, row.file, root))
    except files.OutsideError:
        return False


PUBLISHED_FILES: dict[str, dict[str, str]] = {
    "train": {"csv": "training_data.csv", "images": "training_images"},
    "val": {"csv": "validation_data.csv", "images": "validation_images"},
    "test": {"csv": "test_data.csv", "images": "test_images"},
}
"""CSV file and image folder of each split in the published layout."""

_KEY = "data.source.csv"

Columns = Sequence[str] | Mapping[str, str | None]


def read_csv(
    root: str,
    *,
    splits: Mapping[str, Mapping[str, str] | None] | None = None,
    header: bool = False,
    delimiter: str = ",",
    columns: Columns = NEEDED_COLUMNS,
    box: str = "xyxy",
    units: Units = "fraction",
    label_from: str = "column",
) -> Annotations:
    """Reads a folder with CSV files of one object a row.

    In the simplest form, with fractions of the image side::

        0001.png,cat,0.10,0.25,0.80,0.95
        0002.png,dog,0.00,0.13,0.52,0.77

    Text is UTF-8 or, with a byte order mark, UTF-16. Lines may end in CR, LF or both, blank ones
    do not count, and fields may be quoted as RFC 4180 says.

    Args:
        root: The folder, on any filesystem that TensorFlow opens.
        splits: `{"train" | "val" | "test": {"csv": file or pattern, "images": folder}}`, relative
            to `root`. In `images`, `{label}` stands for the label of the row and `{stem}` for
            the CSV file's name without ending; where the first row's image is not there but
            beside the CSV file, that folder is used. None is `PUBLISHED_FILES`, whose validation
            and test files may be missing.
        header: Whether the first line holds names.
        delimiter: The character between two fields.
        columns: Meaning of the columns by position, those of unknown names not being read, or
            `{meaning: name in the header}`. Meanings are `file`, `label`, those of the box,
            `width` and `height` of the image in px, `group`, and `split` (train, val or test),
            which goes before the split that the file stands for.
        box: `"xyxy"` for the columns x1 y1 x2 y2, `"xywh"` for x1 y1 w h, or `"cxcywh"` for
            cx cy w h, the centre and the size.
        units: `"fraction"` of the image side, or `"pixel"`.
        label_from: `"column"`, or `"folder"`: the name of the folder that holds the image.

    Returns:
        The rows in the order of the files; row numbers are line numbers.

    Raises:
        DataError: If a file is missing, has no rows or is not text, or an option is wrong.
    """
    require_root(root)
    _check_options(header, delimiter, columns, units, label_from)
    form = _Form(header, delimiter, columns, box, label_from)
    found = _Found()
    given = PUBLISHED_FILES if splits is None else splits
    for split, entry in given_splits(given, f"{_KEY}.splits"):
        key = f"{_KEY}.splits.{split}"
        paths = _csv_files(root, split, entry["csv"])
        config_path(
            root, entry["images"].replace("{label}", "x").replace("{stem}", "x"), f"{key}.images"
        )
        filled = [_read_file(root, path, split, entry["images"], form, found) for path in paths]
        if paths and not any(filled):
            raise DataError(
                f"{paths[0]} has no rows: expected one row per image, {_expected(columns)}."
            )
        found.faults += [
            Fault(path, 0, "has no rows", "empty_file")
            for path, has_rows in zip(paths, filled, strict=True)
            if not has_rows
        ]
    return Annotations(
        found.objects, units, found.faults, folders=list(found.folders), empty=found.empty
    )


@dataclass(frozen=True)
class _Form:
    """How rows are written."""

    header: bool
    delimiter: str
    columns: Columns
    box: str
    label_from: str


@dataclass
class _Found:
    """What has been read so far."""

    objects: dict[Split, list[Annotated]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    empty: list[EmptyImage] = field(default_factory=list)
    folders: dict[str, None] = field(default_factory=dict)
    files_with_splits: set[str] = field(default_factory=set)


def _check_options(
    header: bool, delimiter: str, columns: Columns, units: str, label_from: str
) -> None:
    if (
        len(delimiter) != 1
        or delimiter == '"'
        or not (delimiter.isprintable() or delimiter == "\t")
    ):
        raise DataError(
            f"{_KEY}.delimiter is {shown(delimiter)}; it must be one character, such as , ; or tab."
        )
    if isinstance(columns, Mapping) and not header:
        raise DataError(f"{_KEY}.names looks columns up in the header: set {_KEY}.header to true.")
    for name, value, known in (
        ("units", units, ("fraction", "pixel")),
        ("label_from", label_from, ("column", "folder")),
    ):
        if value not in known:
            raise DataError(f"{_KEY}.{name} is {shown(value)}; it must be {' or '.join(known)}.")


def _expected(columns: Columns) -> str:
    names = columns.values() if isinstance(columns, Mapping) else columns
    return ",".join(name for name in names if name is not None)


def _csv_files(root: str, split: str, name: str) -> list[str]:
    """The files of a split; none where it may be left out and is."""
    key = f"{_KEY}.splits.{split}.csv"
    path = config_path(root, name, key)
    if files.is_file(path):
        return [path]
    if any(sign in name for sign in "*?["):
        try:
            found = files.matching(root, name)
        except files.OutsideError as error:
            raise DataError(f"{key}: {error}.") from error
        if found:
            return [config_path(root, below(root, one), key) for one in found]
        raise DataError(f"no CSV file below {root} matches {shown(name)}: mend {key}.")
    if split == "train":
        raise DataError(f"CSV file {path} does not exist: mend {key}.")
    if name != PUBLISHED_FILES[split]["csv"]:
        raise DataError(
            f"CSV file {path} does not exist: mend {key}, or leave it out to cut the split off "
            "the training file."
        )
    return []


def _read_file(root: str, path: str, split: Split, images: str, form: _Form, found: _Found) -> bool:
    """Reads one CSV file; returns whether it has rows."""
    layout, rows = _rows(path, form)
    if "split" in layout.places:
        # All rows of the file are read at its first mention: they name their splits themselves.
        if path in found.files_with_splits:
            return True
        found.files_with_splits.add(path)
    if "{label}" in images and layout.places and "label" not in layout.places:
        raise DataError(
            f"{_KEY}.splits.{split}.images has {{label}}, but no column holds the label."
        )
    objects = found.objects.setdefault(split, [])
    folders: ImageFolders | None = None
    has_rows = False
    for row_number, parsed in rows:
        has_rows = True
        row: RawRow | None = None
        nothing = None
        if isinstance(parsed, RowError):
            nothing = Fault(path, row_number, str(parsed), parsed.kind)
            found.faults.append(nothing)
            row = parsed.row
        else:
            row = parsed
        if row is None or (nothing and "{label}" in images and not row.label):
            continue
        folders = folders or ImageFolders(root, path, images, row)
        try:
            image = place(folders.of(row), row.file, root)
        except files.OutsideError as fault:
            if nothing is None:
                found.faults.append(Fault(path, row_number, f"column file: {fault}", "outside"))
            continue
        if nothing is not None:
            facts = (nothing, row.label, row.size, row.group)
            found.empty.append(EmptyImage(row.split or split, ImageRef(image), row.file, *facts))
            continue
        label = row.label if form.label_from == "column" else basename(dirname(image))
        where = objects if row.split is None else found.objects.setdefault(row.split, [])
        where.append(
            Annotated(
                ImageRef(image), row.file, label, row.box, path, row_number, row.size, row.group
            )
        )
    if folders is not None:
        found.folders |= folders.used
    return has_rows


def _rows(path: str, form: _Form) -> tuple[Layout, Iterator[tuple[int, RawRow | RowError]]]:
    """The layout of a file, and its rows or what is wrong with them."""
    lines = read_rows(files.read_text(path, what="CSV file"), form.delimiter)
    header: list[str] = []
    if form.header:
        _, first = next(lines, (0, None))
        if first is None:
            return Layout({}, 0, "", form.box), iter(())
        if isinstance(first, RowError):
            raise DataError(f"CSV file {path}: the header {first}; mend it.")
        header = first
    if isinstance(form.columns, Mapping):
        layout = layout_by_name(form.columns, header, path, form.box, form.label_from)
    else:
        layout = layout_by_position(form.columns, form.box, form.label_from)
    return layout, _parsed(lines, layout)


def _parsed(
    lines: Iterator[tuple[int, list[str] | RowError]], layout: Layout
) -> Iterator[tuple[int, RawRow | RowError]]:
    for row_number, fields in lines:
        if isinstance(fields, RowError):
            yield row_number, fields
            continue
        try:
            yield row_number, parse_row(fields, layout)
        except RowError as fault:
            yield row_number, fault


FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")

GROUPED_COLUMNS = (*NEEDED_COLUMNS, "group")
"""Columns where there are groups, as `data.source.csv.columns` names them."""


def write_csv(job: Job) -> dict[Split, int]:
    """Writes one CSV file and one image folder for each split; returns the images of each.

    Labels are class names; boxes are fractions of the image side with as many digits as give
    the same float32 back, and nothing where there is no object.
    """
    counts: dict[Split, int] = {}
    stems = record_stems(job.splits)
    grouped = any_group(job.splits)
    for split, records in job.splits.items():
        files = PUBLISHED_FILES[split]
        names = write_images(job, split, job.folder / files["images"], stems[split], FORMATS)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        columns = (names, records.labels, records.boxes, records.empty, records.groups)
        for name, label, box, empty, group in zip(*columns, strict=True):
            if name:
                sides = [""] * len(box) if empty else map(_shortest, box)
                more = [group] if grouped else []
                writer.writerow([name, job.class_names[label], *sides, *more])
        write_text(job.folder / files["csv"], text.getvalue())
        counts[split] = sum(map(bool, names))
    return counts


def csv_source(class_names: Sequence[str], splits: Mapping[Split, Records]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    columns = {"csv": {"columns": list(GROUPED_COLUMNS)}} if any_group(splits) else {}
    return {"format": "csv", "class_names": list(class_names), **columns}


def any_group(splits: Mapping[Split, Records]) -> bool:
    """Whether any record is in a group that a split must not part."""
    return any(records.groups.astype(bool).any() for records in splits.values())


def _shortest(value: np.float32) -> str:
    """The shortest decimal that reads back as the same float32."""
    return np.format_float_positional(np.float32(value), unique=True, trim="0")
