"""Figures to pixels and to files."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from loc_keras.atomic_file import written_aside
from loc_keras.report.style import PAPER


def new_figure(width: float, height: float, dpi: float) -> Figure:
    """Make an empty figure that belongs to no window and no global registry.

    Args:
        width: Width in inches.
        height: Height in inches.
        dpi: Pixels per inch.

    Returns:
        A white figure with an Agg canvas.
    """
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def figure_to_array(figure: Figure) -> npt.NDArray[np.uint8]:
    """Render a figure.

    Args:
        figure: Any figure.

    Returns:
        uint8 (H, W, 3) in 0..255; H and W are the figure's size in inches times its dpi.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG, whole or not at all; missing folders are made.

    Args:
        figure: Any figure.
        path: The file to write; an existing one is replaced in one step.

    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A reader (TensorBoard, a browser, a copy job) must never meet half a picture.
    with written_aside(path) as aside:
        FigureCanvasAgg(figure).print_png(aside)
    return path
