"""A comparison of runs on the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.evaluation.paired import COMPARED, Comparison
from loc_keras.report.compare_words import (
    SHORT_NAMES,
    difference_words,
    images_words,
    interval_words,
    is_clear,
    p_words,
    value_words,
)


def comparison_table(comparison: Comparison) -> Table:
    """A row for each figure of each run, by its number; clear differences are bold."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)  # For a terminal of 80 columns.
    table.add_column("figure", no_wrap=True)
    for heading in ("run", "value", "interval", "minus run 1", "interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in COMPARED:
        for number, (run, figures) in enumerate(comparison.figures.items(), start=1):
            cells = [str(number), value_words(name, figures[name])]
            cells.append(interval_words(name, figures[name]))
            style = ""
            if run in comparison.differences:
                difference = comparison.differences[run][name]
                style = "bold" if is_clear(difference) else ""
                cells.append(difference_words(name, difference))
                cells += [interval_words(name, difference), p_words(difference.p_value)]
            table.add_row(
                Text(SHORT_NAMES[name] if number == 1 else ""),
                *(Text(cell, style=style) for cell in cells),
            )
        table.add_section()
    return table


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints which runs are compared, the comparison as a table, and what its numbers are.

    Args:
        console: Where to print.
        comparison: Of two runs or more.
    """
    for number, run in enumerate(comparison.figures, start=1):
        role = " (the one that others are compared with)" if number == 1 else ""
        console.print(Text(f"run {number}: {run}{role}"), soft_wrap=True)
    console.print(comparison_table(comparison))
    sentences = (
        f"{images_words(comparison)}, the same for every run; {100 * comparison.level:g} % "
        f"intervals of the paired bootstrap, {comparison.resamples:,} resamples; figures in "
        "percent, the corner error in px of the original pictures; bold: the interval of the "
        "difference excludes 0.",
        "note: p is not corrected for the number of comparisons, and what another seed of "
        "training would change is not in it.",
    )
    for sentence in sentences:
        console.print(sentence, highlight=False, soft_wrap=True, markup=False)
