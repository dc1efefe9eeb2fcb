"""Pictures that look almost the same: candidates by their hashes, confirmed by their colours."""

import io
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from loc_keras.data.annotations import ImageRef
from loc_keras.data.files import read_bytes

NEAR_BITS = 4
"""Bits of 64 in which the difference hashes of near duplicates may differ, at most."""

FLAT_BITS = 6
"""Pictures whose hash has fewer rises or falls are too plain to be told apart by it."""

ALIKE = 0.97
"""Least correlation of the colours of two pictures that are almost the same: copies that were
compressed, scaled or brightened have .98 and more; of pairs of photographs with near hashes alone
most have less than .9."""

_BITS = 64
_BANDS = NEAR_BITS + 1  # Then two near hashes share one band at least.
_MOST_IN_BAND = 400
_MOST_CANDIDATES = 20
_SIDE = 16
_DRAFT = 4 * _SIDE


def near_pairs(
    looks: Sequence[int | None], confirm: Callable[[int, int], bool] = lambda *_: True
) -> list[tuple[int, int]]:
    """Pairs of pictures that look alike: each later one with the first that it resembles.

    Args:
        looks: 64-bit difference hashes, None for unknown.
        confirm: Decides about a pair of indices (earlier, later) whose hashes are near; at most
            20 are asked about for each picture.

    Returns:
        Indices (earlier, later), each later one once.
    """
    bands: dict[tuple[int, int], list[int]] = defaultdict(list)
    found = []
    for number, look in enumerate(looks):
        if look is None or not FLAT_BITS <= look.bit_count() <= _BITS - FLAT_BITS:
            continue
        keys = list(_bands(look))
        near = [
            other
            for other in sorted({other for key in keys for other in bands[key]})
            if ((looks[other] or 0) ^ look).bit_count() <= NEAR_BITS
        ]
        match = next((one for one in near[:_MOST_CANDIDATES] if confirm(one, number)), None)
        if match is not None:
            found.append((match, number))
        for key in keys:
            # A band that so many share tells nothing, and would make the search quadratic.
            if len(bands[key]) < _MOST_IN_BAND:
                bands[key].append(number)
    return found


class Colours:
    """Compares pictures by their colours on a coarse grid, each decoded once."""

    def __init__(self) -> None:
        self._grids: dict[ImageRef, npt.NDArray[np.float32] | None] = {}

    def alike(self, one: ImageRef, other: ImageRef) -> bool:
        """Whether two pictures' colours correlate by `ALIKE` at least."""
        a, b = self._grid(one), self._grid(other)
        return a is not None and b is not None and float((a * b).sum()) >= ALIKE

    def _grid(self, image: ImageRef) -> npt.NDArray[np.float32] | None:
        if image not in self._grids:
            self._grids[image] = _grid(image)
        return self._grids[image]


def _grid(image: ImageRef) -> npt.NDArray[np.float32] | None:
    """Colours of a 16 x 16 copy with mean 0 and norm 1; None where it cannot be made."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(read_bytes(*image))) as opened:
                opened.draft("RGB", (_DRAFT, _DRAFT))
                small = opened.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    except Exception:  # PIL's decoders raise nearly anything; such files are findings already.
        return None
    values = np.asarray(small, np.float32)
    values = values - values.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm else None


def _bands(look: int) -> Iterable[tuple[int, int]]:
    width = -(-_BITS // _BANDS)
    for band in range(_BANDS):
        yield band, look >> (band * width) & ((1 << width) - 1)
