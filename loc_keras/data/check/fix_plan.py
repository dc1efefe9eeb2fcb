"""What a mended copy keeps, changes and leaves out: decided here, written elsewhere."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from loc_keras.data.annotations import Fault, ImageRef, Split
from loc_keras.data.box_rules import BoxFault, usable_box
from loc_keras.data.check.catalogue import Finding, FractionBox
from loc_keras.data.check.classes import misspelt, same_word
from loc_keras.data.check.images import ImageFacts
from loc_keras.data.check.lost import lost_images
from loc_keras.data.check.objects import CheckedObject
from loc_keras.data.check.run import CheckResult
from loc_keras.data.class_names import class_index, class_indices
from loc_keras.data.orientation import turn_boxes, turn_boxes_back
from loc_keras.data.resolve import ResolveRules

LEAST_INSIDE = 0.5
"""Share of its area that a box must have inside the image to be clipped, not dropped."""

_SAME_ASPECT = 0.01


class Change(NamedTuple):
    """One thing that the copy does not share with the source.

    Attributes:
        file: Annotation file of the source.
        row: Line, object or record number in it, from 1; 0 for the file as a whole.
        image: The image as annotated, or its path.
        action: `"dropped"` for an object, `"left out"` for what could not be read as one,
            `"ignored"` for a part that the object does not need; `"clipped"`, `"swapped"`,
            `"scaled"`, `"relabelled"`, `"turned"`, `"encoded anew"` or `"renamed"`.
        reason: Why, as words.
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


class Kept(NamedTuple):
    """An object of the copy.

    Attributes:
        split: Its split.
        image: The image.
        name: As annotated.
        label: Class name.
        box: (x1, y1, x2, y2) in fractions of the picture in the copy, float32 and ordered; None
            for an image without an object.
        file: Annotation file of the source.
        row: Row in it.
        group: Images that must not be parted by a split share it; `""` for none.
    """

    split: Split
    image: ImageRef
    name: str
    label: str
    box: FractionBox | None
    file: str
    row: int
    group: str = ""


@dataclass(frozen=True, eq=False)
class FixPlan:
    """All of a copy before it is written.

    Attributes:
        kept: Objects of the copy.
        changes: Everything that differs, except files that are changed or renamed on writing.
        class_names: Classes by index.
    """

    kept: list[Kept]
    changes: list[Change]
    class_names: list[str]

    @property
    def grouped(self) -> bool:
        """Whether any object has a group, so that the copy's rows have a column for it."""
        return any(one.group for one in self.kept)


class _DropError(Exception):
    """Why an object is not in the copy."""


def plan_fix(result: CheckResult) -> FixPlan:
    """Decides what to keep and what to change.

    Args:
        result: Of a check that decoded every image.
    """
    changes = [*map(_unread, result.faults), *_orphans(result.findings)]
    names, relabelled = _class_names(result)
    index_of = class_indices(names)
    lost = lost_images(result)
    kept: list[Kept] = []
    seen: set[Hashable] = set()
    for thing in result.objects:
        one = thing.one
        key = (thing.split, one.image, one.label, one.box)
        try:
            if key in seen:
                raise _DropError("the same object stands in an earlier row")
            seen.add(key)
            facts = result.images[one.image]
            if facts.trouble:
                raise _DropError(f"the image {facts.reason}")
            if (thing.split, one.image) in lost:
                raise _DropError(lost[thing.split, one.image])
            label = _mended_label(thing, relabelled, names, index_of, changes)
            box = None if one.empty else _mended_box(thing, facts, result.rules, changes)
            kept.append(
                Kept(thing.split, one.image, one.name, label, box, one.file, one.row, one.group)
            )
        except _DropError as drop:
            changes.append(Change(one.file, one.row, one.name, "dropped", str(drop)))
    return FixPlan(kept, changes, names)


_PARTS = frozenset({"declared_size"})
"""Kinds of readers' faults whose object is there all the same."""


def _unread(fault: Fault) -> Change:
    """What no object of the data set stands for, since the reader could not make one of it."""
    action = "ignored" if fault.kind in _PARTS else "left out"
    return Change(fault.file, fault.row, "", action, fault.reason)


def _orphans(findings: Sequence[Finding]) -> list[Change]:
    return [
        Change(one.file, one.row, one.image.path, "left out", one.message)
        for one in findings
        if one.kind == "orphan_image" and one.image
    ]


def _class_names(result: CheckResult) -> tuple[list[str], dict[str, str]]:
    """Classes of the copy, and the labels that only case or spaces part from one of them."""
    names = result.class_names
    if not result.named:
        counts = Counter(thing.one.label for thing in result.objects)
        same = {
            label: other
            for label, other in misspelt(counts).items()
            if same_word(label) == same_word(other)
        }
        return [name for name in names if name not in same], same
    by_word = {same_word(name): name for name in reversed(names)}
    return names, {
        label: by_word[same_word(label)]
        for label in {thing.one.label for thing in result.objects} - set(names)
        if same_word(label) in by_word
    }


def _mended_label(
    thing: CheckedObject,
    relabelled: Mapping[str, str],
    names: Sequence[str],
    index_of: dict[str, int],
    changes: list[Change],
) -> str:
    one = thing.one
    label = relabelled.get(one.label, one.label)
    index = class_index(label, index_of)
    if index is None:
        raise _DropError(f"{one.label!r} is none of the classes")
    if label != one.label:
        reason = "only case, spaces or hyphens differ"
        changes.append(Change(one.file, one.row, one.name, "relabelled", reason, one.label, label))
    return names[index]


def _mended_box(
    thing: CheckedObject, facts: ImageFacts, rules: ResolveRules, changes: list[Change]
) -> FractionBox:
    """The box in fractions of the picture that the rules ask for, within it."""
    one = thing.one

    def note(action: str, reason: str, before: FractionBox, after: FractionBox) -> None:
        changes.append(
            Change(one.file, one.row, one.name, action, reason, _text(before), _text(after))
        )

    box, boxes_on, scaled = _in_fractions(thing, facts, rules.boxes_on)
    if scaled:
        note("scaled", scaled, thing.written, box)
    if not all(map(math.isfinite, box)):
        raise _DropError("its box has numbers that are not finite")
    x1, y1, x2, y2 = box
    ordered = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    if ordered != box:
        note("swapped", "its box was inverted", box, ordered)
    inside = _clipped(ordered)
    if _area(inside) <= 0 or _area(inside) < LEAST_INSIDE * _area(ordered):
        raise _DropError("its box has no area, or most of it outside the image")
    if inside != ordered:
        note("clipped", "its box reached over the edge", ordered, inside)
    written = np.array(inside, np.float64)
    wanted = "upright" if rules.exif == "apply" else "stored"
    if boxes_on != wanted and facts.header is not None:
        turn = turn_boxes if wanted == "upright" else turn_boxes_back
        written = turn(written, np.array(facts.header.orientation))
    exact = tuple(float(side) for side in written.astype(np.float32).clip(0, 1))
    try:
        # What is written must pass the rules that the copy is read by.
        return usable_box((exact[0], exact[1], exact[2], exact[3]), None)
    except BoxFault as fault:
        raise _DropError(f"its box cannot be used: {fault}") from None


def _in_fractions(
    thing: CheckedObject, facts: ImageFacts, boxes_on: str
) -> tuple[FractionBox, str, str]:
    """The box as written, in fractions; the picture it is on; and why it was scaled, or `""`."""
    if thing.units == "fraction":
        return thing.written, boxes_on, ""
    declared, size = thing.one.size, thing.size
    x1, y1, x2, y2 = thing.written
    why = ""
    if declared is not None and all(declared) and declared != size:
        other = "stored" if boxes_on == "upright" else "upright"
        if facts.picture_size(boxes_on=other) == declared:
            boxes_on = other
        elif abs(declared[0] * size[1] / (declared[1] * size[0]) - 1) > _SAME_ASPECT:
            raise _DropError("the annotated size has another shape than the image")
        else:
            why = "the image was scaled after it was labelled"
        size = declared
    width, height = size
    return (x1 / width, y1 / height, x2 / width, y2 / height), boxes_on, why


def _clipped(box: FractionBox) -> FractionBox:
    x1, y1, x2, y2 = (min(max(side, 0.0), 1.0) for side in box)
    return x1, y1, x2, y2


def _area(box: FractionBox) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _text(box: FractionBox) -> str:
    return " ".join(f"{side:.6g}" for side in box)
