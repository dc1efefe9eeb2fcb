"""Names of the classes, and which of them a label as written means."""

from collections.abc import Sequence

from loc_keras.data.files import OutsideError, join_inside, read_text
from loc_keras.errors import DataError

# Whole numbers beyond both are identifiers (as in a data base), not class indices.
_MOST_INDEX_CLASSES = 10_000
_MOST_INDICES_PER_LABEL = 10


def infer_class_names(labels: set[str], background: str | None = None) -> list[str]:
    """Names of the classes: whole numbers in numeric order, else alphabetic order.

    Whole numbers from 0 name every number up to the largest, so that a number is its own class
    index even where some do not occur. Where the largest is above 10,000 and above 10 times the
    number of labels, they name only themselves, as numbers that do not start at 0 do. The class
    `background`, where it is given, comes last, whether labels name it or not.
    """
    if background is not None:
        return [*infer_class_names(labels - {background}), background]
    if labels and all(_is_index(label) for label in labels):
        numbers = {int(label) for label in labels}
        largest = max(numbers)
        dense = largest <= max(_MOST_INDEX_CLASSES, _MOST_INDICES_PER_LABEL * len(numbers))
        if min(numbers) == 0 and dense:
            return [str(number) for number in range(largest + 1)]
        return [str(number) for number in sorted(numbers)]
    return sorted(labels)


def with_class(names: Sequence[str], name: str) -> list[str]:
    """Class names that hold `name`: at its place, or else after the others."""
    return list(names) if name in names else [*names, name]


def class_indices(names: Sequence[str]) -> dict[str, int]:
    """Class index of each label: of the names and, where none of them is a number, of 0..K-1."""
    named = {name: index for index, name in enumerate(names)}
    if any(map(_is_index, names)):
        return named
    return {str(index): index for index in range(len(names))} | named


def class_index(label: str, index_of: dict[str, int]) -> int | None:
    """Looks a label up, whole numbers with or without leading zeros; None for no class."""
    if label in index_of:
        return index_of[label]
    if _is_index(label):
        return index_of.get(str(int(label)))
    return None


def read_class_names(root: str, name: str) -> list[str]:
    """Reads a file with one class name a line; blank lines do not count.

    Args:
        root: Folder of the data set.
        name: The file, relative to it.

    Raises:
        DataError: If it cannot be read, is empty, or names a class twice.
    """
    try:
        path = join_inside(root, name)
    except OutsideError as fault:
        raise DataError(f"data.source.class_names_file: {fault}.") from fault
    lines = read_text(path, what="class name file").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"class name file {path} is empty; write one class name a line.")
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise DataError(f"class name file {path} names {', '.join(twice)} more than once.")
    return names


def _is_index(label: str) -> bool:
    # Python refuses to turn thousands of digits into a number.
    return label.isascii() and label.isdigit() and len(label) <= 18
