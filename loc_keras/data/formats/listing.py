"""The names below a folder that help to tell an annotation format, with bounded effort."""

import os
import posixpath
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from loc_keras.data import files
from loc_keras.data.annotations import Split
from loc_keras.data.formats.parsing import SPLIT_NAMES, ImageFinder, below, is_image_name

MOST_NAMES = 300_000
"""Names that are looked at, upper folders first; what lies beyond says nothing new of a format."""

MOST_KEPT = 1_000  # Names of one ending that are kept of a folder.
DEEPEST = 8  # Folders above a file, counted from the data folder.
HEAD_BYTES = 2**18  # Bytes of a file that are looked at.
_T = TypeVar("_T")
_SPLIT_WORDS: dict[str, Split] = {**SPLIT_NAMES, "dev": "val"}
_FILE_ENDINGS = frozenset(
    (".xml", ".json", ".csv", ".tsv", ".txt", ".yaml", ".yml", ".pbtxt", ".tfrecord", ".record")
)

LABEL_ENDINGS = frozenset(
    [
        *(".csv", ".tsv", ".txt", ".xml", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".names"),
        *(".tfrecord", ".record", ".pbtxt", ".parquet", ".arrow", ".xlsx", ".xls", ".ods", ".lst"),
        *(".mat", ".npy", ".npz", ".pkl", ".h5", ".hdf5", ".sqlite", ".db", ".lif", ".data"),
    ]
)
"""Endings, in small letters, of files in which labels are kept, by this package or others."""

_OF_MANY = frozenset((".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".parquet"))


@dataclass
class Folder:
    """What one folder holds itself.

    Attributes:
        names: Files that are no images, sorted, by ending; at most `MOST_KEPT` of each.
        images: Number of files that are named as images.
        endings: Number of files of each ending, in small letters.
    """

    names: dict[str, list[str]] = field(default_factory=dict)
    images: int = 0
    endings: Counter[str] = field(default_factory=Counter)


@dataclass
class Listing:
    """The names below a data folder; paths are relative to it and use `/`.

    Attributes:
        root: The data folder.
        folders: By path, `""` for the data folder; upper ones first, then by name.
        complete: Whether all names were looked at.
    """

    root: str
    folders: dict[str, Folder] = field(default_factory=dict)
    complete: bool = True

    @cached_property
    def finder(self) -> ImageFinder:
        """Finds images by the last parts of their names."""
        return ImageFinder(self.root)

    def keep(self, name: str) -> None:
        """Forgets all other files that hold the labels of several images."""
        for path, folder in self.folders.items():
            for ending in _OF_MANY & folder.names.keys():
                folder.names[ending] = [
                    one for one in folder.names[ending] if posixpath.join(path, one) == name
                ]

    def path(self, name: str) -> str:
        """A relative path as one that can be opened."""
        return files.join(self.root, name) if name else self.root

    def files(self, *endings: str) -> list[str]:
        """Relative paths of the kept files of some endings, upper ones first."""
        return [
            posixpath.join(path, name)
            for path, folder in self.folders.items()
            for ending in endings
            for name in folder.names.get(ending, ())
        ]

    def named(self, name: str) -> list[str]:
        """Folders that hold a file of this name."""
        ending = ending_of(name)
        return [path for path, held in self.folders.items() if name in held.names.get(ending, ())]

    def endings(self) -> Counter[str]:
        """Number of files of each ending."""
        counts: Counter[str] = Counter()
        for folder in self.folders.values():
            counts.update(folder.endings)
        return counts

    def head(self, name: str, *, tail: bool = False) -> str:
        """The first (or last) `HEAD_BYTES` of a file as text; `""` where it cannot be read."""
        return head_of(self.path(name), HEAD_BYTES, tail=tail)


def head_of(path: str, most: int, *, tail: bool = False) -> str:
    """The first (or last) bytes of a file as text; `""` where it cannot be read."""
    try:
        start = max(0, files.file_size(path) - most) if tail else 0
        content = files.read_bytes(path, start, most)
    except OSError:
        return ""
    marked = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if marked else "utf-8-sig", "replace")


def list_folder(root: str) -> Listing:
    """Looks through a folder, breadth first, up to `MOST_NAMES` names; links are not followed."""
    found = Listing(root)
    waiting: deque[tuple[str, int]] = deque([("", 0)])
    left = MOST_NAMES
    while waiting and left > 0:
        path, depth = waiting.popleft()
        folder = found.folders.setdefault(path, Folder())
        for name, is_folder in _entries(found.path(path)):
            left -= 1
            if left < 0:
                break
            if is_folder:
                if depth < DEEPEST:
                    waiting.append((posixpath.join(path, name), depth + 1))
            else:
                _add(folder, name)
        for names in folder.names.values():
            names.sort()
            del names[MOST_KEPT:]
    found.complete = not waiting and left >= 0
    found.folders = dict(sorted(found.folders.items(), key=lambda one: (depth_of(one[0]), one[0])))
    return found


def split_of(name: str) -> Split | None:
    """The split that a relative path speaks of, by its last part that speaks of one.

    Whole words count: `instances_train2017.json` is of train, `test_labels.csv` of test and
    `trainval.txt` of none.
    """
    for part in reversed(name.split("/")):
        for word in re.findall(r"[a-z]+", part.lower()):
            if word in _SPLIT_WORDS:
                return _SPLIT_WORDS[word]
    return None


def by_split(
    names: Iterable[_T], of: Callable[[Any], Split | None] = split_of
) -> dict[Split, list[_T]]:
    """Groups paths, or others, by their splits; those that speak of none belong to train.

    Where none is left for train, the largest group becomes it.
    """
    groups: dict[Split, list[_T]] = {}
    for name in names:
        groups.setdefault(of(name) or "train", []).append(name)
    if groups and "train" not in groups:
        largest = max(groups, key=lambda split: len(groups[split]))
        groups["train"] = groups.pop(largest)
    return groups


def image_folders(listing: Listing, name: str, *, annotation: str, most: int = 400) -> list[str]:
    """Folders in which an image that an annotation file names lies, the likeliest first."""
    wanted = split_of(annotation)
    beside, stem = posixpath.split(posixpath.splitext(annotation)[0])

    def unlikely(path: str) -> tuple[int, bool, bool, int, str]:
        split = split_of(path)
        other = 0 if split == wanted else 1 if split is None else 2
        last = posixpath.basename(path)
        return other, not last or last not in stem, path != beside, depth_of(path), path

    tried = sorted(listing.folders, key=unlikely)[:most]
    found = [path for path in tried if is_image_in(listing, path, name)]
    if found or files.is_remote(listing.root):
        return found
    fitting = listing.finder.fitting(listing.root, name)
    places = {below(listing.root, posixpath.dirname(path)) for path in fitting}
    return sorted({"" if place == "." else place for place in places}, key=unlikely)


def is_image_in(listing: Listing, folder: str, name: str) -> bool:
    """Whether an image that an annotation names is in a relative folder."""
    try:
        inside = files.join_inside(listing.root, folder) if folder else listing.root
        return files.is_file(files.join_inside(inside, name, root=listing.root))
    except files.OutsideError:
        return False


def depth_of(path: str) -> int:
    """Number of parts of a relative path."""
    return path.count("/") + 1 if path else 0


def common_folder(paths: Sequence[str]) -> str:
    """The deepest folder that holds all of some relative folders."""
    return posixpath.commonpath(paths) if paths else ""


def shared_folder(folders: Sequence[str], all_folders: Sequence[str]) -> str:
    """The folder that holds some folders and none of the others; the first of them otherwise."""
    shared = common_folder(folders)
    below = {path for path in all_folders if path == shared or is_above(shared, path)}
    return shared if below == set(folders) else folders[0]


def is_above(folder: str, path: str) -> bool:
    """Whether a relative folder holds another."""
    return path != folder and (not folder or path.startswith(folder + "/"))


def ending_of(name: str) -> str:
    """The ending of a file's name in small letters; of shards what stands before their numbers."""
    lower = name.lower()
    for ending in (".tfrecord", ".record"):
        if ending in lower:
            return ending
    return posixpath.splitext(lower)[1]


def _add(folder: Folder, name: str) -> None:
    ending = ending_of(name)
    folder.endings[ending] += 1
    if is_image_name(name):
        folder.images += 1
        return
    kept = folder.names.setdefault(ending, [])
    # Twice as many as are kept, so that sorting has something to choose from.
    if len(kept) < 2 * MOST_KEPT:
        kept.append(name)


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """(name, whether it is a folder) of what a folder holds, without hidden names."""
    if files.is_remote(folder):
        for name in files.listed(folder):
            known = is_image_name(name) or ending_of(name) in _FILE_ENDINGS
            yield name, not known and files.is_folder(files.join(folder, name))
        return
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    link = entry.is_symlink()
                    yield entry.name, not link and entry.is_dir()
    except PermissionError:  # Of one folder among others; that the data are there shows later.
        return


def matches_only(listing: Listing, pattern: str, names: list[str]) -> bool:
    """Whether a pattern fits these files below the data folder and no others."""
    found = [below(listing.root, path) for path in files.matching(listing.root, pattern)]
    return sorted(found) == sorted(names)


@dataclass(frozen=True)
class Guess:
    """One way to read a folder, as settings of the config's `data.source`.

    Attributes:
        format: A key of `formats.registry.FORMATS`.
        path: Folder that its reader takes.
        options: Settings of the format's own section, only those that differ from its defaults.
        source: Further settings of `data.source`.
        why: What in the folder speaks for it, as the end of a sentence.
        notes: Sentences that the user should know.
        question: What must be said before it is read, as the end of a sentence; `""` for nothing.
        answers: Keys of the config of which one answers the question.
        files: Annotation files that it reads, where that is known.
        unused: Files that look like labels and are not read, with the reason.
    """

    format: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    notes: tuple[str, ...] = ()
    question: str = ""
    answers: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    unused: Mapping[str, str] = field(default_factory=dict)
