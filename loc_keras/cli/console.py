"""What all commands share: errors, exit codes, and what they print."""

import argparse
import contextlib
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from loc_keras._environ import STARTED
from loc_keras.cli.options import CONSOLE_SCRIPT
from loc_keras.errors import Interrupted, LocKerasError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

USER_ERROR = LocKerasError.code
INTERRUPTED = 130
SIGNALLED = 128
"""Exit codes of programs that a signal ended are this plus its number."""
UNREAD = SIGNALLED + 13
"""As of a program that SIGPIPE ended."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PATIENCE_SECONDS = 1.8
_AT_WORK = 0.1  # Share of one core that a process takes which is still saving.


def run_work(
    name: str, args: argparse.Namespace, *, when_interrupted: str = "stopped.", waits: bool = False
) -> int:
    """Imports what a command does, which takes seconds, and runs it as `run_command` does."""
    return run_command(
        lambda: int(import_module(f"loc_keras.commands.{name}").run(args)),
        when_interrupted=when_interrupted,
        waits=waits,
    )


def is_program() -> bool:
    """Whether this process is one of our commands and nothing else."""
    package = getattr(sys.modules["__main__"], "__package__", None)
    return package == "loc_keras" or Path(sys.argv[0]).stem == CONSOLE_SCRIPT


def command_began() -> float:
    """When the command began, by `time.monotonic`: with the process, where that is its own."""
    return STARTED if is_program() else time.monotonic()


def run_command(
    command: Callable[[], int], *, when_interrupted: str = "stopped.", waits: bool = False
) -> int:
    """Runs a command and gives its exit code.

    A `LocKerasError`, and a file that the system cannot open or make, become one sentence on stderr
    and code 2 (or the error's own), Ctrl-C becomes the sentence `when_interrupted` and code 130, an
    `Interrupted` its own message and 128 plus the signal; where nobody reads what is printed any
    more, as behind `| head`, the end is silent, with the code of SIGPIPE. Anything else is a fault
    of ours and keeps its trace.

    A program, and all that it started, is ended 2 s after Ctrl-C at the latest, whatever it waits
    for; one that handles Ctrl-C and `waits` for other processes meanwhile, after the second.
    """
    at_once = is_program() and sys.platform != "win32"
    if at_once:
        _end_in_time(when_interrupted, waits)
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
        if error.filename is None and error.errno not in _NO_ROOM:
            raise  # There is nothing that the user could correct.
        where = "a file" if error.filename is None else error.filename
        print(f"error: {where}: {error.strerror}.", file=sys.stderr)
        return USER_ERROR
    except Interrupted as stop:
        print(stop, file=sys.stderr, flush=True)
        code = SIGNALLED + stop.signal
        if at_once and waits:  # Those that work together part together, unless it comes again.
            signal.signal(signal.SIGINT, lambda *_: None)
            at_once = False
    except KeyboardInterrupt:
        print(when_interrupted, file=sys.stderr, flush=True)
        code = INTERRUPTED
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if at_once:  # Python would wait for all threads, and TensorFlow would tidy up.
        _leave(code)
    return code


def _end_in_time(sentence: str, waits: bool = False) -> None:
    """Sees to it that this process ends soon after Ctrl-C; see `run_command`.

    Python heeds a signal between two of its steps alone, and pools wait for their threads: a file
    that does not answer would keep it for ever. What the system calls at a signal writes to a pipe
    at once. Who handles the signal himself, to save something, has time as long as the process is
    at work. An interrupt in a callback of garbage collection, raised nowhere, is no news then.
    """
    unraisable = sys.unraisablehook

    def tell(event: "sys.UnraisableHookArgs") -> None:
        if not issubclass(event.exc_type, KeyboardInterrupt):
            unraisable(event)

    sys.unraisablehook = tell
    # That of the process is held back while TensorFlow is imported.
    stderr = os.dup(sys.stderr.fileno())
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def end(at_work: bool) -> None:
        while True:
            used = time.process_time()
            time.sleep(_PATIENCE_SECONDS)
            share = (time.process_time() - used) / _PATIENCE_SECONDS
            handled = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            if not (at_work and handled and (waits or share > _AT_WORK)):
                break
        over_live_line = "\r\x1b[K" if os.isatty(stderr) else ""
        os.write(stderr, f"{over_live_line}{sentence}\n".encode())
        _leave(INTERRUPTED)

    def wait() -> None:
        first = True
        while True:
            if os.read(reading, 1)[0] == signal.SIGINT:
                threading.Thread(target=end, args=(first,), daemon=True).start()
                first = False

    threading.Thread(target=wait, daemon=True).start()


def _leave(code: int) -> NoReturn:
    """Ends this process and, where Linux says which they are, those that it started."""

    def end_those_of(process: str) -> None:
        for file in Path("/proc", process, "task").glob("*/children"):
            with contextlib.suppress(OSError):  # They may end meanwhile.
                for number in file.read_text().split():
                    end_those_of(number)
                    os.kill(int(number), signal.SIGKILL)

    end_those_of("self")
    os._exit(code)


def _nobody_reads() -> int:
    """Sends nowhere what is still to be written, or Python would complain at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return UNREAD


def print_line(console: "Console", text: str) -> None:
    """Prints a text as it is, so that paths in it stay whole."""
    console.print(text, highlight=False, soft_wrap=True)


def print_note(console: "Console", sentence: str | None) -> None:
    """Prints something the user should know, if there is something."""
    if sentence:
        print_line(console, f"note: {sentence}")


def progress_bar(
    *more: "ProgressColumn", console: "Console | None" = None, transient: bool = False
) -> "Progress":
    """Bars with a description, counts and more columns; on stderr where no console is given."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, *more, console=console or Console(stderr=True), transient=transient)
