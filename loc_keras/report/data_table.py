"""Findings on screen: each kind with its number, severity, first examples and what to do."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loc_keras.data.check.catalogue import (
    Finding,
    Severity,
    count_by_kind,
    count_by_severity,
    kind_of,
)
from loc_keras.report.text import clean

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "dim"}
EXAMPLES = 3


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Prints a table of kinds, then the first examples of each, then the totals.

    Args:
        console: Where to print.
        findings: All findings.
    """
    if findings:
        console.print(findings_table(findings))
        for kind in count_by_kind(findings):
            _print_examples(console, kind, [one for one in findings if one.kind == kind])
    console.print(totals(findings))


def findings_table(findings: Sequence[Finding]) -> Table:
    """One row a kind, errors first."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("number", justify="right", no_wrap=True)
    table.add_column("found", ratio=3)
    table.add_column("what to do", ratio=4)
    for kind, count in count_by_kind(findings).items():
        about = kind_of(kind)
        severity = Text(about.severity, style=STYLES[about.severity])
        table.add_row(severity, f"{count:,}", Text(about.title), Text(about.mend))
    return table


def totals(findings: Sequence[Finding]) -> str:
    """How many errors, warnings and notes, in words."""
    if not findings:
        return "Nothing was found: the data set is clean."
    counts = count_by_severity(findings)
    parts = [
        f"{count:,} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items()
    ]
    return f"{parts[0]}, {parts[1]}, {parts[2]}."


def place(finding: Finding) -> str:
    """File and row of a finding; `"the data set"` where it has none."""
    if not finding.file:
        return "the data set"
    return f"{finding.file}, row {finding.row}" if finding.row else finding.file


def _print_examples(console: Console, kind: str, findings: Sequence[Finding]) -> None:
    about = kind_of(kind)
    console.print(Text(f"{about.severity}: {about.title}", style=STYLES[about.severity]))
    for finding in findings[:EXAMPLES]:
        words = f"  {clean(place(finding), 300)}: {clean(finding.message, 300)}"
        console.print(Text(words), soft_wrap=True)
    if len(findings) > EXAMPLES:
        console.print(Text(f"  and {len(findings) - EXAMPLES:,} more", style="dim"))
