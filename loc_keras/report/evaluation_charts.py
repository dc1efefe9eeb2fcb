"""Charts and tables of an evaluation: boxes, probabilities, mistakes, classes.

Charts are narrow enough to be shown at full size on a phone; wider screens show several in a row.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest

from loc_keras.evaluation.figures import BOX_ACCURACIES, ERRORS
from loc_keras.evaluation.figures import Figure as FigureRow
from loc_keras.evaluation.outcomes import BOX_HIT, Estimate, Evaluation, Group, Outcomes
from loc_keras.evaluation.reliability import ReliabilityBin, TrustFigures, reliability_bins
from loc_keras.report import style

DPI = 192.0
SCALE = 108 / DPI
"""Length of a pixel of a chart on the page: 1.5 px of the page a point, as on other pages."""

WIDTH, HEIGHT = 3.0, 2.5

MOST_ROWS = 20  # Rows of a long table that are shown at once; the others are folded.

MOST_IN_NUMBERS = 25
"""Classes at most whose confusion matrix is a table of counts; of more it is a picture."""

MOST_PAIRS = 20

_WRONG = LinearSegmentedColormap.from_list("paper to vermillion", [style.PAPER, style.VERMILLION])

_BINS = 20
_QUARTERS = (0, 0.25, 0.5, 0.75, 1)
_MARKS = ("o", "s", "D", "^")


def iou_histogram(ious: npt.ArrayLike) -> Figure:
    """How many boxes have which IoU, (N,), N at least 1, in [0, 1]; those below .5 stand apart."""
    values = np.asarray(ious, np.float64)
    edges = np.linspace(0, 1, _BINS + 1)
    counts = np.histogram(values, edges)[0]
    figure, axes = _chart()
    wrong = edges[:-1] < BOX_HIT
    width = 1 / _BINS
    for part, colour, hatch in ((wrong, style.VERMILLION, "////"), (~wrong, style.BLUE, "")):
        look: dict[str, Any] = {
            "color": colour,
            "edgecolor": style.PAPER,
            "linewidth": 0.6,
            "hatch": hatch,
        }
        axes.bar(edges[:-1][part], counts[part], width, align="edge", **look)
    median = float(np.median(values))
    axes.set_ylim(0, max(1.0, counts.max() * 1.14))
    axes.axvline(median, color=style.INK, linewidth=1.2, linestyle=(0, (4, 2)))
    _name_median(axes, median, f"median {median:.2f}".replace(" 0", " "), 0.99, "top")
    _fractions(axes)
    style.add_words(axes, f"{len(values):,} boxes by IoU", "IoU")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def iou_curve(ious: npt.ArrayLike, baselines: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Share of boxes with an IoU of at least t, for every t, beside baselines as in `Evaluation`.

    `ious` are (N,), N at least 1, in [0, 1].
    """
    values = np.sort(np.asarray(ious, np.float64))
    figure, axes = _chart()
    grid = np.linspace(0, 1, 501)
    shares = 1 - np.searchsorted(values, grid, side="left") / len(values)
    axes.plot(grid, shares, color=style.BLUE, linewidth=2.0, label="model")
    for threshold in BOX_ACCURACIES.values():
        share = float((values >= threshold).mean())
        axes.plot(threshold, share, "o", color=style.BLUE, markersize=4.5)
    for mark, (name, figures) in zip(_MARKS, baselines.items(), strict=False):
        known = [(t, figures[key].value) for key, t in BOX_ACCURACIES.items() if key in figures]
        if known:
            look: dict[str, Any] = {
                "marker": mark,
                "markersize": 4.5,
                "markerfacecolor": style.PAPER,
            }
            look |= {"color": style.MUTED, "linewidth": 1.0, "linestyle": ":", "label": name}
            axes.plot(*zip(*known, strict=True), **look)
    _fractions(axes)
    _percents(axes)
    style.add_words(axes, f"share of {len(values):,} boxes with IoU ≥ t", "t")
    style.add_legend(axes, handlelength=1.8, labelspacing=0.3)
    return figure


def corner_curve(errors_px: npt.ArrayLike) -> Figure:
    """Share of boxes whose corners are off by at most some px, by mean distances (N,), N >= 1."""
    values = np.sort(np.asarray(errors_px, np.float64))
    figure, axes = _chart()
    # The few boxes that are far off would squeeze all others to the left.
    reach = max(float(np.quantile(values, 0.98)), 1e-3) * 1.05
    shares = np.arange(1, len(values) + 1) / len(values)
    axes.step([0, *values, max(reach, values[-1])], [0, *shares, 1], where="post", color=style.BLUE,
              linewidth=2.0)  # fmt: skip
    median = float(np.median(values))
    axes.plot(
        [0, median, median], [0.5, 0.5, 0], color=style.INK, linewidth=1.2, linestyle=(0, (4, 2))
    )
    axes.set_xlim(0, reach)
    _name_median(axes, median, f"median {median:,.1f} px", 0.04, "bottom")
    _percents(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter("{x:,g}")
    title = f"share of {len(values):,} boxes off by ≤ e px"
    style.add_words(axes, title, "mean distance of the corners, e")
    return figure


def stated_probabilities(
    outcomes: Outcomes, trust: TrustFigures | None
) -> dict[str, Sequence[ReliabilityBin]]:
    """By what was stated its bins: class and box; the class alone where there is no trust."""
    if trust is None:
        hits = outcomes.predicted == outcomes.labels
        return {"class probability": reliability_bins(outcomes.confidences, hits)}
    before, after = trust.class_bins
    return {
        "class probability, before": before,
        "class probability, calibrated": after,
        "p(IoU ≥ .5) of the box": trust.box_bins,
    }


def reliability_chart(bins: Sequence[ReliabilityBin], title: str) -> Figure:
    """Share that came true by stated probability, above the number of images in each bin.

    Points on the diagonal kept their word; below it the model was too sure of itself. The gap of a
    bin is coloured where chance does not explain it: where the 95 % interval of Wilson 1927 does
    not hold the stated probability. After DeGroot and Fienberg 1983 and Guo et al. 2017.
    """
    figure = style.new_figure(WIDTH, 3.7, DPI)
    figure.set_layout_engine("constrained")
    axes, counts = figure.subplots(2, 1, height_ratios=(0.77, 0.23), sharex=True)
    style.add_words(axes, title)
    axes.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1.0, linestyle=(0, (4, 2)))
    for one in bins:
        if one.images:
            _draw_bin(axes, one)
    _percents(axes)
    axes.set_ylim(-0.02, 1.03)
    style.dress(axes, "y")
    style.add_words(
        counts, f"images, n = {sum(one.images for one in bins):,}", "stated probability"
    )
    edges = [bins[0].low, *(one.high for one in bins)]
    counts.stairs([one.images for one in bins], edges, fill=True, color=style.MUTED)
    counts.set_xlim(0, 1)
    counts.set_ylim(0, max(1, *(one.images for one in bins)) * 1.05)
    counts.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    counts.yaxis.set_major_formatter("{x:,.0f}")
    style.dress(counts, "y")
    counts.set_xticks(_QUARTERS, ["0", "25", "50", "75", "100 %"])
    return figure


def error_kinds(evaluation: Evaluation) -> list[tuple[FigureRow, Estimate]]:
    """How the images with an object divide into right and the ways to be wrong."""
    kinds = dict(ERRORS)
    if len(evaluation.class_names) == 1:
        kinds = {
            "right": replace(ERRORS["right"], name="box right", meaning="IoU ≥ .5"),
            "box_wrong": replace(ERRORS["box_wrong"], meaning="IoU < .5"),
        }
    return [
        (kind, evaluation.errors[key])
        for key, kind in kinds.items()
        if key in evaluation.errors and math.isfinite(evaluation.errors[key].value)
    ]


def ranked_classes(evaluation: Evaluation, key: str) -> tuple[list[Group], list[Group]]:
    """The classes, weakest first: those that are shown at once, and those that are folded."""
    order = sorted(evaluation.classes, key=lambda group: _rank(group, key))
    cut = MOST_ROWS if len(order) > MOST_ROWS + 5 else len(order)
    return order[:cut], order[cut:]


def field_style(group: Group, key: str) -> str:
    """CSS of the field of a group: darker where the figure is higher."""
    found = group.figures.get(key)
    value = math.nan if found is None or not group.images else found.value
    # The third power sets the upper end apart, where good models are.
    return _colours(*shade(value**3))


def cell_style(share: float, *, own: bool) -> str:
    """CSS of a cell of the confusion matrix by its share of the class; `own` on the diagonal."""
    # Shares of a few percent are what one looks for among mistakes.
    paper = to_hex(style.SEQUENCE(0.6 * share)) if own else to_hex(_WRONG(min(1.0, share**0.5)))
    return _colours(paper, ink_on(paper))


def shade(value: float) -> tuple[str, str]:
    """Colours of a field for a value in [0, 1]: paper, and ink that can be read on it."""
    if not math.isfinite(value):
        return style.PAPER, style.MUTED
    # The deep end of the scale is left out, so that all fields carry dark ink.
    paper = to_hex(style.SEQUENCE(0.38 * min(max(value, 0.0), 1.0)))
    return paper, ink_on(paper)


def ink_on(paper: str) -> str:
    """Dark or light ink, whichever contrasts more (relative luminance of WCAG 2.1)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(paper)]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    return style.INK if luminance > 0.19 else style.PAPER


class Pair(NamedTuple):
    """One class taken for another, both by index: how often, and in which share of the true one."""

    true: int
    answered: int
    images: int
    share: float


def confused_pairs(confusion: npt.NDArray[np.int64], count: int = MOST_PAIRS) -> list[Pair]:
    """Mistakes that happened more than once, the most frequent first, then by share of the class.

    `confusion` is int (K, K), images of true class (row) answered as (column).
    """
    totals = confusion.sum(axis=1)
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    true, answered = np.nonzero(wrong > 1)
    pairs = [
        Pair(int(t), int(a), int(wrong[t, a]), float(wrong[t, a] / totals[t]))
        for t, a in zip(true, answered, strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.images, -pair.share))[:count]


def confusion_chart(confusion: npt.NDArray[np.int64]) -> Figure:
    """The matrix as a picture: share of each row, by the square root so that few are seen."""
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = style.new_figure(6.2, 6.2, DPI)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.imshow(
        confusion / totals,
        cmap=style.SEQUENCE,
        norm=PowerNorm(0.4, 0.0, 1.0),
        interpolation="nearest" if len(confusion) <= 400 else "antialiased",
    )
    answered = f"answered class, by number (n = {confusion.sum():,})"
    style.add_words(axes, "", answered, "true class, by number")
    style.dress(axes, None)
    for line in (axes.xaxis, axes.yaxis):
        line.set_major_locator(MaxNLocator(nbins=8, integer=True))
    for side in axes.spines.values():
        side.set(visible=True, color=style.FAINT)
    return figure


def _draw_bin(axes: Axes, one: ReliabilityBin) -> None:
    low, high = binomtest(round(one.found * one.images), one.images).proportion_ci(method="wilson")
    if not low <= one.stated <= high:
        colour = style.VERMILLION if one.stated > one.found else style.BLUE
        start, end = sorted((one.stated, one.found))
        width = one.high - one.low
        axes.bar(one.low, end - start, width, start, align="edge", color=colour, alpha=0.28)
    axes.plot([one.stated, one.stated], [low, high], color=style.MUTED, linewidth=1.0)
    axes.plot(one.stated, one.found, "o", color=style.BLUE, markersize=4.5, clip_on=False)


def _chart() -> tuple[Figure, Axes]:
    figure = style.new_figure(WIDTH, HEIGHT, DPI)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    style.dress(axes, "y")
    return figure, axes


def _name_median(axes: Axes, median: float, words: str, height: float, va: str) -> None:
    """Writes beside a median's line where there is more room; `height` is of the axes, 0..1."""
    left = median > 0.55 * axes.get_xlim()[1]
    font = {"ha": "right" if left else "left", "va": va, "size": style.SMALL_SIZE, **style.WORDS}
    box = {"facecolor": style.PAPER, "edgecolor": "none", "pad": 1.0, "alpha": 0.85}
    place, shift = axes.get_xaxis_transform(), (-4 if left else 4, 0)
    axes.annotate(words, (median, height), shift, place, "offset points", bbox=box, **font)


def _fractions(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks(_QUARTERS, ["0", ".25", ".5", ".75", "1"])


def _percents(axes: Axes) -> None:
    axes.set_ylim(0, 1.03)
    axes.set_yticks(_QUARTERS, ["0", "25 %", "50 %", "75 %", "100 %"])


def _rank(group: Group, key: str) -> tuple[bool, float]:
    found = group.figures.get(key)
    missing = found is None or not math.isfinite(found.value)
    return (missing, 0.0 if found is None or missing else found.value)


def _colours(paper: str, ink: str) -> str:
    return f"background: {paper}; color: {ink}"
