"""Findings about boxes, and the scores of constant boxes as a baseline."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import Box, Fault, ImageRef, Split
from loc_keras.data.resolve import BoxFault, CheckedObject, box_area, usable_box

ROUNDING = 1e-6
"""Overhang in fractions of the side that is floating-point noise and not reported."""

TINY_PX = 4.0
"""Sides in px below which a box is more likely a slip than an object."""

TINY_AREA = 1e-3
FULL_AREA = 0.98
"""Shares of the image's area."""

_HALF = 0.5
_NEARLY_ALL = 0.95
_FEW = 0.02
_JUTTING = 1.01
_FEWEST_CORNERS = 20
_SCALES = ((1, "fraction", 8, 1), (100, "percent", 200, 5))
"""Largest coordinate, units, and shortest side and number of images that show it is no px."""

_QUANTILES = np.linspace(0.3, 0.7, 5)
_SAMPLE = 1000


def box_findings(objects: Sequence[CheckedObject]) -> list[Fault]:
    """What is wrong with boxes, or odd.

    Where the annotated size of an image is another than the file's, which is a finding of its own,
    the box in px is judged on the annotated one.
    """
    findings = []
    full: list[Fault] = []
    usable = 0
    for item in map(_as_declared, objects):
        box = item.usable
        if item.fault is not None:
            findings.append(_finding(item, item.fault.kind, str(item.fault)))
        if box is None:
            continue
        usable += 1
        over = _overhang(item.box or box)
        if over > ROUNDING:
            length = (
                f"{over * max(item.size):.2g} px" if item.size[0] else f"{over:.2g} of the side"
            )
            findings.append(_finding(item, "box_overhang", f"it does so by {length}"))
        area = box_area(box)
        if area > FULL_AREA:
            full.append(_finding(item, "box_full_frame", f"it covers {area:.1%} of the image"))
        elif tiny := _tiny(box, area, item.size):
            findings.append(_finding(item, "box_tiny", tiny))
    # Where most boxes are full, that is what the data set is like.
    return findings + (full if len(full) < _HALF * usable else [])


def units_findings(objects: Sequence[CheckedObject], source: SourceConfig) -> list[Fault]:
    """What all boxes together show: that they are no px, or no corner and size.

    Where the source names `box_units`, these are not doubted.
    """
    shown = [item for item in objects if not item.annotated.empty and all(item.size)]
    shown = [item for item in shown if all(map(math.isfinite, item.written))]
    most, reason = _NEARLY_ALL * len(shown), ""
    if shown and shown[0].units == "pixel" and source.box_units is None:
        for limit, units, least, fewest in _SCALES:
            inside = [item for item in shown if max(item.written) <= limit * _JUTTING]
            inside = [item for item in inside if item.usable is not None]
            large = [item for item in inside if min(item.size) >= least]
            # A box of less than a px is none, wherever it stands.
            mixed = limit == 1 and most > len(inside) > _FEW * len(shown)
            alike = len(inside) >= most and len(large) >= max(fewest, _HALF * len(shown))
            if not reason and large and (mixed or alike):
                remedy = "write all boxes alike, or set data.source.box_units to pixel"
                if alike:
                    remedy = f"set data.source.box_units to {units}, or to pixel"
                reason = (
                    f"{len(inside)} of {len(shown)} boxes lie within 0..{limit}, but "
                    f"{large[0].annotated.name} has {large[0].size[0]} x {large[0].size[1]} px: "
                    f"{remedy} if they are px"
                )
    if shown and not reason and source.format == "csv" and source.csv.box == "xywh":
        inside = [item for item in shown if item.usable is not None]
        if len(inside) < most <= sum(map(_fits_centred, shown)):
            reason = (
                f"only {len(inside)} of {len(shown)} boxes lie in their images as corner and size, "
                "but nearly all as centre and size: set data.source.csv.box to cxcywh and name cx "
                "and cy in place of x1 and y1"
            )
    return [Fault("", 0, reason, "units")] if reason else []


def may_be_sizes(objects: Sequence[CheckedObject]) -> bool:
    """Whether x2 and y2 of boxes may as well be width and height.

    Of real corners, the middle of some box lies right of or below that of its image.
    """
    shown = [item for item in objects if item.usable is not None and all(item.size)]
    fits = 0
    for item in shown:
        width, height = item.size if item.units == "pixel" else (1, 1)
        x1, y1, x2, y2 = item.written
        fits += x1 + x2 <= width * _JUTTING and y1 + y2 <= height * _JUTTING
    return len(shown) >= _FEWEST_CORNERS and fits >= _NEARLY_ALL * len(shown)


def _fits_centred(item: CheckedObject) -> bool:
    """Whether a box of corner and size lies in its image as one of centre and size."""
    x1, y1, x2, y2 = item.written
    left, top = x1 - (x2 - x1) / 2, y1 - (y2 - y1) / 2
    box = (left, top, left + x2 - x1, top + y2 - y1)
    try:
        return bool(usable_box(box, item.size if item.units == "pixel" else None))
    except BoxFault:
        return False


def _as_declared(item: CheckedObject) -> CheckedObject:
    declared = item.annotated.size
    if item.units != "pixel" or item.annotated.empty or not declared or declared == item.size:
        return item
    if not all(declared) or not all(item.size):
        return item
    if declared == item.size[::-1] and item.usable is not None:
        return item  # Its sides are swapped, and the box lies in the picture.
    try:
        return item._replace(size=declared, usable=usable_box(item.written, declared), fault=None)
    except BoxFault as fault:
        return item._replace(size=declared, usable=None, fault=fault)


def _overhang(box: Box) -> float:
    """How far a box reaches over an edge, at most, in fractions of the side; 0 for not at all."""
    x1, y1, x2, y2 = box
    return max(0.0, -x1, -y1, x2 - 1.0, y2 - 1.0)


def _tiny(box: Box, area: float, size: tuple[int, int]) -> str:
    """Why a box is suspiciously small; `""` where it is not."""
    width, height = (box[2] - box[0]) * size[0], (box[3] - box[1]) * size[1]
    if size[0] and min(width, height) < TINY_PX:
        return f"it is {width:.3g} x {height:.3g} px"
    return f"it covers {area:.2%} of the image" if area < TINY_AREA else ""


def _finding(item: CheckedObject, kind: str, reason: str) -> Fault:
    one = item.annotated
    return Fault(one.file, one.row, f"box of {one.name}: {reason}", kind, one.image, item.box)


class Baseline(NamedTuple):
    """A constant box in fractions, its mean IoU and the share of IoUs above .5, by split."""

    box: tuple[float, ...]
    mean_iou: dict[Split, float]
    share: dict[Split, float]


def single_objects(objects: Iterable[CheckedObject], policy: str) -> list[CheckedObject]:
    """The object that training would see of each image.

    Of images with several, the policies `"skip"` and `"crop"` leave all out, `"first"` and
    `"largest"` choose among those whose box can be used.
    """
    by_image: dict[tuple[Split, ImageRef], list[CheckedObject]] = defaultdict(list)
    for item in objects:
        by_image[item.split, item.annotated.image].append(item)
    chosen = []
    for items in by_image.values():
        usable = [item for item in items if item.usable is not None] or items
        if len(items) == 1 or policy == "first":
            chosen.append(usable[0])
        elif policy == "largest":
            chosen.append(max(usable, key=lambda item: box_area(item.usable or (0, 0, 0, 0))))
    return chosen


def single_boxes(
    objects: Iterable[CheckedObject], policy: str
) -> dict[Split, npt.NDArray[np.float32]]:
    """Boxes of `single_objects` that can be used, float32 (N, 4) in fractions, by split."""
    found: dict[Split, list[Box]] = defaultdict(list)
    for item in single_objects(objects, policy):
        if item.usable is not None:
            found[item.split].append(item.usable)
    return {split: np.array(boxes, np.float32) for split, boxes in found.items()}


def median_baseline(boxes: Mapping[Split, npt.NDArray[np.float32]]) -> Baseline | None:
    """Scores of the median box of the training split; None where it has none."""
    train = boxes.get("train")
    return None if train is None else _scored(np.median(train, axis=0), boxes)


def best_baseline(boxes: Mapping[Split, npt.NDArray[np.float32]]) -> Baseline | None:
    """Scores of the best of 625 constant boxes; None where the training split has none.

    Their sides are five quantiles each (.3 to .7) of the training boxes' sides; the best has the
    highest mean IoU on at most 1,000 of those, evenly spaced.
    """
    train = boxes.get("train")
    if train is None:
        return None
    sample = train[np.linspace(0, len(train) - 1, min(len(train), _SAMPLE)).astype(int)]
    sides = np.quantile(train, _QUANTILES, axis=0)
    candidates = np.stack(np.meshgrid(*sides.T, indexing="ij"), axis=-1).reshape(-1, 4)
    pairs = (len(candidates), len(sample), 4)
    against = np.broadcast_to(sample, pairs).reshape(-1, 4)
    scores = _ious(np.broadcast_to(candidates[:, None], pairs).reshape(-1, 4), against)
    means = scores.reshape(pairs[:2]).mean(axis=1)
    return _scored(candidates[int(np.argmax(means))], boxes)


def _scored(
    box: npt.NDArray[np.floating], boxes: Mapping[Split, npt.NDArray[np.float32]]
) -> Baseline:
    scores = {split: _ious(box, one) for split, one in boxes.items()}
    return Baseline(
        tuple(float(side) for side in box),
        {split: float(score.mean()) for split, score in scores.items()},
        {split: float((score > _HALF).mean()) for split, score in scores.items()},
    )


def _ious(box: npt.NDArray[np.floating], boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    from keras import ops

    from loc_keras.boxes import iou

    same = np.broadcast_to(box, boxes.shape).astype(np.float32)
    return np.asarray(ops.convert_to_numpy(iou(boxes, same)), np.float64)
