"""Findings about classes: labels that fit none, look misspelt, or are seldom."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

from loc_keras.data.annotations import (
    ImageRef,
    Split,
    class_index,
    class_indices,
    infer_class_names,
)
from loc_keras.data.check.boxes import CheckedObject
from loc_keras.data.check.images import ImageFacts
from loc_keras.data.duplicates import Colours, identical_groups, near_pairs
from loc_keras.data.faults import Finding, FractionBox
from loc_keras.errors import DataError

IMBALANCE = 10
FEWEST = 5
_ALIKE = 0.85
_MUCH_RARER = 10
_RARE = 5
_LEAST_LETTERS = 4
_MOST_NAMES = 2000
"""Names among which misspelt ones are sought: the search compares pairs."""

_MOST_HINTS = 100
"""Unknown labels that are compared with the names: where more are unknown, slips are not why."""


def class_findings(
    objects: Sequence[CheckedObject],
    class_names: Sequence[str] | None,
    splits: Sequence[Split],
    background: str | None = None,
) -> list[Finding]:
    """What is wrong with labels and the size of classes.

    Args:
        objects: All objects.
        class_names: The classes that may occur, or None for those of the training split.
        splits: Splits that the data set gives and that hold objects.
        background: Class of images without an object, or None.
    """
    counts = Counter(thing.one.label for thing in objects)
    names = known_classes(objects, class_names, background)
    index_of = class_indices(names)
    indices = {label: class_index(label, index_of) for label in counts}
    unknown = _hints([label for label in counts if indices[label] is None], names)
    where = "listed" if class_names else "a class of the training split"
    known = {label: count for label, count in counts.items() if label not in unknown}
    # A list of classes was written on purpose; labels that were not may be slips.
    spelling = {} if class_names else misspelt(known)
    found = []
    for thing in objects:
        name, label = thing.one.name, thing.one.label
        if label in unknown:
            words = f"class {label!r} of {name} is not {where}{unknown[label]}"
            found.append(_finding(thing, "class_unknown", words))
        elif label in spelling:
            other = spelling[label]
            words = (
                f"class {label!r} ({counts[label]}) of {name} looks like {other!r} "
                f"({counts[other]})"
            )
            found.append(_finding(thing, "class_spelling", words))
    return found + _balance(objects, names, indices, splits, background)


def known_classes(
    objects: Sequence[CheckedObject],
    class_names: Sequence[str] | None,
    background: str | None = None,
) -> list[str]:
    """Classes by index: those given, or else those that training infers."""
    if class_names:
        return list(class_names)
    labels = {thing.one.label for thing in objects if thing.split == "train"}
    return infer_class_names(labels, background)


def class_meant(names: Sequence[str]) -> Callable[[str], Hashable]:
    """What tells the classes of two labels apart: the index where it is known, else the label.

    Args:
        names: Classes by index.
    """
    index_of = class_indices(names)

    def meant(label: str) -> Hashable:
        index = class_index(label, index_of)
        return label if index is None else index

    return meant


def same_word(name: str) -> str:
    """A label without what does not tell classes apart: case, spaces, underscores, hyphens."""
    return "".join(name.casefold().replace("_", " ").replace("-", " ").split())


def misspelt(counts: Mapping[str, int]) -> dict[str, str]:
    """Labels that look like another one, each with that other one.

    Those that differ in case or spaces alone always do, from the more frequent one; others where
    they are rare beside it (at most 5, and ten times fewer) and differ in a letter or so.

    Args:
        counts: Objects of each label.
    """
    found: dict[str, str] = {}
    by_word: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        by_word[same_word(name)].append(name)
    for names in by_word.values():
        found |= dict.fromkeys(names[1:], names[0])
    heads = [names[0] for names in by_word.values()]
    if len(heads) > _MOST_NAMES:
        return found
    for rare in heads:
        if counts[rare] > _RARE or len(rare) < _LEAST_LETTERS or any(map(str.isdigit, rare)):
            continue
        frequent = [name for name in heads if counts[name] >= _MUCH_RARER * counts[rare]]
        close = difflib.get_close_matches(rare, frequent, n=1, cutoff=_ALIKE)
        if close:
            found[rare] = close[0]
    return found


def _hints(unknown: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """For each unknown label the end of a sentence that names the class it may mean, or `""`."""
    by_word = {same_word(name): name for name in reversed(names)}
    hints = {label: by_word.get(same_word(label), "") for label in unknown}
    for label in [label for label in unknown if not hints[label]][:_MOST_HINTS]:
        close = difflib.get_close_matches(label, names[:_MOST_NAMES], n=1, cutoff=0.6)
        hints[label] = close[0] if close else ""
    return {label: name and f"; is it {name!r}?" for label, name in hints.items()}


def _balance(
    objects: Sequence[CheckedObject],
    names: Sequence[str],
    indices: Mapping[str, int | None],
    splits: Sequence[Split],
    background: str | None,
) -> list[Finding]:
    counts = {split: [0] * len(names) for split in splits}
    for thing in objects:
        index = indices[thing.one.label]
        if index is not None and thing.split in counts:
            counts[thing.split][index] += 1
    found = []
    train = [(count, name) for count, name in zip(counts.get("train", []), names, strict=False)]
    present = [pair for pair in train if pair[0]]
    if len(present) > 1:
        (high, most), (low, least) = max(present), min(present)
        if high > IMBALANCE * low:
            noun = "images" if most == background else "objects"
            words = f"class {most!r} has {high} {noun} in train, {least!r} has {low}"
            found.append(Finding("class_imbalance", "", 0, words))
    for index, name in enumerate(names):
        noun = "image" if name == background else "object"
        total = sum(count[index] for count in counts.values())
        empty = [split for split in splits if not counts[split][index]]
        if total < FEWEST:
            words = f"class {name!r} has {total} {noun}s in all"
            found.append(Finding("class_rare", "", 0, words))
        elif empty:
            words = f"class {name!r} has no {noun} in {' and '.join(empty)}"
            found.append(Finding("class_absent", "", 0, words))
    return found


def _finding(thing: CheckedObject, kind: str, words: str) -> Finding:
    one = thing.one
    return Finding(kind, one.file, one.row, words, one.image, thing.box)


_SAME_BOX = 0.5

HELD_OUT_FIRST: tuple[Split, ...] = ("test", "val", "train")
"""Of images in two splits those kept: figures on held-out images stay comparable."""


class _Entry(NamedTuple):
    """An image with all its objects."""

    image: ImageRef
    objects: list[CheckedObject]


def entries_of(objects: Sequence[CheckedObject]) -> list[_Entry]:
    """Images in the order of their first object."""
    by_image: dict[ImageRef, list[CheckedObject]] = defaultdict(list)
    for thing in objects:
        by_image[thing.one.image].append(thing)
    return [_Entry(image, things) for image, things in by_image.items()]


def identical_images(images: Mapping[ImageRef, ImageFacts]) -> dict[ImageRef, int]:
    """Numbers all images so that those of the same bytes share a number.

    Args:
        images: What is known of each image; those with trouble are not read, and so each has a
            number of its own.

    Returns:
        For each image the place, among `images`, of the first with the same bytes.

    Raises:
        DataError: If a file has gone since it was looked at.
    """
    readable = [image for image, facts in images.items() if not facts.trouble]
    place = {image: number for number, image in enumerate(images)}
    try:
        firsts = identical_groups(readable).tolist()
    except OSError as error:
        raise DataError(
            f"{error.filename} could be read at first and cannot be now "
            f"({error.strerror or error}): check again when nothing changes the data."
        ) from error
    same = {image: place[readable[first]] for image, first in zip(readable, firsts, strict=True)}
    return place | same


def duplicate_findings(
    objects: Sequence[CheckedObject],
    images: Mapping[ImageRef, ImageFacts],
    identical: Mapping[ImageRef, int],
    *,
    class_names: Sequence[str],
    near: bool,
) -> list[Finding]:
    """What is wrong about images that occur twice.

    Args:
        objects: All objects.
        images: What is known of each image.
        identical: From `identical_images`.
        class_names: Classes by index: labels that mean one class are no conflict.
        near: Whether to seek almost identical pictures, too.
    """
    entries = entries_of(objects)
    by_image = {entry.image: entry for entry in entries}
    meant = class_meant(class_names)
    found = _same_group(objects)
    for entry in entries:
        found += _same_file(entry)
    first_of: dict[int, ImageRef] = {}
    for image, entry in by_image.items():
        first = first_of.setdefault(identical[image], image)
        if first != image:
            found += _same_bytes(by_image[first], entry, meant)
    if near:
        rest = [by_image[image] for image in first_of.values()]
        looks = [images[entry.image].look for entry in rest]
        colours = Colours()
        pairs = near_pairs(looks, lambda a, b: colours.alike(rest[a].image, rest[b].image))
        for first_at, second_at in pairs:
            found.append(_alike(rest[first_at], rest[second_at]))
    return found


def _same_group(objects: Sequence[CheckedObject]) -> list[Finding]:
    """Groups in two splits, told once for each split that is not kept."""
    groups: dict[str, dict[Split, list[CheckedObject]]] = defaultdict(lambda: defaultdict(list))
    for thing in objects:
        if thing.one.group:
            groups[thing.one.group][thing.split].append(thing)
    found = []
    for name, parts in groups.items():
        keeper, *others = (split for split in HELD_OUT_FIRST if split in parts)
        for split in others:
            first, kept = parts[split][0], parts[keeper][0]
            count = len({thing.one.image for thing in parts[split]})
            words = (
                f"group {name!r} has {count} image{'s' * (count > 1)} in {split}, such as "
                f"{first.one.name}, and stands in {keeper}, too, such as {_place(kept)}"
            )
            found.append(_finding_duplicates("group_across_splits", first, words, kept))
    return found


def _same_file(entry: _Entry) -> list[Finding]:
    """One file named in two splits, or twice for the same object."""
    found = []
    first = entry.objects[0]
    seen: set[Hashable] = set()
    crossed: set[str] = {first.split}
    for thing in entry.objects:
        key = (thing.split, thing.one.label, thing.one.box)
        if thing.split not in crossed:
            crossed.add(thing.split)
            words = f"{thing.one.name} stands in {thing.split} and in {_place(first)}"
            found.append(_finding_duplicates("duplicate_across_splits", thing, words))
        elif key in seen:
            words = f"the same box and class of {thing.one.name} stand in an earlier row, too"
            found.append(_finding_duplicates("duplicate_row", thing, words))
        seen.add(key)
    return found


def _same_bytes(first: _Entry, later: _Entry, meant: Callable[[str], Hashable]) -> list[Finding]:
    one, other = first.objects[0], later.objects[0]
    crossing = {thing.split for thing in first.objects} != {thing.split for thing in later.objects}
    kind = "duplicate_across_splits" if crossing else "duplicate_image"
    words = f"{other.one.name} in {other.split} is identical with {_place(one)}"
    found = [_finding_duplicates(kind, other, words, one)]
    labels, later_labels = _labels(first), _labels(later)
    if set(map(meant, labels)) != set(map(meant, later_labels)):
        words = (
            f"{other.one.name} is called {_listed(later_labels)}, and the identical "
            f"{_place(one)} is called {_listed(labels)}"
        )
        found.append(_finding_duplicates("duplicate_conflict", other, words, one))
    elif _boxes_differ(first, later):
        words = f"the boxes of {other.one.name} and of the identical {_place(one)} overlap little"
        found.append(_finding_duplicates("duplicate_boxes_differ", other, words, one))
    return found


def _alike(first: _Entry, later: _Entry) -> Finding:
    one, other = first.objects[0], later.objects[0]
    crossing = {thing.split for thing in first.objects} != {thing.split for thing in later.objects}
    kind = "near_duplicate_across_splits" if crossing else "near_duplicate"
    words = f"{other.one.name} in {other.split} looks like {_place(one)}"
    return _finding_duplicates(kind, other, words, one)


def _boxes_differ(first: _Entry, later: _Entry) -> bool:
    """Whether some box of the one has no like in the other."""
    if len(first.objects) != len(later.objects):
        return True
    boxes = [thing.box for thing in first.objects if thing.box is not None]
    others = [thing.box for thing in later.objects if thing.box is not None]
    return any(
        max((_overlap(box, other) for other in others), default=1.0) < _SAME_BOX for box in boxes
    )


def _overlap(a: FractionBox, b: FractionBox) -> float:
    """IoU of two boxes; 0 where one has no area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if not (width > 0 and height > 0):
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def _labels(entry: _Entry) -> set[str]:
    return {thing.one.label for thing in entry.objects}


def _listed(labels: set[str]) -> str:
    return " and ".join(repr(label) for label in sorted(labels)[:3])


def _place(thing: CheckedObject) -> str:
    one = thing.one
    file = "/".join(one.file.split("/")[-2:])
    return f"{one.name} in {thing.split} ({file}, row {one.row})"


def _finding_duplicates(
    kind: str, thing: CheckedObject, words: str, twin: CheckedObject | None = None
) -> Finding:
    one = thing.one
    finding = Finding(kind, one.file, one.row, words, one.image, thing.box)
    return finding if twin is None else finding._replace(twin=twin.one.image, twin_box=twin.box)
