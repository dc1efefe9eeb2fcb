"""Shows a trained model on a local page: drop an image or take one, see what is in it and where."""

import argparse
import math
import signal
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from loc_keras.cli.console import print_note, run_command
from loc_keras.data.image_header import without_image_warnings
from loc_keras.demo_page.guard import (
    ANY_HOST,
    MEGABYTE,
    Guard,
    Limits,
    address_of,
    keep_newest,
    listen,
    server_of,
    uploads_folder,
)
from loc_keras.demo_page.page import warm
from loc_keras.errors import DemoError
from loc_keras.localizer import Localizer
from loc_keras.localizer.localizer import TOP_K
from loc_keras.predict import count

HOST, PORT, MEGABYTES = "127.0.0.1", 7860, 20.0

_PORTS = 65_535


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and serves until Ctrl-C; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loc_keras.demo", description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="a run's folder, a .keras file, or an export")
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
    args = parser.parse_args(arguments)
    # Ended by `kill`, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with without_image_warnings():
        return run_command(partial(_show, args))


def _show(args: argparse.Namespace) -> int:
    if find_spec("gradio") is None:
        raise DemoError(
            "the page needs Gradio, which is not installed; install it by python -m pip install -r "
            "requirements-demo.txt."
        )
    console = Console(markup=False, stderr=True)
    if args.host in ANY_HOST and not args.allow_host:
        print_note(console, "others are let in by the names that --allow-host gives.")
    hosts = {args.host, *args.allow_host} - {*ANY_HOST}
    limits = Limits(file_bytes=round(args.max_megabytes * MEGABYTE), hosts=hosts)
    with listen(args.host, args.port) as listener, uploads_folder() as folder:
        localizer = Localizer.open(args.model)
        for note in localizer.notes:
            print_note(console, note)
        warm(localizer, args.top_k)

        # It reads the folder of uploads from the environment when it is imported.
        from loc_keras.demo_page.blocks import application, build_page

        page = application(build_page(localizer, limits, args.top_k), limits)
        print(f"{address_of(listener)} shows {args.model}; Ctrl-C ends it.", flush=True)
        guard = Guard(page, limits, partial(keep_newest, folder, limits.kept))
        server_of(guard, limits).run(sockets=[listener])
    return 0


def _port(text: str) -> int:
    value = int(text) if text.strip().isdecimal() else -1
    if not 0 <= value <= _PORTS:
        raise argparse.ArgumentTypeError(f"must be 0 to {_PORTS}, not {text!r}")
    return value


def _megabytes(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
