"""`predict --runner`: looks at what is asked, has it answered, and tells what came of it."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from loc_keras.beam.answers_folder import (
    exists,
    failures,
    read_counts,
    refuse_answers,
    remove_shards,
    remove_temporary,
    temporary_folders,
    write_made,
)
from loc_keras.beam.exported_model import exported_model
from loc_keras.beam.pipeline import ANSWERS_PREFIX, ENDING, FAILURES_PREFIX, Plan, build
from loc_keras.beam.runner import options_of, run
from loc_keras.beam.sources import sources_of
from loc_keras.beam.worker_handler import Asked, ExportedModelHandler
from loc_keras.command_line import USER_ERROR
from loc_keras.errors import DataError

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
