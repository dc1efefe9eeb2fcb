"""The mended copy of a data set: its files and the log of every change."""

import io
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from loc_keras.atomic_file import csv_text, folder_aside, write_text
from loc_keras.config.data import CSV_FILES, SourceConfig
from loc_keras.data.annotations import Annotated, Box, ImageRef, Split, class_index, class_indices
from loc_keras.data.check.images import ImageFacts
from loc_keras.data.check.labels import misspelt, same_word
from loc_keras.data.check.run import CheckResult, lost_images
from loc_keras.data.decode import turn_boxes, turn_boxes_back, upright
from loc_keras.data.files import is_remote, read_bytes
from loc_keras.data.formats.parsing import is_image_name
from loc_keras.data.formats.writing import box_cells, distinct_stems, encoded_png, origin
from loc_keras.data.image_header import ENDINGS
from loc_keras.data.resolve import UPRIGHT, CheckedObject, box_areas, picture_size, usable_boxes
from loc_keras.errors import DataError, first_line

LEAST_INSIDE = 0.5
"""Share of its area that a box must have inside the image to be clipped, not dropped."""

_SAME_ASPECT = 0.01


class Change(NamedTuple):
    """One item that the copy does not share with the source.

    Attributes:
        row: Line, object or record number in the annotation file, from 1; 0 for the file as a
            whole.
        image: The image as annotated, or its path.
        action: `"dropped"` for an object, `"left out"` for what could not be read as one,
            `"ignored"` for a part that the object does not need; `"clipped"`, `"swapped"`,
            `"scaled"`, `"relabelled"`, `"turned"`, `"encoded anew"` or `"renamed"`.
        before: What it was, where that has a short form.
        after: What it became.
    """

    file: str
    row: int
    image: str
    action: str
    reason: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, eq=False)
class FixPlan:
    """All of a copy before it is written: objects with the label and the box that they have in it.

    Boxes are in fractions. Files that are changed or renamed on writing are not among the changes.
    """

    objects: dict[Split, list[Annotated]]
    changes: list[Change]
    class_names: list[str]

    @property
    def grouped(self) -> bool:
        """Whether any object has a group, so that the copy's rows have a column for it."""
        return any(one.group for part in self.objects.values() for one in part)


_NOT_NEEDED = frozenset({"declared_size", "stale_name", "score"})


class _DropError(Exception):
    """Why an object is not in the copy."""


def plan_fix(result: CheckResult) -> FixPlan:
    """Decides what to keep and what to change, by a check that decoded every image."""
    changes = [
        # The object of a fault in a part that it does not need is there all the same.
        Change(
            fault.file,
            fault.row,
            "",
            "ignored" if fault.kind in _NOT_NEEDED else "left out",
            fault.reason,
        )
        for fault in result.annotations.faults
        if fault.file
    ]
    changes += [
        Change(fault.file, fault.row, fault.image.path, "left out", fault.reason)
        for fault in result.findings
        if fault.kind == "orphan_image" and fault.image
    ]
    names, relabelled = _class_names(result)
    index_of = class_indices(names)
    lost = lost_images(result)
    kept: dict[Split, list[Annotated]] = defaultdict(list)
    seen: set[Hashable] = set()
    for item in result.objects:
        one = item.annotated
        key = (item.split, one.image, one.label, one.box)
        try:
            if key in seen:
                raise _DropError("the same object stands in an earlier row")
            seen.add(key)
            facts = result.images[one.image]
            if facts.trouble:
                raise _DropError(f"the image {facts.reason}")
            if (item.split, one.image) in lost:
                raise _DropError(lost[item.split, one.image])
            label = _mended_label(item, relabelled, names, index_of, changes)
            box = one.box if one.empty else _mended_box(item, facts, result.source, changes)
            kept[item.split].append(one._replace(label=label, box=box))
        except _DropError as drop:
            changes.append(Change(one.file, one.row, one.name, "dropped", str(drop)))
    return FixPlan(dict(kept), changes, names)


def _class_names(result: CheckResult) -> tuple[list[str], dict[str, str]]:
    """Classes of the copy, and the labels that only case or spaces part from one of them."""
    names = result.class_names
    if not result.named:
        counts = result.objects.objects.label_counts()
        same = {
            label: other
            for label, other in misspelt(counts).items()
            if same_word(label) == same_word(other)
        }
        return [name for name in names if name not in same], same
    by_word = {same_word(name): name for name in reversed(names)}
    return names, {
        label: by_word[same_word(label)]
        for label in set(result.objects.objects.labels) - set(names)
        if same_word(label) in by_word
    }


def _mended_label(
    item: CheckedObject,
    relabelled: Mapping[str, str],
    names: Sequence[str],
    index_of: dict[str, int],
    changes: list[Change],
) -> str:
    one = item.annotated
    label = relabelled.get(one.label, one.label)
    index = class_index(label, index_of)
    if index is None:
        raise _DropError(f"{one.label!r} is none of the classes")
    if label != one.label:
        reason = "only case, spaces or hyphens differ"
        changes.append(Change(one.file, one.row, one.name, "relabelled", reason, one.label, label))
    return names[index]


def _mended_box(
    item: CheckedObject, facts: ImageFacts, source: SourceConfig, changes: list[Change]
) -> Box:
    """The box in fractions of the picture that the rules ask for, within it."""
    one = item.annotated

    def note(action: str, reason: str, before: Box, after: Box) -> None:
        changes.append(
            Change(one.file, one.row, one.name, action, reason, _text(before), _text(after))
        )

    box, boxes_on, scaled = _in_fractions(item, facts, source.boxes_on or "stored")
    if scaled:
        note("scaled", scaled, item.written, box)
    if not all(map(math.isfinite, box)):
        raise _DropError("its box has numbers that are not finite")
    x1, y1, x2, y2 = box
    ordered = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    if ordered != box:
        note("swapped", "its box was inverted", box, ordered)
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in ordered)
    inside = (left, top, right, bottom)
    area, most = box_areas(np.array([inside, ordered])).tolist()
    if area <= 0 or area < LEAST_INSIDE * most:
        raise _DropError("its box has no area, or most of it outside the image")
    if inside != ordered:
        note("clipped", "its box reached over the edge", ordered, inside)
    written = np.array(inside, np.float64)
    wanted = "upright" if source.exif == "apply" else "stored"
    if boxes_on != wanted and facts.header is not None:
        turn = turn_boxes if wanted == "upright" else turn_boxes_back
        written = turn(written, np.array(facts.header.orientation))
    exact = written.astype(np.float32).clip(0, 1).astype(np.float64)
    # What is written must pass the rules that the copy is read by.
    usable, faults = usable_boxes(exact[None], None)
    if faults:
        raise _DropError(f"its box cannot be used: {faults[0].reason}")
    x1, y1, x2, y2 = usable[0].tolist()
    return x1, y1, x2, y2


def _in_fractions(item: CheckedObject, facts: ImageFacts, boxes_on: str) -> tuple[Box, str, str]:
    """The box as written, in fractions; the picture it is on; and why it was scaled, or `""`."""
    if item.units == "fraction":
        return item.written, boxes_on, ""
    declared, size = item.annotated.size, item.size
    x1, y1, x2, y2 = item.written
    why = ""
    if declared is not None and all(declared) and declared != size:
        other = "stored" if boxes_on == "upright" else "upright"
        if facts.header and picture_size(facts.header, other) == declared:
            boxes_on = other
        elif declared == size[::-1] and item.usable is not None:
            declared = size  # Its sides are swapped, and the box lies in the picture.
        elif abs(declared[0] * size[1] / (declared[1] * size[0]) - 1) > _SAME_ASPECT:
            raise _DropError("the annotated size has another shape than the image")
        else:
            why = "the image was scaled after it was labelled"
        size = declared
    width, height = size
    return (x1 / width, y1 / height, x2 / width, y2 / height), boxes_on, why


def _text(box: Box) -> str:
    return " ".join(f"{side:.6g}" for side in box)


CHANGES_FILE = "changes.csv"
SUMMARY_FILE = "summary.txt"

_QUALITY = 95
_WHOLE = (0, 0, 0, 0)


def refuse_fix_folder(folder: Path, source: str) -> None:
    """Refuses a folder that is used, or that lies in the source or holds it; DataError if so."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"--fix {folder} is not an empty folder; name a new one.")
    if is_remote(source):
        return
    real, real_source = os.path.realpath(folder), os.path.realpath(source)
    if os.path.commonpath([real, real_source]) in (real, real_source):
        raise DataError(
            f"--fix {folder} lies in the data folder {source}, or holds it; name one elsewhere: "
            "the source is not touched."
        )


def write_fix(
    folder: Path,
    plan: FixPlan,
    result: CheckResult,
    *,
    config_text: str,
    config_name: str,
    progress: Callable[[int], None] | None = None,
) -> list[Change]:
    """Writes the copy, to a new or empty folder, whole or not at all; gives all changes.

    `config_text` is a config that reads it; `progress` is called with the number of images that
    were finished since the last call. DataError if nothing is left for training, or a file changed
    since it was checked.
    """
    if "train" not in plan.objects:
        raise DataError("nothing that can be mended is left for training; no copy was written.")
    with folder_aside(folder) as aside:
        changes = list(plan.changes)
        for split, part in plan.objects.items():
            changes += _write_split(aside, split, part, plan.grouped, result, progress)
        place = {file: at for at, file in enumerate(dict.fromkeys(one.file for one in changes))}
        changes.sort(key=lambda change: (place[change.file], change.row))
        write_text(aside / CHANGES_FILE, _changes_text(changes))
        write_text(aside / SUMMARY_FILE, summary(changes, plan))
        write_text(aside / config_name, config_text)
    return changes


def summary(changes: Sequence[Change], plan: FixPlan) -> str:
    """What was kept and changed, in numbers, a line each."""
    lines = [
        f"{len({one.image for one in part}):,} images with "
        f"{sum(not one.empty for one in part):,} objects in {split}"
        for split, part in plan.objects.items()
    ]
    counts = Counter(change.action for change in changes)
    lines += [f"{count:,} {action}" for action, count in counts.most_common()]
    lines.append(f"every change is in {CHANGES_FILE}" if changes else "nothing had to be changed")
    return "\n".join(lines) + "\n"


def _write_split(
    folder: Path,
    split: Split,
    part: Sequence[Annotated],
    grouped: bool,
    result: CheckResult,
    progress: Callable[[int], None] | None,
) -> list[Change]:
    files = CSV_FILES[split]
    (folder / files["images"]).mkdir()
    first = {one.image: one for one in reversed(part)}
    images = list(dict.fromkeys(one.image for one in part))
    (stems,) = distinct_stems([[origin(image, first[image].name) for image in images]])
    names: dict[ImageRef, str] = {}
    changes: list[Change] = []
    for image, stem in zip(images, stems, strict=True):
        content, ending, change = _picture(first[image], result.images[image], result.source.exif)
        changes += change
        names[image] = stem + ending
        (folder / files["images"] / names[image]).write_bytes(content)
        if progress:
            progress(1)
    rows = [
        [names[one.image], one.label, *box_cells(one.box, one.empty), *[one.group] * grouped]
        for one in part
    ]
    write_text(folder / files["csv"], csv_text(rows))
    return changes


def _picture(kept: Annotated, facts: ImageFacts, exif: str) -> tuple[bytes, str, list[Change]]:
    """Bytes and ending of an image in the copy, and how it differs."""
    if facts.header is None:
        raise DataError(f"{kept.image.path} cannot be read.")
    try:
        content = read_bytes(*kept.image)
        form, orientation = facts.header.format, facts.header.orientation
        given = os.path.splitext(kept.image.path)[1]
        changes = []
        if orientation != UPRIGHT:
            if exif == "apply":
                content, form = _turned(content, orientation, form)
                reason = f"its EXIF orientation was {orientation}; the pixels are encoded anew"
                changes.append(Change(kept.file, kept.row, kept.name, "turned", reason))
            else:
                # The pixels as stored are what is trained on; no reader of the copy shall turn
                # them, and none of them is to change.
                content, form = _turned(content, UPRIGHT, "PNG")
                reason = f"its EXIF orientation {orientation} is ignored, so the copy has none"
                changes.append(Change(kept.file, kept.row, kept.name, "encoded anew", reason))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"{kept.image.path} could be read when it was checked and cannot be now: "
            f"{first_line(error)}."
        ) from error
    if given.lower() in ENDINGS[form]:
        return content, given, changes
    ending = ENDINGS[form][0]
    if is_image_name(given):
        reason = f"its content is {form}"
        changes.append(Change(kept.file, kept.row, kept.name, "renamed", reason, given, ending))
    return content, ending, changes


def _turned(content: bytes, orientation: int, form: str) -> tuple[bytes, str]:
    """An image upright, without EXIF data: JPEG of high quality, else PNG."""
    with Image.open(io.BytesIO(content)) as image:
        profile = image.info.get("icc_profile")
        turned = upright(image, orientation, _WHOLE)
    if form != "JPEG":
        return encoded_png(turned)[0], "PNG"
    buffer = io.BytesIO()
    turned.info = {}
    turned.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, icc_profile=profile)
    return buffer.getvalue(), "JPEG"


def _changes_text(changes: Sequence[Change]) -> str:
    # Names from a file system that is no UTF-8 hold signs that cannot be encoded.
    text = csv_text([Change._fields, *changes])
    return text.encode("utf-8", "backslashreplace").decode()
