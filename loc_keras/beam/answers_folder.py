"""The folder of shards, which may be on a file system of a network."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from loc_keras.atomic_file import write_text
from loc_keras.beam.pipeline import ANSWERS_PREFIX, COUNTS_FILE, ENDING, FAILURES_PREFIX
from loc_keras.bulk.out_folder import MADE_FILE
from loc_keras.errors import ClusterError, DataError

_TEMPORARY = "beam-temp-"


def exists(path: str) -> bool:
    """Whether there is a file by a name or pattern, on any file system that Beam knows.

    Raises:
        DataError: If it cannot be asked.
    """
    if "://" not in path and os.path.lexists(path):
        return True  # Its name may look like a pattern.
    try:
        return bool(FileSystems.match([path], limits=[1])[0].metadata_list)
    except (BeamIOError, ValueError, OSError) as error:
        raise DataError(f"{path} cannot be looked at ({_first(error)}).") from error


def refuse_answers(out: str) -> None:
    """Raises DataError where the folder holds answers, whole ones or the rest of a stopped run."""
    kinds = (ANSWERS_PREFIX, FAILURES_PREFIX)
    if not any(exists(f"{out}/{prefix}*") for prefix in kinds):
        return
    what = "answers" if exists(f"{out}/{MADE_FILE}") else "what a run that did not end has written"
    raise DataError(
        f"{out} holds {what}; a run on a runner is not continued, so give another folder to --out "
        "or delete that one."
    )


def read_counts(out: str) -> dict[str, int]:
    """Numbers of images `answered` and `failed`, and of files `left_out`; takes the file away.

    Raises:
        ClusterError: If the pipeline has not written it.
    """
    path = f"{out}/{COUNTS_FILE}"
    try:
        counts: dict[str, int] = json.loads(_content(path))
        FileSystems.delete([path])
    except (OSError, BeamIOError, ValueError) as error:
        raise ClusterError(f"{path} cannot be read ({_first(error)}).") from error
    return counts


def write_made(out: str, made: dict[str, Any]) -> None:
    """Writes with what the answers were made; as the last file, which says that they are whole."""
    text = json.dumps(made, indent=1) + "\n"
    if "://" not in out:
        write_text(Path(out) / MADE_FILE, text)
        return
    with FileSystems.create(f"{out}/{MADE_FILE}") as file:
        file.write(text.encode())


def failures(out: str) -> Iterator[dict[str, Any]]:
    """The records of images that could not be read."""
    found = FileSystems.match([f"{out}/{FAILURES_PREFIX}*{ENDING}"])[0].metadata_list
    for one in found:
        with FileSystems.open(one.path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            yield from map(json.loads, file)


def temporary_folders(out: str) -> set[str]:
    """Folders of shards that are not whole yet; of a folder on this machine alone."""
    if "://" in out or not os.path.isdir(out):
        return set()
    return {one.path for one in os.scandir(out) if one.name.startswith(_TEMPORARY)}


def remove_temporary(folders: Iterable[str]) -> None:
    """Takes away what a run has left that did not end."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def remove_shards(out: str) -> None:
    """Takes answers and failures away."""
    patterns = [f"{out}/{prefix}*{ENDING}" for prefix in (ANSWERS_PREFIX, FAILURES_PREFIX)]
    FileSystems.delete(
        [one.path for part in FileSystems.match(patterns) for one in part.metadata_list]
    )


def _content(path: str) -> bytes:
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        content: bytes = file.read()
    return content


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
