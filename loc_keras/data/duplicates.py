"""Images that are the same: byte for byte, or to the eye."""

import hashlib
import io
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from loc_keras.data.annotations import WHOLE_FILE, ImageRef
from loc_keras.data.files import file_size, read_bytes

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


_THREADS = 8
_HASH_SIDE = 8


def identical_groups(refs: Sequence[ImageRef]) -> np.ndarray:
    """Numbers images so that those of the same bytes share a number.

    Only images of equal length are read, since others cannot be equal.

    Args:
        refs: N images that can be read.

    Returns:
        int64 (N,), the index of the first image with the same bytes.
    """
    distinct = list(dict.fromkeys(refs))
    by_length: dict[int, list[ImageRef]] = defaultdict(list)
    for ref in distinct:
        by_length[_length(ref)].append(ref)
    doubtful = [ref for same in by_length.values() if len(same) > 1 for ref in same]
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = dict(zip(doubtful, pool.map(_digest, doubtful), strict=True))
    return _first_of([digests.get(ref, ref) for ref in refs])


def near_groups(refs: Sequence[ImageRef]) -> np.ndarray:
    """Numbers images so that those that look nearly alike share a number.

    Likeness is that of 64-bit difference hashes, confirmed by the colours (`looks`), and it is
    passed on: what is like a like image is in the group too.

    Args:
        refs: N images that can be decoded; one that cannot is in a group of its own.

    Returns:
        int64 (N,), the index of the group's first image.
    """
    distinct = list(dict.fromkeys(refs))
    with ThreadPoolExecutor(_THREADS) as pool:
        hashes = list(pool.map(difference_hash, distinct))
    parent = list(range(len(distinct)))
    colours = Colours()
    pairs = near_pairs(hashes, lambda a, b: colours.alike(distinct[a], distinct[b]))
    for one, other in pairs:
        parent[_root(parent, other)] = _root(parent, one)
    root_of = {ref: _root(parent, place) for place, ref in enumerate(distinct)}
    return _first_of([root_of[ref] for ref in refs])


def merged_groups(*columns: Iterable[Hashable]) -> np.ndarray:
    """Joins groupings: rows that share a value in any column share a number.

    Args:
        *columns: N hashable values each; None joins nothing.

    Returns:
        int64 (N,), the index of the group's first row.
    """
    rows = list(zip(*columns, strict=True))
    parent = list(range(len(rows)))
    first: dict[tuple[int, Hashable], int] = {}
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            if value is not None:
                other = first.setdefault((column, value), row)
                parent[_root(parent, row)] = _root(parent, other)
    return _first_of([_root(parent, row) for row in range(len(rows))])


def difference_hash(ref: ImageRef) -> int | None:
    """64-bit difference hash of an image, or None where it cannot be decoded or is flat.

    It holds the signs of the horizontal differences of a 9 x 8 px grey copy (N. Krawetz, "Kind of
    like that", 2013). A flat picture has no differences, and would be like every other flat one.
    """
    try:
        with Image.open(BytesIO(read_bytes(*ref))) as image:
            image.draft("L", (64, 64))  # JPEG decodes straight to a smaller picture.
            grey = image.convert("L").resize(
                (_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BILINEAR
            )
    except Exception:  # Pillow raises whatever a damaged file leads its parsers into.
        return None
    pixels = np.asarray(grey, np.int16)
    bits = pixels[:, 1:] > pixels[:, :-1]
    if not bits.any():
        return None
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _root(parent: list[int], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place


def _first_of(keys: Sequence[Hashable]) -> np.ndarray:
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], np.int64)


def _length(ref: ImageRef) -> int:
    return file_size(ref.path) if ref.length == WHOLE_FILE else ref.length


def _digest(ref: ImageRef) -> bytes:
    return hashlib.sha256(read_bytes(*ref)).digest()


MOST_SEARCHED = 50_000
"""Pictures that are searched at most: each must be read and decoded."""

_MOST_FOUND = 3


def lookalikes(
    wanted: Sequence[ImageRef], among: Sequence[ImageRef], most: int = MOST_SEARCHED
) -> list[list[int]]:
    """For each picture those among others that look almost the same.

    Likeness is that of 64-bit difference hashes, confirmed by the colours (`looks`). Pictures that
    cannot be decoded, and plain ones, are like none.

    Args:
        wanted: Pictures to find again.
        among: Where to look; of more than `most` only the first ones are searched.
        most: See there.

    Returns:
        For each wanted picture up to three indices into `among`, the most alike first.
    """
    searched = among[:most] if wanted else []
    with ThreadPoolExecutor(_THREADS) as pool:
        ours = list(pool.map(difference_hash, wanted))
        theirs = list(pool.map(difference_hash, searched))
    colours = Colours()
    return [
        [
            place
            for _, place in _near(look, theirs)
            if colours.alike(wanted[number], searched[place])
        ][:_MOST_FOUND]
        for number, look in enumerate(ours)
    ]


def _near(look: int | None, others: Sequence[int | None]) -> list[tuple[int, int]]:
    """Distance and place of the hashes that are near one, the nearest first."""
    if look is None or not FLAT_BITS <= look.bit_count() <= _BITS - FLAT_BITS:
        return []
    distances = (
        ((other ^ look).bit_count(), place)
        for place, other in enumerate(others)
        if other is not None
    )
    return sorted(pair for pair in distances if pair[0] <= NEAR_BITS)
