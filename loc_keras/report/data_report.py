"""The report of a data set: one HTML page that needs no other file, its charts, and JSON."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import SPLITS, Fault, class_index, class_indices, count_by_kind
from loc_keras.data.check.boxes import best_baseline, median_baseline, single_boxes, single_objects
from loc_keras.data.check.run import CheckResult
from loc_keras.data.fault_kinds import kind_of
from loc_keras.errors import clean
from loc_keras.report import html, style
from loc_keras.report.gallery import Example, class_name, draw_grid
from loc_keras.report.image_boxes import TRUE_BOX, Picture, figure_uri, thumb_of
from loc_keras.report.terminal import place, totals

PAGE_FILE, FINDINGS_FILE = "report.html", "findings.json"

SAMPLES = 24
FAULTS = 8
"""Pictures of one kind; with some 40 kinds of 10 kB each, a page stays far below 20 MB."""

MOST_ROWS = 200  # Rows of the list of one kind on the page; the JSON has all.
MOST_CLASSES = 40  # Classes of a chart; of more the largest and smallest are shown.
GRID = 100  # Cells along a side of a map.

SPLIT_COLOURS = {"train": style.BLUE, "val": style.VERMILLION, "test": style.GREEN}

Boxes = npt.NDArray[np.float32]

_CHART_DPI = 144.0
_BINS = 30
_LONGEST_NAME = 26
_BAR = 0.2  # Height of a class in inches.
_MOST_COLUMNS = 8  # Of a preview.

_TRIES = 3

Shown = tuple[Picture, tuple[str, ...]]  # A picture and the lines below it.


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


def class_chart(counts: Mapping[str, Sequence[int]], names: Sequence[str]) -> Figure:
    """Objects of each class by split, as bars stacked by split, the most frequent above.

    Of more than 40 classes those between the largest and smallest are left out.
    """
    sums = np.sum([list(count) for count in counts.values()], axis=0)
    order = np.argsort(-sums, kind="stable")
    if len(order) > MOST_CLASSES:
        half = MOST_CLASSES // 2
        order = np.concatenate([order[:half], order[-half:]])
    labels = [clean(names[index], _LONGEST_NAME).replace("$", r"\$") for index in order]
    figure = style.new_figure(6.4, 0.72 + _BAR * len(order), _CHART_DPI)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    start = np.zeros(len(order))
    for split, count in counts.items():
        values = np.asarray(count)[order]
        colour = SPLIT_COLOURS.get(split, style.MUTED)
        bars = axes.barh(range(len(order)), values, 0.72, start, color=colour,
                         label=f"{split}, n = {sum(count):,}")  # fmt: skip
        start = start + values
    axes.bar_label(
        bars, [f"{total:,.0f}" for total in start], padding=3, size=style.SMALL_SIZE, **style.WORDS
    )
    axes.set_yticks(range(len(order)), labels)
    axes.set_ylim(len(order) - 0.4, -0.6)
    style.dress(axes, "x")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    _add_key(figure, axes)
    return figure


def shape_charts(boxes: Mapping[str, Boxes], aspects: Mapping[str, npt.ArrayLike]) -> Figure:
    """Histograms of the boxes' width, height, area and aspect ratio, as shares of each split.

    Boxes are (N, 4), (x1, y1, x2, y2) in fractions; `aspects` are their width over height in px.
    """
    sides = {split: corners[:, 2:] - corners[:, :2] for split, corners in boxes.items()}
    quantities: list[tuple[str, dict[str, npt.NDArray[np.floating]]]] = [
        ("width / image width", {split: side[:, 0] for split, side in sides.items()}),
        ("height / image height", {split: side[:, 1] for split, side in sides.items()}),
        ("area / image area", {split: side.prod(axis=1) for split, side in sides.items()}),
        ("width / height", {split: np.asarray(ratios) for split, ratios in aspects.items()}),
    ]
    figure = style.new_figure(8.6, 2.5, _CHART_DPI)
    figure.set_layout_engine("constrained", wspace=0.04)
    row = figure.subplots(1, len(quantities))
    for axes, (title, values) in zip(row, quantities, strict=True):
        _histogram(axes, values, logarithmic=axes is row[-1])
        style.add_words(axes, title)
    _add_key(figure, row[0])
    return figure


def place_charts(boxes: Boxes) -> Figure:
    """Where boxes are: the density of their centres, and how often each point is covered.

    Boxes are as in `coverage`.
    """
    figure = style.new_figure(8.6, 3.9, _CHART_DPI)
    figure.set_layout_engine("constrained", wspace=0.06)
    left, right = figure.subplots(1, 2)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    bins = int(np.clip(np.sqrt(len(boxes)) * 1.5, 10, 40))
    density, _, _ = np.histogram2d(centres[:, 1], centres[:, 0], bins=bins, range=((0, 1), (0, 1)))
    _map(figure, left, density, f"centres of {len(boxes):,} boxes", "{:.0f}", 0.5)
    covered = f"share of {len(boxes):,} boxes that cover a point"
    _map(figure, right, coverage(boxes), covered, "{:.0%}", 1.0)
    return figure


def coverage(boxes: Boxes, grid: int = GRID) -> npt.NDArray[np.float64]:
    """Share of boxes that cover each cell of a grid, float64 (grid, grid) in [0, 1].

    Boxes are (N, 4), (x1, y1, x2, y2) in fractions, within the image, N at least 1. One covers the
    cells whose middle it contains.
    """
    # A cell (i + .5) / grid lies within [x1, x2) for i from ceil(x1 grid - .5) on.
    corners = np.clip(np.ceil(boxes * grid - 0.5), 0, grid).astype(np.int64)
    x1, y1, x2, y2 = corners.T
    steps = np.zeros((grid + 1, grid + 1))
    for rows, columns, sign in ((y1, x1, 1), (y2, x1, -1), (y1, x2, -1), (y2, x2, 1)):
        np.add.at(steps, (rows, columns), sign)
    return steps.cumsum(0).cumsum(1)[:grid, :grid] / len(boxes)


def save_preview(
    path: str | os.PathLike[str],
    batches: Iterable[tuple[Any, Any]],
    count: int,
    class_names: Sequence[str],
    *,
    title: str = "",
) -> Path:
    """Writes the first samples of a training stream as a PNG grid of pictures with boxes.

    Batches are `(images, {"softmax": labels, "bbox": boxes})`, images uint8 (B, H, W, C), labels
    (B,) or shares of the classes (B, K), boxes (B, 4) fractions; taken until there are `count`, at
    least 1. An empty box, of an image without an object, is not drawn. It gives the path.
    """
    examples: list[Example] = []
    for images, targets in batches:
        parts = map(np.asarray, (images, targets["softmax"], targets["bbox"]))
        for image, label, box in zip(*parts, strict=True):
            drawn = [(TRUE_BOX, box)] if np.any(box) else []
            examples.append(Example(image, drawn, [clean(_caption(label, class_names))]))
        if len(examples) >= count:
            break
    del examples[count:]
    columns = min(_MOST_COLUMNS, max(1, math.ceil(math.sqrt(len(examples) * 1.5))))
    return style.save_figure(draw_grid(examples, columns, clean(title), []), path)


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


def _samples(result: CheckResult) -> list[Shown]:
    """At most `SAMPLES` pictures of objects with their boxes, evenly spaced over each split."""
    figures: list[Shown] = []
    objects = single_objects(result.objects, result.source.several)
    for split in result.splits:
        own = [item for item in objects if item.split == split]
        shown = [item for item in own if not result.images[item.annotated.image].trouble]
        each = min(len(shown), max(1, SAMPLES // len(result.splits)))
        for index in np.linspace(0, len(shown) - 1, each).round().astype(int):
            item = shown[index]
            boxes_on = result.source.boxes_on or "stored"
            thumb = thumb_of(item.annotated.image, item.box, colour=style.TRUTH, boxes_on=boxes_on)
            if thumb is not None:
                name = os.path.basename(item.annotated.name)
                figures.append((thumb, (item.annotated.label, f"{split} · {name}")))
    return figures


def _findings_of(kind: str, result: CheckResult) -> dict[str, Any]:
    """What the page shows of one kind; `pictured` findings are shown by `figures`."""
    findings = [finding for finding in result.findings if finding.kind == kind]
    boxes_on = result.source.boxes_on or "stored"
    figures: list[Shown] = []
    pictured = 0
    # Most files of a kind may not decode at all: trying them all would take long.
    for finding in findings[: _TRIES * FAULTS]:
        if finding.image is None or len(figures) >= FAULTS:
            continue
        thumb = thumb_of(finding.image, finding.box, colour=style.WRONG, boxes_on=boxes_on)
        if thumb is None:
            continue
        pictured += 1
        if finding.twin is not None:
            twin = thumb_of(finding.twin, finding.twin_box, colour=style.TRUTH, boxes_on=boxes_on)
            if twin is not None:
                figures.append((twin, (os.path.basename(finding.twin.path), "the first")))
        row = f"row {finding.row}" if finding.row else ""
        figures.append((thumb, (os.path.basename(finding.image.path), row)))
    found = {"findings": findings, "figures": figures, "pictured": pictured}
    return {"name": kind, "about": kind_of(kind), **found}


def _histogram(
    axes: Axes, values: Mapping[str, npt.NDArray[np.floating]], *, logarithmic: bool
) -> None:
    if logarithmic:
        pooled = np.concatenate(list(values.values()))
        # Without the few slivers whose ratio would squeeze all others into the middle.
        reach = float(np.clip(np.quantile(np.maximum(pooled, 1 / pooled), 0.995), 1.5, 20))
        edges = np.geomspace(1 / reach, reach, _BINS + 1)
        axes.set_xscale("log")
    else:
        edges = np.linspace(0, 1, _BINS + 1)
    for split, column in values.items():
        if not len(column):
            continue
        share = np.histogram(column, edges)[0] / len(column)
        colour = SPLIT_COLOURS.get(split, style.MUTED)
        filled = split == "train"
        axes.stairs(
            share, edges, fill=filled, color=colour, alpha=0.45 if filled else 1.0,
            label=f"{split}, n = {len(column):,}", linewidth=1.4,
        )  # fmt: skip
    axes.set_xlim(edges[0], edges[-1])
    if logarithmic:
        some = (0.1, 0.3, 1, 3, 10) if reach > 5 else (0.25, 0.5, 1, 2, 4)
        ticks = [tick for tick in some if edges[0] <= tick <= edges[-1]]
        axes.set_xticks(ticks, [f"{tick:g}".removeprefix("0") for tick in ticks])
        axes.minorticks_off()
    else:
        axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    style.dress(axes, "y")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def _map(
    figure: Figure, axes: Axes, values: npt.NDArray[np.float64], title: str, form: str, power: float
) -> None:
    # A power of a half shows places where few are beside the one where most are.
    norm = PowerNorm(power, 0.0, float(values.max()) or 1.0)
    picture = axes.imshow(
        values, extent=(0, 1, 1, 0), cmap=style.SEQUENCE, norm=norm, interpolation="nearest"
    )
    style.add_words(axes, title)
    style.dress(axes, None)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    for side in axes.spines.values():
        side.set(visible=True, color=style.FAINT)
    bar = figure.colorbar(picture, ax=axes, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=power != 1))
    bar.ax.yaxis.set_major_formatter(lambda value, _: form.format(value).replace("%", " %"))
    bar.ax.tick_params(
        labelsize=style.SMALL_SIZE,
        labelfontfamily=style.FONT,
        colors=style.MUTED,
        labelcolor=style.INK,
    )


def _add_key(figure: Figure, axes: Axes) -> None:
    handles, _ = axes.get_legend_handles_labels()
    style.add_legend(
        figure, handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.4
    )


def _caption(label: npt.NDArray[np.generic], class_names: Sequence[str]) -> str:
    """The class of a sample, or its two classes with their shares where it is mixed."""
    if np.ndim(label) == 0:
        return class_name(int(label), class_names)
    shares = np.asarray(label, np.float64)
    order = [int(index) for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    if len(order) == 1:
        return class_name(order[0], class_names)
    return ", ".join(f"{shares[index]:.0%} {class_name(index, class_names)}" for index in order)
