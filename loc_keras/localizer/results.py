"""What is answered about one image."""

import base64
import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from loc_keras.errors import ImageError

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2), x to the right, y down, edges as continuous coordinates."""

_DECIMALS = 6


@dataclass(frozen=True)
class ClassScore:
    """A class by name and number, and its probability, 0..1."""

    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Localization:
    """The answer about one image.

    Boxes lie within the image and are in px of it, turned upright where its EXIF data say so.
    `p_iou50` to `label_set` are None where no trust was fitted, the last two where no novelty was.

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
        novelty: p-value of the image being drawn as the training images were, 0..1.
        known: Whether it is no smaller than the level that was set.
        source: The image that was asked about, alone; a notebook shows it.
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
    novelty: float | None = None
    known: bool | None = None
    source: Any = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """The answer as values of JSON, numbers to a millionth.

        The size stands as `height` and `width`; what was not fitted is left out.
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
        if self.label_set is not None:
            plain |= {
                "p_iou50": None if self.p_iou50 is None else round(self.p_iou50, _DECIMALS),
                "box_outer": _rounded(self.box_outer),
                "box_inner": _rounded(self.box_inner),
                "label_set": list(self.label_set),
            }
        if self.novelty is not None:
            plain |= {"novelty": round(self.novelty, _DECIMALS), "known": self.known}
        return plain

    def _repr_html_(self) -> str:
        """The image with its boxes, if it can still be read, above the answer as a table."""
        shown = ""
        if self.source is not None:
            from loc_keras.localizer.pictures import drawn_answer

            with contextlib.suppress(ImageError):
                held = io.BytesIO()
                boxes = self.box, self.box_outer, self.box_inner
                drawn_answer(self.source, self.label, self.score, *boxes).save(held, "PNG")
                content = base64.b64encode(held.getvalue()).decode("ascii")
                shown = f'<img alt="the image" src="data:image/png;base64,{content}">'
        values = {key: value for key, value in self.as_dict().items() if key != "top_k"}
        rows = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>"
            for key, value in values.items()
        )
        return f"{shown}<table>{rows}</table>"


def localization_of(
    arrays: Mapping[str, npt.NDArray],
    row: int,
    size: tuple[int, int],
    names: Sequence[str],
    *,
    background: int | None,
    top_k: int,
) -> Localization:
    """One answer, of the row of an image of height and width in px, out of a batch of outputs.

    Arrays are `softmax` (N, K) and `bbox` (N, 4) and, with trust, `softmax_calibrated`, `p_iou50`
    (N,), `box_outer`, `box_inner` and `label_set` bool (N, K), with novelty `novelty` (N,) and
    `known` bool (N,). Boxes are (x1, y1, x2, y2) in fractions of the original. `background` is the
    index of that class, None without; the answer holds `top_k` classes, at least one.
    """
    # By the raw probabilities, since calibrated ones may round to ties.
    order = np.argsort(-arrays["softmax"][row], kind="stable").tolist()
    scores = arrays.get("softmax_calibrated", arrays["softmax"])[row].tolist()
    best = [ClassScore(names[at], at, scores[at]) for at in order[:top_k]]
    shown = order[0] != background
    trusted = "label_set" in arrays
    fraction = arrays["bbox"][row]
    return Localization(
        label=best[0].label,
        index=best[0].index,
        score=best[0].score,
        top_k=tuple(best),
        found=shown,
        box=_box_px(fraction, size) if shown else None,
        box_fraction=_box(fraction) if shown else None,
        size=size,
        p_iou50=float(arrays["p_iou50"][row]) if trusted and shown else None,
        box_outer=_box_px(arrays["box_outer"][row], size) if trusted and shown else None,
        box_inner=_inner_px(arrays["box_inner"][row], size) if trusted and shown else None,
        label_set=tuple(names[at] for at in order if arrays["label_set"][row, at])
        if trusted
        else None,
        novelty=float(arrays["novelty"][row]) if "novelty" in arrays else None,
        known=bool(arrays["known"][row]) if "known" in arrays else None,
    )


def _inner_px(fraction: npt.NDArray, size: tuple[int, int]) -> Box | None:
    x1, y1, x2, y2 = fraction.tolist()
    return _box_px(fraction, size) if x2 > x1 and y2 > y1 else None


def _box_px(fraction: npt.NDArray, size: tuple[int, int]) -> Box:
    x1, y1, x2, y2 = _box(fraction)
    height, width = size
    return x1 * width, y1 * height, x2 * width, y2 * height


def _box(fraction: npt.NDArray) -> Box:
    x1, y1, x2, y2 = (min(max(side, 0.0), 1.0) for side in fraction.tolist())
    return x1, y1, x2, y2


def _rounded(box: Box | None) -> list[float] | None:
    return None if box is None else [round(side, _DECIMALS) for side in box]
