"""What all commands share: errors, exit codes, and what they print."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

from loc_keras.errors import Interrupted, LocKerasError

USER_ERROR = LocKerasError.code
INTERRUPTED = 130
SIGNALLED = 128
"""Exit codes of programs that a signal ended are this plus its number."""
UNREAD = SIGNALLED + 13
"""As of a program that SIGPIPE ended."""


def add_set(parser: argparse.ArgumentParser) -> None:
    """Adds `--set SECTION.KEY=VALUE`, which changes settings of the config."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting, for example data.source.path; may be repeated",
    )


def run_command(command: Callable[[], int], *, when_interrupted: str = "stopped.") -> int:
    """Runs a command and gives its exit code.

    A `LocKerasError`, and a file that the system cannot open or make, become one sentence on stderr
    and code 2 (or the error's own), Ctrl-C becomes the sentence `when_interrupted` and code 130, an
    `Interrupted` its own message and 128 plus the signal; where nobody reads what is printed any
    more, as behind `| head`, the end is silent, with the code of SIGPIPE. Anything else is a fault
    of ours and keeps its trace.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return _nobody_reads()
    except SystemExit as leave:
        if isinstance(leave.__context__, BrokenPipeError):  # Rich's way to end then.
            return _nobody_reads()
        raise
    except LocKerasError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        if error.filename is None:  # No file that the user could correct.
            raise
        print(f"error: {error.filename}: {error.strerror}.", file=sys.stderr)
        return USER_ERROR
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return SIGNALLED + stop.signal
    except KeyboardInterrupt:
        print(when_interrupted, file=sys.stderr)
        return INTERRUPTED


def _nobody_reads() -> int:
    """Sends nowhere what is still to be written, or Python would complain at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return UNREAD


def print_line(console: Console, text: str) -> None:
    """Prints a text as it is, so that paths in it stay whole."""
    console.print(text, highlight=False, soft_wrap=True)


def print_note(console: Console, sentence: str | None) -> None:
    """Prints something the user should know, if there is something."""
    if sentence:
        print_line(console, f"note: {sentence}")


def progress_bar(
    *more: ProgressColumn, console: Console | None = None, transient: bool = False
) -> Progress:
    """Bars with a description and counts.

    Args:
        more: Columns behind the counts.
        console: Where to draw; None for stderr.
        transient: Whether they vanish at the end.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, *more, console=console or Console(stderr=True), transient=transient)
