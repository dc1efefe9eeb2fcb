"""Read the history of a run: one named column of numbers per logged quantity."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loc_keras.errors import DataError

Column = npt.NDArray[np.float64]
History = Mapping[str, Sequence[float] | Column]


def read_history(source: str | os.PathLike[str] | History) -> dict[str, Column]:
    """Read a history from a CSV file or from a mapping such as `History.history`.

    Args:
        source: A CSV file with a header row, one row per epoch (or per validation), or a
            mapping from column name to one value per row. Columns of a mapping may be
            shorter than the longest one; their rows are the last ones.

    Returns:
        float64 (rows,) per column; a cell that is empty or no number is NaN. The column
        `epoch` is always there and counts from 1: it is made where it is missing, and moved
        up where it starts at 0, as Keras counts.

    Raises:
        DataError: The file is missing, has no header, or no row.
    """
    columns = _from_mapping(source) if isinstance(source, Mapping) else _from_csv(Path(source))
    rows = max((len(values) for values in columns.values()), default=0)
    epoch = columns.get("epoch", np.arange(1.0, rows + 1.0))
    if len(epoch) and np.nanmin(epoch) == 0:
        epoch = epoch + 1.0
    return {**columns, "epoch": epoch}


def _from_mapping(source: History) -> dict[str, Column]:
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in source.items()}
    rows = max((len(values) for values in columns.values()), default=0)
    return {
        name: np.concatenate([np.full(rows - len(values), np.nan), values])
        for name, values in columns.items()
    }


def _from_csv(path: Path) -> dict[str, Column]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or [])
            rows = list(reader)
    except OSError as error:
        raise DataError(
            f"{path}: the training history cannot be read ({error.strerror}); "
            "give the history.csv of a run folder."
        ) from error
    if not names or not rows:
        raise DataError(
            f"{path}: the training history holds no epoch; it needs a header row and at least "
            "one row, which the first finished epoch writes."
        )
    return {name: np.array([_number(row[name]) for row in rows]) for name in names}


def _number(cell: str | None) -> float:
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return math.nan
