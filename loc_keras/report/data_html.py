"""The parts of a page: everything that users wrote is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

from loc_keras.report.data_charts import clean
from loc_keras.report.data_thumbs import Thumb
from loc_keras.report.style import BLUE, FAINT, INK, MUTED, PAPER, WRONG_INK

_SEVERITY_COLOURS = {"error": WRONG_INK, "warning": "#7A5C00", "note": MUTED}
_SEVERITY_PAPERS = {"error": "#FBE9DF", "warning": "#FBF3CF", "note": "#EEEEEE"}

_CSS = f"""
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 1080px; padding: 32px 28px 80px; background: {PAPER};
  color: {INK}; font: 15px/1.5 "DejaVu Sans", Verdana, Helvetica, Arial, sans-serif; }}
h1 {{ font-size: 26px; margin: 0 0 4px; overflow-wrap: anywhere; }}
h2 {{ font-size: 19px; margin: 44px 0 10px; padding-bottom: 5px;
  border-bottom: 1px solid {FAINT}; }}
h3 {{ font-size: 15px; margin: 26px 0 6px; }}
p {{ margin: 4px 0 10px; max-width: 76ch; }}
.quiet {{ color: {MUTED}; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 6px; }}
.card {{ border: 1px solid {FAINT}; border-radius: 6px; padding: 10px 18px; min-width: 116px; }}
.card b {{ display: block; font-size: 24px; line-height: 1.25;
  font-variant-numeric: tabular-nums; }}
.card span {{ color: {MUTED}; font-size: 13px; }}
.error b {{ color: {WRONG_INK}; }}
table {{ border-collapse: collapse; margin: 8px 0 14px; font-size: 13.5px; }}
th {{ text-align: left; font-weight: bold; color: {MUTED}; border-bottom: 1px solid {MUTED};
  padding: 4px 18px 4px 0; }}
td {{ border-bottom: 1px solid {FAINT}; padding: 4px 18px 4px 0; vertical-align: top;
  overflow-wrap: anywhere; }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
a {{ color: {BLUE}; text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
.chip {{ border-radius: 3px; padding: 1px 7px; font-size: 12px; white-space: nowrap; }}
.gallery {{ display: flex; flex-wrap: wrap; gap: 14px; margin: 10px 0; align-items: flex-end; }}
figure {{ margin: 0; max-width: 210px; }}
figure img {{ display: block; border: 1px solid {FAINT}; max-width: 210px; max-height: 210px; }}
figcaption {{ font-size: 12px; line-height: 1.35; color: {MUTED}; margin-top: 4px;
  overflow-wrap: anywhere; }}
.chart {{ display: block; height: auto; max-width: 100%; margin: 8px 0 14px; }}
details {{ margin: 4px 0 12px; }}
summary {{ cursor: pointer; color: {BLUE}; font-size: 13.5px; }}
@media print {{ details > * {{ display: block; }} }}
""" + "".join(
    f".chip.{name} {{ color: {colour}; background: {_SEVERITY_PAPERS[name]}; }}\n"
    for name, colour in _SEVERITY_COLOURS.items()
)


def page(title: str, body: Iterable[str]) -> str:
    """A whole page that needs no other file.

    Args:
        title: Plain text.
        body: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # No script, no request: whatever a name smuggled in could not act.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{safe(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def safe(text: str, longest: int = 300) -> str:
    """Text as HTML: one line, printable, escaped."""
    return escape(clean(text, longest), quote=True)


def card(number: int, words: str, *, kind: str = "") -> str:
    """A number with what it counts."""
    return f'<div class="card {kind}"><b>{number:,}</b><span>{safe(words)}</span></div>'


def chip(severity: str) -> str:
    """A severity as a coloured word."""
    return f'<span class="chip {severity}">{severity}</span>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    """A table.

    Args:
        heads: Plain text.
        rows: HTML of each cell.
        numeric: Columns that are set flush right.
    """
    right = set(numeric)
    style = [' class="n"' if number in right else "" for number in range(len(heads))]
    head = "".join(f"<th{form}>{safe(one)}</th>" for one, form in zip(heads, style, strict=True))
    lines = [
        "<tr>"
        + "".join(f"<td{form}>{one}</td>" for one, form in zip(row, style, strict=True))
        + "</tr>"
        for row in rows
    ]
    return f"<table>\n<tr>{head}</tr>\n" + "\n".join(lines) + "\n</table>"


def figure(thumb: Thumb, caption: Sequence[str]) -> str:
    """A small picture with lines of plain text below it."""
    width, height = thumb.size
    lines = "<br>".join(safe(line, 120) for line in caption)
    return (
        f'<figure><img src="{thumb.uri}" width="{width}" height="{height}" alt="">'
        f"<figcaption>{lines}</figcaption></figure>"
    )


def chart(thumb: Thumb, words: str) -> str:
    """A chart with words for those who cannot see it; drawn at two pixels a point."""
    width = round(thumb.size[0] * 0.75)
    return f'<img class="chart" src="{thumb.uri}" width="{width}" alt="{safe(words)}">'


def gallery(figures: Iterable[str]) -> str:
    """Figures side by side."""
    return '<div class="gallery">\n' + "\n".join(figures) + "\n</div>"
