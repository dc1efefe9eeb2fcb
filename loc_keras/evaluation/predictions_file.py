"""`predictions.csv`: truth and answer of every image, one row each, for tables and programs."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import write_text
from loc_keras.evaluation.outcomes import Outcomes
from loc_keras.evaluation.scores import detection_scores
from loc_keras.evaluation.trust_figures import TrustFigures

PREDICTIONS_FILE = "predictions.csv"
LABEL_JOINT = "|"

_SIDES = ("x1", "y1", "x2", "y2")
# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection"): the four signs, a
# tab or a line end before them, and their full-width forms.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001


def write_predictions(
    path: Path,
    outcomes: Outcomes,
    class_names: Sequence[str],
    images: Sequence[str],
    paths: Sequence[str],
    trust: TrustFigures | None = None,
) -> None:
    """Writes a row for each image, in their order; UTF-8, with a header, whole or absent.

    Columns: `image, path, true_label, pred_label, probability, p_iou50`, then `true_x1_px` to
    `true_y2_px`, `pred_x1_px` to `pred_y2_px`, `iou, corner_error_px`, `outer_x1_px` to
    `outer_y2_px`, `inner_x1_px` to `inner_y2_px`, `label_set`. Those that need `trust` (`p_iou50`,
    outer, inner, `label_set`) are absent without it. A cell is empty where there is nothing to
    tell: the true box of an image without an object and what is compared with it, an empty inner
    box, an empty label set.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, so a name that
    begins with `=`, `+`, `-` or `@` is to be read without its first character.

    Args:
        path: The file.
        outcomes: Of N images.
        class_names: Name of each class, by index.
        images: Names of the N images, as the annotations have them.
        paths: N files that hold them.
        trust: Of the same images; `probability` is then the calibrated one.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    columns = _columns(outcomes, class_names, images, paths, trust)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_text(path, text.getvalue())


def safe_cell(text: str) -> str:
    r"""A text that no spreadsheet takes for a formula and every file can hold.

    Bytes of a file name that are no UTF-8 become `\udc..`, as Python shows them.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def label_set(names: Iterable[str]) -> str:
    r"""Names joined by `|`; a `|` inside a name is written as `\|`, and a backslash doubled."""
    escaped = (name.replace("\\", "\\\\").replace(LABEL_JOINT, "\\|") for name in names)
    return LABEL_JOINT.join(escaped)


def _columns(
    outcomes: Outcomes,
    class_names: Sequence[str],
    images: Sequence[str],
    paths: Sequence[str],
    trust: TrustFigures | None,
) -> dict[str, Sequence[str]]:
    """Cells by the name of their column."""
    shown = outcomes.shown
    columns: dict[str, Sequence[str]] = {
        "image": [safe_cell(name) for name in images],
        "path": [safe_cell(name) for name in paths],
        "true_label": [safe_cell(class_names[label]) for label in outcomes.labels],
        "pred_label": [safe_cell(class_names[label]) for label in outcomes.predicted],
        "probability": _numbers(detection_scores(outcomes, trust), 6),
    }
    if trust is not None:
        columns["p_iou50"] = _numbers(trust.p_iou50, 6)
    columns |= _sides("true", outcomes.boxes_px, shown)
    columns |= _sides("pred", outcomes.boxes_pred_px)
    columns["iou"] = _numbers(outcomes.ious, 6)
    columns["corner_error_px"] = _numbers(outcomes.corner_errors_px, 3)
    if trust is not None:
        columns |= _sides("outer", trust.outer_px)
        columns |= _sides("inner", trust.inner_px, _not_empty(trust.inner_px))
        columns["label_set"] = [
            safe_cell(label_set(class_names[label] for label in np.flatnonzero(row).tolist()))
            for row in trust.label_sets
        ]
    return columns


def _sides(
    name: str, boxes_px: npt.NDArray[np.float64], there: npt.NDArray[np.bool_] | None = None
) -> dict[str, list[str]]:
    """Four columns of a box, empty where it is not there."""
    if there is not None:
        boxes_px = np.where(there[:, None], boxes_px, np.nan)
    return {
        f"{name}_{side}_px": _numbers(boxes_px[:, place], 3) for place, side in enumerate(_SIDES)
    }


def _not_empty(boxes_px: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray(boxes_px.any(axis=1), bool)


def _numbers(values: npt.ArrayLike, decimals: int) -> list[str]:
    """Each number with as many decimals; nothing for NaN."""
    numbers = np.asarray(values, np.float64) + 0.0  # Makes -0 a 0.
    return ["" if np.isnan(value) else f"{value:.{decimals}f}" for value in numbers]
