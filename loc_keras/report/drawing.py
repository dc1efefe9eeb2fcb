"""Draw an image with its true and its predicted box."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from loc_keras.report.saving import figure_to_array, new_figure
from loc_keras.report.style import PREDICTION, TRUTH, WRONG

Dashes = Literal["solid"] | tuple[float, Sequence[float]]

# Widths in points. The prediction is drawn over the truth and narrower, so that boxes that
# agree show as a line in both colours and neither hides the other.
# At DPI every one is an even number of pixels: centred on a pixel edge, it stays crisp.
TRUTH_WIDTH = 3.0
PREDICTION_WIDTH = 2.0
HALO = 1.0
TRUTH_DASHES: Dashes = "solid"
PREDICTION_DASHES: Dashes = (0.0, (2.5, 1.75))
HALO_COLOUR = "#101010"
DPI = 144.0


def to_rgb(image: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Bring an image to the form that is drawn.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3), any numeric dtype, values 0..255.

    Returns:
        uint8 (H, W, 3); values are rounded and clipped to 0..255.

    Raises:
        ValueError: The shape is none of these.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(
            f"image must be (H, W), (H, W, 1) or (H, W, 3); it has shape {np.shape(image)}."
        )
    if pixels.dtype != np.uint8:
        pixels = np.clip(np.round(np.nan_to_num(pixels.astype(np.float64))), 0, 255)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint8)


def draw_image(axes: Axes, image: npt.ArrayLike) -> None:
    """Show an image on axes whose coordinates are fractions of its sides.

    Pixel column i of W covers i/W to (i + 1)/W, so a box drawn with its fractions has its
    edges on pixel edges, not on pixel centres.

    Args:
        axes: Axes to draw on; ticks and frame are taken off.
        image: As in `to_rgb`.
    """
    pixels = to_rgb(image)
    height, width = pixels.shape[:2]
    axes.imshow(pixels, extent=(0.0, 1.0, 1.0, 0.0), aspect=height / width, interpolation="auto")
    axes.set_axis_off()


def draw_box(
    axes: Axes, box: npt.ArrayLike, *, colour: str, line_width: float, dashes: Dashes
) -> None:
    """Draw one box outline with a dark halo that separates it from a light image.

    Args:
        axes: Axes prepared by `draw_image`.
        box: (4,) `(x1, y1, x2, y2)` as fractions of the image's sides. A box with a
            coordinate that is not finite is not drawn.
        colour: Line colour.
        line_width: Width in points; the line is centred on the box's edge.
        dashes: A matplotlib line style.
    """
    x1, y1, x2, y2 = (float(value) for value in np.asarray(box, dtype=np.float64).reshape(4))
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)):
        return
    axes.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=colour,
            linewidth=line_width,
            linestyle=dashes,
            joinstyle="miter",
            capstyle="butt",
            clip_on=False,
            snap=False,
            path_effects=[withStroke(linewidth=line_width + HALO, foreground=HALO_COLOUR)],
        )
    )


def draw_boxes(axes: Axes, box_true: npt.ArrayLike | None, box_pred: npt.ArrayLike | None) -> None:
    """Draw the true box solid and the predicted box dashed over it.

    Args:
        axes: Axes prepared by `draw_image`.
        box_true: (4,) fractions `(x1, y1, x2, y2)`, or None.
        box_pred: (4,) fractions `(x1, y1, x2, y2)`, or None.
    """
    if box_true is not None:
        draw_box(axes, box_true, colour=TRUTH, line_width=TRUTH_WIDTH, dashes=TRUTH_DASHES)
    if box_pred is not None:
        draw_box(
            axes,
            box_pred,
            colour=PREDICTION,
            line_width=PREDICTION_WIDTH,
            dashes=PREDICTION_DASHES,
        )


def draw_frame(axes: Axes, colour: str = WRONG, line_width: float = 3.0) -> None:
    """Frame the whole image, just outside its edge, to mark it as a failure.

    Args:
        axes: Axes prepared by `draw_image`.
        colour: Frame colour.
        line_width: Visible width in points.
    """
    # The line is centred on the image's edge and lies below the image, which hides its inner
    # half: no pixel of the image is covered.
    axes.add_patch(
        Rectangle(
            (0.0, 0.0),
            1.0,
            1.0,
            fill=False,
            edgecolor=colour,
            linewidth=2 * line_width,
            joinstyle="miter",
            clip_on=False,
            zorder=-1.0,
        )
    )


def render_example(
    image: npt.ArrayLike,
    box_true: npt.ArrayLike | None = None,
    box_pred: npt.ArrayLike | None = None,
    *,
    shorter_side: int = 300,
) -> npt.NDArray[np.uint8]:
    """Draw boxes on one image, enlarged by a whole factor where it is small.

    Args:
        image: As in `to_rgb`.
        box_true: (4,) fractions `(x1, y1, x2, y2)`, drawn solid; None draws none.
        box_pred: (4,) fractions `(x1, y1, x2, y2)`, drawn dashed; None draws none.
        shorter_side: The picture's shorter side has at least this many pixels.

    Returns:
        uint8 (k H, k W, 3), where k is the smallest whole number that makes the shorter side
        long enough.
    """
    pixels = to_rgb(image)
    height, width = pixels.shape[:2]
    factor = max(1, math.ceil(shorter_side / min(height, width)))
    figure = new_figure(width * factor / DPI, height * factor / DPI, DPI)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    draw_image(axes, pixels)
    draw_boxes(axes, box_true, box_pred)
    return figure_to_array(figure)
