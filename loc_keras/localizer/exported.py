"""Opens exported files in their own runtime, without TensorFlow, and finds them beside a run."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loc_keras.atomic_file import file_sha256, followed
from loc_keras.errors import ModelError
from loc_keras.localizer.answers import Arrays, Opened
from loc_keras.localizer.pictures import PictureReader
from loc_keras.serving.runtimes import RUNTIMES, SOURCE_FILE, Facts, Run, open_file

_EXTRA = "assets.extra"
_EXPORTS = "export"  # Folder of a run for its exports.
_KINDS = {Path(runtime.file).suffix: kind for kind, runtime in RUNTIMES.items()}


def exported_file(path: Path) -> Path | None:
    """The file for a runtime that is named: itself, in its folder, or in its newest version."""
    path = followed(path)
    if path.is_file():
        return path if path.suffix in _KINDS else None
    if not path.is_dir():
        return None
    numbers = [child for child in path.iterdir() if child.name.isdecimal()]
    newest = sorted(numbers, key=lambda child: int(child.name), reverse=True)
    places = (folder / runtime.file for folder in (path, *newest) for runtime in RUNTIMES.values())
    return next((file for file in places if file.is_file()), None)


def open_exported(path: Path) -> Opened:
    """Opens such a file; ModelError if it cannot be used."""
    kind = _KINDS[path.suffix]
    return _opened(path, kind, *open_file(path, kind))


def fastest_of(path: Path) -> Opened | None:
    """Opens the file that answers as a run or a folder of exports does, in the fastest runtime.

    Runtimes that are not installed are passed over, and so are quantized files and those of another
    model. None if there is no such file.
    """
    path = followed(path)
    if not path.is_dir() or exported_file(path) is not None:
        return None
    for file, kind in _candidates(path):
        with suppress(ModelError):
            run, facts = open_file(file, kind)
            if facts.quantize == "none" and _is_of(facts, path):
                return _opened(file, kind, run, facts)
    return None


def _opened(path: Path, kind: str, run: Run, facts: Facts) -> Opened:
    form, names = facts.form, facts.class_names
    one_at_a_time = threading.Lock()  # LiteRT and OpenVINO refuse or mix calls of several threads.

    def answer(images: npt.NDArray[np.uint8]) -> Arrays:
        with one_at_a_time:
            return run(images.astype(np.float32))

    outputs = answer(np.zeros((1, *form.shape), np.uint8))
    files = [file for file in (path, path.with_suffix(".bin")) if file.is_file()]
    return Opened(
        path,
        answer,
        PictureReader(form),
        names,
        names.index(facts.background) if facts.background in names else None,
        "label_set" in outputs,
        (),
        hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest(),
        "novelty" in outputs,
        RUNTIMES[kind].title,
    )


def _candidates(path: Path) -> Iterator[tuple[Path, str]]:
    for kind, runtime in RUNTIMES.items():
        for base in (path / _EXPORTS, path):
            file = exported_file(base / kind)
            if runtime.is_installed and file is not None:
                yield file, kind


def _is_of(facts: Facts, path: Path) -> bool:
    """Whether a file was made of a run as it is now, or as the newest SavedModel of exports was."""
    source = facts.texts.get(SOURCE_FILE)
    if source is None:
        return False
    served = sorted(path.glob(f"[0-9]*/{_EXTRA}/{SOURCE_FILE}"), key=lambda f: int(f.parts[-3]))
    if served:
        return served[-1].read_text(encoding="utf-8") == source
    made_of = json.loads(source)
    here = {name: _digest(path / name) for name in made_of}
    return here == made_of or not any(here.values())  # Or it is a folder of such exports alone.


def _digest(file: Path) -> str | None:
    return file_sha256(file) if file.is_file() else None
