"""Which boxes can be used: the rules, on one box at a time."""

import math

import numpy as np

Box = tuple[float, float, float, float]

TOLERANCE = 1e-3
"""How far a side may lie outside 0..1 (rounding in the file) before the box is refused."""

TOLERANCE_PX = 1.0
"""Likewise in px, for boxes in px: off by one is common and harmless."""

_SIDES = ("x1", "y1", "x2", "y2")


class BoxFault(Exception):
    """Why a box cannot be used.

    Attributes:
        kind: `"not_finite"`, `"inverted"`, `"zero_area"` or `"outside_image"`.
    """

    def __init__(self, reason: str, kind: str) -> None:
        super().__init__(reason)
        self.kind = kind


def usable_box(box: Box, size: tuple[int, int] | None) -> Box:
    """Checks a box and gives it in fractions.

    Args:
        box: (x1, y1, x2, y2), fractions of the image side, or px if `size` is given.
        size: Width and height of the image in px for boxes in px, else None.

    Returns:
        (x1, y1, x2, y2), fractions in [0, 1]; what passes an edge by no more than the
        tolerance is set to the edge.

    Raises:
        BoxFault: If the box is not finite, inverted, without area or outside the image.
    """
    for name, value in zip(_SIDES, box, strict=True):
        if not math.isfinite(value):
            raise BoxFault(f"column {name}: {value} is not a finite number", "not_finite")
    x1, y1, x2, y2 = box
    for low_name, low, high_name, high in (("x1", x1, "x2", x2), ("y1", y1, "y2", y2)):
        if high <= low:
            kind = "inverted" if high < low else "zero_area"
            raise BoxFault(
                f"column {high_name}: {high:g} is not greater than {low_name} {low:g}", kind
            )
    sides = (1, 1, 1, 1) if size is None else (*size, *size)
    fractions = [value / side for value, side in zip(box, sides, strict=True)]
    for name, given, value, side in zip(_SIDES, box, fractions, sides, strict=True):
        slack = TOLERANCE if size is None else max(TOLERANCE, TOLERANCE_PX / side)
        if not -slack <= value <= 1 + slack:
            hint = "; are the boxes in pixels?" if size is None and max(box) > 2 else ""
            raise BoxFault(f"column {name}: {given:g} is outside 0..{side}{hint}", "outside_image")
    left, top, right, bottom = (min(max(value, 0.0), 1.0) for value in fractions)
    if right <= left or bottom <= top:
        raise BoxFault("box lies outside the image", "outside_image")
    # Records are float32: what is thinner than its step would have no area there.
    if np.float32(right) <= np.float32(left) or np.float32(bottom) <= np.float32(top):
        raise BoxFault("box is too thin to have an area", "zero_area")
    return left, top, right, bottom
