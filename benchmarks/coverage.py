"""Are the promises of outer boxes, inner boxes and label sets kept, and what do they cost?

    python -m benchmarks.coverage --answers FILE.npz ... [--splits 500] [--out FILE.json]

splits held-out answers at random, 500 times, into images to calibrate with and images to test on,
and prints mean coverage with its standard error, and sizes. An .npz file holds `labels` (N,),
`probabilities` (N, K), `boxes` and `boxes_pred` (N, 4) in fractions of the picture, and may hold
`spread` (N, 4) and a `name`. Images without an object, whose true box has no area, are left out.
"""

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.common import table_of
from benchmarks.coverage_study import (
    COVERAGES,
    CoverageRow,
    CoverageStudy,
    HeldOutAnswers,
    coverage_over_splits,
)
from loc_keras.atomic_file import write_text

NEEDED = ("boxes", "boxes_pred", "labels", "probabilities")


def main() -> None:
    args = _arguments()
    console = Console(width=120)
    found = []
    for file in args.answers:
        name, answers = read_answers(file)
        start = time.perf_counter()
        study = coverage_over_splits(
            answers, coverages=args.coverages, splits=args.splits, seed=args.seed
        )
        seconds = time.perf_counter() - start
        console.print(table_of([_shown(row) for row in study.rows], _title(name, study, seconds)))
        found.append({"name": name, "seconds": round(seconds, 2), **_plain(study)})
    if args.out:
        write_text(args.out, json.dumps(found, indent=1))


def read_answers(file: Path) -> tuple[str, HeldOutAnswers]:
    """Name and answers of the images with an object."""
    with np.load(file) as arrays:
        missing = [name for name in NEEDED if name not in arrays]
        if missing:
            raise SystemExit(f"{file} lacks {', '.join(missing)}.")
        boxes = arrays["boxes"]
        shown = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        answers = HeldOutAnswers(
            **{name: arrays[name][shown] for name in NEEDED},
            spread=arrays["spread"][shown] if "spread" in arrays else None,
        )
        return str(arrays["name"]) if "name" in arrays else file.stem, answers


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", nargs="+", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--coverages", nargs="+", type=float, default=COVERAGES)
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    return parser.parse_args()


def _title(name: str, study: CoverageStudy, seconds: float) -> str:
    return (
        f"{name}: {study.splits} splits into {study.calibration_images} calibration and "
        f"{study.test_images} test images, {seconds:.1f} s"
    )


def _shown(row: CoverageRow) -> dict[str, Any]:
    line: dict[str, Any] = {"promise": row.kind, "scaling": row.scaling or "", "asked": row.asked}
    if row.too_few:
        blank = dict.fromkeys(("theory", "size", "empty", "met"), "")
        return line | {"kept": f"needs {row.needed}"} | blank
    return line | {
        "kept": f"{row.kept:.4f} ± {row.standard_error:.4f}",
        "theory": f"{row.expected:.4f} ± {row.expected_error:.4f}",
        "size": f"{row.size:.4f}",
        "empty": f"{row.empty:.4f}",
        "met": "yes" if row.met else "no",
    }


def _plain(study: CoverageStudy) -> dict[str, Any]:
    """For JSON, which knows no NaN."""
    values = asdict(study)
    values["rows"] = [
        {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in row.items()
        }
        for row in values["rows"]
    ]
    return values


if __name__ == "__main__":
    main()
