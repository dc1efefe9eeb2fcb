"""The picture of a sweep of learning rates: loss against rate."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loc_keras.report.chart_axes import WORDS, dress
from loc_keras.report.saving import new_figure, save_figure
from loc_keras.report.style import BLUE, LABEL_SIZE, MUTED, SMALL_SIZE, VERMILLION

DPI = 144.0
ABOVE_FIRST = 1.6
"""The chart ends at this many times the first loss: what diverges would flatten all else."""


def save_rate_picture(
    path: Path,
    *,
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float],
    suggested: float,
) -> Path:
    """Draws the loss of each step and its running mean over the rate, and the suggested rate.

    Args:
        path: The PNG file.
        rates: Learning rate of each step.
        losses: Loss of each step.
        smooth: Running mean of the losses.
        suggested: Rate that is marked.
    """
    figure = new_figure(6.4, 3.6, DPI)
    axes = figure.add_axes((0.1, 0.15, 0.87, 0.74))
    axes.plot(rates, losses, ".", color=MUTED, alpha=0.5, markersize=3, label="each batch")
    axes.plot(rates, smooth, color=BLUE, linewidth=1.8, label="running mean")
    axes.axvline(suggested, color=VERMILLION, linewidth=1.2)
    low, high = float(np.min(smooth)), float(smooth[0])
    room = max(abs(high - low), 1e-6)
    axes.set_ylim(low - 0.15 * room, high + (ABOVE_FIRST - 1) * room)
    axes.set_xscale("log")
    axes.text(
        suggested,
        1.02,
        f"suggested: {suggested:g}",
        transform=axes.get_xaxis_transform(),
        ha="center",
        size=LABEL_SIZE,
        **{**WORDS, "color": VERMILLION},
    )
    axes.set_xlabel("learning rate", size=LABEL_SIZE, **WORDS)
    axes.set_ylabel("loss", size=LABEL_SIZE, **WORDS)
    axes.legend(frameon=False, fontsize=SMALL_SIZE, loc="lower left")
    dress(axes, "y")
    return save_figure(figure, path)
