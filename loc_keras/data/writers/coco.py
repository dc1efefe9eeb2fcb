"""COCO: `annotations/instances_<split>.json` and `images/<split>/`."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from loc_keras.atomic_file import write_text
from loc_keras.data.annotations import Split
from loc_keras.data.records import Records
from loc_keras.data.writers.job import Job, box_px, write_images
from loc_keras.data.writers.names import record_stems

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


def write_coco(job: Job) -> dict[Split, int]:
    """Writes images and one JSON file for each split; returns the images of each.

    Boxes are `[x, y, width, height]` in px with decimals; ids count from 1.
    """
    counts: dict[Split, int] = {}
    stems = record_stems(job.splits)
    (job.folder / "annotations").mkdir(exist_ok=True)
    for split, records in job.splits.items():
        names = write_images(job, split, job.folder / "images" / split, stems[split], FORMATS)
        content = _instances(records, names, job.object_classes)
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        write_text(job.folder / "annotations" / f"instances_{split}.json", text + "\n")
        counts[split] = sum(map(bool, names))
    return counts


def coco_source(class_names: Sequence[str], splits: Collection[Split]) -> dict[str, Any]:
    """Settings that read the folder again, as keys of the config's `data.source`."""
    files = {
        split: {"annotations": f"annotations/instances_{split}.json", "images": f"images/{split}"}
        for split in splits
    }
    return {"format": "coco", "inclusive_pixels": False, "coco": {"splits": files}}


def _instances(
    records: Records, names: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    images, annotations = [], []
    for index, name in enumerate(names):
        if not name:
            continue
        number = index + 1
        height, width = (int(side) for side in records.sizes[index])
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        if records.is_empty(index):
            continue
        annotations.append(
            coco_annotation(number, number, int(records.labels[index]), box_px(records, index))
        )
    return {
        "info": {"description": "converted by loc_keras", "version": "1"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": coco_categories(class_names),
    }


def coco_annotation(number: int, image: int, label: int, box_px: Sequence[float]) -> dict[str, Any]:
    """One object: ids of itself and its image, index of its class, (x1, y1, x2, y2) in px."""
    x1, y1, x2, y2 = (round(side, 6) for side in box_px)
    return {
        "id": number,
        "image_id": image,
        "category_id": label + 1,
        "bbox": [x1, y1, round(x2 - x1, 6), round(y2 - y1, 6)],
        "area": round((x2 - x1) * (y2 - y1), 6),
        "iscrowd": 0,
        "segmentation": [],
    }


def coco_categories(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The categories of classes by index."""
    return [
        {"id": index + 1, "name": name, "supercategory": ""}
        for index, name in enumerate(class_names)
    ]
