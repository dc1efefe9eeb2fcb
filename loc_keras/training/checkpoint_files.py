"""Checkpoints on disk: folders that are whole or absent, with checksums; the last few are kept.

A checkpoint is a folder `step-00000123` of four kinds of files: `arrays.safetensors` (numbers; no
code is run by reading it), `state.json`, links to the models that belong to it, and `SHA256SUMS`,
which `sha256sum -c` reads as well. Keras is not known here.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from loc_keras.atomic_file import aside_of, file_sha256, written_aside
from loc_keras.errors import TrainingError

ARRAYS_FILE, STATE_FILE, SUMS_FILE = "arrays.safetensors", "state.json", "SHA256SUMS"
BROKEN = "broken-"
"""Start of the name that a checkpoint gets which is not whole."""

_NAME = re.compile(r"step-\d{8,}(-epoch-end)?")
_ASIDE = re.compile(r"\.(\d+-writing-.*|removing-step-.*)")


class CheckpointError(TrainingError):
    """A checkpoint cannot be written, or is not what was written."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint holds: arrays by name, and plain values."""

    path: Path
    arrays: Mapping[str, np.ndarray]
    state: Mapping[str, Any]


def checkpoint_name(step: int, *, epoch_end: bool) -> str:
    """Name of the folder; the last step of an epoch has one before and one after validation."""
    return f"step-{step:08d}" + ("-epoch-end" if epoch_end else "")


def begin_checkpoint(folder: Path, name: str, models: Iterable[Path]) -> Path:
    """Makes a folder aside with the models as they are now, and gives it.

    They are linked where the disk can do that: replacing a file by renaming leaves the link alone.

    Raises:
        CheckpointError: If the disk is full or cannot be written; what was there before stays.
    """
    aside = aside_of(folder / name)
    with _one_sentence(folder / name, aside):
        aside.mkdir(parents=True)
        for model in models:
            _link(model, aside / model.name)
    return aside


def end_checkpoint(
    aside: Path, name: str, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]
) -> Path:
    """Writes the rest down, with checksums of all, and renames the folder, perhaps over another.

    The state holds what JSON can; not-a-number passes. It raises as `begin_checkpoint`.
    """
    target = aside.with_name(name)
    with _one_sentence(target, aside):
        contents = {ARRAYS_FILE: save(dict(arrays)), STATE_FILE: json.dumps(state).encode()}
        sums = {model.name: file_sha256(model) for model in aside.iterdir()}
        for file, content in contents.items():
            sums[file] = hashlib.sha256(content).hexdigest()
            _write_down(aside / file, content)
        lines = "".join(f"{digest}  {file}\n" for file, digest in sums.items())
        _write_down(aside / SUMS_FILE, lines.encode())
        _sync_folder(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _sync_folder(target.parent)
    return target


@contextlib.contextmanager
def _one_sentence(target: Path, aside: Path) -> Iterator[None]:
    """Raises a failed write as one sentence, and removes what was half-written."""
    try:
        yield
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(
            f"the checkpoint {target} cannot be written ({error.strerror or error}); free some "
            "space on the disk: earlier checkpoints are whole, and the run goes on from there."
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; CheckpointError where its checksums tell that it is not as written."""
    try:
        listed = (path / SUMS_FILE).read_text(encoding="utf-8").splitlines()
        sums = {file: digest for digest, _, file in (line.partition("  ") for line in listed)}
        for file in (ARRAYS_FILE, STATE_FILE, *sums):
            if sums.get(file) != file_sha256(path / file):
                raise CheckpointError(f"{path / file} is not what was written")
        arrays = load((path / ARRAYS_FILE).read_bytes())
        state = json.loads((path / STATE_FILE).read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read ({reason})") from error
    return Checkpoint(path, arrays, state)


def newest_checkpoint(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; others are put aside with a sentence to `say`."""
    paths = checkpoints_in(folder)
    for path in reversed(paths):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            say(f"{error}; the checkpoint before it is taken.")
            with contextlib.suppress(OSError):
                shutil.rmtree(folder / f"{BROKEN}{path.name}", ignore_errors=True)
                path.rename(folder / f"{BROKEN}{path.name}")
    if paths:
        say("no checkpoint is whole, so the training begins anew.")
    return None


def checkpoints_in(folder: Path) -> list[Path]:
    """All checkpoints that are there under their names, oldest first."""
    return sorted(path for path in folder.glob("*") if _NAME.fullmatch(path.name))


def is_own_name(name: str) -> bool:
    """Whether a name in the folder of checkpoints is one that is written here."""
    kept = _NAME.fullmatch(name.removeprefix(BROKEN))
    return bool(kept or _ASIDE.fullmatch(name))


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest, and what killed processes left; no other process may write."""
    old = checkpoints_in(folder)[:-keep]
    halves = [path for path in folder.iterdir() if _ASIDE.fullmatch(path.name)]
    for path in [*old, *halves]:
        # Renamed first: a checkpoint that is half removed must not stand under its name.
        gone = path if path in halves else folder / f".removing-{path.name}"
        with contextlib.suppress(OSError):
            path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def models_in(checkpoint: Checkpoint) -> Iterator[Path]:
    """The models that belong to a checkpoint."""
    own = {ARRAYS_FILE, STATE_FILE, SUMS_FILE}
    return (path for path in checkpoint.path.iterdir() if path.name not in own)


def put_back(model: Path, target: Path) -> None:
    """Makes `target` the model of a checkpoint again, unless it is that very file."""
    if target.exists() and target.samefile(model):
        return
    with written_aside(target) as aside:
        _link(model, aside)


def _write_down(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        rest = memoryview(content)
        while rest:  # The system may take fewer bytes than it was given.
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk; some systems cannot be asked."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
