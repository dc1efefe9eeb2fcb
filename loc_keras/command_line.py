"""What all commands share: how a user's mistake is told, and how a command ends."""

import sys
from collections.abc import Callable

from loc_keras.errors import LocKerasError

USER_ERROR = 2
INTERRUPTED = 130


def run_command(command: Callable[[], int], *, when_interrupted: str = "stopped.") -> int:
    """Runs a command and gives its exit code.

    A `LocKerasError` becomes its message on stderr and code 2, Ctrl-C becomes the sentence
    `when_interrupted` and code 130; anything else is a fault of ours and keeps its trace.
    """
    try:
        return command()
    except LocKerasError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(when_interrupted, file=sys.stderr)
        return INTERRUPTED
