"""What `predict` does: open a model, answer for images, print or write."""

import argparse
import json
import logging
import sys
from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from PIL.Image import Image
from rich.console import Console
from rich.progress import TaskProgressColumn, TimeRemainingColumn
from rich.table import Table

from loc_keras.atomic_file import own_files, refuse_foreign
from loc_keras.bulk.inputs import Inputs
from loc_keras.bulk.outputs import (
    FAILURES_FILE,
    FORMATS,
    AnswerSettings,
    CsvWriter,
    OutputFolder,
    place_of,
    sidecars_of,
)
from loc_keras.bulk.run import Record, answer_into, answered
from loc_keras.cli.console import USER_ERROR, print_line, print_note, progress_bar
from loc_keras.data.files import MOST_BYTES
from loc_keras.data.image_header import without_image_warnings
from loc_keras.errors import ClusterError, DataError
from loc_keras.localizer.answers import TENSORFLOW
from loc_keras.localizer.localizer import Localizer

FEW = 40
"""Images up to which answers are printed as a table, where no format is asked for."""

_SHOWN_FAILURES = 5


def run(args: argparse.Namespace) -> int:
    """Answers for all images; gives the exit code, 2 where one was bad."""
    if args.runner is not None:
        return _answer_on_runner(args)
    with without_image_warnings():
        return _print_answers(args) if args.out is None else _write_answers(args)


def open_model(path: str | Path, console: Console, *, fastest: bool = True) -> Localizer:
    """Opens a model as `Localizer.open` does, and says what was not known and what answers."""
    localizer = Localizer.open(path, fastest=fastest)
    if localizer.runtime != TENSORFLOW:
        print_line(console, f"{localizer.runtime} answers, from {localizer.path}")
    for note in localizer.notes:
        print_note(console, note)
    return localizer


def _answer_on_runner(args: argparse.Namespace) -> int:
    if find_spec("apache_beam") is None:
        raise ClusterError(
            "--runner needs Apache Beam: python -m pip install -r requirements-beam.txt."
        )
    logging.getLogger("apache_beam").setLevel(logging.ERROR)  # It warns of absent extras.
    from loc_keras.beam.command import answer_on_runner

    return answer_on_runner(args, Console(markup=False, stderr=True))


def _write_answers(args: argparse.Namespace) -> int:
    console = Console(markup=False, stderr=True)
    folder = Path(args.out)
    inputs = Inputs(args.images, folder, args.list)
    total = _count_of(inputs)
    form = args.format or "jsonl"

    def explain(image: str) -> Image:
        return localizer.explain(image)

    # What is refused is told before a model is opened, which takes seconds.
    sidecars = sidecars_of(form, draw=args.draw, explain=explain if args.explain else None)
    place = place_of(folder, form, sidecars)
    refuse_foreign(*place)
    localizer = open_model(args.model, console, fastest=not args.explain)
    FORMATS[form].refuse(localizer.class_names)
    out = OutputFolder(folder, AnswerSettings(localizer.digest, args.top_k, inputs.root))
    try:
        if out.torn:
            print_note(console, "an unfinished line of an earlier call was cut off.")
        columns = (TaskProgressColumn(), TimeRemainingColumn())
        with own_files(*place):
            with progress_bar(*columns, console=console) as progress:
                bar = progress.add_task("images", total=total)
                counts = answer_into(
                    out,
                    localizer,
                    inputs,
                    sidecars,
                    **_settings(args),
                    advance=partial(progress.advance, bar),
                )
            FORMATS[form].finish(folder, out.answers, localizer)
        if counts.failed:
            named = (record for record in out.failures if record["path"] in counts.named)
            print_failures(console, named, counts.failed, folder / FAILURES_FILE)
    finally:
        out.close()
    earlier = f", {counts.before:,} of them in earlier calls" if counts.before else ""
    print_line(
        console,
        f"{counts.answered:,} answered, {counts.failed:,} could not be read{earlier}; written to "
        f"{folder}",
    )
    _print_left_out(console, inputs)
    return USER_ERROR if counts.failed else 0


def _print_answers(args: argparse.Namespace) -> int:
    errors, console = Console(markup=False, stderr=True), Console(markup=False)
    inputs = Inputs(args.images, lists=args.list)
    total = _count_of(inputs)
    localizer = open_model(args.model, errors)
    records = answered(localizer, inputs, inputs.root, **_settings(args))
    as_table = args.format is None and total <= FEW
    table = Table("image", "label", "score", "box (px)", "size")
    if localizer.trusted:
        table.add_column("box right")
    if localizer.tells_novelty:
        table.add_column("known")
    rows = CsvWriter(sys.stdout, localizer) if args.format == "csv" else None
    failed = 0
    for record in records:
        if "reason" in record:
            failed += 1
            print_line(errors, f"{record['path']} {record['reason']}")
        elif as_table:
            table.add_row(*_cells(record, trust=localizer.trusted))
        elif rows is not None:
            rows.write(record)
        else:
            print(json.dumps(record))
    if as_table and table.row_count:
        console.print(table)
    if failed:
        print_line(errors, f"{failed:,} of {total:,} could not be read")
    _print_left_out(errors, inputs)
    return USER_ERROR if failed else 0


def _settings(args: argparse.Namespace) -> dict[str, int]:
    largest = args.max_bytes or MOST_BYTES
    return {"batch_size": args.batch_size, "top_k": args.top_k, "max_bytes": largest}


def _count_of(inputs: Inputs) -> int:
    total = sum(1 for _ in inputs)
    if not total:
        raise DataError(
            f"there is no image in {', '.join(inputs.barren)}; name files, folders or patterns."
        )
    return total


def _cells(record: Record, *, trust: bool) -> list[str]:
    box = "nothing found" if record["box"] is None else " ".join(f"{x:.1f}" for x in record["box"])
    cells = [record["image"], record["label"], f"{100 * record['score']:.1f} %", box]
    cells.append(f"{record['width']} x {record['height']}")
    if trust:
        chance = record["p_iou50"]
        cells.append("" if chance is None else f"{100 * chance:.0f} %")
    if "known" in record:
        cells.append("yes" if record["known"] else "no")
    return cells


def print_failures(
    console: Console, failures: Iterable[Record], count: int, place: str | Path
) -> None:
    """Says of the first few of so many images why they could not be read, and where all are."""
    for record in islice(failures, _SHOWN_FAILURES):
        print_line(console, f"{record['path']} {record['reason']}")
    if count > _SHOWN_FAILURES:
        print_line(console, f"... and {count - _SHOWN_FAILURES:,} more in {place}")


def _print_left_out(console: Console, inputs: Inputs) -> None:
    for named in inputs.barren:
        print_line(console, f"{named} holds no image")
    if inputs.left_out:
        print_line(console, f"{inputs.left_out:,} files without an image's ending were left out")
