"""Detection of CSV and TSV data sets: which files, which splits, and where the images are."""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loc_keras.data import files
from loc_keras.data.annotations import SPLITS
from loc_keras.data.detect_csv_form import Form, csv_form
from loc_keras.data.detect_guess import Guess
from loc_keras.data.detect_layouts import matches_only
from loc_keras.data.detect_listing import HEAD_BYTES, Listing, by_split, image_folders

_ENDINGS = (".csv", ".tsv", ".txt")
_MOST_FILES = 2_000
_MOST_TEXTS = 50  # A folder with more .txt files holds labels of single images, not tables.
_SAMPLED_FILES = 6
_SAMPLED_ROWS = 6


def csv(listing: Listing) -> Iterator[Guess]:
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
    texts = {
        path
        for path, folder in listing.folders.items()
        if len(folder.names.get(".txt", ())) <= _MOST_TEXTS
    }
    return [
        name
        for name in listing.files(*_ENDINGS)
        if not name.endswith(".txt") or posixpath.dirname(name) in texts
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


@dataclass(frozen=True)
class _Sample:
    """A row whose image is looked for."""

    table: str
    file: str
    label: str


def _images(listing: Listing, found: dict[str, Form]) -> str | None:
    """The folder that holds the images of some tables, perhaps by `{label}` or `{stem}`.

    A folder by label goes before one without: where each class has its folder, file names often
    repeat, so that the images of one class have the names of another.
    """
    samples = [
        _Sample(table, row.get("file", ""), row.get("label", ""))
        for table in _spread(list(found), _SAMPLED_FILES)
        for row in _spread(found[table].rows, _SAMPLED_ROWS)
    ]
    templates: dict[str, None] = {}
    for sample in samples[:_SAMPLED_ROWS]:
        for folder in image_folders(listing, sample.file, annotation=sample.table):
            parent, last = posixpath.split(folder)
            for sign, value in (("{label}", sample.label), ("{stem}", _stem(sample.table))):
                if last and last == value and "{" not in parent:
                    templates[posixpath.join(parent, sign)] = None
            if "{" not in folder:
                templates[folder or "."] = None
    scored = [
        (sum(_exists(listing, template, sample) for sample in samples), template)
        for template in templates
    ]
    best = max((score for score, _ in scored), default=0)
    if not best:
        return None
    # Nearly as good counts as good: single images may be missing.
    good = [template for score, template in scored if score >= best * 0.8]
    by_class = [one for one in good if "{label}" in one] or [one for one in good if "{" in one]
    return (by_class or good)[0]


def _exists(listing: Listing, template: str, sample: _Sample) -> bool:
    folder = template.replace("{label}", sample.label).replace("{stem}", _stem(sample.table))
    try:
        inside = files.join_inside(listing.root, folder)
        return files.is_file(files.join_inside(inside, sample.file, root=listing.root))
    except files.OutsideError:
        return False


def _stem(table: str) -> str:
    return posixpath.splitext(posixpath.basename(table))[0]


def _spread(things: Sequence[Any], most: int) -> list[Any]:
    """At most so many of some things, evenly spaced."""
    step = max(1, len(things) / most)
    return [things[int(place * step)] for place in range(min(most, len(things)))]
