"""WordNet ids of ImageNet's classes, such as `n02165456`, and the words for them."""

from collections import Counter
from collections.abc import Sequence

from loc_keras.data import files
from loc_keras.data.annotations import Fault
from loc_keras.data.readers.parsing import shown
from loc_keras.data.readers.text_tables import RowFault, numbered_lines, parse_rows


def read_words(path: str) -> tuple[dict[str, str], list[Fault]]:
    """Reads the names of wnids, one a line.

    Args:
        path: File with lines `wnid name, other name, ...`, the wnid ended by a tab or space.

    Returns:
        The first name of each wnid, in the order of the file, and faults.

    Raises:
        DataError: If the file is missing or not text.
    """
    parsed, faults = parse_rows(path, numbered_lines(files.read_text(path)), _parse_words)
    words: dict[str, str] = {}
    for row, wnid, name in parsed:
        if wnid in words:
            faults.append(Fault(path, row, f"{shown(wnid)} was named before", "duplicate_row"))
        else:
            words[wnid] = name
    return words, faults


def class_names(wnids: Sequence[str], words: dict[str, str]) -> list[str]:
    """Names of classes: the word for each wnid.

    A wnid without a word, or whose word another one shares (ImageNet has two sorts of crane), is
    its own name.
    """
    named = [words.get(wnid) or wnid for wnid in wnids]
    count = Counter(named)
    unique = [name if count[name] == 1 else wnid for wnid, name in zip(wnids, named, strict=True)]
    return unique if len(set(unique)) == len(unique) else list(wnids)


def _parse_words(row: int, line: str) -> tuple[int, str, str]:
    parts = line.split(maxsplit=1)
    if len(parts) != 2 or "\0" in line:
        raise RowFault(f"{shown(line)} is not a wnid and its names", "columns")
    return row, parts[0], parts[1].split(",")[0].strip()
