"""Findings about classes: labels that fit none, look misspelt, or are seldom."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

from loc_keras.data.annotations import Split
from loc_keras.data.check.catalogue import Finding
from loc_keras.data.check.objects import CheckedObject
from loc_keras.data.class_names import class_index, class_indices, infer_class_names

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
