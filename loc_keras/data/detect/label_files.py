"""What was made of every file of a data folder that looks like labels."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from loc_keras.data.annotations import SPLITS, Annotations
from loc_keras.data.formats.listing import Listing, ending_of
from loc_keras.data.formats.parsing import below, is_image_name

ENDINGS = frozenset(
    [
        *(".csv", ".tsv", ".txt", ".xml", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".names"),
        *(".tfrecord", ".record", ".pbtxt", ".parquet", ".arrow", ".xlsx", ".xls", ".ods", ".lst"),
        *(".mat", ".npy", ".npz", ".pkl", ".h5", ".hdf5", ".sqlite", ".db", ".lif", ".data"),
    ]
)
"""Endings, in small letters, of files in which labels are kept, by this package or others."""

_MOST_NAMED = 3


class LabelFiles(NamedTuple):
    """Files of which the same was made, by name, or how many and where.

    The use is `"train"`, `"train and test"`, ... where objects of them are used, `"names"` where
    they say what is what, `""` where nothing is used, and `why` says why.
    """

    files: str
    use: str
    why: str

    def sentence(self) -> str:
        """What was made of them."""
        uses = {"": f"not used: {self.why}", "names": "used for names of classes or files"}
        return f"{self.files}: {uses.get(self.use, f'used for {self.use}')}"


def label_files(
    listing: Listing,
    annotations: Annotations,
    opened: Iterable[str],
    unused: Mapping[str, str],
    otherwise: str,
) -> list[LabelFiles]:
    """Sorts all files that look like labels by what was made of them, used ones first.

    `opened` are paths of files that were read, `unused` says why others are not by their names
    relative to the folder, and `otherwise` why those are not of which it says nothing.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for split, part in annotations.objects.items():
        for subject in part.subjects:
            splits[subject.file].add(split)
    for empty in annotations.empty:
        splits[empty.fault.file].add(empty.split)
    faulty = {fault.file for fault in annotations.faults}
    made: dict[str, tuple[str, str]] = {}
    for path in {*opened, *splits, *faulty} - {""}:
        uses = [split for split in SPLITS if split in splits[path]]
        failed = not uses and path in faulty
        use = "" if failed else " and ".join(uses) or "names"
        made[below(listing.root, path)] = use, "nothing in it can be used" if failed else ""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name in sorted(name for name in made if not is_image_name(name)):
        groups[(*made[name], ending_of(name))].append(name)
    read = Counter((posixpath.dirname(name), ending_of(name)) for name in made)
    found = []
    for path, folder in listing.folders.items():
        for ending in folder.names.keys() & ENDINGS:
            unread = {posixpath.join(path, one) for one in folder.names[ending]} - made.keys()
            for name in sorted(unread):
                groups["", unused.get(name, otherwise), ending].append(name)
            more = folder.endings[ending] - len(unread) - read[path, ending]
            if more > 0:
                found.append(LabelFiles(f"{more:,} more {ending} files in {path}", "", otherwise))
    for (use, why, ending), names in groups.items():
        found.append(LabelFiles(_listed(names, ending), use, why))
    return sorted(found, key=lambda one: (one.use == "", one.use == "names"))


def _listed(names: list[str], ending: str) -> str:
    if len(names) <= _MOST_NAMED:
        return ", ".join(names)
    folders = sorted({posixpath.dirname(name) or "." for name in names})
    shown = ", ".join(folders[:_MOST_NAMED]) + (", ..." if folders[_MOST_NAMED:] else "")
    return f"{len(names):,} {ending or 'other'} files in {shown}"
