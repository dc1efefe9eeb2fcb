"""Text that fits: clean, measure, shorten and wrap words before they are drawn."""

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from loc_keras.report.style import FONT

ELLIPSIS = "…"


def clean(text: str, longest: int = 200) -> str:
    """One line of printable text: other characters are written as Python escapes them."""
    shown = "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Measure one line of text.

    Args:
        text: The line.
        size: Font size in points.
        weight: Font weight, for example `"bold"`.

    Returns:
        The advance width in points (1/72 inch).
    """
    if not text.strip():
        return 0.0
    font = FontProperties(family=FONT, weight=weight)
    path = TextPath((0, 0), text.replace("$", r"\$"), size=size, prop=font)
    return float(path.get_extents().x1)


def shorten(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Cut a text so that it fits, and say with an ellipsis that it was cut.

    Args:
        text: One line.
        width: The room in points.
        size: Font size in points.
        weight: Font weight.

    Returns:
        The text itself where it fits, else its longest beginning that does, with an ellipsis.
    """
    if text_width(text, size, weight) <= width:
        return text
    beginnings = [text[:end].rstrip(" ·,") + ELLIPSIS for end in range(len(text))]
    fitting = bisect_right(beginnings, width, key=lambda cut: text_width(cut, size, weight))
    return beginnings[max(fitting - 1, 0)]


def shorten_middle(text: str, width: float, size: float) -> str:
    """Cut a text in its middle so that it fits; of paths, both ends tell something.

    Args:
        text: One line.
        width: The room in points.
        size: Font size in points.

    Returns:
        The text itself where it fits, else its beginning, an ellipsis and its end.
    """
    if text_width(text, size) <= width:
        return text
    beginning = shorten(text, width / 2, size)
    end = shorten(text[::-1], width - text_width(beginning, size), size)[::-1]
    return beginning + end.removeprefix(ELLIPSIS)


def fill_lines(
    parts: Iterable[str], width: float, size: float, weight: str = "normal", joint: str = " · "
) -> list[str]:
    """Lay parts on as few lines as they need; a part is never split, only shortened.

    Args:
        parts: Texts in reading order.
        width: Room of a line in points.
        size: Font size in points.
        weight: Font weight.
        joint: What stands between two parts on one line.

    Returns:
        The lines.
    """
    lines: list[str] = []
    for part in parts:
        longer = lines[-1] + joint + part if lines else part
        if lines and text_width(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(shorten(part, width, size, weight))
    return lines


def wrap_words(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Wrap a sentence at its spaces.

    Args:
        text: The sentence.
        width: Room of a line in points.
        size: Font size in points.
        weight: Font weight.

    Returns:
        The lines; a single word wider than a line is shortened.
    """
    return fill_lines(text.split(), width, size, weight, joint=" ")
