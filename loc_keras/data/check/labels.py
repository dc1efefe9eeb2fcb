"""Findings about classes, and about images that occur twice or in two splits."""

import difflib
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from loc_keras.data.annotations import (
    SPLITS,
    Box,
    Fault,
    ImageRef,
    Split,
    class_index,
    class_indices,
    counted_from_one,
    known_classes,
)
from loc_keras.data.check.images import ImageFacts
from loc_keras.data.duplicates import first_of, identical_groups, near_pairs
from loc_keras.data.resolve import CheckedObject, CheckedObjects
from loc_keras.errors import DataError

IMBALANCE = 10
"""Objects of the largest class for each of the smallest from which on classes are imbalanced."""

FEWEST = 5  # Objects below which a class is rare.
HELD_OUT_FIRST: tuple[Split, ...] = ("test", "val", "train")
"""Of images in two splits those kept: figures on held-out images stay comparable."""

_ALIKE = 0.85
_MUCH_RARER = 10
_RARE = 5
_LEAST_LETTERS = 4
_SAME_BOX = 0.5
_NO_NAMES = frozenset({"nan", "NaN", "null", "NULL", "N/A", "<NA>"})

_MOST_NAMES = 2000  # Names among which misspelt ones are sought: the search compares pairs.
_MOST_HINTS = 100
"""Unknown labels that are compared with the names: where more are unknown, slips are not why."""


def class_findings(
    objects: CheckedObjects,
    class_names: Sequence[str] | None,
    splits: Sequence[Split],
    background: str | None = None,
) -> list[Fault]:
    """What is wrong with labels and the size of classes.

    Without `class_names` those of the training split may occur; `splits` are those that hold
    objects.
    """
    counts = objects.objects.label_counts()
    in_train = objects.split == SPLITS.index("train")
    train = objects.objects.take(in_train).labels
    names = known_classes(class_names, train, background)
    index_of = class_indices(names)
    indices = {label: class_index(label, index_of) for label in counts}
    unknown = _hints([label for label in counts if indices[label] is None], names)
    where = "listed" if class_names else "a class of the training split"
    known = {label: count for label, count in counts.items() if label not in unknown}
    # A list of classes was written on purpose; labels that were not may be slips.
    spelling = {} if class_names else misspelt(known)
    found = []
    odd = np.array([one in unknown or one in spelling for one in counts], bool)
    for item in objects.take(odd[objects.objects.label]):
        name, label = item.annotated.name, item.annotated.label
        if label in unknown:
            reason = f"class {label!r} of {name} is not {where}{unknown[label]}"
            found.append(_finding("class_unknown", item, reason))
        else:
            other = spelling[label]
            reason = (
                f"class {label!r} ({counts[label]}) of {name} looks like {other!r} "
                f"({counts[other]})"
            )
            found.append(_finding("class_spelling", item, reason))
    # Numbers stand for names in their order: counted from 1, each would mean the one before.
    numbers = [label for label in counts if label.isascii() and label.isdigit()]
    last = str(len(names))
    if class_names and numbers == list(counts) and last in unknown and "0" not in counts:
        found.append(counted_from_one(len(names)))
    for name in sorted(counts.keys() & _NO_NAMES):
        reason = f"{counts[name]} objects have the class {name!r}, as where a label is missing"
        found.append(Fault("", 0, reason, "class_spelling"))
    alike = misspelt(dict.fromkeys(class_names or (), 1))
    for name, other in alike.items():
        reason = f"the classes {other!r} and {name!r} differ in case or blanks alone"
        found.append(Fault("", 0, reason, "class_spelling"))
    return found + _balance(objects, names, indices, splits, background)


def class_meant(names: Sequence[str]) -> Callable[[str], Hashable]:
    """What tells the classes of two labels apart: the index where it is known, else the label."""
    index_of = class_indices(names)

    def meant(label: str) -> Hashable:
        index = class_index(label, index_of)
        return label if index is None else index

    return meant


def same_word(name: str) -> str:
    """A label without what does not tell classes apart: case, spaces, underscores, hyphens."""
    return "".join(name.casefold().replace("_", " ").replace("-", " ").split())


def misspelt(counts: Mapping[str, int]) -> dict[str, str]:
    """Labels that look like another one, each with that other one, given the objects of each.

    Those that differ in case or spaces alone always do, from the more frequent one; others where
    they are rare beside it (at most 5, and ten times fewer) and differ in a letter or so.
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
    objects: CheckedObjects,
    names: Sequence[str],
    indices: Mapping[str, int | None],
    splits: Sequence[Split],
    background: str | None,
) -> list[Fault]:
    known = [-1 if one is None else one for one in map(indices.get, objects.objects.labels)]
    classes = np.array(known, np.int64)[objects.objects.label]
    own = {
        split: classes[(objects.split == SPLITS.index(split)) & (classes >= 0)] for split in splits
    }
    counts = {
        split: np.bincount(found, minlength=len(names)).tolist() for split, found in own.items()
    }
    found = []
    train = [(count, name) for count, name in zip(counts.get("train", []), names, strict=False)]
    present = [pair for pair in train if pair[0]]
    if len(present) > 1:
        (high, most), (low, least) = max(present), min(present)
        if high > IMBALANCE * low:
            noun = "images" if most == background else "objects"
            reason = f"class {most!r} has {high} {noun} in train, {least!r} has {low}"
            found.append(Fault("", 0, reason, "class_imbalance"))
    for index, name in enumerate(names):
        noun = "image" if name == background else "object"
        total = sum(count[index] for count in counts.values())
        empty = [split for split in splits if not counts[split][index]]
        if total < FEWEST:
            reason = f"class {name!r} has {total} {noun}s in all"
            found.append(Fault("", 0, reason, "class_rare"))
        elif empty:
            reason = f"class {name!r} has no {noun} in {' and '.join(empty)}"
            found.append(Fault("", 0, reason, "class_absent"))
    return found


def identical_images(images: Mapping[ImageRef, ImageFacts]) -> dict[ImageRef, int]:
    """For each image the place, among all, of the first with the same bytes.

    Those with trouble each have a number of their own. DataError if a file has gone since it was
    looked at.
    """
    readable = [image for image, facts in images.items() if not facts.trouble]
    place = {image: number for number, image in enumerate(images)}
    digests = [images[image].digest for image in readable]
    try:
        firsts = (first_of(digests) if all(digests) else identical_groups(readable)).tolist()
    except OSError as error:
        raise DataError(
            f"{error.filename} could be read at first and cannot be now "
            f"({error.strerror or error}): check again when nothing changes the data."
        ) from error
    same = {image: place[readable[first]] for image, first in zip(readable, firsts, strict=True)}
    return place | same


def duplicate_findings(
    objects: CheckedObjects,
    identical: Mapping[ImageRef, int],
    thumbnails: npt.NDArray[np.uint8] | None,
    *,
    class_names: Sequence[str],
) -> list[Fault]:
    """What is wrong about images that occur twice or, by their thumbnails, are almost identical.

    `identical` is from `identical_images`, `thumbnails` uint8 (N, SIDE, SIDE), of the same images
    in their order; labels that mean one class are no conflict.
    """
    columns, meant = objects.objects, class_meant(class_names)
    findings = _same_group(objects)
    # Of most images nothing more is asked than that no row of theirs is of two splits, or repeated.
    by_image, every = _by_image(objects), np.arange(len(columns))
    odd = crosses_splits(objects) | (columns.firsts(objects.split) != every)
    for image in columns.take(odd).images:
        findings += _same_file(by_image(image))
    firsts: dict[int, ImageRef] = {}
    for one in columns.images:
        first = firsts.setdefault(identical[one], one)
        if first != one:
            findings += _same_bytes(by_image(first), by_image(one), meant)
    if thumbnails is not None:
        repeats = [row for row, first in enumerate(identical.values()) if row != first]
        if repeats:
            thumbnails = thumbnails.copy()
            thumbnails[repeats] = 0  # Plain pictures are like none.
        findings += _near_images(list(identical), thumbnails, by_image)
    return findings


def crosses_splits(objects: CheckedObjects) -> npt.NDArray[np.bool_]:
    """Which objects stand in another split than the first of their image, bool (N,)."""
    columns = objects.objects
    return objects.split != objects.split[columns.first][columns.image]


def _by_image(objects: CheckedObjects) -> Callable[[ImageRef], CheckedObjects]:
    """Gives the objects of an image."""
    columns = objects.objects
    order = np.argsort(columns.image, kind="stable")
    counts = np.bincount(columns.image, minlength=len(columns.images))
    ends = np.cumsum(counts)

    def of(image: ImageRef) -> CheckedObjects:
        number = columns.images[image]
        return objects.take(order[ends[number] - counts[number] : ends[number]])

    return of


def _same_group(objects: CheckedObjects) -> list[Fault]:
    """Groups in two splits, reported once for each split that is not kept."""
    groups: dict[str, dict[Split, list[CheckedObject]]] = defaultdict(lambda: defaultdict(list))
    grouped = objects.objects.of_subjects(
        [bool(subject.group) for subject in objects.objects.subjects], np.bool_
    )
    for item in objects.take(grouped):
        groups[item.annotated.group][item.split].append(item)
    found = []
    for name, parts in groups.items():
        keeper, *others = (split for split in HELD_OUT_FIRST if split in parts)
        for split in others:
            first, kept = parts[split][0], parts[keeper][0]
            count = len({item.annotated.image for item in parts[split]})
            reason = (
                f"group {name!r} has {count} image{'s' * (count > 1)} in {split}, such as "
                f"{first.annotated.name}, and stands in {keeper}, too, such as {_place(kept)}"
            )
            found.append(_finding("group_across_splits", first, reason, kept))
    return found


def _same_file(items: Sequence[CheckedObject]) -> list[Fault]:
    """One file named in two splits, or twice for the same object."""
    found = []
    first = items[0]
    keys: set[Hashable] = set()
    splits = {first.split}
    for item in items:
        key = (item.split, item.annotated.label, item.annotated.box)
        if item.split not in splits:
            splits.add(item.split)
            reason = f"{item.annotated.name} stands in {item.split} and in {_place(first)}"
            found.append(_finding("duplicate_across_splits", item, reason))
        elif key in keys:
            reason = f"the same box and class of {item.annotated.name} stand in an earlier row, too"
            found.append(_finding("duplicate_row", item, reason))
        keys.add(key)
    return found


def _same_bytes(
    first: Sequence[CheckedObject], later: Sequence[CheckedObject], meant: Callable[[str], Hashable]
) -> list[Fault]:
    kept, other = first[0], later[0]
    name, place = other.annotated.name, _place(kept)
    kind = "duplicate_across_splits" if _crossing(first, later) else "duplicate_image"
    reason = f"{name} in {other.split} is identical with {place}"
    found = [_finding(kind, other, reason, kept)]
    labels, other_labels = ({item.annotated.label for item in items} for items in (first, later))
    if set(map(meant, labels)) != set(map(meant, other_labels)):
        reason = (
            f"{name} is called {_listed(other_labels)}, and the identical {place} is called "
            f"{_listed(labels)}"
        )
        found.append(_finding("duplicate_conflict", other, reason, kept))
    elif _boxes_differ(first, later):
        reason = f"the boxes of {name} and of the identical {place} overlap little"
        found.append(_finding("duplicate_boxes_differ", other, reason, kept))
    return found


def _near_images(
    images: Sequence[ImageRef],
    thumbnails: npt.NDArray[np.uint8],
    by_image: Callable[[ImageRef], CheckedObjects],
) -> list[Fault]:
    """Each image that looks like earlier ones, once: with one of another split, else the first."""
    pairs = near_pairs(thumbnails)
    found: dict[int, Fault] = {}
    for earlier, later in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        fault = _near(by_image(images[earlier]), by_image(images[later]))
        if later not in found or found[later].kind == "near_duplicate" != fault.kind:
            found[later] = fault
    return [found[later] for later in sorted(found)]


def _near(first: Sequence[CheckedObject], later: Sequence[CheckedObject]) -> Fault:
    kept, other = first[0], later[0]
    kind = "near_duplicate_across_splits" if _crossing(first, later) else "near_duplicate"
    reason = f"{other.annotated.name} in {other.split} looks like {_place(kept)}"
    return _finding(kind, other, reason, kept)


def _crossing(first: Sequence[CheckedObject], later: Sequence[CheckedObject]) -> bool:
    return {item.split for item in first} != {item.split for item in later}


def _boxes_differ(first: Sequence[CheckedObject], later: Sequence[CheckedObject]) -> bool:
    """Whether some box of the one has no like in the other."""
    if len(first) != len(later):
        return True
    boxes = [item.box for item in first if item.box is not None]
    others = [item.box for item in later if item.box is not None]
    return any(
        max((_overlap(box, other) for other in others), default=1.0) < _SAME_BOX for box in boxes
    )


def _overlap(a: Box, b: Box) -> float:
    """IoU of two boxes; 0 where one has no area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if not (width > 0 and height > 0):
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def _listed(labels: set[str]) -> str:
    return " and ".join(repr(label) for label in sorted(labels)[:3])


def _place(item: CheckedObject) -> str:
    one = item.annotated
    file = "/".join(one.file.split("/")[-2:])
    return f"{one.name} in {item.split} ({file}, row {one.row})"


def _finding(
    kind: str, item: CheckedObject, reason: str, twin: CheckedObject | None = None
) -> Fault:
    one = item.annotated
    fault = Fault(one.file, one.row, reason, kind, one.image, item.box)
    return fault if twin is None else fault._replace(twin=twin.annotated.image, twin_box=twin.box)
