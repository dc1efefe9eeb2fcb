"""Whether a run folder holds an unfinished run, and the rules for going on with one."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from loc_keras.errors import TrainingError

CHECKPOINTS = "checkpoints"
"""Folder within a run's; a run that has it is not finished."""

CONFIG_FILE, ENVIRONMENT_FILE = "config.yaml", "environment.json"
LOCK_FILE = ".lock"


class RunState(Enum):
    """What a run folder holds."""

    NEW = "nothing yet"
    UNFINISHED = "a run that can go on"
    OTHER = "a finished run, or something else"


def run_state(folder: Path) -> RunState:
    """Looks at a run folder; one that died before its config was written counts as new."""
    if folder.is_file():
        return RunState.OTHER
    if not folder.is_dir() or not any(folder.iterdir()):
        return RunState.NEW
    if not checkpoints_folder(folder).is_dir():
        return RunState.OTHER
    return RunState.UNFINISHED if (folder / CONFIG_FILE).is_file() else RunState.NEW


def checkpoints_folder(folder: Path) -> Path:
    """Where a run's checkpoints lie."""
    return folder / CHECKPOINTS


def open_run(folder: Path) -> None:
    """Marks a new run folder as unfinished."""
    checkpoints_folder(folder).mkdir(parents=True, exist_ok=True)


def close_run(folder: Path) -> None:
    """Marks a run as finished, and removes what it needed to go on."""
    gone = folder / f".removing-{CHECKPOINTS}"
    checkpoints_folder(folder).rename(gone)  # At once; the removing itself takes a while.
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Keeps a second process from training into an unfinished run; the system frees it at death.

    Raises:
        TrainingError: If another process has it.
    """
    with contextlib.ExitStack() as opened:
        try:
            import fcntl

            lock = opened.enter_context((checkpoints_folder(folder) / LOCK_FILE).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                f"another process is training in {folder}; wait for it, or choose a new --run-dir."
            ) from error
        except (ImportError, OSError):
            pass  # Systems and network disks without locks get no protection.
        yield


def refuse_changes(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to go on under another config.

    Args:
        folder: The run folder.
        before: Its settings, flat, by dotted key.
        now: Those of this call.

    Raises:
        TrainingError: Naming the keys that differ, with the old and the new value.
    """
    changes = [
        f"{key} {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changes:
        raise TrainingError(
            f"the run in {folder} is not finished and was begun with another config "
            f"({', '.join(changes)}); go on with the old one, by --resume {folder} alone, or "
            "choose a new --run-dir."
        )


def refuse_other_data(folder: Path, fingerprint: str) -> None:
    """Refuses to go on with other images or labels.

    Raises:
        TrainingError: If their fingerprint is not the one in the run folder.
    """
    before = _environment(folder).get("data_fingerprint")
    if before != fingerprint:
        raise TrainingError(
            f"the images or labels are not those that the run in {folder} was begun with "
            f"(fingerprint {str(before)[:12]}, now {fingerprint[:12]}); bring them back, or begin "
            "anew with another --run-dir."
        )


def changed_packages(folder: Path, now: Mapping[str, Any]) -> str | None:
    """A sentence where packages have other versions than when the run was begun."""
    before = _environment(folder).get("packages", {})
    changes = [
        f"{name} {before.get(name)} -> {version}"
        for name, version in now.items()
        if before.get(name) != version
    ]
    if not changes:
        return None
    return f"the run was begun with other versions ({', '.join(changes)}): its bits may differ."


def _environment(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
    return dict(found)
