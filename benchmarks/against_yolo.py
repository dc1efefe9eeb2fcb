"""Trains a YOLO of Ultralytics and ours on the same photographs for the same minutes.

    python -m venv YOLO && YOLO/bin/pip install ultralytics
    python -m benchmarks.against_yolo --data photos --minutes 6 --yolo YOLO/bin/python --out DIR

Each set is written once as YOLO files (`convert`), a quarter of it for test and a tenth for
validation unless it has splits of its own; both read these. Both begin from random weights and
train for the given minutes, by their own defaults otherwise: Ultralytics by its argument `time`,
whose end is not exact, so the minutes that each took are printed. Of YOLO's answers to a test
picture the most certain detection is kept, at whatever score. Top-1 counts right classes whose box
has an IoU of .5 or more, GT-known the box alone; both are counted here, for both, from boxes in px.
Meant for a machine that does nothing else.
"""

import argparse
import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.common import markdown_of

MODELS = ("yolo11n", "yolo26n")
GOOD_IOU = 0.5

_YOLO = """
import csv, sys
from pathlib import Path
from ultralytics import YOLO
data, model, minutes, out, seed = sys.argv[1:]
yolo = YOLO(model + ".yaml")
yolo.train(
    data=data, time=float(minutes) / 60, pretrained=False, device="cpu", workers=2, seed=int(seed),
    project=str(Path(out).parent), name=model, exist_ok=True, plots=False, verbose=False,
)
pictures = sorted(path for path in (Path(data).parent / "images" / "test").iterdir())
with open(out, "w", newline="") as file:
    rows = csv.writer(file)
    for picture in pictures:
        boxes = yolo.predict(picture, conf=1e-6, max_det=1, device="cpu", verbose=False)[0].boxes
        for box, label in zip(boxes.xyxy.tolist()[:1], boxes.cls.tolist()[:1]):
            rows.writerow([picture.name, int(label), *box])
"""
"""Run by the interpreter of `--yolo`: data.yaml, model, minutes, answers' file, seed."""

Answers = dict[str, tuple[int, np.ndarray]]
"""Class number and box in px (x1, y1, x2, y2) by the name of the picture."""


def truth_of(folder: Path) -> Answers:
    """The test labels of a YOLO folder, whose rows are fractions (centre, width, height)."""
    truth = {}
    for picture in (folder / "images" / "test").iterdir():
        (row,) = (folder / "labels" / "test" / f"{picture.stem}.txt").read_text().splitlines()
        label, x, y, width, height = map(float, row.split())
        with Image.open(picture) as opened:
            size = np.array([*opened.size, *opened.size])
        box = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) * size
        truth[picture.name] = int(label), box
    return truth


def scores(truth: Answers, answers: Answers) -> dict[str, str]:
    """Top-1, GT-known and class accuracy in per cent; no answer counts as a wrong one."""
    rows = []
    for name, (label, box) in truth.items():
        own, answer = answers.get(name, (-1, np.zeros(4)))
        sides = np.minimum(box[2:], answer[2:]) - np.maximum(box[:2], answer[:2])
        common = np.prod(np.maximum(sides, 0))
        union = np.prod(box[2:] - box[:2]) + np.prod(answer[2:] - answer[:2]) - common
        rows.append((own == label, common >= GOOD_IOU * union))
    right, found = np.array(rows).T
    figures = {"Top-1, %": right & found, "GT-known, %": found, "class, %": right}
    return {name: f"{100 * values.mean():.1f}" for name, values in figures.items()}


def read_answers(path: Path, classes: dict[str, int]) -> Answers:
    """Ours (`predictions.csv` with a header) or YOLO's (rows without one)."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    if rows[0][0] != "image":
        return {row[0]: (int(row[1]), np.array(row[2:], float)) for row in rows}
    place = {name: index for index, name in enumerate(rows[0])}
    corners = [place[f"pred_{side}"] for side in ("x1", "y1", "x2", "y2")]
    return {
        Path(row[place["image"]]).name: (
            classes[row[place["pred_label"]]],
            np.array([float(row[corner]) for corner in corners]),
        )
        for row in rows[1:]
    }


def run(*command: str | Path, log: Path) -> float:
    """Minutes that a command took, whose output goes to a file."""
    started = time.monotonic()
    with log.open("w") as file:
        subprocess.run([*map(str, command)], check=True, stdout=file, stderr=subprocess.STDOUT)
    return (time.monotonic() - started) / 60


def compare(data: str, minutes: float, yolo: str, seed: int, out: Path) -> list[dict[str, str]]:
    """A row for each model on one set."""
    folder = out / Path(data).name
    folder.mkdir(parents=True, exist_ok=True)
    own = [sys.executable, "-m"]
    files = folder / "files"
    if not files.exists():
        shares = ["--set", "data.split.test=0.25", "--set", "data.split.val=0.1"]
        convert = ["loc_keras.convert", "--data", data, "--to", "yolo", "--out", files, *shares]
        run(*own, *convert, log=folder / "convert.txt")
    listed = yaml.safe_load((files / "data.yaml").read_text())["names"]
    classes = {name: index for index, name in listed.items()}
    truth = truth_of(files)
    rows = []
    for model in ("loc_keras", *MODELS):
        log, answers = folder / f"{model}.txt", folder / f"{model}.csv"
        if model == "loc_keras":
            trained = folder / "run"
            train = ["loc_keras.train", "--data", files, "--minutes", f"{minutes:g}"]
            taken = run(*own, *train, "--seed", str(seed), "--run-dir", trained, log=log)
            run(*own, "loc_keras.evaluate", "--run", trained, log=folder / "evaluate.txt")
            answers = trained / "evaluation" / "test" / "predictions.csv"
        else:
            given = (files / "data.yaml", model, f"{minutes:g}", answers, str(seed))
            taken = run(yolo, "-c", _YOLO, *given, log=log)
        row = {"set": Path(data).name, "model": model, "images": str(len(truth))}
        row |= {"minutes": f"{taken:.1f}"} | scores(truth, read_answers(answers, classes))
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Trains all models on all sets, one after the other, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", required=True, help="folders of labelled images")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--yolo", required=True, help="a Python that has ultralytics")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for data, runs and answers")
    args = parser.parse_args()
    rows = []
    for data in args.data:
        rows += compare(data, args.minutes, args.yolo, args.seed, args.out)
    print(markdown_of(rows))


if __name__ == "__main__":
    main()
