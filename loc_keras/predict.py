"""Says what is in images and where, with a trained model: a few, or millions of them."""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from loc_keras.atomic_file import write_text
from loc_keras.bulk.inputs import Inputs
from loc_keras.bulk.out_folder import FAILURES_FILE, Made, OutFolder
from loc_keras.bulk.run import Counts, Record, answer_into, answered
from loc_keras.bulk.sidecars import sidecars_of, yolo_classes
from loc_keras.bulk.tables import (
    COCO_FILE,
    CSV_FILE,
    csv_columns,
    csv_row,
    write_coco,
    write_csv,
)
from loc_keras.command_line import USER_ERROR, run_command
from loc_keras.data.image_header import without_image_warnings
from loc_keras.errors import ClusterError, DataError
from loc_keras.localizer import Localizer
from loc_keras.predict_arguments import MAX_BYTES, parse
from loc_keras.run_report import print_note

FEW = 40
"""Images up to which answers are printed as a table, where no format is asked for."""

_SHOWN_FAILURES = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and answers; gives the exit code, 2 where an image was bad."""
    args = parse(arguments, __doc__)
    if args.runner is not None:
        return run_command(partial(_answer_on_runner, args))
    work = partial(_print_answers if args.out is None else _write_answers, args)
    told = "stopped." if args.out is None else "stopped; the same command goes on from here."
    with without_image_warnings():
        return run_command(work, when_interrupted=told)


def _answer_on_runner(args: argparse.Namespace) -> int:
    if find_spec("apache_beam") is None:
        raise ClusterError(
            "--runner needs Apache Beam: python -m pip install -r requirements-beam.txt."
        )
    from loc_keras.beam.quiet import without_warnings

    with without_warnings():  # Beam warns of what it does without.
        from loc_keras.beam.command import Request, answer_on_runner

    request = Request(
        model=args.model,
        images=args.images,
        lists=args.list,
        out=args.out,
        runner=args.runner,
        options=args.runner_options,
        batch_sizes=(args.min_batch_size, args.batch_size),
        top_k=args.top_k,
        max_bytes=args.max_bytes or MAX_BYTES,
        shards=args.shards or 0,
    )
    return answer_on_runner(request, Console(markup=False, stderr=True))


def _write_answers(args: argparse.Namespace) -> int:
    console = Console(markup=False, stderr=True)
    folder = Path(args.out)
    inputs = Inputs(args.images, folder, args.list)
    total = _count_of(inputs)
    localizer = _load(args.model, console)
    form = args.format or "jsonl"
    classes, background = localizer.class_names, localizer.background
    sidecars = sidecars_of(form, draw=args.draw, class_names=classes, background=background)
    out = OutFolder(folder, Made(localizer.digest, args.top_k, inputs.root))
    try:
        if out.torn:
            print_note(console, "an unfinished line of an earlier call was cut off.")
        with _progress(console) as progress:
            bar = progress.add_task("images", total=total)
            counts = answer_into(
                out,
                localizer,
                inputs,
                sidecars,
                batch_size=args.batch_size,
                top_k=args.top_k,
                advance=partial(progress.advance, bar),
            )
        if form == "csv":
            write_csv(folder / CSV_FILE, out.answers, trust=localizer.trusted)
        if form == "coco":
            write_coco(folder / COCO_FILE, out.answers, classes)
        if form == "yolo":
            for name, text in yolo_classes(classes, background).items():
                write_text(folder / name, text)
        if counts.failed:
            _tell_failures(console, out, counts)
    finally:
        out.close()
    words = f"{counts.answered:,} answered, {counts.failed:,} could not be read"
    words += f", {counts.before:,} of them in earlier calls" if counts.before else ""
    _say(console, f"{words}; written to {folder}")
    _tell_left_out(console, inputs)
    return USER_ERROR if counts.failed else 0


def _print_answers(args: argparse.Namespace) -> int:
    errors, console = Console(markup=False, stderr=True), Console(markup=False)
    inputs = Inputs(args.images, lists=args.list)
    total = _count_of(inputs)
    localizer = _load(args.model, errors)
    root = inputs.root
    records = answered(
        localizer,
        inputs,
        lambda path: str(Path(path).relative_to(root)),
        batch_size=args.batch_size,
        top_k=args.top_k,
    )
    as_table = args.format is None and total <= FEW
    table = Table(*(["image", "label", "score", "box (px)", "size"]))
    if localizer.trusted:
        table.add_column("box right")
    rows = csv.DictWriter(sys.stdout, csv_columns(trust=localizer.trusted), lineterminator="\n")
    if args.format == "csv":
        rows.writeheader()
    failed = 0
    for record, is_answer in records:
        if not is_answer:
            failed += 1
            _say(errors, f"{record['path']} {record['reason']}")
        elif as_table:
            table.add_row(*_cells(record, trust=localizer.trusted))
        elif args.format == "csv":
            rows.writerow(csv_row(record, trust=localizer.trusted))
        else:
            print(json.dumps(record))
    if as_table and table.row_count:
        console.print(table)
    if failed:
        _say(errors, f"{failed:,} of {total:,} could not be read")
    _tell_left_out(errors, inputs)
    return USER_ERROR if failed else 0


def _load(path: str, console: Console) -> Localizer:
    localizer = Localizer.open(path)
    for note in localizer.notes:
        print_note(console, note)
    return localizer


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
        sure = record["p_iou50"]
        cells.append("" if sure is None else f"{100 * sure:.0f} %")
    return cells


def _tell_failures(console: Console, out: OutFolder, counts: Counts) -> None:
    asked = (record for record in out.failures if record["path"] in counts.named)
    for number, record in enumerate(asked):
        if number == _SHOWN_FAILURES:
            more = counts.failed - number
            _say(console, f"... and {more:,} more in {out.folder / FAILURES_FILE}")
            return
        _say(console, f"{record['path']} {record['reason']}")


def _tell_left_out(console: Console, inputs: Inputs) -> None:
    for named in inputs.barren:
        _say(console, f"{named} holds no image")
    if inputs.left_out:
        _say(console, f"{inputs.left_out:,} files without an image's ending were left out")


def _say(console: Console, words: str) -> None:
    console.print(words, highlight=False, soft_wrap=True)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TaskProgressColumn(), TimeRemainingColumn(), console=console)


if __name__ == "__main__":
    sys.exit(main())
