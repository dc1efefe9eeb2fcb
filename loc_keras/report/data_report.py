"""The report of a data set: one HTML page that needs no other file, and all findings as JSON."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import (
    Fault,
    ImageRef,
    Kind,
    class_index,
    class_indices,
    count_by_kind,
    kind_of,
)
from loc_keras.data.check.boxes import (
    best_baseline,
    median_baseline,
    single_boxes,
)
from loc_keras.data.check.run import CheckResult
from loc_keras.data.resolve import CheckedObject
from loc_keras.report import html
from loc_keras.report.data_charts import MOST_CLASSES, class_chart, place_charts, shape_charts
from loc_keras.report.style import TRUTH, WRONG
from loc_keras.report.terminal import place, totals
from loc_keras.report.thumbnails import Picture, figure_uri, thumb_of

PAGE_FILE = "report.html"
FINDINGS_FILE = "findings.json"

SAMPLES = 24
FAULTS = 8
"""Pictures of one kind; with some 40 kinds of 10 kB each, a page stays far below 20 MB."""

MOST_ROWS = 200
"""Rows of the list of one kind on the page; the JSON has all."""

_TRIES = 3

Figure = tuple[Picture, tuple[str, ...]]
"""A picture and the lines below it."""


class FindingsOfKind(NamedTuple):
    """What the page shows of one kind of finding.

    Attributes:
        name: The kind.
        about: Its severity, title and remedy.
        findings: All of the kind.
        figures: Pictures of the first of them.
        pictured: Number of findings that these show.
    """

    name: str
    about: Kind
    findings: list[Fault]
    figures: list[Figure]
    pictured: int


def write_report(folder: Path, result: CheckResult, *, title: str, source: str) -> Path:
    """Writes the page and the JSON.

    Args:
        folder: Made where it is missing.
        result: What the check found.
        title: Name of the data set.
        source: Where it lies, in words.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FINDINGS_FILE, findings_json(result))
    write_text(folder / PAGE_FILE, data_page(result, title=title, source=source))
    return folder / PAGE_FILE


def findings_json(result: CheckResult) -> str:
    """All findings with what was counted."""
    content = {
        "counts": result.counts,
        "kinds": count_by_kind(result.findings),
        "decoded": result.decoded,
        "findings": [_json_object(finding) for finding in result.findings],
    }
    # A lone surrogate, from a file name that is no UTF-8, cannot be written as it is.
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def data_page(result: CheckResult, *, title: str, source: str) -> str:
    """The page; arguments as in `write_report`."""
    split_heads, split_rows, classes = _splits(result)
    baseline_heads, baselines = _baselines(result)
    return html.render(
        "data.html.j2",
        title=f"Data check: {title}",
        name=title,
        source=source,
        result=result,
        empty=sum(item.annotated.empty for item in result.objects),
        totals=totals(result.findings),
        kinds=[_findings_of(kind, result) for kind in count_by_kind(result.findings)],
        root=common_folder(result.findings),
        split_heads=split_heads,
        split_rows=split_rows,
        class_chart=classes,
        box_charts=_box_charts(result),
        baseline_heads=baseline_heads,
        baselines=baselines,
        samples=_samples(result),
        MOST_CLASSES=MOST_CLASSES,
        MOST_ROWS=MOST_ROWS,
        FINDINGS_FILE=FINDINGS_FILE,
    )


def common_folder(findings: Sequence[Fault]) -> str:
    """The deepest folder that holds all files of findings; `""` where they share none."""
    folders = {finding.file.rpartition("/")[0] for finding in findings if finding.file}
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # Absolute and relative paths have nothing in common.
        return ""


def _json_object(finding: Fault) -> dict[str, Any]:
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "file": finding.file,
        "row": finding.row,
        "place": place(finding),
        "message": finding.reason,
        "mend": finding.about.mend,
        "image": finding.image.path if finding.image else None,
    }


def _splits(result: CheckResult) -> tuple[list[str], list[list[str]], Picture | None]:
    """Head and rows of the table of splits, and the chart of their classes."""
    images: dict[str, set[ImageRef]] = {split: set() for split in result.splits}
    index_of = class_indices(result.class_names)
    counts: dict[str, list[int]] = {split: [0] * len(result.class_names) for split in result.splits}
    objects, empty = (dict.fromkeys(result.splits, 0) for _ in range(2))
    for item in result.objects:
        images[item.split].add(item.annotated.image)
        (empty if item.annotated.empty else objects)[item.split] += 1
        index = class_index(item.annotated.label, index_of)
        if index is not None:
            counts[item.split][index] += 1
    heads = ["split", "images", "objects", "classes"]
    rows = [
        [
            split,
            f"{len(images[split]):,}",
            f"{objects[split]:,}",
            str(sum(map(bool, counts[split]))),
        ]
        for split in result.splits
    ]
    if any(empty.values()):
        heads.append("images without an object")
        for row, count in zip(rows, empty.values(), strict=True):
            row.append(f"{count:,}")
    if not (result.splits and result.class_names):
        return heads, rows, None
    return heads, rows, figure_uri(class_chart(counts, result.class_names))


def _box_charts(result: CheckResult) -> list[Picture]:
    """Histograms and maps of the boxes that can be used; nothing where there is none."""
    boxes: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    aspects: dict[str, list[float]] = defaultdict(list)
    for item in result.objects:
        box = item.usable
        if box is None:
            continue
        boxes[item.split].append(box)
        width, height = item.size if item.size[0] else (1, 1)
        aspects[item.split].append((box[2] - box[0]) * width / ((box[3] - box[1]) * height))
    columns: dict[str, npt.NDArray[np.float32]] = {
        split: np.array(boxes[split], np.float32) for split in result.splits if boxes[split]
    }
    if not columns:
        return []
    shapes = shape_charts(columns, {split: np.array(aspects[split]) for split in columns})
    places = place_charts(np.concatenate(list(columns.values())))
    return [figure_uri(shapes), figure_uri(places)]


def _baselines(result: CheckResult) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of constant boxes; no rows where no box can be used."""
    boxes = single_boxes(result.objects, result.source.several)
    median, best = median_baseline(boxes), best_baseline(boxes)
    if median is None or best is None:
        return [], []
    splits = list(median.mean_iou)
    heads = ["constant box", "x1, y1, x2, y2"]
    heads += [f"{what}, {split}" for split in splits for what in ("mean IoU", "IoU > .5")]
    rows = []
    for name, baseline in (
        ("median box of train", median),
        ("best of 625 boxes on train", best),
    ):
        cells = [name, ", ".join(f"{side:.3f}" for side in baseline.box)]
        for split in splits:
            cells += [f"{baseline.mean_iou[split]:.3f}", f"{100 * baseline.share[split]:.1f} %"]
        rows.append(cells)
    return heads, rows


def _samples(result: CheckResult, count: int = SAMPLES) -> list[Figure]:
    """At most `count` pictures of objects with their boxes, evenly spaced over each split."""
    figures: list[Figure] = []
    objects = _single_objects(result)
    for split in result.splits:
        shown = [
            item
            for item in objects
            if item.split == split and not result.images[item.annotated.image].trouble
        ]
        each = min(len(shown), max(1, count // len(result.splits)))
        for index in np.linspace(0, len(shown) - 1, each).round().astype(int):
            item = shown[index]
            boxes_on = result.source.boxes_on or "stored"
            thumb = thumb_of(item.annotated.image, item.box, colour=TRUTH, boxes_on=boxes_on)
            if thumb is not None:
                name = os.path.basename(item.annotated.name)
                figures.append((thumb, (item.annotated.label, f"{split} · {name}")))
    return figures


def _single_objects(result: CheckResult) -> list[CheckedObject]:
    """The object that training sees of each picture; none of those that are left out or cut up."""
    by_image: dict[tuple[str, ImageRef], list[CheckedObject]] = defaultdict(list)
    for item in result.objects:
        by_image[item.split, item.annotated.image].append(item)
    chosen = []
    for objects in by_image.values():
        if len(objects) == 1 or result.source.several == "first":
            chosen.append(objects[0])
        elif result.source.several == "largest":
            chosen.append(max(objects, key=_area))
    return chosen


def _area(item: CheckedObject) -> float:
    if item.box is None:
        return 0.0
    x1, y1, x2, y2 = item.box
    return max(0.0, x2 - x1) * max(0.0, y2 - y1)


def _findings_of(kind: str, result: CheckResult) -> FindingsOfKind:
    findings = [finding for finding in result.findings if finding.kind == kind]
    boxes_on = result.source.boxes_on or "stored"
    figures: list[Figure] = []
    pictured = 0
    # Most files of a kind may not decode at all: trying them all would take long.
    for finding in findings[: _TRIES * FAULTS]:
        if finding.image is None or len(figures) >= FAULTS:
            continue
        thumb = thumb_of(finding.image, finding.box, colour=WRONG, boxes_on=boxes_on)
        if thumb is None:
            continue
        pictured += 1
        if finding.twin is not None:
            twin = thumb_of(finding.twin, finding.twin_box, colour=TRUTH, boxes_on=boxes_on)
            if twin is not None:
                figures.append((twin, (os.path.basename(finding.twin.path), "the first")))
        row = f"row {finding.row}" if finding.row else ""
        figures.append((thumb, (os.path.basename(finding.image.path), row)))
    return FindingsOfKind(kind, kind_of(kind), findings, figures, pictured)
