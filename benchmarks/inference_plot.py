"""The bars of `benchmarks.inference`: time of one image, and images per second."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.inference_figures import Figures
from loc_keras.report.saving import new_figure, save_figure
from loc_keras.report.style import (
    BLUE,
    FAINT,
    FONT,
    INK,
    LABEL_SIZE,
    MUTED,
    SKY,
    SMALL_SIZE,
    TITLE_SIZE,
)

FAR = 5.0
"""A bar is cut off at so many times the median of all, so that one slow way hides no other."""


def save_bars(rows: Sequence[Figures], path: Path, title: str) -> None:
    """Draws a bar a way, in the order of the rows, which stand under the title."""
    figure = new_figure(10.0, 1.5 + 0.34 * len(rows), 110)
    left, right = figure.subplots(1, 2, sharey=True)
    latencies, high = [row.latency_ms for row in rows], [row.latency_p95_ms for row in rows]
    label = "one image: median time, ms (pale: to the 95th percentile)"
    _draw(left, latencies, label, digits=1, up_to=high)
    speeds = [row.images_per_s for row in rows]
    batch = max((row.batch for row in rows), default=1)
    _draw(right, speeds, f"{batch} images at once: images/s", digits=0)
    plain = [row.way.replace("`", "") for row in rows]
    left.set_yticks(range(len(rows)), plain, fontsize=LABEL_SIZE, fontfamily=FONT, color=INK)
    left.invert_yaxis()
    figure.suptitle(title, fontsize=TITLE_SIZE, fontfamily=FONT, color=INK)
    figure.tight_layout()
    save_figure(figure, path)


def _draw(
    axis: Axes,
    values: Sequence[float],
    label: str,
    *,
    digits: int,
    up_to: Sequence[float] | None = None,
) -> None:
    limit = min(max(up_to or values), FAR * sorted(values)[len(values) // 2]) * 1.15
    places = range(len(values))
    if up_to is not None:
        axis.barh(places, [min(value, limit) for value in up_to], color=SKY, alpha=0.35, height=0.7)
    # The first row is the bare call, to which the others are compared.
    colours = [MUTED, *[BLUE] * (len(values) - 1)]
    axis.barh(places, [min(value, limit) for value in values], color=colours, height=0.7)
    axis.axvline(values[0], color=MUTED, lw=0.8, ls=":")
    for place, value in enumerate(values):
        inside = value > 0.88 * limit
        axis.annotate(
            f"{value:,.{digits}f}",
            (min(value, limit), place),
            xytext=(-4 if inside else 4, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            fontsize=SMALL_SIZE,
            fontfamily=FONT,
            color="white" if inside else INK,
        )
    axis.set_xlim(0, limit)
    axis.set_xlabel(label, fontsize=LABEL_SIZE, fontfamily=FONT, color=INK)
    axis.grid(axis="x", color=FAINT)
    axis.set_axisbelow(True)
    axis.tick_params(axis="x", labelsize=SMALL_SIZE)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
