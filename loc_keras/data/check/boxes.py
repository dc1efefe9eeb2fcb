"""Findings about boxes: those that cannot be used, and those that only look odd."""

import math
from collections.abc import Sequence

from loc_keras.data.box_rules import BoxFault, usable_box
from loc_keras.data.check.catalogue import Finding, FractionBox
from loc_keras.data.check.objects import CheckedObject

ROUNDING = 1e-6
"""Overhang in fractions of the side that is floating-point noise and not reported."""

TINY_PX = 4.0
"""Sides in px below which a box is more likely a slip than an object."""

TINY_AREA = 1e-3
FULL_AREA = 0.98
"""Shares of the image's area."""

_MINORITY = 0.5


def box_findings(objects: Sequence[CheckedObject]) -> list[Finding]:
    """What is wrong with boxes.

    Args:
        objects: All objects; boxes in px on images of unknown size are passed over, unless their
            numbers are not finite, and so are images without an object.
    """
    found = []
    full: list[Finding] = []
    usable = 0
    for thing in map(_as_declared, objects):
        if thing.box is None and all(map(math.isfinite, thing.one.box)):
            continue
        try:
            box = usable_of(thing)
        except BoxFault as fault:
            found.append(_finding(thing, fault.kind, str(fault)))
            continue
        usable += 1
        over = _overhang(thing.box or box)
        if over > ROUNDING:
            found.append(_finding(thing, "box_overhang", f"it does so by {_length(over, thing)}"))
        area = (box[2] - box[0]) * (box[3] - box[1])
        if area > FULL_AREA:
            full.append(_finding(thing, "box_full_frame", f"it covers {area:.1%} of the image"))
        elif words := _tiny(box, area, thing.size):
            found.append(_finding(thing, "box_tiny", words))
    # Where most boxes are full, that is what the data set is like.
    return found + (full if len(full) < _MINORITY * usable else [])


def usable_of(thing: CheckedObject) -> FractionBox:
    """The box in fractions of the picture, within it.

    Raises:
        BoxFault: If it cannot be used.
    """
    if thing.units == "fraction":
        return usable_box(thing.written, None)
    # A size that is not known matters to none but finite boxes, which are not asked for.
    width, height = thing.size
    return usable_box(thing.written, (max(width, 1), max(height, 1)))


def _as_declared(thing: CheckedObject) -> CheckedObject:
    """On the picture of the annotated size: that it is another one is a finding of its own."""
    declared = thing.one.size
    if thing.units == "pixel" and declared and all(declared) and all(thing.size):
        return thing._replace(size=declared)
    return thing


def _overhang(box: FractionBox) -> float:
    """How far a box reaches over an edge, at most, in fractions of the side; 0 for not at all."""
    x1, y1, x2, y2 = box
    return max(0.0, -x1, -y1, x2 - 1.0, y2 - 1.0)


def _tiny(box: FractionBox, area: float, size: tuple[int, int]) -> str:
    """Why a box is suspiciously small; `""` where it is not."""
    width, height = (box[2] - box[0]) * size[0], (box[3] - box[1]) * size[1]
    if size[0] and min(width, height) < TINY_PX:
        return f"it is {width:.3g} x {height:.3g} px"
    return f"it covers {area:.2%} of the image" if area < TINY_AREA else ""


def _length(over: float, thing: CheckedObject) -> str:
    return f"{over * max(thing.size):.2g} px" if thing.size[0] else f"{over:.2g} of the side"


def _finding(thing: CheckedObject, kind: str, words: str) -> Finding:
    one = thing.one
    return Finding(kind, one.file, one.row, f"box of {one.name}: {words}", one.image, thing.box)
