"""Reader of CSV and TSV data sets: one row for each object."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import basename, dirname

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
from loc_keras.data.readers.csv_columns import (
    NEEDED_COLUMNS,
    EmptyRowError,
    Layout,
    RawRow,
    layout_by_name,
    layout_by_position,
    parse_row,
)
from loc_keras.data.readers.csv_folders import ImageFolders
from loc_keras.data.readers.csv_lines import RowError, read_rows
from loc_keras.data.readers.parsing import (
    below,
    config_path,
    given_splits,
    place,
    require_root,
    shown,
)
from loc_keras.errors import DataError

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
    for number, parsed in rows:
        has_rows = True
        row: RawRow | None = None
        nothing = None
        if isinstance(parsed, RowError):
            nothing = Fault(path, number, str(parsed), parsed.kind)
            found.faults.append(nothing)
            row = parsed.row if isinstance(parsed, EmptyRowError) else None
        else:
            row = parsed
        if row is None or (nothing and "{label}" in images and not row.label):
            continue
        folders = folders or ImageFolders(root, path, images, row)
        try:
            image = place(folders.of(row), row.file, root)
        except files.OutsideError as fault:
            if nothing is None:
                found.faults.append(Fault(path, number, f"column file: {fault}", "outside"))
            continue
        if nothing is not None:
            facts = (nothing, row.label, row.size, row.group)
            found.empty.append(EmptyImage(row.split or split, ImageRef(image), row.file, *facts))
            continue
        label = row.label if form.label_from == "column" else basename(dirname(image))
        where = objects if row.split is None else found.objects.setdefault(row.split, [])
        where.append(
            Annotated(ImageRef(image), row.file, label, row.box, path, number, row.size, row.group)
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
    for number, fields in lines:
        if isinstance(fields, RowError):
            yield number, fields
            continue
        try:
            yield number, parse_row(fields, layout)
        except RowError as fault:
            yield number, fault
