"""The figures of an evaluation as tables on the terminal."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.evaluation.results import Estimate, Evaluation
from loc_keras.evaluation.trust_figures import TrustFigures
from loc_keras.report.evaluation_trust import shift_sentence
from loc_keras.report.evaluation_words import (
    MISSING,
    format_interval,
    format_value,
    gain_sentence,
    percent,
    words_of,
)

_ERRORS = {
    "right": "class and box right",
    "class_wrong": "class wrong",
    "box_wrong": "box wrong",
    "both_wrong": "both wrong",
}
_SIZES = {"label set": "labels", "outer box": "of the picture", "inner box": "of the picture"}


def print_evaluation(console: Console, found: Evaluation, trust: TrustFigures | None) -> None:
    """Prints the figures with their intervals and floors, the errors, and the trust figures."""
    console.print(figures_table(found))
    console.print(f"errors: {_errors(found)}", highlight=False, soft_wrap=True)
    if sentence := gain_sentence(found):
        console.print(sentence, highlight=False, soft_wrap=True)
    if trust is not None:
        console.print()
        console.print(trust_table(trust))
        console.print(shift_sentence(trust.shift), highlight=False, soft_wrap=True)


def figures_table(found: Evaluation) -> Table:
    """One row a figure: value, interval, and what each floor scores."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{found.images:,} images", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column(f"{100 * found.level:g} % interval", justify="right", no_wrap=True)
    for name in found.floors:
        table.add_column(name, justify="right", style="dim", no_wrap=True)
    table.add_column("key", style="dim", no_wrap=True)
    for key, estimate in found.figures.items():
        floors = [_value(key, floor.get(key)) for floor in found.floors.values()]
        row = [words_of(key).name, _value(key, estimate), format_interval(key, estimate)]
        table.add_row(*map(Text, [*row, *floors, key]))
    return table


def trust_table(trust: TrustFigures) -> Table:
    """What was promised of single answers, and how it was kept."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, side in (("trust", "left"), ("asked", "right"), ("found", "right")):
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("interval", justify="right", no_wrap=True)
    table.add_column("mean size", justify="right", no_wrap=True)
    for row in trust_rows(trust):
        table.add_row(*map(Text, row))
    return table


def trust_rows(trust: TrustFigures) -> Iterable[tuple[str, str, str, str, str]]:
    """Cells of `trust_table`: name, asked, found, interval, mean size."""
    for one in trust.guarantees:
        unit = _SIZES[one.name]
        size = f"{one.size:.2f} {unit}" if unit == "labels" else f"{percent(one.size)} % {unit}"
        found = f"{percent(one.kept.value)} %" if one.kept.images else MISSING
        yield (
            f"truth in the {one.name}" if one.name != "inner box" else "inner box in the truth",
            f"{100 * one.asked:g} %",
            found,
            format_interval("acc50", one.kept),
            size,
        )
    before, after = trust.ece
    yield (
        "calibration error of the class",
        "",
        f"{100 * after:.1f} %",
        "",
        f"was {100 * before:.1f} %",
    )
    for name, auroc in (
        ("AUROC of p_iou50 for bad boxes", trust.auroc_p_iou50),
        ("AUROC of the class probability", trust.auroc_confidence),
    ):
        yield name, "", _value("mean_iou", auroc), format_interval("mean_iou", auroc), ""


def _errors(found: Evaluation) -> str:
    return ", ".join(
        f"{_ERRORS.get(key, key)} {_value('acc50', estimate)}"
        for key, estimate in found.errors.items()
    )


def _value(key: str, estimate: Estimate | None) -> str:
    return MISSING if estimate is None else format_value(key, estimate.value)
