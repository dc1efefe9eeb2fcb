"""Reader of COCO data sets: one JSON file for each split."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from loc_keras.atomic_file import write_text
from loc_keras.data import files
from loc_keras.data.annotations import Annotated, Annotations, EmptyImage, Fault, ImageRef, Split
from loc_keras.data.formats.parsing import (
    config_path,
    folder_of,
    given_splits,
    label_problem,
    place,
    require_root,
    shown,
)
from loc_keras.data.formats.writing import Job, box_px, record_stems, write_images
from loc_keras.data.records import Records
from loc_keras.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


def write_coco(job: Job) -> dict[Split, int]:
    """Writes images and one JSON file for each split; returns the images of each.

    Boxes are `[x, y, width, height]` in px with decimals; ids count from 1.
    """
    counts: dict[Split, int] = {}
    stems = record_stems(job.splits)
    (job.folder / "annotations").mkdir(exist_ok=True)
    for split, records in job.splits.items():
        names = write_images(job, split, job.folder / "images" / split, stems[split], FORMATS)
        content = _instances(records, names, job.object_classes)
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        write_text(job.folder / "annotations" / f"instances_{split}.json", text + "\n")
        counts[split] = sum(map(bool, names))
    return counts


def coco_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    files = {
        split: {"annotations": f"annotations/instances_{split}.json", "images": f"images/{split}"}
        for split in splits
    }
    return {"format": "coco", "inclusive_pixels": False, "coco": {"splits": files}}


def _instances(
    records: Records, names: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    images, annotations = [], []
    for index, name in enumerate(names):
        if not name:
            continue
        number = index + 1
        height, width = (int(side) for side in records.sizes[index])
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        if records.is_empty(index):
            continue
        annotations.append(
            coco_annotation(number, number, int(records.labels[index]), box_px(records, index))
        )
    return {
        "info": {"description": "converted by loc_keras", "version": "1"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": coco_categories(class_names),
    }


def coco_annotation(number: int, image: int, label: int, box_px: Sequence[float]) -> dict[str, Any]:
    """One object: ids of itself and its image, index of its class, (x1, y1, x2, y2) in px."""
    x1, y1, x2, y2 = (round(side, 6) for side in box_px)
    return {
        "id": number,
        "image_id": image,
        "category_id": label + 1,
        "bbox": [x1, y1, round(x2 - x1, 6), round(y2 - y1, 6)],
        "area": round((x2 - x1) * (y2 - y1), 6),
        "iscrowd": 0,
        "segmentation": [],
    }


def coco_categories(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The categories of classes by index."""
    return [
        {"id": index + 1, "name": name, "supercategory": ""}
        for index, name in enumerate(class_names)
    ]


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


_KEY = "data.source.coco.splits"
_BOX_NUMBERS = 4


def read_coco(root: str, *, splits: Mapping[str, Mapping[str, str] | None]) -> Annotations:
    """Reads COCO files of annotated objects.

    One file holds all of a split; other entries are not read::

        {"images": [{"id": 1, "file_name": "0001.jpg", "width": 640, "height": 480}],
         "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [64, 48, 448, 408]}],
         "categories": [{"id": 3, "name": "cat"}]}

    `bbox` is left, top, width and height in px.

    Args:
        root: Folder of the data set, on any filesystem that TensorFlow opens.
        splits: `{"train" | "val" | "test": {"annotations": file, "images": folder}}`, relative to
            `root`; the file may also be called `"json"`. Without `images`, they lie beside it.

    Returns:
        The objects in the order of the files, boxes in px; `class_names` are the categories of
        the training file in the order of their ids, and then those that only others have. Rows are
        positions in the file's list of annotations, and in faults also of images or categories,
        as the reason says. Crowds (`iscrowd`) are faults of the kind `"crowd"`.

    Raises:
        DataError: If a file is missing or is not JSON of this form.
    """
    require_root(root)
    objects: dict[Split, list[Annotated]] = {}
    faults: list[Fault] = []
    unread: dict[ImageRef, int] = {}
    empty: list[EmptyImage] = []
    folders: dict[str, None] = {}
    class_names: dict[str, None] = {}
    for split, entry in given_splits(splits, _KEY):
        name = entry.get("annotations") or entry.get("json")
        if not name:
            raise DataError(f"{_KEY}.{split}.annotations is missing; name the JSON file.")
        path = config_path(root, name, f"{_KEY}.{split}.annotations")
        if not files.is_file(path):
            raise DataError(f"COCO file {path} does not exist: mend {_KEY}.{split}.annotations.")
        images = entry.get("images")
        folder = folder_of(path)
        if images is not None:
            folder = config_path(root, images, f"{_KEY}.{split}.images")
        lists = read_lists(path, folder, root, faults)
        objects[split], without = _objects(path, lists, faults, unread)
        for image, fault in without:
            one = (ImageRef(image.path), image.name, fault)
            empty.append(EmptyImage(split, *one, size=image.size))
        folders[folder] = None
        class_names |= dict.fromkeys(lists.categories[one] for one in sorted(lists.categories))
    return Annotations(
        objects,
        "pixel",
        faults,
        class_names=list(class_names),
        folders=list(folders),
        unread=unread,
        empty=empty,
    )


class _ObjectError(Exception):
    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _objects(
    path: str, lists: CocoLists, faults: list[Fault], unread: dict[ImageRef, int]
) -> tuple[list[Annotated], list[tuple[CocoImage, Fault]]]:
    """The usable annotations of a file, and its images without any, with their faults."""
    found: list[Annotated] = []
    ids: set[Identity] = set()
    shows_something: set[Identity] = set()
    for row, entry in enumerate(lists.annotations, 1):
        try:
            found.append(_object(path, row, entry, lists, ids, shows_something))
        except _ObjectError as fault:
            faults.append(Fault(path, row, f"of annotations: {fault}", fault.kind))
            image_id = _image_id(entry)
            if image_id in lists.images and fault.kind != "duplicate_id":
                ref = ImageRef(lists.images[image_id].path)
                unread[ref] = unread.get(ref, 0) + 1
    without = []
    for one, image in lists.images.items():
        if one not in shows_something:
            reason = f"of images: {shown(image.name)} has no annotation"
            without.append((image, Fault(path, image.row, reason, "no_object")))
    faults += [fault for _, fault in without]
    return found, without


def _image_id(entry: Any) -> Identity | None:
    return identity(entry.get("image_id")) if isinstance(entry, dict) else None


def _object(
    path: str,
    row: int,
    entry: Any,
    lists: CocoLists,
    ids: set[Identity],
    shows_something: set[Identity],
) -> Annotated:
    if not isinstance(entry, dict):
        raise _ObjectError(f"{shown(entry)} is not an object", "syntax")
    image_id = identity(entry.get("image_id"))
    if image_id is None or image_id not in lists.image_ids:
        raise _ObjectError(f"image_id {shown(entry.get('image_id'))} is no image", "reference")
    shows_something.add(image_id)
    own = identity(entry.get("id"))
    if own is not None:
        if own in ids:
            raise _ObjectError(f"the id {shown(entry['id'])} occurs before", "duplicate_id")
        ids.add(own)
    image = lists.images.get(image_id)
    if image is None:
        raise _ObjectError(f"its image {shown(entry['image_id'])} cannot be used", "reference")
    if entry.get("iscrowd"):
        raise _ObjectError("is a crowd", "crowd")
    category = identity(entry.get("category_id"))
    if category is None or category not in lists.categories:
        given = shown(entry.get("category_id"))
        raise _ObjectError(f"category_id {given} is no category", "label")
    box = _box(entry.get("bbox"))
    label = lists.categories[category]
    return Annotated(ImageRef(image.path), image.name, label, box, path, row, image.size)


def _box(value: Any) -> tuple[float, float, float, float]:
    """(x1, y1, x2, y2) of the JSON value [x, y, width, height]."""
    if not isinstance(value, list) or len(value) != _BOX_NUMBERS:
        raise _ObjectError(f"bbox is {shown(value)}, not a list of 4 numbers", "columns")
    numbers = []
    for one in value:
        if isinstance(one, bool) or not isinstance(one, int | float):
            raise _ObjectError(f"bbox: {shown(one)} is not a number", "number")
        try:
            numbers.append(float(one))
        except OverflowError:
            raise _ObjectError(f"bbox: {shown(one)} is not a number of px", "number") from None
    x, y, width, height = numbers
    return x, y, x + width, y + height
