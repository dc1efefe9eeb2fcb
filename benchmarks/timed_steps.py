"""The talk of a process that trains, and times its own steps when it is told to.

It says "ready", then answers each line of standard input, a number of seconds, by the images per
second that it trained on for so long. It needs no library: PyTorch's process has none of ours.
"""

import sys
import time
from collections.abc import Callable

WARM_UP = 2


def answer(step: Callable[[], None], batch: int) -> None:
    """Takes some steps that are not timed, then answers until the input ends.

    Args:
        step: Trains on a batch, and returns when it is done.
        batch: Images in it.
    """
    for _ in range(WARM_UP):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, steps, began = float(line), 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            step()
            steps += 1
        print(steps * batch / (time.perf_counter() - began), flush=True)
