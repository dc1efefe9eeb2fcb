"""The benchmark of faults: two cheap cells survive, and a command that loses something is found."""

import subprocess
import sys

import pytest

from benchmarks import faults
from benchmarks.fault_commands import Command, Place


@pytest.mark.whole
def test_a_conversion_survives_kills_and_a_folder_without_rights():
    given = ["--only", "convert", "killed", "read-only", "--rounds", "1", "--kills", "2"]
    # In a process of its own: one in which TensorFlow has computed cannot be forked.
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", *given],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "convert | killed" in ended.stdout
    assert "2 tried, 0 lost;" in ended.stdout


class Careless(Command):
    """Writes what it has to in two halves, and never looks at what is there."""

    def main(self):
        def write(arguments):
            import time
            from pathlib import Path

            with Path("out/answers/answers.txt").open("a") as file:
                for half in ("one\n", "two\n"):
                    file.write(half)
                    file.flush()
                    time.sleep(0.1)
            return 0

        return write


class Bare(Place):
    """A place without data or a run."""

    def __init__(self, home):
        self.home, self.work, self.template = home, home / "work", home / "template"
        self.out, self.log, self.temporary = self.work / "out", home / "log", home / "tmp"
        (self.template / "out").mkdir(parents=True)


def lost(tmp_path, fault):
    import random

    command = Careless("careless", (), "answers", needs_run=False)
    trial = faults.Trial(Bare(tmp_path), command, random.Random(0), 1)
    try:
        trial.try_one(fault)
    except faults.LostError as error:
        return str(error)
    return ""


def test_what_is_lost_is_found(tmp_path):
    assert "not as undisturbed: out/answers/answers.txt" in lost(tmp_path, "killed")


def test_answers_may_differ_by_their_last_bits_alone():
    def differing(found):
        return faults._differing({"a": '{"score": 0.25, "box": [1.5, 20.0]}'}, {"a": found})

    assert differing('{"score": 0.250001, "box": [1.5, 20.0001]}') == ""
    assert differing('{"score": 0.251, "box": [1.5, 20.0]}') == "a"
    assert differing('{"score": 0.25, "box": [1.5]}') == "a"
    assert differing('{"other": 0.25, "box": [1.5, 20.0]}') == "a"
    assert faults._differing({"a": ""}, {"b": ""}) == "a, b"
