"""Galleries of a data set: samples of each split, and what faults look like."""

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from loc_keras.data.annotations import ImageRef
from loc_keras.data.check.catalogue import Finding
from loc_keras.data.check.objects import CheckedObject
from loc_keras.data.check.run import CheckResult
from loc_keras.report.data_thumbs import thumb_of
from loc_keras.report.page_html import figure
from loc_keras.report.style import TRUTH, WRONG

SAMPLES = 24
FAULTS = 8
"""Pictures of one kind; with some 40 kinds of 10 kB each, a page stays far below 20 MB."""

_TRIES = 3


def sample_figures(result: CheckResult, count: int = SAMPLES) -> list[str]:
    """Pictures of objects with their boxes, evenly spaced over each split.

    Args:
        result: What the check found.
        count: Pictures in all, at most.
    """
    figures = []
    for split in result.splits:
        things = [
            thing
            for thing in _single_objects(result)
            if thing.split == split and not result.images[thing.one.image].trouble
        ]
        each = min(len(things), max(1, count // len(result.splits)))
        for index in np.linspace(0, len(things) - 1, each).round().astype(int):
            thing = things[index]
            boxes_on = result.rules.boxes_on
            thumb = thumb_of(thing.one.image, thing.box, colour=TRUTH, boxes_on=boxes_on)
            if thumb is not None:
                name = os.path.basename(thing.one.name)
                figures.append(figure(thumb, (thing.one.label, f"{split} · {name}")))
    return figures


def _single_objects(result: CheckResult) -> list[CheckedObject]:
    """The object that training sees of each picture; none of those that are left out or cut up."""
    by_image: dict[tuple[str, ImageRef], list[CheckedObject]] = defaultdict(list)
    for thing in result.objects:
        by_image[thing.split, thing.one.image].append(thing)
    found = []
    for things in by_image.values():
        if len(things) == 1 or result.rules.several == "first":
            found.append(things[0])
        elif result.rules.several == "largest":
            found.append(max(things, key=_area))
    return found


def _area(thing: CheckedObject) -> float:
    if thing.box is None:
        return 0.0
    x1, y1, x2, y2 = thing.box
    return max(0.0, x2 - x1) * max(0.0, y2 - y1)


def fault_figures(
    findings: Sequence[Finding], *, boxes_on: str, count: int = FAULTS
) -> tuple[list[str], int]:
    """Pictures of the first findings that can be shown, with the box where there is one.

    Args:
        findings: Of one kind.
        boxes_on: As in `thumb_of`.
        count: Pictures at most; findings that have a twin take two.

    Returns:
        The pictures, and the number of findings that they show.
    """
    figures: list[str] = []
    shown = 0
    # Most files of a kind may not decode at all: trying them all would take long.
    for finding in findings[: _TRIES * count]:
        if finding.image is None or len(figures) >= count:
            continue
        thumb = thumb_of(finding.image, finding.box, colour=WRONG, boxes_on=boxes_on)
        if thumb is None:
            continue
        shown += 1
        if finding.twin is not None:
            twin = thumb_of(finding.twin, finding.twin_box, colour=TRUTH, boxes_on=boxes_on)
            if twin is not None:
                figures.append(figure(twin, (os.path.basename(finding.twin.path), "the first")))
        at = f"row {finding.row}" if finding.row else ""
        figures.append(figure(thumb, (os.path.basename(finding.image.path), at)))
    return figures, shown
