"""The parts of a page: everything that users wrote is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from loc_keras.report.embedded import Picture
from loc_keras.report.page_style import CSS
from loc_keras.report.text import clean

_UNBROKEN = 20
"""Letters of a name that stay together."""


def page(title: str, body: Iterable[str], style: str = "") -> str:
    """A whole page that needs no other file.

    Args:
        title: Plain text.
        body: HTML.
        style: CSS beyond what all pages share.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # No script, no request: whatever a name smuggled in could not act.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{safe(title)}</title>\n<style>{CSS}{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def safe(text: str, longest: int = 300) -> str:
    """Text as HTML: one line, printable, escaped."""
    return escape(clean(text, longest), quote=True)


def card(number: int, words: str, *, kind: str = "") -> str:
    """A number with what it counts."""
    return f'<div class="card {kind}"><b>{number:,}</b><span>{safe(words)}</span></div>'


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Iterable[int] = (),
    *,
    named: bool = False,
) -> str:
    """A table, in a box of its own that scrolls where the screen is narrow.

    Args:
        heads: Plain text; all empty for a table without a head.
        rows: HTML of each cell.
        numeric: Columns that are set flush right.
        named: Whether the first cell of a row is its name.
    """
    right = set(numeric)
    style = [' class="n"' if number in right else "" for number in range(len(heads))]
    head = "".join(
        f'<th scope="col"{form}>{safe(one)}</th>' for one, form in zip(heads, style, strict=True)
    )
    head = f"<thead><tr>{head}</tr></thead>\n" if any(heads) else ""
    lines = []
    for row in rows:
        cells = [f"<td{form}>{one}</td>" for one, form in zip(row, style, strict=True)]
        if named:
            cells[0] = f'<th scope="row">{row[0]}</th>'
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table>\n{head}<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def figure(picture: Picture, caption: Sequence[str]) -> str:
    """A small picture with lines of plain text below it."""
    width, height = picture.size
    lines = "<br>".join(safe(line, 120) for line in caption)
    return (
        f'<figure><img src="{picture.uri}" width="{width}" height="{height}" alt="">'
        f"<figcaption>{lines}</figcaption></figure>"
    )


def chart(picture: Picture, words: str, scale: float = 0.75) -> str:
    """A chart with words for those who cannot see it.

    Args:
        picture: The chart.
        words: Plain text.
        scale: Length of a pixel of the chart on the page, in px of the page.
    """
    width = round(picture.size[0] * scale)
    return f'<img class="chart" src="{picture.uri}" width="{width}" alt="{safe(words, 1000)}">'


def name(text: str, longest: int = 120) -> str:
    """A name as HTML, kept apart so that one written from right to left turns nothing around."""
    words = [
        # A long word may break here and there, a short one never does.
        "<wbr>".join(escape(word[at : at + _UNBROKEN]) for at in range(0, len(word), _UNBROKEN))
        for word in clean(text, longest).split(" ")
    ]
    return f"<bdi>{' '.join(words)}</bdi>"


def gallery(figures: Iterable[str]) -> str:
    """Figures side by side."""
    return '<div class="gallery">\n' + "\n".join(figures) + "\n</div>"
