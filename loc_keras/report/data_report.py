"""The report of a data set: one HTML page that needs no other file, and all findings as JSON."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import SPLITS, Fault, class_index, class_indices, count_by_kind
from loc_keras.data.check.boxes import best_baseline, median_baseline, single_boxes, single_objects
from loc_keras.data.check.run import CheckResult
from loc_keras.data.fault_kinds import kind_of
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


def write_report(folder: Path, result: CheckResult, *, title: str, source: str) -> Path:
    """Writes the page and the JSON about a data set into a folder, and gives the page's path.

    `title` is the name of the data set, `source` says in words where it lies.
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
    splits, classes = _splits(result)
    boxes = single_boxes(result.objects, result.source.several)
    return html.render(
        "data.html.j2",
        title=f"Data check: {title}",
        name=title,
        source=source,
        result=result,
        empty=int(result.objects.objects.empty.sum()),
        totals=totals(result.findings),
        kinds=[_findings_of(kind, result) for kind in count_by_kind(result.findings)],
        root=common_folder(result.findings),
        splits=splits,
        class_chart=classes,
        box_charts=_box_charts(result),
        median=median_baseline(boxes),
        best=best_baseline(boxes),
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
        "mend": kind_of(finding.kind).mend,
        "image": finding.image.path if finding.image else None,
    }


def _splits(result: CheckResult) -> tuple[dict[str, tuple[int, ...]], Picture | None]:
    """Images, objects, classes and empty images of each split, and the chart of its classes."""
    index_of = class_indices(result.class_names)
    splits: dict[str, tuple[int, ...]] = {}
    counts: dict[str, list[int]] = {}
    for split in result.splits:
        part = result.annotations.objects[split]
        labels: Counter[int | None] = Counter()
        for label, count in part.label_counts().items():
            labels[class_index(label, index_of)] += count
        counts[split] = [labels[index] for index in range(len(result.class_names))]
        empty = int(part.empty.sum())
        splits[split] = (len(part.images), len(part) - empty, sum(map(bool, counts[split])), empty)
    if not (result.splits and result.class_names):
        return splits, None
    return splits, figure_uri(class_chart(counts, result.class_names))


def _box_charts(result: CheckResult) -> list[Picture]:
    """Histograms and maps of the boxes that can be used; nothing where there is none."""
    boxes: dict[str, npt.NDArray[np.float32]] = {}
    aspects: dict[str, npt.NDArray[np.float64]] = {}
    for split in result.splits:
        mine = (result.objects.split == SPLITS.index(split)) & result.objects.fits
        if mine.any():
            boxes[split] = result.objects.usable[mine].astype(np.float32)
            x1, y1, x2, y2 = result.objects.usable[mine].T
            width, height = np.maximum(result.objects.size[mine], 1).T
            aspects[split] = (x2 - x1) * width / ((y2 - y1) * height)
    if not boxes:
        return []
    charts = (shape_charts(boxes, aspects), place_charts(np.concatenate(list(boxes.values()))))
    return [figure_uri(chart) for chart in charts]


def _samples(result: CheckResult) -> list[Figure]:
    """At most `SAMPLES` pictures of objects with their boxes, evenly spaced over each split."""
    figures: list[Figure] = []
    objects = single_objects(result.objects, result.source.several)
    for split in result.splits:
        own = [item for item in objects if item.split == split]
        shown = [item for item in own if not result.images[item.annotated.image].trouble]
        each = min(len(shown), max(1, SAMPLES // len(result.splits)))
        for index in np.linspace(0, len(shown) - 1, each).round().astype(int):
            item = shown[index]
            boxes_on = result.source.boxes_on or "stored"
            thumb = thumb_of(item.annotated.image, item.box, colour=TRUTH, boxes_on=boxes_on)
            if thumb is not None:
                name = os.path.basename(item.annotated.name)
                figures.append((thumb, (item.annotated.label, f"{split} · {name}")))
    return figures


def _findings_of(kind: str, result: CheckResult) -> dict[str, Any]:
    """What the page shows of one kind; `pictured` findings are shown by `figures`."""
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
    found = {"findings": findings, "figures": figures, "pictured": pictured}
    return {"name": kind, "about": kind_of(kind), **found}
