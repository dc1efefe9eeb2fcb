"""CSV files in the published layout: `file,label,x1,y1,x2,y2` without header, and image folders.

Where any record has a group, rows have it for a seventh column.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import Split
from loc_keras.data.readers.csv_columns import NEEDED_COLUMNS
from loc_keras.data.readers.csv_file import PUBLISHED_FILES
from loc_keras.data.records import Records
from loc_keras.data.writers.job import Job, write_images
from loc_keras.data.writers.names import record_stems

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")

GROUPED_COLUMNS = (*NEEDED_COLUMNS, "group")
"""Columns where there are groups, as `data.source.csv.columns` names them."""


def write_csv(job: Job) -> dict[Split, int]:
    """Writes one CSV file and one image folder for each split; returns the images of each.

    Labels are class names; boxes are fractions of the image side with as many digits as give
    the same float32 back, and nothing where there is no object.
    """
    counts: dict[Split, int] = {}
    stems = record_stems(job.splits)
    grouped = any_group(job.splits)
    for split, records in job.splits.items():
        files = PUBLISHED_FILES[split]
        names = write_images(job, split, job.folder / files["images"], stems[split], FORMATS)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        columns = (names, records.labels, records.boxes, records.empty, records.groups)
        for name, label, box, empty, group in zip(*columns, strict=True):
            if name:
                sides = [""] * len(box) if empty else map(_shortest, box)
                more = [group] if grouped else []
                writer.writerow([name, job.class_names[label], *sides, *more])
        write_text(job.folder / files["csv"], text.getvalue())
        counts[split] = sum(map(bool, names))
    return counts


def csv_source(class_names: Sequence[str], splits: Mapping[Split, Records]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    columns = {"csv": {"columns": list(GROUPED_COLUMNS)}} if any_group(splits) else {}
    return {"format": "csv", "class_names": list(class_names), **columns}


def any_group(splits: Mapping[Split, Records]) -> bool:
    """Whether any record is in a group that a split must not part."""
    return any(records.groups.astype(bool).any() for records in splits.values())


def _shortest(value: np.float32) -> str:
    """The shortest decimal that reads back as the same float32."""
    return np.format_float_positional(np.float32(value), unique=True, trim="0")
