"""HTML pages from the templates of this package, and pictures with boxes for them.

Jinja2 escapes every value that a template shows; only markup that templates and this package made
of escaped text is `Markup`. Text is shown as one line of printable characters.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from loc_keras.errors import clean
from loc_keras.evaluation.figures import MISSING, figure_of, format_interval, format_value, percent
from loc_keras.report import style
from loc_keras.report.image_boxes import (
    HALO,
    INNER_BOX,
    OUTER_BOX,
    PREDICTED_BOX,
    TRUE_BOX,
    encoded,
    to_rgb,
)

SIDE = 200  # Longer side of a picture in px of the page.
LEAST_SIDE = 14  # Shorter side at least, so that a sliver of a picture can be seen.

BOXES = {"truth": TRUE_BOX, "pred": PREDICTED_BOX, "outer": OUTER_BOX, "inner": INNER_BOX}
"""Kinds of boxes, and how each is drawn and called."""

_ENCODED_SIDE = 256  # Px of the longer side: more than its place, for screens of fine pixels.
_MOST_BYTES = 22_000  # Of a picture: a page with some 130 of them stays below 4 MB.
_LONGEST_FILE = 44
_LONGEST_TEXT = 1000
_CELL = re.compile(r"<t[dh](?=[ >])")
_UNBROKEN = 20  # Letters of a name that stay together.

_COLOURS = (
    *("blue", "vermillion", "yellow", "ink", "muted", "faint", "paper", "prediction", "wrong"),
    "wrong_ink",
)
_STYLE = {name.replace("_", "-"): getattr(style, name.upper()) for name in _COLOURS}
_STYLE |= {"side": f"{SIDE}px", "least-side": f"{LEAST_SIDE}px"}


class Box(NamedTuple):
    """A box to draw: its kind, one of `BOXES`, and (x1, y1, x2, y2) in px of the picture."""

    kind: str
    corners: npt.ArrayLike


def render(template: str, **values: Any) -> str:
    """A page that needs no other file, made of a template and its values."""
    return _ENVIRONMENT.get_template(template).render(values)


def part(macro: str, *arguments: Any, of: str = "parts.html.j2") -> Markup:
    """One of the parts in a template."""
    made: Markup = getattr(_ENVIRONMENT.get_template(of).module, macro)(*arguments)
    return made


def name(text: str, longest: int = 120) -> Markup:
    """A name, kept apart so that one written from right to left turns nothing around it.

    A long word may break here and there, a short one never does.
    """
    words = (
        Markup("<wbr>").join(word[at : at + _UNBROKEN] for at in range(0, len(word), _UNBROKEN))
        for word in clean(text, longest).split(" ")
    )
    return Markup("<bdi>{}</bdi>").format(Markup(" ").join(words))


def boxed_picture(
    pixels: npt.NDArray[np.uint8] | None,
    size: tuple[int, int],
    boxes: Iterable[Box],
    caption: Sequence[str],
    *,
    alt: str,
    file: str = "",
    bad: bool = False,
    below: npt.NDArray[np.uint8] | None = None,
) -> Markup:
    """A picture with its boxes and a caption.

    Args:
        pixels: uint8 (H, W, 3), the whole picture at any size; None shows an empty field.
        size: Height and width in px of the picture that the boxes are in; it is shown with these
            proportions, so one that was stretched for a model looks as it was.
        boxes: In the order they are drawn; those that are empty or not finite are left out.
        caption: Text or `Markup` of each line.
        alt: What is to be seen, in plain words.
        file: Its name, or `""`.
        bad: Whether a frame marks it as a failure.
        below: A second picture, as `pixels`, without boxes; None for none.
    """
    height, width = max(1, int(size[0])), max(1, int(size[1]))
    pictures = []
    for one in (pixels, below):
        image = None if one is None else Image.fromarray(to_rgb(one))
        if image is not None:
            image.thumbnail((_ENCODED_SIDE, _ENCODED_SIDE), Image.Resampling.LANCZOS)
        pictures.append(image and encoded(image, _MOST_BYTES))
    drawn = [(box.kind, place) for box in boxes if (place := _place(box.corners))]
    # The end of a long name tells files of a folder apart.
    end = file if len(file) <= _LONGEST_FILE else "…" + file[1 - _LONGEST_FILE :]
    view = (height, width)
    said = _proportions(*view), drawn, caption, alt, file, end, bad
    return part("boxed_picture", pictures[0], view, *said, pictures[1])


def under(rows: Markup, heads: Sequence[str]) -> Markup:
    """Rows of a table whose cells carry the head of their column, for narrow screens.

    Every row has a cell for each head, and no cell holds a table.
    """
    columns = itertools.cycle(heads)

    def labelled(found: re.Match[str]) -> str:
        return Markup('{} data-head="{}"').format(Markup(found[0]), next(columns))

    return Markup(_CELL.sub(labelled, rows))


def legend(kinds: Iterable[str], bad: str) -> Markup:
    """What the lines over pictures mean, by the kinds of `BOXES`, and what a frame means."""
    return part("legend", {kind: BOXES[kind].words for kind in kinds}, bad)


def _proportions(height: int, width: int) -> str:
    """CSS for the sides of a picture whose longer side fills its place."""
    longer = max(height, width)
    least = longer * LEAST_SIDE / SIDE
    across = 100 * max(width, least) / longer
    narrow = f"; width: {across:.4g}%" if across < 100 else ""
    return f"aspect-ratio: {max(width, least):g} / {max(height, least):g}{narrow}"


def _place(corners: npt.ArrayLike) -> Mapping[str, str]:
    x1, y1, x2, y2 = (float(side) for side in np.asarray(corners, np.float64).reshape(4))
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or not (x2 > x1 or y2 > y1):
        return {}
    # A rectangle without width or height is not drawn at all; this one shows as a line.
    sides = {"x": x1, "y": y1, "width": max(x2 - x1, 1e-3), "height": max(y2 - y1, 1e-3)}
    return {key: f"{side:.6g}" for key, side in sides.items()}


def _printable(value: Any) -> Any:
    """Text on one line without control characters; `Markup` and other values as they are."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return clean(value, _LONGEST_TEXT)
    return value


_ENVIRONMENT = Environment(
    loader=PackageLoader("loc_keras.report"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_printable,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "clean": clean,
    "count": "{:,}".format,
    "css": lambda share: f"{100 * min(max(share, 0.0), 1.0):.2f}%",
    "fixed": lambda value, to: f"{value:.{to}f}" if math.isfinite(value) else MISSING,
    "name": name,
    "under": under,
}
_ENVIRONMENT.tests["finite"] = math.isfinite
_ENVIRONMENT.globals |= {
    "figure_of": figure_of,
    "interval": lambda key, found: format_interval(key, found) if found else MISSING,
    "percent": percent,
    "value": lambda key, found: format_value(key, found.value) if found else MISSING,
    "Markup": Markup,
    "MISSING": MISSING,
    "BOXES": BOXES,
    "HALO": HALO,
    "SIDE": SIDE,
    "style": _STYLE,
}
