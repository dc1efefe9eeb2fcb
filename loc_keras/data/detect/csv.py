"""Detection of CSV and TSV data sets: which files, which splits, and where the images are."""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loc_keras.config.data import BOX_COLUMNS
from loc_keras.data import files
from loc_keras.data.annotations import SPLITS
from loc_keras.data.formats.csv_file import read_rows
from loc_keras.data.formats.listing import (
    HEAD_BYTES,
    Guess,
    Listing,
    by_split,
    image_folders,
    is_image_in,
    matches_only,
)
from loc_keras.data.formats.parsing import RowError, is_image_name, number

Row = dict[str, str]

_DELIMITERS = (",", ";", "\t", "|")
_ENDINGS = (".csv", ".tsv", ".txt")
_MOST_FILES = 2_000
_MOST_TEXTS = 50  # A folder with more .txt files holds labels of single images, not tables.
_SAMPLED_FILES = 6
_SAMPLED_ROWS = 6
_MOST_ROWS = 400
_LEAST_FIELDS = 5
_BOX = 4
_MOSTLY = 0.9

# What tools call the columns, in small letters without signs; the first that is there counts.
_NAMES: dict[str, tuple[str, ...]] = {
    "file": (
        *("file", "filename", "filepath", "image", "imagename", "imagefile", "imagepath"),
        *("img", "imgname", "imgpath", "path", "imageid", "name"),
    ),
    "label": (
        *("label", "class", "classname", "labelname", "category", "categoryname", "species"),
        *("classid", "labelid", "categoryid", "target", "name"),
    ),
    "x1": ("x1", "xmin", "left", "x0", "bboxx1", "bboxxmin", "xtl", "xtopleft", "bboxx", "x"),
    "y1": ("y1", "ymin", "top", "y0", "bboxy1", "bboxymin", "ytl", "ytopleft", "bboxy", "y"),
    "x2": ("x2", "xmax", "right", "bboxx2", "bboxxmax", "xbr", "xbottomright"),
    "y2": ("y2", "ymax", "bottom", "bboxy2", "bboxymax", "ybr", "ybottomright"),
    "cx": ("cx", "xcenter", "centerx", "xcentre", "centrex"),
    "cy": ("cy", "ycenter", "centery", "ycentre", "centrey"),
    "w": ("w", "bboxwidth", "boxwidth", "bboxw", "width"),
    "h": ("h", "bboxheight", "boxheight", "bboxh", "height"),
    "width": ("imagewidth", "imgwidth", "imwidth", "imagew", "width"),
    "height": ("imageheight", "imgheight", "imheight", "imageh", "height"),
    "group": ("group", "groupid"),
    "split": ("split", "subset", "partition"),
}


@dataclass(frozen=True)
class Form:
    """How the rows of a file are written.

    Attributes:
        settings: Of the section `data.source.csv`, without `splits` and `units`.
        rows: Some rows, by meaning: `file`, `label`, those of the box, ...
        pixels: Whether the box is in px.
    """

    settings: dict[str, Any]
    rows: list[Row]
    pixels: bool


def detect_csv(listing: Listing) -> Iterator[Guess]:
    """Readings as CSV or TSV: the files that are written alike, most of them first."""
    forms: dict[str, tuple[dict[str, Any], bool, dict[str, Form]]] = {}
    for name in _tables(listing)[:_MOST_FILES]:
        whole = files.file_size(listing.path(name)) <= HEAD_BYTES
        form = csv_form(listing.head(name), whole=whole)
        if form is not None:
            key = repr((form.settings, form.pixels))
            forms.setdefault(key, (form.settings, form.pixels, {}))[2][name] = form
    for settings, pixels, found in sorted(forms.values(), key=lambda one: -len(one[2])):
        guess = _guess(listing, settings, pixels, found)
        if guess is not None:
            yield guess


def _tables(listing: Listing) -> list[str]:
    """Files that may be tables."""
    return [
        name
        for name in listing.files(*_ENDINGS)
        if not name.endswith(".txt")
        or len(listing.folders[posixpath.dirname(name)].names[".txt"]) <= _MOST_TEXTS
    ]


def _guess(
    listing: Listing, settings: dict[str, Any], pixels: bool, found: dict[str, Form]
) -> Guess | None:
    named_splits = "split" in settings.get("names", settings.get("columns", ()))
    groups = {"train": list(found)} if named_splits else by_split(found)
    splits: dict[str, dict[str, str] | None] = {}
    notes = []
    for split in SPLITS:
        if split not in groups:
            splits[split] = None
            continue
        names = groups[split]
        pattern = _pattern(listing, names)
        if pattern is None:
            notes.append(
                f"{len(names)} tables of {split} lie where no one pattern finds them, so only "
                f"{names[0]} is read"
            )
            names = names[:1]
            pattern = names[0]
        images = _images(listing, {name: found[name] for name in names})
        if images is None:
            return None
        splits[split] = {"csv": pattern, "images": images}
    options = {**settings, "splits": splits}
    if pixels:
        options["units"] = "pixel"
    why = f"{len(found)} {'table' if len(found) == 1 else 'tables'} with boxes: {next(iter(found))}"
    return Guess("csv", listing.root, options, why=why, notes=tuple(notes))


def _pattern(listing: Listing, names: Sequence[str]) -> str | None:
    """The name of a single file, or a pattern that fits several and no others."""
    if len(names) == 1:
        return names[0]
    folders = {posixpath.dirname(name) for name in names}
    parents = {posixpath.dirname(folder) for folder in folders}
    endings = {posixpath.splitext(name)[1] for name in names}
    if len(endings) > 1 or (len(folders) > 1 and len(parents) > 1):
        return None
    (ending,) = endings
    tried = [f"*{ending}"] if len(folders) == 1 else [f"*/*{ending}"]
    if len(folders) > 1 and len({posixpath.basename(name) for name in names}) == 1:
        tried.insert(0, f"*/{posixpath.basename(names[0])}")
    where = next(iter(folders if len(folders) == 1 else parents))
    patterns = [posixpath.join(where, one) for one in tried]
    return next((one for one in patterns if matches_only(listing, one, list(names))), None)


def _images(listing: Listing, tables: dict[str, Form]) -> str | None:
    """The folder that holds the images of some tables, perhaps by `{label}` or `{stem}`.

    A folder by label goes before one without: where each class has its folder, file names often
    repeat, so that the images of one class have the names of another.
    """
    samples = [
        (table, row.get("file", ""), row.get("label", ""))
        for table in _spread(list(tables), _SAMPLED_FILES)
        for row in _spread(tables[table].rows, _SAMPLED_ROWS)
    ]
    templates: dict[str, None] = {}
    for table, file, label in samples[:_SAMPLED_ROWS]:
        for folder in image_folders(listing, file, annotation=table):
            parent, last = posixpath.split(folder)
            for sign, value in (("{label}", label), ("{stem}", _stem(table))):
                if last and last == value and "{" not in parent:
                    templates[posixpath.join(parent, sign)] = None
            if "{" not in folder:
                templates[folder or "."] = None
    scores = {
        template: sum(
            is_image_in(
                listing,
                template.replace("{label}", label).replace("{stem}", _stem(table)),
                file,
            )
            for table, file, label in samples
        )
        for template in templates
    }
    best = max(scores.values(), default=0)
    if not best:
        return None
    # Nearly as good counts as good: single images may be missing.
    good = [template for template, score in scores.items() if score >= best * 0.8]
    by_class = [one for one in good if "{label}" in one] or [one for one in good if "{" in one]
    return (by_class or good)[0]


def _stem(table: str) -> str:
    return posixpath.splitext(posixpath.basename(table))[0]


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of some values, evenly spaced."""
    step = max(1, len(values) / most)
    return [values[int(place * step)] for place in range(min(most, len(values)))]


def csv_form(text: str, *, whole: bool) -> Form | None:
    """Tells how the rows of a text are written; None where they are not rows of boxes.

    Args:
        text: The beginning of a file.
        whole: Whether it is all of the file; else its last line is not looked at.
    """
    if not whole:
        text = text[: text.rfind("\n") + 1]
    for delimiter in _DELIMITERS:
        rows = _rows(text, delimiter)
        if not rows:
            continue
        form = _with_header(rows) or _without_header(rows)
        if form is not None:
            given = {} if delimiter == "," else {"delimiter": delimiter}
            return Form(given | form.settings, form.rows, form.pixels)
    return None


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The first rows, if nearly all have the same number of fields, and enough of them."""
    rows: list[list[str]] = []
    for _, fields in read_rows(text, delimiter):
        if not isinstance(fields, RowError):
            rows.append(fields)
        if len(rows) > _MOST_ROWS:
            break
    if not rows:
        return []
    count = len(rows[0])
    same = [row for row in rows if len(row) == count]
    return same if count >= _LEAST_FIELDS and len(same) >= _MOSTLY * len(rows) else []


def _with_header(rows: list[list[str]]) -> Form | None:
    header, *body = rows
    if any(number(name) is not None for name in header) or not body:
        return None
    bare = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    places: dict[str, int] = {}

    def look_up(*meanings: str) -> None:
        for meaning in meanings:
            names = [name for name in _NAMES[meaning] if bare.count(name) == 1]
            free = [bare.index(name) for name in names if bare.index(name) not in places.values()]
            if free:
                places[meaning] = free[0]

    def style_of(*styles: str) -> str | None:
        return next((style for style in styles if set(BOX_COLUMNS[style]) <= set(places)), None)

    look_up("cx", "cy", "x1", "y1", "x2", "y2")
    style = style_of("xyxy", "cxcywh")
    if style is None:
        # Widths are those of the box where its second corner is missing, else of the image.
        look_up("w", "h")
        style = style_of("cxcywh", "xywh")
    if style is None:
        return None
    places = {meaning: places[meaning] for meaning in BOX_COLUMNS[style]}
    look_up("file", "label", "width", "height", "group", "split")
    if "file" not in places:
        return None
    order = ("file", "label", *BOX_COLUMNS[style], "width", "height", "group", "split")
    settings: dict[str, Any] = {
        "header": True,
        "names": {meaning: header[places[meaning]] for meaning in order if meaning in places},
        "box": style,
    }
    return _form(settings, places, body)


def _without_header(rows: list[list[str]]) -> Form | None:
    count = len(rows[0])
    columns = [[row[place] for row in rows] for place in range(count)]
    file = next((p for p in range(count) if _share(is_image_name, columns[p]) >= _MOSTLY), None)
    if file is None:
        return None
    numeric = [p != file and _share(_is_number, columns[p]) >= _MOSTLY for p in range(count)]
    starts = _box_starts(numeric)
    for style, start in ((style, start) for style in ("xyxy", "xywh") for start in starts):
        box = list(range(start, start + _BOX))
        label = _label_place(numeric, file, box)
        boxes = [[float(row[p]) for p in box] for row in rows if _all_numbers(row, box)]
        if not _fits(boxes, style) or (len(starts) > 1 and _holds_a_class(boxes)):
            continue
        places = {"file": file, **dict(zip(BOX_COLUMNS[style], box, strict=True))}
        if label is not None:
            places["label"] = label
        meanings = {place: meaning for meaning, place in places.items()}
        settings: dict[str, Any] = {
            "columns": [meanings.get(p, f"other{p + 1}") for p in range(count)],
            "box": style,
        }
        return _form(settings, places, rows)
    return None


def _box_starts(numeric: Sequence[bool]) -> list[int]:
    """Places at which four columns of numbers may be the box, the likeliest first.

    A run of just four goes first; of a longer one, its last four, as the class stands more often
    before the box than behind it.
    """
    runs, start = [], None
    for place, is_numeric in enumerate([*numeric, False]):
        if is_numeric and start is None:
            start = place
        elif not is_numeric and start is not None:
            runs.append((start, place - start))
            start = None
    starts = [first for first, length in runs if length == _BOX]
    for first, length in runs:
        starts += range(first + length - _BOX, first - 1, -1) if length > _BOX else ()
    return starts


def _label_place(numeric: Sequence[bool], file: int, box: Sequence[int]) -> int | None:
    """The column of the class: text before numbers, near to the file's name and to the box."""
    others = [place for place in range(len(numeric)) if place != file and place not in box]
    near = [file + 1, box[0] - 1, box[-1] + 1]
    for wanted in (False, True):
        kind = [place for place in others if numeric[place] == wanted]
        beside = [place for place in near if place in kind]
        if beside or (kind and not wanted):
            return (beside or kind)[0]
    return None


def _fits(boxes: Sequence[Sequence[float]], style: str) -> bool:
    """Whether numbers can be two corners (`"xyxy"`), or a corner and a size (`"xywh"`)."""
    if style == "xyxy":
        good = sum(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in boxes)
    else:
        good = sum(width > 0 and height > 0 for _, _, width, height in boxes)
    return good > 0 and good >= _MOSTLY * len(boxes)


def _holds_a_class(boxes: Sequence[Sequence[float]]) -> bool:
    """Whether one column counts up while others stay fractions, as a class beside a box does."""
    largest = [max(column) for column in zip(*boxes, strict=True)]
    return min(largest) <= 1 and max(largest) > 1


def _form(settings: dict[str, Any], places: dict[str, int], rows: list[list[str]]) -> Form:
    if "label" not in places:
        settings["label_from"] = "folder"
    named = [{meaning: row[place] for meaning, place in places.items()} for row in rows]
    box = BOX_COLUMNS[settings["box"]]
    sides = [[value for name in box if (value := number(row[name])) is not None] for row in named]
    beyond = sum(max(values) > 2 for values in sides if values)  # A box may jut out a little.
    if settings["box"] == "xyxy":
        settings = {key: value for key, value in settings.items() if key != "box"}
    return Form(settings, named, beyond * 2 > len(named))


def _share(test: Any, values: Sequence[str]) -> float:
    return sum(map(bool, map(test, values))) / len(values)


def _is_number(text: str) -> bool:
    return number(text) is not None


def _all_numbers(row: Sequence[str], places: Sequence[int]) -> bool:
    return all(_is_number(row[place]) for place in places)
