"""Which annotation format a folder holds, told from names and the beginnings of files."""

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from loc_keras.data import files
from loc_keras.data.annotations import SPLITS, Annotations
from loc_keras.data.formats.listing import (
    LABEL_ENDINGS,
    MOST_NAMES,
    Guess,
    Listing,
    ending_of,
    list_folder,
)
from loc_keras.data.formats.parsing import IMAGE_ENDINGS, below, is_image_name
from loc_keras.data.formats.registry import FORMATS
from loc_keras.data.formats.tools import way_on
from loc_keras.errors import DataError

_MOST_ENDINGS = 6
_PACKED = {"." + ending.rpartition(".")[2] for ending in files.ARCHIVE_ENDINGS}
_MOST_FOLDERS = 3
_LABEL_FOLDERS = frozenset({"annotations", "annotation", "labels", "label", "ann", "anns"})
_BOX_KEYS = re.compile(r'"(bbox|bboxes|box|boxes|bounding_?box|xmin|x_min|x1|left)"\s*:', re.I)
_DOCUMENTS = frozenset({".md", ".pdf", ".html", ".py", ".ipynb", ".zip"})


def list_data_folder(root: str) -> Listing:
    """Lists a data folder for `guesses`, or the one of a file of labels, which alone counts then.

    DataError if it is missing or empty, or no image lies near the file.
    """
    if files.is_file(root):
        folder = posixpath.dirname(root if files.is_remote(root) else os.path.abspath(root))
        for place in (folder, posixpath.dirname(folder)):
            listing = list_folder(place)
            if any(held.images for held in listing.folders.values()):
                listing.keep(below(place, root))
                return listing
            if posixpath.basename(folder).lower() not in _LABEL_FOLDERS:
                break
        raise DataError(f"no image lies in the folder of {root}; --data takes one with both.")
    if not files.is_folder(root):
        raise DataError(f"data folder {root} does not exist; mend --data.")
    listing = list_folder(root)
    if not listing.endings():
        raise DataError(f"data folder {root} is empty; --data takes one with images and labels.")
    return listing


def guesses(listing: Listing) -> Iterator[Guess]:
    """Possible readings of a folder, the likeliest first; each has still to be tried."""
    for one in FORMATS.values():
        yield from one.detect(listing)


def unrecognised(listing: Listing) -> str:
    """A sentence for a folder that no reading fits: what is there, and what would be needed."""
    if sentence := way_on(listing):
        return sentence
    for name in listing.files(".json", ".jsonl", ".ndjson"):
        if _BOX_KEYS.search(listing.head(name)):
            return (
                f"{name} holds boxes in a form of JSON that is not known: write a CSV with the "
                "columns file, label, x1, y1, x2, y2 from it."
            )
    packed = [
        name for name in listing.files(*_PACKED) if name.lower().endswith(files.ARCHIVE_ENDINGS)
    ]
    if packed:
        place = files.join(listing.root, packed[0])
        return f"{listing.root} holds the archive {packed[0]}; --data {place} reads what is in it."
    counts = listing.endings()
    images = sum(count for ending, count in counts.items() if ending in IMAGE_ENDINGS)
    held = [path for path, folder in listing.folders.items() if folder.images and path]
    if images and not set(counts) - IMAGE_ENDINGS - _DOCUMENTS:
        where = ""
        if len(held) > 1:
            named = ", ".join(held[:_MOST_FOLDERS]) + (", ..." if held[_MOST_FOLDERS:] else "")
            where = f" in {len(held)} folders ({named})"
        return (
            f"{listing.root} holds {images:,} images{where} but no boxes: a localizer learns where "
            "an object is from one box an image, so draw them with a labelling tool and save them "
            "beside the images as VOC, COCO, YOLO or CSV."
        )
    needed = ", ".join(f"{name} needs {one.needs}" for name, one in FORMATS.items() if one.needs)
    return (
        f"{listing.root} holds {_counted(counts)}, but no annotations that are recognised: "
        f"{needed}, or an export of a tool in docs/data.md; or name format and files in a config "
        "and give it to --config."
    )


def truncated_note(listing: Listing) -> str:
    """A sentence where the folder was too large to be listed whole; else `""`."""
    if listing.complete:
        return ""
    return (
        f"only the first {MOST_NAMES:,} names of {listing.root} were looked at to tell its format."
    )


def _counted(counts: Counter[str]) -> str:
    parts = [f"{count:,} {ending or 'without ending'}" for ending, count in counts.most_common()]
    rest = len(parts) - _MOST_ENDINGS
    return ", ".join(parts[:_MOST_ENDINGS]) + (f" and {rest} more kinds" if rest > 0 else "")


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
        for ending in folder.names.keys() & LABEL_ENDINGS:
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
