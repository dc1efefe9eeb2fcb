"""A terminal without a screen: what a command draws on it, read back as text."""

import io
from collections.abc import Callable

import pyte
from rich.console import Console


def terminal(width: int, lines: int = 40) -> tuple[Console, Callable[[], pyte.Screen]]:
    """A console that is a terminal of so many columns, and what gives its screen as it is now."""
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=True, width=width, markup=False, color_system="standard"
    )
    screen = pyte.Screen(width, lines)
    stream = pyte.Stream(screen)

    def drawn() -> pyte.Screen:
        stream.feed(file.getvalue().replace("\n", "\r\n"))
        file.seek(0)
        file.truncate()
        return screen

    return console, drawn


def shown(screen: pyte.Screen) -> list[str]:
    """The lines of a screen that are not empty."""
    return [line.rstrip() for line in screen.display if line.strip()]
