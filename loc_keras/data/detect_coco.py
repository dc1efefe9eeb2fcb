"""Detection of COCO: JSON files with lists of images, annotations and categories."""

import json
import posixpath
import re
from collections.abc import Iterator

from loc_keras.data.annotations import Split
from loc_keras.data.detect_guess import Guess
from loc_keras.data.detect_listing import Listing, by_split, image_folders

_LISTS = re.compile(r'"(?:images|annotations|categories)"\s*:\s*\[')
_FILE_NAME = re.compile(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_OBJECTS = re.compile(r'"bbox"\s*:')


def coco(listing: Listing) -> Iterator[Guess]:
    """Readings as COCO, one JSON file a split.

    Files called `instances...` go before others, since beside them lie captions and key points of
    the same images. Where several of one split are left, the first by name is read.
    """
    found = [name for name in listing.files(".json") if _is_coco(listing, name)]
    instances = [name for name in found if posixpath.basename(name).startswith("instances")]
    groups = by_split(instances or found)
    splits: dict[Split, dict[str, str]] = {}
    notes = []
    for split, names in groups.items():
        name = names[0]
        if names[1:]:
            notes.append(f"of {len(names)} COCO files for {split}, {name} is read")
        splits[split] = {"annotations": name, "images": _images(listing, name)}
    if "train" in splits:
        why = f"JSON with images, annotations and categories: {splits['train']['annotations']}"
        yield Guess("coco", listing.root, {"splits": splits}, why=why, notes=tuple(notes))


def _is_coco(listing: Listing, name: str) -> bool:
    head = listing.head(name)
    if not head.lstrip().startswith("{") or not _LISTS.search(head):
        return False
    # The published test images come with a file of the same form that holds no boxes.
    return bool(_OBJECTS.search(head) or _OBJECTS.search(listing.head(name, tail=True)))


def _images(listing: Listing, name: str) -> str:
    """The folder of the images of a COCO file; that of the file itself where none is found."""
    beside = posixpath.dirname(name) or "."
    match = _FILE_NAME.search(listing.head(name)) or _FILE_NAME.search(
        listing.head(name, tail=True)
    )
    if match is None:
        return beside
    try:
        image = json.loads(match[1])
    except ValueError:
        return beside
    folders = image_folders(listing, image, annotation=name)
    return (folders[0] or ".") if folders else beside
