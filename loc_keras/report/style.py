"""Colours and text sizes that all pictures share.

The hues are from the colour-blind safe palette of Okabe and Ito (2008, "Color Universal
Design"). No picture needs hue alone: truth is solid and prediction dashed, validation solid and
training dashed, so that a gray print can be read too.
"""

import os
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.textpath import text_to_path

from loc_keras.atomic_file import written_aside

BLUE = "#0072B2"
GREEN = "#009E73"
VERMILLION = "#D55E00"
SKY = "#56B4E9"
YELLOW = "#F0E442"
PURPLE = "#CC79A7"

INK = "#222222"
MUTED = "#6B6B6B"
FAINT = "#D9D9D9"
PAPER = "#FFFFFF"

TRUTH = SKY
PREDICTION = YELLOW
WRONG = VERMILLION
WRONG_INK = "#A84300"  # the same hue, dark enough for small text on white

FONT = "DejaVu Sans"  # ships inside matplotlib, so text has the same width everywhere

# Text sizes in points.
TITLE_SIZE = 12.0
LABEL_SIZE = 9.5
SMALL_SIZE = 8.5
ELLIPSIS = "…"

SEQUENCE = LinearSegmentedColormap.from_list("paper to blue", ["#FFFFFF", BLUE, "#00263D"])
WORDS: dict[str, Any] = {"family": FONT, "color": INK}


def new_figure(width: float, height: float, dpi: float) -> Figure:
    """An empty white figure, in inches, that belongs to no window and no global registry."""
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def new_page(width: float, height: float, dpi: float) -> tuple[Figure, Axes]:
    """A new figure and axes over all of it, in inches from its top left corner, without a frame."""
    figure = new_figure(width, height, dpi)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0.0, width)
    axes.set_ylim(height, 0.0)
    axes.set_axis_off()
    return figure, axes


def write(place: Axes | Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Writes one line, its upper edge at y where `style` says nothing else; $ stays as it is."""
    common: dict[str, Any] = {"color": INK, "va": "top", "family": FONT, "parse_math": False}
    place.text(x, y, text, **(common | style))


def figure_to_array(figure: Figure) -> npt.NDArray[np.uint8]:
    """Renders a figure, uint8 (H, W, 3): its size in inches times its dpi."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure as PNG, whole or not at all, into a folder that is made; gives the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A reader (TensorBoard, a browser, a copy job) must never meet half a picture.
    with written_aside(path) as aside:
        FigureCanvasAgg(figure).print_png(aside)
    return path


def dress(axes: Axes, grid: str | None) -> None:
    """Takes off needless lines; the grid's run along `grid`: "x", "y" or None."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(
        labelsize=SMALL_SIZE, labelfontfamily=FONT, colors=MUTED, labelcolor=INK, length=3
    )


def add_words(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Writes the title of a plot, flush left, and what its axes are."""
    axes.set_title(title, loc="left", size=LABEL_SIZE, pad=6, **WORDS)
    axes.set_xlabel(x, size=LABEL_SIZE, **WORDS)
    axes.set_ylabel(y, size=LABEL_SIZE, **WORDS)


def add_legend(place: Axes | Figure, **style: Any) -> Legend:
    """Explains lines and bars without a frame."""
    common = {"frameon": False, "labelcolor": INK, "prop": {"family": FONT, "size": SMALL_SIZE}}
    return place.legend(**(common | style))


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Advance width of one line in points (1/72 inch), like its font size."""
    if not text.strip():
        return 0.0
    font = FontProperties(family=FONT, weight=weight, size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def shorten(text: str, width: float, size: float, weight: str = "normal") -> str:
    """The text where it fits into `width` points, else its longest beginning with an ellipsis."""
    if text_width(text, size, weight) <= width:
        return text
    beginnings = [text[:end].rstrip(" ·,") + ELLIPSIS for end in range(len(text))]
    fitting = bisect_right(beginnings, width, key=lambda cut: text_width(cut, size, weight))
    return beginnings[max(fitting - 1, 0)]


def shorten_middle(text: str, width: float, size: float) -> str:
    """As `shorten`, but cut in the middle: of paths, both ends tell something."""
    if text_width(text, size) <= width:
        return text
    beginning = shorten(text, width / 2, size)
    end = shorten(text[::-1], width - text_width(beginning, size), size)[::-1]
    return beginning + end.removeprefix(ELLIPSIS)


def fill_lines(
    parts: Iterable[str], width: float, size: float, weight: str = "normal", joint: str = " · "
) -> list[str]:
    """Lays parts, in reading order, on as few lines of `width` points as they need, with joints.

    A part is never split, only shortened.
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
    """As `fill_lines`, for a sentence that is wrapped at its spaces."""
    return fill_lines(text.split(), width, size, weight, joint=" ")
