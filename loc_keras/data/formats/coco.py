"""COCO: one JSON file for each split."""

import json
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import write_text
from loc_keras.data import files
from loc_keras.data.annotations import (
    Annotated,
    Annotations,
    ImageRef,
    Objects,
    Split,
    Subject,
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
    corners_of_all,
    folder_of,
    given_splits,
    label_problem,
    quoted,
    upright_tool,
)
from loc_keras.data.formats.tools import floats, parsed_json
from loc_keras.data.formats.writing import Job, box_px, write_images
from loc_keras.data.resolve import Records
from loc_keras.errors import DataError

_KEY = "data.source.coco.splits"
_LISTS = ("images", "annotations", "categories")
_LISTED = "images, annotations and categories"
_BOX_NUMBERS = 4
_NUMBERS = {int, float}
_ID_TYPES = frozenset({int, float, str, bool})
_LEAST_POLYGON = 6
_HALF = 0.5
_LONG = 19
_MISSING: Any = ()  # What an id means that none has.
_TRIED_NAMES = 16
_SHOWN = 10

_NOTHING = frozenset({"empty", "nothing", "none", "blank", "background"})
"""Categories, in small letters, of annotations that have no box: the image shows no object."""

_Id = int | str


class _Image(NamedTuple):
    """One usable image: its file, `file_name`, declared (width, height) in px, row from 1."""

    ref: ImageRef
    name: str
    size: tuple[int, int] | None
    row: int


@dataclass
class _File:
    """A COCO file while it is read; an id means None where it can mean nothing, or several."""

    path: str
    lists: dict[str, list[Any]]
    upright_tool: str = ""
    images: dict[_Id, _Image | None] = field(default_factory=dict)
    categories: dict[_Id, str | None] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


def read_coco(root: str, *, splits: Mapping[str, Mapping[str, str] | None]) -> Annotations:
    """Reads COCO files of annotated objects.

    One file holds all of a split; other entries are not read::

        {"images": [{"id": 1, "file_name": "0001.jpg", "width": 640, "height": 480}],
         "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [64, 48, 448, 408]}],
         "categories": [{"id": 3, "name": "cat"}]}

    `bbox` is left, top, width and height in px; where it is absent, the box around the polygons or
    the mask of `segmentation` counts.

    Splits are `{"annotations": file, "images": folder}`, relative to `root`, a folder on any
    filesystem that TensorFlow opens. Without `images`, they lie beside the file.

    Returns:
        The objects in the order of the files, boxes in px; `class_names` are the categories of
        the training file in the order of their ids, and then those that only others have, without
        those that no annotation names. Rows are positions in the file's list of annotations, and in
        faults also of images or categories, as the reason says. Crowds (`iscrowd`) are faults.

    Raises:
        DataError: If a file is missing or is not JSON of this form.
    """
    reading = Reading(root)
    class_names: dict[str, None] = {}
    used: set[str] = set()
    first = ""
    for split, entry in given_splits(splits, _KEY):
        name = entry.get("annotations")
        if not name:
            raise DataError(f"{_KEY}.{split}.annotations is missing; name the JSON file.")
        path = config_path(root, name, f"{_KEY}.{split}.annotations")
        if not files.is_file(path):
            why = files.absence(path)
            raise DataError(f"COCO file {path} {why}: mend {_KEY}.{split}.annotations.")
        images = entry.get("images")
        folder = folder_of(path)
        if images is not None:
            folder = config_path(root, images, f"{_KEY}.{split}.images")
        file = _parsed(path)
        first = first or path
        reading.upright_tool = reading.upright_tool or file.upright_tool
        _read_images(file, folder, reading)
        _read_categories(file, reading)
        _read_annotations(file, split, reading)
        reading.folders[folder] = None
        order = sorted(file.categories, key=lambda one: (isinstance(one, str), one))
        class_names |= dict.fromkeys(filter(None, map(file.categories.get, order)))
        used |= file.used
    unused = [name for name in class_names if name not in used]
    if unused and used:
        names = ", ".join(map(quoted, unused[:_SHOWN])) + (", ..." if unused[_SHOWN:] else "")
        reading.fault(first, 0, f"has no object of {names}: no class of the model", "class_unused")
    return reading.annotations("pixel", class_names=[one for one in class_names if one in used])


def _parsed(path: str) -> _File:
    text = files.read_text(path, what="COCO file")
    try:
        tree = parsed_json(text)
    except RowError as error:
        raise DataError(f"COCO file {path} {error}; mend it.") from None
    if not isinstance(tree, dict):
        raise DataError(f"COCO file {path} holds {quoted(tree)}, expected a JSON object.")
    for name in _LISTS:
        if not isinstance(tree.get(name), list):
            problem = f"{name} is {quoted(tree[name])}" if name in tree else f"it has no {name}"
            raise DataError(f"COCO file {path}: {problem}; expected lists of {_LISTED}.")
    return _File(path, {name: tree[name] for name in _LISTS}, upright_tool=upright_tool(tree))


def _read_images(file: _File, folder: str, reading: Reading) -> None:
    for row, entry in enumerate(file.lists["images"], 1):
        try:
            own = _new_id(entry)
            name = entry.get("file_name")
            if own in file.images:
                _refuse_repeated(file.images, own, name, "name")
                continue
            file.images[own] = None
            if not isinstance(name, str):
                raise RowError(f"file_name is {quoted(name)}, not text", "syntax")
            try:
                name, path = reading.finder.named(folder, name)
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


def _refuse_repeated(entries: dict[_Id, Any], own: _Id, name: Any, key: str = "") -> None:
    """Takes away what an id means that stands twice, unless both mean the same."""
    first = entries[own]
    before = getattr(first, key) if key and first else first
    if before != name:
        entries[own] = None
        raise RowError(f"the id {quoted(own)} occurs before, of {quoted(before)}", "duplicate_id")


def _is_side(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= LARGEST_SIDE and value == int(value)


def _read_categories(file: _File, reading: Reading) -> None:
    for row, entry in enumerate(file.lists["categories"], 1):
        try:
            own = _new_id(entry)
            if problem := label_problem(entry.get("name")):
                raise RowError(f"name {problem}", "label")
            name = composed(entry["name"])
            if own in file.categories:
                _refuse_repeated(file.categories, own, name)
                continue
        except RowError as error:
            reading.fault(file.path, row, f"of categories: {error}", error.kind)
            continue
        if name in file.categories.values():
            reason = f"{name!r}, again in row {row} of the categories of {file.path}"
            reading.fault("", 0, reason, "class_repeated")
        file.categories[own] = name


def _read_annotations(file: _File, split: Split, reading: Reading) -> None:
    """Reads the usable annotations of a file, and its images without any."""
    entries, path = file.lists["annotations"], file.path
    repeats = _repeated_ids(entries)
    images = {own: one for own, one in file.images.items() if one}
    labels = {own: name for own, name in file.categories.items() if name}
    subject = _places(images, entries, "image_id")
    label = _places(labels, entries, "category_id")
    boxes, plain = _boxes(_column(entries, "bbox"))
    crowds = np.fromiter(map(bool, _column(entries, "iscrowd")), bool, len(entries))
    plain &= (subject >= 0) & (label >= 0) & ~crowds & boxes[:, 2:].any(axis=1) & (not repeats)
    boxes = corners_of_all(boxes, "xywh")
    subjects = [Subject(one.ref, one.name, path, one.size) for one in images.values()]
    rows = np.arange(1, len(entries) + 1)
    columns = (one[plain] for one in (subject, label, boxes, rows))
    parts: list[Annotated | Objects] = [
        Objects.of_columns(subjects, list(labels.values()), *columns)
    ]
    annotated: set[ImageRef] = set()
    seen: dict[_Id | float, Any] = {}
    for row in rows[~plain].tolist():
        entry = entries[row - 1]
        try:
            if (one := _object(file, row, entry, repeats, seen)) is not None:
                parts.append(one)
        except RowError as error:
            reading.fault(path, row, f"of annotations: {error}", error.kind)
            image = _entry(file.images, entry, "image_id")
            if image:
                annotated.add(image.ref)
                reading.unread[image.ref] += 1
            file.used.add(_entry(file.categories, entry, "category_id") or "")
    objects = Objects.joined(parts)
    objects = objects.take(np.argsort(objects.rows, kind="stable"))
    reading.split(split).append(objects)
    file.used |= set(objects.labels)
    for image in images.values():
        if image.ref not in objects.images and image.ref not in annotated:
            reason = f"of images: {quoted(image.name)} has no annotation"
            reading.without_object(
                split, image.ref, image.name, path, image.row, reason, image.size
            )


def _column(entries: Sequence[Any], key: str) -> list[Any]:
    return [entry.get(key) if isinstance(entry, dict) else None for entry in entries]


def _places(table: Mapping[_Id, Any], entries: Sequence[Any], key: str) -> npt.NDArray[np.int32]:
    """The place in a table of what each entry names, int32 (N,); -1 where it is not there."""
    place_of = {own: place for place, own in enumerate(table)}
    ids = _column(entries, key)  # Lists and mappings are none.
    known = (place_of.get(own, -1) if type(own) in _ID_TYPES else -1 for own in ids)
    return np.fromiter(known, np.int32, len(ids))


def _boxes(values: Sequence[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Lists of four numbers, float64 (N, 4), and which of the values are such, bool (N,)."""
    fours = set(map(type, values)) <= {list} and set(map(len, values)) <= {_BOX_NUMBERS}
    if fours and set(map(type, chain.from_iterable(values))) <= _NUMBERS:
        with suppress(OverflowError):  # A whole number of hundreds of digits.
            flat = np.fromiter(chain.from_iterable(values), np.float64)
            return flat.reshape(-1, _BOX_NUMBERS), np.ones(len(values), bool)
    if len(values) == 1:
        return np.zeros((1, _BOX_NUMBERS)), np.zeros(1, bool)
    boxes, plain = zip(*(_boxes([value]) for value in values), strict=True)
    return np.concatenate(boxes), np.concatenate(plain)


def _repeated_ids(entries: Sequence[Any]) -> set[_Id]:
    """Ids of annotations that stand twice where most do not: elsewhere they are left at 0, say."""
    ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    try:
        if len(set(ids)) == len(ids):
            return set()
    except TypeError:  # Lists and mappings are no ids.
        ids = [one for one in ids if isinstance(one, int | float | str)]
    counts = Counter(one for one in ids if one is not None)
    if len(counts) <= _HALF * len(ids):
        return set()
    return {one for one, count in counts.items() if count > 1}


def _object(
    file: _File, row: int, entry: Any, repeats: set[_Id], seen: dict[_Id | float, Any]
) -> Annotated | None:
    """One object; None where it says that its image shows none. `seen` is of repeated ids."""
    if not isinstance(entry, dict):
        raise RowError(f"{quoted(entry)} is not an object", "syntax")
    image = _entry(file.images, entry, "image_id")
    if image is _MISSING:
        raise RowError(f"image_id {quoted(entry.get('image_id'))} is no image", "reference")
    if image is None:
        raise RowError(f"its image {quoted(entry['image_id'])} cannot be used", "reference")
    own = entry.get("id")
    if isinstance(own, int | float | str) and own in repeats:
        said = [entry.get(key) for key in ("image_id", "category_id", "bbox", "segmentation")]
        before = seen.setdefault(own, said)
        if before[0] == said[0] and before != said:
            reason = f"the id {quoted(own)} occurs before, with another object of the same image"
            raise RowError(reason, "duplicate_id")
    if entry.get("iscrowd") not in (None, 0, "0", ""):
        raise RowError("is a crowd", "crowd")
    label = _entry(file.categories, entry, "category_id")
    if label is _MISSING or label is None:
        why = "is no category" if label is _MISSING else "is that of several categories"
        raise RowError(f"category_id {quoted(entry.get('category_id'))} {why}", "label")
    written, shape = entry.get("bbox"), entry.get("segmentation")
    nothing = not written or (isinstance(written, list) and all(one == 0 for one in written))
    if not written and not shape and label.lower() in _NOTHING:
        return None
    box = _extent(shape) if nothing and shape else _box(written)
    return Annotated(image.ref, image.name, label, box, file.path, row, image.size)


def _new_id(entry: Any) -> _Id:
    """The id of an entry of a list."""
    if not isinstance(entry, dict):
        raise RowError(f"{quoted(entry)} is not an object", "syntax")
    own = _as_id(entry.get("id"))
    if own is None:
        reason = f"the id {quoted(entry.get('id'))} is neither a whole number nor text"
        raise RowError(reason, "syntax")
    return own


def _as_id(value: Any) -> _Id | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _entry(entries: Mapping[_Id, Any], entry: Any, key: str) -> Any:
    """What an id means, be it a number in one place and text in the other; else `_MISSING`."""
    value = _as_id(entry.get(key)) if isinstance(entry, dict) else None
    if value is None or value in entries:
        return _MISSING if value is None else entries[value]
    if isinstance(value, int):
        return entries.get(str(value), _MISSING) if value.bit_length() < _LONG else _MISSING
    is_number = value.isascii() and value.isdigit() and len(value) < _LONG
    number = int(value) if is_number else None
    return _MISSING if number is None or str(number) != value else entries.get(number, _MISSING)


def _box(value: Any) -> Box:
    """(x1, y1, x2, y2) of the JSON value [x, y, width, height]."""
    if not isinstance(value, list) or len(value) != _BOX_NUMBERS:
        raise RowError(f"bbox is {quoted(value)}, not a list of 4 numbers", "columns")
    x, y, width, height = floats(*value, key="bbox: ")
    return corners((x, y, width, height), "xywh")


def _extent(shape: Any) -> Box:
    """The box around polygons, or around the pixels of a mask (RLE)."""
    if isinstance(shape, dict):
        return _extent_of_mask(shape.get("counts"), shape.get("size"))
    polygons = shape if isinstance(shape, list) else []
    if polygons and not isinstance(polygons[0], list):
        polygons = [polygons]
    numbers: list[float] = []
    for one in polygons:
        if not isinstance(one, list) or len(one) < _LEAST_POLYGON or len(one) % 2:
            raise RowError(f"segmentation: {quoted(one)} is not a polygon", "columns")
        numbers += floats(*one, key="segmentation: ")
    if not numbers:
        raise RowError(f"segmentation is {quoted(shape)}, not polygons or a mask", "columns")
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _extent_of_mask(counts: Any, size: Any) -> Box:
    """The box of a mask: lengths of its runs of 0 and 1 in turn, column by column."""
    if not isinstance(size, list) or len(size) != 2 or not all(map(_is_side, size)):
        raise RowError(f"segmentation: size is {quoted(size)}, not height and width", "number")
    height, width = map(int, size)
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(map(_is_side, runs)) or not height:
        raise RowError("segmentation: counts are no lengths of runs", "number")
    start, xs, ys = 0, [], []
    for place, run in enumerate(map(int, runs)):
        if place % 2 and run:
            last = start + run - 1
            xs += [start // height, last // height + 1]
            ys += [start % height, last % height + 1] if xs[-1] - xs[-2] == 1 else [0, height]
        start += run
    if not xs or start > height * width:
        raise RowError("segmentation: the mask is empty or longer than its picture", "number")
    return float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))


def _unpacked(text: str) -> list[int]:
    """Lengths from pycocotools' text: 5 bits a sign, differences to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for code in text.encode("ascii", "replace"):
        bits = code - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            value -= (bits & 0x10) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


_LIST_IN_TEXT = re.compile(r'"(?:images|annotations|categories)"\s*:\s*\[')
_NAME_IN_TEXT = re.compile(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_BOX_IN_TEXT = re.compile(r'"(?:bbox|segmentation)"\s*:')


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
        why = f"JSON with {_LISTED}: {splits['train']['annotations']}"
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


def write_coco(job: Job) -> None:
    """Writes images and one JSON file for each split.

    Boxes are `[x, y, width, height]` in px with decimals; ids count from 1.
    """
    (job.folder / "annotations").mkdir(exist_ok=True)
    for split, records in job.splits.items():
        names = write_images(job, split, job.folder / "images" / split)
        content = _instances(records, names, job.object_classes)
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        write_text(job.folder / "annotations" / f"instances_{split}.json", text + "\n")


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
