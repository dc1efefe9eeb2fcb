"""Images that are identical byte for byte, and near duplicates, which look almost the same.

Near duplicates are images whose difference hashes differ in few bits; since many different
photographs have near hashes, the colours of a coarse grid must correlate, too.
"""

import hashlib
import io
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from loc_keras.data.annotations import WHOLE_FILE, ImageRef
from loc_keras.data.files import file_size, read_bytes

NEAR_BITS = 4
"""Bits of 64 in which the difference hashes of near duplicates may differ, at most."""

FLAT_BITS = 6
"""Pictures whose hash has fewer rises or falls are too plain to be told apart by it."""

LEAST_CORRELATION = 0.97
"""Of the colours of near duplicates: copies that were compressed, scaled or brightened have .98 and
more; of pairs of photographs with near hashes alone most have less than .9."""

MOST_SEARCHED = 50_000
"""Pictures in which near duplicates are sought, at most: each must be read and decoded."""

_BITS = 64
_HASH_SIDE = 8
_BANDS = NEAR_BITS + 1  # Then two near hashes share one band at least.
_MOST_IN_BAND = 400
_MOST_CANDIDATES = 20
_MOST_GIVEN = 3
_GRID_SIDE = 16
_THREADS = 8


def identical_groups(refs: Sequence[ImageRef]) -> np.ndarray:
    """Numbers images so that those of the same bytes share a number.

    Only images of equal length are read, since others cannot be equal.

    Args:
        refs: N images that can be read.

    Returns:
        int64 (N,), the index of the first image with the same bytes.
    """
    by_length: dict[int, list[ImageRef]] = defaultdict(list)
    for ref in dict.fromkeys(refs):
        length = file_size(ref.path) if ref.length == WHOLE_FILE else ref.length
        by_length[length].append(ref)
    doubtful = [ref for same in by_length.values() if len(same) > 1 for ref in same]
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = dict(zip(doubtful, pool.map(_digest, doubtful), strict=True))
    return _first_of([digests.get(ref, ref) for ref in refs])


def near_groups(refs: Sequence[ImageRef]) -> np.ndarray:
    """Numbers images so that near duplicates share a number, also those of near duplicates.

    Args:
        refs: N images that can be decoded; one that cannot is in a group of its own.

    Returns:
        int64 (N,), the index of the group's first image.
    """
    distinct = list(dict.fromkeys(refs))
    colours = Colours()
    pairs = near_pairs(_hashes(distinct), lambda a, b: colours.alike(distinct[a], distinct[b]))
    component = dict(zip(distinct, _components(len(distinct), pairs), strict=True))
    return _first_of([component[ref] for ref in refs])


def near_duplicates(
    images: Sequence[ImageRef], among: Sequence[ImageRef], most: int = MOST_SEARCHED
) -> list[list[int]]:
    """For each image its near duplicates among others.

    Images that cannot be decoded, and plain ones, have none.

    Args:
        images: Images to find again.
        among: Where to look.
        most: Of more than so many only the first ones are searched.

    Returns:
        For each image up to three indices into `among`, the most alike first.
    """
    searched = among[:most] if images else []
    hashes, others = _hashes(images), _hashes(searched)
    colours = Colours()
    return [
        [
            place
            for _, place in _near(own, others)
            if colours.alike(images[number], searched[place])
        ][:_MOST_GIVEN]
        for number, own in enumerate(hashes)
    ]


def near_pairs(
    hashes: Sequence[int | None], confirm: Callable[[int, int], bool] = lambda *_: True
) -> list[tuple[int, int]]:
    """Pairs of near hashes: each later one with the first that it is near to.

    Args:
        hashes: 64-bit difference hashes, None for unknown.
        confirm: Decides about a pair of indices (earlier, later) whose hashes are near; at most
            20 are asked about for each picture.

    Returns:
        Indices (earlier, later), each later one once.
    """
    bands: dict[tuple[int, int], list[int]] = defaultdict(list)
    pairs = []
    for number, own in enumerate(hashes):
        if own is None or not _is_telling(own):
            continue
        keys = list(_bands(own))
        near = [
            other
            for other in sorted({other for key in keys for other in bands[key]})
            if ((hashes[other] or 0) ^ own).bit_count() <= NEAR_BITS
        ]
        match = next((other for other in near[:_MOST_CANDIDATES] if confirm(other, number)), None)
        if match is not None:
            pairs.append((match, number))
        for key in keys:
            # A band that so many share tells nothing, and would make the search quadratic.
            if len(bands[key]) < _MOST_IN_BAND:
                bands[key].append(number)
    return pairs


def merged_groups(*columns: Iterable[Hashable]) -> np.ndarray:
    """Joins groupings: rows that share a value in any column share a number.

    Args:
        *columns: N hashable values each; None joins nothing.

    Returns:
        int64 (N,), the index of the group's first row.
    """
    rows = list(zip(*columns, strict=True))
    first: dict[tuple[int, Hashable], int] = {}
    pairs = [
        (row, first.setdefault((column, value), row))
        for row, values in enumerate(rows)
        for column, value in enumerate(values)
        if value is not None
    ]
    return _first_of(_components(len(rows), pairs))


def difference_hash(ref: ImageRef) -> int | None:
    """64-bit difference hash of an image, or None where it cannot be decoded or is flat.

    It holds the signs of the horizontal differences of a 9 x 8 px grey copy (N. Krawetz, "Kind of
    like that", 2013). A flat picture has no differences, and would be like every other flat one.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(*ref))) as image:
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


class Colours:
    """Compares pictures by their colours on a coarse grid, each decoded once."""

    def __init__(self) -> None:
        self._grids: dict[ImageRef, npt.NDArray[np.float32] | None] = {}

    def alike(self, a: ImageRef, b: ImageRef) -> bool:
        """Whether two pictures' colours correlate by `LEAST_CORRELATION` at least."""
        for ref in (a, b):
            if ref not in self._grids:
                self._grids[ref] = _grid(ref)
        first, second = self._grids[a], self._grids[b]
        if first is None or second is None:
            return False
        return float((first * second).sum()) >= LEAST_CORRELATION


def _grid(ref: ImageRef) -> npt.NDArray[np.float32] | None:
    """Colours of a 16 x 16 copy with mean 0 and norm 1; None where it cannot be made."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(read_bytes(*ref))) as image:
                image.draft("RGB", (4 * _GRID_SIDE, 4 * _GRID_SIDE))
                small = image.convert("RGB").resize((_GRID_SIDE, _GRID_SIDE), Image.Resampling.BOX)
    except Exception:  # As above; such files are faults already.
        return None
    values = np.asarray(small, np.float32)
    values = values - values.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm else None


def _hashes(refs: Sequence[ImageRef]) -> list[int | None]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(difference_hash, refs))


def _is_telling(own: int) -> bool:
    return FLAT_BITS <= own.bit_count() <= _BITS - FLAT_BITS


def _bands(own: int) -> Iterator[tuple[int, int]]:
    width = -(-_BITS // _BANDS)
    for band in range(_BANDS):
        yield band, own >> (band * width) & ((1 << width) - 1)


def _near(own: int | None, others: Sequence[int | None]) -> list[tuple[int, int]]:
    """Distance and place of the hashes that are near one, the nearest first."""
    if own is None or not _is_telling(own):
        return []
    distances = (
        ((other ^ own).bit_count(), place)
        for place, other in enumerate(others)
        if other is not None
    )
    return sorted(pair for pair in distances if pair[0] <= NEAR_BITS)


def _digest(ref: ImageRef) -> bytes:
    return hashlib.sha256(read_bytes(*ref)).digest()


def _components(nodes: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The connected component of each node, given the pairs that are connected."""
    ends = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs), bool), tuple(ends)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1].tolist()


def _first_of(keys: Sequence[Hashable]) -> np.ndarray:
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], np.int64)
