"""Files about all answers, made at the end from the journal, a line at a time."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from loc_keras.atomic_file import written_aside
from loc_keras.data.writers.coco import coco_annotation, coco_categories
from loc_keras.evaluation.predictions_file import label_set, safe_cell

Record = Mapping[str, Any]

CSV_FILE, COCO_FILE = "predictions.csv", "predictions_coco.json"

_SIDES = ("x1", "y1", "x2", "y2")
_TRUST_BOXES = {"outer": "box_outer", "inner": "box_inner"}


def csv_columns(*, trust: bool) -> list[str]:
    """Names of the columns, with those of trust or without."""
    columns = ["image", "path", "label", "score", "found", *(f"{side}_px" for side in _SIDES)]
    columns += ["width", "height"]
    if trust:
        sides = [f"{box}_{side}_px" for box in _TRUST_BOXES for side in _SIDES]
        columns += ["p_iou50", *sides, "label_set"]
    return columns


def csv_row(record: Record, *, trust: bool) -> dict[str, Any]:
    """The cells of an answer; empty where there is nothing to tell.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    row: dict[str, Any] = {name: safe_cell(record[name]) for name in ("image", "path", "label")}
    row |= {name: record[name] for name in ("score", "width", "height")}
    row["found"] = str(record["found"]).lower()
    row |= _cells("", record["box"])
    if trust:
        row["p_iou50"] = record["p_iou50"]
        row["label_set"] = safe_cell(label_set(record["label_set"]))
        for name, key in _TRUST_BOXES.items():
            row |= _cells(f"{name}_", record[key])
    return row


def write_csv(path: Path, records: Iterable[Record], *, trust: bool) -> None:
    """Writes a row for each answer; UTF-8, with a header, whole or absent."""
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, csv_columns(trust=trust), lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_row(record, trust=trust) for record in records)


def write_coco(path: Path, records: Iterable[Record], class_names: Sequence[str]) -> None:
    """Writes answers as annotations of an `instances` file, with their scores; whole or absent.

    Args:
        path: The file.
        records: Can be gone through twice.
        class_names: Of the model, by index; those of the answers' categories are one higher.
    """
    ends = {"annotations": _annotations(records), "images": _images(records)}
    head = {
        "info": {"description": "answered by loc_keras", "version": "1"},
        "licenses": [],
        "categories": coco_categories(class_names),
    }
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1])
        for name, items in ends.items():
            file.write(f', "{name}": [')
            _write_items(file, items)
            file.write("]")
        file.write("}\n")


def _images(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(records, start=1):
        sides = {name: record[name] for name in ("width", "height")}
        yield {"id": number, "file_name": record["image"], **sides}


def _annotations(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    objects = 0
    for number, record in enumerate(records, start=1):
        if record["found"]:
            objects += 1
            one = coco_annotation(objects, number, record["index"], record["box"])
            yield {**one, "score": record["score"]}


def _write_items(file: TextIO, items: Iterable[Record]) -> None:
    for place, item in enumerate(items):
        file.write(f"{',' if place else ''}\n{json.dumps(item)}")


def _cells(prefix: str, box: Sequence[float] | None) -> dict[str, Any]:
    values = [""] * len(_SIDES) if box is None else box
    return {f"{prefix}{side}_px": value for side, value in zip(_SIDES, values, strict=True)}
