"""Tables of an evaluation's page: kinds of mistakes, classes, and which are confused."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_hex, to_rgb
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from loc_keras.evaluation.figures import ERRORS, Figure
from loc_keras.evaluation.outcomes import Estimate, Evaluation, Group
from loc_keras.report.style import (
    FAINT,
    INK,
    MUTED,
    PAPER,
    SEQUENCE,
    VERMILLION,
    add_words,
    dress,
    new_figure,
)

MOST_ROWS = 20
"""Rows of a long table that are shown at once; the others are folded."""

MOST_IN_NUMBERS = 25
"""Classes at most whose confusion matrix is a table of counts; of more it is a picture."""

MOST_PAIRS = 20

_WRONG = LinearSegmentedColormap.from_list("paper to vermillion", [PAPER, VERMILLION])
_DPI = 192.0


def error_kinds(evaluation: Evaluation) -> list[tuple[Figure, Estimate]]:
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


def _rank(group: Group, key: str) -> tuple[bool, float]:
    found = group.figures.get(key)
    missing = found is None or not math.isfinite(found.value)
    return (missing, 0.0 if found is None or missing else found.value)


def field_style(group: Group, key: str) -> str:
    """CSS of the field of a group: darker where the figure is higher."""
    found = group.figures.get(key)
    value = math.nan if found is None or not group.images else found.value
    # The third power sets the upper end apart, where good models are.
    return _colours(*shade(value**3))


def cell_style(share: float, *, own: bool) -> str:
    """CSS of a cell of the confusion matrix by its share of the class; `own` on the diagonal."""
    # Shares of a few percent are what one looks for among mistakes.
    paper = to_hex(SEQUENCE(0.6 * share)) if own else to_hex(_WRONG(min(1.0, share**0.5)))
    return _colours(paper, ink_on(paper))


def _colours(paper: str, ink: str) -> str:
    return f"background: {paper}; color: {ink}"


def shade(value: float) -> tuple[str, str]:
    """Colours of a field for a value in [0, 1]: paper, and ink that can be read on it."""
    if not math.isfinite(value):
        return PAPER, MUTED
    # The deep end of the scale is left out, so that all fields carry dark ink.
    paper = to_hex(SEQUENCE(0.38 * min(max(value, 0.0), 1.0)))
    return paper, ink_on(paper)


def ink_on(paper: str) -> str:
    """Dark or light ink, whichever contrasts more (relative luminance of WCAG 2.1)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(paper)]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    return INK if luminance > 0.19 else PAPER


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


def confusion_chart(confusion: npt.NDArray[np.int64]) -> Drawing:
    """The matrix as a picture: share of each row, by the square root so that few are seen."""
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = new_figure(6.2, 6.2, _DPI)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    axes.imshow(
        confusion / totals,
        cmap=SEQUENCE,
        norm=PowerNorm(0.4, 0.0, 1.0),
        interpolation="nearest" if len(confusion) <= 400 else "antialiased",
    )
    answered = f"answered class, by number (n = {confusion.sum():,})"
    add_words(axes, "", answered, "true class, by number")
    dress(axes, None)
    for line in (axes.xaxis, axes.yaxis):
        line.set_major_locator(MaxNLocator(nbins=8, integer=True))
    for side in axes.spines.values():
        side.set(visible=True, color=FAINT)
    return figure
