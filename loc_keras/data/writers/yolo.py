"""YOLO: `data.yaml`, `images/<split>/`, and a text file for each image in `labels/<split>/`."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import Split
from loc_keras.data.records import Records
from loc_keras.data.writers.job import Job, write_images
from loc_keras.data.writers.names import record_stems
from loc_keras.data.writers.pictures import Picture
from loc_keras.data.writers.yaml_text import to_yaml

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


def write_yolo(job: Job) -> dict[Split, int]:
    """Writes images, labels and `data.yaml`; returns the images of each split.

    A label is `class centre-x centre-y width height` in fractions of the image sides; the file of
    an image without an object is empty.
    """
    counts: dict[Split, int] = {}
    stems = record_stems(job.splits)
    for split, records in job.splits.items():
        labels = job.folder / "labels" / split
        labels.mkdir(parents=True, exist_ok=True)

        def describe(
            index: int,
            name: str,
            picture: Picture,
            records: Records = records,
            labels: Path = labels,
        ) -> None:
            write_text(labels / f"{Path(name).stem}.txt", _line(records, index))

        names = write_images(
            job, split, job.folder / "images" / split, stems[split], FORMATS, describe
        )
        counts[split] = sum(map(bool, names))
    write_text(
        job.folder / "data.yaml",
        yolo_yaml({split: f"images/{split}" for split in job.splits}, job.object_classes),
    )
    return counts


def yolo_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    return {"format": "yolo"}


def _line(records: Records, index: int) -> str:
    if records.is_empty(index):
        return ""
    return yolo_line(int(records.labels[index]), records.boxes[index].tolist())


def yolo_line(label: int, box: Sequence[float]) -> str:
    """The line of one object.

    Args:
        label: Index of its class.
        box: (x1, y1, x2, y2) in fractions of the image.
    """
    x1, y1, x2, y2 = box
    values = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return f"{label} " + " ".join(f"{value:.9f}" for value in values) + "\n"


def yolo_yaml(folders: Mapping[str, str], names: Sequence[str]) -> str:
    """The file `data.yaml`.

    Args:
        folders: Of the images of each split, relative to the file itself, which is where tools look
            without a `path`.
        names: Of the classes that objects have.
    """
    return to_yaml({**folders, "nc": len(names), "names": dict(enumerate(names))})
