"""`predict --runner`: looks at what is asked, has it answered, and tells what came of it."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from google.protobuf.message import DecodeError
from rich.console import Console
from rich.table import Table
from tensorflow.core.protobuf import saved_model_pb2

from loc_keras.atomic_file import write_text
from loc_keras.beam.pipeline import (
    ANSWERS_PREFIX,
    COUNTS_FILE,
    ENDING,
    FAILURES_PREFIX,
    Plan,
    build,
)
from loc_keras.beam.runner import options_of, run
from loc_keras.beam.worker import (
    INPUT,
    NEEDED,
    SIGNATURE,
    Asked,
    ExportedModelHandler,
    local_copy,
    sources_of,
)
from loc_keras.bulk.outputs import MADE_FILE
from loc_keras.cli.console import USER_ERROR
from loc_keras.errors import ClusterError, DataError, ModelError
from loc_keras.localizer.opening import (
    GRAPH_FILE,
    digest_of,
    exported_settings,
    version_folder,
)
from loc_keras.training.run_folder import BEST_FILE

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


_HOW = "python -m loc_keras.export --run {run} --out saved_models/NAME"


@dataclass(frozen=True)
class ExportedModel:
    """What is known of a version.

    Attributes:
        place: Folder or URL that workers open.
        names: Of the classes, by index.
        background: Index of the class of images without an object; None without one.
        digest: SHA-256 of it and all that its answers depend on, as `Localizer.digest`.
    """

    place: str
    names: tuple[str, ...]
    background: int | None
    digest: str


def exported_model(given: str) -> ExportedModel:
    """Looks at an export.

    Args:
        given: A version's folder, one that holds versions, or the URL of a version.

    Raises:
        ModelError: If it is none, or an old one that does not tell all that records hold.
    """
    if "://" in given:
        folder = Path(local_copy(given))
        if not (folder / GRAPH_FILE).is_file():
            raise ModelError(f"{given} holds no {GRAPH_FILE}; give the URL of an exported version.")
        return _looked_at(folder, given.rstrip("/"), given)
    folder = _local_version(Path(given))
    return _looked_at(folder, str(folder.absolute()), given)


def _local_version(path: Path) -> Path:
    run = path if path.is_dir() else path.parent
    if path.is_file() or (path / BEST_FILE).is_file():
        raise ModelError(
            f"{path} is not an exported model, which the workers of a runner need: export it by "
            f"`{_HOW.format(run=run)}` and give --model saved_models/NAME."
        )
    version = version_folder(path) if path.is_dir() else None
    if version is None:
        raise ModelError(
            f"{path} holds no exported version; make one by `{_HOW.format(run='RUN')}`."
        )
    return version


def _looked_at(folder: Path, place: str, given: str) -> ExportedModel:
    missing = sorted(NEEDED - _outputs(folder, given))
    settings, _ = exported_settings(folder)
    names = settings.class_names
    if missing or names is None:
        what = ", ".join(missing) or "the names of its classes"
        raise ModelError(
            f"{given} does not tell {what}, as versions exported today do; export its run anew by "
            f"`{_HOW.format(run='RUN')}`."
        )
    files = [folder / GRAPH_FILE, *sorted((folder / "variables").glob("*"))]
    background = names.index(settings.background) if settings.background in names else None
    return ExportedModel(place, names, background, digest_of(files, settings))


def _outputs(folder: Path, given: str) -> set[str]:
    """Names of what the signature of encoded images gives; empty without such a one."""
    try:
        parsed = saved_model_pb2.SavedModel.FromString((folder / GRAPH_FILE).read_bytes())
    except DecodeError as error:
        raise ModelError(f"{given} cannot be opened as a SavedModel ({error}).") from error
    signatures = [meta.signature_def[SIGNATURE] for meta in parsed.meta_graphs]
    return {name for one in signatures if set(one.inputs) == {INPUT} for name in one.outputs}


_SHOWN_FAILURES = 5


@dataclass(frozen=True)
class Request:
    """What a command line asks of a runner.

    Attributes:
        model: An export, as a path or URL.
        images: Files, folders, patterns and URLs.
        lists: Text files of one path a line.
        out: Folder or URL for the answers.
        runner: Name of a runner.
        options: Of the runner, as `--name=value`.
        batch_sizes: The least and the largest number of images that the model is given at once.
        top_k: Classes that are told of each image.
        max_bytes: Size of the largest file that is read.
        shards: Files of answers; 0 leaves it to the runner.
    """

    model: str
    images: Sequence[str]
    lists: Sequence[str]
    out: str
    runner: str
    options: Sequence[str]
    batch_sizes: tuple[int, int]
    top_k: int
    max_bytes: int
    shards: int


def answer_on_runner(request: Request, console: Console) -> int:
    """Answers; gives the exit code, 2 where an image was bad.

    Raises:
        LocKerasError: If something asked for is not there, or the runner failed.
    """
    options = options_of(request.runner, request.options)
    model = exported_model(request.model)
    out = request.out.rstrip("/") if "://" in request.out else os.path.abspath(request.out)
    named = sources_of(request.images, request.lists, exists, out)
    refuse_answers(out)
    asked = Asked(
        model.place, model.names, model.background, named.root, request.top_k, request.max_bytes
    )
    least, most = request.batch_sizes
    handler = ExportedModelHandler(asked, min_batch_size=least, max_batch_size=most)
    plan = Plan(named.sources, handler, out, request.shards)
    _say(console, f"{request.runner} is at work ...")
    others, started = temporary_folders(out), time.monotonic()
    begun_anew = run(
        lambda pipeline: build(pipeline, plan),
        request.runner,
        options,
        clean=lambda: remove_temporary(temporary_folders(out) - others),
    )
    seconds = time.monotonic() - started
    if begun_anew:
        _say(console, f"note: a worker was lost, so it was begun anew ({begun_anew} times).")
    counts = read_counts(out)
    if not counts["answered"] + counts["failed"]:
        remove_shards(out)
        raise DataError("there is no image among what was given; name files, folders or patterns.")
    made = {"model": model.digest, "top_k": request.top_k, "root": named.root}
    write_made(out, {**made, "runner": request.runner, **counts})
    _tell(console, out, counts, seconds)
    return USER_ERROR if counts["failed"] else 0


def _tell(console: Console, out: str, counts: dict[str, int], seconds: float) -> None:
    failed, total = counts["failed"], counts["answered"] + counts["failed"]
    if failed:
        for number, record in enumerate(failures(out)):
            if number == _SHOWN_FAILURES:
                _say(
                    console, f"... and {failed - number:,} more in {out}/{FAILURES_PREFIX}*{ENDING}"
                )
                break
            _say(console, f"{record['path']} {record['reason']}")
    table = Table("", "", show_header=False)
    for column in table.columns:
        column.overflow = "fold"  # A path that is cut is of no use.
    rows = {
        "images": f"{total:,}",
        "answered": f"{counts['answered']:,}",
        "could not be read": f"{failed:,}",
        "left out, without an image's ending": f"{counts['left_out']:,}",
        "images/s, with the start": f"{total / seconds:.1f}",
        "answers": f"{out}/{ANSWERS_PREFIX}*{ENDING}",
        "failures": f"{out}/{FAILURES_PREFIX}*{ENDING}",
    }
    for row in rows.items():
        table.add_row(*row)
    console.print(table)


def _say(console: Console, words: str) -> None:
    console.print(words, highlight=False, soft_wrap=True)
