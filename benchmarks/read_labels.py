"""Reading labels, and judging every box, against the plainest reader of the same files.

    python -m benchmarks.read_labels                      # 1,000,000 objects in 100,000 images
    python -m benchmarks.read_labels --objects 100000

Writes COCO, CSV and YOLO files of the same boxes to a temporary folder. The plain readers are
`json.load`, `pandas.read_csv` and a loop over files, and end with arrays; they find no image and
judge nothing. Ours are `read` (images found, each object parsed) and `check` (read, and each box
judged on its picture; the pictures themselves are not opened). Each runs in a process of its own,
in turns; CPU seconds are the least of all rounds, memory is what the process grew by.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 640
CLASSES = 20
KINDS = ("coco", "csv", "yolo")
READERS = ("plain", "read", "check")
LIMITS = (1.2, 2.0)


def main() -> None:
    """Writes the files, runs all readers and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--folder", help="where the files are, or are written")
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reader:
        print(json.dumps(measured(args.only, args.reader, args.folder)))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(args.folder or made)
        if not (folder / "images").is_dir():
            write_files(folder, args.objects)
        print(f"{args.objects:,} objects: CPU seconds and MB, in parts of the plain reader's")
        for kind in (args.only,) if args.only else KINDS:
            best: dict[str, tuple[float, float]] = {}
            for _ in range(args.rounds):
                for reader in READERS:
                    found = answer(kind, reader, folder)
                    best[reader] = min(best.get(reader, found), found)
            seconds, size = best["plain"]
            for reader, (own, memory) in best.items():
                fits = own <= LIMITS[0] * seconds and memory <= LIMITS[1] * size
                verdict = "" if reader == "plain" else "met" if fits else "not met"
                print(
                    f"{kind:5} {reader:6} {own:7.2f} s {own / seconds:5.2f}  "
                    f"{memory:7.0f} MB {memory / size:5.2f}  {verdict}"
                )


def answer(kind: str, reader: str, folder: Path) -> tuple[float, float]:
    """CPU seconds and MB of one reader, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.read_labels", "--only", kind]
    command += ["--reader", reader, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


def measured(kind: str, reader: str, folder: str) -> tuple[float, float]:
    """CPU seconds and MB of one reader in this process."""
    import pandas  # noqa: F401, which both sides use and which takes longer than they do.

    work = PLAIN[kind] if reader == "plain" else ours(kind, judged=reader == "check")
    before = held("VmRSS")
    start = time.process_time()
    kept = work(folder)
    seconds = time.process_time() - start
    grown = held("VmHWM") - before
    assert kept
    return seconds, grown


def held(what: str) -> float:
    """MB of memory of this process: `VmRSS` now, `VmHWM` at most so far."""
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def write_files(folder: Path, count: int) -> None:
    """COCO, CSV and YOLO files of the same boxes, ten to an image; every image is one file."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, SIDE // 2, (count, 2, 2)), axis=1)
    low, high = corners[:, 0].tolist(), (corners[:, 1] + SIDE // 2).tolist()
    labels = rng.integers(0, CLASSES, count).tolist()
    names = [f"{k:06}.jpg" for k in range(max(1, count // 10))]
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for name in names:
        (folder / "images" / name).write_bytes(b"\xff\xd8\xff")
    things, rows, texts = [], ["file,label,x1,y1,x2,y2"], [""] * len(names)
    for k, ((x1, y1), (x2, y2), label) in enumerate(zip(low, high, labels, strict=True)):
        at = k % len(names)
        box = [x1, y1, x2 - x1, y2 - y1]
        things.append({"id": k, "image_id": at, "category_id": label, "bbox": box})
        rows.append(f"{names[at]},class {label},{x1},{y1},{x2},{y2}")
        centre = ((x1 + x2) / 2 / SIDE, (y1 + y2) / 2 / SIDE, box[2] / SIDE, box[3] / SIDE)
        texts[at] += f"{label} " + " ".join(f"{value:.6f}" for value in centre) + "\n"
    sides = {"width": SIDE, "height": SIDE}
    tree = {
        "images": [{"id": at, "file_name": name, **sides} for at, name in enumerate(names)],
        "annotations": things,
        "categories": [{"id": label, "name": f"class {label}"} for label in range(CLASSES)],
    }
    (folder / "coco.json").write_text(json.dumps(tree))
    (folder / "boxes.csv").write_text("\n".join(rows))
    (folder / "data.yaml").write_text(f"train: images\nnc: {CLASSES}\n")
    for name, text in zip(names, texts, strict=True):
        (folder / "labels" / name).with_suffix(".txt").write_text(text)


def plain_coco(folder: str) -> Any:
    """`json.load`, and columns of its lists."""
    with open(f"{folder}/coco.json", encoding="utf-8") as file:
        tree = json.load(file)
    found = tree["annotations"]
    images = {one["id"]: one["file_name"] for one in tree["images"]}
    return (
        images,
        np.array([one["image_id"] for one in found]),
        np.array([one["category_id"] for one in found]),
        np.array([one["bbox"] for one in found], float),
    )


def plain_csv(folder: str) -> Any:
    """`pandas.read_csv`, and its columns."""
    import pandas as pd

    table = pd.read_csv(f"{folder}/boxes.csv")
    sides = table[["x1", "y1", "x2", "y2"]].to_numpy(float)
    return table["file"].to_numpy(), table["label"].to_numpy(), sides


def plain_yolo(folder: str) -> Any:
    """A loop over files, and one column of all their numbers."""
    names, numbers = sorted(os.listdir(f"{folder}/labels")), []
    for name in names:
        with open(f"{folder}/labels/{name}", "rb", buffering=0) as file:
            numbers += map(float, file.read().split())
    return names, np.array(numbers).reshape(-1, 5)


PLAIN: dict[str, Callable[[str], Any]] = {
    "coco": plain_coco,
    "csv": plain_csv,
    "yolo": plain_yolo,
}


def ours(kind: str, *, judged: bool) -> Callable[[str], Any]:
    """The reader of a format of this package, which is imported before time is taken."""
    from loc_keras.config.data import SourceConfig
    from loc_keras.data.check.boxes import box_findings
    from loc_keras.data.formats.registry import read_annotations
    from loc_keras.data.image_header import Header
    from loc_keras.data.resolve import checked_objects

    names = {name: name for name in ("file", "label", "x1", "y1", "x2", "y2")}
    options: dict[str, dict[str, Any]] = {
        "coco": {"splits": {"train": {"annotations": "coco.json", "images": "images"}}},
        "csv": {
            "splits": {"train": {"csv": "boxes.csv", "images": "images"}},
            "header": True,
            "columns": names,
            "units": "pixel",
        },
        "yolo": {},
    }

    def work(folder: str) -> Any:
        found = read_annotations(kind, folder, **options[kind])
        assert not found.faults
        if not judged:
            return found
        headers = dict.fromkeys(found.joined.images, Header(SIDE, SIDE))
        objects = checked_objects(found, headers, SourceConfig(format=kind, path=folder))
        findings = box_findings(objects)
        assert all(one.severity != "error" for one in findings)
        return found, objects, findings

    return work


if __name__ == "__main__":
    main()
