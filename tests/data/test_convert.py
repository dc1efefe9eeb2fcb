"""The command `convert`: from a config to another format and back, and what it refuses."""

import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.converted import CLASSES, drawn, read_json, save, seen, tree, visible
from PIL import Image

from loc_keras import convert
from loc_keras.cli.data_source import DataSource
from loc_keras.commands import convert as work
from loc_keras.config.load import load_config
from loc_keras.data.formats.registry import WRITERS
from loc_keras.data.formats.writing import read_picture

FORMATS = tuple(WRITERS)
CSV_CONFIG = """
name: mine
data:
  image_size: [24, 32]
  resize: letterbox
  split: {{val: 0.25, test: 0.25}}
  source:
    format: csv
    path: {path}
    class_names: {classes}
    csv: {{units: pixel}}
    boxes_on: stored
"""


def write_source(root, count=12):
    """A CSV data set in px without splits; image k has class k % 3 and a box from (k, k + 1)."""
    lines = []
    for k in range(count):
        at = k % 20
        box = (at, at + 1, at + 20, at + 15)
        ending = "jpg" if k % 2 else "png"
        orientation = 6 if k == 1 else 1
        pixels = drawn(60, 40, box, colour=k % 4 != 1)
        pixels[-1] = 40 + 3 * (k // 20)  # No two images are the same.
        save(root / "training_images" / f"p {k}.{ending}", pixels, orientation, quality=100)
        label = CLASSES[k % 3].replace('"', '""')
        lines.append(f'p {k}.{ending},"{label}",{",".join(map(str, box))}\n')
    (root / "training_data.csv").write_text("".join(lines), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A data set and its config file."""
    root = write_source(tmp_path_factory.mktemp("data") / "set")
    config = root.parent / "mine.yaml"
    text = CSV_CONFIG.format(path=root, classes=json.dumps(CLASSES))
    config.write_text(text, encoding="utf-8")
    return root, config


def run(config, to, out, *more):
    return convert.main(["--config", str(config), "--to", to, "--out", str(out), *more])


def read(config):
    """Records by split, and the settings of the data."""
    loaded = load_config(config)
    return DataSource(loaded).records, loaded.data


@pytest.fixture(scope="module")
def wanted(source):
    """What stands in the data set, and its settings, as `read` gives them."""
    return read(source[1])


def sorted_rows(records):
    """(label, box in px) of each record, sorted, since formats have orders of their own."""
    sides = records.sizes[:, [1, 0, 1, 0]]
    rows = np.column_stack([records.labels, records.sizes, records.boxes * sides])
    return rows[np.lexsort(np.round(rows.T, 2))]


def same(found, wanted):
    assert found.class_names == wanted.class_names
    assert set(found.splits) == set(wanted.splits)
    for split, records in wanted.splits.items():
        a, b = sorted_rows(found.splits[split]), sorted_rows(records)
        np.testing.assert_array_equal(a[:, :3], b[:, :3])
        np.testing.assert_allclose(a[:, 3:], b[:, 3:], atol=0.01)


@pytest.mark.parametrize("target", FORMATS)
def test_converted_folder_is_read_again(source, wanted, tmp_path, target, capsys):
    root, config = source
    before = tree(root)
    out = tmp_path / "new" / "out"
    assert run(config, target, out) == 0
    assert tree(root) == before
    records, given = wanted
    found, data = read(out / "loc_keras.yaml")
    same(found, records)
    assert found.faults == []
    assert (data.image_size, data.resize, data.split) == (
        given.image_size,
        given.resize,
        given.split,
    )
    # 12 images, of which a quarter is cut off for each: 6, 3 and 3.
    printed = capsys.readouterr().out
    assert "train: 6 images\nval: 3 images\ntest: 3 images" in printed
    assert f"--config {out / 'loc_keras.yaml'}" in printed
    # The pixels under the boxes, read by the package's own picture reader.
    for records in found.splits.values():
        for index, box in enumerate(records.boxes * records.sizes[:, [1, 0, 1, 0]]):
            content = read_picture(records, index, ("JPEG", "PNG")).content
            with Image.open(io.BytesIO(content)) as image:
                np.testing.assert_allclose(visible(np.asarray(image.convert("L"))), box, atol=0.01)


def test_chain_through_all_formats_loses_nothing(source, wanted, tmp_path):
    _, config = source
    for target in (*FORMATS, "csv"):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}_{target}"
        assert run(config, target, out) == 0
        config = out / "loc_keras.yaml"
    found, _ = read(config)
    same(found, wanted[0])


def test_limit_is_evenly_spaced_and_shards_are_counted(source, tmp_path):
    _, config = source
    assert run(config, "tfrecord", tmp_path / "out", "--limit", "4", "--shards", "3") == 0
    names = sorted(path.name for path in (tmp_path / "out").glob("*.tfrecord"))
    assert names == [
        f"{split}-{k:05d}-of-00003.tfrecord" for split in ("test", "train", "val") for k in range(3)
    ]
    assert [one.split for one in seen("tfrecord", tmp_path / "out")] == (
        ["test"] * 3 + ["train"] * 4 + ["val"] * 3
    )


def test_progress_without_terminal_is_a_line_for_each_tenth(source, tmp_path, capsys):
    _, config = source
    assert run(config, "coco", tmp_path / "out") == 0
    assert capsys.readouterr().err.splitlines() == [
        *(f"train: {k} of 6" for k in range(1, 7)),
        *(f"val: {k} of 3" for k in range(1, 4)),
        *(f"test: {k} of 3" for k in range(1, 4)),
    ]


def test_second_call_says_that_all_is_there(source, tmp_path, capsys):
    _, config = source
    assert run(config, "voc", tmp_path / "out") == 0
    assert run(config, "voc", tmp_path / "out") == 0
    assert "was complete already; nothing was written" in capsys.readouterr().out


def test_faults_are_counted_and_listed(source, tmp_path, capsys):
    root, config = source
    copy = shutil.copytree(root, tmp_path / "copy")
    with (copy / "training_data.csv").open("a") as file:
        file.write("gone.png,no,1,2,3,4\np 0.png,no,9,9,2,2\nx\n")
    sets = ("--set", f"data.source.path={copy}", "--set", "data.on_error=skip")
    assert run(config, "yolo", tmp_path / "out", *sets) == 0
    listed = read_json(tmp_path / "out" / "skipped.json")
    assert {(one["row"], one["kind"]) for one in listed} >= {
        (13, "missing_image"),
        (14, "inverted"),
        (15, "columns"),
    }
    printed = capsys.readouterr().out
    assert "1 missing_image" in printed and "skipped.json" in printed
    assert run(config, "yolo", tmp_path / "b", *sets[:2]) == 2
    assert "row 15" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--limit", "0"], "--limit must be 1 or more, got 0"),
        (["--shards", "-1"], "--shards must be 1 or more, got -1"),
        (["--shards", "2"], "--shards is for --to tfrecord"),
        (["--set", "data.source.path=/nowhere"], "/nowhere does not exist"),
        (["--set", "data.sauce=1"], "data.sauce"),
    ],
)
def test_mistakes_are_told(source, tmp_path, capsys, more, told):
    _, config = source
    assert run(config, "csv", tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error
    assert list(tmp_path.iterdir()) == []


def test_digits_are_sent_to_their_own_command(tmp_path, capsys):
    config = tmp_path / "d.yaml"
    config.write_text("name: d\n")
    assert run(config, "coco", tmp_path / "out") == 2
    assert f"python -m loc_keras.digits --out {tmp_path / 'out'}" in capsys.readouterr().err


def test_source_is_never_written_to(source, tmp_path, capsys):
    root, config = source
    before = tree(root)
    for out in (root, root / "converted"):
        assert run(config, "csv", out) == 2
        assert "lies in the source" in capsys.readouterr().err
    assert tree(root) == before


def test_source_below_the_home_folder_is_never_written_to(source, tmp_path, capsys, monkeypatch):
    root, config = source
    shutil.copytree(root, tmp_path / "set")
    before = tree(tmp_path / "set")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    out = tmp_path / "set" / "converted"
    assert run(config, "csv", out, "--set", "data.source.path=~/set") == 2
    assert "lies in the source" in capsys.readouterr().err
    assert tree(tmp_path / "set") == before


@pytest.mark.parametrize("target", FORMATS)
def test_groups_are_written_or_told_as_lost(source, tmp_path, target, capsys):
    root, config = source
    shutil.copytree(root, tmp_path / "set")
    table = tmp_path / "set" / "training_data.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    # Pairs of images, the last two without a group.
    groups = [f"g{k // 2}" if k < 10 else "" for k in range(12)]
    rows = [f"{line},{group}\n" for line, group in zip(lines, groups, strict=True)]
    table.write_text("".join(rows), encoding="utf-8")
    sets = [
        *("--set", f"data.source.path={tmp_path / 'set'}", "--set"),
        "data.source.csv.columns=[file, label, x1, y1, x2, y2, group]",
    ]
    assert run(config, target, tmp_path / "out", *sets) == 0
    told = "groups of images (which a split must not part) are lost" in capsys.readouterr().out
    assert told is (target != "csv")
    found, _ = read(tmp_path / "out" / "loc_keras.yaml")
    kept = {
        name.rpartition(".")[0]: group
        for records in found.splits.values()
        for name, group in zip(records.names, records.groups, strict=True)
    }
    if target == "csv":
        assert kept == {f"p_{k}": group for k, group in enumerate(groups)}
    else:
        assert set(kept.values()) == {""}


def test_interrupt_leaves_what_the_next_call_takes_up(source, tmp_path, capsys, monkeypatch):
    _, config = source
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(work, "_tenths", _interrupting)
        assert run(config, "csv", out) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert not out.exists() and (tmp_path / "out.partial").is_dir()
    assert run(config, "csv", out) == 0
    assert not (tmp_path / "out.partial").exists()
    assert len(seen("csv", out)) == 12


def _interrupting(totals):
    def stop(split, count):
        if count:
            raise KeyboardInterrupt

    return stop


@pytest.mark.slow
def test_command_killed_by_the_system_goes_on(source, tmp_path):
    """SIGKILL amid the work, several times; the result equals an undisturbed one."""
    root = write_source(tmp_path / "set", count=400)
    _, config = source
    command = [
        *(sys.executable, "-m", "loc_keras.convert", "--config", str(config), "--to", "voc"),
        *("--set", f"data.source.path={root}", "--set", "data.source.csv.units=pixel", "--out"),
    ]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    for _ in range(3):
        with subprocess.Popen(
            [*command, str(tmp_path / "out")], stderr=subprocess.PIPE, text=True
        ) as process:
            for line in process.stderr:
                if line.startswith("train:"):
                    break
            process.kill()
        assert not (tmp_path / "out").exists()
    subprocess.run([*command, str(tmp_path / "out")], check=True, capture_output=True)
    whole, out = tree(tmp_path / "whole"), tree(tmp_path / "out")
    whole.pop("loc_keras.yaml"), out.pop("loc_keras.yaml")  # They name their own folders.
    assert out == whole
