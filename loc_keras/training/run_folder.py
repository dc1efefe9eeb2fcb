"""The folder of a run: names, state, lock, environment, what was fitted, and interruptions."""

import contextlib
import json
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import IO, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from loc_keras.atomic_file import file_sha256, lock_file, remove_halves, write_text
from loc_keras.errors import Interrupted, ModelError, TrainingError, TrustError, first_line
from loc_keras.training.checkpoint_files import is_own_name

CONFIG_FILE, ENVIRONMENT_FILE, CLASSES_FILE = "config.yaml", "environment.json", "classes.txt"
SKIPPED_FILE, NOT_FINITE_FILE = "skipped.json", "not_finite.json"
NEAR_DUPLICATES_FILE = "near_duplicates.csv"
HISTORY_FILE, HISTORY_STEPS_FILE = "history.csv", "history_steps.csv"
BEST_FILE, LAST_FILE = "best.keras", "last.keras"
METRICS_FILE, CARD_FILE = "metrics.json", "model_card.json"
TRUST_FILE, NOVELTY_FILE = "trust.json", "novelty.json"
PLOTS, TENSORBOARD, EVALUATION, EXPORT = "plots", "tensorboard", "evaluation", "export"
CHECKPOINTS, FOLDS, EXAMPLES = "checkpoints", "folds", "examples"
FOLD_ANSWERS = "folds.npz"
"""Names within a run folder (`docs/architecture.md` says what each holds). A folder with
`CHECKPOINTS` holds an unfinished run."""

LOCK_FILE = ".lock"  # In `CHECKPOINTS`, by which that folder is known to be a run's.

_BEFORE_CONFIG = {CHECKPOINTS, PLOTS, CLASSES_FILE, ENVIRONMENT_FILE, SKIPPED_FILE}
_BEFORE_CONFIG |= {NEAR_DUPLICATES_FILE}

PACKAGES = ("tensorflow", "keras", "keras-cv", "tensorboard", "numpy", "matplotlib")


class RunState(Enum):
    """What a run folder holds."""

    NEW = "nothing yet"
    UNFINISHED = "a run that can go on"
    OTHER = "a finished run, or something else"


def run_state(folder: Path) -> RunState:
    """What a folder holds; a run that died before its config was written counts as new."""
    if folder.is_file():
        return RunState.OTHER
    if not folder.is_dir() or not any(folder.iterdir()):
        return RunState.NEW
    checkpoints = folder / CHECKPOINTS
    if os.listdir(folder) == [CHECKPOINTS] and checkpoints.is_dir() and not os.listdir(checkpoints):
        return RunState.NEW  # It died between the two steps of `open_run`.
    if not (checkpoints / LOCK_FILE).is_file() or not all(map(is_own_name, _shown(checkpoints))):
        return RunState.OTHER
    if (folder / CONFIG_FILE).is_file():
        return RunState.UNFINISHED if (folder / ENVIRONMENT_FILE).is_file() else RunState.OTHER
    foreign = _shown(folder) - _BEFORE_CONFIG or _shown(folder / PLOTS)
    return RunState.OTHER if foreign else RunState.NEW


def _shown(folder: Path) -> set[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    return {name for name in names if not name.startswith(".")}


def open_run(folder: Path) -> None:
    """Marks a new run folder as unfinished."""
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    (folder / CHECKPOINTS / LOCK_FILE).touch()


def close_run(folder: Path) -> None:
    """Marks a run as finished, and removes what it needed to go on; what others put there stays."""
    gone = folder / f".removing-{CHECKPOINTS}"
    (folder / CHECKPOINTS).rename(gone)  # At once; the removing itself takes a while.
    for path in gone.iterdir():
        if path.name == LOCK_FILE:
            path.unlink(missing_ok=True)
        elif is_own_name(path.name):
            shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        gone.rmdir()
    shutil.rmtree(folder / FOLDS, ignore_errors=True)


class RunClock:
    """Knows how long a run has taken, over all its processes: the lock file keeps it.

    Args:
        began: When this process began, by `time.monotonic`.
        file: The lock file; None where it cannot be written.
    """

    def __init__(self, began: float, file: IO[str] | None = None) -> None:
        self.began = began
        self.file = file
        self.earlier = 0.0
        if file is not None:
            file.seek(0)
            with contextlib.suppress(ValueError):
                self.earlier = float(file.read())

    @property
    def seconds(self) -> float:
        """Time that the run has taken so far."""
        return self.earlier + time.monotonic() - self.began

    def keep(self) -> None:
        """Notes the time for the process that goes on."""
        if self.file is not None:
            with contextlib.suppress(OSError):  # Of a full disk others tell.
                self.file.truncate(0)
                self.file.write(f"{self.seconds:.1f}")
                self.file.flush()


@contextmanager
def only_process(folder: Path, began: float | None = None) -> Iterator[RunClock]:
    """Raises TrainingError where another process trains into an unfinished run.

    The system frees the lock at this one's death. What was half-written at a death is removed.
    `began` is when this process did; now, where it is not given.
    """
    lock: IO[str] | None = None
    with contextlib.ExitStack() as opened:
        is_free = True
        with contextlib.suppress(OSError):  # Network disks without locks get no protection.
            lock = opened.enter_context((folder / CHECKPOINTS / LOCK_FILE).open("a+"))
            is_free = lock_file(lock)
        if not is_free:
            raise TrainingError(
                f"another process is training in {folder}; wait for it, or choose a new --run-dir."
            )
        for place in (folder, folder / PLOTS):
            remove_halves(place)
        clock = RunClock(time.monotonic() if began is None else began, lock)
        try:
            yield clock
        finally:
            clock.keep()


def refuse_changes(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises TrainingError that names the keys, flat by dots, whose values differ."""
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


KNOWN_BY_SIZES = (
    "the run was begun by an earlier version, which knew its images by name and size alone: names, "
    "sizes and labels are the same, and what the images show was not compared."
)


def refuse_other_data(folder: Path, fingerprint: str, by_sizes: str = "") -> str | None:
    """Raises TrainingError where images or labels are not those that the run was begun with.

    Gives a sentence where they could only be compared as earlier versions did, `by_sizes`.
    """
    before = read_environment(folder).get("data_fingerprint")
    if by_sizes and before == by_sizes:
        return KNOWN_BY_SIZES
    if before != fingerprint:
        raise TrainingError(
            f"the images or labels are not those that the run in {folder} was begun with "
            f"(fingerprint {str(before)[:12]}, now {fingerprint[:12]}); bring them back, or begin "
            "anew with another --run-dir."
        )
    return None


def changed_packages(folder: Path, now: Mapping[str, Any]) -> str | None:
    """A sentence where packages have other versions than when the run was begun."""
    before = read_environment(folder).get("packages")
    before = before if isinstance(before, dict) else {}
    changes = [
        f"{name} {before.get(name)} -> {version}"
        for name, version in now.items()
        if before.get(name) != version
    ]
    if not changes:
        return None
    return (
        f"the run was begun with other versions ({', '.join(changes)}): its numbers may differ in "
        "the last bits."
    )


def read_environment(folder: Path) -> dict[str, Any]:
    """What `environment` gave when the run was begun."""
    return read_json(folder / ENVIRONMENT_FILE)


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` has written; ModelError where it cannot, or the file holds other."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({first_line(error)}); restore it.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object, as the run wrote it; restore it.")
    return content


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
    """Makes the folder that a user asked for; TrainingError if it is not new or empty."""
    refuse_used_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(
            f"the run folder {folder} cannot be made ({error.strerror}); choose another --run-dir."
        ) from error
    return folder


def refuse_used_folder(folder: Path) -> None:
    """Raises TrainingError for a run folder that is a file or not empty."""
    if run_state(folder) is not RunState.NEW:
        finished = (folder / CONFIG_FILE).is_file() and not (folder / CHECKPOINTS).exists()
        holds = "holds a finished run" if finished else "is not empty"
        raise TrainingError(
            f"the run folder {folder} {holds}, and a run never overwrites another; choose a new "
            "--run-dir or remove that one."
        )


def read_classes(path: Path) -> tuple[str, ...] | None:
    """Class names, one a line in label order; None without a file, ModelError if unreadable."""
    try:
        return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({first_line(error)}).") from error


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


Fitted = TypeVar("Fitted")


def write_fitted(
    path: Path, content: Fitted, adapter: TypeAdapter[Fitted], indent: int | None = 1
) -> None:
    """Writes as JSON what was fitted to a model, whole or not at all; None for one line."""
    write_text(path, json.dumps(adapter.dump_python(content, mode="json"), indent=indent) + "\n")


def read_fitted(
    path: Path,
    model_path: Path,
    adapter: TypeAdapter[Fitted],
    version: int,
    digest_of: Callable[[Fitted], str],
) -> Fitted | None:
    """Reads what was fitted to the model that it stands beside; None where there is no file.

    `version` is of the form that is known, `digest_of` gives the SHA-256 of a content's model.
    TrustError where the file is damaged, of another version, or of another model.
    """
    if not path.is_file():
        return None
    again = "run python -m loc_keras.calibrate again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.get("version") if isinstance(content, dict) else None
        if found != version:
            raise TrustError(f"{path} is of version {found}, not {version}; {again}.")
        fitted = adapter.validate_python(content)
    except (ValueError, RecursionError) as error:  # Of JSON, UTF-8 and pydantic.
        raise TrustError(
            f"{path} is damaged ({_first_fault(error)}); move it away and {again}."
        ) from error
    if digest_of(fitted) != file_sha256(model_path):
        raise TrustError(
            f"{path} was fitted to another model than {model_path}, whose file has changed since; "
            f"{again}."
        )
    return fitted


def _first_fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled_signals(handler: Handler, numbers: Iterable[int] = SIGNALS) -> Iterator[None]:
    """Handles signals for a while; outside of the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Interruption:
    """Whether the run was asked to stop; `how_to_resume` is part of a sentence for the user.

    With `together` several processes stop when they have agreed to. `asked` is the number of the
    signal that came to this one, None while none did.
    """

    def __init__(self, how_to_resume: str, *, together: bool = False) -> None:
        self.how_to_resume = how_to_resume
        self.together = together
        self.asked: int | None = None
        self._agreed: int | None = None

    @property
    def due(self) -> int | None:
        """Number of the signal for which to leave now; None to go on."""
        return self._agreed if self.together else self.asked

    def agree(self, asked_somewhere: bool) -> None:
        """Notes what processes that stop together have agreed on; one may have no signal."""
        if asked_somewhere:
            self._agreed = signal.SIGTERM if self.asked is None else self.asked

    def leave(self, what_became: str) -> None:
        """Raises Interrupted if it is due, with what became of the work, and how to go on."""
        if self.due is not None:
            raise Interrupted(f"{what_became}; {self.how_to_resume}", self.due)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Only notes the first signal for a while; a second one, of any kind, ends at once."""
        with handled_signals(self._note):
            yield

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            raise Interrupted(f"stopped at once; {self.how_to_resume}", number)
        self.asked = number


@contextmanager
def resumable(how_to_resume: str) -> Iterator[None]:
    """Raises Interrupted, with how to go on, at a signal where nothing has to be saved first."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"stopped; {how_to_resume}", number)

    with handled_signals(leave):
        yield
