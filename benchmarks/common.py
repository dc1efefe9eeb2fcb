"""What benchmarks share: tables of figures, ratios, and the memory of a process."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.table import Table

STATUS = Path("/proc/self/status")


def median_ratio(measured: Sequence[float], base: Sequence[float]) -> float:
    """Median of the ratios within the rounds, each of which had one state of the machine."""
    return round(float(np.median(np.divide(measured, base))), 3)


def table_of(rows: list[dict[str, Any]], title: str | None = None) -> Table:
    """A row for each dictionary, a column for each key of the first."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


def markdown_of(rows: Sequence[dict[str, Any]]) -> str:
    """The same as a table of Markdown, whose first column is text and all others are figures."""
    names = list(rows[0])
    lines = [names, ["---", *("---:" for _ in names[1:])]]
    lines += [[str(value) for value in row.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def fit_on_devices(localizer: Any, data: Any, train: Any, devices: Any) -> list[dict[str, float]]:
    """History of a training on the workers or devices of a `Distribution`, whose files are gone."""
    from loc_keras.config.train import LossConfig
    from loc_keras.training.fit import fit_localizer
    from loc_keras.training.model import FitPlan

    with TemporaryDirectory() as folder:
        result = fit_localizer(
            localizer,
            train=data.train,
            val=data.val,
            val_share=data.val_share,
            plan=FitPlan.for_data(train, LossConfig(), data),
            folder=Path(folder),
            devices=devices,
        )
    return result.history


def resident_mib() -> float:
    """MiB of this process in memory now."""
    return _status_mib("VmRSS")


def peak_mib() -> float:
    """Most MiB of this process that were in memory at once.

    `resource.getrusage` would not do: its peak holds that of the process which started this one.
    """
    return _status_mib("VmHWM")


def _status_mib(name: str) -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"the memory of a process is not given in {STATUS}")
