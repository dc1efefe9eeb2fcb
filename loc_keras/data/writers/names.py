"""Names for converted files: safe on every system, distinct, and near the original ones."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

from loc_keras.data.annotations import WHOLE_FILE, Split
from loc_keras.data.records import Records

_LONGEST_BYTES = 180
"""Of a stem in UTF-8; systems allow 255 for a name, and counters and endings come behind it."""

_PLAIN = set("-_.+=@()")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def record_stems(
    splits: Mapping[Split, Records], *, one_folder: bool = False
) -> dict[Split, list[str]]:
    """A file name without ending for each record, distinct even where case does not count.

    It is the base name of the image. Where images of one folder share it, all names of the data
    set get as many of the folders above them as part these images. What is still the same (as
    objects cut out of one image are) gets a number.

    Args:
        splits: Records of each split.
        one_folder: Whether the files of all splits shall lie in one folder, not each in its own.
    """
    origins = {
        split: [_origin(records, index) for index in range(len(records))]
        for split, records in splits.items()
    }
    if not one_folder:
        return dict(zip(origins, distinct_stems(list(origins.values())), strict=True))
    stems = iter(distinct_stems([[one for part in origins.values() for one in part]])[0])
    return {split: list(islice(stems, len(part))) for split, part in origins.items()}


def distinct_stems(folders: Sequence[Sequence[str]]) -> list[list[str]]:
    """As `record_stems`, for paths or names with slashes, by the folder that they will lie in."""
    parts = [[tuple(map(safe_name, _parts(origin))) for origin in folder] for folder in folders]
    depth = _depth(parts)
    return [_numbered([_joined(one, depth) for one in folder]) for folder in parts]


def safe_name(text: str) -> str:
    """Keeps letters and digits of every alphabet and a few signs; the rest becomes `_`.

    Spaces, quotes and the like are legal in file names and still break the lists, shells and
    tools that the files go through.
    """
    composed = unicodedata.normalize("NFC", text)
    kept = "".join(sign if _is_plain(sign) else "_" for sign in composed)
    kept = kept.lstrip(".").rstrip(".")
    kept = f"_{kept}" if _RESERVED.fullmatch(kept) else kept
    return _cut(kept) or "image"


def _origin(records: Records, index: int) -> str:
    """The path of a file of its own; images within a larger file have only a name."""
    whole = records.lengths[index] == WHOLE_FILE
    return str(records.paths[index] if whole else records.names[index])


def _parts(origin: str) -> list[str]:
    """The folders and the base name without its ending."""
    folder, _, base = origin.replace("\\", "/").rpartition("/")
    stem, ending = os.path.splitext(base)
    # "photo 1.5 m" has no ending: those of image files are short and alphanumeric.
    stem = stem if re.fullmatch(r"\.[A-Za-z0-9]{1,5}", ending) else base
    return [*(part for part in folder.split("/") if part not in ("", ".", "..")), stem]


def _joined(parts: Sequence[str], depth: int) -> str:
    return _cut("_".join(parts[-depth:]))


def _depth(folders: Sequence[Sequence[tuple[str, ...]]]) -> int:
    """The fewest parts of a path with which the fewest origins clash.

    Some clash at any depth, such as names that differ in case alone.
    """
    fewest, best = None, 1
    for depth in range(1, max((len(one) for folder in folders for one in folder), default=1) + 1):
        clashes = _clashes(folders, depth)
        if fewest is None or clashes < fewest:
            fewest, best = clashes, depth
        if not clashes:
            break
    return best


def _clashes(folders: Sequence[Sequence[tuple[str, ...]]], depth: int) -> int:
    """How many different origins beyond the first share a name in their folder."""
    count = 0
    for folder in folders:
        different = set(folder)
        count += len(different) - len({_joined(one, depth).casefold() for one in different})
    return count


def _numbered(stems: Sequence[str]) -> list[str]:
    """Appends `_2`, `_3`, ... to repetitions, past numbers that are taken."""
    taken = set(Counter(stem.casefold() for stem in stems))
    seen: Counter[str] = Counter()
    named = []
    for stem in stems:
        key = stem.casefold()
        seen[key] += 1
        name = stem
        if seen[key] > 1:
            while (name := f"{stem}_{seen[key]}").casefold() in taken:
                seen[key] += 1
            taken.add(name.casefold())
        named.append(name)
    return named


def _is_plain(sign: str) -> bool:
    return sign in _PLAIN or sign.isalnum() or unicodedata.category(sign).startswith("M")


def _cut(text: str) -> str:
    """At most `_LONGEST_BYTES` in UTF-8, whole letters, the distinguishing end kept."""
    raw = text.encode("utf-8", "replace")
    return raw[-_LONGEST_BYTES:].decode("utf-8", "ignore") if len(raw) > _LONGEST_BYTES else text
