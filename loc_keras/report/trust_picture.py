"""Pictures of answers with outer and inner boxes, and the sentence that says what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from loc_keras.report.style import BLUE, FONT, INK, LABEL_SIZE, PREDICTION, SMALL_SIZE, TITLE_SIZE

_WIDTH = 3.1
"""Of one picture, in inches."""

_HALO = "#101010"
_DASHED = (0, (5, 3))


@dataclass(frozen=True, eq=False)
class TrustedAnswer:
    """One answer and what is said of it.

    Attributes:
        picture: uint8 (H, W, 1 or 3).
        label: Name of the predicted class.
        probability: Of it, calibrated.
        p_iou50: Probability that the box has an IoU of at least .5.
        box: (x1, y1, x2, y2) in fractions of the picture, like the others.
        outer: Box that holds the object.
        inner: Box within it; all zero where it is empty.
        labels: Names of the label set.
    """

    picture: npt.NDArray[np.uint8]
    label: str
    probability: float
    p_iou50: float
    box: npt.NDArray[np.floating]
    outer: npt.NDArray[np.floating]
    inner: npt.NDArray[np.floating]
    labels: Sequence[str]


def meaning(coverage: float) -> str:
    """The sentence that says what the boxes mean."""
    percent = f"{100 * coverage:g} %"
    return (
        f"For {percent} of pictures like those of calibration the whole object lies inside the "
        f"outer box; for {percent} the inner box lies wholly on the object's box."
    )


def draw_trusted(answers: Sequence[TrustedAnswer], coverage: float) -> Figure:
    """Draws answers side by side, at most four in a row, above the sentence of `meaning`."""
    columns = min(len(answers), 4)
    rows = -(-len(answers) // columns)
    heights = max(answer.picture.shape[0] / answer.picture.shape[1] for answer in answers)
    size = (_WIDTH * columns, rows * (_WIDTH * heights + 0.6) + 0.75)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, answer in zip(grid.flat, answers, strict=False):
        _draw(axes, answer)
    figure.suptitle(
        _wrapped(meaning(coverage), 34 * columns) + "\n",
        fontsize=LABEL_SIZE,
        color=INK,
        fontfamily=FONT,
    )
    figure.legend(
        handles=[
            Rectangle((0, 0), 1, 1, fill=False, edgecolor=INK, linestyle=_DASHED, linewidth=1.4),
            Rectangle((0, 0), 1, 1, fill=False, edgecolor="#B8A800", linewidth=2.4),
            Rectangle((0, 0), 1, 1, facecolor=BLUE, alpha=0.45, edgecolor=BLUE),
        ],
        labels=["outer box", "answered box", "inner box"],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        prop={"family": FONT, "size": SMALL_SIZE},
    )
    return figure


def _draw(axes: Axes, answer: TrustedAnswer) -> None:
    height, width = answer.picture.shape[:2]
    picture = answer.picture
    axes.imshow(
        picture if picture.shape[-1] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=255
    )
    scale = np.array([width, height, width, height])
    if answer.inner.any():
        _box(axes, answer.inner * scale, facecolor=BLUE, alpha=0.4)
        _box(axes, answer.inner * scale, fill=False, edgecolor=BLUE, linewidth=1.2)
    for edge, line in ((_HALO, 4.2), (PREDICTION, 2.2)):
        _box(axes, answer.box * scale, fill=False, edgecolor=edge, linewidth=line)
    for edge, line in ((_HALO, 3.0), ("white", 1.4)):
        _box(
            axes,
            answer.outer * scale,
            fill=False,
            edgecolor=edge,
            linewidth=line,
            linestyle=_DASHED,
        )
    axes.set_title(
        f"{answer.label} {100 * answer.probability:.0f} %",
        fontsize=TITLE_SIZE,
        fontfamily=FONT,
        color=INK,
        loc="left",
        pad=16,
    )
    others = len(answer.labels)
    said = f"box right: {100 * answer.p_iou50:.0f} %; {others} label{'s' if others != 1 else ''}"
    said += "" if answer.inner.any() else "; inner box empty"
    axes.text(
        0, 1.015, said, transform=axes.transAxes, fontsize=SMALL_SIZE, fontfamily=FONT, color=INK
    )


def _box(axes: Axes, box_px: npt.NDArray[np.floating], **style: object) -> None:
    x1, y1, x2, y2 = np.asarray(box_px, float) - 0.5  # Pixel i covers i - 1/2 to i + 1/2.
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **style))  # type: ignore[arg-type]


def _wrapped(text: str, width: int) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
