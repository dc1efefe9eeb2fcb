"""Figures of an evaluation as HTML: cards, tables with bars, the split of errors, nine fields."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from loc_keras.evaluation.figures import (
    ERRORS,
    MISSING,
    figure_of,
    format_interval,
    format_value,
    percent,
)
from loc_keras.evaluation.outcomes import Estimate, Evaluation, Group
from loc_keras.report import html
from loc_keras.report.evaluation_content import format_gain
from loc_keras.report.style import (
    BLUE,
    FAINT,
    INK,
    LABEL_SIZE,
    MUTED,
    PAPER,
    SEQUENCE,
    VERMILLION,
    WORDS,
    YELLOW,
    dress,
    new_figure,
)
from loc_keras.report.thumbnails import figure_uri

MOST_ROWS = 20
"""Rows of a long table that are shown at once; the others are folded."""

_ERRORS_OF_ONE_CLASS = {
    "right": ("box right", "IoU ≥ .5"),
    "box_wrong": ("box wrong", "IoU < .5"),
}
_DARK = "#3D3D3D"

CSS = f"""
.card small {{ display: block; color: {MUTED}; font-size: 12px; }}
.card {{ flex: 1 1 170px; }}
main th, main td {{ overflow-wrap: break-word; }}
thead th {{ white-space: nowrap; }}
tbody th {{ min-width: 8em; }}
.figures th:first-child, .groups th:first-child {{ position: sticky; left: 0; min-width: 11em;
  background: {PAPER}; }}
.bar {{ position: relative; height: 10px; width: 130px; margin-top: 5px; background: #EEEEEE; }}
.bar i, .bar b {{ position: absolute; top: 0; bottom: 0; }}
.bar i {{ left: 0; background: {BLUE}; }}
.bar b {{ top: 4px; height: 2px; min-width: 2px; background: {INK};
  box-shadow: 0 0 0 1px {PAPER}; }}
.bar u {{ position: absolute; top: -3px; bottom: -3px; width: 2px; background: {VERMILLION}; }}
.stack {{ display: flex; height: 34px; margin: 12px 0; border: 1px solid {MUTED}; }}
.stack span {{ overflow: hidden; text-align: center; line-height: 32px; font-size: 13px; }}
.key {{ display: inline-block; width: 13px; height: 13px; margin-right: 8px;
  vertical-align: -1px; border: 1px solid {MUTED}; }}
.right {{ background: {BLUE}; color: {PAPER}; }}
.class_wrong {{ background: repeating-linear-gradient(45deg, {YELLOW} 0 6px, #FBF6B0 6px 12px); }}
.box_wrong {{ background: {VERMILLION}; color: {INK}; }}
.both_wrong {{ background: {_DARK}; color: {PAPER}; }}
.field {{ border-collapse: separate; border-spacing: 3px; }}
.field td {{ width: 104px; height: 84px; padding: 6px; text-align: center; vertical-align: middle;
  border: 1px solid {FAINT}; font-size: 12px; line-height: 1.35; }}
.field b {{ display: block; font-size: 17px; }}
.fields {{ display: flex; flex-wrap: wrap; gap: 0 36px; }}
td .meaning, th .meaning {{ display: block; color: {MUTED}; font-size: 12px; }}
@media (max-width: 600px) {{
  .card {{ flex: 1 1 140px; }}
  .bar {{ width: 80px; }}
  .field td {{ width: 92px; height: 76px; padding: 3px; }}
  tbody th {{ min-width: 6.5em; }}
  .figures th:first-child, .groups th:first-child {{ min-width: 8em; }}
}}
@media print {{
  thead th {{ white-space: normal; }}
  .bar {{ width: 80px; }}
  td .meaning, th .meaning {{ font-size: 10px; }}
  .figures th:first-child, .groups th:first-child {{ position: static; min-width: 8em; }}
}}
"""


def headline_cards(evaluation: Evaluation, keys: Iterable[str]) -> str:
    """The most important figures, each with its interval."""
    level = f"{100 * evaluation.level:g} %"
    cards = []
    for key in keys:
        if key not in evaluation.figures:
            continue
        found, words = evaluation.figures[key], figure_of(key)
        cards.append(
            f'<div class="card"><b>{html.safe(format_value(key, found.value))}</b>'
            f"<span>{html.safe(words.name)}</span>"
            f"<small>{html.safe(words.meaning)}</small>"
            f"<small>{level} interval {html.safe(format_interval(key, found))}</small></div>"
        )
    return '<div class="cards">' + "".join(cards) + "</div>"


def figure_table(evaluation: Evaluation) -> str:
    """All figures with their intervals, beside what boxes score that see nothing."""
    floors = list(evaluation.baselines)
    heads = ["figure", "value", f"{100 * evaluation.level:g} % interval", *floors]
    heads += ["gain", "images"] if floors else ["images"]
    rows = []
    for key, found in evaluation.figures.items():
        words = figure_of(key)
        others = [evaluation.baselines[name].get(key) for name in floors]
        rows.append(
            (
                _with_meaning(words.name, words.meaning),
                f"<b>{html.safe(format_value(key, found.value))}</b>",
                html.safe(format_interval(key, found)),
                *(MISSING if one is None else html.safe(format_value(key, one.value))
                  for one in others),
                *([format_gain(key, evaluation)] if floors else []),
                f"{found.images:,}",
            )
        )  # fmt: skip
    return _of_kind("figures", html.table(heads, rows, range(1, len(heads)), named=True))


def group_table(first: str, groups: Sequence[Group], keys: Sequence[str], *, level: float) -> str:
    """Figures of groups, with a bar and the interval of the first figure.

    Args:
        first: What a group is.
        groups: In the order they are shown.
        keys: Figures to show; the first has the bar.
        level: Of the interval, as in `Evaluation`.
    """
    lead, *others = keys
    heads = [first, "images", figure_of(lead).name, f"{100 * level:g} % interval", "0 to 100 %"]
    heads += [figure_of(key).name for key in others]
    rows = []
    for group in groups:
        found = group.figures.get(lead)
        rows.append(
            (
                html.name(group.name),
                f"{group.images:,}",
                MISSING if found is None else html.safe(format_value(lead, found.value)),
                MISSING if found is None else html.safe(format_interval(lead, found)),
                "" if found is None else bar(found),
                *(_figure_of(group, key) for key in others),
            )
        )
    numeric = (1, 2, 3, *range(5, len(heads)))
    return _of_kind("groups", html.table(heads, rows, numeric, named=True))


def class_tables(evaluation: Evaluation, keys: Sequence[str]) -> list[str]:
    """Figures of each class, the weakest first; of many classes all but the weakest are folded."""
    lead = keys[0]
    order = sorted(evaluation.classes, key=lambda group: _rank(group, lead))
    cut = MOST_ROWS if len(order) > MOST_ROWS + 5 else len(order)
    shown, folded = order[:cut], order[cut:]
    parts = [group_table("class", shown, keys, level=evaluation.level)]
    if folded:
        parts.append(
            f"<details><summary>The other {len(folded):,} classes</summary>"
            + group_table("class", folded, keys, level=evaluation.level)
            + "</details>"
        )
    return parts


def error_bar(evaluation: Evaluation) -> str:
    """How the images with an object divide into right and the ways to be wrong."""
    shown = [
        (key, error.name, error.meaning, evaluation.errors[key])
        for key, error in ERRORS.items()
        if key in evaluation.errors and math.isfinite(evaluation.errors[key].value)
    ]
    if len(evaluation.class_names) == 1:
        shown = [
            (key, *_ERRORS_OF_ONE_CLASS[key], found)
            for key, _, _, found in shown
            if key in _ERRORS_OF_ONE_CLASS
        ]
    if not shown:
        return "<p>No image shows an object.</p>"
    level = f"{100 * evaluation.level:g} % interval"
    words = ", ".join(f"{name} {percent(found.value)} %" for _, name, _, found in shown)
    pieces = "".join(
        f'<span class="{key}" style="width: {100 * found.value:.3f}%">'
        + (f"{percent(found.value)} %" if found.value >= 0.18 else "")
        + "</span>"
        for key, _, _, found in shown
        if found.value > 0
    )
    rows = [
        (
            f'<span class="key {key}"></span>{_with_meaning(name, meaning)}',
            f"{html.safe(percent(found.value))} %",
            f"{100 * found.low:.1f} – {100 * found.high:.1f} %",
            f"{round(found.value * found.images):,}",
        )
        for key, name, meaning, found in shown
    ]
    return (
        f'<div class="whole"><div class="stack" role="img" aria-label="{html.safe(words)}">'
        f"{pieces}</div>"
        + html.table(("answer", "share", level, "images"), rows, (1, 2, 3), named=True)
        + "</div>"
    )


def position_field(groups: Sequence[Group], key: str) -> str:
    """A figure by where the object's centre is: nine fields, darker where it is higher."""
    words = figure_of(key)
    cells = []
    for group in groups:
        found = group.figures.get(key)
        value = math.nan if found is None or not group.images else found.value
        # The third power sets the upper end apart, where good models are.
        paper, ink = shade(value**3)
        cells.append(
            f'<td style="background: {paper}; color: {ink}"><b>'
            f"{html.safe(format_value(key, value))}</b>{html.safe(group.name, 40)}<br>"
            f"{group.images:,} image{'' if group.images == 1 else 's'}</td>"
        )
    lines = ["<tr>" + "".join(cells[start : start + 3]) + "</tr>" for start in range(0, 9, 3)]
    return (
        f'<div class="whole"><h4>{html.safe(words.name)}</h4><table class="field"><tbody>'
        + "".join(lines)
        + "</tbody></table></div>"
    )


def bar(found: Estimate, mark: float | None = None) -> str:
    """A share as a bar with its interval; the figure itself stands beside it in words.

    Args:
        found: The share, in [0, 1].
        mark: Where a line is drawn across, in [0, 1]; None draws none.
    """
    if not math.isfinite(found.value):
        return ""
    ends = ""
    if math.isfinite(found.low) and math.isfinite(found.high):
        ends = f'<b style="left: {_css(found.low)}; width: {_css(found.high - found.low)}"></b>'
    line = "" if mark is None else f'<u style="left: {_css(mark)}"></u>'
    return (
        f'<div class="bar" aria-hidden="true"><i style="width: {_css(found.value)}"></i>'
        f"{ends}{line}</div>"
    )


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


def _rank(group: Group, key: str) -> tuple[bool, float]:
    found = group.figures.get(key)
    missing = found is None or not math.isfinite(found.value)
    return (missing, 0.0 if found is None or missing else found.value)


def _figure_of(group: Group, key: str) -> str:
    found = group.figures.get(key)
    return MISSING if found is None else html.safe(format_value(key, found.value))


def _with_meaning(name: str, meaning: str) -> str:
    return html.safe(name) + (
        f'<span class="meaning">{html.safe(meaning)}</span>' if meaning else ""
    )


def _of_kind(kind: str, table: str) -> str:
    return table.replace("<table>", f'<table class="{kind}">', 1)


def _css(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


MOST_IN_WORDS = 25
"""Classes at most whose matrix is a table of counts; of more it is a picture."""

PAIRS = 20

_MANY = 10  # Classes from which on the table is set smaller on paper.

_WRONG = LinearSegmentedColormap.from_list("paper to vermillion", [PAPER, VERMILLION])
_DPI = 192.0

EVALUATION_CONFUSION_CSS = f"""
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
