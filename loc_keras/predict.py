"""Says what is in images and where, with a trained model: a few, or millions of them."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import TaskProgressColumn, TimeRemainingColumn
from rich.table import Table

from loc_keras.atomic_file import own_files, refuse_foreign
from loc_keras.bulk.inputs import MAX_BYTES, Inputs
from loc_keras.bulk.outputs import (
    FAILURES_FILE,
    FORMATS,
    AnswerSettings,
    CsvWriter,
    OutputFolder,
    place_of,
    sidecars_of,
)
from loc_keras.bulk.run import Counts, Record, answer_into, answered
from loc_keras.cli.console import USER_ERROR, print_line, print_note, progress_bar, run_command
from loc_keras.data.files import MOST_BYTES
from loc_keras.data.image_header import without_image_warnings
from loc_keras.errors import ClusterError, DataError
from loc_keras.localizer import Localizer
from loc_keras.localizer.localizer import BATCH_SIZE, TOP_K

FEW = 40
"""Images up to which answers are printed as a table, where no format is asked for."""

_SHOWN_FAILURES = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and answers; gives the exit code, 2 where an image was bad."""
    args = parse(arguments, __doc__)
    if args.runner is not None:
        return run_command(partial(_answer_on_runner, args), waits=True)
    command = partial(_print_answers if args.out is None else _write_answers, args)
    ending = "stopped." if args.out is None else "stopped; the same command goes on from here."
    with without_image_warnings():
        return run_command(command, when_interrupted=ending)


def parse(arguments: Sequence[str] | None, description: str | None) -> argparse.Namespace:
    """Reads a command line; a wrong one ends the process with code 2.

    Returns:
        The values by name, with the runner's own options as `runner_options`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(description)
    args, others = parser.parse_known_args(given)
    args.runner_options = others
    if args.runner is None:
        _refuse_without_runner(parser, args)
    else:
        _refuse_with_runner(parser, args, given)
    if not (args.images or args.list):
        parser.error("name images: files, folders, patterns in quotes, or --list FILE")
    return args


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loc_keras.predict", description=description, allow_abbrev=False
    )
    add = parser.add_argument
    add("--model", required=True, help="a run's folder, a .keras file, or an export")
    add("images", nargs="*", metavar="IMAGES", help="image files, folders, or patterns in quotes")
    add(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="text file of one path a line, relative to its own folder; may be repeated",
    )
    add("--out", help="folder for the answers; printed without it")
    add("--format", choices=FORMATS, help="of the answers; else jsonl")
    add("--draw", action="store_true", help="pictures with the boxes, into --out")
    add("--batch-size", type=count, default=BATCH_SIZE, metavar="N")
    add("--top-k", type=count, default=TOP_K, metavar="K", help="classes in each answer")
    add(
        "--max-bytes",
        type=count,
        metavar="N",
        help=f"larger files fail; else {MOST_BYTES:,}, with --runner {MAX_BYTES:,}",
    )
    add = parser.add_argument_group(
        "on a cluster",
        "by Apache Beam (requirements-beam.txt); options that are not named here go to the runner, "
        "written --name=value. DirectRunner repeats nothing: when one of its worker processes is "
        "killed it ends with an error, or waits for ever; stop it then and begin again",
    ).add_argument
    add("--runner", metavar="NAME", help="DirectRunner, FlinkRunner, SparkRunner, DataflowRunner")
    tried = "Beam tries sizes from N to --batch-size"
    add("--min-batch-size", type=count, metavar="N", help=tried)
    add("--shards", type=count, metavar="N", help="files of answers; else its choice")
    return parser


def _refuse_without_runner(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.runner_options:
        parser.error(f"unrecognized arguments: {' '.join(args.runner_options)}")
    for name in ("min_batch_size", "shards"):
        if getattr(args, name) is not None:
            parser.error(f"--{name.replace('_', '-')} is for --runner; give that, too")
    if args.out is None and (args.draw or (args.format and not FORMATS[args.format].printed)):
        files = [name for name, form in FORMATS.items() if not form.printed]
        parser.error(f"--draw and the formats {', '.join(files)} write files: give --out")


def _refuse_with_runner(
    parser: argparse.ArgumentParser, args: argparse.Namespace, given: Sequence[str]
) -> None:
    if args.out is None:
        parser.error("the workers of a runner write files: give --out")
    if args.draw or args.format not in (None, "jsonl"):
        parser.error("a runner writes JSON lines alone: leave --draw and --format out")
    args.min_batch_size = args.min_batch_size or 1
    if args.min_batch_size > args.batch_size:
        parser.error("--min-batch-size is larger than --batch-size")
    for name in args.runner_options:
        following = given[given.index(name) + 1 :][:1]
        if not name.startswith("--"):
            parser.error(f"{name} is no option; those of the runner are written --name=value")
        # Whether the next word is its value or an image cannot be known.
        if "=" not in name and following and not following[0].startswith("-"):
            parser.error(
                f"{name} is the runner's: write {name}=VALUE, or put it last if it has none"
            )


def count(text: str) -> int:
    """A whole number of at least 1, as argparse takes it."""
    value = int(text) if text.strip().isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, a whole number, not {text!r}")
    return value


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
    sidecars = sidecars_of(form, draw=args.draw)
    place = place_of(folder, form, sidecars)
    refuse_foreign(*place)
    localizer = _load(args.model, console)
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
            _print_failures(console, out, counts)
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
    localizer = _load(args.model, errors)
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
        chance = record["p_iou50"]
        cells.append("" if chance is None else f"{100 * chance:.0f} %")
    if "known" in record:
        cells.append("yes" if record["known"] else "no")
    return cells


def _print_failures(console: Console, out: OutputFolder, counts: Counts) -> None:
    named = (record for record in out.failures if record["path"] in counts.named)
    for number, record in enumerate(named):
        if number == _SHOWN_FAILURES:
            more = counts.failed - number
            print_line(console, f"... and {more:,} more in {out.folder / FAILURES_FILE}")
            return
        print_line(console, f"{record['path']} {record['reason']}")


def _print_left_out(console: Console, inputs: Inputs) -> None:
    for named in inputs.barren:
        print_line(console, f"{named} holds no image")
    if inputs.left_out:
        print_line(console, f"{inputs.left_out:,} files without an image's ending were left out")


if __name__ == "__main__":
    sys.exit(main())
