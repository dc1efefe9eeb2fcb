"""The parts of a page: everything that users wrote is escaped here."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from loc_keras.report.image_boxes import to_rgb
from loc_keras.report.style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    MUTED,
    PAPER,
    PREDICTION,
    PURPLE,
    TRUTH,
    WRONG,
    WRONG_INK,
    clean,
)
from loc_keras.report.thumbnails import Picture, small_jpeg

_SEVERITY_COLOURS = {"error": WRONG_INK, "warning": "#7A5C00", "note": MUTED}
_SEVERITY_PAPERS = {"error": "#FBE9DF", "warning": "#FBF3CF", "note": "#EEEEEE"}

CSS = (
    "\n.chip { border-radius: 3px; padding: 1px 7px; font-size: 12px; white-space: nowrap; }\n"
) + "".join(
    f".chip.{name} {{ color: {colour}; background: {_SEVERITY_PAPERS[name]}; }}\n"
    for name, colour in _SEVERITY_COLOURS.items()
)


def chip(severity: str) -> str:
    """A severity as a coloured word."""
    return f'<span class="chip {severity}">{severity}</span>'


PAGE_STYLE_CSS = f"""
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }}
body {{ margin: 0 auto; max-width: 1080px; padding: 32px 28px 80px; background: {PAPER};
  color: {INK}; font: 15px/1.5 "DejaVu Sans", Verdana, Helvetica, Arial, sans-serif; }}
h1 {{ font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }}
h2 {{ font-size: 19px; margin: 44px 0 10px; padding-bottom: 5px;
  border-bottom: 1px solid {FAINT}; }}
h3 {{ font-size: 15px; margin: 26px 0 6px; overflow-wrap: anywhere; }}
p {{ margin: 4px 0 10px; max-width: 76ch; overflow-wrap: anywhere; }}
.quiet {{ color: {MUTED}; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 6px; }}
.card {{ border: 1px solid {FAINT}; border-radius: 6px; padding: 10px 18px; min-width: 116px; }}
.card b {{ display: block; font-size: 24px; line-height: 1.25;
  font-variant-numeric: tabular-nums; }}
.card span {{ color: {MUTED}; font-size: 13px; }}
.error b {{ color: {WRONG_INK}; }}
.scroll {{ overflow-x: auto; margin: 8px 0 14px; }}
table {{ border-collapse: collapse; font-size: 13.5px; }}
th {{ text-align: left; font-weight: bold; color: {MUTED}; border-bottom: 1px solid {MUTED};
  padding: 4px 18px 4px 0; vertical-align: bottom; }}
td {{ border-bottom: 1px solid {FAINT}; padding: 4px 18px 4px 0; vertical-align: top;
  overflow-wrap: anywhere; }}
tbody th {{ font-weight: normal; color: {INK}; border-bottom: 1px solid {FAINT};
  vertical-align: top; overflow-wrap: anywhere; }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
a {{ color: {BLUE}; text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
.gallery {{ display: flex; flex-wrap: wrap; gap: 14px; margin: 10px 0; align-items: flex-end; }}
figure {{ margin: 0; max-width: 210px; }}
figure img {{ display: block; border: 1px solid {FAINT}; max-width: 210px; max-height: 210px; }}
figcaption {{ font-size: 12px; line-height: 1.35; color: {MUTED}; margin-top: 4px;
  overflow-wrap: anywhere; }}
.chart {{ display: block; height: auto; max-width: 100%; margin: 8px 0 14px; }}
details {{ margin: 4px 0 12px; }}
summary {{ cursor: pointer; color: {BLUE}; font-size: 13.5px; }}
@media (max-width: 600px) {{
  body {{ padding: 20px 14px 60px; }}
  h1 {{ font-size: 22px; }}
  th, td {{ padding-right: 12px; }}
  td:not(.n) {{ min-width: 5.5em; }}
  .card {{ flex: 1 1 40%; padding: 8px 12px; min-width: 0; }}
  .card b {{ font-size: 21px; }}
}}
@media print {{
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
  body {{ max-width: none; padding: 0; font-size: 12px; }}
  h2, h3, h4, summary, p:not(:last-child) {{ break-after: avoid; }}
  figure, p, tr, .card, .chart, .whole {{ break-inside: avoid; }}
  thead {{ display: table-header-group; }}
  table {{ font-size: 11px; }}
  th, td {{ padding-right: 12px; }}
  .scroll {{ overflow: visible; }}
  /* What is folded on screen is opened on paper: the first rule is for browsers that put the
     content of details into a part of its own, the second for those that do not. */
  details::details-content {{ content-visibility: visible; display: block; block-size: auto; }}
  details > * {{ display: block; }}
}}
"""


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
        f"<title>{safe(title)}</title>\n<style>{PAGE_STYLE_CSS}{style}</style>\n</head>\n<body>\n"
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


SIDE = 200
"""Longer side of a picture in px of the page."""

MOST_PIXELS = 256
"""Longer side of an encoded picture: more than its place, for screens of fine pixels."""

LEAST_SIDE = 14
"""Shorter side at least, so that a sliver of a picture can be seen."""

MOST_BYTES = 22_000
"""Of one encoded picture: a page with some 130 of them stays below 4 MB."""

_LONGEST_FILE = 44
_SAMPLE = 'x="3" y="2" width="28" height="12"'

KINDS = {
    "truth": "true box",
    "pred": "predicted box",
    "outer": "outer box: likely holds all of it",
    "inner": "inner box: likely all inside it",
}


BOXED_PICTURE_CSS = f"""
.pictures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax({SIDE}px, 1fr));
  gap: 20px 16px; margin: 12px 0 18px; align-items: start; }}
.pictures figure {{ max-width: none; width: {SIDE}px; }}
.pic {{ position: relative; width: 100%; min-height: {LEAST_SIDE}px; background: #EDEDED; }}
.pic img {{ display: block; width: 100%; height: 100%; max-width: none; max-height: none;
  border: 0; }}
.pic .coarse {{ image-rendering: pixelated; }}
.pic .none {{ position: absolute; inset: 0; display: grid; place-items: center; color: {MUTED};
  font-size: 12px; }}
.bad .pic {{ outline: 3px solid {WRONG}; outline-offset: 1px; }}
.boxes {{ position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }}
.boxes *, .sample * {{ fill: none; vector-effect: non-scaling-stroke; }}
.halo {{ stroke: #101010; stroke-width: 4.5; }}
.halo.pred {{ stroke-width: 3.5; }}
.halo.outer, .halo.inner {{ stroke-width: 2.8; }}
.line.truth {{ stroke: {TRUTH}; stroke-width: 3; }}
.line.pred {{ stroke: {PREDICTION}; stroke-width: 2; stroke-dasharray: 6 4; }}
.line.outer {{ stroke: {GREEN}; stroke-width: 1.8; stroke-dasharray: 14 3; }}
.line.inner {{ stroke: {PURPLE}; stroke-width: 1.8; stroke-dasharray: 8 3 2 3; }}
.pictures figcaption {{ color: {INK}; }}
.pictures figcaption .file {{ color: {MUTED}; }}
.cross {{ color: {WRONG_INK}; }}
.legend {{ display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 8px 0; padding: 0;
  list-style: none; font-size: 13px; }}
.legend li {{ display: flex; align-items: center; gap: 8px; }}
.sample {{ width: 34px; height: 16px; flex: none; overflow: visible; }}
.frame {{ width: 26px; height: 14px; outline: 3px solid {WRONG}; }}
@media (max-width: 600px) {{
  .pictures {{ grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 16px 14px; }}
  .pictures figure {{ width: 100%; }}
}}
@media print {{
  .pictures {{ grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); gap: 8px; }}
  /* With room for the frame, which would else be cut off by the end of a page. */
  .pictures figure {{ width: 158px; padding: 4px; }}
  .legend {{ break-after: avoid; break-inside: avoid; }}
}}
"""


class Box(NamedTuple):
    """A box to draw.

    Attributes:
        kind: One of `KINDS`.
        corners: (x1, y1, x2, y2) in px of the picture.
    """

    kind: str
    corners: npt.ArrayLike


def boxed_picture(
    pixels: npt.NDArray[np.uint8] | None,
    size: tuple[int, int],
    boxes: Iterable[Box],
    caption: Sequence[str],
    *,
    alt: str,
    file: str = "",
    bad: bool = False,
) -> str:
    """A picture with its boxes and a caption.

    Args:
        pixels: uint8 (H, W, 3), the whole picture at any size; None shows an empty field.
        size: Height and width in px of the picture that the boxes are in; it is shown with these
            proportions, so one that was stretched for a model looks as it was.
        boxes: In the order they are drawn; those that are empty or not finite are left out.
        caption: HTML of each line.
        alt: What is to be seen, in plain words.
        file: Name of the file, or `""`.
        bad: Whether a frame marks it as a failure.
    """
    height, width = max(1, int(size[0])), max(1, int(size[1]))
    if pixels is None:
        shown = '<span class="none">no picture</span>'
    else:
        picture = _encoded(pixels)
        coarse = ' class="coarse"' if max(picture.size) < SIDE else ""
        shown = (
            f'<img src="{picture.uri}" width="{picture.size[0]}" height="{picture.size[1]}" '
            f'alt="{safe(alt)}"{coarse}>'
        )
    lines = list(caption)
    if file:
        lines.append(f'<span class="file" title="{safe(file)}">{_file_words(file)}</span>')
    return (
        f"<figure{' class=bad' if bad else ''}>"
        f'<div class="pic" style="{_proportions(height, width)}">'
        f'{shown}<svg class="boxes" viewBox="0 0 {width} {height}" preserveAspectRatio="none" '
        f'aria-hidden="true">{_outlines(boxes)}</svg></div>'
        f"<figcaption>{'<br>'.join(lines)}</figcaption></figure>"
    )


def legend(kinds: Iterable[str], *, bad: str = "") -> str:
    """What the lines over the pictures mean.

    Args:
        kinds: Of boxes, as in `KINDS`.
        bad: What a frame means, in plain words; `""` where there is none.
    """
    entries = [
        f'<li><svg class="sample" viewBox="0 0 34 16" aria-hidden="true">'
        f"{_halo(kind, _SAMPLE)}{_line(kind, _SAMPLE)}</svg>{KINDS[kind]}</li>"
        for kind in kinds
    ]
    if bad:
        entries.append(f'<li><span class="frame"></span>{safe(bad)}</li>')
    return '<ul class="legend">' + "".join(entries) + "</ul>"


def _proportions(height: int, width: int) -> str:
    """CSS for the sides of a picture whose longer side fills its place."""
    longer = max(height, width)
    across = max(100 * width / longer, 100 * LEAST_SIDE / SIDE)
    ratio = (
        f"{max(width, longer * LEAST_SIDE / SIDE):g} / {max(height, longer * LEAST_SIDE / SIDE):g}"
    )
    narrow = f"; width: {across:.4g}%" if across < 100 else ""
    return f"aspect-ratio: {ratio}{narrow}"


def _outlines(boxes: Iterable[Box]) -> str:
    """All halos, then all lines: a prediction that agrees with the truth leaves it to be seen."""
    drawn = [(box.kind, place) for box in boxes if (place := _place(box.corners))]
    halos = "".join(_halo(kind, place) for kind, place in drawn)
    return halos + "".join(_line(kind, place) for kind, place in drawn)


def _place(corners: npt.ArrayLike) -> str:
    x1, y1, x2, y2 = (float(side) for side in np.asarray(corners, np.float64).reshape(4))
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or not (x2 > x1 or y2 > y1):
        return ""
    # A rectangle without width or height is not drawn at all; this one shows as a line.
    width, height = max(x2 - x1, 1e-3), max(y2 - y1, 1e-3)
    return f'x="{x1:.6g}" y="{y1:.6g}" width="{width:.6g}" height="{height:.6g}"'


def _halo(kind: str, place: str) -> str:
    return f'<rect class="halo {kind}" {place}/>'


def _line(kind: str, place: str) -> str:
    return f'<rect class="line {kind}" {place}/>'


def _file_words(file: str) -> str:
    """The end of a long name, which tells files of a folder apart."""
    return safe(file if len(file) <= _LONGEST_FILE else "…" + file[1 - _LONGEST_FILE :])


def _encoded(pixels: npt.NDArray[np.uint8]) -> Picture:
    picture = Image.fromarray(to_rgb(pixels))
    picture.thumbnail((MOST_PIXELS, MOST_PIXELS), Image.Resampling.LANCZOS)
    return small_jpeg(picture, MOST_BYTES)
