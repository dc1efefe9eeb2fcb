"""The folder that holds everything about a run, and the environment that is written there."""

import json
import platform
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from loc_keras.atomic_file import write_text
from loc_keras.errors import TrainingError
from loc_keras.training.run_state import RunState, run_state

PACKAGES = ("tensorflow", "keras", "keras-cv", "tensorboard", "numpy", "matplotlib")
"""Packages whose versions are written down."""


def new_run_folder(root: Path, name: str, now: datetime | None = None) -> Path:
    """Makes `root/name/<time>`; a second run within the same second gets a number behind it."""
    stamp = (now or datetime.now()).strftime("%Y%m%d-%H%M%S")
    for attempt in range(1, 1000):
        folder = root / name / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise TrainingError(
                f"the run folder {folder} cannot be made ({error.strerror}); "
                "choose another with --run-dir or run.dir."
            ) from error
        return folder
    raise TrainingError(f"{root / name} holds 999 runs of one second; choose another --run-dir.")


def given_run_folder(folder: Path) -> Path:
    """Makes the folder that a user asked for; it must be new or empty.

    Raises:
        TrainingError: if it holds something, so that no earlier run is ever overwritten.
    """
    refuse_used_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"the run folder {folder} cannot be made ({error.strerror}); choose another --run-dir."
        ) from error
    return folder


def refuse_used_folder(folder: Path) -> None:
    """Refuses a run folder that holds something; one that is not there yet passes.

    Raises:
        TrainingError: if it is a file or not empty.
    """
    if run_state(folder) is not RunState.NEW:
        raise TrainingError(
            f"the run folder {folder} is not empty, and a run never overwrites another; "
            "choose a new --run-dir or remove that one."
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON that is either whole or absent."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def environment(device: Mapping[str, Any], **facts: Any) -> dict[str, Any]:
    """What a run ran on: Python, system, package versions, device, command, and given facts."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": package_versions(),
        "device": dict(device),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        **facts,
    }


def package_versions() -> dict[str, str | None]:
    """The installed version of each of `PACKAGES`; None where one is not there."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
