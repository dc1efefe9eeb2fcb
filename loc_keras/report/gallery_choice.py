"""Which images of a split a gallery shows, and the words that say how they were chosen."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loc_keras.report.captions import format_iou, spread_by_iou, spread_title

MOST_EMPTY = 0.5
"""Largest share of a gallery for images without an object, of which little is to be seen."""

ONE_CLASS = "one class: only the box counts"


class Choice(NamedTuple):
    """What a gallery shows.

    Attributes:
        indices: int64 (M,), places in the split: images with an object, worst box first, then
            those without one, surest false alarm first.
        title: How they were chosen.
    """

    indices: npt.NDArray[np.int64]
    title: str


def choose_examples(
    ious: npt.ArrayLike,
    split: str,
    count: int,
    *,
    background: npt.ArrayLike | None = None,
    empty: npt.ArrayLike | None = None,
    one_class: bool = False,
) -> Choice:
    """Chooses images at even ranks, so that failures show as often as they happen.

    Args:
        ious: (N,) IoU of each image's boxes; those of images without an object do not count.
        split: Name of the split.
        count: How many to show, at most.
        background: (N,) probability of the background where that is a class, else None.
        empty: (N,) whether each image shows no object, where there is a background.
        one_class: Whether the data have a single class.
    """
    overlaps = np.asarray(ious, np.float64)
    nothing = np.zeros(len(overlaps), bool) if empty is None else np.asarray(empty, bool)
    hollow, shown = np.flatnonzero(nothing), np.flatnonzero(~nothing)
    places: list[npt.NDArray[np.int64]] = []
    words: list[str] = []
    few = 0
    if len(hollow):
        share = count if not len(shown) else max(1, round(count * len(hollow) / len(overlaps)))
        few = min(len(hollow), share if not len(shown) else min(share, int(count * MOST_EMPTY)))
    if len(shown):
        places.append(shown[spread_by_iou(overlaps[shown], count - few)])
        kind = f"{split} images with an object" if len(hollow) else f"{split} images"
        words.append(spread_title(overlaps[shown], count - few, split, kind))
    if few and background is not None:
        chances = np.asarray(background, np.float64)[hollow]
        places.append(hollow[spread_by_iou(chances, few)])
        words.append(
            f"{few} of {len(hollow):,} without one at even ranks of the background's probability: "
            f"lowest {format_iou(float(chances.min()))}"
        )
    if one_class:
        words.append(ONE_CLASS)
    return Choice(np.concatenate(places), "; ".join(words))
