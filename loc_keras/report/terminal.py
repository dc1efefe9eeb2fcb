"""Tables on the terminal: findings of a check, figures of a run and of an evaluation."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.data.annotations import Fault, count_by_kind, count_by_severity
from loc_keras.data.fault_kinds import Severity, kind_of
from loc_keras.errors import clean
from loc_keras.evaluation.figures import (
    APART_KEY,
    BY_RUN_KEY,
    MISSING,
    confusion,
    estimates_of,
    figure_of,
    format_interval,
    format_value,
    percent,
)
from loc_keras.evaluation.outcomes import Estimate, Evaluation, Outcomes
from loc_keras.evaluation.reliability import Guarantee, TrustFigures
from loc_keras.report.evaluation_content import (
    OBJECTS_ONLY,
    ONE_CLASS,
    apart_sentence,
    easy_sentence,
    gain_sentence,
    limits_of_figures,
    shift_sentence,
    verdict,
)

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "dim"}
EXAMPLES = 3

Metrics = Mapping[str, Mapping[str, float]]

APART_SHORT = "near duplicates"
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test", "folds": "out-of-fold"}
SPLIT_NAMES |= {
    f"{split}{APART_KEY}": f"{SPLIT_NAMES[split]}, without\n{APART_SHORT}"
    for split in ("val", "test")
}
COUNT_NAMES = {"images": "images", "object_images": "images with an object"}

_COUNTED = frozenset({"classes"})  # Told in words.


def print_findings(console: Console, findings: Sequence[Fault]) -> None:
    """Prints a table of kinds, then the first examples of each, then the totals."""
    if findings:
        console.print(findings_table(findings))
        for kind in count_by_kind(findings):
            _print_examples(console, kind, [one for one in findings if one.kind == kind])
    console.print(totals(findings))


def _table(first: str, *numbers: str) -> Table:
    """A table of a column of text and columns of numbers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def findings_table(findings: Sequence[Fault]) -> Table:
    """One row a kind, errors first."""
    table = _table("", "number")
    table.add_column("found", ratio=3)
    table.add_column("what to do", ratio=4)
    for kind, count in count_by_kind(findings).items():
        about = kind_of(kind)
        severity = Text(about.severity, style=STYLES[about.severity])
        table.add_row(severity, f"{count:,}", Text(about.title), Text(about.mend))
    return table


def totals(findings: Sequence[Fault]) -> str:
    """How many errors, warnings and notes, in words."""
    if not findings:
        return "Nothing was found: the data set is clean."
    counts = count_by_severity(findings)
    parts = [
        f"{count:,} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items()
    ]
    return f"{parts[0]}, {parts[1]}, {parts[2]}."


def place(finding: Fault) -> str:
    """File and row of a finding; `"the data set"` where it has none."""
    if not finding.file:
        return "the data set"
    return f"{finding.file}, row {finding.row}" if finding.row else finding.file


def classes_words(class_names: Sequence[str]) -> str:
    """The number of classes with its noun."""
    return "1 class" if len(class_names) == 1 else f"{len(class_names):,} classes"


def format_metric(key: str, value: float | None) -> str:
    """A figure so that a column of them lines up; a dash for None, which a split lacks, and NaN.

    Accuracies are in percent with two decimals, whole numbers with thousands separators, all else
    with four decimals.
    """
    if value is None or math.isnan(value):
        return MISSING
    if figure_of(key).unit == "%":
        return f"{100 * value:.2f} %"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}"


def metrics_table(metrics: Metrics) -> Table:
    """Metrics of splits (`val`, `test`) side by side, one in a row.

    `images` is the number of images measured. Metrics that are not known here come last, under
    their own name.
    """
    table = _table("measured on", *(SPLIT_NAMES.get(split, split) for split in metrics))
    table.add_column("key", style="dim", no_wrap=True)
    present = dict.fromkeys(key for values in metrics.values() for key in values)
    names = COUNT_NAMES | {key: figure.name for key, figure in BY_RUN_KEY.items()}
    known = [key for key in names if key in present]
    others = [key for key in present if key not in names and key not in _COUNTED]
    for key in (*known, *others):
        figures = [Text(format_metric(key, values.get(key))) for values in metrics.values()]
        table.add_row(Text(names.get(key, key)), *figures, Text(key))
    return table


def print_metrics(console: Console, metrics: Metrics) -> None:
    """Prints `metrics_table`, and below it what the metrics do not say."""
    console.print(metrics_table(metrics))
    present = {key for values in metrics.values() for key in values}
    for key, sentence in (("classes", ONE_CLASS), ("object_images", OBJECTS_ONLY)):
        if key in present:
            _print_line(console, sentence)


RESULT = ("class_accuracy", "mean_iou", "top1_loc")
RESULT_ONE_CLASS = ("mean_iou", "acc50")
RESULT_BACKGROUND = ("rejection", "false_rejection")
"""Figures at the end of a run, by what its classes are."""

FEW = 5
"""Images of a class below which it is not called weak, being luck."""


def result_lines(
    split: str,
    outcomes: Outcomes,
    leaked: npt.NDArray[np.bool_] | None = None,
    trust: TrustFigures | None = None,
    promised: float = 0.0,
) -> list[str]:
    """The figures at the end of a run with their intervals, a line each below a header.

    Args:
        split: What the images are of.
        outcomes: The answers.
        leaked: Which images are near duplicates of training images, (N,); figures without them
            stand beside the others.
        trust: How the promises of single answers were kept.
        promised: The share of images for which the outer box is promised.
    """
    keys = [*(RESULT if outcomes.probabilities.shape[1] > 1 else RESULT_ONE_CLASS)]
    keys += RESULT_BACKGROUND if outcomes.background is not None else ()
    apart = {} if leaked is None else estimates_of(keys, outcomes.take(~leaked))
    on = f"{len(outcomes):,} {SPLIT_NAMES[split]} images"
    lines = [_result_line(on, "value", "95 % interval", f"without {APART_SHORT}" if apart else "")]
    for key, one in estimates_of(keys, outcomes).items():
        cells = figure_of(key).name, format_value(key, one.value), format_interval(key, one)
        beside = format_value(key, apart[key].value) if key in apart else ""
        lines.append(_result_line(*cells, beside))
    for kept in trust.guarantees if trust is not None else ():
        if kept.name == "outer box":
            name, interval = figure_of(kept.name).name, format_interval(kept.name, kept.kept)
            value = format_value(kept.name, kept.kept.value)
            lines.append(_result_line(name, value, interval, f"promised: {100 * promised:g} %"))
    return lines


def weak_points(outcomes: Outcomes, class_names: Sequence[str]) -> list[str]:
    """What is worth looking at in some answers: the weakest class, the commonest confusion."""
    right = outcomes.class_hits & outcomes.box_hits
    background = outcomes.background
    objects = [at for at in range(len(class_names)) if at != background]
    shares = {}
    for at in objects:
        own = outcomes.labels == at
        if own.sum() >= FEW and not right[own].all():
            shares[at] = right[own].mean(), int(right[own].sum()), int(own.sum())
    found = []
    if shares and len(objects) > 1:
        at = min(shares, key=lambda one: shares[one])
        _, hits, images = shares[at]
        name = clean(class_names[at], 30)
        found.append(f"weakest class: {name}, class and box right in {hits} of {images} images")
    wrong = confusion(outcomes)
    np.fill_diagonal(wrong, 0)
    true, answered = divmod(int(wrong.argmax()), len(wrong))
    if wrong[true, answered] > 1:
        names = (clean(class_names[at], 30) for at in (true, answered))
        of = int((outcomes.labels == true).sum())
        found.append("{} taken for {}: {} of {} images".format(*names, wrong[true, answered], of))
    return found


def _result_line(name: str, value: str, interval: str, beside: str) -> str:
    return f"{name:26}{value:>9}{interval:>17}{beside:>28}".rstrip()


def print_evaluation(console: Console, evaluation: Evaluation, trust: TrustFigures | None) -> None:
    """Prints the figures with their intervals and baselines, the errors, and the trust figures."""
    console.print(figures_table(evaluation))
    errors = (f"{figure_of(k).name} {_value(k, one)}" for k, one in evaluation.errors.items())
    _print_line(console, f"errors: {', '.join(errors)}")
    gain, easy = gain_sentence(evaluation), easy_sentence(evaluation)
    for sentence in (gain, easy, *limits_of_figures(evaluation)):
        if sentence:
            _print_line(console, sentence)
    apart = evaluation.apart
    if apart is not None:
        _print_line(console, apart_sentence(evaluation))
        others = replace(evaluation, images=apart.images, figures=apart.figures, baselines={})
        console.print(figures_table(others))
    if trust is not None:
        console.print()
        print_trust_table(console, trust)
        _print_line(console, shift_sentence(trust.shift))


def print_trust_table(console: Console, trust: TrustFigures) -> None:
    """Prints `trust_table`, and below it which guarantees were broken."""
    console.print(trust_table(trust))
    for one in trust.guarantees:
        if verdict(one) == "broken":
            _print_line(
                console,
                f"warning: the {one.name} was right for {percent(one.kept.value)} % of the images, "
                f"not {100 * one.asked:g} %, which chance does not explain "
                f"(p = {one.p_value:.2g}): these images are not like those of the fit.",
            )


def figures_table(evaluation: Evaluation) -> Table:
    """One row a figure: value, interval, and what each baseline scores."""
    level = f"{100 * evaluation.level:g} % interval"
    table = _table(f"{evaluation.images:,} images", "value", level)
    for name in evaluation.baselines:
        table.add_column(name, justify="right", style="dim", no_wrap=True)
    for key, estimate in evaluation.figures.items():
        baselines = [_value(key, figures.get(key)) for figures in evaluation.baselines.values()]
        row = [figure_of(key).name, _value(key, estimate), format_interval(key, estimate)]
        table.add_row(*map(Text, [*row, *baselines]))
    return table


def trust_table(trust: TrustFigures) -> Table:
    """What was promised of single answers and how it was kept, for a terminal of 80 columns."""
    table = _table("trust", "asked", "found", "95 % interval")
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
        name, asked = figure_of(one.name).name, f"{100 * one.asked:g} %"
        yield name, asked, found, format_interval(one.name, one.kept), _size(one)
    if not one_class:
        before, after = trust.ece
        error = f"{percent(after)} %"
        yield figure_of("ece").name, "", error, "", f"before: {percent(before)} %"
    areas = {"auroc_p_iou50": trust.auroc_p_iou50}
    if not one_class:
        areas["auroc_confidence"] = trust.auroc_confidence
        if trust.auroc_gain is not None:
            areas["auroc_gain"] = trust.auroc_gain
    for key, area in areas.items():
        figure = figure_of(key)
        name = figure.name if key == "auroc_p_iou50" else f"  {figure.name}"
        yield name, "", _value(key, area), format_interval(key, area), figure.meaning


def _print_examples(console: Console, kind: str, findings: Sequence[Fault]) -> None:
    about = kind_of(kind)
    console.print(Text(f"{about.severity}: {about.title}", style=STYLES[about.severity]))
    for finding in findings[:EXAMPLES]:
        words = f"  {clean(place(finding), 300)}: {clean(finding.reason, 300)}"
        console.print(Text(words), soft_wrap=True)
    if len(findings) > EXAMPLES:
        console.print(Text(f"  and {len(findings) - EXAMPLES:,} more", style="dim"))


def _size(one: Guarantee) -> str:
    if one.name == "label set":
        return f"{one.size:.2f} labels"
    empty = f", {percent(one.empty)} % empty" if one.empty else ""
    return f"{percent(one.size)} % of area{empty}"


def _print_line(console: Console, text: str) -> None:
    """Prints a sentence as it is; the terminal breaks its lines."""
    console.print(text, highlight=False, soft_wrap=True)


def _value(key: str, estimate: Estimate | None) -> str:
    return MISSING if estimate is None else format_value(key, estimate.value)
