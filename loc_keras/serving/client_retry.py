"""Asks once more, after a while, where a server says that it is unavailable, and only there."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from loc_keras.errors import ServerUnavailableError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Backoff:
    """How often a server is asked, and how long is waited between.

    Attributes:
        tries: Number of times that it is asked, 1 or more.
        first_s: Longest wait after the first try, in seconds; it doubles with every try.
        longest_s: Longest wait after any, in seconds.
    """

    tries: int = 4
    first_s: float = 0.2
    longest_s: float = 5.0


def asked_again(
    ask: Callable[[], Answer],
    backoff: Backoff,
    *,
    sleep: Callable[[float], None] = time.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> Answer:
    """Calls `ask` until it answers.

    Waits are drawn evenly between nothing and `longest_wait` ("full jitter", Brooker 2015, AWS
    Architecture Blog), so that clients that were refused together do not come back together.

    Raises:
        ServerUnavailableError: If it raised that on every try. Any other error passes at once.
    """
    for done in range(1, backoff.tries):
        try:
            return ask()
        except ServerUnavailableError:
            sleep(uniform(0.0, longest_wait(backoff, done)))
    try:
        return ask()
    except ServerUnavailableError as error:
        if backoff.tries == 1:
            raise
        raise ServerUnavailableError(f"{error} It was asked {backoff.tries} times.") from error


def longest_wait(backoff: Backoff, done: int) -> float:
    """Upper end of the wait after `done` tries (1, 2, ...), in seconds."""
    # As a float: 2.0 ** 1100 would overflow.
    return (
        backoff.longest_s
        if done > 64
        else min(backoff.longest_s, backoff.first_s * 2 ** (done - 1))
    )
