"""The lists of a COCO file, checked entry by entry."""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from loc_keras.data import files
from loc_keras.data.annotations import Fault
from loc_keras.data.readers.parsing import label_problem, place, shown
from loc_keras.errors import DataError

Identity = tuple[bool, int | str]
"""An id that can be compared with every other: whether it is text, and itself."""

_LARGEST_SIDE = 10**9


class CocoImage(NamedTuple):
    """One usable image.

    Attributes:
        path: Its file.
        name: Its `file_name`.
        size: (width, height) in px that the file declares, or None.
        row: Its position in the list of images, from 1.
    """

    path: str
    name: str
    size: tuple[int, int] | None
    row: int


@dataclass(frozen=True)
class CocoLists:
    """What a COCO file holds.

    Attributes:
        images: The usable images by id.
        image_ids: Ids of all images, also of those that cannot be used.
        categories: Names of the categories by id.
        annotations: The annotations as parsed, of any form.
    """

    images: dict[Identity, CocoImage]
    image_ids: set[Identity]
    categories: dict[Identity, str]
    annotations: list[Any]


def read_lists(path: str, folder: str, root: str, faults: list[Fault]) -> CocoLists:
    """Reads a COCO file up to its annotations, which are left as parsed.

    Args:
        path: The JSON file.
        folder: Folder of the images.
        root: Folder that images must stay in.
        faults: Entries that cannot be used are added here.

    Raises:
        DataError: If it is no JSON, or lacks one of the three lists.
    """
    tree = _tree(path)
    lists = [_entries(path, tree, name) for name in ("images", "annotations", "categories")]
    images, annotations, categories = lists
    image_ids: set[Identity] = set()
    usable: dict[Identity, CocoImage] = {}
    for row, entry in enumerate(images, 1):
        own = _new_id(path, row, entry, "images", image_ids, faults)
        if own is not None:
            image = _image(path, row, entry, folder, root, faults)
            if image is not None:
                usable[own] = image
    return CocoLists(usable, image_ids, _categories(path, categories, faults), annotations)


def identity(value: Any) -> Identity | None:
    """An id as it is compared; None for what is neither a whole number nor text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return False, int(value)
    if isinstance(value, int | str):
        return isinstance(value, str), value
    return None


def _tree(path: str) -> dict[str, Any]:
    text = files.read_text(path, what="COCO file")
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"COCO file {path} is not JSON: {error.msg} in line {error.lineno}, column "
            f"{error.colno}; mend it."
        ) from None
    except RecursionError:
        raise DataError(f"COCO file {path} is nested too deeply to be one.") from None
    except ValueError:
        raise DataError(f"COCO file {path} has a number of too many digits; mend it.") from None
    if not isinstance(tree, dict):
        raise DataError(f"COCO file {path} holds {shown(tree)}, expected a JSON object.")
    return tree


def _entries(path: str, tree: dict[str, Any], name: str) -> list[Any]:
    value = tree.get(name)
    if not isinstance(value, list):
        problem = f"{name} is {shown(value)}" if name in tree else f"it has no {name}"
        raise DataError(
            f"COCO file {path}: {problem}; expected lists of images, annotations and categories."
        )
    return value


def _new_id(
    path: str, row: int, entry: Any, name: str, ids: set[Identity], faults: list[Fault]
) -> Identity | None:
    """The id of an entry, which is added to `ids`; None if it cannot be used."""
    reason, kind = "", "syntax"
    if not isinstance(entry, dict):
        reason = f"{shown(entry)} is not an object"
    elif (own := identity(entry.get("id"))) is None:
        reason = f"the id {shown(entry.get('id'))} is neither a whole number nor text"
    elif own in ids:
        reason, kind = f"the id {shown(entry['id'])} occurs before", "duplicate_id"
    else:
        ids.add(own)
        return own
    faults.append(Fault(path, row, f"of {name}: {reason}", kind))
    return None


def _image(
    path: str, row: int, entry: dict[str, Any], folder: str, root: str, faults: list[Fault]
) -> CocoImage | None:
    name = entry.get("file_name")
    if not isinstance(name, str):
        reason = f"of images: file_name is {shown(name)}, not text"
        faults.append(Fault(path, row, reason, "syntax"))
        return None
    try:
        image = place(folder, name, root)
    except files.OutsideError as fault:
        faults.append(Fault(path, row, f"of images: file_name {fault}", "outside"))
        return None
    sides = [entry.get(key) or 0 for key in ("width", "height")]
    if not all(_is_side(side) for side in sides):
        reason = "of images: width and height are not numbers of px, and not compared"
        faults.append(Fault(path, row, reason, "declared_size"))
        sides = [0, 0]
    width, height = map(int, sides)
    return CocoImage(image, name, (width, height) if width and height else None, row)


def _is_side(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= _LARGEST_SIDE and value == int(value)


def _categories(path: str, entries: list[Any], faults: list[Fault]) -> dict[Identity, str]:
    ids: set[Identity] = set()
    found: dict[Identity, str] = {}
    for row, entry in enumerate(entries, 1):
        own = _new_id(path, row, entry, "categories", ids, faults)
        if own is None:
            continue
        name = entry.get("name")
        if problem := label_problem(name):
            faults.append(Fault(path, row, f"of categories: name {problem}", "label"))
        else:
            found[own] = name.strip()
    return found
