"""Which folder a training takes, when it goes on there, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loc_keras import train
from loc_keras.atomic_file import followed, point_to
from loc_keras.cli.console import run_command
from loc_keras.cli.runs import exported_before, goes_on
from loc_keras.commands.train import how_to_resume
from loc_keras.config.load import dump_config, load_config
from loc_keras.errors import Interrupted, TrainingError
from loc_keras.training import run_folder
from loc_keras.training.run_folder import Interruption, RunState, resumable


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tiny.yaml").write_text("train: {epochs: 4, warmup_epochs: 1}")
    return load_config(tmp_path / "tiny.yaml")


def begun(folder, config):
    """A folder as a run leaves it that was killed in training."""
    run_folder.open_run(folder)
    (folder / "environment.json").write_text(
        json.dumps({"data_fingerprint": "abc", "packages": {"keras": "3.15.1"}})
    )
    (folder / "config.yaml").write_text(dump_config(config))
    return folder


def test_what_a_folder_holds(tmp_path, config):
    folder = tmp_path / "run"
    assert run_folder.run_state(folder) is RunState.NEW
    folder.mkdir()
    assert run_folder.run_state(folder) is RunState.NEW
    # Killed between making the folder and writing the config: nothing is lost by beginning anew.
    (folder / "checkpoints").mkdir()
    assert run_folder.run_state(folder) is RunState.NEW
    (folder / "mine.txt").touch()
    assert run_folder.run_state(folder) is RunState.OTHER
    (folder / "mine.txt").unlink()
    run_folder.open_run(folder)
    early = ("classes.txt", "environment.json", "near_duplicates.csv", "skipped.json")
    for name in early:
        (folder / name).touch()
    assert run_folder.run_state(folder) is RunState.NEW
    begun(folder, config)
    assert run_folder.run_state(folder) is RunState.UNFINISHED
    (folder / "checkpoints" / "step-00000001").mkdir()
    run_folder.close_run(folder)
    assert run_folder.run_state(folder) is RunState.OTHER
    assert sorted(os.listdir(folder)) == sorted([*early, "config.yaml"])
    (tmp_path / "file").touch()
    assert run_folder.run_state(tmp_path / "file") is RunState.OTHER


def test_the_same_config_goes_on_and_another_is_refused_by_its_keys(tmp_path, config):
    folder = begun(tmp_path / "run", config)
    assert goes_on(folder, config) is True
    assert goes_on(tmp_path / "new", config) is False
    assert goes_on(None, config) is False
    other = load_config(tmp_path / "tiny.yaml", ["train.epochs=9", "data.source.digits.canvas=48"])
    with pytest.raises(TrainingError) as caught:
        goes_on(folder, other)
    message = str(caught.value)
    assert "(data.source.digits.canvas 100 -> 48, train.epochs 4 -> 9)" in message
    assert f"--resume {folder}" in message
    run_folder.close_run(folder)
    with pytest.raises(TrainingError, match="holds a finished run, and a run never overwrites"):
        goes_on(folder, config)


def test_other_data_are_refused_and_other_versions_told(tmp_path, config):
    folder = begun(tmp_path / "run", config)
    run_folder.refuse_other_data(folder, "abc")
    with pytest.raises(TrainingError, match=r"fingerprint abc, now xyz\)"):
        run_folder.refuse_other_data(folder, "xyz")
    # What an earlier version would have written of the same data is enough, and said.
    assert run_folder.refuse_other_data(folder, "abc", "") is None
    told = run_folder.refuse_other_data(folder, "xyz", "abc")
    assert told is not None
    assert "by name and size alone" in told
    assert run_folder.changed_packages(folder, {"keras": "3.15.1"}) is None
    told = run_folder.changed_packages(folder, {"keras": "3.15.2"})
    assert told is not None
    assert "keras 3.15.1 -> 3.15.2" in told


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "holds nothing to go on with"),
        (lambda folder: (folder.mkdir(), (folder / "metrics.json").touch()), "no unfinished run"),
    ],
)
def test_resuming_what_is_no_run_is_refused(tmp_path, capsys, prepare, words):
    prepare(tmp_path / "run")
    assert train.main(["--resume", str(tmp_path / "run")]) == 2
    assert words in capsys.readouterr().err


def test_resuming_with_a_changed_config_is_refused(tmp_path, config, capsys):
    folder = begun(tmp_path / "run", config)
    assert train.main(["--resume", str(folder), "--set", "train.epochs=5"]) == 2
    assert "train.epochs 4 -> 5" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "7", "{", "[" * 100_000, '{"packages": 1}'])
def test_an_environment_of_other_content_is_one_sentence(tmp_path, config, capsys, content):
    folder = begun(tmp_path / "run", config)
    (folder / "environment.json").write_text(content)

    def command():
        run_folder.changed_packages(folder, {"keras": "1"})
        run_folder.refuse_other_data(folder, "abc")
        return 0

    assert run_command(command) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_command_to_go_on_can_be_pasted():
    told = how_to_resume("my runs/a")
    assert told == "go on with: python -m loc_keras.train --resume 'my runs/a'"


def test_two_processes_never_train_into_one_folder(tmp_path, config):
    folder = begun(tmp_path / "run", config)
    pytest.importorskip("fcntl")
    code = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'w')\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "checkpoints" / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(TrainingError, match="another process is training"):
            run_folder.only_process(folder).__enter__()
        other.kill()  # As a crash would: the lock goes with its process.
    with run_folder.only_process(folder):
        pass


def test_the_time_of_a_run_counts_all_its_processes(tmp_path, config, monkeypatch):
    folder, now = begun(tmp_path / "run", config), [1000.0]
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: now[0])
    with run_folder.only_process(folder, began=990.0) as clock:
        now[0] += 20
        assert clock.seconds == pytest.approx(30)
    # An hour later another process goes on, and is killed after it has noted its time.
    now[0] += 3600
    with run_folder.only_process(folder) as clock:
        now[0] += 5
        clock.keep()
        now[0] += 2
        assert clock.seconds == pytest.approx(37)
        assert float((folder / "checkpoints" / ".lock").read_text()) == pytest.approx(35)
    with run_folder.only_process(folder) as clock:
        assert clock.seconds == pytest.approx(37)


@pytest.mark.parametrize("has_links", [True, False])
def test_latest_leads_to_the_newest_run(tmp_path, monkeypatch, has_links):
    if not has_links:
        monkeypatch.setattr(Path, "symlink_to", refuse_link)
    latest = tmp_path / "runs" / "latest"
    for stamp in ("20260102-030405", "20260102-030406"):
        run = tmp_path / "runs" / "my photos" / stamp
        run.mkdir(parents=True)
        assert point_to(latest, run)
        assert latest.is_symlink() == has_links
        assert followed(str(latest)) == run
    assert followed(latest.parent / "other") == latest.parent / "other"
    assert sorted(os.listdir(latest.parent)) == ["latest", "my photos"]


def refuse_link(*arguments, **more):
    raise OSError("a required privilege is not held by the client")


@pytest.mark.parametrize(
    "make",
    [
        lambda latest: latest.mkdir(),
        lambda latest: latest.write_text("notes of somebody\n"),
        lambda latest: latest.write_bytes(b"\xff\x00"),
        lambda latest: latest.symlink_to("/tmp"),
        lambda latest: latest.symlink_to("../elsewhere"),
    ],
)
def test_what_others_call_latest_stays(tmp_path, make):
    run, latest = tmp_path / "my" / "1", tmp_path / "latest"
    run.mkdir(parents=True)
    make(latest)
    before = os.lstat(latest)
    assert not point_to(latest, run)
    assert followed(latest) == latest
    after = os.lstat(latest)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_export_that_is_there_already_is_found(tmp_path, config):
    folder, base = begun(tmp_path / "run", config), tmp_path / "base"
    assert exported_before(folder, base) is None
    card = json.dumps({"name": "tiny", "date": "2026-01-02T03:04:05"})
    (folder / "model_card.json").write_text(card)
    for version, text in (("1", "{}"), (".writing-x", card)):
        (base / version / "assets.extra").mkdir(parents=True)
        (base / version / "assets.extra" / "model_card.json").write_text(text)
    # Another run's version, and an export that was killed half-way.
    assert exported_before(folder, base) is None
    (base / ".writing-x").rename(base / "2")
    assert exported_before(folder, tmp_path / "none", base) == base / "2"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_give_their_exit_codes_and_the_command(capsys, number, code):
    def command():
        with resumable("go on with: X"):
            os.kill(os.getpid(), number)
        return 0

    assert run_command(command) == code
    assert capsys.readouterr().err == "stopped; go on with: X\n"


def test_first_signal_waits_and_the_second_does_not():
    before = signal.getsignal(signal.SIGINT)
    interruption = Interruption("go on with: X")
    with interruption.waiting():
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.asked == signal.SIGINT
        with pytest.raises(Interrupted, match="stopped at once; go on with: X"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(Interrupted, match="all saved; go on with: X") as stop:
        interruption.leave("all saved")
    assert stop.value.signal == signal.SIGINT
    Interruption("X").leave("nobody asked")
