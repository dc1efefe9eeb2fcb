"""What real labelling tools write is read, and what we write they read: `pytest -m interop`.

Each tool of `requirements-interop.txt` gets an environment of its own in the folder that
`LOC_KERAS_INTEROP` names (some GB, some minutes). The table is printed at the end.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from helpers import real_tools
from helpers.converted import drawn, records, row, save
from PIL import Image

from loc_keras.cli.data_source import read_folder
from loc_keras.data.convert import write_dataset

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(real_tools.__file__)
PINNED = {
    line.partition("==")[0].partition("[")[0]: line
    for line in (ROOT / "requirements-interop.txt").read_text("utf-8").split("\n")
    if line and not line.startswith("#")
}
BOXES = [
    *((50, 33, 72, 53), (3, 63, 24, 89), (32, 15, 64, 52), (37, 29, 67, 60), (28, 43, 48, 82)),
    *((84, 12, 112, 39), (27, 26, 59, 58), (7, 13, 19, 58), (6, 20, 31, 49)),
]
SIZES = [(96, 64), (64, 96), (120, 80)]
ROUNDING = {"yolo": 1e-3, "kitti": 0.01, "pylabel yolo": 0.01, "label-studio-sdk voc": 2}
"""What tools themselves round, in px: pylabel to four digits; Label Studio cuts off x and width."""

SHIFTED = {"labelImg voc": 1}
"""labelImg reads and writes edges that count from 0, and VOC, which we write, counts from 1."""


@pytest.fixture(scope="session")
def table():
    rows: list[str] = []
    yield rows
    print(
        "\n| tool | version | format | way | largest error in px |\n| --- | --- | --- | --- | --- |"
    )
    print("\n".join(sorted(rows)))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """[path, class, box, size] of nine pictures."""
    root = tmp_path_factory.mktemp("pictures")
    made = []
    for number, box in enumerate(BOXES):
        size, label = SIZES[number % 3], real_tools.CLASSES[number % 3]
        path = save(root / f"pic_{number:02d}.png", drawn(*size, box))
        made.append([str(path), label, list(map(float, box)), list(size)])
    return made


def run(tool, *arguments):
    """Runs the script in the environment of a tool, which is made where there is none."""
    folder = Path(os.environ.get("LOC_KERAS_INTEROP", ROOT / ".interop")).absolute() / tool
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", PINNED[tool]], check=True)
    command = [python, SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def row_of(name, way, error):
    tool, form = name.split()
    version = PINNED[tool].partition("==")[2]
    return f"| {tool} | {version} | {form} | {way} | {error:.3g} |"


@pytest.mark.parametrize("name", real_tools.WRITERS)
def test_what_a_tool_writes_is_read(pictures, table, tmp_path, name):
    tool, form = name.split()
    (tmp_path / "drawn.json").write_text(json.dumps(pictures), encoding="utf-8")
    run(tool, "write", name, tmp_path / "drawn.json", tmp_path / "out")
    reading = read_folder(
        str(tmp_path / "out"), [f"data.cache_dir={tmp_path / 'cache'}"], name="interop"
    )
    found = {}
    for records_of in reading.records.splits.values():
        boxes = records_of.boxes * records_of.sizes[:, [1, 0, 1, 0]]
        for index, box in enumerate(boxes):
            with Image.open(str(records_of.paths[index])) as image:
                pixels = np.asarray(image.convert("RGB")).tobytes()
            found[pixels] = records_of.class_names[records_of.labels[index]], box
    errors = []
    for path, label, box, _ in pictures:
        with Image.open(path) as image:
            seen, at = found.pop(np.asarray(image.convert("RGB")).tobytes())
        assert seen == label
        errors.append(np.abs(at - box).max())
    assert not found
    table.append(row_of(name, f"read as {reading.guess.format}", max(errors)))
    assert max(errors) <= ROUNDING.get(name, ROUNDING.get(form, 1e-4))


@pytest.mark.parametrize("name", real_tools.READERS)
def test_what_is_written_a_tool_reads(pictures, table, tmp_path, name):
    tool, form = name.split()
    rows = [
        row(path, tuple(size), real_tools.CLASSES.index(label), box)
        for path, label, box, size in pictures
    ]
    splits = {
        "train": records(rows[:7], real_tools.CLASSES),
        "val": records(rows[7:], real_tools.CLASSES),
    }
    write_dataset(tmp_path / "out", form, splits, real_tools.CLASSES)
    found = json.loads(run(tool, "read", name, tmp_path / "out").strip().split("\n")[-1])
    by_name = {os.path.basename(path): (label, box) for path, label, box, _ in pictures}
    errors = []
    for image, label, box in found:
        wanted, at = by_name.pop(image)
        assert label == wanted
        errors.append(np.abs(np.subtract(box, at)).max())
    assert not by_name
    table.append(row_of(name, "reads ours", max(errors)))
    assert max(errors) == pytest.approx(SHIFTED.get(name, 0), abs=1e-4)


def test_every_pinned_tool_is_used():
    used = {name.split()[0] for name in (*real_tools.WRITERS, *real_tools.READERS)}
    assert used == set(PINNED), sys.version
