"""Detection of CSV and TSV data sets: which files, which splits, and where the images are."""

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from loc_keras.config.data import BOX_COLUMNS
from loc_keras.data import files
from loc_keras.data.annotations import SPLITS, ImageRef, Split
from loc_keras.data.formats.csv_table import (
    ANY_STYLE,
    Doubt,
    Form,
    Table,
    cut,
    form_of,
    in_pixels,
    named_rows,
    with_style,
)
from loc_keras.data.formats.listing import (
    HEAD_BYTES,
    LABEL_ENDINGS,
    Guess,
    Listing,
    by_split,
    common_folder,
    image_folders,
    is_image_in,
    matches_only,
    split_of,
)
from loc_keras.data.formats.parsing import RowError, corners, number, quoted
from loc_keras.data.image_header import HeaderError, read_headers
from loc_keras.data.resolve import TOLERANCE, TOLERANCE_PX, picture_size
from loc_keras.errors import DataError, counted

_ENDINGS = (".csv", ".tsv", ".txt")
_MOST_FILES = 2_000
_MOST_TEXTS = 50  # A folder with more .txt files holds labels of single images, not tables.
_MOST_POOLED = 20_000
_SAMPLED_FILES = 6
_SAMPLED_ROWS = 6
_SAMPLED_BOXES = 300
_MOSTLY = 0.9
_SPLITS_KEY = "data.source.csv.splits"

_Objects = set[tuple[str, str]]  # (image, class) of all rows of a table.


def detect_csv(listing: Listing) -> Iterator[Guess]:
    """Readings as CSV or TSV: the files that are written alike, most of them first.

    A table of boxes that does not go with the others is asked about, not passed over.
    """
    forms, doubts = _forms(listing)
    if forms and all(split_of(name) in ("val", "test") for name in forms):
        # What is called train goes before them, whatever it is.
        called = [
            one for one in listing.files(*LABEL_ENDINGS) if split_of(one.split("/")[-1]) == "train"
        ]
        doubts = dict.fromkeys(called, Doubt("nothing in it can be read")) | doubts
    groups: dict[str, dict[str, Form]] = {}
    for name, form in forms.items():
        groups.setdefault(repr((form.settings, form.pixels)), {})[name] = form
    found = [_guess(listing, one, doubts) for one in sorted(groups.values(), key=len, reverse=True)]
    possible = [guess for guess in found if guess is not None]
    unused = {name: doubt.why for name, doubt in doubts.items()}
    question = ""
    refused = [name for name, one in doubts.items() if one.sure or split_of(name) is not None]
    refused = refused or [name for name in doubts if not possible]
    if refused:
        question = f"{refused[0]} looks like a table of boxes, but {unused[refused[0]]}"
    elif len(possible) > 1:
        ways = " and ".join(f"{guess.files[0]} has {_written(guess)}" for guess in possible[:2])
        question = f"its tables are written in {len(possible)} ways: {ways}"
    if question and not possible:
        yield Guess("csv", listing.root, why="tables", question=question, unused=unused)
    for guess in possible:
        unused_here = {**unused, **guess.unused}
        if not question:
            yield replace(guess, unused=unused_here)
            continue
        key = f"{_SPLITS_KEY}.train.csv"
        asked = f"{question}; or say what is trained on, perhaps --set {key}={guess.files[0]}"
        yield replace(guess, question=asked, answers=(key,), unused=unused_here)


def _written(guess: Guess) -> str:
    columns = guess.options.get("columns") or guess.options["names"].values()
    return f"{','.join(columns)} in {'px' if 'units' in guess.options else 'fractions'}"


def _forms(listing: Listing) -> tuple[dict[str, Form], dict[str, Doubt]]:
    """The form of each table, told from all that are laid out alike, and why others have none."""
    forms: dict[str, Form] = {}
    doubts: dict[str, Doubt] = {}
    layouts: dict[tuple[str, tuple[str, ...], int], dict[str, Table]] = {}
    for name in _tables(listing):
        whole = files.file_size(listing.path(name)) <= HEAD_BYTES
        table = cut(listing.head(name), whole=whole)
        if isinstance(table, Doubt):
            doubts[name] = table
        elif table is not None:
            layouts.setdefault(table.layout, {})[name] = table
    for tables in layouts.values():
        rows = [row for table in tables.values() for row in table.rows]
        first = next(iter(tables.values()))
        form = form_of(replace(first, rows=_spread(rows, _MOST_POOLED)))
        for name, table in tables.items():
            if isinstance(form, Doubt):
                doubts[name] = form
            elif form is not None and table.flaw:
                doubts[name] = Doubt(table.flaw)
            elif form is not None:
                named = named_rows(form.settings, table)
                pixels = in_pixels(form.settings, named)
                forms[name] = replace(form, rows=named, pixels=pixels)
    return forms, doubts


def _tables(listing: Listing) -> list[str]:
    return [
        name
        for name in listing.files(*_ENDINGS)
        if not name.endswith(".txt")
        or len(listing.folders[posixpath.dirname(name)].names[".txt"]) <= _MOST_TEXTS
    ][:_MOST_FILES]


def _guess(listing: Listing, found: dict[str, Form], doubts: dict[str, Doubt]) -> Guess | None:
    """The reading of tables that are written alike; those without images become doubts."""
    form = next(iter(found.values()))
    question, answers = form.question, form.answers
    named_splits = "split" in form.settings.get("names", form.settings.get("columns", ()))
    groups: dict[Split, list[str]] = {"train": list(found)} if named_splits else by_split(found)
    several = found if len(found) > 1 else {}
    objects = {name: _objects(listing, name, one) for name, one in several.items()}
    unused = {} if named_splits else _tables_of_all(objects, groups["train"])
    groups["train"] = [name for name in groups["train"] if name not in unused]
    splits: dict[str, dict[str, str] | None] = {}
    for split in SPLITS:
        if split not in groups:
            splits[split] = None
            continue
        names = groups[split]
        tables = {name: found[name] for name in names}
        pattern = _pattern(listing, names)
        why = _same_objects(objects, names)
        if pattern is None:
            why = why or f"no one pattern finds {names[0]} and {names[1]} and no other table"
        if why and not question:
            answers = (f"{_SPLITS_KEY}.{split}.csv",)
            question = f"{why}; say what is read, perhaps --set {answers[0]}={names[0]}"
        images = _images(listing, tables)
        if images is None:
            first = quoted(tables[names[0]].rows[0]["file"])
            doubt = Doubt(f"no image that it names is found, the first being {first}")
            doubts |= dict.fromkeys(names, doubt)
            rest = {name: form for name, form in found.items() if name not in doubts}
            return _guess(listing, rest, doubts) if rest else None
        splits[split] = {"csv": pattern or names[0], "images": images}
        if split == "train" and len(form.styles) > 1:
            form = _styled(listing, form, tables, images)
            if form.question and not question:
                question, answers = form.question, form.answers
    used = [name for names in groups.values() for name in names]
    options = {**form.settings, "splits": splits, **({"units": "pixel"} if form.pixels else {})}
    why = f"{counted(len(used), 'table')} with boxes: {used[0]}"
    return Guess(
        "csv",
        listing.root,
        options,
        why=why,
        notes=(form.note,) if form.note else (),
        question=question,
        answers=answers,
        files=tuple(used),
        unused=unused,
    )


def _tables_of_all(objects: Mapping[str, _Objects], train: Sequence[str]) -> dict[str, str]:
    """Tables of no split whose images stand in those that are called so; none without a train."""
    named = [name for name in objects if split_of(name) is not None]
    rest = [name for name in train if name in objects and name not in named]
    held = {file for name in named for file, _ in objects[name]}
    repeats = {}
    for name in rest if rest != list(train) else ():
        own = {file for file, _ in objects[name]}
        if len(own & held) >= _MOSTLY * min(len(own), len(held)):
            repeats[name] = f"its images stand in {' and '.join(named[:3])}"
    return repeats


def _same_objects(objects: Mapping[str, _Objects], names: Sequence[str]) -> str:
    """Which two tables of one split name the same objects, perhaps with other boxes; else `""`."""
    owner: dict[tuple[str, str], str] = {}
    for name in names if len(names) > 1 else ():
        own = objects[name]
        for other, count in Counter(owner[one] for one in own if one in owner).items():
            if count >= _MOSTLY * min(len(own), len(objects[other])):
                return f"{other} and {name} name the same objects"
        owner |= {one: name for one in own if one not in owner}
    return ""


def _objects(listing: Listing, name: str, form: Form) -> _Objects:
    rows = form.rows
    try:
        table = cut(files.read_text(listing.path(name)), whole=True, most=None)
        if isinstance(table, Table):
            rows = named_rows(form.settings, table)
    except (DataError, IndexError, ValueError):
        pass  # No text, or further down other columns than above: the reader says so.
    return {(row["file"], row.get("label", "")) for row in rows}


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
    """The folder that holds the images of some tables, perhaps by `{label}` or `{stem}`."""
    samples = [
        (table, row.get("file", ""), row.get("label", ""))
        for table in _spread(list(tables), _SAMPLED_FILES)
        for row in _spread(tables[table].rows, _SAMPLED_ROWS)
    ]
    finder = listing.finder
    templates: dict[str, None] = {}
    held: list[str] = []
    for table, file, label in samples[:_SAMPLED_ROWS]:
        for folder in image_folders(listing, file, annotation=table):
            parent, last = posixpath.split(folder)
            for sign, value in (("{label}", label), ("{stem}", _stem(table))):
                if last and last == value and "{" not in parent:
                    templates[posixpath.join(parent, sign)] = None
            if "{" not in folder:
                templates[folder or "."] = None
                held.append(folder)

    def scored(holds: Callable[[str, str], bool]) -> dict[str, int]:
        return {
            template: sum(
                holds(template.replace("{label}", label).replace("{stem}", _stem(table)), file)
                for table, file, label in samples
            )
            for template in templates
        }

    scores = scored(partial(is_image_in, listing))
    if not any(scores.values()) and templates:
        # Names of another machine, or without ending: their last parts are looked for below.
        templates[common_folder(held) or "."] = None
        scores = scored(lambda one, file: len(finder.fitting(listing.path(one), file)) == 1)
        most = [one for one in dict.fromkeys(held) if scores[one or "."] == max(scores.values())]
        if len({split_of(one) for one in most}) < len(most):
            return None  # Their last parts fit as well in another folder.
    best = max(scores.values(), default=0)
    if not best:
        return None
    # Nearly as good counts as good: single images may be missing.
    good = [template for template, score in scores.items() if score >= best * 0.8]
    # Where each class has its folder, images of one class often have the names of another.
    by_class = [one for one in good if "{label}" in one] or [one for one in good if "{" in one]
    return (by_class or good)[0]


def _styled(listing: Listing, form: Form, tables: Mapping[str, Form], images: str) -> Form:
    """The form with the kind of box by which all boxes lie in their images, or a question."""
    rows = [
        (table, row) for table, one in tables.items() for row in _spread(one.rows, _SAMPLED_BOXES)
    ]
    shown = []
    for table, row in _spread(rows, _SAMPLED_BOXES):
        folder = images.replace("{label}", row.get("label", "")).replace("{stem}", _stem(table))
        try:
            ref = ImageRef(listing.finder.find(listing.path(folder), row["file"]))
        except RowError:
            continue
        shown.append((ref, row))
    headers = read_headers([ref for ref, _ in shown])
    before = BOX_COLUMNS[form.settings.get("box", "xyxy")]
    counts = Counter[str]()
    judged = 0
    for header, (_, row) in zip(headers, shown, strict=True):
        numbers = [number(row[name]) for name in before]
        if isinstance(header, HeaderError) or None in numbers:
            continue
        judged += 1
        size = picture_size(header, "upright") if form.pixels else (1, 1)
        slack = TOLERANCE_PX if form.pixels else TOLERANCE
        a, b, c, d = (value for value in numbers if value is not None)
        for style in form.styles:
            x1, y1, x2, y2 = corners((a, b, c, d), style)
            inside = min(x1, y1) >= -slack and x2 <= size[0] + slack and y2 <= size[1] + slack
            counts[style] += inside and x1 < x2 and y1 < y2
    possible = [style for style in form.styles if judged and counts[style] == judged]
    # A centre is written in fractions, as YOLO does; in px corners and sizes are.
    if form.pixels and len(possible) > 1 and possible[-1] == "cxcywh":
        possible.pop()
    if len(possible) < 2 or form.styles != ANY_STYLE:
        best = max(form.styles, key=lambda style: (style in possible, counts[style]))
        likely = form.styles[0]
        style = likely if likely in possible or not judged else best
        told = "" if style == likely else f"boxes are {style}: so they lie in their images."
        return replace(with_style(form, style), note=f"{form.note} {told}".strip())
    key = "data.source.csv.box"
    question = (
        f"its boxes lie in their images as {' and as '.join(possible)}: say which by --set "
        f"{key}={possible[0]}"
    )
    names = form.settings.get("names", {})
    if "xywh" in possible and "x2" in names:
        sizes = [f"names.{side}={names[edge]}" for side, edge in (("w", "x2"), ("h", "y2"))]
        question += f", or {key}=xywh --set {' --set '.join(f'data.source.csv.{n}' for n in sizes)}"
    return replace(with_style(form, possible[0]), question=question, answers=(key,))


def _stem(table: str) -> str:
    return posixpath.splitext(posixpath.basename(table))[0]


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    step = max(1, len(values) / most)
    return [values[int(place * step)] for place in range(min(most, len(values)))]
