"""Findings about boxes, and the scores of constant boxes as a baseline."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.config.data import SourceConfig
from loc_keras.data.annotations import SPLITS, Box, Fault, Split
from loc_keras.data.resolve import CheckedObject, CheckedObjects, box_areas, usable_boxes

ROUNDING = 1e-6  # Overhang in fractions of the side that is floating-point noise and not reported.
TINY_PX = 4.0  # Sides in px below which a box is more likely a slip than an object.
TINY_AREA = 1e-3
FULL_AREA = 0.98  # Shares of the image's area.
_HALF = 0.5
_NEARLY_ALL = 0.95
_FEW = 0.02
_JUTTING = 1.01
_FEWEST_CORNERS = 20
_SCALES = ((1, "fraction", 8, 1), (100, "percent", 200, 5))
"""Largest coordinate, units, and shortest side and number of images that show it is no px."""

_QUANTILES = np.linspace(0.3, 0.7, 5)
_SAMPLE = 1000


def box_findings(objects: CheckedObjects) -> list[Fault]:
    """What is wrong with boxes, or odd.

    Where the annotated size of an image is another than the file's, which is a finding of its own,
    the box in px is judged on the annotated one.
    """
    objects = _as_declared(objects)
    size, fits, area = objects.size, objects.fits, box_areas(objects.usable)
    width, height = (objects.usable[:, axis + 2] - objects.usable[:, axis] for axis in range(2))
    short = np.minimum(width * size[:, 0], height * size[:, 1])
    full = area > FULL_AREA
    tiny = ~full & (((size[:, 0] > 0) & (short < TINY_PX)) | (area < TINY_AREA))
    reaching = fits & np.logical_or.reduce(
        [
            (objects.written[:, axis] < 0) | (objects.written[:, axis + 2] > limit)
            for axis, limit in enumerate(size.T if objects.units == "pixel" else (1, 1))
        ]
    )
    boxes = objects.take(reaching).boxes
    over = np.zeros(len(objects))
    over[reaching] = np.maximum(-boxes[:, :2], boxes[:, 2:] - 1).max(axis=1, initial=0)
    odd = tiny | (over > ROUNDING)
    odd[list(objects.faults)] = True
    # Where most boxes are full, that is what the data set is like.
    shown = full & (full.sum() < _HALF * fits.sum())
    findings = []
    some = np.flatnonzero(odd)
    for item, reach, is_tiny in zip(objects.take(some), over[some], tiny[some], strict=True):
        if item.fault is not None:
            findings.append(_finding(item, item.fault.kind, item.fault.reason))
        if reach > ROUNDING:
            length = f"{reach:.2g} of the side"
            length = f"{reach * max(item.size):.2g} px" if item.size[0] else length
            findings.append(_finding(item, "box_overhang", f"it does so by {length}"))
        if is_tiny and item.usable is not None:
            findings.append(_finding(item, "box_tiny", _tiny(item.usable, item.size)))
    return findings + [
        _finding(item, "box_full_frame", f"it covers {share:.1%} of the image")
        for item, share in zip(objects.take(shown), area[shown], strict=True)
    ]


def units_findings(objects: CheckedObjects, source: SourceConfig) -> list[Fault]:
    """What all boxes together show: that they are no px, or no corner and size.

    Where the source names `box_units`, these are not doubted.
    """
    known = (objects.size > 0).all(axis=1) & np.isfinite(objects.written).all(axis=1)
    shown = objects.take(known & ~objects.objects.empty)
    count, largest = len(shown), shown.written.max(axis=1)
    most, reason = _NEARLY_ALL * count, ""
    if count and shown.units == "pixel" and source.box_units is None:
        for limit, units, least, fewest in _SCALES:
            inside = (largest <= limit * _JUTTING) & shown.fits
            large = np.flatnonzero(inside & (shown.size.min(axis=1) >= least))
            # A box of less than a px is none, wherever it stands.
            mixed = limit == 1 and most > inside.sum() > _FEW * count
            alike = inside.sum() >= most and len(large) >= max(fewest, _HALF * count)
            if not reason and len(large) and (mixed or alike):
                remedy = "write all boxes alike, or set data.source.box_units to pixel"
                if alike:
                    remedy = f"set data.source.box_units to {units}, or to pixel"
                first = shown[int(large[0])]
                reason = (
                    f"{inside.sum()} of {count} boxes lie within 0..{limit}, but "
                    f"{first.annotated.name} has {first.size[0]} x {first.size[1]} px: "
                    f"{remedy} if they are px"
                )
    if count and not reason and source.format == "csv" and source.csv.box == "xywh":
        fitting = shown.fits.sum()
        if fitting < most <= _fits_centred(shown).sum():
            reason = (
                f"only {fitting} of {count} boxes lie in their images as corner and size, "
                "but nearly all as centre and size: set data.source.csv.box to cxcywh and name cx "
                "and cy in place of x1 and y1"
            )
    return [Fault("", 0, reason, "units")] if reason else []


def may_be_sizes(objects: CheckedObjects) -> bool:
    """Whether x2 and y2 of boxes may as well be width and height.

    Of real corners, the middle of some box lies right of or below that of its image.
    """
    shown = objects.take(objects.fits & (objects.size > 0).all(axis=1))
    reach = shown.written[:, :2] + shown.written[:, 2:]
    fits = (reach <= (shown.size if shown.units == "pixel" else 1) * _JUTTING).all(axis=1)
    return len(shown) >= _FEWEST_CORNERS and bool(fits.sum() >= _NEARLY_ALL * len(shown))


def _fits_centred(objects: CheckedObjects) -> npt.NDArray[np.bool_]:
    """Whether boxes of corner and size lie in their images as ones of centre and size."""
    half = (objects.written[:, 2:] - objects.written[:, :2]) / 2
    boxes = objects.written - np.tile(half, 2)
    usable, _ = usable_boxes(boxes, objects.size if objects.units == "pixel" else None)
    return ~np.isnan(usable[:, 0])


def _as_declared(checked: CheckedObjects) -> CheckedObjects:
    size, declared = checked.size, checked.objects.declared
    if checked.units != "pixel" or (declared == size).all() or not declared.any():
        return checked
    # Where its sides are swapped and the box lies in the picture, that is right.
    swapped = (declared == size[:, ::-1]).all(axis=1) & checked.fits
    known = (declared > 0).all(axis=1) & (size > 0).all(axis=1) & ~checked.objects.empty
    other = known & (declared != size).any(axis=1) & ~swapped
    places = np.flatnonzero(other)
    usable, faults = checked.usable.copy(), dict(checked.faults)
    usable[other], new = usable_boxes(checked.written[other], declared[other])
    faults = {index: fault for index, fault in faults.items() if not other[index]}
    faults |= {int(places[index]): fault for index, fault in new.items()}
    size = np.where(other[:, None], declared, size)
    return replace(checked, size=size, usable=usable, faults=faults)


def _tiny(box: Box, size: tuple[int, int]) -> str:
    """How a box is suspiciously small."""
    width, height = (box[2] - box[0]) * size[0], (box[3] - box[1]) * size[1]
    if size[0] and min(width, height) < TINY_PX:
        return f"it is {width:.3g} x {height:.3g} px"
    return f"it covers {(box[2] - box[0]) * (box[3] - box[1]):.2%} of the image"


def _finding(item: CheckedObject, kind: str, reason: str) -> Fault:
    one = item.annotated
    return Fault(one.file, one.row, f"box of {one.name}: {reason}", kind, one.image, item.box)


class Baseline(NamedTuple):
    """A constant box in fractions, its mean IoU and the share of IoUs above .5, by split."""

    box: tuple[float, ...]
    mean_iou: dict[Split, float]
    share: dict[Split, float]


def single_objects(checked: CheckedObjects, policy: str) -> CheckedObjects:
    """The object that training would see of each image.

    Of images with several, the policies `"skip"` and `"crop"` leave all out, `"first"` and
    `"largest"` choose among those whose box can be used.
    """
    image = checked.objects.image.astype(np.int64) * len(SPLITS) + checked.split
    area = np.where(checked.fits, box_areas(checked.usable), 0.0)
    first = policy != "largest"
    order = np.lexsort((~checked.fits if first else -area, image))
    _, occurs, counts = np.unique(image, return_index=True, return_counts=True)
    images = np.argsort(occurs)
    if policy not in ("first", "largest"):
        images = images[counts[images] == 1]
    return checked.take(order[(np.cumsum(counts) - counts)[images]])


def single_boxes(checked: CheckedObjects, policy: str) -> dict[Split, npt.NDArray[np.float32]]:
    """Boxes of `single_objects` that can be used, float32 (N, 4) in fractions, by split."""
    single = single_objects(checked, policy)
    usable = single.usable.astype(np.float32)
    parts = {split: usable[single.fits & (single.split == k)] for k, split in enumerate(SPLITS)}
    return {split: boxes for split, boxes in parts.items() if len(boxes)}


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
