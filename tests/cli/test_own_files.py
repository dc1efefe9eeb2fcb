"""Every command that writes: what others put there stays, what it wrote itself is replaced."""

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loc_keras import calibrate, check, convert, digits, evaluate, export, predict, train
from loc_keras.atomic_file import LIST_FILE, aside_of, own_files, refuse_foreign, write_text
from loc_keras.cli.console import UNREAD, run_command
from loc_keras.commands import convert as work
from loc_keras.errors import DataError
from loc_keras.training import run_folder

THEIRS = b"not ours\n"
INSTEAD = "give another folder to --out"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of four labelled pictures, and its config."""
    root = tmp_path_factory.mktemp("data") / "set"
    (root / "training_images").mkdir(parents=True)
    rows = []
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(root / "training_images" / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},0.1,0.1,0.6,0.7\n")
    (root / "training_data.csv").write_text("".join(rows))
    config = root.parent / "mine.yaml"
    split = "split: {val: 0.25, test: 0.25}"
    config.write_text(f"data: {{source: {{format: csv, path: {root}}}, {split}}}\n")
    return root, config


CASES = {
    "train, checkpoints": (
        train,
        ["checkpoints/epoch1.pt"],
        "--config {config} --run-dir {at}",
        "--run-dir",
    ),
    "train, a lock of another program": (
        train,
        ["checkpoints/.lock", "checkpoints/epoch1.pt"],
        "--config {config} --run-dir {at}",
        "--run-dir",
    ),
    "train, a file beside a run that has not begun": (
        train,
        ["checkpoints/.lock", "metrics.json"],
        "--config {config} --run-dir {at}",
        "--run-dir",
    ),
    "resume": (
        train,
        ["checkpoints/epoch1.pt", "config.yaml"],
        "--resume {at}",
        "no unfinished run",
    ),
    "find-lr": (train, ["a.png"], "--config {config} --find-lr {at}/a.png", "--find-lr"),
    "write-config": (train, ["a.yaml"], "--data {root} --write-config {at}/a.yaml", "a.yaml"),
    "evaluate": (evaluate, ["evaluation/test/report.html"], "--run {at}", "report.html"),
    "evaluate --out": (evaluate, ["metrics.json"], "--run x --out {at}", "--out"),
    "compare": (evaluate, ["comparison.png"], "--compare x y --out {at}", "comparison.png"),
    "calibrate": (calibrate, ["trust.json"], "--run {at}", "trust.json"),
    "check": (check, ["findings.json"], "--config {config} --report {at}", "--report"),
    "preview": (check, ["preview.png"], "--config {config} --quick --preview 2", "preview.png"),
    "fix": (check, ["a.txt"], "--config {config} --fix {at}", "--fix"),
    "convert": (convert, ["a.txt"], "--config {config} --to coco --out {at}", "a new folder"),
    "digits": (digits, ["a.txt"], "--out {at}", "a new folder"),
    "export": (export, ["1/a.txt"], "--run x --out {at} --version 1", "--version"),
    "predict": (predict, ["data.yaml"], "{images} --model x --out {at} --format yolo", "--out"),
    "predict, csv": (
        predict,
        ["predictions.csv"],
        "{images} --model x --out {at} --format csv",
        "--out",
    ),
    "predict, drawn": (predict, ["drawn/0.jpg"], "{images} --model x --out {at} --draw", "--out"),
}

WRITE_NOTHING = {"demo", "train_workers", "__main__"}
"""Commands whose files, if any, lie in a temporary folder, or are those of another."""


def test_each_command_is_among_the_cases():
    files = Path(train.__file__).parent.glob("*.py")
    commands = {path.stem for path in files if "def main(" in path.read_text()}
    cases = {command.__name__.rpartition(".")[2] for command, *_ in CASES.values()}
    assert commands == cases | WRITE_NOTHING


@pytest.mark.parametrize("case", CASES)
def test_what_others_wrote_stays_and_is_named(data, tmp_path, monkeypatch, capsys, case):
    command, files, line, words = CASES[case]
    at = tmp_path / "at"
    for name in files:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(THEIRS)
    monkeypatch.chdir(at)
    images = data[0] / "training_images"
    arguments = line.format(config=data[1], root=data[0], at=at, images=images).split()
    assert command.main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    assert str(at) in told or "preview.png" in told
    assert words in told
    there = {path.relative_to(at).as_posix() for path in at.rglob("*") if path.is_file()}
    assert there == set(files)
    assert all((at / name).read_bytes() == THEIRS for name in files)


def test_an_interrupted_conversion_of_another_program_stays(data, tmp_path, capsys):
    (tmp_path / "out.partial").mkdir()
    file = tmp_path / "out.partial" / ".1-writing-x"
    file.write_bytes(THEIRS)
    arguments = ["--config", str(data[1]), "--to", "csv", "--out", str(tmp_path / "out")]
    assert convert.main(arguments) == 2
    assert "no interrupted conversion" in capsys.readouterr().err
    assert file.read_bytes() == THEIRS


def test_two_conversions_into_one_folder_are_kept_apart(data, tmp_path, capsys, monkeypatch):
    arguments = ["--config", str(data[1]), "--to", "csv", "--out", str(tmp_path / "out")]
    codes = []

    def second(totals):
        # Once, within the first conversion.
        monkeypatch.setattr(work, "_tenths", lambda totals: lambda split, count: None)
        worker = threading.Thread(target=lambda: codes.append(convert.main(arguments)))

        def advance(split, count):
            if not codes:
                worker.start()
                worker.join()

        return advance

    monkeypatch.setattr(work, "_tenths", second)
    assert convert.main(arguments) == 0
    assert codes == [2]
    assert "another process is writing to" in capsys.readouterr().err
    assert (tmp_path / "out" / "conversion.json").is_file()


def test_own_files_are_replaced_until_somebody_changes_them(tmp_path):
    place = (tmp_path, ("a.txt", "labels"), INSTEAD)
    for text in ("first", "second"):
        with own_files(*place):
            (tmp_path / "a.txt").write_text(text)
            (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "b.txt").touch()
    with pytest.raises(DataError, match=r"b\.txt was not written .* give another folder to --out"):
        refuse_foreign(tmp_path, ("b.txt",), INSTEAD)
    (tmp_path / "a.txt").write_text("edited")
    with pytest.raises(DataError, match=r"a\.txt was not written .*, or was changed since"):
        refuse_foreign(*place)
    # The list of another program owns nothing.
    (tmp_path / LIST_FILE).write_text("[1]")
    with pytest.raises(DataError, match="labels was not written"):
        refuse_foreign(tmp_path, ("labels",), INSTEAD)


def test_what_a_killed_process_was_writing_is_its_own(tmp_path):
    child = os.fork()
    if not child:
        with own_files(tmp_path, ("a.txt",), INSTEAD):
            (tmp_path / "a.txt").write_text("half")
            os._exit(9)
    os.waitpid(child, 0)
    refuse_foreign(tmp_path, ("a.txt",), INSTEAD)
    with pytest.raises(ValueError, match="failed"), own_files(tmp_path, ("a.txt",), INSTEAD):
        (tmp_path / "a.txt").unlink()
        raise ValueError("failed")
    assert os.listdir(tmp_path) == []  # What is not there any more is not listed.


def test_folders_of_earlier_versions_are_known_by_their_content(tmp_path):
    known = ("metrics.json", frozenset({"about", "confusion"}))
    (tmp_path / "metrics.json").write_text(json.dumps({"about": {}, "confusion": [], "x": 1}))
    refuse_foreign(tmp_path, ("metrics.json",), INSTEAD, known)
    (tmp_path / "metrics.json").write_text(json.dumps({"about": {}}))
    with pytest.raises(DataError, match=r"metrics\.json was not written"):
        refuse_foreign(tmp_path, ("metrics.json",), INSTEAD, known)


def test_reports_and_configs_are_written_again(data, tmp_path, monkeypatch):
    root, config = data
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert check.main(["--config", str(config), "--report", "found"]) == 0
        assert train.main(["--data", str(root), "--write-config", "mine.yaml"]) == 0
    (tmp_path / "mine.yaml").write_text("name: edited\n")
    assert train.main(["--data", str(root), "--write-config", "mine.yaml"]) == 2
    assert (tmp_path / "mine.yaml").read_text() == "name: edited\n"


def test_a_run_that_ends_removes_its_checkpoints_alone(tmp_path):
    run_folder.open_run(tmp_path)
    for name in ("step-00000001", "broken-step-00000002", ".7-writing-0"):
        (tmp_path / "checkpoints" / name).mkdir()
    (tmp_path / "checkpoints" / "notes.txt").write_bytes(THEIRS)
    run_folder.close_run(tmp_path)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["notes.txt"]
    assert not (tmp_path / "checkpoints").exists()


READER = """
import sys
from rich.console import Console
from loc_keras.cli.console import run_command

def work():
    for number in range(100_000):
        {print}(number)
    return 0

sys.exit(run_command(work))
"""


@pytest.mark.parametrize("how", ["print", "Console().print"])
def test_a_reader_that_leaves_ends_the_command_in_silence(how):
    root = Path(__file__).resolve().parents[2]
    code = READER.replace("{print}", how)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    # 128 + 13, as a shell tells of a program that SIGPIPE ended.
    assert process.returncode == 141
    # TensorFlow may have said something at its import.
    assert not any(word in told for word in (b"Traceback", b"BrokenPipe", b"ignored"))


def test_an_exit_for_another_reason_stays_one():
    def leave():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run_command(leave)
    assert UNREAD == 141


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with own_files(tmp_path, ("labels",), INSTEAD):
        (tmp_path / "labels").mkdir()
    living, other = aside_of(tmp_path / "a.csv"), tmp_path / f".{ended.pid}-writing-of-mine"
    of_dead = [aside_of(tmp_path / name) for name in ("a.csv", "version", "labels/b.txt")]
    of_dead = [one.with_name(one.name.replace(str(os.getpid()), str(ended.pid))) for one in of_dead]
    elsewhere = of_dead[0].with_name(f".{ended.pid}-writing-0123456789abcdef.csv")
    for path in (living, other, elsewhere, *of_dead):
        if path.suffix:
            path.write_bytes(THEIRS)
        else:
            path.mkdir()
            (path / "part").write_bytes(THEIRS)
    with own_files(tmp_path, ("a.csv", "labels"), INSTEAD):
        pass
    left = {path.name for path in tmp_path.rglob("*")} - {LIST_FILE, "labels", "part"}
    assert left == {living.name, other.name, elsewhere.name}


@pytest.mark.parametrize("kind", ["written aside", "by a library"])
def test_a_full_disk_is_told_by_one_sentence(kind, tmp_path, capsys):
    bound = resource.getrlimit(resource.RLIMIT_FSIZE)  # The system refuses as on a full disk.

    def write():
        if kind == "written aside":
            write_text(tmp_path / "a.csv", 5000 * "x")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, bound[1]))
    try:
        assert run_command(write) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bound)
    where, reason = (
        (tmp_path / "a.csv", "File too large")
        if kind == "written aside"
        else ("a file", "No space left on device")
    )
    assert capsys.readouterr().err == f"error: {where}: {reason}.\n"
