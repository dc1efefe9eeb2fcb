"""Reader of COCO data sets: one JSON file for each split."""

from collections.abc import Mapping
from typing import Any

from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    Fault,
    ImageRef,
    Split,
)
from loc_keras.data.readers.coco_json import CocoImage, CocoLists, Identity, identity, read_lists
from loc_keras.data.readers.parsing import (
    config_path,
    folder_of,
    given_splits,
    require_root,
    shown,
)
from loc_keras.errors import DataError

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
