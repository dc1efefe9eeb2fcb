"""The parts of the transfer benchmark that choose photographs and sum up."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.transfer import ARMS, save_curves, summary
from benchmarks.transfer_runs import ALL, few, folds
from loc_keras.data.resolve import COLUMNS, DatasetRecords, Records


def records(labels, paths):
    count = len(labels)
    columns = {name: np.zeros(count, np.int64) for name in COLUMNS}
    columns |= {
        "paths": np.array(paths, object),
        "lengths": np.full(count, -1),
        "labels": np.array(labels, np.int32),
        "boxes": np.tile(np.array([[0.1, 0.1, 0.6, 0.6]], np.float32), (count, 1)),
        "names": np.array(paths, object),
        "files": np.array(paths, object),
        "groups": np.array([""] * count, object),
    }
    return Records(**columns, class_names=["a", "b"])


@pytest.fixture
def photographs(tmp_path):
    """Thirty photographs of two classes; every third shows two objects, cut out as pictures."""
    paths, labels = [], []
    for index in range(30):
        path = tmp_path / f"{index}.bin"
        path.write_bytes(bytes([index]) * 9)
        for _ in range(2 if index % 3 == 0 else 1):
            paths.append(str(path))
            labels.append(index % 2)
    found = records(labels, paths)
    return DatasetRecords({"train": found, "test": found.take(np.arange(4))}, ["a", "b"])


def test_few_keeps_the_classes_in_proportion(photographs):
    kept = few(photographs, 10, seed=3)
    # 20 pictures of each class, of 40: 5 each of 10.
    assert np.bincount(kept.splits["train"].labels).tolist() == [5, 5]
    assert len(kept.splits["test"]) == 4
    assert few(photographs, ALL, seed=3) is photographs


def test_folds_test_each_picture_once_and_never_part_a_photograph(photographs):
    tested = []
    for part in folds(photographs, 5, seed=1):
        train, test = part.splits["train"], part.splits["test"]
        assert not set(train.paths) & set(test.paths)
        assert len(train) + len(test) == 40
        tested += test.paths.tolist()
    assert sorted(tested) == sorted(photographs.splits["train"].paths)


def row(seed, top1, arm="random"):
    figures = dict.fromkeys(("softmax_accuracy", "bbox_iou", "gt_known_loc"), 0.5)
    place = {"set": "one", "photographs": 10, "arm": arm, "seed": seed}
    return {**place, "train": 10, "images": 4, **figures, "top1_loc": top1}


def test_summary_gives_mean_and_range():
    (line,) = summary([row(0, 0.2), row(1, 0.4)], "seed")
    assert line["top1_loc"] == "0.300 (0.200 to 0.400)"
    assert line["seeds"] == 2 and line["test images"] == 8


def test_curves_are_drawn(tmp_path):
    path = Path(tmp_path) / "curves.png"
    save_curves([row(0, 0.2), row(0, 0.4, ARMS[1].name)], path)
    assert path.read_bytes().startswith(b"\x89PNG")
