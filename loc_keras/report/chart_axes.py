"""How the axes of all charts look."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from loc_keras.report.style import BLUE, FAINT, FONT, INK, MUTED, SMALL_SIZE

SEQUENCE = LinearSegmentedColormap.from_list("paper to blue", ["#FFFFFF", BLUE, "#00263D"])
WORDS: dict[str, Any] = {"family": FONT, "color": INK}


def dress(axes: Axes, grid: str | None) -> None:
    """Takes off what tells nothing; lines of the grid run along `grid`, "x", "y" or neither."""
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
