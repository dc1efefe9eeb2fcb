"""Images that are the same: byte for byte, or to the eye."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
from PIL import Image

from loc_keras.data.annotations import WHOLE_FILE, ImageRef
from loc_keras.data.files import file_size, read_bytes
from loc_keras.data.looks import Colours, near_pairs

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
