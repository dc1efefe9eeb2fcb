"""Figures of a data set that decide how it is best trained on."""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from loc_keras.data.annotations import Annotations, ImageRef
from loc_keras.data.image_header import Header
from loc_keras.data.records import Records

_GREY_MODES = frozenset({"1", "L", "I;16", "I;16B", "I;16L"})


class Measures(NamedTuple):
    """Figures of some records.

    Attributes:
        side: Median of the pictures' sides in px (the root of their area).
        spread: 90th percentile of width by height divided by the 10th.
        object_side: Median side of the boxes in fractions of the picture (the root of their
            share of the area).
        small_side: 10th percentile of the boxes' shorter side, likewise.
    """

    side: float
    spread: float
    object_side: float
    small_side: float


def measure(records: Records) -> Measures:
    """Measures pictures and boxes of at least one record."""
    heights, widths = records.sizes.T.astype(float)
    x1, y1, x2, y2 = records.boxes.T.astype(float)
    narrow, wide = np.percentile(widths / heights, [10, 90])
    across, down = x2 - x1, y2 - y1
    return Measures(
        float(np.median(np.sqrt(heights * widths))),
        float(wide / narrow),
        float(np.median(np.sqrt(across * down))),
        float(np.percentile(np.minimum(across, down), 10)),
    )


def all_grey(headers: Collection[Header | None]) -> bool:
    """Whether all images whose header is known are grey, and there is one."""
    modes = {header.mode for header in headers if header is not None}
    return bool(modes) and modes <= _GREY_MODES


def count_several(annotations: Annotations) -> tuple[int, int]:
    """Images with several objects, and images with any; an object that is written twice is one."""
    distinct = {(one.image, one.label, one.box) for _, one in annotations.all_objects()}
    counts: Counter[ImageRef] = Counter(image for image, *_ in distinct)
    counts.update({image: number for image, number in annotations.unread.items() if counts[image]})
    return sum(count > 1 for count in counts.values()), len(counts)
