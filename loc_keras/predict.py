"""Says what is in images and where, with a trained model: a few, or millions of them."""

import argparse
import sys
from collections.abc import Sequence

from loc_keras.cli.console import run_work
from loc_keras.cli.options import BATCH_SIZE, TOP_K, command_parser, count

EXAMPLES = ("--model RUN_DIR IMAGE", "--model RUN_DIR FOLDER --out answers --format coco --draw")
PAGE = "predict.md"

FORMATS = ("jsonl", "csv", "coco", "voc", "yolo")
"""The keys of `bulk.outputs.FORMATS`."""
PRINTED = ("jsonl", "csv")
"""Those that need no folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and answers; gives the exit code, 2 where an image was bad."""
    args = parse(arguments)
    ending = "stopped; the same command goes on from here." if args.out else "stopped."
    if args.runner is not None:
        ending = "stopped; the same command begins anew, and a cluster may go on with this one."
    return run_work("predict", args, when_interrupted=ending)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads a command line; a wrong one ends the process with code 2.

    Returns:
        The values by name, with the runner's own options as `runner_options`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    args, others = parser.parse_known_args(given)
    args.runner_options = others
    if args.runner is None:
        _refuse_without_runner(parser, args)
    else:
        _refuse_with_runner(parser, args, given)
    if not (args.images or args.list):
        parser.error("name images: files, folders, patterns in quotes, or --list FILE")
    return args


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("predict", __doc__, EXAMPLES, PAGE, abbrev=False)
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
    add("--explain", action="store_true", help="pictures of why, into --out; of runs")
    add("--batch-size", type=count, default=BATCH_SIZE, metavar="N")
    add("--top-k", type=count, default=TOP_K, metavar="K", help="classes in each answer")
    add(
        "--max-bytes",
        type=count,
        metavar="N",
        help="larger files fail; else 512 MiB, with --runner 64 MiB",
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
    if args.out is None and (args.draw or args.explain or args.format not in (None, *PRINTED)):
        files = [name for name in FORMATS if name not in PRINTED]
        parser.error(
            f"--draw, --explain and the formats {', '.join(files)} write files: give --out"
        )


def _refuse_with_runner(
    parser: argparse.ArgumentParser, args: argparse.Namespace, given: Sequence[str]
) -> None:
    if args.out is None:
        parser.error("the workers of a runner write files: give --out")
    if args.draw or args.explain or args.format not in (None, "jsonl"):
        parser.error("a runner writes JSON lines alone: leave --draw, --explain and --format out")
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


if __name__ == "__main__":
    sys.exit(main())
