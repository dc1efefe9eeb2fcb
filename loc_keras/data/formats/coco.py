"""COCO: one JSON file for each split."""

import json
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple

from loc_keras.atomic_file import write_text
from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    EmptyImage,
    ImageRef,
    Split,
    composed,
)
from loc_keras.data.formats.listing import Guess, Listing, by_split, image_folders
from loc_keras.data.formats.parsing import (
    LARGEST_SIDE,
    Box,
    Reading,
    RowError,
    config_path,
    corners,
    folder_of,
    given_splits,
    label_problem,
    place,
    quoted,
    require_root,
    upright_tool,
)
from loc_keras.data.formats.writing import Job, box_px, record_stems, write_images
from loc_keras.data.records import Records
from loc_keras.errors import DataError

_KEY = "data.source.coco.splits"
_LISTS = ("images", "annotations", "categories")
_BOX_NUMBERS = 4
_TRIED_NAMES = 16
_COPIED_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")

_Identity = tuple[bool, int | str]
"""An id that can be compared with every other: whether it is text, and itself."""


class _Image(NamedTuple):
    """One usable image: its file, `file_name`, declared (width, height) in px, place in the list.

    Rows are positions in the list, from 1.
    """

    ref: ImageRef
    name: str
    size: tuple[int, int] | None
    row: int


@dataclass
class _File:
    """A COCO file while it is read.

    Attributes:
        path: The JSON file.
        lists: Its entries, as parsed, by the name of their list.
        ids: Ids of each list that have occurred, also of images that cannot be used.
        images: The usable images by id.
        categories: Names of the categories by id.
        upright_tool: As in `Annotations`.
    """

    path: str
    lists: dict[str, list[Any]]
    upright_tool: str = ""
    ids: dict[str, set[_Identity]] = field(default_factory=lambda: {name: set() for name in _LISTS})
    images: dict[_Identity, _Image] = field(default_factory=dict)
    categories: dict[_Identity, str] = field(default_factory=dict)


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
            `root`. Without `images`, they lie beside the file.

    Returns:
        The objects in the order of the files, boxes in px; `class_names` are the categories of
        the training file in the order of their ids, and then those that only others have. Rows are
        positions in the file's list of annotations, and in faults also of images or categories,
        as the reason says. Crowds (`iscrowd`) are faults of the kind `"crowd"`.

    Raises:
        DataError: If a file is missing or is not JSON of this form.
    """
    require_root(root)
    reading = Reading()
    class_names: dict[str, None] = {}
    for split, entry in given_splits(splits, _KEY):
        name = entry.get("annotations")
        if not name:
            raise DataError(f"{_KEY}.{split}.annotations is missing; name the JSON file.")
        path = config_path(root, name, f"{_KEY}.{split}.annotations")
        if not files.is_file(path):
            raise DataError(f"COCO file {path} does not exist: mend {_KEY}.{split}.annotations.")
        images = entry.get("images")
        folder = folder_of(path)
        if images is not None:
            folder = config_path(root, images, f"{_KEY}.{split}.images")
        file = _parsed(path)
        reading.upright_tool = reading.upright_tool or file.upright_tool
        _read_images(file, folder, root, reading)
        _read_categories(file, reading)
        _read_annotations(file, split, reading)
        reading.folders[folder] = None
        class_names |= dict.fromkeys(file.categories[one] for one in sorted(file.categories))
    return reading.annotations("pixel", class_names=list(class_names))


def _parsed(path: str) -> _File:
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
        raise DataError(f"COCO file {path} holds {quoted(tree)}, expected a JSON object.")
    for name in _LISTS:
        if not isinstance(tree.get(name), list):
            problem = f"{name} is {quoted(tree[name])}" if name in tree else f"it has no {name}"
            raise DataError(f"COCO file {path}: {problem}; expected lists of {_listed(_LISTS)}.")
    return _File(path, {name: tree[name] for name in _LISTS}, upright_tool=upright_tool(tree))


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _read_images(file: _File, folder: str, root: str, reading: Reading) -> None:
    for row, entry in enumerate(file.lists["images"], 1):
        try:
            own = _new_id(file, "images", entry)
            name = entry.get("file_name")
            if not isinstance(name, str):
                raise RowError(f"file_name is {quoted(name)}, not text", "syntax")
            try:
                path = place(folder, name, root)
            except RowError as error:
                raise RowError(f"file_name {error}", error.kind) from None
        except RowError as error:
            reading.fault(file.path, row, f"of images: {error}", error.kind)
            continue
        sides = [entry.get(key) or 0 for key in ("width", "height")]
        if not all(map(_is_side, sides)):
            reason = "of images: width and height are not numbers of px, and not compared"
            reading.fault(file.path, row, reason, "declared_size")
            sides = [0, 0]
        size = (int(sides[0]), int(sides[1]))
        file.images[own] = _Image(ImageRef(path), name, size if all(size) else None, row)


def _is_side(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= LARGEST_SIDE and value == int(value)


def _read_categories(file: _File, reading: Reading) -> None:
    for row, entry in enumerate(file.lists["categories"], 1):
        try:
            own = _new_id(file, "categories", entry)
            if problem := label_problem(entry.get("name")):
                raise RowError(f"name {problem}", "label")
        except RowError as error:
            reading.fault(file.path, row, f"of categories: {error}", error.kind)
            continue
        name = composed(entry["name"])
        if name in file.categories.values():
            reason = f"{name!r}, again in row {row} of the categories of {file.path}"
            reading.fault("", 0, reason, "class_repeated")
        file.categories[own] = name


def _read_annotations(file: _File, split: Split, reading: Reading) -> None:
    """Reads the usable annotations of a file, and its images without any."""
    objects = reading.split(split)
    annotated: set[_Identity] = set()
    for row, entry in enumerate(file.lists["annotations"], 1):
        try:
            objects.append(_object(file, row, entry, annotated))
        except RowError as error:
            reading.fault(file.path, row, f"of annotations: {error}", error.kind)
            image_id = _identity(entry, "image_id")
            if image_id and image_id in file.images and error.kind != "duplicate_id":
                reading.unread[file.images[image_id].ref] += 1
    for own, image in file.images.items():
        if own not in annotated:
            reason = f"of images: {quoted(image.name)} has no annotation"
            fault = reading.fault(file.path, image.row, reason, "no_object")
            empty = EmptyImage(split, image.ref, image.name, fault, size=image.size)
            reading.empty.append(empty)


def _object(file: _File, row: int, entry: Any, annotated: set[_Identity]) -> Annotated:
    """One object; adds its image to those that are annotated, also if it cannot be used."""
    if not isinstance(entry, dict):
        raise RowError(f"{quoted(entry)} is not an object", "syntax")
    image_id = _identity(entry, "image_id")
    if image_id is None or image_id not in file.ids["images"]:
        raise RowError(f"image_id {quoted(entry.get('image_id'))} is no image", "reference")
    annotated.add(image_id)
    if _identity(entry, "id") is not None:
        _new_id(file, "annotations", entry)
    image = file.images.get(image_id)
    if image is None:
        raise RowError(f"its image {quoted(entry['image_id'])} cannot be used", "reference")
    if entry.get("iscrowd"):
        raise RowError("is a crowd", "crowd")
    category = _identity(entry, "category_id")
    if category is None or category not in file.categories:
        raise RowError(f"category_id {quoted(entry.get('category_id'))} is no category", "label")
    label, box = file.categories[category], _box(entry.get("bbox"))
    return Annotated(image.ref, image.name, label, box, file.path, row, image.size)


def _new_id(file: _File, name: str, entry: Any) -> _Identity:
    """The id of an entry of a list, which no earlier one has."""
    if not isinstance(entry, dict):
        raise RowError(f"{quoted(entry)} is not an object", "syntax")
    own = _identity(entry, "id")
    if own is None:
        raise RowError(
            f"the id {quoted(entry.get('id'))} is neither a whole number nor text", "syntax"
        )
    if own in file.ids[name]:
        raise RowError(f"the id {quoted(entry['id'])} occurs before", "duplicate_id")
    file.ids[name].add(own)
    return own


def _identity(entry: Any, key: str) -> _Identity | None:
    """An id as it is compared; None for what is neither a whole number nor text."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return isinstance(value, str), value


def _box(value: Any) -> Box:
    """(x1, y1, x2, y2) of the JSON value [x, y, width, height]."""
    if not isinstance(value, list) or len(value) != _BOX_NUMBERS:
        raise RowError(f"bbox is {quoted(value)}, not a list of 4 numbers", "columns")
    numbers = []
    for side in value:
        if isinstance(side, bool) or not isinstance(side, int | float):
            raise RowError(f"bbox: {quoted(side)} is not a number", "number")
        try:
            numbers.append(float(side))
        except OverflowError:
            raise RowError(f"bbox: {quoted(side)} is not a number of px", "number") from None
    x, y, width, height = numbers
    return corners((x, y, width, height), "xywh")


_LIST_IN_TEXT = re.compile(r'"(?:images|annotations|categories)"\s*:\s*\[')
_NAME_IN_TEXT = re.compile(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_BOX_IN_TEXT = re.compile(r'"bbox"\s*:')


def detect_coco(listing: Listing) -> Iterator[Guess]:
    """A guess by JSON files with the three lists, one a split.

    Files called `instances...` go before others, since beside them lie captions and key points of
    the same images. Where several of one split are left, it is asked which is read.
    """
    found = [name for name in listing.files(".json") if _is_coco(listing, name)]
    instances = [name for name in found if posixpath.basename(name).startswith("instances")]
    splits: dict[Split, dict[str, str]] = {}
    question = ""
    answers = []
    for split, names in by_split(instances or found).items():
        name = names[0]
        if names[1:]:
            answers.append(f"{_KEY}.{split}.annotations")
            question = question or (
                f"{name} and {names[1]} are both for {split}: join them, or say which is read, "
                f"perhaps --set {answers[0]}={name}"
            )
        splits[split] = {"annotations": name, "images": _image_folder(listing, name)}
    if "train" in splits:
        why = f"JSON with {_listed(_LISTS)}: {splits['train']['annotations']}"
        yield Guess(
            "coco",
            listing.root,
            {"splits": splits},
            why=why,
            question=question,
            answers=tuple(answers),
            unused={name: "files called instances go first" for name in found if instances},
        )


def _is_coco(listing: Listing, name: str) -> bool:
    head = listing.head(name)
    if not head.lstrip().startswith("{") or not _LIST_IN_TEXT.search(head):
        return False
    # The published test images come with a file of the same form that holds no boxes.
    return any(map(_BOX_IN_TEXT.search, (head, listing.head(name, tail=True))))


def _image_folder(listing: Listing, name: str) -> str:
    """The folder of the images of a COCO file; that of the file itself where none is found."""
    texts = (listing.head(name, tail=tail) for tail in (False, True))
    found = chain.from_iterable(map(_NAME_IN_TEXT.finditer, texts))
    for match in islice(found, _TRIED_NAMES):  # One may be wrong, or its image absent.
        try:
            image = json.loads(match[1])
        except ValueError:
            continue
        folders = image_folders(listing, image, annotation=name)
        if folders:
            return folders[0] or "."
    return posixpath.dirname(name) or "."


def write_coco(job: Job) -> dict[Split, int]:
    """Writes images and one JSON file for each split; returns the images of each.

    Boxes are `[x, y, width, height]` in px with decimals; ids count from 1.
    """
    counts: dict[Split, int] = {}
    stems = record_stems(job.splits)
    (job.folder / "annotations").mkdir(exist_ok=True)
    for split, records in job.splits.items():
        images = job.folder / "images" / split
        names = write_images(job, split, images, stems[split], _COPIED_FORMATS)
        content = _instances(records, names, job.object_classes)
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        write_text(job.folder / "annotations" / f"instances_{split}.json", text + "\n")
        counts[split] = sum(map(bool, names))
    return counts


def coco_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    entries = {
        split: {"annotations": f"annotations/instances_{split}.json", "images": f"images/{split}"}
        for split in splits
    }
    return {"format": "coco", "inclusive_pixels": False, "coco": {"splits": entries}}


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
        if not records.is_empty(index):
            label = int(records.labels[index])
            annotations.append(coco_annotation(number, number, label, box_px(records, index)))
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
