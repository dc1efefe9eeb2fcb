"""What the command line of `predict` takes, its own words and those of a runner of Apache Beam."""

import argparse
import sys
from collections.abc import Sequence

from loc_keras.localizer.localizer import BATCH_SIZE, TOP_K

FORMATS = ("jsonl", "csv", "coco", "voc", "yolo")
PRINTED = ("jsonl", "csv")

MAX_BYTES = 64 << 20
"""Size of the largest file that workers of a runner read, unless told otherwise."""


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
    parser.add_argument(
        "--model", required=True, help="a run's folder, a .keras file, or an export"
    )
    parser.add_argument(
        "images", nargs="*", metavar="IMAGES", help="image files, folders, or patterns in quotes"
    )
    parser.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="text file of one path a line, relative to its own folder; may be repeated",
    )
    parser.add_argument("--out", help="folder for the answers; printed without it")
    parser.add_argument("--format", choices=FORMATS, help="of the answers; else jsonl")
    parser.add_argument("--draw", action="store_true", help="pictures with the boxes, into --out")
    parser.add_argument("--batch-size", type=count, default=BATCH_SIZE, metavar="N")
    parser.add_argument(
        "--top-k", type=count, default=TOP_K, metavar="K", help="classes told of each image"
    )
    group = parser.add_argument_group(
        "on a cluster",
        "by Apache Beam (requirements-beam.txt); options that are not named here go to the runner, "
        "written --name=value",
    )
    group.add_argument(
        "--runner", metavar="NAME", help="DirectRunner, FlinkRunner, SparkRunner, DataflowRunner"
    )
    group.add_argument(
        "--min-batch-size", type=count, metavar="N", help="Beam tries sizes from N to --batch-size"
    )
    group.add_argument(
        "--max-bytes", type=count, metavar="N", help=f"larger files fail; else {MAX_BYTES:,}"
    )
    group.add_argument(
        "--shards", type=count, metavar="N", help="files of answers; else its choice"
    )
    return parser


def _refuse_without_runner(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.runner_options:
        parser.error(f"unrecognized arguments: {' '.join(args.runner_options)}")
    for name in ("min_batch_size", "max_bytes", "shards"):
        if getattr(args, name) is not None:
            parser.error(f"--{name.replace('_', '-')} is for --runner; give that, too")
    if args.out is None and (args.draw or args.format not in (None, *PRINTED)):
        parser.error("--draw and the formats coco, voc and yolo write files: give --out")


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
