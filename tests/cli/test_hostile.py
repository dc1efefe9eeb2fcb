"""Commands among files that are none, damaged ones, and readers that wait for ever."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.hostile_images import UNFIT, make_unfit
from helpers.localizer_run import photograph, write_run

from loc_keras import check, convert, predict, train
from loc_keras.cli.console import INTERRUPTED
from loc_keras.cli.data_source import DataSource
from loc_keras.config.load import load_config


@pytest.fixture
def among_unfit(tmp_path):
    """The config of a CSV data set of eight good pictures and those of `UNFIT`."""
    images = tmp_path / "set" / "training_images"
    images.mkdir(parents=True)
    make_unfit(images)
    for number in range(8):
        photograph(number).save(images / f"{number}.png")
    names = [*UNFIT, *(f"{number}.png" for number in range(8))]
    rows = [f"{name},{'ab'[number % 2]},0.1,0.1,0.6,0.7\n" for number, name in enumerate(names)]
    (tmp_path / "set" / "training_data.csv").write_text("".join(rows))
    config = tmp_path / "set.yaml"
    config.write_text(
        f"data: {{source: {{format: csv, path: {tmp_path / 'set'}}}, on_error: skip, "
        "split: {val: 0.25, test: 0.25}, image_size: [32, 32]}\n"
    )
    return config


LEADS_OUT = "device.png' is a link that leads out of the data folder"
REASONS = {**UNFIT, "device.png": LEADS_OUT}


def reasons(told):
    """The reasons of `REASONS` among sentences about images, by the name of the image."""
    found = {name: sentence for sentence in told for name in REASONS if name in sentence}
    return {name: why for name, why in REASONS.items() if why in found.get(name, "")}


def test_each_file_that_is_none_costs_one_line(among_unfit, tmp_path, capsys):
    data = DataSource(load_config(among_unfit)).build()
    assert sum(data.sizes.values()) == 8
    assert len(list(data.test)) == 1  # Its pixels are there.
    assert len(data.skipped) == 4 and reasons(one[2] for one in data.skipped) == REASONS

    found = tmp_path / "report"
    assert check.main(["--config", str(among_unfit), "--report", str(found)]) == 1
    listed = json.loads((found / "findings.json").read_text())["findings"]
    assert reasons(json.dumps(one) for one in listed) == REASONS

    out = tmp_path / "out"
    assert convert.main(["--config", str(among_unfit), "--to", "csv", "--out", str(out)]) == 0
    assert "left out: 3 unreadable, 1 " in capsys.readouterr().out
    skipped = json.loads((out / "skipped.json").read_text())
    assert len(skipped) == 4 and reasons(json.dumps(one) for one in skipped) == REASONS


def test_label_files_that_are_pipes_are_told(among_unfit, tmp_path, capsys):
    path = tmp_path / "set" / "training_data.csv"
    path.unlink()
    os.mkfifo(path)
    assert check.main(["--config", str(among_unfit)]) == 2
    assert train.main(["--data", str(tmp_path / "set"), "--write-config", "a.yaml"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 2 and "training_data.csv" in told[0]


IN_A_THREAD = """
def waiting(most, path, flags, opened=files._open_regular):
    if path.endswith("7.png"):
        print("waits", flush=True)
        os.open(pipe, os.O_RDONLY)  # For somebody who writes to it.
    return opened(most, path, flags)

files._open_regular = waiting
"""
IN_TENSORFLOW = """
from loc_keras.data import dataset

def swapping(records, form, store=dataset.store_pixels, **more):
    os.unlink(records.paths[-1])  # Its header was read.
    os.mkfifo(records.paths[-1])
    print("waits", flush=True)
    return store(records, form, **more)

dataset.store_pixels = swapping
"""
PROGRAM = """
import os, runpy, signal, sys
from loc_keras.data import files
pipe, command, *sys.argv[1:] = sys.argv[1:]
{reader}
signal.signal(signal.SIGINT, signal.default_int_handler)  # Shells ignore it in the background.
runpy.run_module(command, run_name="__main__", alter_sys=True)
"""


def interrupted(tmp_path, reader, command, *arguments, presses=1):
    """Runs a command whose reader waits for ever, and presses Ctrl-C; gives what it printed.

    Where it takes several presses, it goes on after all but the last.
    """
    pipe = tmp_path / "never"
    os.mkfifo(pipe)
    code = [sys.executable, "-c", PROGRAM.format(reader=reader), str(pipe), f"loc_keras.{command}"]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [*code, *map(str, arguments)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while "waits" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
        time.sleep(1)  # For TensorFlow to begin, too.
        for _ in range(presses - 1):
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(3)
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        try:
            told = process.communicate(timeout=60)[1]
            assert time.monotonic() - pressed < 3  # 2 s, and what a busy machine adds.
        finally:
            process.kill()
    assert process.returncode == INTERRUPTED and "Traceback" not in told
    return [line for line in told.splitlines() if line.startswith("stopped")]


@pytest.fixture
def good(among_unfit):
    """The config of the eight good pictures alone."""
    rows = among_unfit.parent / "set" / "training_data.csv"
    rows.write_text("".join(row for row in rows.open() if row[0].isdigit()))
    return among_unfit


def test_ctrl_c_ends_conversions_that_wait_and_they_go_on(good, tmp_path):
    arguments = ("--config", good, "--to", "csv", "--out", tmp_path / "out")
    (line,) = interrupted(tmp_path, IN_A_THREAD, "convert", *arguments)
    assert line.startswith("stopped; the same command goes on from here")
    assert convert.main([*map(str, arguments)]) == 0


@pytest.mark.whole
def test_ctrl_c_ends_answers_that_wait_and_they_go_on(good, tmp_path):
    images = [good.parent / "set" / "training_images" / f"{number}.png" for number in range(8)]
    run = write_run(tmp_path / "run")
    arguments = ("--model", run, *images, "--out", tmp_path / "out")
    more = ("--batch-size", 2)
    assert interrupted(tmp_path, IN_A_THREAD, "predict", *arguments, *more) == [
        "stopped; the same command goes on from here."
    ]
    journal = tmp_path / "out" / "predictions.jsonl"
    before = journal.read_text()
    assert predict.main([*map(str, arguments)]) == 0
    assert journal.read_text().startswith(before) and len(journal.read_text().splitlines()) == 8


@pytest.mark.parametrize("command", ["check", "train"])
def test_ctrl_c_ends_readers_within_tensorflow_and_threads(good, tmp_path, command):
    reader = IN_TENSORFLOW if command == "train" else IN_A_THREAD
    arguments = ("--config", good, *(["--run-dir", tmp_path / "run"] * (command == "train")))
    (line,) = interrupted(tmp_path, reader, command, *arguments)
    assert line.startswith("stopped")


WHILE_IMPORTING = 'print("waits", flush=True)'
WHILE_TRAINING = """
import tensorflow as tf
from loc_keras.data import dataset
from loc_keras.training.run_folder import Interruption

def training(*arguments, **more):
    with Interruption("").waiting():  # As `fit_localizer` does, to save at a step's end.
        print("waits", flush=True)
        list(tf.data.Dataset.from_tensors(pipe).map(tf.io.read_file))

dataset.store_pixels = training
"""


def state_of(number):
    """What Linux says a process does; "" where there is none, or it has only to be reaped."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return state.strip("ZX")


@pytest.mark.whole
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says who is left")
@pytest.mark.parametrize(
    ("reader", "presses"), [(WHILE_IMPORTING, 1), (IN_TENSORFLOW, 1), (WHILE_TRAINING, 2)]
)
def test_ctrl_c_ends_all_workers(good, tmp_path, reader, presses):
    """They are in groups of their own: what a terminal sends reaches the launcher alone."""
    # Both must wait; the first alone writes where the launcher does.
    code = PROGRAM.replace("{reader}", f"open(f'{tmp_path}/{{os.getpid()}}.pid', 'w')\n{reader}")
    (tmp_path / "worker.py").write_text(code)
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\nshift\nexec {sys.executable} {tmp_path}/worker.py {tmp_path}/never $@\n"
    )
    python.chmod(0o700)
    launcher = f"os.environ['PYTHONPATH'] = os.getcwd()\nsys.executable = {str(python)!r}"
    arguments = ("--workers", 2, "--", "--config", good, "--run-dir", tmp_path / "run")
    assert interrupted(tmp_path, launcher, "train_workers", *arguments, presses=presses)
    numbers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(numbers) == 2
    states = [state_of(number) for number in numbers]
    until = time.monotonic() + 1  # What was killed gives its memory back.
    while any(states) and time.monotonic() < until:
        time.sleep(0.05)
        states = [state_of(number) for number in numbers]
    assert not any(states), states


IN_A_CALLBACK = """
import gc, sys
from loc_keras.cli import console

def interrupt(phase, info):
    gc.callbacks.remove(interrupt)
    raise fault

console._end_in_time("stopped")
for fault in (KeyboardInterrupt, ValueError):
    print("begun", file=sys.stderr, flush=True)  # Packages may have said something before.
    gc.callbacks.append(interrupt)
    gc.collect()
"""


def test_interrupts_in_callbacks_of_garbage_collection_are_ended_without_a_trace():
    code = [sys.executable, "-c", IN_A_CALLBACK]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    _, interrupted, failed = done.stderr.split("begun\n")
    assert interrupted == ""
    assert "ValueError" in failed
