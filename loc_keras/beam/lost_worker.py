"""Notices when a worker of the direct runner is gone, which the runner itself may wait for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 15.0
"""Seconds in which the runner may find out by itself; it does where data were on their way."""

_THREAD = "run_worker"
"""Name of Beam's threads that wait for the process of a worker, and raise when it ends badly."""


class LostWorkerError(Exception):
    """A worker's process has ended before its work."""


@contextmanager
def lost_worker_ends_it(grace: float = GRACE) -> Iterator[None]:
    """Raises in the main thread, some time after a worker was lost, if it is still in there.

    Without signals, or in another thread, nothing is watched.

    Args:
        grace: Seconds.

    Raises:
        LostWorkerError: Then.
    """
    number = getattr(signal, "SIGUSR1", None)
    main = threading.main_thread()
    if number is None or threading.current_thread() is not main:
        yield
        return
    timers: list[threading.Timer] = []
    before = threading.excepthook

    def ended(told: threading.ExceptHookArgs) -> None:
        before(told)
        if told.thread is not None and told.thread.name == _THREAD:
            # To this thread, since it sleeps in a lock that only a signal of its own ends.
            timer = threading.Timer(grace, signal.pthread_kill, (main.ident, number))
            timer.daemon = True
            timers.append(timer)
            timer.start()

    def stop(_: int, __: FrameType | None) -> None:
        raise LostWorkerError("a worker's process has ended")

    handler = signal.signal(number, stop)
    threading.excepthook = ended
    try:
        yield
    finally:
        threading.excepthook = before
        for timer in timers:
            timer.cancel()
        for timer in timers:  # One may have been about to send.
            timer.join()
        signal.signal(number, handler)
