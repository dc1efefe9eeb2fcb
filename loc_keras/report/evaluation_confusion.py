"""Which classes are taken for which: a table of counts, and the pairs that happen most."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from loc_keras.report import page_html as html
from loc_keras.report.chart_axes import SEQUENCE, WORDS, dress
from loc_keras.report.embedded import figure_uri
from loc_keras.report.evaluation_tables import ink_on
from loc_keras.report.evaluation_words import percent
from loc_keras.report.saving import new_figure
from loc_keras.report.style import FAINT, INK, LABEL_SIZE, PAPER, VERMILLION

MOST_IN_WORDS = 25
"""Classes at most whose matrix is a table of counts; of more it is a picture."""

PAIRS = 20

_MANY = 10  # Classes from which on the table is set smaller on paper.

_WRONG = LinearSegmentedColormap.from_list("paper to vermillion", [PAPER, VERMILLION])
_DPI = 192.0

CSS = f"""
.confusion {{ font-size: 12px; border-collapse: separate; border-spacing: 1px; }}
.confusion td {{ min-width: 32px; padding: 4px 5px; text-align: right; border: 0;
  font-variant-numeric: tabular-nums; white-space: nowrap; overflow-wrap: normal; }}
.confusion wbr {{ display: none; }}
.confusion .zero {{ color: #B5B5B5; }}
.confusion thead th {{ padding: 4px 2px; border: 0; font-weight: normal; color: {INK};
  vertical-align: bottom; text-align: center; }}
.confusion thead th span {{ writing-mode: vertical-rl; transform: rotate(180deg);
  max-height: 130px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }}
.confusion tbody th {{ position: sticky; left: 0; background: {PAPER}; max-width: 190px;
  padding: 4px 8px 4px 0; border: 0; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; overflow-wrap: normal; }}
.confusion .sum {{ color: #6B6B6B; padding-left: 10px; }}
.confusion .own {{ outline: 1px solid {FAINT}; }}
@media (max-width: 600px) {{ .confusion tbody th {{ max-width: 92px; }} }}
@media print {{
  .many {{ font-size: 9px; }}
  .many td {{ min-width: 0; padding: 2px 3px; }}
  .many tbody th {{ min-width: 0; padding: 2px 4px 2px 0; }}
}}
"""


class Pair(NamedTuple):
    """One class taken for another.

    Attributes:
        true: Index of the true class.
        answered: Index of the class that was answered.
        images: How often.
        share: Of the images of the true class.
    """

    true: int
    answered: int
    images: int
    share: float


def confused_pairs(confusion: npt.NDArray[np.int64], count: int = PAIRS) -> list[Pair]:
    """Mistakes that happened more than once, the most frequent first, then by share of the class.

    Args:
        confusion: int (K, K), images of true class (row) answered as (column).
        count: How many, at most.
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


def confusion_parts(confusion: npt.NDArray[np.int64], names: Sequence[str]) -> list[str]:
    """HTML of the matrix and of the most confused pairs.

    Args:
        confusion: int (K, K).
        names: Names of the classes.
    """
    matrix = _matrix(confusion, names) if len(names) <= MOST_IN_WORDS else _picture(confusion)
    if not confusion.sum() - np.trace(confusion):
        return ["<p>No class was taken for another.</p>", *matrix]
    if len(names) == 2:
        return matrix
    pairs = _pairs(confused_pairs(confusion), confusion, names)
    return [*pairs, *matrix] if len(names) > MOST_IN_WORDS else [*matrix, *pairs]


def _pairs(
    pairs: Sequence[Pair], confusion: npt.NDArray[np.int64], names: Sequence[str]
) -> list[str]:
    wrong = int(confusion.sum() - np.trace(confusion))
    if not pairs:
        return [f"<p>No two classes were confused twice: {wrong:,} wrong, all different.</p>"]
    rows = [
        (
            html.name(names[pair.true]),
            html.name(names[pair.answered]),
            f"{pair.images:,}",
            f"{html.safe(percent(pair.share))} %",
        )
        for pair in pairs
    ]
    covered = sum(pair.images for pair in pairs)
    heads = ("true class", "answered as", "images", "of the true class")
    return [
        "<h3>Most confused pairs</h3>",
        f"<p>{covered:,} of the {wrong:,} wrong classes; the others happened "
        f"{'more seldom' if len(pairs) == PAIRS else 'once each'}.</p>"
        if covered < wrong
        else "<p>All wrong classes, the most frequent first.</p>",
        html.table(heads, rows, (2, 3)),
    ]


def _matrix(confusion: npt.NDArray[np.int64], names: Sequence[str]) -> list[str]:
    totals = confusion.sum(axis=1)
    size = " many" if len(names) > _MANY else ""
    head = "".join(
        f'<th scope="col" title="{html.safe(name)}"><span>{html.name(name, 26)}</span></th>'
        for name in names
    )
    lines = []
    for true, name in enumerate(names):
        cells = []
        for answered in range(len(names)):
            images = int(confusion[true, answered])
            share = images / totals[true] if totals[true] else 0.0
            cells.append(_cell(images, share, own=true == answered))
        lines.append(
            f'<tr><th scope="row" title="{html.safe(name)}">{html.name(name, 60)}</th>'
            f'{"".join(cells)}<td class="sum">{totals[true]:,}</td></tr>'
        )
    return [
        "<p>Rows are true classes, columns are answers, numbers are images. The diagonal is right "
        "and blue, mistakes are orange; the darker, the larger the share of the row.</p>",
        f'<div class="scroll"><table class="confusion{size}"><thead><tr><td></td>'
        f'{head}<th scope="col"><span>all</span></th></tr></thead><tbody>{"".join(lines)}'
        "</tbody></table></div>",
    ]


def _cell(images: int, share: float, *, own: bool) -> str:
    if not images:
        return f'<td class="zero{" own" if own else ""}">0</td>'
    # Shares of a few percent are what one looks for among mistakes.
    paper = to_hex(SEQUENCE(0.6 * share)) if own else to_hex(_WRONG(min(1.0, share**0.5)))
    return f'<td style="background: {paper}; color: {ink_on(paper)}">{images:,}</td>'


def _picture(confusion: npt.NDArray[np.int64]) -> list[str]:
    right = int(np.trace(confusion))
    words = (
        f"confusion matrix of {len(confusion)} classes: {right:,} of {int(confusion.sum()):,} "
        "images lie on the diagonal"
    )
    picture = figure_uri(confusion_chart(confusion))
    return [
        "<h3>Matrix</h3>",
        "<p>Rows are true classes, columns are answers, both in the order of the list of classes. "
        "The darker a point, the larger the share of its row.</p>",
        html.chart(picture, words, 108 / _DPI),
    ]


def confusion_chart(confusion: npt.NDArray[np.int64]) -> Figure:
    """The matrix as a picture: share of each row, by the square root so that few are seen."""
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = new_figure(6.2, 6.2, _DPI)
    axes = figure.add_axes((0.11, 0.1, 0.87, 0.87))
    axes.imshow(
        confusion / totals,
        cmap=SEQUENCE,
        norm=PowerNorm(0.4, 0.0, 1.0),
        interpolation="nearest" if len(confusion) <= 400 else "antialiased",
    )
    axes.set_xlabel("answered class, by number", size=LABEL_SIZE, **WORDS)
    axes.set_ylabel("true class, by number", size=LABEL_SIZE, **WORDS)
    dress(axes, None)
    for line in (axes.xaxis, axes.yaxis):
        line.set_major_locator(MaxNLocator(nbins=8, integer=True))
    for side in axes.spines.values():
        side.set_visible(True)
        side.set_color(FAINT)
    return figure
