"""Ctrl-C and SIGTERM: wait for the end of the step, unless asked twice."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from loc_keras.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether somebody asked the run to stop.

    Args:
        how_to_resume: Told to who did, as a part of a sentence.
        together: Whether several processes stop together, when they have agreed to.

    Attributes:
        asked: Number of the signal that came to this process; None while none did.
    """

    def __init__(self, how_to_resume: str, *, together: bool = False) -> None:
        """Nobody asked yet."""
        self.how_to_resume = how_to_resume
        self.together = together
        self.asked: int | None = None
        self._agreed: int | None = None

    @property
    def due(self) -> int | None:
        """Number of the signal for which to leave now; None to go on."""
        return self._agreed if self.together else self.asked

    def agree(self, asked_somewhere: bool) -> None:
        """Notes what processes that stop together have agreed on; one may have no signal."""
        if asked_somewhere:
            self._agreed = signal.SIGTERM if self.asked is None else self.asked

    def leave(self, what_became: str) -> None:
        """Leaves if somebody asked.

        Raises:
            Interrupted: With what became of the work, and how to go on.
        """
        if self.due is not None:
            raise Interrupted(f"{what_became}; {self.how_to_resume}", self.due)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Only notes the first signal for a while; a second one, of any kind, ends at once.

        Outside of the main thread signals cannot be caught, and nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            raise Interrupted(f"stopped at once; {self.how_to_resume}", number)
        self.asked = number


@contextmanager
def resumable(how_to_resume: str) -> Iterator[None]:
    """Tells how to go on when Ctrl-C or SIGTERM comes where nothing has to be saved first.

    Raises:
        Interrupted: When a signal came.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"stopped; {how_to_resume}", number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
