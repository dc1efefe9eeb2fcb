"""What `demo` does: open a model and serve its page on this machine."""

import argparse
from functools import partial
from importlib.util import find_spec

from rich.console import Console

from loc_keras.cli.console import print_note
from loc_keras.commands.predict import open_model
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
from loc_keras.demo_page.page import application, build_page, warm
from loc_keras.errors import DemoError


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C; gives the exit code."""
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
        localizer = open_model(args.model, console)
        warm(localizer, args.top_k)
        # Gradio is imported here: it reads the folder of uploads from the environment.
        page = application(build_page(localizer, args.model, limits, args.top_k), limits)
        print(f"{address_of(listener)} shows {args.model}; Ctrl-C ends it.", flush=True)
        guard = Guard(page, limits, partial(keep_newest, folder, limits.kept))
        server_of(guard, limits).run(sockets=[listener])
    return 0
