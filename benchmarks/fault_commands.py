"""What `benchmarks.faults` disturbs: commands, the folder they work in, and what they leave there.

All of it lies under `Place.work`, at the same paths in every try, and is made anew for each:

    work/data, work/tiny.yaml   a set of small pictures, and its config
    work/out                    the only folder that is written to; a finished run lies in it
    work/.../mine.txt           a file of somebody else
"""

import contextlib
import csv
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import sys
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = """
name: tiny
data:
  source: {{format: csv, path: {data}}}
  image_size: [32, 32]
  split: {{calibration: 0.3}}
model: {{backbone: {{width: 4, stem: small}}, bbox_head: spatial, class_head: pooled}}
train:
  {{epochs: 2, batch_size: 8, warmup_epochs: 1, deterministic: true, checkpoint_every_steps: 2}}
export: {{enabled: false}}
"""
IMAGES = 60
"""Pictures of each split."""

FOREIGN = "mine.txt"
_DATE = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([+-]\d\d:\d\d)?")
_SHA256 = re.compile(rb"\b[0-9a-f]{64}\b")
_EVENTS = re.compile(r"events\.out\.tfevents\..*")
_SUMS = ".loc_keras.json"


@dataclass(frozen=True)
class Command:
    """One command of loc_keras.

    Attributes:
        name: Of its module.
        arguments: Of its command line, in `Place.work`.
        target: The folder in `out` that holds what it writes.
        needs_run: Whether it works on a finished run.
        before: Files of that run which are not there before it.
    """

    name: str
    arguments: tuple[str, ...]
    target: str
    needs_run: bool = True
    before: tuple[str, ...] = ()

    def main(self) -> Callable[[list[str]], int]:
        found: Callable[[list[str]], int] = importlib.import_module(f"loc_keras.{self.name}").main
        return found


COMMANDS = {
    one.name: one
    for one in (
        Command("train", ("--config", "tiny.yaml", "--run-dir", "out/run"), "run", False),
        Command(
            "predict",
            ("--model", "out/run", "data/test_images", "--out", "out/answers", "--format", "yolo"),
            "answers",
        ),
        Command(
            "convert", ("--config", "tiny.yaml", "--to", "voc", "--out", "out/set"), "set", False
        ),
        Command("export", ("--run", "out/run", "--out", "out/served"), "served"),
        Command("calibrate", ("--run", "out/run"), "run", True, ("trust.json", "novelty.json")),
        Command("evaluate", ("--run", "out/run"), "run/evaluation/test"),
    )
}


class Place:
    """A folder in which commands run, in processes forked from this one.

    What takes seconds, importing TensorFlow, was done once, so that faults meet the work. This
    process itself never computes with it: threads do not survive a fork.

    Args:
        home: An empty folder.
        commands: That will run.
    """

    def __init__(self, home: Path, commands: list[Command]) -> None:
        home.chmod(0o755)
        self.home, self.work, self.template = home, home / "work", home / "template"
        self.out, self.log, self.temporary = self.work / "out", home / "log", home / "tmp"
        for module in ["digits", *(one.name for one in commands), "train"]:
            importlib.import_module(f"loc_keras.{module}")
        _shorten()
        self.out.mkdir(parents=True)
        self.clear_temporary()
        self._run("digits", ["--out", "data", "--canvas", "32", "--limit", str(IMAGES)])
        (self.work / "tiny.yaml").write_text(CONFIG.format(data=self.work / "data"))
        if any(one.needs_run for one in commands):
            self._run("train", list(COMMANDS["train"].arguments))
        for folder in (self.work, self.out):
            (folder / FOREIGN).write_text("not to be touched\n")
        self.work.rename(self.template)

    def _run(self, name: str, arguments: list[str]) -> None:
        child = self.fork(Command(name, tuple(arguments), ""))
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise RuntimeError(self.log.read_text()[-3000:])

    def fresh(self) -> None:
        """Makes the folder anew, but for `out`, which may be a disk of its own and stays empty."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.template, self.work, ignore=shutil.ignore_patterns("out"))
        self.out.mkdir()
        self.clear_temporary()

    def fill(self, command: Command) -> None:
        """Fills `out` with what is there before a command."""
        shutil.copytree(self.template / "out", self.out, dirs_exist_ok=True)
        run = self.out / "run"
        if not command.needs_run:
            shutil.rmtree(run, ignore_errors=True)
        for name in command.before:
            (run / name).unlink()
        if command.target != "run":
            (self.out / command.target).mkdir(parents=True, exist_ok=True)
            if command.name != "convert":
                (self.out / command.target / FOREIGN).write_text("not to be touched\n")

    def clear_temporary(self) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()
        self.temporary.chmod(0o777)

    def fork(self, command: Command, before: Callable[[], None] = lambda: None) -> int:
        """Starts a command, below `before`, and gives the number of its process."""
        self.log.touch()
        child = os.fork()
        if child:
            return child
        code: Any = 1
        try:
            written = os.open(self.log, os.O_WRONLY | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(written, stream)
            sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
            os.chdir(self.work)
            os.environ |= {"TMPDIR": str(self.temporary), "HOME": str(self.home)}
            before()
            code = command.main()(list(command.arguments))
        except SystemExit as leave:
            code = leave.code
        except BaseException:
            traceback.print_exc()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)

    def result(self) -> dict[str, str]:
        """A digest of what is in `work`, by path; what lies in versions, by the path within.

        Answers are given whole: their last bits depend on the batch that they were computed in.
        """
        files = sorted(path for path in self.work.rglob("*") if not path.is_dir())
        found: dict[str, str] = {}
        for path in files:
            name = str(path.relative_to(self.work))
            is_answer = path.parent.name == "answers" and path.suffix in (".jsonl", ".csv", ".txt")
            digest = path.read_text() if is_answer else _digest(path)
            name = re.sub(r"^out/served/\d+/", "out/served/VERSION/", name)
            name = _EVENTS.sub("events", name)
            found[name] = digest if found.get(name, digest) == digest else "versions differ"
        empty = [path for path in self.work.rglob("*") if path.is_dir() and not any(path.iterdir())]
        return found | {f"{path.relative_to(self.work)}/": "" for path in empty}


def _shorten() -> None:
    """A body of one block, and no pictures: tracing and drawing take most of the time."""
    from loc_keras.cli import runs
    from loc_keras.models import assembly
    from loc_keras.report import architecture, curves

    assembly.RESNETS = {"resnet18": ((1,), "basic", "")}
    curves.save_curves = architecture.save_architecture = lambda *given, **more: Path()
    runs._draw_gallery = lambda *given: None


def _digest(path: Path) -> str:
    """Of what must be equal in a file: not dates, speeds, and what depends on them."""
    content = path.read_bytes()
    if _EVENTS.fullmatch(path.name) or path.name == "fingerprint.pb":
        return ""  # TensorFlow writes a new UUID into each of the latter.
    if path.name == _SUMS:
        content = json.dumps(sorted(json.loads(content))).encode()
    elif path.suffix == ".keras":
        content = _weights(content)
    elif path.name == "history.csv":
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(content.decode())))
        # An epoch of which one step was left has no speed: its column then stands last.
        rows = [{**row, "images_per_second": 0} for row in rows]
        content = json.dumps(rows, sort_keys=True).encode()
    elif path.name == "conversion.json":
        content = json.dumps({**json.loads(content), "source": ""}).encode()  # Of their dates.
    elif path.suffix in (".json", ".html", ".yaml", ".jsonl"):
        content = _SHA256.sub(b"", _DATE.sub(b"", content))  # A .keras file holds its date.
    return hashlib.sha256(content).hexdigest()


def _weights(content: bytes) -> bytes:
    import h5py

    found: list[bytes] = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        weights = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(weights)) as file:
        file.visititems(
            lambda name, item: (
                found.append(name.encode() + item[()].tobytes()) if hasattr(item, "dtype") else None
            )
        )
    return b"".join(found)
