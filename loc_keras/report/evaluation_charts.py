"""Charts of an evaluation: how well boxes agree, and whether probabilities come true.

Each is narrow enough to be shown at full size on a phone; wider screens show several in a row.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest

from loc_keras.evaluation.figures import BOX_ACCURACIES
from loc_keras.evaluation.outcomes import BOX_HIT, Estimate, Outcomes
from loc_keras.evaluation.reliability import ReliabilityBin, TrustFigures, reliability_bins
from loc_keras.report.style import (
    BLUE,
    INK,
    MUTED,
    PAPER,
    SMALL_SIZE,
    VERMILLION,
    WORDS,
    add_legend,
    add_words,
    dress,
    new_figure,
)

DPI = 192.0
SCALE = 108 / DPI
"""Length of a pixel of a chart on the page: 1.5 px of the page a point, as on other pages."""

WIDTH, HEIGHT = 3.0, 2.5

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
    for part, colour, hatch in ((wrong, VERMILLION, "////"), (~wrong, BLUE, "")):
        axes.bar(
            edges[:-1][part], counts[part], width, align="edge", color=colour, edgecolor=PAPER,
            linewidth=0.6, hatch=hatch,
        )  # fmt: skip
    median = float(np.median(values))
    axes.set_ylim(0, max(1.0, counts.max() * 1.14))
    axes.axvline(median, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    _name_median(axes, median, f"median {median:.2f}".replace(" 0", " "), 0.99, "top")
    _fractions(axes)
    add_words(axes, f"{len(values):,} boxes by IoU", "IoU")
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
    axes.plot(grid, shares, color=BLUE, linewidth=2.0, label="model")
    for threshold in BOX_ACCURACIES.values():
        share = float((values >= threshold).mean())
        axes.plot(threshold, share, "o", color=BLUE, markersize=4.5)
    for mark, (name, figures) in zip(_MARKS, baselines.items(), strict=False):
        known = [(t, figures[key].value) for key, t in BOX_ACCURACIES.items() if key in figures]
        if known:
            axes.plot(*zip(*known, strict=True), marker=mark, color=MUTED, markersize=4.5,
                      markerfacecolor=PAPER, linewidth=1.0, linestyle=":", label=name)  # fmt: skip
    _fractions(axes)
    _percents(axes)
    add_words(axes, f"share of {len(values):,} boxes with IoU ≥ t", "t")
    add_legend(axes, handlelength=1.8, labelspacing=0.3)
    return figure


def corner_curve(errors_px: npt.ArrayLike) -> Figure:
    """Share of boxes whose corners are off by at most some px, by mean distances (N,), N >= 1."""
    values = np.sort(np.asarray(errors_px, np.float64))
    figure, axes = _chart()
    # The few boxes that are far off would squeeze all others to the left.
    reach = max(float(np.quantile(values, 0.98)), 1e-3) * 1.05
    shares = np.arange(1, len(values) + 1) / len(values)
    axes.step([0, *values, max(reach, values[-1])], [0, *shares, 1], where="post", color=BLUE,
              linewidth=2.0)  # fmt: skip
    median = float(np.median(values))
    axes.plot([0, median, median], [0.5, 0.5, 0], color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.set_xlim(0, reach)
    _name_median(axes, median, f"median {median:,.1f} px", 0.04, "bottom")
    _percents(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter("{x:,g}")
    title = f"share of {len(values):,} boxes off by ≤ e px"
    add_words(axes, title, "mean distance of the corners, e")
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
    figure = new_figure(WIDTH, 3.7, DPI)
    figure.set_layout_engine("constrained")
    axes, counts = figure.subplots(2, 1, height_ratios=(0.77, 0.23), sharex=True)
    add_words(axes, title)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=(0, (4, 2)))
    for one in bins:
        if one.images:
            _draw_bin(axes, one)
    _percents(axes)
    axes.set_ylim(-0.02, 1.03)
    dress(axes, "y")
    add_words(counts, f"images, n = {sum(one.images for one in bins):,}", "stated probability")
    edges = [bins[0].low, *(one.high for one in bins)]
    counts.stairs([one.images for one in bins], edges, fill=True, color=MUTED)
    counts.set_xlim(0, 1)
    counts.set_ylim(0, max(1, *(one.images for one in bins)) * 1.05)
    counts.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    counts.yaxis.set_major_formatter("{x:,.0f}")
    dress(counts, "y")
    counts.set_xticks(_QUARTERS, ["0", "25", "50", "75", "100 %"])
    return figure


def _draw_bin(axes: Axes, one: ReliabilityBin) -> None:
    low, high = binomtest(round(one.found * one.images), one.images).proportion_ci(method="wilson")
    if not low <= one.stated <= high:
        colour = VERMILLION if one.stated > one.found else BLUE
        start, end = sorted((one.stated, one.found))
        width = one.high - one.low
        axes.bar(one.low, end - start, width, start, align="edge", color=colour, alpha=0.28)
    axes.plot([one.stated, one.stated], [low, high], color=MUTED, linewidth=1.0)
    axes.plot(one.stated, one.found, "o", color=BLUE, markersize=4.5, clip_on=False)


def _chart() -> tuple[Figure, Axes]:
    figure = new_figure(WIDTH, HEIGHT, DPI)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    dress(axes, "y")
    return figure, axes


def _name_median(axes: Axes, median: float, words: str, height: float, va: str) -> None:
    """Writes beside a median's line where there is more room; `height` is of the axes, 0..1."""
    left = median > 0.55 * axes.get_xlim()[1]
    axes.annotate(
        words, (median, height), (-4 if left else 4, 0), axes.get_xaxis_transform(),
        "offset points", ha="right" if left else "left", va=va, size=SMALL_SIZE, **WORDS,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
    )  # fmt: skip


def _fractions(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks(_QUARTERS, ["0", ".25", ".5", ".75", "1"])


def _percents(axes: Axes) -> None:
    axes.set_ylim(0, 1.03)
    axes.set_yticks(_QUARTERS, ["0", "25 %", "50 %", "75 %", "100 %"])
