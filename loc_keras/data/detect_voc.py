"""Detection of Pascal VOC: XML files with the element `annotation`."""

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from loc_keras.data.annotations import SPLITS
from loc_keras.data.detect_guess import Guess
from loc_keras.data.detect_listing import (
    Listing,
    by_split,
    common_folder,
    image_folders,
    is_above,
    shared_folder,
)
from loc_keras.data.readers.parsing import is_image_name

_ELEMENT = re.compile(r"<annotation[\s>]")
_FILE_NAME = re.compile(r"<filename>\s*([^<]+?)\s*</filename>")
_CHALLENGE = re.compile(r"<database>\s*The VOC\d{4} Database")
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp", ".gif")
_LISTS = "ImageSets/Main"


def voc(listing: Listing) -> Iterator[Guess]:
    """Readings as Pascal VOC: by the lists of `ImageSets/Main`, or else by folders."""
    annotated = [
        path
        for path, folder in listing.folders.items()
        if folder.names.get(".xml")
        and _ELEMENT.search(listing.head(posixpath.join(path, folder.names[".xml"][0])))
    ]
    if not annotated:
        return
    for path in annotated:
        parent, last = posixpath.split(path)
        lists = posixpath.join(parent, _LISTS)
        if last == "Annotations" and lists in listing.folders:
            guess = _by_lists(listing, path, lists)
            if guess is not None:
                yield guess
    groups = by_split(annotated)
    splits: dict[str, Any] = {}
    for split in SPLITS:
        if split in groups:
            splits[split] = _by_folder(listing, groups[split], inside=annotated)
    why = f"XML files with annotations in {', '.join(path or '.' for path in annotated[:3])}"
    notes = [
        f"XML files in {path} are not read, since its parent folder has some, too"
        for path in annotated
        if path and any(is_above(other, path) for other in annotated)
    ]
    options = {"splits": splits, **_first_pixel(listing, annotated[0])}
    yield Guess("voc", listing.root, options, why=why, notes=tuple(notes))


def _by_lists(listing: Listing, annotations: str, lists: str) -> Guess | None:
    names = {posixpath.splitext(name)[0] for name in listing.folders[lists].names.get(".txt", ())}
    chosen: dict[str, str] = {split: split for split in SPLITS if split in names}
    if "train" not in chosen:
        whole = next((one for one in ("trainval", "val", "test") if one in names), None)
        if whole is None:
            return None
        chosen = {"train": whole} | {
            split: name for split, name in chosen.items() if whole not in (name, "trainval")
        }
    images = _image_folder(listing, annotations)
    splits = {
        split: {"annotations": annotations, **images, "list": f"{lists}/{name}.txt"}
        for split, name in chosen.items()
    }
    listed = ", ".join(chosen.values())
    options = {"splits": splits, **_first_pixel(listing, annotations)}
    return Guess("voc", listing.root, options, why=f"{annotations} and the lists {listed}")


def _by_folder(listing: Listing, folders: list[str], *, inside: list[str]) -> dict[str, str]:
    """Settings of a split whose XML files lie in some folders."""
    # The reader looks into subfolders where the folder itself has no XML files.
    shared = common_folder(folders)
    if shared not in folders:
        shared = shared_folder(folders, inside)
    settings = {} if not shared else {"annotations": shared}
    return settings | (_image_folder(listing, folders[0]) if len(folders) == 1 else {})


def _image_folder(listing: Listing, annotations: str) -> dict[str, str]:
    """`{"images": folder}`, or nothing where the images lie beside the XML files."""
    name = posixpath.join(annotations, listing.folders[annotations].names[".xml"][0])
    match = _FILE_NAME.search(listing.head(name))
    written = match[1].replace("\\", "/") if match else ""
    stem = posixpath.splitext(posixpath.basename(name))[0]
    tried = [written, posixpath.basename(written), *(stem + ending for ending in _IMAGE_ENDINGS)]
    for image in dict.fromkeys(one for one in tried if one and is_image_name(one)):
        folders = image_folders(listing, image, annotation=name)
        if annotations in folders:
            return {}
        if folders:
            return {"images": folders[0] or "."}
    return {}


def _first_pixel(listing: Listing, annotations: str) -> dict[str, int]:
    """`{"first_pixel": 1}` for the files of the challenges."""
    names = listing.folders[annotations].names[".xml"]
    text = listing.head(posixpath.join(annotations, names[0]))
    return {"first_pixel": 1} if _CHALLENGE.search(text) else {}
