"""What is answered about one image."""

from dataclasses import dataclass
from typing import Any

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2), x to the right, y down, edges as continuous coordinates."""

_DECIMALS = 6


@dataclass(frozen=True)
class ClassScore:
    """A class and its probability.

    Attributes:
        label: Name of the class.
        index: Its number.
        score: Probability, 0..1.
    """

    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Localization:
    """What is answered about one image.

    Boxes are in px of the image as it is looked at, that is, turned upright where its EXIF data say
    so, and lie within it. The last four attributes are None where no trust was fitted.

    Attributes:
        label: Name of the most probable class.
        index: Its number.
        score: Its probability, 0..1; calibrated where trust is fitted.
        top_k: The most probable classes, the first one first.
        found: Whether there is an object: False where the answer is the class of the background.
        box: Box of the object in px; None where nothing is found.
        box_fraction: The same in fractions of the image's width and height.
        size: Height and width of the upright image in px.
        p_iou50: Probability that the box has an IoU of at least .5 with the true one.
        box_outer: Box in px that holds the true one with the promised probability.
        box_inner: Box in px that lies in the true one with it; None also where it is empty.
        label_set: Classes of which the true one is one with it, the most probable first.
    """

    label: str
    index: int
    score: float
    top_k: tuple[ClassScore, ...]
    found: bool
    box: Box | None
    box_fraction: Box | None
    size: tuple[int, int]
    p_iou50: float | None = None
    box_outer: Box | None = None
    box_inner: Box | None = None
    label_set: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The answer as values of JSON, numbers to a millionth.

        The size is told as `height` and `width`; what belongs to trust is left out without it.
        """
        plain: dict[str, Any] = {
            "label": self.label,
            "index": self.index,
            "score": round(self.score, _DECIMALS),
            "found": self.found,
            "box": _rounded(self.box),
            "box_fraction": _rounded(self.box_fraction),
            "height": self.size[0],
            "width": self.size[1],
            "top_k": [
                {"label": one.label, "index": one.index, "score": round(one.score, _DECIMALS)}
                for one in self.top_k
            ],
        }
        if self.label_set is None:
            return plain
        p_iou50 = None if self.p_iou50 is None else round(self.p_iou50, _DECIMALS)
        return {
            **plain,
            "p_iou50": p_iou50,
            "box_outer": _rounded(self.box_outer),
            "box_inner": _rounded(self.box_inner),
            "label_set": list(self.label_set),
        }


def _rounded(box: Box | None) -> list[float] | None:
    return None if box is None else [round(side, _DECIMALS) for side in box]
