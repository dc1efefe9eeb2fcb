"""The report of a data set: one HTML page without network, and all findings as JSON."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import ImageRef, class_index, class_indices
from loc_keras.data.check.boxes import (
    CheckedObject,
    Floor,
    best_floor,
    median_floor,
    single_boxes,
    usable_of,
)
from loc_keras.data.check.run import CheckResult
from loc_keras.data.faults import Finding, count_by_kind, kind_of
from loc_keras.data.resolve import BoxFault
from loc_keras.report import html
from loc_keras.report.data_charts import MOST_CLASSES, class_chart, place_charts, shape_charts
from loc_keras.report.html import CSS, chip, figure
from loc_keras.report.style import TRUTH, WRONG
from loc_keras.report.terminal import place, totals
from loc_keras.report.thumbnails import figure_uri, thumb_of

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


def box_charts(result: CheckResult) -> list[str]:
    """HTML of the histograms and maps; a sentence where no box can be used."""
    boxes: dict[str, list[tuple[float, ...]]] = {split: [] for split in result.splits}
    aspects: dict[str, list[float]] = {split: [] for split in result.splits}
    for thing in result.objects:
        if thing.box is None:
            continue
        try:
            box = usable_of(thing)
        except BoxFault:
            continue
        boxes[thing.split].append(box)
        width, height = thing.size if thing.size[0] else (1, 1)
        aspects[thing.split].append((box[2] - box[0]) * width / ((box[3] - box[1]) * height))
    columns: dict[str, npt.NDArray[np.float32]] = {
        split: np.array(one, np.float32) for split, one in boxes.items() if one
    }
    if not columns:
        return ["<p>No box can be used.</p>"]
    shapes = shape_charts(columns, {split: np.array(aspects[split]) for split in columns})
    places = place_charts(np.concatenate(list(columns.values())))
    return [
        html.chart(figure_uri(shapes), "histograms: width, height, area and aspect of boxes"),
        html.chart(figure_uri(places), "maps: density of box centres, coverage by boxes"),
    ]


PAGE_FILE = "report.html"
FINDINGS_FILE = "findings.json"
ONE_CLASS = (
    "There is one class: a model has only to find it, and its class accuracy of 100 % is no result."
)
EMPTY_BARS = "The bar of the class of images without an object counts these images."
MOST_ROWS = 200
"""Rows of the list of one kind on the page; the JSON has all."""


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
        "findings": [_plain(finding) for finding in result.findings],
    }
    # A lone surrogate, from a file name that is no UTF-8, cannot be written as it is.
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def data_page(result: CheckResult, *, title: str, source: str) -> str:
    """The page; arguments as in `write_report`."""
    how = "every image was decoded" if result.decoded else "headers were read, no image was decoded"
    body = [
        f"<h1>{html.safe(title)}</h1>",
        f'<p class="quiet">{html.safe(source)} · {how}</p>',
        _cards(result),
        "<h2>Findings</h2>",
        _summary(result.findings),
        "<h2>Data</h2>",
        *_counts(result),
        "<h2>Boxes</h2>",
        *_boxes(result),
        "<h2>Samples</h2>",
        "<p>Evenly spaced over the pictures of each split that have one object, or whose object "
        "the setting several chooses.</p>",
        html.gallery(sample_figures(result)),
    ]
    root = common_folder(result.findings)
    if result.findings:
        body.append("<h2>Findings in full</h2>")
    if root:
        body.append(f"<p>File names count from {html.safe(root)}.</p>")
    for kind in count_by_kind(result.findings):
        body += _kind(kind, [one for one in result.findings if one.kind == kind], result, root)
    return html.page(f"Data check: {title}", body, CSS)


def _cards(result: CheckResult) -> str:
    counts = result.counts
    empty = sum(thing.one.empty for thing in result.objects)
    classes = len(result.class_names)
    cards = [
        html.card(len(result.images), "images"),
        html.card(len(result.objects) - empty, "objects"),
        *([html.card(empty, "images without an object")] if empty else []),
        html.card(classes, "class" if classes == 1 else "classes"),
        html.card(counts["error"], "errors", kind="error" if counts["error"] else ""),
        html.card(counts["warning"], "warnings"),
        html.card(counts["note"], "notes"),
    ]
    return '<div class="cards">' + "".join(cards) + "</div>"


def _summary(findings: Sequence[Finding]) -> str:
    if not findings:
        return f"<p>{html.safe(totals(findings))}</p>"
    rows = []
    for kind, count in count_by_kind(list(findings)).items():
        about = kind_of(kind)
        link = f'<a href="#{html.safe(kind)}">{html.safe(about.title)}</a>'
        rows.append((chip(about.severity), f"{count:,}", link, html.safe(about.mend)))
    return html.table(("severity", "number", "found", "what to do"), rows, numeric=(1,))


def _counts(result: CheckResult) -> list[str]:
    images = {split: set[Any]() for split in result.splits}
    index_of = class_indices(result.class_names)
    counts: dict[str, list[int]] = {split: [0] * len(result.class_names) for split in result.splits}
    objects, empty = (dict.fromkeys(result.splits, 0) for _ in range(2))
    for thing in result.objects:
        images[thing.split].add(thing.one.image)
        (empty if thing.one.empty else objects)[thing.split] += 1
        index = class_index(thing.one.label, index_of)
        if index is not None:
            counts[thing.split][index] += 1
    rows = [
        (
            split,
            f"{len(images[split]):,}",
            f"{objects[split]:,}",
            str(sum(map(bool, counts[split]))),
            *([f"{empty[split]:,}"] if any(empty.values()) else []),
        )
        for split in result.splits
    ]
    heads = ["split", "images", "objects", "classes"]
    heads += ["images without an object"] if any(empty.values()) else []
    parts = [html.table(heads, rows, numeric=range(1, len(heads)))]
    if len(result.class_names) == 1:
        parts.append(f"<p>{html.safe(ONE_CLASS)}</p>")
    if result.splits and result.class_names:
        parts += [
            "<h3>Objects of each class</h3>",
            *([f"<p>{html.safe(EMPTY_BARS)}</p>"] if any(empty.values()) else []),
            html.chart(
                figure_uri(class_chart(counts, result.class_names)),
                "bars: objects of each class in each split",
            ),
        ]
    if len(result.class_names) > MOST_CLASSES:
        half = MOST_CLASSES // 2
        parts.append(
            f'<p class="quiet">The {half} largest and the {half} smallest of '
            f"{len(result.class_names):,} classes.</p>"
        )
    return parts


def _boxes(result: CheckResult) -> list[str]:
    boxes = single_boxes(result.objects, result.rules.several)
    parts = box_charts(result)
    median, best = median_floor(boxes), best_floor(boxes)
    if median is None or best is None:
        return parts
    return [
        *parts,
        "<h3>The floor that constant boxes reach</h3>",
        "<p>Mean IoU, and share of boxes with an IoU above .5, of one box that is the same for "
        "all images. A localizer that does not score clearly more has not learned where the "
        "object is.</p>",
        _floors({"median box of train": median, "best of 625 boxes on train": best}),
    ]


def _floors(floors: dict[str, Floor]) -> str:
    splits = list(next(iter(floors.values())).mean_iou)
    heads = ["constant box", "x1, y1, x2, y2"]
    heads += [f"{what}, {split}" for split in splits for what in ("mean IoU", "IoU > .5")]
    rows = []
    for name, floor in floors.items():
        cells = [html.safe(name), ", ".join(f"{side:.3f}" for side in floor.box)]
        for split in splits:
            cells += [f"{floor.mean_iou[split]:.3f}", f"{100 * floor.share[split]:.1f} %"]
        rows.append(cells)
    return html.table(heads, rows, numeric=range(2, len(heads)))


def common_folder(findings: Sequence[Finding]) -> str:
    """The deepest folder that holds all files of findings; `""` where they share none."""
    folders = {finding.file.rpartition("/")[0] for finding in findings if finding.file}
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # Absolute and relative paths have nothing in common.
        return ""


def _kind(kind: str, findings: Sequence[Finding], result: CheckResult, root: str) -> list[str]:
    about = kind_of(kind)
    shown = findings[:MOST_ROWS]
    rows = [
        (
            html.safe(one.file.removeprefix(root).lstrip("/")),
            str(one.row or ""),
            html.safe(one.message, 600),
        )
        for one in shown
    ]
    more = len(findings) - len(shown)
    parts = [
        f'<h3 id="{html.safe(kind)}">{chip(about.severity)} {html.safe(about.title)} '
        f"({len(findings):,})</h3>",
        f"<p>{html.safe(about.mend[0].upper() + about.mend[1:])}.</p>",
    ]
    figures, pictured = fault_figures(findings, boxes_on=result.rules.boxes_on)
    if figures:
        parts.append(html.gallery(figures))
    if len(findings) > pictured > 0:
        parts.append(f'<p class="quiet">{pictured} of {len(findings):,} in pictures.</p>')
    parts.append(
        f"<details{' open' if len(findings) <= 5 else ''}><summary>List</summary>"
        + html.table(("file", "row", "finding"), rows, numeric=(1,))
        + (f"<p>And {more:,} more in {FINDINGS_FILE}.</p>" if more else "")
        + "</details>"
    )
    return parts


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "file": finding.file,
        "row": finding.row,
        "place": place(finding),
        "message": finding.message,
        "mend": finding.mend,
        "image": finding.image.path if finding.image else None,
    }
