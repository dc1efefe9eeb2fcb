"""Shows a trained model on a local page: drop an image or take one, see what is in it and where."""

import math
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence

from loc_keras.atomic_file import followed
from loc_keras.cli.console import run_work
from loc_keras.cli.options import TOP_K, command_parser, count

EXAMPLES = ("--model RUN_DIR", "--model RUN_DIR --host 0.0.0.0 --allow-host NAME")
PAGE = "predict.md"

HOST, PORT, MEGABYTES = "127.0.0.1", 7860, 20.0

_PORTS = 65_535


def build_parser() -> ArgumentParser:
    """The parser of the command line."""
    parser = command_parser("demo", __doc__, EXAMPLES, PAGE)
    add = parser.add_argument
    add("--model", type=followed, required=True, help="a run's folder, a .keras file, or an export")
    add("--host", default=HOST, help="0.0.0.0 for all who reach this machine; else it alone")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name or number by which others reach this machine; may be repeated",
    )
    add("--port", type=_port, default=PORT, help=f"{PORT} by default, 0 for any")
    of_file = "of one image file"
    add("--max-megabytes", type=_megabytes, default=MEGABYTES, metavar="N", help=of_file)
    add("--top-k", type=count, default=TOP_K, metavar="K", help="classes shown of each image")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and serves until Ctrl-C; gives the exit code."""
    args = build_parser().parse_args(arguments)
    # Ended by `kill`, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run_work("demo", args)


def _port(text: str) -> int:
    value = int(text) if text.strip().isdecimal() else -1
    if not 0 <= value <= _PORTS:
        raise ArgumentTypeError(f"must be 0 to {_PORTS}, not {text!r}")
    return value


def _megabytes(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise ArgumentTypeError("must be above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
