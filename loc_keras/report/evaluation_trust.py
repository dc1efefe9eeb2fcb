"""How far the model's words about its own answers were true, as HTML."""

import math
from collections.abc import Sequence

from loc_keras.evaluation.reliability import ReliabilityBin, reliability_bins
from loc_keras.evaluation.trust_figures import Guarantee, Shift, TrustFigures
from loc_keras.report import page_html as html
from loc_keras.report.embedded import figure_uri
from loc_keras.report.evaluation_charts import SCALE, reliability_chart
from loc_keras.report.evaluation_input import ImageRows
from loc_keras.report.evaluation_tables import bar
from loc_keras.report.evaluation_words import MISSING, format_value, percent

_GUARANTEES = {
    "label set": ("label set", "the set of classes holds the true one"),
    "outer box": ("outer box", "the box holds the whole object"),
    "inner box": ("inner box", "the box lies inside the object"),
}
_UNITS = {"label set": "classes"}

CSS = """
@media print {
  .bins { flex-wrap: nowrap; gap: 0 16px; }
  .bins table { font-size: 9px; }
  .bins th, .bins td { padding: 1px 6px 1px 0; min-width: 0; }
}
"""


def reliability_parts(rows: ImageRows, trust: TrustFigures | None, level: float) -> list[str]:
    """Reliability diagrams with their numbers; of the class alone where there is no trust."""
    if trust is None:
        right = rows.predicted == rows.labels
        bins = reliability_bins(rows.confidence, right)
        return [
            "<p>The model is not calibrated: this is the probability of the class as it comes. "
            "Nothing is stated about boxes.</p>",
            _charts([("class probability", bins)]),
            _bin_tables([("class probability", bins)]),
        ]
    before, after = trust.class_bins
    diagrams = [
        ("class probability, before", before),
        ("class probability, calibrated", after),
        ("p(IoU ≥ .5) of the box", trust.box_bins),
    ]
    rows_shown = [
        ("expected calibration error", "mean gap of word and deed; 0 is best", *_change(trust.ece)),
        ("negative log-likelihood", "lower is better", *_change(trust.nll)),
    ]
    ranks = [
        ("p(IoU ≥ .5) of the box", trust.auroc_p_iou50),
        ("class probability", trust.auroc_confidence),
    ]
    level_rows = [
        (
            html.safe(name),
            f"{found.value:.3f}" if math.isfinite(found.value) else MISSING,
            f"{found.low:.3f} – {found.high:.3f}" if math.isfinite(found.low) else MISSING,
        )
        for name, found in ranks
    ]
    return [
        "<p>A probability that keeps its word lies on the diagonal: of all answers with 80 %, 80 % "
        "are right. Below it the model was too sure of itself, above it too modest; the gap is "
        "coloured where chance does not explain it.</p>",
        _charts(diagrams),
        html.table(
            ("class probability", "before", "calibrated"),
            [
                (f'{name}<span class="meaning">{meaning}</span>', first, second)
                for name, meaning, first, second in rows_shown
            ],
            (1, 2),
            named=True,
        ),
        f"<p>Calibration divides the class logits by a temperature of {trust.temperature:.3g}.</p>",
        "<h3>Does sureness tell good boxes from bad ones?</h3>",
        "<p>Area under the ROC curve: the chance that a good box (IoU ≥ .5) was given a higher "
        "probability than a bad one. 1 is perfect, .5 is a coin toss.</p>",
        html.table(
            ("told apart by", "area", f"{100 * level:g} % interval"), level_rows, (1, 2), named=True
        ),
        _bin_tables(diagrams),
    ]


def guarantee_parts(trust: TrustFigures, level: float) -> list[str]:
    """What was guaranteed about label sets and boxes, and whether it was kept."""
    rows = []
    for one in trust.guarantees:
        name, meaning = _GUARANTEES.get(one.name, (one.name, ""))
        rows.append(
            (
                f'{html.safe(name)}<span class="meaning">{html.safe(meaning)}</span>',
                f"{html.safe(percent(one.asked))} %",
                html.safe(format_value("acc50", one.kept.value)),
                _interval(one),
                bar(one.kept, one.asked),
                html.safe(verdict(one)),
                html.safe(_size(one)),
                f"{html.safe(percent(one.empty))} %" if math.isfinite(one.empty) else MISSING,
            )
        )
    heads = (
        "guarantee",
        "asked",
        "kept",
        f"{100 * level:g} % interval",
        "0 to 100 %",
        "verdict",
        "mean size",
        "empty",
    )
    return [
        "<p>A guarantee is asked for a share of images, and kept where it is true. The line across "
        "a bar is what was asked. The smaller a set or an outer box, and the larger an inner box, "
        "the more a guarantee is worth; an empty one says nothing.</p>",
        html.table(heads, rows, (1, 2, 3, 6, 7), named=True),
    ]


CHANCE = 0.025
"""Of being called broken, for a guarantee that holds: the lower half of a 95 % interval."""


def verdict(one: Guarantee) -> str:
    """Whether a guarantee was kept, as far as these images can tell."""
    if not math.isfinite(one.kept.value):
        return "no image"
    if one.kept.value >= one.asked:
        return "kept"
    return "broken" if one.p_value < CHANCE else "below, within chance"


def shift_sentence(shift: Shift) -> str:
    """Whether these images look to the model as those of the calibration split did."""
    chance = f"p {_p_relation(shift.p_value)}"
    sizes = f"{_images(shift.images)} here, {shift.calibration_images:,} of calibration"
    if shift.found:
        return (
            "These images do not look to the model as those of the calibration split did "
            f"({chance}, below {shift.level:g}; {sizes}): what was calibrated and guaranteed there "
            "need not hold here."
        )
    return (
        f"No shift was found: to the model these images look as those of the calibration split did "
        f"({chance}, not below {shift.level:g}; {sizes}). That is no proof that there is none."
    )


def shift_parts(shift: Shift) -> list[str]:
    """The verdict of the shift monitor with the tests behind it."""
    sentence = _unbroken(html.safe(shift_sentence(shift)))
    parts = [f"<p{' class=alarm' if shift.found else ''}>{sentence}</p>"]
    if shift.tests:
        rows = [
            (
                html.safe(test.name),
                f"{test.distance:.3f}",
                html.safe(_p(test.p_value)),
                "differs" if test.p_value < shift.level else "no difference found",
            )
            for test in shift.tests
        ]
        parts.append(
            html.table(("compared", "distance", "p-value", "verdict"), rows, (1, 2), named=True)
            + '<p class="quiet">Kolmogorov-Smirnov distance of the two distributions, 0 to 1; '
            "p-values are corrected for the number of tests.</p>"
        )
    return parts


def _change(pair: tuple[float, float]) -> tuple[str, str]:
    before, after = (f"{one:.4f}" if math.isfinite(one) else MISSING for one in pair)
    return before, after


def _interval(one: Guarantee) -> str:
    if not (math.isfinite(one.kept.low) and math.isfinite(one.kept.high)):
        return MISSING
    return f"{100 * one.kept.low:.1f} – {100 * one.kept.high:.1f} %"


def _size(one: Guarantee) -> str:
    if not math.isfinite(one.size):
        return MISSING
    if one.name in _UNITS:
        return f"{one.size:.2f} {_UNITS[one.name]}"
    return f"{percent(one.size)} % of the picture"


def _unbroken(sentence: str) -> str:
    """Keeps a p-value on one line."""
    for sign in ("=", "&lt;"):
        sentence = sentence.replace(f"p {sign} ", f"p&nbsp;{sign}&nbsp;")
    return sentence


def _p(value: float) -> str:
    return _p_relation(value).removeprefix("= ")


def _p_relation(value: float) -> str:
    if not math.isfinite(value):
        return f"= {MISSING}"
    return f"= {value:.2g}" if value >= 1e-4 else "< .0001"


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _charts(diagrams: Sequence[tuple[str, Sequence[ReliabilityBin]]]) -> str:
    images = []
    for name, bins in diagrams:
        filled = [one for one in bins if one.images]
        words = "; ".join(
            f"stated {100 * one.stated:.0f} %, came true {100 * one.found:.0f} %" for one in filled
        )
        picture = figure_uri(reliability_chart(bins, name))
        images.append(html.chart(picture, f"reliability of {name}: {words or 'no image'}", SCALE))
    return '<div class="charts">' + "".join(images) + "</div>"


def _bin_tables(diagrams: Sequence[tuple[str, Sequence[ReliabilityBin]]]) -> str:
    tables = []
    for name, bins in diagrams:
        rows = [
            (
                f"{100 * one.low:.0f} – {100 * one.high:.0f} %",
                f"{one.images:,}",
                f"{100 * one.stated:.1f} %" if one.images else MISSING,
                f"{100 * one.found:.1f} %" if one.images else MISSING,
            )
            for one in bins
        ]
        heads = (name, "images", "stated", "came true")
        tables.append(html.table(heads, rows, (1, 2, 3), named=True))
    return (
        '<details><summary>The bins in numbers</summary><div class="fields bins">'
        + "".join(tables)
        + "</div></details>"
    )
