"""How the rows of one CSV or TSV file are written, told from its header and its fields."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, NamedTuple

from loc_keras.config.data import BOX_COLUMNS
from loc_keras.data.formats.csv_file import UNASSIGNED, Lines, box_field
from loc_keras.data.formats.parsing import SPLIT_NAMES, RowError, is_image_name, number, quoted

Row = dict[str, str]

_DELIMITERS = (",", ";", "\t", "|")
_MOST_ROWS = 400
_LEAST_FIELDS = 5
_LEAST_WITH_BOX = 2  # Where one field holds the whole box.
_FOUR_CORNERS = ((0, 6), (1, 3), (2, 4), (5, 7))  # Numbers that are equal where all are written.
_BOX = 4
_MOSTLY = 0.9
_HALF = 0.5
_OUTSIDE = 2.0  # A box in fractions may jut out of the picture, but not as far.

# What tools call the columns, in small letters without signs; the first that is there counts.
_NAMES: dict[str, tuple[str, ...]] = {
    "file": (
        *("file", "filename", "filepath", "image", "imagename", "imagefile", "imagepath"),
        *("img", "imgname", "imgpath", "path", "imageid", "imgfilename", "imagefilename"),
        *("imageuri", "imageurl", "uri", "url", "photo", "picture", "fname", "name"),
        *("images", "filenames", "imgid", "frame"),
    ),
    "label": (
        *("label", "class", "classname", "labelname", "category", "categoryname", "species"),
        *("labels", "classes", "classlabel", "catname", "cls", "tag", "breed", "type", "object"),
        *("objectname", "objectclass", "displayname"),
        *("classid", "labelid", "categoryid", "catid", "target", "name"),
    ),
    "x1": (
        *("x1", "xmin", "left", "x0", "xtl", "xtopleft", "topleftx", "minx", "leftx", "xleft"),
        *("startx", "xstart", "mincol", "colmin", "minc", "ulx", "tlx", "x"),
    ),
    "y1": (
        *("y1", "ymin", "top", "y0", "ytl", "ytopleft", "toplefty", "miny", "topy", "ytop"),
        *("starty", "ystart", "minrow", "rowmin", "minr", "uly", "tly", "y"),
    ),
    "x2": (
        *("x2", "xmax", "right", "xbr", "xbottomright", "bottomrightx", "maxx", "rightx"),
        *("xright", "endx", "xend", "maxcol", "colmax", "maxc", "lrx", "brx"),
    ),
    "y2": (
        *("y2", "ymax", "bottom", "ybr", "ybottomright", "bottomrighty", "maxy", "bottomy"),
        *("ybottom", "endy", "yend", "maxrow", "rowmax", "maxr", "lry", "bry"),
    ),
    "cx": ("cx", "xcenter", "centerx", "xcentre", "centrex", "xc", "xmid", "midx", "centroidx"),
    "cy": ("cy", "ycenter", "centery", "ycentre", "centrey", "yc", "ymid", "midy", "centroidy"),
    "w": ("w", "width"),
    "h": ("h", "height"),
    "width": ("imagewidth", "imgwidth", "imwidth", "imagew", "width"),
    "height": ("imageheight", "imgheight", "imheight", "imageh", "height"),
    "group": ("group", "groupid"),
    "split": ("split", "subset", "partition", "set", "dataset", "datasplit", "usage", "phase"),
}
_OF_A_BOX = re.compile("^(?:ann)?(?:bbox|bndbox|boundingbox|box|rect|roi)(?=.)")
_IN_ORDER = ("0", "1", "2", "3")
_FROM_ZERO = {"x0": "x1", "y0": "y1", "x1": "x2", "y1": "y2"}
ANY_STYLE = ("xyxy", "xywh", "cxcywh")  # Kinds of box that four numbers without names may be.
_NAME_THEM = "rename its columns, or name them by data.source.csv.names in a config"


class Doubt(NamedTuple):
    """Why a file looks like a table of boxes, "but", and is not read as one.

    It is `sure` where it can hardly be anything else.
    """

    why: str
    sure: bool = True


@dataclass(frozen=True)
class Form:
    """How the rows of a file are written.

    Attributes:
        settings: Of the section `data.source.csv`, without `splits` and `units`.
        rows: Some rows, by meaning: `file`, `label`, those of the box, ...
        pixels: Whether the box is in px.
        question: What the fields leave open, as a sentence that names the setting, or `""`.
        answers: Keys of the config of which one answers the question.
        note: What was decided by the fields, as a sentence, or `""`.
        styles: Kinds of box that the four numbers may be, the likeliest first; none where decided.
    """

    settings: dict[str, Any]
    rows: list[Row]
    pixels: bool
    question: str = ""
    answers: tuple[str, ...] = ()
    note: str = ""
    styles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A text cut into fields: the first row if it holds no number, and those of the usual length.

    `odd` rows have more fields or fewer; where it is `titled`, a line stands above the header.
    """

    delimiter: str
    header: list[str] | None
    rows: list[list[str]]
    odd: int = 0
    titled: bool = False

    @property
    def layout(self) -> tuple[str, tuple[str, ...], int]:
        """What tables that are written alike have in common."""
        header = tuple(self.header or ())
        return self.delimiter, header, len(self.rows[0]) if self.rows else len(header)

    @property
    def flaw(self) -> str:
        """Why it cannot be read as a table, as `Doubt.why`; `""` where it can."""
        total = self.odd + len(self.rows)
        if self.titled:
            return "a line stands above its header; remove that"
        if not self.rows:
            return "it has a header and no rows"
        if self.odd > (1 - _MOSTLY) * total:
            return f"{self.odd} of {total} rows have not {len(self.rows[0])} fields; mend them"
        return ""


def cut(text: str, *, whole: bool, most: int | None = _MOST_ROWS) -> Table | Doubt | None:
    """Cuts a text by the first delimiter that gives most rows as many fields and enough numbers.

    Its last line is looked at where it is the whole text, and at most so many rows are.
    """
    if not whole:
        text = text[: text.rfind("\n") + 1]
    found: Table | Doubt | None = None
    for delimiter in _DELIMITERS:
        cells = islice(Lines(text, delimiter).rows(), most)
        rows = [[] if isinstance(fields, RowError) else fields for _, fields, _ in cells]
        width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
        if width < _LEAST_WITH_BOX or count < _HALF * len(rows):
            continue
        same = [row for row in rows if len(row) == width]
        told = (_is_number, box_field, is_image_name)
        header = None if any(test(text) for text in same[0] for test in told) else same[0]
        body = same if header is None else same[1:]
        # Images without an object have little else than their names.
        filled = [sum(map(bool, row)) for row in body]
        body = [row for row, count in zip(body, filled, strict=True) if 2 * count > max(filled)]
        columns = list(zip(*body, strict=True))
        whole = sum(_share(box_field, one) >= _HALF for one in columns) == 1
        if whole and not any(
            _share(is_image_name, one) >= _HALF or _is_text(one) for one in columns
        ):
            continue
        numbers = width >= _LEAST_FIELDS and _numbers(columns) >= _BOX
        if whole or numbers or (header and not body and _places(header)):
            titled = header is not None and rows[0] is not header
            return Table(delimiter, header, body, len(rows) - count, titled)
        if (
            width >= _LEAST_FIELDS
            and _numbers([[text.replace(",", ".") for text in one] for one in columns]) >= _BOX
        ):
            found = found or Doubt("its numbers have a decimal comma; write points")
        elif header and any(_OF_A_BOX.match(f"{name}x") for name in _bare(header)):
            found = found or Doubt("no column holds four numbers a row; write x1, y1, x2, y2")
    return found


def _numbers(columns: Sequence[Sequence[str]]) -> int:
    return sum(_share(_is_number, column) >= _HALF for column in columns)


def form_of(table: Table | Doubt | None) -> Form | Doubt | None:
    """Tells how the rows of what was cut are written; None where they are not rows of boxes."""
    if not isinstance(table, Table):
        return table
    columns = list(zip(*table.rows, strict=True))
    images = [p for p, column in enumerate(columns) if _share(is_image_name, column) >= _HALF]
    if table.header is None:
        form = _without_header(table.rows, columns, images)
    else:
        form = _with_header(table.header, table.rows, columns, images)
    if isinstance(form, Form) and table.delimiter != ",":
        return replace(form, settings={"delimiter": table.delimiter, **form.settings})
    return form


def _with_header(
    header: list[str], rows: list[list[str]], columns: Sequence[Sequence[str]], images: list[int]
) -> Form | Doubt | None:
    known, written = _places(header, columns), quoted(",".join(header))
    if known is None:
        sides = {name for key in ("x1", "y1", "x2", "y2", "cx", "cy") for name in _NAMES[key]}
        why = f"its header {written} does not name the four numbers; {_NAME_THEM}"
        return Doubt(why, sure=len(sides & set(_bare(header))) > 2) if images else None
    styles, places = known
    if images and places.get("file") not in images:
        places["file"] = images[0]
    if "file" not in places:
        why = f"its header {written} does not name the image; {_NAME_THEM}"
        return Doubt(why, sure=bool(images))
    rest = [p for p in range(len(columns)) if p not in places.values() and _is_text(columns[p])]
    few = [p for p in rest if 1 < len(set(columns[p])) <= _HALF * len(rows)]
    note = ""
    if "label" not in places and len(few) == 1:
        places["label"] = few[0]
        note = f"the class is the column {quoted(header[few[0]])}, the only text with few values."
    order = ("file", "label", "bbox", *BOX_COLUMNS[styles[0]], "width", "height", "group", "split")
    settings: dict[str, Any] = {
        "header": True,
        "names": {meaning: header[places[meaning]] for meaning in order if meaning in places},
        "box": styles[0],
    }
    form = _form(settings, rows, "label" in places, header, styles)
    if "label" in places or not rest:
        return replace(form, note=note)
    key = "--set data.source.csv"
    question = (
        f"the header {written} does not say which column is the class: name it by {key}.names."
        f"label={header[rest[0]]} {key}.label_from=column, or take the folder of the image by "
        f"{key}.label_from=folder"
    )
    return replace(form, question=question, answers=("data.source.csv.label_from",))


def _bare(header: Sequence[str]) -> list[str]:
    return [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]


def _places(
    header: Sequence[str], columns: Sequence[Sequence[str]] = ()
) -> tuple[tuple[str, ...], dict[str, int]] | None:
    """Kinds of box that a header may mean, the likeliest first, and columns by meaning, or None."""
    bare = _bare(header)
    # `bbox_x` goes before `x`.
    of_a_box = [_OF_A_BOX.sub("", name) if _OF_A_BOX.match(name) else "" for name in bare]
    bare, of_a_box = (
        [_FROM_ZERO.get(name, name) for name in names] if set(_FROM_ZERO) <= set(names) else names
        for names in (bare, of_a_box)
    )
    places: dict[str, int] = {}

    def look_up(*meanings: str, names: Sequence[Sequence[str]] = (bare,)) -> None:
        for meaning in meanings:
            free = [
                one.index(name)
                for one in names
                for name in _NAMES[meaning]
                if one.count(name) == 1 and one.index(name) not in places.values()
            ]
            if free:  # A class may stand there twice, as a number and as text.
                texts = [p for p in free if meaning == "label" and columns and _is_text(columns[p])]
                places[meaning] = (texts or free)[0]

    def style_of(*styles: str) -> str | None:
        return next((style for style in styles if set(BOX_COLUMNS[style]) <= set(places)), None)

    look_up("cx", "cy", "x1", "y1", "x2", "y2", names=(of_a_box, bare))
    style = style_of("xyxy", "cxcywh")
    if style is None:
        # Widths are those of the box where its second corner is missing, else of the image.
        look_up("w", "h", names=(of_a_box, bare))
        style = style_of("cxcywh", "xywh")
    styles: tuple[str, ...] = ANY_STYLE
    if style is not None:
        styles = (style,) if style != "xywh" else ("xywh", "cxcywh")
        places = {meaning: places[meaning] for meaning in BOX_COLUMNS[style]}
    elif set(_IN_ORDER) <= set(of_a_box):
        places = {
            name: of_a_box.index(place)
            for name, place in zip(BOX_COLUMNS[ANY_STYLE[0]], _IN_ORDER, strict=True)
        }
    else:
        whole = [p for p, one in enumerate(columns) if _share(box_field, one) >= _HALF]
        if len(whole) != 1:
            return None
        places = {"bbox": whole[0]}
    look_up("file", "label", "width", "height", "group", "split")
    if columns and "split" in places and _share(_is_split, columns[places["split"]]) < _HALF:
        del places["split"]
    return styles, places


def _without_header(
    rows: list[list[str]], columns: Sequence[Sequence[str]], images: Sequence[int]
) -> Form | Doubt | None:
    if not images:
        return None
    splits = [p for p, one in enumerate(columns) if _share(_is_split, one) >= _MOSTLY][:1]
    # Fields that are always empty stand between the corners in tables of AutoML and Vertex.
    kept = [p for p, one in enumerate(columns) if any(one) and p not in splits]
    found = _meanings([columns[p] for p in kept], kept.index(images[0]))
    if isinstance(found, Doubt):
        return found
    meanings = {kept[place]: meaning for place, meaning in found.of_column.items()}
    meanings |= dict.fromkeys(splits, "split")
    names = [meanings.get(p, f"other{p + 1}") for p in range(len(columns))]
    settings = {"columns": names, "box": found.styles[0]}
    styles = found.styles if "bbox" in names else ()
    form = _form(settings, rows, "label" in names, names, styles)
    if not found.unsure:
        return form
    question = (
        f"the row {quoted(','.join(rows[0]))} can be read in several ways: say what its "
        f"columns are, perhaps by --set 'data.source.csv.columns=[{', '.join(names)}]'"
    )
    return replace(form, question=question, answers=("data.source.csv.columns",))


class _Meanings(NamedTuple):
    """What columns without a header mean, and kinds of box; others mean it as well if unsure."""

    of_column: dict[int, str]
    styles: tuple[str, ...] = ("xyxy",)
    unsure: bool = False


def _meanings(columns: Sequence[Sequence[str]], file: int) -> _Meanings | Doubt:
    whole = [p for p, one in enumerate(columns) if _share(box_field, one) >= _HALF]
    texts = [p for p, one in enumerate(columns) if p not in (file, *whole) and _is_text(one)]
    known = {file: "file", **dict.fromkeys(texts[:1], "label")}
    if whole:
        return _Meanings({**known, whole[0]: "bbox"}, ANY_STYLE)
    numeric = [p != file and _share(_is_number, one) >= _MOSTLY for p, one in enumerate(columns)]
    run = [p for p, is_numeric in enumerate(numeric) if is_numeric][-2 * _BOX :]
    if len(run) == 2 * _BOX and all(columns[run[p]] == columns[run[q]] for p, q in _FOUR_CORNERS):
        places = [run[p] for p in (0, 1, 4, 5)]
        return _Meanings(known | dict(zip(places, BOX_COLUMNS["xyxy"], strict=True)))
    starts = _box_starts(numeric)
    for style in ("xyxy", "xywh"):
        found: list[tuple[int, range, list[int]]] = []
        for start in starts:
            box = range(start, start + _BOX)
            fours = zip(*(columns[p] for p in box), strict=True)
            boxes = [[float(text) for text in four] for four in fours if all(map(_is_number, four))]
            if not _fits(boxes, style) or (len(starts) > 1 and _holds_a_class(boxes)):
                continue
            labels = _label_places(columns, numeric, file, box)
            numbers = bool(labels) and numeric[labels[0]]
            if not numbers or _are_whole(columns[labels[0]]):
                # Of numbers that may be a class, those with the fewest values are.
                found.append((len(set(columns[labels[0]])) if numbers else 0, box, labels))
        if found:
            (least, box, labels), *others = sorted(found, key=lambda one: one[0])
            known = {file: "file", **dict(zip(box, BOX_COLUMNS[style], strict=True))}
            known |= dict.fromkeys(labels[:1], "label")
            unsure = len(labels) > 1 or any(kinds == least for kinds, *_ in others)
            return _Meanings(known, (style,), unsure)
    return Doubt("no four of its numbers are two corners, or a corner and a size")


def _box_starts(numeric: Sequence[bool]) -> list[int]:
    """Places at which four columns of numbers may be the box, the likeliest first."""
    # Of a run of more than four the last ones: a class stands more often before the box.
    groups = groupby(range(len(numeric)), numeric.__getitem__)
    runs = [list(places) for is_numeric, places in groups if is_numeric]
    runs = sorted((run for run in runs if len(run) >= _BOX), key=lambda run: len(run) > _BOX)
    return [start for run in runs for start in run[-_BOX::-1]]


def _label_places(
    columns: Sequence[Sequence[str]], numeric: Sequence[bool], file: int, box: Sequence[int]
) -> list[int]:
    """Columns that may be the class: text near to the file's name or to the box, else numbers."""
    others = [place for place in range(len(columns)) if place != file and place not in box]
    texts = [place for place in others if _is_text(columns[place])]
    near = [place for place in texts if place in (file + 1, box[0] - 1, box[-1] + 1)]
    if texts:
        return near or texts
    numbers = [place for place in others if numeric[place]]
    # Rows that are counted have no value twice.
    counted = [place for place in numbers if len(set(columns[place])) == len(columns[place])]
    return [place for place in numbers if place not in counted] or numbers


def _fits(boxes: Sequence[Sequence[float]], style: str) -> bool:
    """Whether numbers can be two corners (`"xyxy"`), or a corner and a size (`"xywh"`)."""
    if style == "xyxy":
        good = sum(x1 < x2 and y1 < y2 for x1, y1, x2, y2 in boxes)
    else:
        good = sum(width > 0 and height > 0 for _, _, width, height in boxes)
    return good > 0 and good >= _MOSTLY * len(boxes)


def _holds_a_class(boxes: Sequence[Sequence[float]]) -> bool:
    """Whether a column of whole numbers beyond 1 stands among fractions, as a class does."""
    columns = list(zip(*boxes, strict=True))
    few = (1 - _MOSTLY) * len(boxes)  # What most rows hold counts: a coordinate may be wrong.
    counts = [
        sum(value % 1 != 0 for value in one) <= few and sum(value > 1 for value in one) > few
        for one in columns
    ]
    fractions = [
        sum(value % 1 != 0 for value in one) > few and sum(value > _OUTSIDE for value in one) <= few
        for one in columns
    ]
    return any(counts) and any(fractions)


def _form(
    settings: dict[str, Any],
    rows: list[list[str]],
    labelled: bool,
    header: Sequence[str],
    styles: tuple[str, ...] = (),
) -> Form:
    if not labelled:
        settings["label_from"] = "folder"
    if settings["box"] == "xyxy":
        del settings["box"]
    named = named_rows(settings, Table(",", list(header), rows))
    return Form(settings, named, in_pixels(settings, named), styles=styles)


def with_style(form: Form, style: str) -> Form:
    """The form with its four numbers, in their order, as another kind of box."""
    before = BOX_COLUMNS[form.settings.get("box", "xyxy")]
    other = dict(zip(before, BOX_COLUMNS[style], strict=True))
    settings = {**form.settings, "box": style}
    if "names" in settings:
        names = settings["names"].items()
        settings["names"] = {other.get(meaning, meaning): name for meaning, name in names}
    else:
        settings["columns"] = [other.get(name, name) for name in settings["columns"]]
    if style == "xyxy":
        del settings["box"]
    rows = [{other.get(name, name): text for name, text in row.items()} for row in form.rows]
    return replace(form, settings=settings, rows=rows)


def named_rows(settings: Mapping[str, Any], table: Table) -> list[Row]:
    """The fields of a table by meaning, by the settings of a form with its layout."""
    if "names" in settings:
        header = table.header or []
        places = {meaning: header.index(name) for meaning, name in settings["names"].items()}
    else:
        places = {name: place for place, name in enumerate(settings["columns"])}
    rows = [{meaning: row[place] for meaning, place in places.items()} for row in table.rows]
    if "bbox" in places:
        sides = BOX_COLUMNS[settings.get("box", "xyxy")]
        empty = [""] * _BOX
        rows = [
            row | dict(zip(sides, box_field(row["bbox"]) or empty, strict=True)) for row in rows
        ]
    return rows


def in_pixels(settings: Mapping[str, Any], rows: Sequence[Row]) -> bool:
    """Whether most boxes go beyond what fractions do."""
    box = BOX_COLUMNS[settings.get("box", "xyxy")]
    sides = [[value for name in box if (value := number(row[name])) is not None] for row in rows]
    return sum(max(values) > _OUTSIDE for values in sides if values) > _HALF * len(rows)


def _is_split(text: str) -> bool:
    return text.lower() in SPLIT_NAMES or text.lower() == UNASSIGNED


def _share(test: Callable[[str], object], values: Sequence[str]) -> float:
    return sum(map(bool, map(test, values))) / len(values) if values else 0.0


def _is_number(text: str) -> bool:
    return number(text) is not None


def _is_text(values: Sequence[str]) -> bool:
    return _share(lambda text: text and not _is_number(text), values) > _HALF


def _are_whole(values: Sequence[str]) -> bool:
    numbers = [value for value in map(number, values) if value is not None]
    return sum(value % 1 == 0 for value in numbers) >= _MOSTLY * len(numbers)
