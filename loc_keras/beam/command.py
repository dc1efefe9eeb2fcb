"""`predict --runner`: checks the request, builds and runs the pipeline, and prints the counts."""

import argparse
import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console
from rich.table import Table

from loc_keras.atomic_file import write_text
from loc_keras.beam import worker
from loc_keras.bulk.inputs import MAX_BYTES, Inputs, common_root
from loc_keras.bulk.outputs import SETTINGS_FILE, AnswerSettings
from loc_keras.cli.console import USER_ERROR, print_line
from loc_keras.commands.predict import open_model, print_failures
from loc_keras.errors import ClusterError, DataError, first_line


def answer_on_runner(args: argparse.Namespace, console: Console) -> int:
    """Answers what the command line of `predict` asks; gives the exit code, 2 for bad images."""
    options = options_of(args.runner, args.runner_options)
    model, digest = opened_model(args.model, console)
    out = args.out.rstrip("/") if "://" in args.out else os.path.abspath(args.out)
    sources, root = sources_of(args.images, args.list, exists, out)
    _refuse_answers(out)
    handler = worker.LocalizerHandler(
        worker.Task(model, digest, root, args.top_k, args.max_bytes or MAX_BYTES),
        min_batch_size=args.min_batch_size,
        max_batch_size=args.batch_size,
    )
    steps = partial(build, sources=sources, handler=handler, out=out, shards=args.shards or 0)
    print_line(console, f"{args.runner} is running ...")
    others, started = _temporary_folders(out), time.monotonic()
    try:
        run(steps, args.runner, options)
    except (ClusterError, KeyboardInterrupt):
        for folder in _temporary_folders(out) - others:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    seconds = time.monotonic() - started
    counts = _take_counts(out)
    if not counts["answered"] + counts["failed"]:
        FileSystems.delete([*_shards(out, ANSWERS_PREFIX), *_shards(out, FAILURES_PREFIX)])
        raise DataError("there is no image among what was given; name files, folders or patterns.")
    settings = asdict(AnswerSettings(digest, args.top_k, root))
    _write_settings(out, {**settings, "runner": args.runner, **counts})
    _print_counts(console, out, counts, seconds)
    return USER_ERROR if counts["failed"] else 0


def opened_model(given: str, console: Console) -> tuple[str, str]:
    """Opens a model as `predict` does; gives its path or URL for the workers, and its digest."""
    copy = worker.local_copy(given)
    localizer = open_model(copy, console)
    if copy == given:
        return str(localizer.path.absolute()), localizer.digest
    inside = localizer.path.relative_to(copy).as_posix()
    return given.rstrip("/") + ("" if inside == "." else f"/{inside}"), localizer.digest


def sources_of(
    arguments: Sequence[str],
    lists: Sequence[str],
    exists: Callable[[str], bool],
    out: str | None = None,
) -> tuple[list[worker.Source], str]:
    """The sources that a command line names, and the folder that names of images are relative to.

    Arguments are paths, patterns, and URLs of a file system that Beam knows; folders are not walked
    through. `exists` says whether there is a file by a name or pattern. DataError if there is
    nothing under a name, or it is `out`, the folder or URL for the answers.
    """
    local_out = None if out is None or "://" in out else out
    found: list[tuple[worker.Source, str]] = []
    for given in arguments:
        if "://" in given:
            found.append(_remote(given, exists))
        else:
            folder = Inputs([given], local_out).root
            found.append((("local", os.path.abspath(given)), folder))
    for given in lists:
        path = given if "://" in given else os.path.abspath(given)
        if not exists(path):
            raise DataError(f"{given} does not exist; give --list a text file of one path a line.")
        found.append((("list", path), worker.folder_of(path)))
    if not found:
        raise DataError("no images are named; give files, folders, patterns, or --list FILE.")
    return [source for source, _ in found], common_root([folder for _, folder in found])


def exists(path: str) -> bool:
    """Whether there is a file by a name or pattern, on any file system that Beam knows."""
    if "://" not in path and os.path.lexists(path):
        return True  # Its name may look like a pattern.
    try:
        return bool(FileSystems.match([path], limits=[1])[0].metadata_list)
    except (BeamIOError, ValueError, OSError) as error:
        raise DataError(f"{path} cannot be looked up ({first_line(error)}).") from error


ANSWERS_PREFIX, FAILURES_PREFIX, ENDING = "predictions", "failures", ".jsonl"
COUNTS_FILE = "counts.json"

DIRECT = "DirectRunner"

# Under the name DirectRunner Beam prefers another one, Prism, which it downloads. Prism does not
# take the first option, and the present version as its value changes nothing else.
_DIRECT_DEFAULTS = (
    f"--update_compatibility_version={beam.__version__}",
    "--default_sdk_harness_log_level=ERROR",
)


def build(
    pipeline: beam.Pipeline,
    sources: Sequence[worker.Source],
    handler: worker.LocalizerHandler,
    out: str,
    shards: int,
) -> None:
    """Adds all steps to a pipeline without any: from sources to shards in the folder or URL `out`.

    Paths are made distinct before they are answered about, so each has one record; this also
    spreads them over the workers. Lines are written by Beam's own sink: into a temporary folder,
    from where they are renamed when all are there. 0 `shards` leave their number to the runner.
    """
    out_folder = None if "://" in out else out
    found = (
        pipeline
        | "Sources" >> beam.Create(sources)
        | "Find" >> beam.ParDo(worker.Find(out_folder)).with_outputs(worker.LEFT_OUT, main="paths")
    )
    answered, failed = (
        found.paths
        | "Each once" >> beam.Distinct()
        | "Answer" >> RunInference(handler)
        | "Separate" >> beam.Partition(lambda record, _: int("reason" in record), 2)
    )
    for lines, prefix, count in ((answered, ANSWERS_PREFIX, shards), (failed, FAILURES_PREFIX, 1)):
        sink = beam.io.WriteToText(f"{out}/{prefix}", ENDING, num_shards=count)
        lines | f"Lines of {prefix}" >> beam.Map(json.dumps) | f"Write {prefix}" >> sink
    totals = [
        answered | "Answers" >> beam.combiners.Count.Globally() | _named("answered"),
        failed | "Failures" >> beam.combiners.Count.Globally() | _named("failed"),
        found[worker.LEFT_OUT] | "Others" >> beam.CombineGlobally(sum) | _named("left_out"),
    ]
    (
        totals
        | beam.Flatten()
        | beam.combiners.ToDict()
        | "As JSON" >> beam.Map(json.dumps)
        | "Write counts" >> beam.io.WriteToText(f"{out}/{COUNTS_FILE}", shard_name_template="")
    )


def options_of(runner: str, arguments: Sequence[str]) -> PipelineOptions:
    """The runner's own options, which from now on Beam's file systems go by as well.

    ClusterError if Beam cannot read the value of one, or the direct runner does not know one;
    others may know more than Beam.
    """
    defaults = _DIRECT_DEFAULTS if runner == DIRECT else ()
    options = PipelineOptions([*defaults, *arguments])
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), _quiet():
            known = set(options.get_all_options())
            unknown = set(options.get_all_options(retain_unknown_options=True)) - known
    except SystemExit as error:  # Beam reads them by argparse, which prints its whole usage.
        reason = output.getvalue().strip().rpartition("error: ")[2]
        raise ClusterError(f"the runner's options cannot be read: {reason}.") from error
    if unknown and runner == DIRECT:
        raise ClusterError(
            f"{DIRECT} has no option --{min(unknown)}; those of several workers are "
            "--direct_running_mode=multi_processing --direct_num_workers=N."
        )
    FileSystems.set_options(options)
    return options


def run(add_steps: Callable[[beam.Pipeline], None], runner: str, options: PipelineOptions) -> None:
    """Runs a pipeline to its end; ClusterError, with a file that holds the trace, if it fails."""
    try:
        with _quiet() if runner == DIRECT else contextlib.nullcontext():
            pipeline = beam.Pipeline(runner=runner, options=options)
            add_steps(pipeline)
            state = pipeline.run().wait_until_finish()
        if state != "DONE":
            raise RuntimeError(f"it ended as {state}, not as DONE")
    except Exception as error:
        with tempfile.NamedTemporaryFile(
            "w", prefix="loc-keras-runner-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            traceback.print_exc(file=log)
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ClusterError(
            f"{runner} could not finish ({last}); the whole trace is in {log.name}."
        ) from error


def _remote(given: str, exists: Callable[[str], bool]) -> tuple[worker.Source, str]:
    folder = given.rstrip("/")
    # First, since some file systems say of a folder that it is there like a file.
    if not has_magic(given) and exists(f"{folder}/**"):
        return ("folder", folder), folder
    if exists(given):
        return ("pattern", given), worker.folder_of(given)
    raise DataError(f"{given} matches no file; check the name, and that you may read it.")


def _refuse_answers(out: str) -> None:
    written = (f"{ANSWERS_PREFIX}*", f"{FAILURES_PREFIX}*", SETTINGS_FILE, COUNTS_FILE)
    if not any(exists(f"{out}/{name}") for name in written):
        return
    is_whole = exists(f"{out}/{SETTINGS_FILE}")
    what = "answers" if is_whole else "what a run that did not end has written"
    raise DataError(
        f"{out} holds {what}; a run on a runner is not continued, so give another folder to --out "
        "or delete that one."
    )


def _take_counts(out: str) -> dict[str, int]:
    """Reads and removes the numbers of images `answered` and `failed`, and of files `left_out`."""
    path = f"{out}/{COUNTS_FILE}"
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            counts: dict[str, int] = json.loads(file.read())
        FileSystems.delete([path])
    except (OSError, BeamIOError, ValueError) as error:
        raise ClusterError(f"{path} cannot be read ({first_line(error)}).") from error
    return counts


def _write_settings(out: str, settings: dict[str, Any]) -> None:
    text = json.dumps(settings, indent=1) + "\n"
    if "://" not in out:
        write_text(Path(out) / SETTINGS_FILE, text)
        return
    with FileSystems.create(f"{out}/{SETTINGS_FILE}") as file:
        file.write(text.encode())


def _print_counts(console: Console, out: str, counts: dict[str, int], seconds: float) -> None:
    failed, total = counts["failed"], counts["answered"] + counts["failed"]
    answers, failures = (f"{out}/{prefix}*{ENDING}" for prefix in (ANSWERS_PREFIX, FAILURES_PREFIX))
    print_failures(console, _failures(out), failed, failures)
    table = Table("", "", show_header=False)
    for column in table.columns:
        column.overflow = "fold"  # A path that is cut is of no use.
    rows = {
        "images": f"{total:,}",
        "answered": f"{counts['answered']:,}",
        "could not be read": f"{failed:,}",
        "left out, without an image's ending": f"{counts['left_out']:,}",
        "images/s, with the start": f"{total / seconds:.1f}",
        "answers": answers,
        "failures": failures,
    }
    for row in rows.items():
        table.add_row(*row)
    console.print(table)


def _failures(out: str) -> Iterator[dict[str, Any]]:
    for path in _shards(out, FAILURES_PREFIX):
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            yield from map(json.loads, file)


def _shards(out: str, prefix: str) -> list[str]:
    match = FileSystems.match([f"{out}/{prefix}*{ENDING}"])[0]
    return [file.path for file in match.metadata_list]


def _temporary_folders(out: str) -> set[str]:
    """Folders of shards that are not whole yet; of a folder on this machine alone."""
    if "://" in out or not os.path.isdir(out):
        return set()
    return {entry.path for entry in os.scandir(out) if entry.name.startswith("beam-temp-")}


@contextmanager
def _quiet() -> Iterator[None]:
    """Turns logging off: what Beam tells there, it raises as well, or is of no use to a user."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _named(name: str) -> beam.PTransform:
    return f"Name {name}" >> beam.Map(lambda count: (name, count))
