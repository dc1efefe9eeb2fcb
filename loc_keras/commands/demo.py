"""What `demo` does: open a model and serve its page on this machine."""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from loc_keras.cli.console import print_note
from loc_keras.commands.predict import open_model
from loc_keras.demo_page.guard import (
    ANY_HOST,
    MEGABYTE,
    Guard,
    Limits,
    address_of,
    listen,
    server_of,
)
from loc_keras.demo_page.page import application, build_page, warm
from loc_keras.errors import DemoError

FOLDER_VARIABLE = "GRADIO_TEMP_DIR"
"""Environment variable that names Gradio's folder of uploads, read when Gradio is imported."""


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


@contextmanager
def uploads_folder() -> Iterator[Path]:
    """A fresh folder, named in `FOLDER_VARIABLE`; it is removed at the end, with all within it."""
    before = os.environ.get(FOLDER_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="loc_keras-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        os.environ[FOLDER_VARIABLE] = str(folder)
        try:
            yield folder
        finally:
            if before is None:
                del os.environ[FOLDER_VARIABLE]
            else:
                os.environ[FOLDER_VARIABLE] = before


def keep_newest(folder: Path, count: int) -> None:
    """Removes all but the newest uploads, each a folder of its own or a file still arriving."""
    dated = []
    for entry in os.scandir(folder):
        try:
            dated.append((entry.stat().st_mtime_ns, entry.path))
        except FileNotFoundError:  # Its upload was moved to its place meanwhile.
            continue
    for _, path in sorted(dated, reverse=True)[count:]:
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink(missing_ok=True)
