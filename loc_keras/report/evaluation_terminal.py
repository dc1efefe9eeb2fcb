"""The figures of an evaluation as tables on the terminal."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.evaluation.results import Estimate, Evaluation
from loc_keras.evaluation.trust_figures import Guarantee, TrustFigures
from loc_keras.report.evaluation_trust import shift_sentence, verdict
from loc_keras.report.evaluation_words import (
    MISSING,
    easy_sentence,
    format_interval,
    format_value,
    gain_sentence,
    percent,
    words_of,
)
from loc_keras.report.table import OBJECTS_ONLY, ONE_CLASS

_ERRORS = {
    "right": "class and box right",
    "class_wrong": "class wrong",
    "box_wrong": "box wrong",
    "both_wrong": "both wrong",
}
_KEPT = {
    "label set": "class in the label set",
    "outer box": "object in the outer box",
    "inner box": "inner box in the object",
}


def print_evaluation(console: Console, found: Evaluation, trust: TrustFigures | None) -> None:
    """Prints the figures with their intervals and floors, the errors, and the trust figures."""
    console.print(figures_table(found))
    console.print(f"errors: {_errors(found)}", highlight=False, soft_wrap=True)
    for sentence in (gain_sentence(found), easy_sentence(found), *_notes(found)):
        if sentence:
            console.print(sentence, highlight=False, soft_wrap=True)
    if trust is not None:
        console.print()
        print_trust_table(console, trust)
        console.print(shift_sentence(trust.shift), highlight=False, soft_wrap=True)


def print_trust_table(console: Console, trust: TrustFigures) -> None:
    """Prints `trust_table`, and below it which guarantees were broken."""
    console.print(trust_table(trust))
    for one in trust.guarantees:
        if verdict(one) == "broken":
            console.print(
                f"warning: the {one.name} was right for {percent(one.kept.value)} % of the images, "
                f"not {100 * one.asked:g} %, which luck does not explain (p = {one.p_value:.2g}): "
                "these images are not like those of calibration.",
                highlight=False,
                soft_wrap=True,
            )


def figures_table(found: Evaluation) -> Table:
    """One row a figure: value, interval, and what each floor scores."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{found.images:,} images", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column(f"{100 * found.level:g} % interval", justify="right", no_wrap=True)
    for name in found.floors:
        table.add_column(name, justify="right", style="dim", no_wrap=True)
    for key, estimate in found.figures.items():
        floors = [_value(key, floor.get(key)) for floor in found.floors.values()]
        row = [words_of(key).name, _value(key, estimate), format_interval(key, estimate)]
        table.add_row(*map(Text, [*row, *floors]))
    return table


def trust_table(trust: TrustFigures) -> Table:
    """What was promised of single answers and how it was kept, for a terminal of 80 columns."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("trust", no_wrap=True)
    for name in ("asked", "found", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("mean size")
    for row in trust_rows(trust):
        table.add_row(*map(Text, row))
    return table


def trust_rows(trust: TrustFigures) -> Iterable[tuple[str, str, str, str, str]]:
    """Cells of `trust_table`: name, asked, found, interval, mean size or what it was before."""
    one_class = trust.probabilities.shape[1] == 1  # Of which nothing is to be told.
    for one in trust.guarantees:
        if one_class and one.name == "label set":
            continue
        found = f"{percent(one.kept.value)} %" if one.kept.images else MISSING
        asked = f"{100 * one.asked:g} %"
        yield _KEPT[one.name], asked, found, format_interval("acc50", one.kept), _size(one)
    if not one_class:
        before, after = trust.ece
        error = f"{percent(after)} %"
        yield "calibration error, classes", "", error, "", f"before: {percent(before)} %"
    ranks = {"bad boxes told by p_iou50": trust.auroc_p_iou50}
    if not one_class:
        ranks["  by the class probability"] = trust.auroc_confidence
        if trust.auroc_gain is not None:
            ranks["  gain of p_iou50 over it"] = trust.auroc_gain
    for name, auroc in ranks.items():
        value, interval = _value("mean_iou", auroc), format_interval("mean_iou", auroc)
        yield name, "", value, interval, "area under ROC"


def _size(one: Guarantee) -> str:
    if one.name == "label set":
        return f"{one.size:.2f} labels"
    empty = f", {percent(one.empty)} % empty" if one.empty else ""
    return f"{percent(one.size)} % of area{empty}"


def _notes(found: Evaluation) -> list[str]:
    """What the figures do not say of themselves."""
    one_class = [ONE_CLASS] if len(found.class_names) == 1 else []
    return one_class + ([OBJECTS_ONLY] if found.object_images < found.images else [])


def _errors(found: Evaluation) -> str:
    return ", ".join(
        f"{_ERRORS.get(key, key)} {_value('acc50', estimate)}"
        for key, estimate in found.errors.items()
    )


def _value(key: str, estimate: Estimate | None) -> str:
    return MISSING if estimate is None else format_value(key, estimate.value)
