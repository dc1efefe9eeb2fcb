"""A small picture with boxes over it and words below it, as HTML.

The boxes are vector lines over the picture, not in it: they stay crisp on paper and on every
screen, and the same picture carries any of them. No kind of box leans on its hue alone.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from loc_keras.report.drawing import to_rgb
from loc_keras.report.embedded import Picture, small_jpeg
from loc_keras.report.page_html import safe
from loc_keras.report.style import GREEN, INK, MUTED, PREDICTION, PURPLE, TRUTH, WRONG, WRONG_INK

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


CSS = f"""
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
